"""Heatmaps: the colours keep their order, and the part stays visible where nothing is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from andon.calibrate import calibrate, uncalibrated
from andon.errors import CalibrationError, ImageError, SettingsError
from andon.heatmap import colour_range, colourise, draw_regions, overlay, palette
from andon.types import Region

GREY = np.full((60, 90, 3), 120, np.uint8)


def spot(shape: tuple[int, int] = (20, 30), height: float = 2.0) -> NDArray[np.float32]:
    """Zero but for a block of ``height`` in rows 8 to 11, columns 10 to 19."""
    field = np.zeros(shape, np.float32)
    field[8:12, 10:20] = height
    return field


def region(box: tuple[int, int, int, int], peak: tuple[int, int]) -> Region:
    return Region(box=box, area=10, area_fraction=0.1, peak=2.0, peak_position=peak)


def luminance(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE lightness L* of sRGB colours (n, 3)."""
    linear = ((colours / 255 + 0.055) / 1.055) ** 2.4
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(y) - 16


def test_the_palette_grows_lighter_throughout() -> None:
    """So that the order is seen by the colour-blind and on a grey print."""
    steps = np.diff(luminance(palette()))
    assert palette().shape == (256, 3)
    assert steps.min() > -0.25  # rounding to 8 bits
    assert np.diff(luminance(palette())[::8]).min() > 0.5
    assert luminance(palette())[-1] - luminance(palette())[0] > 60


def test_the_palette_differs_for_red_green_colour_blindness() -> None:
    """Steps of an eighth remain apart when red and green are one (deuteranopia, Vienot et al. 1999)."""
    linear = (palette()[::32] / 255.0) ** 2.2
    seen = linear @ np.array([[0.29275, 0.29275, -0.02234], [0.70725, 0.70725, 0.02234], [0, 0, 1.0]])
    encoded = 255 * np.clip(seen, 0, 1) ** (1 / 2.2)
    assert np.abs(np.diff(encoded, axis=0)).max(axis=1).min() > 15


def test_the_palette_cannot_be_spoiled() -> None:
    with pytest.raises(ValueError, match="read-only"):
        palette()[0] = 0


def test_colourise_maps_the_scale_and_clips() -> None:
    picture = colourise(np.array([[-9.0, 1.0, 2.0, 3.0, 99.0]]), 1.0, 3.0)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 5, 3)
    assert picture[0].tolist() == palette()[[0, 0, 128, 255, 255]].tolist()


def test_equal_values_have_equal_colours_in_every_picture() -> None:
    """The scale is the detector's, not the picture's own."""
    one, other = spot(height=2.0), spot(height=9.0)
    other[0, 0] = 2.0
    assert (colourise(one, 1, 3)[9, 12] == colourise(other, 1, 3)[0, 0]).all()


def test_overlay_leaves_the_part_alone_at_low_and_below() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    kept = pixels.copy()
    field = spot()
    field[0, :] = 1.0  # exactly at low
    picture = overlay(pixels, field, 1.0, 3.0)
    inside = field > 1.0
    assert (picture[~inside] == pixels[~inside]).all()
    assert (picture[inside] != pixels[inside]).any(axis=-1).all()
    assert (pixels == kept).all()
    assert (overlay(pixels, np.zeros((5, 5)), 1.0, 3.0) == pixels).all()


def test_overlay_blends_by_alpha() -> None:
    field = spot((60, 90))
    assert (overlay(GREY, field, 1.0, 3.0, alpha=0.0) == GREY).all()
    assert (overlay(GREY, field, 1.0, 3.0, alpha=1.0)[9, 12] == palette()[128]).all()
    half = overlay(GREY, field, 1.0, 3.0, alpha=0.5)[9, 12]
    assert half.tolist() == np.rint(0.5 * 120 + 0.5 * palette()[128].astype(float)).tolist()


def test_overlay_fades_in() -> None:
    """Just above low the picture hardly changes: no hard edge where there is no strong deviation."""
    ramp = np.linspace(0.9, 1.4, 90, dtype=np.float32)[None].repeat(60, axis=0)
    change = np.abs(overlay(GREY, ramp, 1.0, 3.0).astype(int) - GREY).max(axis=-1)[0]
    assert change.max() > 30
    assert np.diff(change).max() < 8


