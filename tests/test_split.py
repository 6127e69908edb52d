"""Splits of nominal images: disjoint, repeatable, and nothing identical on both sides."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from andon.data.split import NominalSplit, split_nominal
from andon.errors import DataError, SettingsError
from andon.types import Sample


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def nominal(folder: Path, count: int, split: str = "train") -> list[Sample]:
    """Samples of distinct files."""
    return [
        Sample(write(folder / f"{split}{i:03}.png", f"{split} {i}"), split)  # type: ignore[arg-type]
        for i in range(count)
    ]


def sizes(split: NominalSplit) -> tuple[int, ...]:
    return tuple(len(part) for part in split)


def paths(split: NominalSplit) -> list[Path]:
    return [sample.path for part in split for sample in part]


def test_fractions_and_disjoint_sets(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 40) + nominal(tmp_path, 7, "test")
    split = split_nominal(samples, held_out=0.1, calibration=0.25)
    assert sizes(split) == (26, 4, 10, 7)
    assert sorted(paths(split)) == sorted(sample.path for sample in samples)


def test_every_set_keeps_the_order_of_the_samples(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 30)
    for part in split_nominal(samples, held_out=0.2):
        assert list(part) == sorted(part, key=lambda sample: sample.path)


def test_seed_and_order_of_input(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 30)
    shuffled = random.Random(1).sample(samples, 30)
    first, again, other = (split_nominal(samples, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert set(first.calibration) != set(other.calibration)
    assert set(split_nominal(shuffled, seed=3).calibration) == set(first.calibration)


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0, 0)), (2, (1, 0, 1, 0)), (4, (3, 0, 1, 0))])
def test_few_images(count: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    assert sizes(split_nominal(nominal(tmp_path, count))) == expected


def test_identical_files_stay_together(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 8)
    twins = [Sample(write(tmp_path / f"twin{i}.png", f"train {i % 8}"), "train") for i in range(24)]
    for seed in range(10):
        split = split_nominal(samples + twins, seed=seed, calibration=0.3, held_out=0.2)
        contents = [{sample.path.read_text() for sample in part} for part in split[:3]]
        assert not contents[0] & contents[1] | contents[0] & contents[2] | contents[1] & contents[2]
        assert len(paths(split)) == 32


def test_copies_of_test_images_are_left_out(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 8) + nominal(tmp_path, 3, "test")
    leak = Sample(write(tmp_path / "leak.png", "test 1"), "train")
    split = split_nominal([*samples, leak])
    assert leak not in split.train + split.calibration
    assert sizes(split) == (6, 0, 2, 3)


def test_training_on_the_test_images_is_refused(tmp_path: Path) -> None:
    test = nominal(tmp_path, 3, "test")
    same = [Sample(sample.path, "train") for sample in test]
    with pytest.raises(DataError, match="all 3 good training images are test images, too, byte for byte"):
        split_nominal(test + same)


def test_own_calibration_images_are_used(tmp_path: Path) -> None:
    own = nominal(tmp_path, 5, "calibration")
    leak = Sample(write(tmp_path / "leak.png", "train 0"), "calibration")
    split = split_nominal([*nominal(tmp_path, 20), *own, leak], held_out=0.1)
    assert sizes(split) == (18, 2, 5, 0)
    assert split.calibration == tuple(own)


def test_anomalous_samples_never_enter(tmp_path: Path) -> None:
    bad = [Sample(write(tmp_path / f"bad{i}.png", f"bad {i}"), "train", True) for i in range(5)]
    seen = Sample(write(tmp_path / "seen.png", "seen"), "test", True)
    split = split_nominal([*nominal(tmp_path, 8), *bad, seen])
    assert not any(sample.is_anomalous for part in split[:3] for sample in part)
    assert split.test == (seen,)
    with pytest.raises(DataError, match=r"no good image to train on among 5 images \(5 of them anomalous\)"):
        split_nominal(bad)
    with pytest.raises(DataError, match="no good image to train on among 0 images"):
        split_nominal([])


def test_groups_stay_together(tmp_path: Path) -> None:
    samples = [
        Sample(write(tmp_path / f"lot{lot}/{i}.png", f"{lot} {i}"), "train")
        for lot in range(8)
        for i in range(5)
    ]
    for seed in range(10):
        split = split_nominal(samples, group_by="lot{lot}/*.png", seed=seed, held_out=0.125)
        lots = [{sample.path.parent.name for sample in part} for part in split[:3]]
        assert [len(part) for part in lots] == [5, 1, 2]
        assert not lots[0] & lots[1] | lots[0] & lots[2] | lots[1] & lots[2]


def test_groups_too_large_for_the_fraction(tmp_path: Path) -> None:
    samples = [
        Sample(write(tmp_path / f"{lot}/{i}.png", f"{lot} {i}"), "train") for lot in "ab" for i in range(5)
    ]
    assert sizes(split_nominal(samples, group_by="{lot}/*.png", calibration=0.1)) == (5, 0, 5, 0)
    assert sizes(split_nominal(samples, group_by="*.{ending}", calibration=0.1)) == (
        10,
        0,
        0,
        0,
    )  # one group: all training


def test_latest_lots_calibrate(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 20)
    split = split_nominal(samples, latest=True, held_out=0.1)
    assert (split.train, split.held_out, split.calibration) == (
        tuple(samples[:13]),
        tuple(samples[13:15]),
        tuple(samples[15:]),
    )


def test_group_by_is_checked(tmp_path: Path) -> None:
    samples = nominal(tmp_path, 3)
    with pytest.raises(
        DataError, match=r"pattern '\{lot\}_\*.png' does not fit .*train000.png; every image needs"
    ):
        split_nominal(samples, group_by="{lot}_*.png")
    with pytest.raises(SettingsError, match="it has no {name}"):
        split_nominal(samples, group_by="*.png")


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.0, 1.0), (float("nan"), 0.1), (0.5, 0.5)])
def test_fractions_are_checked(fractions: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"fraction of the nominal images in \[0, 1\)|add up to 1"):
        split_nominal(nominal(tmp_path, 3), held_out=fractions[0], calibration=fractions[1])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone.png: No such file"):
        split_nominal([Sample(tmp_path / "gone.png", "train")])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["train", "calibration", "test"]), st.booleans())
    ),
    held_out=st.sampled_from([0.0, 0.1, 0.4]),
    calibration=st.sampled_from([0.0, 0.25, 0.5]),
    seed=st.integers(0, 5),
)
def test_no_bytes_on_both_sides(
    contents: list[tuple[int, str, bool]], held_out: float, calibration: float, seed: int, tmp_path: Path
) -> None:
    samples = [
        Sample(write(tmp_path / f"{i:02}.png", "x" * content), split, bad)  # type: ignore[arg-type]
        for i, (content, split, bad) in enumerate(contents)
    ]
    try:
        split = split_nominal(samples, held_out=held_out, calibration=calibration, seed=seed)
    except DataError:
        return
    seen = [{sample.path.read_text() for sample in part} for part in split]
    for first in range(4):
        assert not any(seen[first] & seen[other] for other in range(first))
    assert split.train
    assert not any(sample.is_anomalous for part in split[:3] for sample in part)
