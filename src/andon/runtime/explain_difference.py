"""In what way an odd region differs from good parts: darker, brighter, something missing; or nothing, when unclear.

The rule. A region is measured by two numbers, its mean lightness and its mean edge strength, in the photograph and, at
the same place, in each picture of good parts. What is said must lie outside everything that good parts show there, by a
fifth of their range: below or above it in lightness is *darker* or *brighter*; below it in edge strength is *something
missing*, for what is gone takes its edges along. The reverse, more edges than any good part, is no sign of an extra part:
scratches, breaks and missing liquid have them, too (benchmarks/explain.py), so nothing is said then.

With a reconstruction, which is one picture, what good parts show is taken from the same photograph: how far it and its
reconstruction are apart in windows of the region's size elsewhere. Both are as light as each other there, first: the
edges of a pattern grow with the light, and windows of an even ground would not show it.

Shapes: h, w rows and columns of the small canvas on which pictures are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.components import label
from andon.types import Region

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]

CANVAS = 176  # longest side on which pictures are compared, in pixels
MARGIN = 0.2  # of the good parts' range, by which a measure must lie outside it
LEAST = 0.01  # and at least by so much, in lightness or its change a pixel: a camera's noise is no difference
FEWEST = 8  # good pictures, or windows, without which there is no range to speak of
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Difference:
    """What a comparison found; empty where it is unclear or there was nothing to compare with.

    ``by_shape``: whether the cause may be guessed from the shape alone, as artefacts of before comparisons have it.
    """

    light: Literal["", "darker", "brighter"] = ""
    guess: Literal["", "missing"] = ""
    by_shape: bool = False


UNCLEAR = Difference()
NO_DIFFERENCE = Difference(by_shape=True)  # nobody looked


@dataclass(frozen=True)
class Look:
    """A picture as it is compared, float32: colours (h, w, 3) in [0, 1]; (h, w) their lightness, and their change a pixel."""

    colours: NDArray[np.float32]
    light: NDArray[np.float32]
    edges: NDArray[np.float32]


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the canvas for photographs of ``size`` (H, W); never larger than them.

    >>> canvas_size((1000, 500)), canvas_size((20, 10))
    ((176, 88), (20, 10))
    """
    scale = min(1.0, CANVAS / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def look(pixels: Pixels, size: tuple[int, int]) -> Look:
    """``pixels`` at ``size`` (h, w), as :class:`Look`."""
    small = np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BOX))
    colours = small.astype(np.float32) / np.float32(255)
    steps = np.zeros_like(colours)
    for axis in (0, 1):
        if size[axis] > 1:
            steps += np.gradient(colours, axis=axis) ** 2
    light = (colours @ LUMA).astype(np.float32)
    return Look(colours, light, np.sqrt(steps).mean(axis=2, dtype=np.float32))


def region_mask(
    anomaly_map: NDArray[np.floating],
    map_threshold: float | NDArray[np.floating],
    region: Region,
    photo: tuple[int, int],
) -> Mask:
    """Which pixels of the canvas of a photograph of size ``photo`` (H, W) belong to ``region``; at least its peak's."""
    labels, _ = label(np.asarray(anomaly_map > map_threshold))
    member = labels == labels[_at(region, photo, labels.shape)]
    size = canvas_size(photo)
    mask = on_canvas(member, size)
    mask[_at(region, photo, size)] = True
    return mask


def on_canvas(mask: Mask, size: tuple[int, int]) -> Mask:
    """``mask`` (h', w') at ``size`` (h, w): True where most of it is."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(picture) > 127


def _at(region: Region, photo: tuple[int, int], size: tuple[int, ...]) -> tuple[int, int]:
    """Where the peak of ``region`` lies on a grid of ``size``."""
    row, column = (
        min(of - 1, int((p + 0.5) * of / s))
        for p, s, of in zip(region.peak_position, photo, size, strict=True)
    )
    return row, column


def against_good(photo: Look, good: Sequence[Look], mask: Mask) -> Difference:
    """How the region ``mask`` (h, w) of ``photo`` differs from the same place in pictures of good parts."""
    if len(good) < FEWEST:
        return UNCLEAR
    light = beyond(float(photo.light[mask].mean()), [float(one.light[mask].mean()) for one in good])
    edges = beyond(float(photo.edges[mask].mean()), [float(one.edges[mask].mean()) for one in good])
    return _said(light, edges)


def against_expected(photo: Look, expected: Look, mask: Mask, odd: Mask) -> Difference:
    """How the region ``mask`` (h, w) of ``photo`` differs from its reconstruction.

    ``odd``: all pixels above the map threshold, which no window of the rest may touch.
    """
    windows = _windows(mask, odd)
    if len(windows) < FEWEST:
        return UNCLEAR
    gain = _gain(photo, expected, ~odd)
    light, edges = photo.light - gain * expected.light, photo.edges - gain * expected.edges
    return _said(
        beyond(float(light[mask].mean()), [float(light[window].mean()) for window in windows]),
        beyond(float(edges[mask].mean()), [float(edges[window].mean()) for window in windows]),
    )


def beyond(value: float, usual: Sequence[float]) -> int:
    """-1 or 1 where ``value`` lies clearly below or above all ``usual`` ones, else 0: :data:`MARGIN`, :data:`LEAST`.

    >>> beyond(-0.3, [0, 1]), beyond(-0.1, [0, 1]), beyond(1.3, [0, 1])
    (-1, 0, 1)
    """
    low, high = min(usual), max(usual)
    margin = max(MARGIN * (high - low), LEAST)
    return int(value > high + margin) - int(value < low - margin)


def _said(light: int, edges: int) -> Difference:
    return Difference(("", "brighter", "darker")[light], "missing" if edges < 0 else "")


def _gain(photo: Look, expected: Look, rest: Mask) -> float:
    """By how much ``photo`` is lighter than ``expected`` in the ``rest`` (h, w), as a factor; 1 where that is black."""
    of = float(expected.light[rest].mean())
    return float(photo.light[rest].mean()) / of if of > 0 else 1.0


def _windows(mask: Mask, odd: Mask) -> list[tuple[slice, slice]]:
    """Boxes of the size of ``mask``'s, side by side, that touch nothing odd."""
    rows, columns = np.nonzero(mask)
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    corners = [
        (slice(top, top + height), slice(left, left + width))
        for top in range(0, mask.shape[0] - height + 1, height)
        for left in range(0, mask.shape[1] - width + 1, width)
    ]
    return [window for window in corners if not odd[window].any()]
