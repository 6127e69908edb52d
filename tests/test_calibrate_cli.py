"""``andon calibrate`` and what it leaves in the artefact: groups, refusals, estimates, pictures, history."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import andon
from andon.cli import andon as program
from andon.errors import CalibrationError, SettingsError
from andon.pipeline import Criterion, judge, recalibrate
from fakes import FakeBackbone


def draw(folder: Path, count: int, seed: int, *, noise: float = 6, defect: bool = False) -> None:
    """Striped parts with noise, and a dark spot where they are defective."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(1000 * seed + number)
        pixels = 120 + 40 * np.sin(np.arange(64) / 4)[None, :, None] + rng.normal(0, noise, (32, 64, 3))
        if defect:
            pixels[10:20, 20:30] = 10
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, good parts of three shifts of which one is noisier and one is short, and bad ones."""
    folder = tmp_path_factory.mktemp("line")
    fitted = tmp_path_factory.mktemp("fitted")
    draw(fitted, 12, 1)
    draw(folder / "good" / "day", 35, 2)
    draw(folder / "good" / "night", 20, 3, noise=12)
    draw(folder / "good" / "late", 5, 4)
    draw(folder / "bad" / "day", 10, 5, defect=True)
    draw(folder / "bad" / "night", 10, 6, defect=True, noise=12)
    andon.fit(fitted, folder / "part.andon", backbone=FakeBackbone(), bank_limit=100, buffer_limit=2000,
              calibration=0.25, target_rate=0.1, size=(32, 64))  # fmt: skip
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def test_a_threshold_for_each_shift(line: Path, tmp_path: Path) -> None:
    made = tmp_path / "groups.andon"
    done = run(
        "calibrate",
        line / "part.andon",
        "--good",
        line / "good",
        "--group-by",
        "{shift}/*.png",
        "-o",
        made,
        "-q",
    )
    assert done.exit_code == 0, done.output
    assert "the good images of the 3 groups score differently" in done.output
    assert "shift=day: threshold" in done.output
    assert "at most 10.0 % false alarms with 95 % confidence, from 35 good images" in done.output
    assert "shift=late: no threshold of its own: 5 good images; for 10.0 % are needed 9" in done.output
    assert "images of all other groups are for review" in done.output
    predictor = andon.load(made)
    groups = predictor.calibration.groups
    assert groups["shift=night"].threshold > groups["shift=day"].threshold
    verdicts = {
        shift: predictor.inspect(line / "good" / shift / "000.png") for shift in ("day", "night", "late")
    }
    assert verdicts["day"].threshold == groups["shift=day"].threshold
    assert verdicts["night"].threshold == groups["shift=night"].threshold
    assert verdicts["late"].decision == "review"
    assert "the group shift=late has no threshold of its own: a person should look" in verdicts["late"].notes
    array = np.asarray(Image.open(line / "good" / "day" / "000.png"))
    assert predictor.inspect(array).decision == "review"  # it has no path, so no group
    shown = run("show", made).output
    assert "groups by     {shift}/*.png" in shown
    assert "shift=late: no threshold of its own: 5 good images" in shown
    assert "images of all other groups: for review" in shown


def test_the_other_groups_fall_back_when_asked(line: Path, tmp_path: Path) -> None:
    done = run("calibrate", line / "part.andon", "--good", line / "good", "--group-by", "{shift}/*.png", "--fall-back",
               "-o", tmp_path / "p.andon", "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "images of all other groups are decided by the threshold of all groups" in done.output
    predictor = andon.load(tmp_path / "p.andon")
    verdict = predictor.inspect(line / "good" / "late" / "000.png")
    assert verdict.threshold == predictor.calibration.threshold
    assert verdict.notes[-1].endswith("decided by the threshold of all groups")


def test_groups_with_defects_and_their_evaluation(line: Path) -> None:
    predictor = andon.load(line / "part.andon")
    done = recalibrate(predictor, line / "good", line / "bad", Criterion("youden"), group_by="{shift}/*.png")
    groups = done.predictor.calibration.groups
    assert groups["shift=day"].method == groups["shift=night"].method == "youden"
    assert groups["shift=late"].statement == (
        "no threshold of its own: 5 good and 0 defective images; at least 20 and 10 are needed"
    )
    assert [(part.name, len(part.nominal), len(part.anomalous)) for part in done.parts()] == [
        ("shift=day", 35, 10), ("shift=late", 5, 0), ("shift=night", 20, 10)
    ]  # fmt: skip
    judged = judge(done.predictor, line, bootstrap=0)
    found = judged.evaluation
    assert [row.decision for row in found.rows] == [answer.decision for answer in judged.answers]  # type: ignore[union-attr]
    failed = sum(row.decision == "fail" for row in found.rows if not row.is_anomalous)
    assert found.groups["all"]["fpr"].value == failed / sum(not row.is_anomalous for row in found.rows)


def test_strict_refuses_with_the_number_needed(line: Path, tmp_path: Path) -> None:
    done = run("calibrate", line / "part.andon", "--good", line / "good", "--target-rate", 0.01, "--strict",
               "-o", tmp_path / "p.andon", "-q")  # fmt: skip
    assert isinstance(done.exception, CalibrationError)
    assert "from 60 good images; 299 are needed, 239 more" in str(done.exception)
    assert not (tmp_path / "p.andon").exists()
    done = run(
        "calibrate",
        line / "part.andon",
        "--good",
        line / "good",
        "--strict",
        "-o",
        tmp_path / "p.andon",
        "-q",
    )
    assert "at most 10.0 % false alarms with 95 % confidence, from 60 good images" in done.output


def test_an_estimate_is_said_to_be_one(line: Path, tmp_path: Path) -> None:
    arguments = (
        "calibrate",
        line / "part.andon",
        "--good",
        line / "good",
        "--extrapolate",
        "-o",
        tmp_path / "p.andon",
        "-q",
    )
    done = run(*arguments, "--target-rate", 0.001)
    assert "a tail can be extrapolated from 100 good images at least, got 60" in str(done.exception)
    draw(tmp_path / "more", 100, 7)
    done = run("calibrate", line / "part.andon", "--good", tmp_path / "more", "--extrapolate", "--target-rate", 0.001,
               "-o", tmp_path / "p.andon", "-q")  # fmt: skip
    assert "an estimate, not a promise: about 0.1 % false alarms" in done.output
    assert "an estimate, not a promise" in run("show", tmp_path / "p.andon").output


@pytest.mark.parametrize(("more", "text"), [
    ({"strict": True, "bad": True}, "strict and extrapolate are for thresholds from good images alone"),
    ({"strict": True, "extrapolate": True}, "it goes neither with strict nor with group_by"),
    ({"fall_back": True}, "fall_back is for groups without a threshold of their own"),
    ({"group_by": "*.png"}, "it has no {name}"),
    ({"bad": True, "review_rate": 0.1, "criterion": Criterion(review_tpr=0.9)}, "give one of them"),
])  # fmt: skip
def test_rules_that_do_not_go_together(line: Path, more: dict[str, object], text: str) -> None:
    bad = line / "bad" if more.pop("bad", False) else None
    with pytest.raises(SettingsError) as told:
        recalibrate(andon.load(line / "part.andon"), line / "good", bad, **more)  # type: ignore[arg-type]
    assert text in str(told.value)


def test_the_history_is_kept_over_several_calibrations(line: Path, tmp_path: Path) -> None:
    made = tmp_path / "p.andon"
    first = run("calibrate", line / "part.andon", "--good", line / "good", "-o", made, "-q")
    second = run(
        "calibrate", made, "--good", line / "good", "--target-rate", 0.2, "--group-by", "{shift}/*.png", "-q"
    )
    third = run("calibrate", made, "--good", line / "good", "--bad", line / "bad", "-q")
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 0, 0)
    manifest = json.loads(run("show", made, "--json").output)
    kept = [entry["calibration"] for entry in manifest["history"]]
    assert kept[0] == json.loads(run("show", line / "part.andon", "--json").output)["calibration"]
    assert [entry["target_rate"] for entry in kept] == [0.1, 0.1, 0.2]
    assert [len(entry.get("groups", {})) for entry in kept] == [0, 0, 3]
    lines = run("show", made).output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("before"))
    assert [row[14:16] for row in lines[start : start + 3]] == ["1.", "2.", "3."]
    assert "and 3 groups by {shift}/*.png" in lines[start + 2]


def test_the_picture_and_the_table(line: Path, tmp_path: Path) -> None:
    for kind in ("png", "html"):
        done = run("calibrate", line / "part.andon", "--good", line / "good", "--bad", line / "bad", "--review-tpr", 1.0,
                   "--plot", tmp_path / f"c.{kind}", "-o", tmp_path / "p.andon", "-q")  # fmt: skip
        assert done.exit_code == 0, done.output
    assert "nominal   passed " in done.output
    assert "(0 of 20; 0.0 % to 16.1 %)" in done.output  # Wilson's interval of a rate that was not seen
    with Image.open(tmp_path / "c.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0xB3, 0x26, 0x1E), (0x1C, 0x21, 0x26)} & colours  # the page's own, no stand-in
    assert not any((red & 0x0F, green & 0x0F, blue & 0x0F) == (0x0F, 0x0E, 0x0E) and red < 0xA0 == 0
                   for red, green, blue in colours)  # fmt: skip
    page = (tmp_path / "c.html").read_text()
    assert page.count("<svg") == 1
    assert "Images that chose the threshold" in page
    assert "false alarms" in page


def test_a_picture_of_another_kind_is_refused_before_the_work(line: Path, tmp_path: Path) -> None:
    done = run("calibrate", line / "part.andon", "--good", line / "good", "--plot", tmp_path / "c.gif", "-q")
    assert str(done.exception).startswith("a picture of the calibration is written as .png or .html")


def test_no_threshold_is_drawn_where_there_is_none(line: Path, tmp_path: Path) -> None:
    done = run("calibrate", line / "part.andon", "--good", line / "good", "--group-by", "{shift}/*.png",
               "--plot", tmp_path / "c.html", "-o", tmp_path / "p.andon", "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    page = (tmp_path / "c.html").read_text()
    assert page.count("<svg") == 3
    assert "No threshold of its own: 5 good images" in page
    assert math.isnan(andon.load(tmp_path / "p.andon").calibration.groups["shift=late"].threshold)


def test_the_cheapest_review_band_with_its_table(line: Path, tmp_path: Path) -> None:
    done = run("calibrate", line / "part.andon", "--good", line / "good", "--bad", line / "bad", "--criterion", "cost",
               "--cost-escape", 200, "--cost-review", 0.5, "--defect-rate", 0.01, "--plot", tmp_path / "c.html",
               "-o", tmp_path / "p.andon", "-q")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert "expected cost a part" in done.output
    assert "Expected cost a part, 1.0 % of them defective:" in done.output
    rows = [row.split() for row in done.output.splitlines()]
    (alone,) = [row[2:] for row in rows if row[:2] == ["without", "reviews"]]
    (set_at,) = [row[2:] for row in rows if row[:2] == ["as", "set"]]
    (reviewed,) = [row[2:] for row in rows if row[:2] == ["all", "reviewed"]]
    assert float(set_at[-1]) <= min(float(alone[-1]), float(reviewed[-1]))
    assert reviewed == ["0", "0", "0.5", "0.5"]
    page = (tmp_path / "c.html").read_text()
    assert "Expected cost a part, 1.0 % of them defective:" in page
    assert page.count("<table>") == 2


def test_no_cost_is_said_of_groups_without_defects(line: Path) -> None:
    done = recalibrate(andon.load(line / "part.andon"), line / "good", line / "bad", Criterion("cost", cost_review=0.5),
                       group_by="{shift}/*.png", fall_back=True)  # fmt: skip
    told = {part.name: part.costs() is not None for part in done.parts()}
    assert told == {"shift=day": True, "shift=late": False, "shift=night": True}


def test_costs_are_checked_before_the_work(line: Path) -> None:
    arguments = ("calibrate", line / "part.andon", "--good", line / "good")
    done = run(*arguments, "--cost-review", 0.5)
    assert "--review-tpr and --cost-review are for thresholds from defects; give --bad, too" in done.output
    done = run(*arguments, "--bad", line / "bad", "--cost-review", 0.5)
    assert str(done.exception) == "cost_review is for the criterion 'cost', got 'tpr'"
    done = run(*arguments, "--bad", line / "bad", "--criterion", "cost", "--cost-review", -1)
    assert str(done.exception) == "cost_review: expected a finite cost of at least 0, got -1.0"
    with pytest.raises(SettingsError, match="review_rate and cost_review both set the review band"):
        recalibrate(andon.load(line / "part.andon"), line / "good", line / "bad",
                    Criterion("cost", cost_review=0.5), review_rate=0.1)  # fmt: skip
