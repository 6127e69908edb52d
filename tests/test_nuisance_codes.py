"""Printed codes: drawn ones are found where they are, whole, and what is no code is none."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import zxingcpp
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from andon.errors import MissingExtraError, SettingsError
from andon.nuisance.codes import Code, Kind, find_codes
from andon.nuisance.zones import polygon_mask

SIZE = (360, 480)
Pixels = NDArray[np.uint8]
FORMATS = {
    "qr": zxingcpp.BarcodeFormat.QRCode,
    "datamatrix": zxingcpp.BarcodeFormat.DataMatrix,
    "aztec": zxingcpp.BarcodeFormat.Aztec,
    "barcode": zxingcpp.BarcodeFormat.Code128,
}


def metal(seed: int = 0) -> Pixels:
    """A brushed plate with a round hole (H, W, 3)."""
    rng = np.random.default_rng(seed)
    brushed = ndimage.gaussian_filter(rng.normal(0, 40, SIZE), (1, 25)) + 130
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    brushed[np.hypot(y - 290, x - 400) < 40] = 30
    return np.clip(ndimage.gaussian_filter(brushed, 0.8), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def ink_of(kind: Kind, digits: str = "48210733", module: int = 3) -> Pixels:
    """The code alone (h, w), 0 ink and 255 ground."""
    ink = np.asarray(
        zxingcpp.create_barcode(digits, FORMATS[kind]).to_image(scale=module, add_quiet_zones=False)
    )
    ink = ink.reshape(ink.shape[0], ink.shape[1])
    return np.tile(ink[:1], (20 * module, 1)) if kind == "barcode" else ink


def labelled(
    ink: Pixels, centre: tuple[int, int] = (160, 210), turn: float = 0.0
) -> tuple[Pixels, NDArray[np.bool_]]:
    """The plate with ``ink`` on a light label there, turned anti-clockwise, and where the ink is (H, W)."""
    plate = np.pad(np.where(ink > 127, 225, 45).astype(np.uint8), 30, constant_values=225)
    inner = np.pad(np.full(ink.shape, 255, np.uint8), 30)
    canvas, where = Image.fromarray(metal()), Image.new("L", SIZE[::-1])
    label, shape, printed = (
        Image.fromarray(part).rotate(turn, Image.Resampling.BICUBIC, expand=True)
        for part in (plate, np.full_like(plate, 255), inner)
    )
    corner = centre[1] - label.width // 2, centre[0] - label.height // 2
    canvas.paste(label.convert("RGB"), corner, shape)
    where.paste(printed, corner)
    return np.asarray(canvas), np.asarray(where) > 127


def overlap(code: Code, where: NDArray[np.bool_]) -> float:
    """Intersection over union of the code's corners and the ink."""
    found = polygon_mask(code.corners, SIZE)
    return float((found & where).sum() / (found | where).sum())


@pytest.mark.parametrize("kind", list(FORMATS))
@pytest.mark.parametrize("turn", [0.0, 7.0, -12.0, 180.0])
def test_a_code_is_found_whole(kind: Kind, turn: float) -> None:
    picture, where = labelled(ink_of(kind), turn=turn)
    (code,) = find_codes(picture)
    assert code.kind == kind
    assert overlap(code, where) > 0.9


@pytest.mark.parametrize(("turn", "side"), [(0.0, 1), (180.0, -1), (90.0, 0)])
def test_what_is_around_turns_with_the_code(turn: float, side: int) -> None:
    """What is said to lie below a code lies above it on a label that is upside down."""
    for kind in ("datamatrix", "barcode"):
        picture, where = labelled(ink_of(kind), turn=turn)  # type: ignore[arg-type]
        (code,) = find_codes(picture)
        wider = polygon_mask(code.outline((0, 0, 1, 0)), SIZE)
        moved = np.argwhere(wider).mean(0) - np.argwhere(where).mean(0)
        assert np.sign(round(moved[0] / 5)) == side, kind


def test_bar_codes_end_where_their_bars_do() -> None:
    """Not with the digits printed below them, nor at the first scratch."""
    picture, where = labelled(ink_of("barcode"))
    scratched = picture.copy()
    scratched[150:152] = 255
    (code,) = find_codes(scratched, ("barcode",))
    assert overlap(code, where) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_printed_on_metal(seed: int) -> None:
    assert find_codes(metal(seed)) == []


def test_stripes_are_no_code() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        stripes = np.repeat(rng.random(160) > 0.5, rng.integers(1, 5, 160))[: SIZE[1]] * 200
        picture = np.full((*SIZE, 3), 220, np.uint8)
        picture[100:200, : len(stripes)] = stripes.astype(np.uint8)[:, None]
        assert find_codes(picture) == []


def test_a_code_that_a_scratch_destroys_is_none() -> None:
    picture, where = labelled(ink_of("datamatrix"))
    rows = np.flatnonzero(where.any(1))
    torn = picture.copy()
    torn[rows[0] + 8 : rows[-1] - 8] = 30
    assert find_codes(torn) == []


def test_only_the_kinds_asked_for() -> None:
    picture, _ = labelled(ink_of("qr"))
    assert find_codes(picture, ("barcode", "datamatrix")) == []
    with pytest.raises(SettingsError, match="kinds: qr, datamatrix, aztec, barcode expected, got dots"):
        find_codes(picture, ("dots",))  # type: ignore[arg-type]


def test_without_zxing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(
        MissingExtraError, match=r"reading printed codes needs the package 'zxing-cpp'.*andon\[nuisance\]"
    ):
        find_codes(metal())
