"""Where good parts differ: planted variation is found and nothing else, and the command writes what it proposes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from andon.cli.nuisance_learn import command, said
from andon.errors import DataError, SettingsError
from andon.nuisance import read_zones
from andon.nuisance.align import Aligner
from andon.nuisance.find import find_variation, spread_of

SIZE = (80, 120)
LABEL = (20, 60, 40, 100)  # top, left, bottom, right
Pixels = NDArray[np.uint8]


def part(seed: int, *, label: bool = True, light: float = 0, shift: int = 0) -> Pixels:
    """A plate with two holes (H, W, 3), with a printed number of its own on a label, and camera noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    drawn = 90 + 40 * x / SIZE[1] + light
    drawn[6:74, 8:112] += 60
    for column in (24, 44):
        drawn[np.hypot(y - 60, x - column) < 7] = 30 + light
    top, left, bottom, right = LABEL
    drawn[top:bottom, left:right] = 215 + light
    if label:
        bars = rng.random((5, 10)) > 0.5
        drawn[top:bottom, left:right] -= 170 * np.kron(bars, np.ones((4, 4)))
    drawn = ndimage.shift(drawn, (shift, -shift), mode="nearest", order=1)
    noisy = ndimage.gaussian_filter(drawn, 0.6) + rng.normal(0, 3, SIZE)
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def label_mask() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[LABEL[0] : LABEL[2], LABEL[1] : LABEL[3]] = True
    return mask


def test_the_planted_label_is_found_and_nothing_else() -> None:
    found = find_variation([part(k, light=4.0 * (k % 5)) for k in range(24)])
    assert found.finding == "some"
    (variation,) = found.variations
    assert overlap(variation.zone.mask(SIZE), label_mask()) > 0.85
    assert variation.share == pytest.approx(label_mask().mean(), rel=0.2)
    assert variation.times > 4
    assert variation.reason.startswith(f"{variation.share:.1%} of the image; good parts differ there by ")
    assert not found.lies_differently
    picture = found.overlay()
    assert picture.shape == (SIZE[0], 2 * SIZE[1], 3)
    red = picture[:, SIZE[1] :].astype(int) - part(0)
    assert (np.abs(red).sum(2)[label_mask()] > 0).mean() > 0.9


def test_nothing_stands_out_of_parts_that_are_alike() -> None:
    found = find_variation([part(k, label=False) for k in range(16)])
    assert (found.finding, found.variations, found.zones) == ("nothing", (), ())
    assert said(found, aligned=False) == [
        "No area stands out: nowhere do these 16 good parts differ 4 times as much as is typical of them."
    ]


def test_what_one_part_in_twelve_shows_is_no_variation() -> None:
    assert find_variation([part(k, label=k == 5) for k in range(24)]).finding == "nothing"


def test_parts_that_lie_differently_are_said_to() -> None:
    rng = np.random.default_rng(0)
    found = find_variation([part(k, label=False, shift=int(rng.integers(-4, 5))) for k in range(20)])
    assert found.lies_differently
    assert said(found, aligned=False)[-1].endswith("Try: --align")
    assert not said(found, aligned=True)[-1].endswith("Try: --align")


def test_a_small_part_that_lies_differently_is_said_to() -> None:
    """It is one area as a whole, as a label is; but its spread follows its edges."""
    images = []
    for k in range(20):
        rng = np.random.default_rng(k)
        row, column = rng.integers(-3, 4, 2)
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        distance = np.hypot(y - 40 - row, x - 60 - column)
        drawn = np.where(distance < 4, 40.0, np.where(distance < 14, 200.0, 90.0))
        noisy = ndimage.gaussian_filter(drawn, 0.6) + rng.normal(0, 3, SIZE)
        images.append(np.clip(noisy, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2))
    assert find_variation(images).lies_differently


def test_alignment_leaves_the_label_alone() -> None:
    rng = np.random.default_rng(1)
    images = [part(k, shift=int(rng.integers(-4, 5))) for k in range(24)]
    aligner = Aligner.fit(images, max_turn=0)
    before, after = find_variation(images), find_variation(images, aligner=aligner)
    assert before.follows_edges > after.follows_edges
    assert len(after.variations) == 1
    assert 0.6 < after.variations[0].share / label_mask().mean() < 1.5


def test_everything_differs_between_pictures_without_a_common_part() -> None:
    """Half of each picture is even, so that what is typical is small, and the rest is another every time."""
    rng = np.random.default_rng(3)
    images = []
    for _ in range(16):
        picture = np.full((*SIZE, 3), 100, np.uint8)
        picture[:, :55] = rng.integers(0, 255, (SIZE[0], 55, 3))
        images.append(picture)
    found = find_variation(images)
    assert (found.finding, found.zones) == ("everything", ())
    assert said(found, aligned=False)[0].startswith("Good parts differ nearly everywhere (4")


def test_the_spread_of_noise_is_its_deviation() -> None:
    rng = np.random.default_rng(0)
    stack = np.rint(rng.normal(128, 12, (400, 8, 9, 3))).clip(0, 255).astype(np.uint8)
    means = stack.mean(axis=(1, 2), keepdims=True)
    low, high = stats.scoreatpercentile(stack - means, [10, 90], axis=0)
    wanted = ((high - low) / 2.5631).max(axis=2)
    np.testing.assert_allclose(spread_of(stack, 0.0), wanted, atol=0.8)
    assert spread_of(stack, 0.0).mean() == pytest.approx(12, rel=0.15)


def test_settings() -> None:
    with pytest.raises(
        DataError, match="4 good images are too few to say where good parts differ: at least 8"
    ):
        find_variation([part(k) for k in range(4)])
    with pytest.raises(SettingsError, match="times > 1"):
        find_variation([part(0)], times=1)


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for k in range(16):
        Image.fromarray(part(k)).save(folder / f"{k:02}.png")
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [*map(str, arguments), "-q"], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def test_the_command_writes_zones_and_a_picture(good: Path, tmp_path: Path) -> None:
    zones, picture = tmp_path / "zones.json", tmp_path / "zones.png"
    status, output = run(good, "-o", zones, "--overlay", picture)
    assert status == 0
    assert f"proposed in {zones}: edit it, then pass it to andon fit --ignore {zones}" in output
    (zone,) = read_zones(zones)
    assert zone.name == "varies 1"
    assert overlap(zone.mask(SIZE), label_mask()) > 0.85
    assert Image.open(picture).size == (2 * SIZE[1], SIZE[0])


def test_the_command_writes_nothing_where_nothing_stands_out(good: Path, tmp_path: Path) -> None:
    zones = tmp_path / "zones.json"
    status, output = run(good, "-o", zones, "--times", 1000)
    assert (status, zones.exists()) == (1, False)
    assert "No area stands out" in output


def test_the_command_replaces_no_photograph(good: Path) -> None:
    with pytest.raises(SettingsError, match="--overlay must be the name of a new .png file"):
        run(good, "--overlay", good / "00.png")


def test_the_command_is_in_its_group() -> None:
    from andon.cli.nuisance import command as group

    assert group.commands["learn"] is command
