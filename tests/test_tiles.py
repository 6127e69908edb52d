"""Photographs in tiles: made a few at a time, and stitched as their answers come, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from andon.heatmap import overlay
from andon.image import Prepared, Preprocessing
from andon.image.samples import rgb_in_bands
from andon.image.tiles import ALIGNED, tile_offsets, tile_weights
from andon.runtime.answer import Answer, gather

TILED = Preprocessing((64, 96), "tiles", overlap=0.25)
SIZE = (160, 288)  # of the photographs here, 4 x 4 tiles
SPOT = (slice(120, 128), slice(230, 238))


def textured(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A striped plate with a little noise and light of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    stripes = 120 + 30 * np.sin(2 * np.pi * (y + 2 * x) / 16)
    plate = stripes * rng.uniform(0.97, 1.03) + rng.normal(0, 3, size)
    return np.repeat(plate.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def spotted(seed: int) -> NDArray[np.uint8]:
    """The plate with a bright spot of 8 pixels."""
    pixels = textured(seed)
    pixels[SPOT] = 250
    return pixels


# --- tiles and mosaics --------------------------------------------------------------------------------------


def test_a_few_tiles_at_a_time_are_the_tiles() -> None:
    pixels = textured(0)
    prepared = TILED.apply(pixels)
    assert prepared.canvas is pixels  # no copy of the photograph
    parts = list(prepared.tiles.batches(3))
    assert {len(part) for part in parts[:-1]} == {3}
    np.testing.assert_array_equal(np.concatenate(parts), prepared.images)
    np.testing.assert_array_equal(np.concatenate(list(prepared.batches())), prepared.images)


@pytest.mark.parametrize("sizes", [(1,) * 16, (5, 6, 5), (16,)])
def test_laid_down_bit_by_bit_is_laid_down_at_once(sizes: tuple[int, ...]) -> None:
    prepared = TILED.apply(textured(0))
    assert prepared.count == 16
    maps = np.random.default_rng(1).random((16, 1, 64, 96), np.float32)
    stitcher, first = prepared.stitcher(), 0
    for size in sizes:
        stitcher.add(maps[first : first + size])
        first += size
    np.testing.assert_array_equal(stitcher.picture[0], prepared.stitch(maps))


def whole_canvas(prepared: Prepared, maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """The blend written out on the whole canvas, in float64."""
    height, width = prepared.size
    canvas = np.zeros((prepared.tops[-1] + height, prepared.lefts[-1] + width))
    down = tile_weights(prepared.tops, height, prepared.margin)
    across = tile_weights(prepared.lefts, width, prepared.margin)
    for number, values in enumerate(maps):
        top, left = prepared.corner(number)
        row, column = divmod(number, len(prepared.lefts))
        canvas[top : top + height, left : left + width] += values * np.outer(down[row], across[column])
    top, left, bottom, right = prepared.content
    return canvas[top:bottom, left:right]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 260), st.integers(97, 400), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_bands_against_the_whole_canvas(rows: int, columns: int, overlap: float) -> None:
    prepared = Preprocessing((64, 96), "tiles", overlap=overlap).apply(np.zeros((rows, columns, 3), np.uint8))
    maps = np.random.default_rng(rows).normal(size=(prepared.count, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(prepared.stitch(maps), whole_canvas(prepared, maps), atol=1e-5)


def test_pictures_are_stitched_as_bytes() -> None:
    """A reconstruction that is the photograph itself comes back as the photograph."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    for preprocessing in (TILED, Preprocessing((192, 320), "letterbox"), Preprocessing((192, 320))):
        prepared = preprocessing.apply(pixels)
        stitcher = prepared.stitcher(3, as_bytes=True)
        for images in prepared.batches():
            stitcher.add(images)
        top, left, bottom, right = prepared.content
        seen = prepared.canvas[top:bottom, left:right]
        np.testing.assert_array_equal(np.moveaxis(stitcher.picture, 0, 2), seen)


