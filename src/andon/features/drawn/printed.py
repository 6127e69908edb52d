"""Scenes of print: text, labels, markings, and the plain grounds that they are printed on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from andon.features.drawn.cells import plate
from andon.features.drawn.colour import Pixels, Rng, any_colour, blend, frac, pick, relief, rgb, smooth, unit
from andon.features.drawn.layout import turn
from andon.features.drawn.metal import brushed
from andon.features.drawn.noises import clouds, spectrum


@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def word(rng: Rng, longest: int = 12) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789abcdefghkmnprstuwxyz-./:%"
    return "".join(letters[i] for i in rng.integers(0, len(letters), int(rng.integers(1, longest))))


def _printed(rng: Rng, mask: Image.Image, size: int) -> Pixels:
    """The mask (larger than the picture) turned and cut out, as ink of a colour or as an embossing."""
    angle = pick(rng, [0, 90, 180, 270, rng.uniform(-12, 12), rng.uniform(0, 360)])
    centre = (mask.width - size) // 2
    mask = mask.rotate(angle, Image.Resampling.BILINEAR).crop((centre, centre, centre + size, centre + size))
    ink = np.asarray(mask, np.float32) / 255
    ground = plain_ground(rng, size)
    if rng.random() < 0.2:
        shade = relief(rng, smooth(ink, rng.uniform(0.5, 1.2)) * pick(rng, [-0.06, 0.06]))
        return np.clip(ground * rgb(0.3 + shade), 0, 255).astype(np.uint8)
    dark = ground.mean() > 128
    return blend(
        ground, np.array(any_colour(rng, 0, 80) if dark else any_colour(rng, 170)), ink * rng.uniform(0.7, 1)
    )


def plain_ground(rng: Rng, size: int) -> Pixels:
    """Something plain to print on or to lay parts on: low in contrast, of any brightness."""
    field = (plate, spectrum, brushed, clouds)[rng.integers(4)](rng, size)
    spread = rng.uniform(0.03, 0.4)
    middle = rng.uniform(0.15 + spread / 2, 1 - spread / 2)
    levels = np.linspace(middle - spread / 2, middle + spread / 2, 256)[:, None]
    table = np.clip(levels * np.array(any_colour(rng, 120)) * 1.3, 0, 255).astype(np.uint8)
    return table.take((unit(field) * 255).astype(np.uint8), axis=0)


def text(rng: Rng, size: int) -> Pixels:
    """Lines of letters and digits."""
    side = int(size * 1.5)
    mask = Image.new("L", (side, side))
    pen, y = ImageDraw.Draw(mask), 0
    height = max(6, int(size * pick(rng, [0.07, 0.09, 0.12, 0.2, 0.35])))
    while y < side:
        line = " ".join(word(rng) for _ in range(max(1, size // height // 4)))
        pen.text((int(rng.integers(-height, height)), y), line, fill=255, font=font(height))
        y += int(height * rng.uniform(1.1, 2))
    return _printed(rng, mask, size)


def label(rng: Rng, size: int) -> Pixels:
    """A sticker: bars or a matrix of dots, words above and below, a frame."""
    side = int(size * 1.5)
    mask = Image.new("L", (side, side))
    pen, low, extent = (
        ImageDraw.Draw(mask),
        int(side * rng.uniform(0.15, 0.3)),
        int(side * rng.uniform(0.25, 0.6)),
    )
    modules = int(rng.integers(10, 40))
    bits = rng.random((modules if rng.random() < 0.5 else 1, modules)) < rng.uniform(0.35, 0.6)
    code = Image.fromarray(bits.astype(np.uint8) * 255)
    box = (extent, extent if rng.random() < 0.5 else extent // 2)
    mask.paste(code.resize(box, Image.Resampling.NEAREST), (low, low))
    height = max(6, int(size * rng.uniform(0.06, 0.14)))
    for y in range(low + box[1] + height // 2, side, int(height * 1.3)):
        pen.text((low, y), word(rng, 16), fill=255, font=font(height))
    pen.text((low, low - int(height * 1.4)), word(rng, 16), fill=255, font=font(height))
    if rng.random() < 0.5:
        frame = (low - 2 * height, low - 2 * height, low + extent + height, low + box[1] + 4 * height)
        pen.rectangle(frame, outline=255, width=int(rng.integers(1, 4)))
    return _printed(rng, mask, size)


def marking(rng: Rng, size: int) -> Pixels:
    """Warning stripes, chequers, rulers, grids of lines or dots, over half or all of a surface."""
    u, v = turn(rng, size, 0.3)
    scale, kind = rng.uniform(3, 16), rng.integers(4)
    a, b = np.abs(frac(u * scale) - 0.5), np.abs(frac(v * scale) - 0.5)
    thick = rng.uniform(0.05, 0.25)
    stripes, lines, dots = a - 0.25, np.minimum(a, b) - thick, np.sqrt(a * a + b * b) - thick
    d = (stripes, stripes * np.sign(b - 0.25), lines, dots)[kind]
    ink = np.clip(-d * size / scale + 0.5, 0, 1)
    if rng.random() < 0.4:
        ink = ink * (np.abs(v) < rng.uniform(0.1, 0.3))
    ground, colour = plain_ground(rng, size), np.array(any_colour(rng, 90))
    if rng.random() < 0.4:
        colour = np.array([rng.integers(150, 256), rng.integers(100, 256), 0])  # warning yellow to red
    return blend(blend(ground, colour, np.full_like(ink, 0.7)), ground // 4, ink)
