"""Preprocessing: the network's input, and the way of its maps back to the photograph."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError, SettingsError
from andon.image import Prepared, Preprocessing, decode, prepare, resize_map

MODES = ("stretch", "letterbox", "tiles")


def drawn(rows: int, columns: int) -> NDArray[np.uint8]:
    """A picture made of integers alone: slopes, a disc, and a fine pattern."""
    y, x = np.mgrid[0:rows, 0:columns]
    disc = ((y - rows // 2) ** 2 + (x - columns // 3) ** 2 < (min(rows, columns) // 4) ** 2) * 90
    planes = [(3 * y + disc) % 256, (2 * x + y) % 256, (x * y // 7) % 256]
    return np.stack(planes, axis=2).astype(np.uint8)


def canvas_position(prepared: Prepared) -> NDArray[np.float32]:
    """Each tile's rows and columns on the canvas as maps (N, h, w): row + 1000 * column."""
    rows, columns = prepared.images.shape[2:]
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return np.stack([y + top + 1000 * (x + left) for top in prepared.tops for left in prepared.lefts])


# --- settings ---------------------------------------------------------------------------------------------


def test_settings_survive_json() -> None:
    for mode in MODES:
        chosen = Preprocessing((256, 320), mode, white_level=4095, overlap=0.5, tile_scale=0.5)
        assert Preprocessing.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert Preprocessing.from_dict({"size": [64, 64]}) == Preprocessing(size=(64, 64))


SIDES = "size must be (rows, columns), each a multiple of 32 from 32 to 8192, got "


@pytest.mark.parametrize(("setting", "message"), [
    ({"size": [250, 256]}, SIDES + "[250, 256]"),
    ({"size": [16, 256]}, SIDES + "[16, 256]"),
    ({"size": [0, 256]}, SIDES + "[0, 256]"),
    ({"size": [-32, 256]}, SIDES + "[-32, 256]"),
    ({"size": [8224, 256]}, SIDES + "[8224, 256]"),
    ({"size": 256}, SIDES + "256"),
    ({"size": "64"}, SIDES + "'64'"),
    ({"size": [256.0, 256]}, SIDES + "[256.0, 256]"),
    ({"size": [256, 256, 3]}, SIDES + "[256, 256, 3]"),
    ({"size": [True, 256]}, SIDES + "[True, 256]"),
    ({"size": None}, SIDES + "None"),
    ({"resize": "crop"}, "resize must be one of stretch, letterbox, tiles, got 'crop'"),
    ({"resize": ["stretch"]}, "resize must be one of stretch, letterbox, tiles, got ['stretch']"),
    ({"white_level": 4095.0}, "white_level must be a whole number from 255 to 65535, got 4095.0"),
    ({"white_level": True}, "white_level must be a whole number from 255 to 65535, got True"),
    ({"overlap": 0.8}, "overlap must be a number from 0 to 0.75, got 0.8"),
    ({"overlap": float("nan")}, "overlap must be a number from 0 to 0.75, got nan"),
    ({"tile_scale": 0}, "tile_scale must be a number from 0.001 to 4, got 0"),
    ({"tile_scale": "1"}, "tile_scale must be a number from 0.001 to 4, got '1'"),
    ({"interpolation": "bicubic"}, "interpolation must be bilinear, got 'bicubic'"),
    ({"crop": 1}, "unknown preprocessing setting 'crop'; there are: size, resize, white_level, overlap, "
                  "tile_scale, interpolation"),
])  # fmt: skip
def test_settings_that_make_no_sense(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match="^" + re.escape(message) + "$"):
        Preprocessing.from_dict({"size": [256, 256], **setting})


def test_settings_that_are_no_table() -> None:
    with pytest.raises(SettingsError, match="preprocessing must be a table of settings, got list"):
        Preprocessing.from_dict([1])  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="have no size"):
        Preprocessing.from_dict({"resize": "stretch"})


@pytest.mark.parametrize(("photos", "size"), [
    ([(900, 900)], (256, 256)),
    ([(400, 200)], (352, 192)),
    ([(200, 400)], (192, 352)),
    ([(1000, 750)] * 3 + [(10, 9000)], (288, 224)),
    ([(10, 20000)], (32, 2048)),
    ([(1, 1)], (256, 256)),
])  # fmt: skip
def test_size_for_photos(photos: list[tuple[int, int]], size: tuple[int, int]) -> None:
    assert Preprocessing.for_photos(photos) == Preprocessing(size=size)


