"""What is laid over a scene: parts of another, objects, defects."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from andon.features.drawn.colour import TAU, Field, Pixels, Rng, any_colour, blend, pick, rgb
from andon.features.drawn.layout import axes, noise, turn


def soft_mask(rng: Rng, size: int) -> Field:
    """Parts of a picture, 0 to 1 with edges of a random softness: blots, half a plane, a disc, stripes."""
    kind, (u, v) = rng.integers(4), turn(rng, size)
    if kind == 0:
        field = noise(rng, size, rng.uniform(1, 5), 3)
    elif kind == 1:
        field = u + 0.05 * noise(rng, size, 4, 2) * (rng.random() < 0.5)
    elif kind == 2:
        field = np.hypot(u, v * rng.uniform(0.5, 2))
    else:
        field = np.sin(TAU * u * rng.uniform(1, 6))
    edge = float(np.quantile(field[::4, ::4], rng.uniform(0.2, 0.8)))
    return np.clip((field - edge) * size * pick(rng, [0.05, 0.5, 2]) + 0.5, 0, 1)


def add_object(rng: Rng, pen: ImageDraw.ImageDraw, size: int) -> None:
    """One ellipse, box, line or polygon of a random colour."""
    colour = any_colour(rng)
    extent = size * rng.uniform(0.03, 0.4)
    x, y = rng.uniform(0, size, 2)
    box = (x, y, x + extent * rng.uniform(0.2, 1), y + extent)
    kind = rng.integers(4)
    if kind == 0:
        pen.ellipse(box, fill=colour)
    elif kind == 1:
        pen.rectangle(box, fill=colour)
    elif kind == 2:
        pen.line((x, y, *rng.uniform(0, size, 2)), fill=colour, width=int(rng.integers(1, 8)))
    else:
        corners = rng.uniform(-extent / 2, extent / 2, (int(rng.integers(3, 8)), 2)) + np.array([x, y])
        pen.polygon([(float(a), float(b)) for a, b in corners], fill=colour)


def add_defect(rng: Rng, picture: Pixels) -> Pixels:
    """The picture with a scratch or crack, a spot, a dent, a stain, or a patch from elsewhere."""
    size, kind = len(picture), rng.integers(5)
    at, extent = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.15)
    y, x = axes(size)
    near = np.exp(-((y - float(at[0])) ** 2 + (x - float(at[1])) ** 2) / extent**2)
    if kind == 0:
        return blend(picture, np.array(any_colour(rng)), _line(rng, size) * rng.uniform(0.4, 1))
    if kind == 1:
        sharp = pick(rng, [1, 8, 30])
        return blend(
            picture, np.array(any_colour(rng)), np.clip((near - 0.5) * sharp + 0.5, 0, 1) * near.clip(0.3)
        )
    if kind == 2:
        dy, dx = np.gradient(near * size * extent)
        light = 1 + rng.uniform(0.3, 1) * (dy * pick(rng, [-1, 1]) + dx * pick(rng, [-1, 1]))
        return np.clip(picture * rgb(light), 0, 255).astype(np.uint8)
    if kind == 3:
        blot = near**0.3 + 0.5 * noise(rng, size, 6, 2)
        return blend(picture, np.array(any_colour(rng)), (blot > 0.6) * rng.uniform(0.2, 0.7))
    side = max(3, int(size * rng.uniform(0.05, 0.25)))
    (top, left), (to_top, to_left) = rng.integers(0, size - side + 1, (2, 2))
    out = picture.copy()
    out[to_top : to_top + side, to_left : to_left + side] = picture[top : top + side, left : left + side]
    return out


def _line(rng: Rng, size: int) -> Field:
    """A thin line that wanders, straight to jagged, (size, size) in [0, 1]."""
    steps = int(rng.integers(2, 14))
    turns = rng.uniform(0, TAU) + np.cumsum(rng.normal(0, pick(rng, [0.05, 0.6]), steps))
    path = rng.uniform(0, 2 * size, (1, 2)) + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0) * (
        size * rng.uniform(0.1, 1) / steps * 2
    )
    image = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(image).line(path.ravel().tolist(), fill=255, width=int(rng.integers(1, 6)))
    return np.asarray(image.reduce(2), np.float32) / 255
