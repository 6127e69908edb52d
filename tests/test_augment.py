"""Varied images: what each kind does, that draws depend on nothing else, and real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from andon.data import augment
from andon.data.augment import KINDS, Augmentation
from andon.errors import SettingsError


def picture(size: tuple[int, int] = (40, 60), seed: int = 0) -> augment.Picture:
    """Smooth enough that turning it loses little."""
    noise = np.random.default_rng(seed).random((3, *size))
    return np.float32(0.2 + 0.6 * np.stack([ndimage.gaussian_filter(c, 3, mode="reflect") for c in noise]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", list(KINDS))
@given(seed=st.integers(0, 10**6), height=st.integers(1, 24), width=st.integers(1, 24))
@settings(max_examples=20, deadline=None)
def test_an_image_stays_one(kind: str, seed: int, height: int, width: int) -> None:
    image = rng(seed).random((3, height, width), dtype=np.float32)
    before = image.copy()
    varied = Augmentation((kind,))(image, seed=seed, epoch=1, number=2)
    assert varied.shape == image.shape
    assert varied.dtype == np.float32
    assert varied.flags["C_CONTIGUOUS"]
    assert 0 <= varied.min() <= varied.max() <= 1
    assert np.array_equal(image, before)


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_is_applied_to_half_of_the_images(kind: str) -> None:
    image, varied = picture((8, 12)), Augmentation((kind,))
    changed = [
        not np.array_equal(varied(image, seed=0, epoch=e, number=n), image)
        for e in range(20)
        for n in range(20)
    ]
    assert np.mean(changed) == pytest.approx(0.5, abs=0.1)


def test_a_draw_depends_on_seed_epoch_image_and_tile_alone() -> None:
    image, varied = picture(), Augmentation(("noise",))
    keys = [(s, e, n, t) for s in range(3) for e in range(3) for n in range(3) for t in range(3)]
    first = [varied(image, seed=s, epoch=e, number=n, tile=t) for s, e, n, t in keys]
    again = [varied(image, seed=s, epoch=e, number=n, tile=t) for s, e, n, t in reversed(keys)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    different = {array.tobytes() for array in first} - {image.tobytes()}
    assert len(different) > 0.3 * len(keys)


def test_another_kind_does_not_change_what_a_kind_draws() -> None:
    """Mirroring twice undoes it: what is left is the same noise."""
    image = picture()
    for number in range(6):
        alone = Augmentation(("flip",))(image, seed=0, epoch=0, number=number)
        both = Augmentation(("flip", "noise"))(image, seed=0, epoch=0, number=number)
        noise = Augmentation(("noise",))(image, seed=0, epoch=0, number=number)
        np.testing.assert_allclose(both - alone, noise - image, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (5, 90)])
@pytest.mark.parametrize("degrees", [-15.0, -4.0, 0.0, 15.0])
def test_rotation_against_scipy_with_reflected_borders(size: tuple[int, int], degrees: float) -> None:
    class Fixed:
        def uniform(self, low: float, high: float) -> float:
            assert (low, high) == (-15, 15)
            return degrees

    image = picture(size)
    turned = augment.rotation(image, Fixed())  # type: ignore[arg-type]
    expected = np.stack([ndimage.rotate(c, degrees, reshape=False, order=3, mode="reflect") for c in image])
    np.testing.assert_allclose(turned, expected, atol=0.02)
    assert np.abs(turned - expected).mean() < 0.002


def test_a_rotated_image_has_no_dark_corners() -> None:
    white = np.full((3, 30, 50), 0.9, np.float32)
    for seed in range(20):
        assert augment.rotation(white, rng(seed)).min() > 0.89


def test_noise_has_the_variance_of_the_study() -> None:
    grey = np.full((3, 64, 64), 0.5, np.float32)
    variances = [(255 * (augment.noise(grey, rng(seed)) - grey)).var() for seed in range(300)]
    assert 9 < min(variances) < 20
    assert 110 < max(variances) < 124
    assert np.mean(variances) == pytest.approx(65, abs=6)
    moved = augment.noise(grey, rng(1)) - grey
    assert abs(np.corrcoef(moved[0].ravel(), moved[1].ravel())[0, 1]) < 0.05  # channels are independent


def test_flips_and_crops() -> None:
    image = picture()
    assert np.array_equal(augment.flip(image, rng()), image[:, :, ::-1])
    assert np.array_equal(augment.flip_vertical(image, rng()), image[:, ::-1])
    rows = np.broadcast_to(np.linspace(0, 1, 60, dtype=np.float32), (3, 40, 60))
    for seed in range(10):
        slope = np.diff(augment.crop(rows, rng(seed))[0, 20, 5:-5]).mean() * 59
        assert 0.85 - 0.02 <= slope <= 1.0 + 0.02  # enlarged by at most 1 / 0.85


def test_light_keeps_dark_dark() -> None:
    image = picture()
    for seed in range(50):
        lit = augment.light(image, rng(seed))
        assert 0.84 < lit.mean() / image.mean() < 1.16
        assert 0.75 < lit.std() / image.std() < 1.27


def test_text_names_the_kinds() -> None:
    assert Augmentation.parse("") is None
    assert Augmentation.parse("study") == Augmentation(("rotation", "noise"))
    assert Augmentation.parse("noise,study, flip") == Augmentation(("flip", "rotation", "noise"))
    assert Augmentation(("rotation",)).described() == {
        "rotation": "within 15 degrees, borders reflected, probability 0.5"
    }
    with pytest.raises(
        SettingsError, match=r"^there is no augmentation 'rotate'\. Did you mean 'rotation'\? Give 'study'"
    ):
        Augmentation.parse("rotate,flip")


def test_tiles_are_varied_each_on_its_own() -> None:
    tiles = np.stack([picture()] * 8)
    varied = Augmentation(("noise", "flip"))
    found = varied.tiles(tiles, seed=0, epoch=0, number=0)
    assert found.shape == tiles.shape
    assert len({tile.tobytes() for tile in found}) > 2
    assert np.array_equal(found[3], varied(tiles[3], seed=0, epoch=0, number=0, tile=3))


def test_real_photographs_stay_recognisable(shared_data: Path) -> None:
    """Varied parts are still nearer to their own photograph, on a coarse grid, than a black or white picture is."""
    paths = sorted((shared_data / "mvtec_transistor" / "train" / "good").glob("*.png"))[:6]
    varied = Augmentation(tuple(kind for kind in KINDS if not kind.startswith("flip")))
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 255
        other = varied(image, seed=0, epoch=0, number=number)
        coarse = [a.reshape(3, 8, 32, 8, 32).mean((2, 4)) for a in (image, other)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 0.06
