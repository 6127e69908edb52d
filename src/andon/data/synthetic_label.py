"""The printed label of a part: maker, numbers, and a Code 128 barcode that differ on every part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LABEL = (100, 144)  # (H, W) in part units

# ISO/IEC 15417: widths of bars and gaps, in modules, of the values 0 to 105 (105 starts code set C).
_WIDTHS = tuple(
    """
212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231
113222 123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211
212123 212321 232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131
113123 113321 133121 313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111
314111 221411 431111 111224 111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211
241211 221114 413111 241112 134111 111242 121142 121241 114212 124112 124211 411212 421112 421211 212141
214121 412121 111143 111341 131141 114113 114311 411113 411311 113141 114131 311141 411131 211412 211214
211232""".split()  # noqa: SIM905 (a table of 106 rows reads better so)
)
_START_C = 105
_STOP = "2331112"


@dataclass(frozen=True)
class LabelText:
    """What is printed on one part's label."""

    serial: str  # eight digits, also in the barcode
    lot: str
    made: str


def print_text(rng: np.random.Generator) -> LabelText:
    """The numbers of one part."""
    serial = f"{int(rng.integers(10_000_000, 100_000_000))}"
    lot = f"L{int(rng.integers(10, 60)):02d}-{int(rng.integers(0, 10_000)):04d}"
    day, minute = int(rng.integers(1, 29)), int(rng.integers(6 * 60, 22 * 60))
    made = f"2026-{int(rng.integers(1, 13)):02d}-{day:02d} {minute // 60:02d}:{minute % 60:02d}"
    return LabelText(serial, lot, made)


def code128(digits: str) -> NDArray[np.bool_]:
    """The modules, True where black, of an even number of digits in Code 128, code set C.

    >>> bars = code128("48210733")
    >>> bars.size, int(bars[:11].sum())
    (79, 6)
    """
    values = [int(digits[i : i + 2]) for i in range(0, len(digits), 2)]
    check = (_START_C + sum(place * value for place, value in enumerate(values, 1))) % 103
    widths = "".join(_WIDTHS[value] for value in (_START_C, *values, check)) + _STOP
    return np.repeat(np.arange(len(widths)) % 2 == 0, [int(width) for width in widths])


def label_picture(text: LabelText, resolution: float) -> Image.Image:
    """The label, RGB, at ``resolution`` pixels a part unit."""
    rows, columns = (round(side * resolution) for side in LABEL)
    picture = Image.new("RGB", (columns, rows), (238, 238, 232))
    pen = ImageDraw.Draw(picture)
    _print_logo(pen, resolution)
    ink = (24, 24, 28)
    for row, caption, value in (
        (30, "PART NO", "4F-7731-B"),
        (40, "LOT", text.lot),
        (50, "MADE", text.made),
    ):
        pen.text((8 * resolution, row * resolution), caption, ink, _font(round(7 * resolution)))
        pen.text((46 * resolution, (row - 1.2) * resolution), value, ink, _font(round(9 * resolution)))
    _print_bars(picture, text.serial, resolution)
    pen.text(
        (columns / 2, 96.5 * resolution),
        " ".join(text.serial),
        ink,
        _font(round(8 * resolution)),
        anchor="ms",
    )
    return picture


def _print_logo(pen: ImageDraw.ImageDraw, resolution: float) -> None:
    blue = (20, 62, 128)
    u = resolution
    pen.rectangle((0, 0, LABEL[1] * u, 25 * u), fill=blue)
    pen.polygon([(8 * u, 20 * u), (16 * u, 5 * u), (24 * u, 20 * u)], fill=(240, 240, 236))
    pen.ellipse((13 * u, 12 * u, 19 * u, 18 * u), fill=(214, 66, 38))
    pen.text((30 * u, 1.0 * u), "HALVORSEN", (240, 240, 236), _font(round(13.5 * u)), stroke_width=0.25 * u)
    pen.text((30.5 * u, 16.4 * u), "FLUID SYSTEMS", (205, 215, 230), _font(round(6.5 * u)))


def _print_bars(picture: Image.Image, serial: str, resolution: float) -> None:
    bars = code128(serial)
    columns = round(120 * resolution)
    strip = bars[(np.arange(columns) * bars.size) // columns]
    pixels = np.where(strip[None, :, None], np.uint8(26), np.uint8(238)).repeat(
        round(24 * resolution), axis=0
    )
    left = (picture.width - columns) // 2
    picture.paste(Image.fromarray(pixels.repeat(3, axis=2)), (left, round(62 * resolution)))


@lru_cache(maxsize=16)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(pixels, 4))


@lru_cache(maxsize=4)
def engraving(words: str, size: float, resolution: float) -> Image.Image:
    """Words in white on black, 8-bit grey, at ``resolution`` pixels a part unit."""
    font = _font(round(size * resolution))
    left, top, right, bottom = font.getbbox(words)
    picture = Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(picture).text((2 - left, 2 - top), words, 255, font)
    return picture
