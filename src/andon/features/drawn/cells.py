"""Scenes of cells and grains: crystals, pebbles, leather, chips, tiles; plastic and plain plates."""

from __future__ import annotations

import numpy as np

from andon.features.drawn.colour import TAU, Field, Rng, frac, pick, relief
from andon.features.drawn.layout import gradient_noise, noise, turn, white, worley


def grains(rng: Rng, size: int) -> Field:
    """Crystals: each cell its own grey, its border darker."""
    first, second, owner = worley(rng, size, rng.uniform(0, 0.5))
    border = np.clip((second - first) * rng.uniform(4, 20), 0, 1)
    return rng.random(owner.max() + 1, dtype=np.float32).take(owner) * (1 - rng.uniform(0, 1) * (1 - border))


def pebbles(rng: Rng, size: int) -> Field:
    """Domes or bumps at the cells' points, lit: granulate, foam, blasted surfaces."""
    first, second, _ = worley(rng, size)
    return relief(rng, (1 - first**2 if rng.random() < 0.5 else second - first) * rng.uniform(0.03, 0.15))


def leather(rng: Rng, size: int) -> Field:
    first, second, _ = worley(rng, size, rng.uniform(0.5, 1.5))
    height = np.minimum(second - first, rng.uniform(0.15, 0.5)) + 0.1 * gradient_noise(
        rng, size, size / 5, size / 5
    )
    return relief(rng, height * rng.uniform(0.05, 0.15)) + 0.3 * noise(rng, size, 2, 2)


def cracks(rng: Rng, size: int) -> Field:
    """Dark lines along the cells' borders, on a rough ground."""
    first, second, _ = worley(rng, size, rng.uniform(0.5, 2))
    line = np.clip((second - first) * rng.uniform(4, 15), 0, 1)
    return line + rng.uniform(0.2, 0.8) * noise(rng, size, 6, 5)


def specks(rng: Rng, size: int) -> Field:
    """Terrazzo, granite, recycled plastic: chips of several sizes on a plain ground."""
    field, layers = 0.2 * noise(rng, size, 10, 3), int(rng.integers(1, 3))
    for _ in range(layers):
        first, _, owner = worley(rng, size, 0.4 if layers == 1 else 0)
        chip = (rng.random(owner.max() + 1, dtype=np.float32) * rng.uniform(0.4, 1)).take(owner)
        np.copyto(field, rng.uniform(-1, 1) * chip, where=first < chip - 0.1)
    return field


def tiles(rng: Rng, size: int) -> Field:
    """Tiles or bricks in rows, each its own grey, with joints and specks."""
    u, v = turn(rng, size, 0.7)
    scale, aspect, joint = rng.uniform(2, 8), pick(rng, [0.35, 0.5, 1]), rng.uniform(0.02, 0.08)
    v = v * scale / aspect + 90
    row = np.floor(v)
    u = u * scale + 90 + 2 * frac(row / 2) * pick(rng, [0, 0.5])
    shade = rng.random(4096, dtype=np.float32).take((row * 31 + np.floor(u)).astype(np.intp) & 4095)
    inside = np.clip((0.5 - np.maximum(np.abs(frac(u) - 0.5), np.abs(frac(v) - 0.5)) - joint) * 30, 0, 1)
    speck = (noise(rng, size, size / 4, 2) > 0.4).astype(np.float32) * rng.uniform(-1, 1)
    return inside * (1 + rng.uniform(0, 0.7) * shade + speck) + 0.1 * white(rng, size)


def plastic(rng: Rng, size: int) -> Field:
    """A moulded part: a smooth surface with ribs or ripples, glossy under a soft light."""
    u, v = turn(rng, size)
    height = rng.uniform(0.1, 0.6) * noise(rng, size, rng.uniform(0.7, 2), 1)
    if rng.random() < 0.6:
        place = (u if rng.random() < 0.5 else np.hypot(u, v)) * rng.uniform(3, 14)
        height += rng.uniform(0.01, 0.03) * np.clip(np.sin(TAU * place) * rng.uniform(1, 8), -1, 1)
    return relief(rng, height) + rng.uniform(0, 0.02) * white(rng, size)


def plate(rng: Rng, size: int) -> Field:
    """A smooth plate under an uneven light."""
    u, v = turn(rng, size)
    light = np.exp(-(u**2 + v**2 * rng.uniform(0.2, 1)) * rng.uniform(0.3, 4))
    return light + rng.uniform(0, 0.03) * white(rng, size)
