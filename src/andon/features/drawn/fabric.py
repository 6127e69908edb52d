"""Scenes of fabric: woven, knitted, felted."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from andon.features.drawn.colour import TAU, Field, Rng, frac
from andon.features.drawn.layout import noise, turn, white


def woven(rng: Rng, size: int) -> Field:
    """Cloth: threads of two directions, each with its own brightness; plain, twill, satin or basket."""
    u, v = turn(rng, size)
    scale = rng.uniform(8, 34)
    wobble = rng.uniform(0, 0.5)
    u = u * scale + wobble * noise(rng, size, 3, 2) + 90
    v = v * scale * rng.uniform(0.7, 1.3) + wobble * noise(rng, size, 3, 2) + 90
    i, j = u.astype(np.int32), v.astype(np.int32)
    fu, fv = frac(u), frac(v)
    kind = rng.integers(4)
    over = ((i + j) & 1, ((i + j) >> 1) & 1, (3 * i + j) & 7 == 0, ((i >> 1) + (j >> 1)) & 1)[kind].astype(
        bool
    )
    spread = rng.uniform(0, 0.6)
    light = 1 + spread / 2 * rng.standard_normal((2, 256), np.float32).clip(-2, 2)
    warp = light[0].take(i) * np.sin(np.pi * fu) * (0.7 + 0.3 * np.sin(np.pi * fv))
    weft = rng.uniform(0.4, 1.2) * light[1].take(j) * np.sin(np.pi * fv) * (0.7 + 0.3 * np.sin(np.pi * fu))
    return weft + (warp - weft) * over + rng.uniform(0, 0.2) * white(rng, size)


def knit(rng: Rng, size: int) -> Field:
    """Wales of V-shaped stitches."""
    u, v = turn(rng, size)
    scale = rng.uniform(5, 18)
    u = u * scale + rng.uniform(0, 0.3) * noise(rng, size, 3, 2)
    v = v * scale * rng.uniform(0.8, 1.6) + rng.uniform(0, 0.3) * noise(rng, size, 3, 2)
    a = np.abs(frac(u) - 0.5)
    strand = np.abs(np.sin(np.pi * (v + rng.uniform(0.8, 1.8) * a))) ** rng.uniform(0.3, 1)
    row = rng.standard_normal(64, np.float32).take(np.floor(v).astype(np.intp) & 63)
    yarn = strand * np.sin(TAU * a.clip(0.02, 0.48)) ** 0.5 * (1 + rng.uniform(0, 0.3) * row)
    return yarn + rng.uniform(0, 0.2) * white(rng, size)


def fibres(rng: Rng, size: int) -> Field:
    """Felt, paper, carpet, wool: many short curls."""
    image = Image.new("L", (size, size), 90)
    pen, width = ImageDraw.Draw(image), int(rng.integers(1, 3))
    count = 150
    turns = rng.uniform(0, TAU, (count, 1)) + np.cumsum(rng.normal(0, rng.uniform(0.1, 1), (count, 4)), 1)
    steps = np.stack([np.cos(turns), np.sin(turns)], -1) * (size * rng.uniform(0.02, 0.1))
    paths = rng.uniform(0, size, (count, 1, 2)) + np.cumsum(steps, 1)
    for path, light in zip(paths.reshape(count, -1).tolist(), rng.integers(0, 256, count).tolist()):
        pen.line(path, fill=light, width=width)
    return np.asarray(image, np.float32) / 255 + rng.uniform(0.05, 0.2) * white(rng, size)
