"""Scaling: photographs as bytes, in Pillow's fixed-point arithmetic, and anomaly maps as floats.

Sizes are (rows, columns).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError, SettingsError

Size = tuple[int, int]  # (rows, columns)


def resize_map(anomaly_map: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
    """``anomaly_map`` (h, w) at ``size`` (H, W), float32, bilinear between pixel centres.

    Enlarging equals ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``; shrinking
    averages (antialiased), so a peak smaller than the new pixel gets lower. Raises :class:`ImageError`.

    >>> resize_map(np.array([[0.0, 1.0]]), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    given = np.asarray(anomaly_map)
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "fiu":
        raise ImageError(f"an anomaly map of shape (h, w) expected, got {given.shape} {given.dtype}")
    rows, columns = _positive_size(size)
    return resize_float(given.astype(np.float32, copy=False), (rows, columns))


def resize_float(
    values: NDArray[np.float32], size: Size, box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """``values`` (h, w) at ``size``; of the part inside ``box`` (top, left, bottom, right) when given."""
    if values.shape == size and box is None:
        return values
    corner = None if box is None else (box[1], box[0], box[3], box[2])  # Pillow: columns first
    image = Image.fromarray(np.ascontiguousarray(values))
    resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, corner)
    return np.array(resized, dtype=np.float32)


def cut(values: NDArray[np.float32], content: tuple[int, int, int, int], size: Size) -> NDArray[np.float32]:
    """The part of a map (h, w) of an input of ``size`` that is ``content``; resampled if between pixels."""
    vertical, horizontal = values.shape[0] / size[0], values.shape[1] / size[1]
    box = (content[0] * vertical, content[1] * horizontal, content[2] * vertical, content[3] * horizontal)
    if all(edge == round(edge) for edge in box):
        top, left, bottom, right = (round(edge) for edge in box)
        return np.ascontiguousarray(values[top:bottom, left:right])
    rows, columns = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    return resize_float(values, (rows, columns), box)


def scale(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """``pixels`` (H0, W0, 3) at ``size``; itself where it has that size."""
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def pad(pixels: NDArray[np.uint8], canvas: Size, content: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """``pixels`` laid on a ``canvas`` as ``content`` (top, left, bottom, right), its edge repeated around it."""
    if pixels.shape[:2] == canvas:
        return pixels
    top, left, bottom, right = content
    return np.pad(pixels, ((top, canvas[0] - bottom), (left, canvas[1] - right), (0, 0)), mode="edge")


def whole_numbers(values: object) -> tuple[int, ...] | None:
    """``values`` as whole numbers; None when they are something else."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        return None
    try:
        return tuple(operator.index(cast(int, value)) for value in values if not isinstance(value, bool))
    except TypeError:
        return None


def _positive_size(size: object) -> Size:
    pair = whole_numbers(size)
    if pair is None or len(pair) != 2 or min(pair) < 1:
        raise SettingsError(f"size must be (rows, columns), each at least 1, got {size!r}")
    return pair[0], pair[1]
