"""Scenes of things: shapes, parts on a ground, round goods, circuit boards, cables."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from andon.features.drawn.colour import (
    TAU,
    Field,
    Pixels,
    Rng,
    any_colour,
    blend,
    frac,
    pick,
    relief,
    rgb,
    smooth,
    unit,
)
from andon.features.drawn.layout import axes, noise, turn
from andon.features.drawn.printed import font, plain_ground, word


def shapes(rng: Rng, size: int) -> Field:
    """Distance fields of discs, boxes, rings and stars, joined and cut, as bands, fillings or outlines."""
    total = np.full((size, size), 9, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        u, v = turn(rng, size, 0.3)
        a, kind = rng.uniform(0.1, 0.35), rng.integers(4)
        r = np.maximum(np.abs(u) - a, np.abs(v) - a * 0.6) if kind == 1 else np.sqrt(u * u + v * v) - a
        if kind == 2:
            r = np.abs(r) - a * 0.3
        elif kind == 3:
            r = r + a * 0.4 * np.cos(np.arctan2(v, u) * int(rng.integers(3, 9)))
        total = np.maximum(total, -r) if rng.random() < 0.25 else np.minimum(total, r)
    filled = np.clip(-total * size * pick(rng, [0.03, 1]), 0, 1)
    bands = np.sin(total * rng.uniform(20, 120)) * np.exp(-np.abs(total) * rng.uniform(0, 8))
    outline = np.clip(1.5 - np.abs(total) * size / rng.uniform(1, 4), 0, 1)
    return (filled, bands, outline + 0.5 * filled, filled * (1 + 0.3 * bands))[rng.integers(4)]


def parts(rng: Rng, size: int) -> Pixels:
    """Pills, boxes, balls lying on a ground: Lambert's shading, a highlight and a shadow; in a tray at times."""
    y, x = axes(size)
    height, owner = np.zeros((size, size), np.float32), np.zeros((size, size), np.intp)
    if rng.random() < 0.35:
        n = rng.uniform(2, 7)
        places = [(frac(x * n) - 0.5, frac(y * n) - 0.5, rng.uniform(0.25, 0.45) / n, n)]
    else:
        centres = rng.uniform(0, 1, (int(rng.integers(1, 9)), 2)).tolist()
        places = [(x - cx, y - cy, rng.uniform(0.06, 0.25), 1.0) for cy, cx in centres]
    squarings, same, angle = pick(rng, [1, 1, 2, 3]), rng.random() < 0.5, rng.uniform(0, TAU)
    shape = rng.uniform(0.4, 1, 2).tolist()
    for n, (dx, dy, radius, scale) in enumerate(places):
        if not same:
            angle, shape = rng.uniform(0, TAU), rng.uniform(0.4, 1, 2).tolist()
        a, b = (radius * scale * part for part in shape)
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / a
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / b
        for _ in range(squarings):
            u, v = u * u, v * v
        dome = np.sqrt(np.clip(1 - u - v, 0, None)) * (radius * min(shape))
        owner += (n + 1 - owner) * (dome > height)
        height = np.maximum(height, dome)
    tones = np.array([any_colour(rng, 40) for _ in range(len(places) + 1)], np.float32)
    if same:
        tones[1:] = tones[1]
    ground = plain_ground(rng, size)
    shift = int(size * rng.uniform(0.01, 0.06))
    shadow = np.roll(smooth((height > 0).astype(np.float32), rng.uniform(1, 4)), (shift, shift), (0, 1))
    under = ground * rgb(1 - rng.uniform(0.2, 0.8) * shadow)
    shade = relief(rng, height * 4, rng.uniform(0.4, 1.2)) + 0.15
    top = (tones.take(owner, axis=0) * rgb(shade)).clip(0, 255)
    return blend(under.astype(np.uint8), top, (owner > 0))


def discs(rng: Rng, size: int) -> Pixels:
    """Round goods from above: bottles, caps, biscuits, bearings: rings of other tones, gloss, crumbs or teeth."""
    y, x = axes(size)
    n = pick(rng, [1, 1, 2, 3]) * rng.uniform(0.8, 1.1)
    u, v = frac(x * n) - 0.5, frac(y * n) - 0.5
    r = np.sqrt(u * u + v * v) * 2
    if rng.random() < 0.4:
        r = r * (1 + rng.uniform(0.01, 0.06) * np.cos(np.arctan2(v, u) * int(rng.integers(6, 40))))
    r = r + rng.uniform(0, 0.08) * noise(rng, size, 4, 3)
    count = int(rng.integers(2, 8))
    edges = np.sort(rng.uniform(0.1, 0.95, count)).astype(np.float32)
    tones = np.array([any_colour(rng) for _ in range(count + 1)], np.float32)
    radii = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = tones[0] + np.clip((radii - edges) * (size / 3 / n), 0, 1) @ np.diff(tones, axis=0)
    picture = table.take((r * 255).clip(0, 255).astype(np.uint8), axis=0)
    light = 0.75 + rng.uniform(0, 0.4) * noise(rng, size, pick(rng, [2, 12]), 3) + 0.3 * np.cos(u * 2 + v * 3)
    gloss = np.exp(-((u - 0.12) ** 2 + (v + 0.15) ** 2) * 200) * rng.uniform(0, 200)
    inside = picture * rgb(light) + rgb(gloss)
    return blend(plain_ground(rng, size), inside.clip(0, 255), np.clip((0.97 - r) * size / 3 / n, 0, 1))


