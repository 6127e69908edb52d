"""Gradient noise and blobs: against the definition point by point."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from andon.errors import SettingsError
from andon.features.perlin import blob_mask, perlin


def noise_at(y: float, x: float, angle: np.ndarray) -> float:
    """Perlin's own way: four corners' dot products, faded and interpolated, one point."""
    k, l = min(int(y), angle.shape[0] - 2), min(int(x), angle.shape[1] - 2)  # noqa: E741

    def dot(i: int, j: int) -> float:
        return math.sin(angle[i, j]) * (y - i) + math.cos(angle[i, j]) * (x - j)

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    u, v = fade(y - k), fade(x - l)
    top = dot(k, l) + v * (dot(k, l + 1) - dot(k, l))
    bottom = dot(k + 1, l) + v * (dot(k + 1, l + 1) - dot(k + 1, l))
    return math.sqrt(2) * (top + u * (bottom - top))


@pytest.mark.parametrize(("size", "cells"), [((16, 16), (4, 4)), ((17, 30), (3, 8)), ((5, 9), (5, 1))])
def test_is_the_definition_point_by_point(size: tuple[int, int], cells: tuple[int, int]) -> None:
    angle = np.random.default_rng(7).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    noise = perlin(np.random.default_rng(7), size, cells)
    expected = [
        [
            noise_at((r + 0.5) * cells[0] / size[0], (c + 0.5) * cells[1] / size[1], angle)
            for c in range(size[1])
        ]
        for r in range(size[0])
    ]
    np.testing.assert_allclose(noise, expected, atol=2e-5)


def test_fills_about_minus_one_to_one_whatever_the_cells() -> None:
    rng = np.random.default_rng(0)
    for cells in ((1, 1), (4, 4), (2, 32), (32, 32)):
        drawn = np.stack([perlin(rng, (64, 64), cells) for _ in range(40)])
        assert drawn.dtype == np.float32
        assert abs(drawn).max() <= 1
        assert abs(drawn).max() > 0.6
        assert abs(drawn.mean()) < 0.05


def test_noise_as_fine_as_the_grid_is_not_zero() -> None:
    assert perlin(np.random.default_rng(0), (32, 32), (32, 32)).std() > 0.2


def test_the_same_generator_draws_the_same() -> None:
    first, again = (blob_mask(np.random.default_rng(3), (50, 70)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, blob_mask(np.random.default_rng(4), (50, 70)))


def test_masks_have_the_images_shape_and_cover_some_of_it() -> None:
    rng = np.random.default_rng(0)
    for size in ((256, 256), (64, 96), (33, 200), (8, 8), (1, 5)):
        assert blob_mask(rng, size).shape == size
    masks = np.stack([blob_mask(rng, (64, 64)) for _ in range(300)])
    assert masks.dtype == np.bool_
    assert 0.03 < masks.mean() < 0.2
    corner, middle = masks[:, :8, :8].mean(), masks[:, 28:36, 28:36].mean()
    assert 0.5 < corner / middle < 2  # defects are planted in the corners, too


def test_a_mask_is_blobs_not_specks() -> None:
    """Neighbouring pixels agree, along rows and columns, when the cells are coarse."""
    masks = np.stack([blob_mask(np.random.default_rng(i), (64, 64), exponents=(2, 2)) for i in range(20)])
    for axis in (1, 2):
        assert (np.diff(masks.astype(int), axis=axis) != 0).mean() < 0.05
    lower = np.stack([blob_mask(np.random.default_rng(i), (64, 64), threshold=0.2) for i in range(20)])
    higher = np.stack([blob_mask(np.random.default_rng(i), (64, 64), threshold=0.5) for i in range(20)])
    assert (higher <= lower).all()
    assert lower.mean() > 2 * higher.mean()


def test_turning_by_nothing_and_by_a_right_angle() -> None:
    from andon.features.perlin import _turned

    canvas = np.random.default_rng(0).random((9, 9)) > 0.5
    assert np.array_equal(_turned(canvas, (9, 9), 0.0), canvas)
    assert np.array_equal(_turned(canvas, (5, 7), 0.0), canvas[2:7, 1:8])
    right = _turned(canvas, (9, 9), math.pi / 2)
    assert np.array_equal(right, np.rot90(canvas)) or np.array_equal(right, np.rot90(canvas, -1))


def test_refuses_what_makes_no_sense() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match=r"size and cells must be at least 1 each, got size \(8, 0\)"):
        perlin(rng, (8, 0), (1, 1))
    with pytest.raises(SettingsError, match=r"exponents must be \(least, greatest\) .* got \(3, 2\)"):
        blob_mask(rng, (8, 8), exponents=(3, 2))


def test_is_quick() -> None:
    rng = np.random.default_rng(0)
    blob_mask(rng, (256, 256))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        blob_mask(rng, (256, 256))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02  # 1 to 2 ms; loose, for slow machines
