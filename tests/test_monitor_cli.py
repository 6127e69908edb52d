"""The monitor on a detector: its file, its restart, andon inspect --monitor and andon monitor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import andon
from andon.cli.inspect import command as inspect
from andon.cli.monitor import command as show
from andon.errors import AndonError, BusyError, DataError, SettingsError
from andon.files import single_writer
from andon.pipeline import recalibrate
from andon.runtime.monitor import (
    begin_monitor,
    following,
    identity_of,
    read_monitor,
    resume_monitor,
    save_monitor,
)
from andon.runtime.monitor.reference import MANIFEST_KEY, Reference
from andon.types import Verdict
from fakes import FakeBackbone

SIZE = (64, 96)
Say = Callable[..., tuple[int, str, str]]


def draw(path: Path, seed: int, light: float = 1.0) -> Path:
    """A striped part with noise, under more or less light."""
    rng = np.random.default_rng(seed)
    pixels = 120 + 40 * np.sin(np.arange(SIZE[1]) / 4)[None, :, None] + rng.normal(0, 6, (*SIZE, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * light * rng.normal(1, 0.01)).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(32):
        draw(folder / f"{number:02}.png", number)
    fitted = andon.fit(folder, backbone=FakeBackbone(), size=SIZE, bank_limit=100, buffer_limit=1000)
    return fitted.save(tmp_path_factory.mktemp("part") / "part.andon")


@pytest.fixture(scope="module")
def predictor(artifact: Path) -> andon.Predictor:
    return andon.load(artifact, threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photographs as at the fit, then sixty under a tenth less light."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(80):
        draw(folder / f"{number:03}.png", 100 + number, 1.0 if number < 20 else 0.9)
    return folder


@pytest.fixture
def say() -> Say:
    def run(command: object, *arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(command, list(map(str, arguments)), standalone_mode=False)  # type: ignore[arg-type]
        if done.exception:
            raise done.exception
        return done.return_value, done.stdout, done.stderr

    return run


def test_the_fit_keeps_how_good_photographs_look(predictor: andon.Predictor) -> None:
    reference = Reference.from_manifest(predictor.manifest)
    assert reference is not None
    assert len(reference.values["brightness"]) == 8
    assert reference.picture.grey() is not None


def test_the_drift_is_said(say: Say, artifact: Path, photos: Path, tmp_path: Path) -> None:
    state, table = tmp_path / "line.json", tmp_path / "v.jsonl"
    _, printed, said = say(inspect, artifact, photos, "--monitor", state, "--jsonl", table, "--threads", 1)
    assert "Drift: the photographs are darker by " in said
    assert "80 images:" in printed
    noted = [json.loads(line) for line in table.read_text().splitlines()]
    first = next(row for row in noted if any("drift: the photographs are darker" in n for n in row["notes"]))
    assert 20 < int(Path(first["path"]).stem) < 60
    assert not (tmp_path / "line.json.lock").exists()

    status, text, said = say(show, state)
    assert status == 1
    assert text.splitlines()[0].startswith(
        f"{state}: 80 images; if nothing drifts, the probability that anything"
    )
    assert any(line.startswith("brightness") and "*" in line for line in text.splitlines())
    assert "Drift: the photographs are darker" in said

    assert "check the lamp, the exposure and the glass" in said
    high = next(line for line in text.splitlines() if line.startswith("high scores since the beginning: "))
    assert re.search(r": \d+ of 80, [\d.]+ %, 95 % interval [\d.]+ % to [\d.]+ %$", high)
    _, text, said = say(show, state, "--language", "de")
    assert "solange nichts driftet" in text
    assert any(line.startswith("Helligkeit") and "*" in line for line in text.splitlines())
    assert re.search(
        r"Drift: die Fotos sind um \d+,\d % dunkler seit Bild \d+ \(bemerkt bei Bild \d+\); Lampe, ", said
    )

    status, text, _ = say(show, state, "--json")
    assert json.loads(text)["high_scores"]["total"] == 80
    events = {event["measure"]: event for event in json.loads(text)["events"]}
    assert 5 < events["brightness"]["since"] < 40  # chance, which the detector seeds, decides ties
    assert not events["brightness"]["upwards"]
    assert events["brightness"]["now"] - events["brightness"]["before"] == pytest.approx(
        np.log(0.9), abs=0.02
    )


def test_a_quiet_line(say: Say, artifact: Path, photos: Path, tmp_path: Path) -> None:
    state = tmp_path / "line.json"
    _, _, said = say(inspect, artifact, photos / "000.png", "--monitor", state)
    assert "No drift noticed in 1 image." in said
    assert say(show, state)[0] == 0
    assert "Aucune dérive remarquée, 1 image." in say(show, state, "--language", "fr")[2]


def test_interrupted_is_uninterrupted(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.iterdir())[:50]
    whole, pieces = tmp_path / "whole.json", tmp_path / "pieces.json"
    with following(whole, predictor) as follower:
        expected = list(follower.inspect_many(paths))
    found: list[object] = []
    for some in (paths[:7], paths[7:30], paths[30:]):
        with following(pieces, predictor) as follower:
            found += follower.inspect_many(some)
    assert pieces.read_bytes() == whole.read_bytes()
    notes = [
        [answer.notes for answer in answers if isinstance(answer, Verdict)] for answers in (found, expected)
    ]
    assert notes[0] == notes[1]


def test_what_was_seen_before_an_error_counts(
    predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    state = tmp_path / "line.json"

    def stop_after_three() -> None:
        with following(state, predictor) as follower:
            for number, _ in enumerate(follower.inspect_many(sorted(photos.iterdir())), 1):
                if number == 3:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_three()
    assert read_monitor(state).images == 3


def test_unreadable_photographs_do_not_count(
    predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with following(tmp_path / "line.json", predictor) as follower:
        kinds = [
            type(a).__name__ for a in follower.inspect_many([photos / "000.png", broken, photos / "001.png"])
        ]
    assert kinds == ["Verdict", "Failure", "Verdict"]
    assert read_monitor(tmp_path / "line.json").images == 2


def test_the_file_is_bound_to_the_detector(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    state = tmp_path / "line.json"
    save_monitor(begin_monitor(predictor.artifact), state)
    later = tmp_path / "later"
    for number in range(12):
        draw(later / f"{number:02}.png", 500 + number, 0.9)
    other = recalibrate(predictor, later).predictor
    assert identity_of(other.artifact) != identity_of(predictor.artifact)
    with pytest.raises(
        DataError, match="watches another detector, or this one before it was fitted or calibrated again"
    ):
        resume_monitor(state, other.artifact)
    before, after = (Reference.from_manifest(p.manifest) for p in (predictor, other))
    assert before is not None
    assert after is not None
    assert len(after.values["brightness"]) == 12  # how good photographs look now
    assert np.mean(after.values["brightness"]) < np.mean(before.values["brightness"]) - 0.08
    assert after.picture.to_dict() == before.picture.to_dict()
    assert MANIFEST_KEY in other.manifest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as a monitor's state"),
        (b"\xff\xfe", "cannot be read as a monitor's state"),
        (b"[1]", "is not a monitor's state, as andon inspect --monitor writes it"),
        (b'{"format": "andon-monitor", "schema": 9}', "has schema 9, this version of Andon reads 2"),
        (b'{"format": "andon-monitor", "schema": 2, "watches": {}}', "is damaged"),
        (b'{"format": "andon-monitor", "schema": 2, "watches": {"x": 1}}', "is damaged"),
    ],
)
def test_files_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_monitor(tmp_path / "s.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Begin one with: andon inspect PART.andon PHOTOS --monitor"):
        read_monitor(tmp_path / "s.json")


def test_one_process_at_a_time(predictor: andon.Predictor, tmp_path: Path) -> None:
    with single_writer(tmp_path / "s.json"), pytest.raises(BusyError):
        with following(tmp_path / "s.json", predictor):
            pass


def test_begun_with_other_options(say: Say, artifact: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.json"
    status, text, _ = say(show, state, "--new", artifact, "--false-alarm", 0.001, "--defect-rate", 0.2)
    assert status == 0
    assert "is at most 0.1 %; up to 20.0 % of the parts may be defective" in text
    with pytest.raises(SettingsError, match="exists already, with all that it has seen"):
        say(show, state, "--new", artifact)
    with pytest.raises(click.UsageError, match="are for a file that is begun; give --new, too"):
        say(show, state, "--defect-rate", 0.1)


def test_it_is_drawn(say: Say, artifact: Path, photos: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.json"
    say(inspect, artifact, *sorted(photos.iterdir())[:5], "--monitor", state, "-q")
    say(show, state, "-o", tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size[0] > 800
    with pytest.raises(SettingsError, match="a name that ends in .png or .svg expected"):
        say(show, state, "-o", tmp_path / "s.html")


def test_a_photograph_is_not_overwritten(say: Say, artifact: Path, photos: Path) -> None:
    with pytest.raises(AndonError, match="is named like a photograph"):
        say(inspect, artifact, photos / "000.png", "--monitor", photos / "001.png")
