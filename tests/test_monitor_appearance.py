"""A photograph in seven numbers: each change moves its own number; positions against known ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from andon.data.synthetic import draw
from andon.errors import DataError
from andon.runtime.monitor.appearance import NAMES, appearance, displacement
from andon.runtime.monitor.reference import MANIFEST_KEY, PICTURED, Picture, Reference, ReferenceMaker

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return draw(3, size=(128, 160)).image


def dimmed(pixels: Pixels) -> Pixels:
    return np.rint(pixels * 0.8).astype(np.uint8)


def hazy(pixels: Pixels) -> Pixels:
    return np.rint(pixels * 0.8 + 0.2 * pixels.mean(axis=(0, 1))).astype(np.uint8)


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.0)))


def redder(pixels: Pixels) -> Pixels:
    return np.clip(np.rint(pixels * np.array([1.06, 0.97, 1.0])), 0, 255).astype(np.uint8)


def bluer(pixels: Pixels) -> Pixels:
    return np.clip(np.rint(pixels * np.array([0.98, 0.99, 1.1])), 0, 255).astype(np.uint8)


def lower(pixels: Pixels) -> Pixels:
    return np.pad(pixels, ((6, 0), (0, 0), (0, 0)), mode="edge")[:-6]


def to_the_right(pixels: Pixels) -> Pixels:
    return np.pad(pixels, ((0, 0), (8, 0), (0, 0)), mode="edge")[:, :-8]


@pytest.mark.parametrize(
    ("change", "name", "by"),
    [
        (dimmed, "brightness", np.log(0.8)),
        (hazy, "contrast", np.log(0.8)),
        (blurred, "sharpness", None),
        (redder, "red_green", None),
        (bluer, "blue_yellow", None),
        (lower, "down", 6 / 128),
        (to_the_right, "right", 8 / 160),
    ],
)
def test_each_change_has_its_number(
    pixels: Pixels, change: Callable[[Pixels], Pixels], name: str, by: float | None
) -> None:
    reference = appearance(pixels)[1]
    before = appearance(pixels, reference)[0]
    after = appearance(change(pixels), reference)[0]
    moved = {key: after[key] - before[key] for key in NAMES}
    if by is not None:
        assert moved[name] == pytest.approx(by, rel=0.08)
    scene = {"brightness", "contrast", "sharpness"}  # what a move brings into view, and what goes
    along = {"contrast": {"sharpness"}, "down": scene, "right": scene}  # haze takes edges, too
    allowed = {name} | along.get(name, set())
    others = {key: abs(value) for key, value in moved.items() if key not in allowed}
    assert abs(moved[name]) > 0.03
    assert max(others.values()) < 0.5 * abs(moved[name])


@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_picture_has_numbers(level: int) -> None:
    flat = np.full((2, 5, 3), level, np.uint8)
    numbers, grey = appearance(flat, appearance(flat)[1])
    assert set(numbers) == set(NAMES)
    assert np.isfinite(list(numbers.values())).all()
    assert (numbers["down"], numbers["right"]) == (0, 0)


def test_displacements_that_are_known() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.random((20, 20)).astype(np.float32)).resize(
        (160, 160), Image.Resampling.BICUBIC
    )
    large = np.asarray(coarse, np.float32) * 200
    for down, right in [(0, 0), (3, -5), (-7, 2)]:
        first, second = large[40:104, 40:104], large[40 - down : 104 - down, 40 - right : 104 - right]
        assert displacement(first, second) == pytest.approx((down, right), rel=0.15, abs=0.1)


def test_a_picture_is_complete_when_it_is_complete() -> None:
    picture = Picture()
    for level in range(PICTURED + 5):
        assert (picture.grey() is None) == (level < PICTURED)
        picture.learn(np.full((64, 64), level, np.float32))
    grey = picture.grey()
    assert grey is not None
    assert grey[0, 0] == np.mean(range(PICTURED))
    again = Picture.from_dict(picture.to_dict())
    assert np.array_equal(again.total, picture.total)
    assert again.count == picture.count


def test_a_reference_in_a_manifest() -> None:
    reference = Reference({name: [0.5, 0.25] for name in NAMES}, Picture())
    found = Reference.from_manifest({MANIFEST_KEY: reference.to_dict()})
    assert found is not None
    assert found.values == reference.values
    assert Reference.from_manifest({}) is None
    assert ReferenceMaker.from_manifest({}).manifest_entry() == {}
    with pytest.raises(DataError, match="record of how good photographs look is damaged"):
        Reference.from_manifest({MANIFEST_KEY: {"values": {}}})
