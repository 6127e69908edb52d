"""Samples of any depth as bytes, by rules that are the same for every photograph.

A photograph is never stretched to its own darkest and lightest value: that would hide defects, and a drift of
the light, from whoever looks at the scores.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError

BAND = 1_000_000  # pixels taken from Pillow at a time


def bytes_of_deep_grey(
    values: NDArray[Any], bits: int, notes: list[str], white_level: int, name: str
) -> NDArray[np.uint8]:
    """Samples of a mode with more than 8 bits as bytes, by a rule that is the same for every photograph."""
    if values.dtype.kind == "f":
        return bytes_of_floats(values, notes, name)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"cannot read {name}: integers from 0 to 65535 expected, it has {low} to {high}")
    white = min(white_level, 4095) if bits == 12 else white_level
    return bytes_of_16_bits(values.astype(np.uint16), white, bits, notes)


def bytes_of_floats(values: NDArray[Any], notes: list[str], name: str) -> NDArray[np.uint8]:
    """Floats in [0, 1] as bytes, rounded to the nearest. Raises :class:`ImageError` outside, or for NaN."""
    low, high = float(values.min()), float(values.max())  # both are nan if any value is
    if not (low >= 0.0 and high <= 1.0):
        found = f"{low:g} to {high:g}" if np.isfinite(low + high) else "values that are not finite"
        raise ImageError(
            f"cannot read {name}: floats from 0 to 1 expected, it has {found}. "
            "Divide by the value that stands for white."
        )
    notes.append("float reduced to 8-bit")
    return (values.astype(np.float32, copy=False) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def bytes_of_16_bits(
    values: NDArray[np.uint16], white_level: int, bits: int, notes: list[str]
) -> NDArray[np.uint8]:
    """0..``white_level`` as 0..255, with a note on what looks like the wrong white level."""
    notes.append(f"{bits}-bit reduced to 8-bit")
    highest = int(values.max())
    if highest > white_level:
        notes.append(f"values above white_level={white_level} shown as white")
    if white_level == 65535 and 255 < highest <= 4095:
        notes.append(f"its 16-bit values reach only {highest}: 12-bit cameras need white_level=4095")
    return _table(white_level)[values]


@lru_cache(maxsize=4)
def _table(white_level: int) -> NDArray[np.uint8]:
    """The byte for every 16-bit value: round(255 value / white_level), at most 255."""
    values = np.arange(65536, dtype=np.uint32)
    return np.minimum((values * 255 + white_level // 2) // white_level, 255).astype(np.uint8)


def three_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) as (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def bytes_of_array(array: NDArray[Any], white_level: int, notes: list[str]) -> NDArray[np.uint8]:
    """``array`` of uint8, uint16, bool or float in [0, 1] as bytes. Raises :class:`ImageError`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return bytes_of_16_bits(array, white_level, 16, notes)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        return bytes_of_floats(array, notes, "this array")
    raise ImageError(f"an array of uint8, uint16, bool, or float from 0 to 1 expected, got {array.dtype}")


def rgb_in_bands(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) of a loaded Pillow image, a band of rows after the other: Pillow would copy a large one twice more."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels
