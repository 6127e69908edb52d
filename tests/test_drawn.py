"""Drawn pictures: every scene is a picture, is repeatable, varies, and is reached."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest

from andon.features import drawn
from andon.features.drawn import SCENES, colour, draw_texture, layout, overlay, paint, printed

ONES = np.ones((32, 32), np.float32)


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [32, 97, 160])
def test_scene_is_a_picture_and_never_blank(name: str, size: int) -> None:
    for seed in range(6):
        picture = SCENES[name](seeded(seed), size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1.5, f"seed {seed}"
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, f"seed {seed}"


@pytest.mark.parametrize("name", SCENES)
def test_same_seed_same_pixels_and_others_differ(name: str) -> None:
    pictures = [SCENES[name](seeded(seed), 64) for seed in range(8)]
    for seed, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, SCENES[name](seeded(seed), 64))
    assert len({picture.tobytes() for picture in pictures}) == 8


@pytest.mark.parametrize("name", drawn._FIELDS)
def test_fields_are_finite_and_stay_float32(name: str) -> None:
    """A float64 that creeps in doubles the time."""
    for seed in range(10):
        field = drawn._FIELDS[name](seeded(seed), 48)
        assert field.dtype == np.float32
        assert np.isfinite(field).all()


def test_draw_texture_uses_every_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_names: Counter[str] = Counter()

    def counted(name: str, rng: np.random.Generator, size: int) -> drawn.Pixels:
        drawn_names[name] += 1
        return originals[name](rng, size)

    originals = dict(SCENES)
    monkeypatch.setattr(drawn, "SCENES", {name: partial(counted, name) for name in originals})
    for seed in range(200):
        draw_texture(seeded(seed), 32)
    assert set(drawn_names) == set(originals)
    assert max(drawn_names.values()) < 0.12 * sum(drawn_names.values())


@pytest.mark.parametrize("size", [32, 97, 160])
def test_draw_texture_is_repeatable(size: int) -> None:
    pictures = [draw_texture(seeded(seed), size) for seed in range(25)]
    for seed, picture in enumerate(pictures):
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, draw_texture(seeded(seed), size))
    assert len({picture.tobytes() for picture in pictures}) == 25


def test_half_of_the_palettes_are_grey_and_all_have_contrast() -> None:
    ramp = np.linspace(-3, 5, 1024, dtype=np.float32).reshape(32, 32)
    painted = [paint(seeded(seed), ramp).astype(int) for seed in range(400)]
    grey = sum(np.ptp(picture, axis=2).max() == 0 for picture in painted)
    assert 160 < grey < 240
    assert min(np.ptp(picture, axis=(0, 1)).max() for picture in painted) >= 20


def test_defects_change_a_part_of_the_picture() -> None:
    ground = printed.plain_ground(seeded(0), 96)
    changed = [(overlay.add_defect(seeded(seed), ground) != ground).any(axis=2).mean() for seed in range(60)]
    assert np.mean([0 < share < 0.5 for share in changed]) > 0.6
    assert np.mean([share > 0 for share in changed]) > 0.8


def test_gradient_noise_equals_perlins_sum_over_corners() -> None:
    """The product of matrices against the textbook's loop over pixels and their four corners."""
    size, cells = 20, 3.0
    got = layout.gradient_noise(seeded(4), size, cells, cells)
    rng = seeded(4)
    shift_y, shift_x = np.float32(rng.random()), np.float32(rng.random())
    a = rng.random((6, 6), dtype=np.float32) * 2 * np.pi
    for row in range(size):
        for column in range(size):
            y, x = row * cells / (size - 1) + shift_y, column * cells / (size - 1) + shift_x
            total = 0.0
            for j in (int(y), int(y) + 1):
                for i in (int(x), int(x) + 1):
                    t, s = 1 - abs(y - j), 1 - abs(x - i)
                    fade = (6 * t**5 - 15 * t**4 + 10 * t**3) * (6 * s**5 - 15 * s**4 + 10 * s**3)
                    total += fade * (np.cos(a[j, i]) * (x - i) + np.sin(a[j, i]) * (y - j))
            assert got[row, column] == pytest.approx(total, abs=1e-4)


def test_cellular_noise_equals_the_distance_to_all_points() -> None:
    u, v = np.meshgrid(
        np.linspace(0.2, 4.7, 40, dtype=np.float32), np.linspace(-2.3, 1.9, 40, dtype=np.float32)
    )
    first, second, owner = layout._cellular(seeded(1), u, v)
    rng = seeded(1)
    columns, rows = 7, 7  # cells 0 ... 6: one before and one after those that are touched
    jitter = rng.random((2, columns * rows), dtype=np.float32) * np.float32(rng.uniform(0.5, 1))
    points = np.stack([jitter[0] + np.arange(49) % columns, jitter[1] + np.arange(49) // columns], 1)
    places = np.stack([u - np.floor(u.min()) + 1, v - np.floor(v.min()) + 1], -1)
    distances = np.linalg.norm(places[:, :, None] - points, axis=-1)
    np.testing.assert_array_equal(owner, distances.argmin(-1))
    np.testing.assert_allclose(first, distances.min(-1), atol=1e-5)
    assert np.mean(np.isclose(second, np.sort(distances, axis=-1)[..., 1], atol=1e-5)) > 0.98


def test_smoothing_keeps_a_constant_and_relief_of_a_plane_is_even() -> None:
    np.testing.assert_allclose(colour.smooth(ONES, 2.0), ONES, atol=1e-5)
    plane = np.linspace(0, 1, 32, dtype=np.float32)[:, None] * ONES
    assert np.ptp(colour.relief(seeded(0), plane)) < 1e-4
