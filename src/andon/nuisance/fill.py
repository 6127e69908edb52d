"""A part of a photograph replaced by what surrounds it."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]  # (H, W)
Floats = NDArray[np.float32]
_GREY = np.float32(128)  # where there is nothing around


def filled(pixels: Pixels, mask: Mask) -> Pixels:
    """The photograph with smooth colour in ``mask``, as the pixels around it have it; elsewhere as it is.

    Averages of known pixels over 2 x 2, again and again, until everything is known, and back up again (the pull-push
    of Gortler et al. 1996, The Lumigraph).

    >>> picture = np.full((8, 8, 3), 77, np.uint8)
    >>> picture[3:5, 3:5] = 255
    >>> bool((filled(picture, picture[..., 0] == 255) == 77).all())
    True
    """
    if not mask.any():
        return pixels
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    reach = max(8, (rows[-1] - rows[0]) // 2, (columns[-1] - columns[0]) // 2)
    box = np.s_[
        max(0, rows[0] - reach) : rows[-1] + 1 + reach, max(0, columns[0] - reach) : columns[-1] + 1 + reach
    ]
    there = mask[box][..., None]
    smooth = _known_everywhere(pixels[box].astype(np.float32), (~there).astype(np.float32))
    changed = pixels.copy()
    changed[box] = np.where(there, np.rint(smooth).clip(0, 255).astype(np.uint8), pixels[box])
    return changed


def _known_everywhere(values: Floats, known: Floats) -> Floats:
    """``values`` (h, w, 3) where ``known`` (h, w, 1) is 1; where it is less, so much of the average of what lies around."""
    if known.all():
        return values
    if not known.any():
        return np.full_like(values, _GREY)
    weights = _halved(known)
    means: Floats = (_halved(values * known) / np.maximum(weights, 1e-6)).astype(np.float32)
    coarse = _known_everywhere(means, np.minimum(4 * weights, 1).astype(np.float32))
    return known * values + (1 - known) * _enlarged(coarse, values.shape[:2])


def _halved(values: Floats) -> Floats:
    """Means (h/2, w/2, c) over 2 x 2 pixels, an odd last row or column once more."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, -1)
    return cast(Floats, blocks.mean(axis=(1, 3), dtype=np.float32))


def _enlarged(values: Floats, size: tuple[int, ...]) -> Floats:
    """``values`` (h, w, 3) at twice the size, cut to ``size``, bilinear."""
    whole = (2 * values.shape[1], 2 * values.shape[0])
    channels = [Image.fromarray(np.ascontiguousarray(values[..., c])).resize(whole, Image.Resampling.BILINEAR)
                for c in range(values.shape[2])]  # fmt: skip
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)[: size[0], : size[1]]
