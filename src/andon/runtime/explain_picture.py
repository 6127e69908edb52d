"""The odd region of a photograph beside what it should look like, and the sentence: one picture an image."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from andon.files import atomic_write
from andon.heatmap import draw_regions
from andon.image import decode
from andon.runtime.explain import main_region
from andon.runtime.explain_good import Window, cut, window_of
from andon.runtime.predictor import Predictor
from andon.types import Region, Verdict

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
PANEL, GAP, TEXT = 360, 12, 16  # pixels: longest side of a picture, between pictures, height of letters
FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial.ttf",
    "Helvetica.ttc",
)
_PAPER, _INK, _BLANK = (255, 255, 255), (30, 30, 30), (228, 228, 228)
_SPELLED = {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "œ": "oe", "„": '"', "“": '"',
            "«": '"', "»": '"'}  # fmt: skip


class Lettering(NamedTuple):
    """A font, and whether it has more than ASCII."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    is_whole: bool

    def shown(self, text: str) -> str:
        """``text`` in letters that the font has."""
        return text if self.is_whole else in_ascii(text)


@lru_cache(maxsize=1)
def lettering() -> Lettering:
    """A font of this computer; where none of :data:`FONTS` is installed Pillow's own, which knows ASCII alone."""
    for name in FONTS:
        try:
            return Lettering(ImageFont.truetype(name, TEXT), True)
        except OSError:
            continue
    return Lettering(ImageFont.load_default(TEXT), False)


def in_ascii(text: str) -> str:
    """``text`` spelled in ASCII.

    >>> in_ascii("großflächig, à côté")
    'grossflaechig, a cote'
    """
    spelled = "".join(_SPELLED.get(letter, letter) for letter in text)
    return unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode("ascii")


def comparison_of(predictor: Predictor, path: str | Path, verdict: Verdict) -> Picture | None:
    """The odd region with its surroundings, beside it what it should look like, and below the sentence.

    Of several regions the one that the sentence speaks of; None for a verdict that has none. Where the detector knows no
    picture of a good part, that is said in its place.
    """
    if not verdict.regions:
        return None
    region = main_region(verdict.regions)
    window = window_of(region, verdict.size)
    pixels = decode(path, white_level=predictor.preprocessing.white_level).pixels
    crop = cut(pixels, window)
    scale = PANEL / max(crop.shape[:2])
    size = (max(1, round(crop.shape[0] * scale)), max(1, round(crop.shape[1] * scale)))
    odd = draw_regions(_resized(crop, size), [_within(region, window, verdict.size, size)])
    expected = predictor.expected(path, region)
    words = predictor.words
    if expected is None:
        beside, caption = _blank(size), words["picture.none"]
    else:
        beside, caption = _resized(expected.pixels, size), words[f"picture.{expected.kind}"]
    return _page([(odd, words["picture.odd"]), (beside, caption)], verdict.sentence)


def save_comparison(predictor: Predictor, path: str | Path, verdict: Verdict, target: Path) -> None:
    """Write :func:`comparison_of` to ``target``, as PNG, atomically; nothing for a part that passes or has no region."""
    picture = None if verdict.decision == "pass" else comparison_of(predictor, path, verdict)
    if picture is not None:
        with atomic_write(target) as file:
            Image.fromarray(picture).save(file, "PNG")


def _resized(pixels: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _blank(size: tuple[int, int]) -> Picture:
    return np.full((*size, 3), _BLANK, np.uint8)


def _within(region: Region, window: Window, photo: tuple[int, int], size: tuple[int, int]) -> Region:
    """``region`` of a photograph (H, W) in the pixels of a picture of ``size`` of its part ``window``."""

    def moved(place: int, axis: int) -> int:
        share = (place / photo[axis] - window[axis]) / (window[axis + 2] - window[axis])
        return min(max(round(share * size[axis]), 0), size[axis])

    top, left, bottom, right = region.box
    box = (moved(top, 0), moved(left, 1), moved(bottom, 0), moved(right, 1))
    peak = (moved(region.peak_position[0], 0), moved(region.peak_position[1], 1))
    return replace(region, box=box, peak_position=peak)


def _page(panels: list[tuple[Picture, str]], sentence: str) -> Picture:
    """Pictures of one size side by side, each under its caption, and ``sentence`` below."""
    letters = lettering()
    height, width = panels[0][0].shape[:2]
    column = max(width, PANEL * 2 // 3)  # narrow pictures still have room for their captions
    total = len(panels) * (column + GAP) + GAP
    captions = [_wrapped(caption, column, letters) for _, caption in panels]
    head = GAP + max(map(len, captions)) * (TEXT + 4) + GAP // 2
    lines = _wrapped(sentence, total - 2 * GAP, letters)
    page = Image.new("RGB", (total, head + height + GAP + len(lines) * (TEXT + 4) + GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, ((picture, _), caption) in enumerate(zip(panels, captions, strict=True)):
        left = GAP + number * (column + GAP)
        _write(draw, caption, (left, GAP), letters)
        page.paste(Image.fromarray(picture), (left, head))
    _write(draw, lines, (GAP, head + height + GAP), letters)
    return np.asarray(page)


def _write(draw: ImageDraw.ImageDraw, lines: list[str], corner: tuple[int, int], letters: Lettering) -> None:
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + number * (TEXT + 4)), line, fill=_INK, font=letters.font)


def _wrapped(text: str, width: int, letters: Lettering) -> list[str]:
    """``text`` in lines no wider than ``width`` pixels, broken at spaces where possible."""
    lines = [""]
    for word in letters.shown(text).split(" "):
        longer = f"{lines[-1]} {word}".strip(" ")
        if lines[-1] and letters.font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
