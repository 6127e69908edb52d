"""Pixels of a camera, in the formats of the GenICam Pixel Format Naming Convention, as RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.errors import ImageError, SettingsError

_GREY = {
    "Mono8": 8,
    "Mono10": 10,
    "Mono12": 12,
    "Mono14": 14,
    "Mono16": 16,
}  # name -> bits; not the packed ones
_COLOUR = {
    "RGB8": (0, 1, 2),
    "BGR8": (2, 1, 0),
    "RGBa8": (0, 1, 2),
    "BGRa8": (2, 1, 0),
}  # name -> where R, G, B lie
FORMATS = (*_GREY, *_COLOUR)


def require_format(name: str) -> None:
    """Raise :class:`SettingsError` where ``name`` cannot be read; Bayer patterns cannot, since cameras can send colours."""
    if name not in FORMATS:
        raise SettingsError(
            f"the camera sends {name}; {', '.join(FORMATS)} are read. Choose one of them: --camera-set PixelFormat=RGB8"
        )


def to_rgb(data: NDArray[Any], height: int, width: int, name: str) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) uint8 RGB of the buffer ``data``, flat, row by row, in the pixel format ``name``.

    Of more than 8 bits the highest 8 are kept. Raises :class:`SettingsError` for other formats and
    :class:`ImageError` for a buffer of another length.

    >>> to_rgb(np.array([0, 4095], np.uint16), 1, 2, "Mono12")[0].tolist()
    [[0, 0, 0], [255, 255, 255]]
    """
    require_format(name)
    channels = 1 if name in _GREY else 4 if "a" in name else 3
    if data.size != height * width * channels:
        raise ImageError(
            f"expected {height} x {width} x {channels} numbers of the camera for {name}, got {data.size}"
        )
    pixels = data.reshape(height, width, channels)
    if name in _GREY:
        grey = (pixels >> (_GREY[name] - 8)).astype(np.uint8)
        return np.repeat(grey, 3, axis=2)
    return np.ascontiguousarray(pixels[..., _COLOUR[name]], dtype=np.uint8)
