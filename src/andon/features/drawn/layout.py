"""Where things lie: turned coordinates, gradient noise after Perlin 2002, cellular noise after Worley 1996."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from andon.features.drawn.colour import TAU, Field, Rng


def axes(size: int) -> tuple[Field, Field]:
    """y (S, 1) and x (1, S) in [0, 1)."""
    x = np.arange(size, dtype=np.float32)[None] / size
    return x.T, x


def turn(rng: Rng, size: int, upright: float = 0.4) -> tuple[Field, Field]:
    """Coordinates (S, S) in about [-1, 1], turned about a random place; upright with that probability."""
    y, x = axes(size)
    angle = 0.0 if rng.random() < upright else rng.uniform(0, TAU)
    y, x = y - rng.uniform(0.2, 0.8), x - rng.uniform(0.2, 0.8)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def gradient_noise(rng: Rng, size: int, cells_y: float, cells_x: float) -> Field:
    """Perlin's gradient noise, (S, S) in about [-0.7, 0.7].

    The weight of a lattice point is a product over the axes, so all sums over the corners are products of
    matrices: with W the faded weights (S, n) and d the offsets, W_y cos(a) (W_x d)' + (W_y d) sin(a) W_x'.
    """
    weights, offsets = [], []
    for cells in (cells_y, cells_x):
        place = np.linspace(0, cells, size, dtype=np.float32) + np.float32(rng.random())
        d = place[:, None] - np.arange(int(cells) + 3, dtype=np.float32)
        near = np.clip(1 - np.abs(d), 0, 1)
        weights.append(near * near * near * (near * (near * 6 - 15) + 10))
        offsets.append(weights[-1] * d)
    a = rng.random((weights[0].shape[1], weights[1].shape[1]), dtype=np.float32) * np.float32(TAU)
    return weights[0] @ np.cos(a) @ offsets[1].T + offsets[0] @ np.sin(a) @ weights[1].T


def noise(
    rng: Rng, size: int, cells: float, octaves: int = 4, stretch: float = 1.0, kind: str = "plain"
) -> Field:
    """Octaves of gradient noise, each of half the height: plain, turbulent |n| or ridged (1 - |n|)^2."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        across, along = (min(cells * 2**octave * factor, size / 2) for factor in (1, 1 / stretch))
        n = gradient_noise(rng, size, across, along)
        n = {"plain": n, "turbulent": 2 * np.abs(n), "ridged": (1 - 2 * np.abs(n)) ** 2}[kind]
        total += n * np.float32(0.5**octave)
    return total


def white(rng: Rng, size: int) -> Field:
    return rng.standard_normal((size, size), dtype=np.float32)


def _cellular(rng: Rng, u: Field, v: Field) -> tuple[Field, Field, NDArray[np.intp]]:
    """Distances to the nearest and second point of a jittered lattice with unit cells, and whose is nearest."""
    u, v = u - np.floor(u.min()) + 1, v - np.floor(v.min()) + 1
    whole_u, whole_v = np.floor(u), np.floor(v)
    width, rows = int(whole_u.max()) + 2, int(whole_v.max()) + 2
    jitter = rng.random((2, rows * width), dtype=np.float32) * np.float32(rng.uniform(0.5, 1))
    first, second = np.full(u.shape, 9, np.float32), np.full(u.shape, 9, np.float32)
    at = whole_v.astype(np.intp) * width + whole_u.astype(np.intp)
    u, v, owner = u - whole_u, v - whole_v, at.copy()
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            cell = at + (dj * width + di)
            d = (jitter[0].take(cell) - (u - di)) ** 2 + (jitter[1].take(cell) - (v - dj)) ** 2
            np.copyto(owner, cell, where=d < first)
            second = np.minimum(second, np.maximum(first, d))
            first = np.minimum(first, d)
    return np.sqrt(first), np.sqrt(second), owner


def worley(rng: Rng, size: int, warp: float = 0.0) -> tuple[Field, Field, NDArray[np.intp]]:
    """`_cellular` over a picture at a random scale, its coordinates at times displaced by noise."""
    u, v = turn(rng, size)
    scale = rng.uniform(4, 24)
    if warp:
        u, v = (x + warp / scale * noise(rng, size, scale / 2, 1 + (warp > 1)) for x in (u, v))
    return _cellular(rng, u * scale, v * scale * rng.uniform(0.5, 1.2))