def test_overlay_puts_the_map_where_it_belongs() -> None:
    """A map of another size, and not square, covers the whole photograph."""
    shown = (overlay(GREY, spot(), 1.0, 3.0) != GREY).any(axis=-1)
    rows, columns = np.nonzero(shown)
    assert rows.mean() == pytest.approx(29.5, abs=0.5)  # rows 24 to 35 of 60
    assert columns.mean() == pytest.approx(44.5, abs=0.5)  # columns 30 to 59 of 90
    assert shown[24:36, 30:60].mean() > 0.8
    assert shown.sum() < 1.3 * 12 * 30


def test_draw_regions_frames_without_covering() -> None:
    box = (20, 30, 40, 60)
    picture = draw_regions(GREY, [region(box, (30, 45))])
    changed = (picture != GREY).any(axis=-1)
    assert (picture[30, 45] == 255).all()  # the peak
    inner = changed[20:40, 30:60].copy()
    inner[6:15, 11:20] = False  # the cross
    assert not inner.any()
    assert {tuple(colour) for colour in picture[changed].tolist()} == {(0, 0, 0), (255, 255, 255)}
    assert (picture[19, 30:60] == 0).all()
    assert (picture[18, 30:60] == 255).all()
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 43, 26, 63)  # 4 pixels on each side


@pytest.mark.parametrize("box", [(0, 0, 60, 90), (0, 0, 1, 1), (59, 89, 60, 90), (0, 40, 60, 41)])
def test_draw_regions_at_the_borders(box: tuple[int, int, int, int]) -> None:
    picture = draw_regions(GREY, [region(box, (box[0], box[1]))] * 3, line_width=4)
    assert picture.shape == GREY.shape
    assert (picture != GREY).any()


def test_draw_regions_without_regions_is_a_copy() -> None:
    picture = draw_regions(GREY, [])
    assert (picture == GREY).all()
    picture[0] = 0
    assert GREY[0, 0, 0] == 120


def test_colour_range_is_the_detectors() -> None:
    assert colour_range(calibrate([1.0, 2.0])) == (1.5, 4.0)
    assert colour_range(calibrate([-3.0, -2.0])) == (-2.5, 0.0)
    assert colour_range(calibrate([0.0])) == (-0.25, 1.0)
    with pytest.raises(CalibrationError, match="there is no map threshold to scale colours by: calibrate"):
        colour_range(uncalibrated())


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ImageError, match=re.escape("anomaly_map: expected shape (h, w), got (1, 4, 4)")):
        colourise(np.zeros((1, 4, 4)), 0, 1)
    with pytest.raises(ImageError, match="anomaly_map: expected finite values, got nan or infinity"):
        overlay(GREY, np.full((4, 4), np.nan), 0, 1)
    with pytest.raises(ImageError, match=re.escape("pixels: expected (H, W, 3) uint8, got (4, 4) float64")):
        overlay(np.zeros((4, 4)), np.zeros((4, 4)), 0, 1)  # type: ignore[arg-type]
    for low, high in ((1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(SettingsError, match="low, high: expected finite numbers with low < high, got"):
            colourise(np.zeros((4, 4)), low, high)
        with pytest.raises(SettingsError, match="low, high"):
            overlay(GREY, np.zeros((4, 4)), low, high)
    with pytest.raises(SettingsError, match=re.escape("alpha: expected 0 (invisible) to 1 (opaque), got 2")):
        overlay(GREY, np.zeros((4, 4)), 0, 1, alpha=2)
    with pytest.raises(SettingsError, match="line_width: expected at least 1 pixel, got 0"):
        draw_regions(GREY, [], line_width=0)


def test_on_a_real_photograph(shared_data: Path) -> None:
    """The overlay keeps the good part as it is, and the defect's surroundings too."""
    path = sorted((shared_data / "mvtec_transistor" / "test" / "damaged_case").glob("*.png"))[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (overlay(pixels, np.full((32, 32), 0.4), 1.0, 2.0) == pixels).all()
    field = np.full((32, 32), 0.4, np.float32)
    field[4:10, 12:20] = 1.9
    shown = (overlay(pixels, field, 1.0, 2.0) != pixels).any(axis=-1)
    assert 0.03 < shown.mean() < 0.08  # 48 of 1,024 cells, with soft borders