@given(st.integers(1, 30000), st.integers(1, 30000), st.sampled_from([128 * 128, 256 * 256, 512 * 512]))
def test_size_for_any_photo_is_near_the_area(rows: int, columns: int, area: int) -> None:
    size = Preprocessing.for_photos([(rows, columns)], area=area).size
    assert 0.6 < size[0] * size[1] / area < 1.6
    if 1 / 3 < rows / columns < 3:
        assert abs(np.log((size[0] / size[1]) / (rows / columns))) < 0.35  # within 32 pixels a side


def test_size_for_nothing() -> None:
    for photos in ([], [(0, 5)]):
        with pytest.raises(SettingsError, match="at least one photograph"):
            Preprocessing.for_photos(photos)
    with pytest.raises(SettingsError, match="multiple must be a multiple of 32"):
        Preprocessing.for_photos([(9, 9)], multiple=16)


# --- forwards ---------------------------------------------------------------------------------------------

GOLDEN = {  # SHA-256 of the float32 bytes, the same on every machine
    "stretch": "dfa18e392162f53718bee2385d121bdac52104a56564496048ffb0c7be8656d1",
    "letterbox": "149d6e01c8e8b05c59979322ab3cf3904b433d9ddb6e06b49f624243f5900053",
    "tiles": "ed24ba9d118998bcc38cb01327f6817572c44261de22958fdad3174ea19e9552",
}


@pytest.mark.parametrize("mode", MODES)
def test_golden_bytes(mode: Any) -> None:
    buffer = io.BytesIO()
    Image.fromarray(drawn(150, 230)).save(buffer, "PNG")
    _, prepared = prepare(buffer.getvalue(), Preprocessing((96, 128), mode))
    assert hashlib.sha256(prepared.images.tobytes()).hexdigest() == GOLDEN[mode]


def test_scaling_against_torch() -> None:
    """Fixed-point bytes against floats: within one level of 255."""
    torch = pytest.importorskip("torch")
    pixels = drawn(150, 230)
    planes = torch.from_numpy(np.moveaxis(pixels, 2, 0).astype(np.float32) / 255)[None]
    expected = torch.nn.functional.interpolate(planes, size=(96, 128), mode="bilinear", antialias=True)[
        0
    ].numpy()
    images = Preprocessing((96, 128)).apply(pixels).images
    np.testing.assert_allclose(images[0], expected, atol=1.01 / 255)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "shape", [(150, 230), (230, 150), (64, 96), (1, 1), (3, 500), (10, 20000), (20000, 10)]
)
def test_every_shape_in_every_mode(mode: Any, shape: tuple[int, int]) -> None:
    pixels = drawn(*shape)
    prepared = Preprocessing((64, 96), mode).apply(pixels)
    assert prepared.images.shape[1:] == (3, 64, 96)
    assert prepared.images.dtype == np.float32
    assert prepared.images.flags.c_contiguous
    assert prepared.images.min() >= 0.0
    assert prepared.images.max() <= 1.0
    assert prepared.original_size == shape
    assert prepared.inspected == 1.0
    stitched = prepared.stitch(prepared.images[:, :1])
    assert stitched.ndim == 2
    assert stitched.dtype == np.float32
    if mode == "tiles":
        assert stitched.shape == shape


def test_bytes_are_divided_by_255() -> None:
    pixels = np.arange(32 * 32 * 3, dtype=np.int64).reshape(32, 32, 3).astype(np.uint8)
    for mode in MODES:
        images = Preprocessing((32, 32), mode).apply(pixels).images
        expected = (np.moveaxis(pixels, 2, 0).astype(np.float64) / 255).astype(np.float32)
        np.testing.assert_array_equal(images[0], expected)


def test_shrinking_skips_no_pixel() -> None:
    """A one-pixel scratch in a large photo still shows: the interpolation is widened."""
    pixels = np.zeros((2048, 2048, 3), np.uint8)
    pixels[:, 1001] = 255
    assert Preprocessing((256, 256)).apply(pixels).images.max() > 0.08


def test_letterbox_keeps_the_shape_and_repeats_the_edge() -> None:
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:25] = [200, 100, 0]
    prepared = Preprocessing((128, 128), "letterbox").apply(pixels)
    assert prepared.content == (48, 0, 80, 128)  # 50 x 200 -> 32 x 128, in the middle
    np.testing.assert_array_equal(prepared.images[0, 0, :60], np.float32(200 / 255))
    np.testing.assert_array_equal(prepared.images[0, 1, 68:], 0)


