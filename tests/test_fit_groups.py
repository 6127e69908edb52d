"""``andon fit --threshold-by``: one command gives a detector with a threshold for each group, or says what is missing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import andon
from andon.cli import andon as program
from andon.data.split import split_nominal
from andon.errors import CalibrationError, DataError, SettingsError
from andon.types import Sample
from fakes import FakeBackbone
from test_calibrate_cli import draw

SMALL = {"size": (32, 64), "bank_limit": 100, "buffer_limit": 2000, "target_rate": 0.1}
BY = "{shift}/*.png"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts of two shifts, of which one is noisier, and three of a third."""
    folder = tmp_path_factory.mktemp("good")
    draw(folder / "day", 36, 2)
    draw(folder / "night", 36, 3, noise=12)
    draw(folder / "late", 3, 4)
    return folder


@pytest.fixture(scope="module")
def fitted(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "part.andon"
    andon.fit(good, output, backbone=FakeBackbone(), threshold_by=BY, **SMALL)
    return output


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def test_each_group_is_divided_and_gets_a_threshold(fitted: Path) -> None:
    predictor = andon.load(fitted)
    calibration, data = predictor.calibration, predictor.manifest["data"]
    groups = calibration.groups
    assert (calibration.group_by, calibration.fall_back) == (BY, False)
    assert {name: len(own.nominal_scores) for name, own in groups.items()} == {
        "shift=day": 9,
        "shift=late": 1,
        "shift=night": 9,
    }
    assert data["calibration"] == len(calibration.nominal_scores) == 19
    assert groups["shift=day"].statement.startswith("at most 10.0 % false alarms on average")
    assert groups["shift=night"].threshold > groups["shift=day"].threshold
    assert groups["shift=late"].statement == (
        "no threshold of its own: 1 good image; for 10.0 % are needed 9 on average over calibration sets, 29 with 95 % confidence"
    )


def test_the_verdict_says_which_threshold_and_why(fitted: Path, good: Path, tmp_path: Path) -> None:
    predictor = andon.load(fitted)
    day = predictor.inspect(good / "day" / "000.png")
    assert day.threshold == predictor.calibration.groups["shift=day"].threshold
    assert day.notes == ("threshold of the group shift=day",)
    late = predictor.inspect(good / "late" / "000.png")
    assert (late.decision, late.sentence) == (
        "review", "the group shift=late has no threshold of its own: a person should look"
    )  # fmt: skip
    assert math.isnan(late.threshold)
    draw(tmp_path / "early", 1, 9)
    early = predictor.speaking("de").inspect(tmp_path / "early" / "000.png")
    assert early.sentence == (
        "die Gruppe shift=early gab es nicht, als die Schwellenwerte gesetzt wurden: bitte nachprüfen"
    )


def test_the_common_threshold_where_asked(good: Path) -> None:
    predictor = andon.fit(good, backbone=FakeBackbone(), threshold_by=BY, fall_back=True, **SMALL)
    verdict = predictor.inspect(good / "late" / "000.png")
    assert verdict.threshold == predictor.calibration.threshold
    assert verdict.notes[-1] == (
        "the group shift=late has no threshold of its own: decided by the threshold of all groups"
    )


def test_a_folder_of_further_images_may_lack_a_group(good: Path, tmp_path: Path) -> None:
    """A shift that was fitted on, and of which no image is among those for the threshold, is told."""
    draw(tmp_path / "more" / "day", 10, 7)
    predictor = andon.fit(
        good, backbone=FakeBackbone(), threshold_by=BY, calibration=tmp_path / "more", **SMALL
    )
    groups = predictor.calibration.groups
    assert groups["shift=night"].statement.startswith("no threshold of its own: 0 good images; for 10.0 %")
    assert groups["shift=day"].method == "conformal"


def test_the_command_says_it(good: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.andon"
    arguments = [good, "-o", output, "--method", "fre", "--size", "32x64", "--target-rate", 0.1]
    done = run("fit", *arguments, "--threshold-by", BY)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "from 19 good images" in done.output
    assert "(all groups together)" in done.output
    assert f"Groups by {BY}:" in done.output
    assert (
        "shift=late: no threshold of its own: 1 good image; for 10.0 % are needed 9 on average" in done.output
    )
    assert "images of all other groups are for review" in done.output
    assert "1 of 3 groups have no threshold of their own: give more good images of them" in done.output
    report = run("inspect", output, good / "late", good / "day" / "000.png")
    assert "3 images: the group shift=late has no threshold of its own: a person should look" in report.output
    assert "1 image: threshold of the group shift=day" in report.output


def test_too_few_are_refused_before_the_work(good: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.andon"
    with pytest.raises(CalibrationError, match="from 19 good images; 29 are needed, 10 more"):
        andon.fit(good, output, backbone=FakeBackbone(), strict=True, **SMALL)
    with pytest.raises(
        CalibrationError, match=r"from 0 good images; 29 are needed, 29 more\. Do without --strict"
    ):
        andon.fit(good, output, backbone=FakeBackbone(), strict=True, calibration=0.0, **SMALL)
    with pytest.raises(DataError, match=r"the pattern '\{lot\}_\*.png' does not fit"):
        andon.fit(good, output, backbone=FakeBackbone(), threshold_by="{lot}_*.png", **SMALL)
    with pytest.raises(SettingsError, match="give threshold_by, too"):
        andon.fit(good, output, backbone=FakeBackbone(), fall_back=True, **SMALL)
    with pytest.raises(SettingsError, match=r"it has no \{name\}"):
        andon.fit(good, output, backbone=FakeBackbone(), threshold_by="*.png", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_every_stratum_is_divided(tmp_path: Path) -> None:
    """Also where the last images are taken, and lots stay together within their shifts."""
    draw(tmp_path / "day", 20, 1)
    draw(tmp_path / "night", 12, 2)
    samples = [Sample(path, "train") for path in sorted(tmp_path.rglob("*.png"))]
    for latest in (False, True):
        split = split_nominal(
            samples, calibration=0.25, held_out=0.1, latest=latest, stratify_by="{shift}/*.png"
        )
        for part, counts in (("calibration", (5, 3)), ("held_out", (2, 1)), ("train", (13, 8))):
            found = Counter(sample.path.parent.name for sample in getattr(split, part))
            assert (found["day"], found["night"]) == counts
    assert [sample.path.name for sample in split.calibration[-3:]] == ["009.png", "010.png", "011.png"]
    lots = split_nominal(samples, group_by="{shift}/0{lot}.png", stratify_by="{shift}/*.png")
    assert [
        len([s for s in lots.calibration if s.path.parent.name == shift]) for shift in ("day", "night")
    ] == [5, 3]
