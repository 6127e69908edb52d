"""Random prints for zones of good images: labels, barcodes and lines of text, in inks and on papers of any colour.

A detector that has seen many prints in a zone takes a new one for good. Shapes: H, W of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from andon.data.synthetic_label import code128, label_picture, print_text

Picture = NDArray[np.float32]  # (3, H, W) in [0, 1]
Mask = NDArray[np.bool_]  # (H, W)

_DRAWN = (100, 144)  # (H, W) of a print before it is brought to its zone
_LINES = (2, 6)  # of a text
_CONTRAST = 0.35  # least difference between ink and paper, 0 to 1


@dataclass(frozen=True, eq=False)
class Prints:
    """Draws a new print over each of ``masks`` (H, W)."""

    masks: Sequence[Mask]

    def __call__(self, image: Picture, rng: np.random.Generator) -> Picture:
        """``image`` with other prints in the zones, elsewhere as it is."""
        printed = image.copy()
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
                drawn = draw_print(rng, (box[0].stop - box[0].start, box[1].stop - box[1].start))
                printed[:, *box] = np.where(mask[box], drawn, printed[:, *box])
        return printed

    def described(self) -> str:
        """What it does, in words for people."""
        return f"labels, barcodes and text drawn into {len(self.masks)} zones"


def draw_print(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """A label, a barcode or lines of text (3, H, W) float32 in [0, 1] of ``size`` (H, W), one in two upside down.

    >>> draw_print(np.random.default_rng(0), (20, 30)).shape
    (3, 20, 30)
    """
    grey = (_label, _barcode, _text)[rng.integers(3)](rng).resize((size[1], size[0]), Image.Resampling.BOX)
    turned = rng.choice([1, -1])
    paperness = np.asarray(grey, np.float32)[::turned, ::turned] / np.float32(255)
    ink, paper = rng.uniform(0, 1 - _CONTRAST, 3), rng.uniform(0, 1, 3)
    paper = ink + _CONTRAST + (1 - _CONTRAST - ink) * paper
    if rng.random() < 0.2:  # light on dark
        ink, paper = paper, ink
    return (ink[:, None, None] + (paper - ink)[:, None, None] * paperness).astype(np.float32)


def _label(rng: np.random.Generator) -> Image.Image:
    return label_picture(print_text(rng), 2.0).convert("L")


def _barcode(rng: np.random.Generator) -> Image.Image:
    bars = code128("".join(map(str, rng.integers(0, 10, 2 * int(rng.integers(2, 7))))))
    pixels = np.where(bars, 0, 255).astype(np.uint8)
    return Image.fromarray(np.pad(pixels, 10, constant_values=255)[None].repeat(_DRAWN[0], 0))


def _text(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("L", _DRAWN[::-1], 255)
    pen, lines = ImageDraw.Draw(picture), int(rng.integers(*_LINES))
    height = _DRAWN[0] // lines
    for line in range(lines):
        letters = "".join(map(chr, rng.integers(ord("0"), ord("Z") + 1, int(rng.integers(4, 14)))))
        pen.text((4, line * height), letters, 0, ImageFont.load_default(int(height * 0.8)))
    return picture