def test_tiles_are_the_photos_own_pixels_and_cover_it() -> None:
    pixels = drawn(150, 230)
    prepared = Preprocessing((64, 96), "tiles").apply(pixels)
    covered = np.zeros((150, 230), bool)
    corners = [(top, left) for top in prepared.tops for left in prepared.lefts]
    assert len(corners) == len(prepared.images) == 4 * 4
    for image, (top, left) in zip(prepared.images, corners, strict=True):
        expected = np.moveaxis(pixels[top : top + 64, left : left + 96], 2, 0) / np.float32(255)
        np.testing.assert_array_equal(image, expected)
        covered[top : top + 64, left : left + 96] = True
    assert covered.all()


@given(st.integers(1, 700), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]))
def test_neighbouring_tiles_share_the_overlap(length: int, overlap: float) -> None:
    prepared = Preprocessing((32, 64), "tiles", overlap=overlap).apply(np.zeros((5, length, 3), np.uint8))
    steps = np.diff(prepared.lefts)
    assert prepared.lefts[0] == 0
    assert prepared.lefts[-1] + 64 == max(length, 64)
    assert (steps <= np.floor(64 * (1 - overlap))).all()
    assert (steps > 0).all()


def test_tile_scale() -> None:
    prepared = Preprocessing((64, 64), "tiles", tile_scale=0.5).apply(drawn(256, 256))
    assert prepared.stitch(prepared.images[:, 0]).shape == (128, 128)


def test_too_large_a_canvas_is_refused_before_any_work() -> None:
    pixels = np.broadcast_to(np.zeros(3, np.uint8), (40000, 4000, 3))  # costs nothing to make
    message = re.escape(
        "a photo of 40000 rows and 4000 columns becomes 60000 x 6000 pixels before it is cut into tiles, more than "
        "160,000,000. Choose a tile_scale below 1.5, or resize='stretch'."
    )
    with pytest.raises(ImageError, match=message):
        Preprocessing((256, 256), "tiles", tile_scale=1.5).apply(pixels)


@pytest.mark.parametrize("pixels", [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8), [[[0, 0, 0]]],
])  # fmt: skip
def test_other_pixels_are_refused(pixels: Any) -> None:
    with pytest.raises(ImageError, match=r"pixels of shape \(rows, columns, 3\) uint8 expected, got "):
        Preprocessing().apply(pixels)


# --- back -------------------------------------------------------------------------------------------------


def test_stretch_gives_the_map_itself() -> None:
    prepared = Preprocessing((64, 96)).apply(drawn(150, 230))
    anomaly_map = np.random.default_rng(0).random((1, 1, 64, 96), np.float32)
    np.testing.assert_array_equal(prepared.stitch(anomaly_map), anomaly_map[0, 0])
    np.testing.assert_array_equal(prepared.stitch(anomaly_map[:, 0]), anomaly_map[0, 0])
    assert prepared.stitch(np.zeros((1, 16, 24))).shape == (16, 24)


def test_letterbox_cuts_the_padding_off() -> None:
    prepared = Preprocessing((128, 128), "letterbox").apply(drawn(50, 200))
    anomaly_map = np.full((1, 1, 128, 128), 9.0, np.float32)
    anomaly_map[:, :, 48:80] = 1.0
    stitched = prepared.stitch(anomaly_map)
    assert stitched.shape == (32, 128)
    assert stitched.max() == 1.0
    np.testing.assert_array_equal(prepared.stitch(anomaly_map[:, :, ::8, ::8]), 1.0)  # whole pixels still


def test_letterbox_between_the_pixels_of_a_coarse_map() -> None:
    """The padding ends inside a pixel of the map: the extent stays exactly that of the photograph."""
    prepared = Preprocessing((128, 128), "letterbox").apply(drawn(61, 128))
    assert prepared.content == (33, 0, 94, 128)
    rows = np.arange(16, dtype=np.float32) * 8 + 4  # the canvas row at the centre of each map row
    stitched = prepared.stitch(np.broadcast_to(rows[:, None], (1, 16, 16)))
    assert stitched.shape == (8, 16)
    centres = 33 + (np.arange(8) + 0.5) * 61 / 8
    np.testing.assert_allclose(stitched[1:-1, 3], centres[1:-1], atol=0.6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(MODES))
def test_a_defect_comes_back_where_it_was(rows: int, columns: int, mode: Any) -> None:
    """The photograph's own rows and columns, sent through as a map, come back at the same relative place."""
    prepared = Preprocessing((64, 96), mode).apply(np.zeros((rows, columns, 3), np.uint8))
    stitched = prepared.stitch(canvas_position(prepared))
    top, left, bottom, right = prepared.content
    y, x = np.mgrid[top:bottom, left:right]
    assert stitched.shape == (bottom - top, right - left)
    np.testing.assert_allclose(stitched, y + 1000.0 * x, rtol=1e-5, atol=1e-2)


