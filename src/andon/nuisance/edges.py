"""Edge strength: what of a photograph says where the part lies, whatever its colour and the light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]


def edge_strength(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Floats:
    """The length of the brightness gradient (h, w) float32, the largest of the three channels', 0 at the borders.

    ``pixels`` (H, W, 3) uint8, which are first brought to ``size`` (h, w), averaged where that shrinks them, and
    smoothed over about a pixel. In levels of brightness over two pixels.

    >>> edge_strength(np.full((8, 8, 3), 77, np.uint8), (4, 4)).max()
    np.float32(0.0)
    """
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    small = photo.resize((size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=3.0)
    values = np.asarray(small.filter(ImageFilter.GaussianBlur(1)), dtype=np.float32)
    strength = np.zeros(size, np.float32)
    across = values[1:-1, 2:] - values[1:-1, :-2]
    down = values[2:, 1:-1] - values[:-2, 1:-1]
    strength[1:-1, 1:-1] = np.sqrt((across**2 + down**2).max(axis=2))
    return strength


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """``size`` (H, W) scaled so that its longest side is ``longest`` pixels, of the same shape; never enlarged.

    >>> fitted_size((400, 200), 100), fitted_size((30, 20), 100)
    ((100, 50), (30, 20))
    """
    factor = min(1.0, longest / max(size))
    return max(3, round(size[0] * factor)), max(3, round(size[1] * factor))
