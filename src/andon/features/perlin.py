"""Gradient noise and the blobs cut from it: where invented defects go.

K. Perlin 2002, Improving Noise (doi:10.1145/566654.566636): smooth noise from a lattice of random directions. Cut off at
0.5 and rotated, as V. Zavrtanik, M. Kristan, D. Skočaj 2021 (DRAEM, arXiv:2108.07610, section 3.2) take their masks.

Letters: H and W the image; K and L the lattice's cells along rows and columns; g a unit gradient at each of the
(K + 1, L + 1) lattice points; f(t) = 6 t^5 - 15 t^4 + 10 t^3 the fade. With y = (row + 1/2) K / H and x likewise, and
w(d) = f(1 - |d|) for |d| < 1, else 0,

    noise(y, x) = sqrt(2) sum over k, l of w(y - k) w(x - l) (g_y[k, l] (y - k) + g_x[k, l] (x - l))

which is two products of matrices: rows (H, K + 1), lattice (K + 1, L + 1), columns (L + 1, W).

Differences from DRAEM's masks: pixels are taken at their centres, so that noise as fine as the grid is not all zero;
the sides need not be divisible by the cells; and the rotated noise comes from a canvas as large as the image's
diagonal, so that its corners hold noise (DRAEM fills them with zeros, where no defect ever is).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError

CELLS = (0, 5)  # exponents of 2: DRAEM draws 1, 2, ... 32 cells a side
THRESHOLD = 0.5  # DRAEM's


def perlin(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) float32 in [-1, 1], mean near 0: gradient noise of ``cells`` (K, L) over an image of ``size`` (H, W).

    >>> noise = perlin(np.random.default_rng(0), (48, 100), (3, 5))
    >>> noise.shape, bool(abs(noise).max() <= 1)
    ((48, 100), True)
    """
    if min(*size, *cells) < 1:
        raise SettingsError(f"size and cells must be at least 1 each, got size {size} and cells {cells}")
    angle = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    g_y, g_x = np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
    w_y, d_y = _weights(size[0], cells[0])
    w_x, d_x = _weights(size[1], cells[1])
    noise = (w_y * d_y) @ g_y @ w_x.T + w_y @ g_x @ (w_x * d_x).T
    return (math.sqrt(2) * noise).astype(np.float32)


def blob_mask(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    threshold: float = THRESHOLD,
    exponents: tuple[int, int] = CELLS,
) -> NDArray[np.bool_]:
    """(H, W) bool, where to plant a defect: noise above ``threshold``, turned by an angle in [-90, 90] degrees.

    The cells a side are a power of two drawn from ``exponents`` (least, greatest), for each side by itself: round
    blobs, long ones and stripes. With few cells it may be empty: draw again where a mask must not be.
    """
    least, greatest = exponents
    if not 0 <= least <= greatest:
        raise SettingsError(
            f"exponents must be (least, greatest) with 0 <= least <= greatest, got {exponents}"
        )
    drawn = 2 ** rng.integers(least, greatest, 2, endpoint=True)
    side = math.ceil(math.hypot(*size))
    cells = (math.ceil(drawn[0] * side / size[0]), math.ceil(drawn[1] * side / size[1]))
    blobs = perlin(rng, (side, side), cells) > threshold
    return _turned(blobs, size, rng.uniform(-np.pi / 2, np.pi / 2))


def _weights(length: int, cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """w(d) and d = y - k, both (length, cells + 1), of each pixel's centre y to each lattice point k."""
    y = (np.arange(length) + 0.5) * (cells / length)
    d = y[:, None] - np.arange(cells + 1)
    t = np.clip(1 - np.abs(d), 0, None)
    w = t * t * t * (t * (t * 6 - 15) + 10)
    return w.astype(np.float32), d.astype(np.float32)


def _turned(canvas: NDArray[np.bool_], size: tuple[int, int], angle: float) -> NDArray[np.bool_]:
    """The middle (H, W) of a square ``canvas`` turned by ``angle`` radians about its centre, nearest pixels."""
    side = len(canvas)
    rows = (np.arange(size[0], dtype=np.float32) - (size[0] - 1) / 2)[:, None]
    columns = (np.arange(size[1], dtype=np.float32) - (size[1] - 1) / 2)[None]
    cos, sin, middle = math.cos(angle), math.sin(angle), side / 2
    from_rows = (cos * rows - sin * columns + middle).astype(np.int32).clip(0, side - 1)
    from_columns = (sin * rows + cos * columns + middle).astype(np.int32).clip(0, side - 1)
    return canvas.ravel().take(from_rows * side + from_columns)