@given(
    st.integers(1, 5000), st.sampled_from([32, 64, 256, 512]), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75])
)
def test_tiles_cover_and_overlap_and_keep_to_the_grid(length: int, tile: int, overlap: float) -> None:
    starts = tile_offsets(length, tile, overlap)
    reach = int(tile * (1 - overlap))
    assert starts[0] == 0
    assert starts[-1] == max(length - tile, 0)
    assert all(0 < step <= reach for step in np.diff(starts))
    if reach >= ALIGNED:
        assert all(start % ALIGNED == 0 for start in starts[:-1])


@pytest.mark.parametrize(("overlap", "margin"), [(0.0, 0), (0.25, 24), (0.5, 48)])
def test_weights_sum_to_one_and_leave_borders_to_neighbours(overlap: float, margin: int) -> None:
    prepared = Preprocessing((256, 256), "tiles", overlap=overlap).apply(np.zeros((256, 1000, 3), np.uint8))
    assert prepared.margin == margin
    weights = tile_weights(prepared.lefts, 256, margin)
    total = np.zeros(1000)
    for start, weight in zip(prepared.lefts, weights, strict=True):
        total[start : start + 256] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert weights[0][0] == pytest.approx(1)  # the photograph's border has no neighbour
    assert weights[-1][-1] == pytest.approx(1)
    assert not weights[1][:margin].any()
    assert not weights[0][256 - margin :].any()


def test_two_tiles_that_agree_leave_no_seam() -> None:
    """A map that depends on the place on the canvas alone comes back without a step at any tile's border."""
    prepared = Preprocessing((64, 96), "tiles").apply(np.zeros((*SIZE, 3), np.uint8))
    field = np.sin(np.arange(SIZE[0]) / 9)[:, None] * np.cos(np.arange(SIZE[1]) / 7)
    maps = [field[top : top + 64, left : left + 96] for top in prepared.tops for left in prepared.lefts]
    np.testing.assert_allclose(prepared.stitch(np.stack(maps)), field, atol=1e-6)


# --- memory -------------------------------------------------------------------------------------------------


def means(images: NDArray[np.float32]) -> Answer:
    """An answer as large as a graph's: a map, a reconstruction."""
    maps = images.mean(axis=1)
    return Answer(maps, maps.max(axis=(1, 2)), None, images)


def peak_of(job: Callable[[], Any]) -> int:
    """Bytes that ``job`` takes besides what is there."""
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_tiles() -> None:
    """Besides the answers that are asked for, map and picture, eight times the photograph takes no more."""
    taken = []
    for rows in (512, 4096):
        prepared = Preprocessing((128, 128), "tiles").apply(np.zeros((rows, 512, 3), np.uint8))
        peak = peak_of(lambda prepared=prepared: gather(prepared, means, reconstructs=True))  # type: ignore[misc]
        answers = (
            rows * 512 * (4 + 2 * 3)
        )  # the map as floats; the picture as bytes, and once more channels last
        taken.append(peak - answers)
    assert taken[1] < taken[0] + 500_000
    assert taken[1] < 8_000_000  # all tiles and their answers: more than 80


def test_decoding_copies_a_large_photograph_once() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 1000, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    assert peak_of(lambda: rgb_in_bands(image)) < 1.8 * pixels.nbytes  # np.asarray takes twice as much
    np.testing.assert_array_equal(rgb_in_bands(image), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB"])
def test_bands_of_any_mode_are_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("andon.image.samples.BAND", 1000)
    image = Image.fromarray(textured(1)).convert(mode)
    np.testing.assert_array_equal(rgb_in_bands(image), np.asarray(image.convert("RGB")))


def test_a_heatmap_is_coloured_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    field = np.random.default_rng(0).random(SIZE).astype(np.float32)
    expected = overlay(textured(0), field, 0.3, 0.8)
    monkeypatch.setattr("andon.heatmap._BAND", 1000)
    np.testing.assert_array_equal(overlay(textured(0), field, 0.3, 0.8), expected)