def board(rng: Rng, size: int) -> Pixels:
    """A printed circuit: traces with bends of 45 degrees, pads with holes, chips with pins, printed words."""
    side = 2 * size
    base = np.array([(20, 80, 40), (20, 40, 90), (90, 20, 20), (25, 25, 25), (180, 170, 120)])[
        rng.integers(5)
    ]
    image = Image.new("RGB", (side, side), tuple(int(c) for c in base))
    pen, step = ImageDraw.Draw(image), side / rng.integers(10, 24)
    trace = tuple(int(c) for c in np.clip(base * 1.5 + 20, 0, 255))
    metal = (215, 200, 150) if rng.random() < 0.5 else (205, 205, 210)
    for _ in range(int(rng.integers(10, 30))):
        corners = [rng.integers(-1, 25, 2) * step]
        for way in rng.integers(0, 8, 4):
            move = np.round([np.cos(way * TAU / 8), np.sin(way * TAU / 8)])
            corners.append(corners[-1] + move * step * rng.integers(1, 6))
        pen.line(
            [float(c) for p in corners for c in p], fill=trace, width=max(1, int(step / 4)), joint="curve"
        )
        for cx, cy in (corners[0], corners[-1]):
            pen.ellipse((cx - step / 2, cy - step / 2, cx + step / 2, cy + step / 2), fill=metal)
            pen.ellipse((cx - step / 5, cy - step / 5, cx + step / 5, cy + step / 5), fill=(15, 15, 15))
    for _ in range(int(rng.integers(0, 4))):
        _chip(rng, pen, rng.integers(0, 20, 2) * step, step, metal)
    for _ in range(int(rng.integers(0, 4))):
        pen.text(
            tuple(rng.uniform(0, side, 2)),
            word(rng, 6),
            fill=(235, 235, 235),
            font=font(max(8, side // 20)),
        )
    return (np.asarray(image.reduce(2)) * rgb(0.7 + 0.3 * unit(noise(rng, size, 2, 2)))).astype(np.uint8)


def _chip(rng: Rng, pen: ImageDraw.ImageDraw, at: Field, step: float, metal: tuple[int, ...]) -> None:
    """A dark case with pins on two sides."""
    x, y, pins = float(at[0]), float(at[1]), int(rng.integers(1, 7))
    wide = step * float(rng.integers(1, 6))
    for pin in range(pins):
        low = y + pin * step + step * 0.3
        pen.rectangle((x - step / 2, low, x + wide + step / 2, low + step * 0.4), fill=metal)
    dark = any_colour(rng, 15, 60) if rng.random() < 0.8 else any_colour(rng, 120)
    pen.rectangle((x, y, x + wide, y + pins * step), fill=dark)


def cables(rng: Rng, size: int) -> Pixels:
    """Bundles of round wires that sway together, some crossing others."""
    picture = plain_ground(rng, size)
    for _ in range(int(rng.integers(1, 3))):
        u, v = turn(rng, size, 0.2)
        count, wide = int(rng.integers(2, 9)), rng.uniform(0.03, 0.12)
        sway = rng.uniform(0.02, 0.15) * np.sin(u * rng.uniform(2, 9) + rng.uniform(0, TAU))
        place = (v + sway) / wide + count / 2
        wire = np.clip(np.floor(place), 0, count - 1)
        across = 2 * (place - wire) - 1
        shade = np.sqrt(np.clip(1 - across**2, 0, 1))
        gloss = rng.uniform(0, 150) * np.clip(1 - np.abs(across + 0.4) * 6, 0, 1)
        tones = np.array([any_colour(rng, 30) for _ in range(count)], np.float32)
        twist = 1 - 0.4 * (np.sin(u / wide * 4 + across * 2) > 0) * (rng.random() < 0.3)
        wires = (tones.take(wire.astype(np.intp), axis=0) * rgb(shade * twist) + rgb(gloss)).clip(0, 255)
        inside = np.clip((count / 2 - np.abs(place - count / 2)) * size * wide, 0, 1)
        near = np.clip(1 - (np.abs(place - count / 2 - 0.4) - count / 2).clip(0) * 2, 0, 1)
        shaded = picture * rgb((1 - 0.5 * near) * (1 - inside))
        picture = (shaded + wires * rgb(inside)).astype(np.uint8)
    return picture
