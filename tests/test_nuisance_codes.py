"""Printed codes and text: drawn ones are found where they are, and a part without print has none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from andon.errors import MissingExtraError, SettingsError
from andon.nuisance.codes import Code, find_codes, moving_zones

SIZE = (360, 480)
Pixels = NDArray[np.uint8]
cv2: Any = pytest.importorskip("cv2", reason="needs the extra nuisance")


def metal(seed: int = 0) -> Pixels:
    """A brushed plate with a round hole (H, W, 3)."""
    rng = np.random.default_rng(seed)
    brushed = ndimage.gaussian_filter(rng.normal(0, 40, SIZE), (1, 25)) + 130
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    brushed[np.hypot(y - 290, x - 400) < 40] = 30
    return np.clip(ndimage.gaussian_filter(brushed, 0.8), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def with_label(ink: Pixels, at: tuple[int, int]) -> tuple[Pixels, tuple[int, int, int, int]]:
    """The plate with ``ink`` (h, w), 0 to 255, on a light label, and the box of the ink."""
    picture, (top, left) = metal(), at
    height, width = ink.shape
    picture[top - 12 : top + height + 12, left - 12 : left + width + 12] = 225
    picture[top : top + height, left : left + width] = (ink * (180 / 255) + 45).astype(np.uint8)[..., None]
    return picture, (top, left, top + height, left + width)


def share(box: tuple[int, int, int, int], codes: list[Code]) -> float:
    """The share of ``box`` that the boxes of ``codes`` cover."""
    inside = np.zeros(SIZE, bool)
    for code in codes:
        inside[code.box[0] : code.box[2], code.box[1] : code.box[3]] = True
    return float(inside[box[0] : box[2], box[1] : box[3]].mean())


def qr() -> Pixels:
    code = np.asarray(cv2.QRCodeEncoder.create().encode("LOT 4711"))
    code = code[2:-2, 2:-2] if (code[0] == 255).all() else code
    return np.kron(code, np.ones((5, 5), np.uint8))


def text() -> Pixels:
    drawing = Image.new("L", (240, 80), 255)
    ImageDraw.Draw(drawing).multiline_text(
        (2, 2), "LOT 4711-B22\nSN 90231 EXP 27", 0, ImageFont.load_default(22), spacing=1
    )
    ink = np.asarray(drawing)
    rows, columns = np.flatnonzero((ink < 128).any(1)), np.flatnonzero((ink < 128).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def bars() -> Pixels:
    """EAN-13 5901234123457: the start, six digits, the middle, six digits, the end; 1 where a bar is."""
    left = "0001011 0100111 0110011 0010011 0111101 0011101".replace(" ", "")
    right = "1100110 1101100 1000010 1011100 1001110 1000100".replace(" ", "")
    row = np.array([255 * (bit == "0") for bit in f"101{left}01010{right}101"], np.uint8)
    return np.tile(np.repeat(row, 3), (90, 1))


def test_a_qr_code() -> None:
    picture, box = with_label(qr(), (60, 90))
    codes = find_codes(picture)
    assert [code.kind for code in codes] == ["qr"]
    assert share(box, codes) > 0.9
    assert codes[0].area < 1.3 * (box[2] - box[0]) * (box[3] - box[1])


def test_a_bar_code() -> None:
    picture, box = with_label(bars(), (60, 60))
    codes = find_codes(picture)
    assert codes[0].kind == "barcode"
    assert share(box, codes) > 0.8


@pytest.mark.parametrize(("width", "times"), [(2, 1), (3, 1), (4, 1), (2, 3), (3, 3)])
def test_bar_codes_of_several_sizes(width: int, times: int) -> None:
    """Modules of 2 to 9 pixels with sharp edges, which OpenCV's detector often misses at full size."""
    picture, box = with_label(bars()[:, ::3].repeat(width, 1), (60, 40))
    codes = find_codes(picture.repeat(times, 0).repeat(times, 1))
    assert codes[0].kind == "barcode"
    small = [Code(code.kind, tuple(v // times for v in code.box)) for code in codes]  # type: ignore[arg-type]
    assert share(box, small[:1]) > 0.5
    assert share(box, small) > 0.95


def test_two_lines_of_text() -> None:
    picture, box = with_label(text(), (70, 100))
    codes = find_codes(picture)
    assert {code.kind for code in codes} == {"text"}
    assert share(box, codes) > 0.7  # the gap between the lines may be left out


def test_a_large_photograph_has_the_same_text() -> None:
    picture, box = with_label(text(), (70, 100))
    large = np.asarray(Image.fromarray(picture).resize((SIZE[1] * 4, SIZE[0] * 4), Image.Resampling.BICUBIC))
    codes = [Code(c.kind, tuple(v // 4 for v in c.box)) for c in find_codes(large, ("text",))]  # type: ignore[arg-type]
    assert share(box, codes) > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_printed_on_metal(seed: int) -> None:
    assert find_codes(metal(seed)) == []


def test_only_the_kinds_asked_for() -> None:
    picture, _ = with_label(qr(), (60, 90))
    assert find_codes(picture, ("barcode",)) == []
    assert {code.kind for code in find_codes(picture, ("text",))} <= {"text"}
    with pytest.raises(SettingsError, match="kinds: qr, barcode, text expected, got dots"):
        find_codes(picture, ("dots",))  # type: ignore[arg-type]


def test_zones_move_with_the_print() -> None:
    for at in ((60, 90), (150, 200)):
        picture, box = with_label(qr(), at)
        (zone,) = moving_zones(picture)
        assert (zone.name, zone.treatment) == ("qr 1", "ignore")
        mask = zone.mask(SIZE)
        assert mask[box[0] : box[2], box[1] : box[3]].all()
        assert mask.sum() < 1.6 * (box[2] - box[0]) * (box[3] - box[1])


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        MissingExtraError, match="finding printed codes needs the package 'opencv-python-headless'"
    ):
        find_codes(metal())