def test_blending_against_a_plain_loop() -> None:
    prepared = Preprocessing((32, 64), "tiles", overlap=0.4).apply(drawn(77, 150))
    maps = np.random.default_rng(5).random((len(prepared.images), 32, 64)).astype(np.float32)
    corners = [(top, left) for top in prepared.tops for left in prepared.lefts]
    total, weights = np.zeros((77, 150)), np.zeros((77, 150))
    assert prepared.margin == 4  # three eighths of an overlap of 12

    def along(place: int, start: int, length: int, end: int) -> float:
        if not 4 <= place < length - 4:  # at the photograph's own border nobody else answers
            return float((place < 4 and start == 0) or (place >= length - 4 and start + length == end))
        return float(np.sin(np.pi * (place - 4 + 0.5) / (length - 8)) ** 2)

    for tile, (top, left) in zip(maps, corners, strict=True):
        for y in range(32):
            for x in range(64):
                weight = along(y, top, 32, 77) * along(x, left, 64, 150)
                total[top + y, left + x] += weight * tile[y, x]
                weights[top + y, left + x] += weight
    np.testing.assert_allclose(prepared.stitch(maps), total / weights, rtol=1e-5)


def test_coarse_tile_maps_are_brought_to_the_tiles_size() -> None:
    prepared = Preprocessing((32, 64), "tiles").apply(drawn(77, 150))
    np.testing.assert_allclose(
        prepared.stitch(np.ones((len(prepared.images), 4, 8))), np.ones((77, 150)), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 3, 8, 8), (8, 8), (1, 0, 8), (1,)])
def test_maps_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    prepared = Preprocessing((32, 32)).apply(drawn(32, 32))
    message = re.escape(f"anomaly maps of shape (1, 1, h, w) or (1, h, w) expected, got {shape} float64")
    with pytest.raises(ImageError, match=message):
        prepared.stitch(np.zeros(shape))


# --- resize_map -------------------------------------------------------------------------------------------


def test_enlarging_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    anomaly_map = np.random.default_rng(1).normal(size=(7, 11)).astype(np.float32)
    for size in ((14, 22), (50, 33), (7, 30), (200, 11)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(anomaly_map)[None, None], size=size, mode="bilinear", align_corners=False
        )[0, 0].numpy()
        np.testing.assert_allclose(resize_map(anomaly_map, size), expected, atol=2e-6)


def test_shrinking_equals_torch_antialiased() -> None:
    torch = pytest.importorskip("torch")
    anomaly_map = np.random.default_rng(2).random((64, 96)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(anomaly_map)[None, None], size=(20, 24), mode="bilinear", antialias=True
    )[0, 0].numpy()
    np.testing.assert_allclose(resize_map(anomaly_map, (20, 24)), expected, atol=2e-6)


def test_resize_map_keeps_raw_values_and_refuses_other_shapes() -> None:
    raw = np.array([[-1e6, 3.5e5]], np.float64)
    assert resize_map(raw, (1, 2)).tolist() == [[-1e6, 3.5e5]]
    assert resize_map(raw, (3, 2)).dtype == np.float32
    for bad in (np.zeros((1, 4, 4)), np.zeros((0, 4)), np.array([["a"]])):
        with pytest.raises(ImageError, match=r"an anomaly map of shape \(h, w\) expected, got"):
            resize_map(bad, (8, 8))
    for size in ((0, 8), (8,), (8.5, 8)):
        with pytest.raises(SettingsError, match=r"size must be \(rows, columns\), each at least 1"):
            resize_map(raw, size)  # type: ignore[arg-type]


# --- real photographs -------------------------------------------------------------------------------------


def test_real_photographs(shared_data: Any) -> None:
    files = sorted((shared_data / "magnetic_tile" / "test" / "good").iterdir())[:6]
    assert files
    chosen = Preprocessing.for_photos([decode(path).pixels.shape[:2] for path in files])
    for mode in MODES:
        for path in files:
            photo, prepared = prepare(path, replace(chosen, resize=mode))
            assert photo.notes == ()
            assert 0.1 < prepared.images.mean() < 0.9
            assert (
                prepared.stitch(prepared.images[:, :1]).shape
                == prepared.stitch(prepared.images[:, 1:2]).shape
            )


def test_an_input_too_large_for_one_network_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="size 4096x2048 has more than 4,194,304 pixels, too many .* 'tiles'"
    ):
        Preprocessing(size=(4096, 2048))
    assert Preprocessing(size=(2048, 2048)).size == (2048, 2048)
