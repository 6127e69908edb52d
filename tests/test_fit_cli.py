"""``andon fit`` of a method that trains: its flags, its bars, what it says and what the artefact and report keep."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import andon
from andon.cli.common import Bars
from andon.cli.fit import command
from andon.data.augment import Augmentation
from andon.engine import FitReport
from andon.pipeline.fitting import _how
from andon.report import write_report
from andon.training import Plan

SMALL = {"width": 2, "latent": 2, "ssim_share": 0.2, "steps": 40, "batch_size": 4}
SET = [argument for name, value in SMALL.items() for argument in ("--set", f"{name}={value}")]
METHOD = ["--method", "autoencoder", "--size", "32x64", "--device", "cpu", *SET]
ARGUMENTS = [
    *METHOD,
    "--early-stop",
    2,
    "--minutes",
    30,
    "--augment",
    "study,flip",
    "--set",
    "learning_rate=0.05",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(16):
        rng = np.random.default_rng(number)
        pixels = 120 + 40 * np.sin(np.arange(96) / 4)[None, :, None] + rng.normal(0, 6, (64, 96, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def fitted(good: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    output = tmp_path_factory.mktemp("out") / "part.andon"
    done = run(good, "-o", output, *ARGUMENTS)
    assert done.exit_code == 0, (done.output, done.exception)
    return done, output


def test_the_manifest_keeps_how_it_was_trained(fitted: tuple[Result, Path]) -> None:
    fit = andon.load(fitted[1]).manifest["fit"]
    assert set(fit["augment"]) == {"flip", "rotation", "noise"}
    assert fit["augment"]["rotation"] == "within 15 degrees, borders reflected, probability 0.5"
    assert (fit["precision"], fit["device"], fit["minutes"], fit["early_stop"]) == ("float32", "cpu", 30, 2)
    record, look = fit["curve"]
    assert look["phase"] == "what is usual"
    assert (record["phase"], record["planned"]) == ("train", 40)
    assert len(record["steps"]) == len(record["loss"]) == record["done"]
    assert all(step % 2 == 0 for step, _ in record["held_out"])
    assert andon.load(fitted[1]).manifest["data"]["held_out"] > 0


def test_the_summary_says_why_training_ended(fitted: tuple[Result, Path]) -> None:
    record = andon.load(fitted[1]).manifest["fit"]["curve"][0]
    said = f"train: {record['done']} of 40 steps, as the held-out loss was lowest after"
    assert (said in fitted[0].output) == (record["done"] < 40)


def test_the_report_draws_the_curve(fitted: tuple[Result, Path], tmp_path: Path) -> None:
    predictor = andon.load(fitted[1])
    keywords: dict[str, Any] = {"title": "x", "calibration": predictor.calibration}
    text = write_report(tmp_path / "a.html", manifest=predictor.manifest, **keywords).read_text()
    assert "How it was trained" in text
    assert "Loss over the training steps: train from " in text
    assert "training step" in text
    assert "minutes allowed to train" in text
    without = {**predictor.manifest, "fit": {"seconds": 1.0}}
    assert (
        "How it was trained"
        not in write_report(tmp_path / "b.html", manifest=without, **keywords).read_text()
    )
    again = write_report(tmp_path / "c.html", manifest=predictor.manifest, **keywords).read_text()
    assert again == text


def test_stopped_in_training_and_resumed_by_the_same_command(
    good: Path, fitted: tuple[Result, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, heard = tmp_path / "part.andon", Bars.__call__

    def stop(self: Bars, phase: str, done: int, total: int) -> None:
        if (phase, done) == ("train", 5):
            signal.raise_signal(signal.SIGINT)
        heard(self, phase, done, total)

    with monkeypatch.context() as patched:
        patched.setattr(Bars, "__call__", stop)
        stopped = run(good, "-o", output, *ARGUMENTS)
    assert stopped.exit_code == 1
    assert "keeps what was seen so far: go on with the same command and --resume" in stopped.output
    assert not output.exists()
    assert run(good, "-o", output, "--resume", "-q", *ARGUMENTS).exit_code == 0
    assert andon.load(output).manifest["fit"]["resumed_steps"] == 5
    assert andon.load(output).artifact.members == andon.load(fitted[1]).artifact.members
    assert [path.name for path in tmp_path.iterdir()] == ["part.andon"]


def test_diverging_training_saves_nothing(good: Path, tmp_path: Path) -> None:
    done = run(good, "-o", tmp_path / "x.andon", *METHOD, "--set", "learning_rate=1e30")
    assert isinstance(done.exception, andon.SettingsError)
    assert "training diverged: the loss is" in str(done.exception)
    assert "--resume" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_of_a_closed_form_method_keeps_how_images_were_varied() -> None:
    plan = Plan(augment=Augmentation.parse("flip"), copies=2)
    assert _how(FitReport(notes=["a note"]), plan) == {
        "augment": {"flip": "left to right, probability 0.5", "copies": 2},
        "notes": ["a note"],
    }
    assert _how(FitReport(), Plan()) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--augment", "spin"], "there is no augmentation 'spin'"),
        (["--minutes", "0"], "minutes must be more than 0"),
        (["--early-stop", "0"], "early_stop must be a whole number of at least 1"),
        (["--device", "tpu"], "device must be auto, cpu, cuda"),
        (["--device", "cpu", "--precision", "float16"], "float16 trains on a GPU only"),
        (["--cache-gb", "-1"], "cache_gb must be a number of at least 0"),
        (["--set", "minutes=3"], "give it as an option of andon fit: --minutes"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_an_image_is_read(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path / "nowhere", "-o", tmp_path / "x.andon", *arguments)
    assert isinstance(done.exception, andon.SettingsError)
    assert message in str(done.exception)


def test_bars_show_the_loss_and_follow_a_total_that_changes() -> None:
    class Bar:
        def __init__(self, **keywords: Any) -> None:
            self.n, self.total, self.unit, self.shown = 0, keywords["total"], keywords["unit"], ""

        def update(self, by: int) -> None:
            self.n += by

        def set_postfix_str(self, text: str, refresh: bool) -> None:
            self.shown = text

        def close(self) -> None: ...

    with pytest.MonkeyPatch.context() as patched, Bars() as bars:
        patched.setattr("tqdm.tqdm", Bar)
        bars("observe", 3, 6)
        assert (bars.bar.unit, bars.bar.shown) == (" img", "")
        bars.loss(0.123456)
        bars("train", 1, 100)
        assert (bars.bar.unit, bars.bar.shown, bars.bar.n) == (" step", "loss 0.1235", 1)
        bars.loss(0.1)
        bars("train", 2, 50)
        assert (bars.bar.total, bars.bar.n, bars.bar.shown) == (50, 2, "loss 0.1")
