"""What andon serve knows of a line: thresholds by group over HTTP, drift that survives restarts, and records."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import andon
from andon.calibrate import with_groups
from andon.errors import AndonError, BusyError
from andon.files import single_writer
from andon.records import open_records
from andon.runtime.monitor import read_monitor
from andon.runtime.server import Backing, Monitors, Recorder, Shelf
from andon.runtime.server.app import make_app, watched
from lines import difference_detector, png, striped
from served import fit_part, photo

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact that passes everything by day, and nothing by night."""
    predictor = andon.load(fit_part(tmp_path_factory.mktemp("part")), threads=1)
    pooled = predictor.calibration
    own = {
        f"shift={name}": replace(pooled, threshold=threshold, review_threshold=None)
        for name, threshold in (("day", 1e9), ("night", -1e9))
    }
    by_shift = with_groups(pooled, "{shift}/*.png", own, fall_back=False)
    return predictor.recalibrated(by_shift).save(tmp_path_factory.mktemp("grouped") / "clip.andon")


@pytest.fixture(scope="module")
def client(grouped: Path) -> Iterator[TestClient]:
    with TestClient(watched(make_app(Shelf(grouped, threads=1), check_every=0))) as found:
        yield found


def said(answer: Any) -> tuple[str, str | None, str]:
    """Decision, group and last note."""
    assert answer.status_code == 200, answer.text
    content = answer.json()
    return content["decision"], content["group"], content["notes"][-1]


def test_the_group_decides_however_it_is_told(client: TestClient) -> None:
    night = ("fail", "shift=night", "threshold of the group shift=night")
    day = ("pass", "shift=day", "threshold of the group shift=day")
    ask = {"content": photo(1), "headers": PNG}
    assert said(client.post("/v1/inspect?group=shift=night", **ask)) == night  # type: ignore[arg-type]
    assert said(client.post("/v1/inspect", params={"path": "line3/day/17.png"}, **ask)) == day  # type: ignore[arg-type]
    assert said(client.post("/v1/inspect", files={"file": ("day/17.png", photo(1))})) == day
    both = {"path": "day/17.png", "group": "shift=night"}
    assert said(client.post("/v1/inspect", params=both, **ask)) == night  # type: ignore[arg-type]


def test_a_group_that_is_not_known_is_for_review(client: TestClient) -> None:
    ask = {"content": photo(1), "headers": PNG}
    late = "the group shift=late was not there when the thresholds were set: a person should look"
    assert said(client.post("/v1/inspect?group=shift=late", **ask)) == ("review", "shift=late", late)  # type: ignore[arg-type]
    none = "the path names no group: a person should look"
    assert said(client.post("/v1/inspect", **ask)) == ("review", None, none)  # type: ignore[arg-type]
    assert said(client.post("/v1/inspect", params={"path": "17.png"}, **ask)) == ("review", None, none)  # type: ignore[arg-type]
    assert client.post("/v1/inspect?group=", **ask).status_code == 422  # type: ignore[arg-type]


def test_each_file_of_a_batch_says_its_group(client: TestClient) -> None:
    files = [("files", (name, photo(1))) for name in ("day/1.png", "night/2.png", "3.png")]
    answers = client.post("/v1/batch", files=files).json()["answers"]
    assert [answer["decision"] for answer in answers] == ["pass", "fail", "review"]
    answers = client.post("/v1/batch?group=shift=day", files=files).json()["answers"]
    assert [answer["decision"] for answer in answers] == ["pass"] * 3


def test_the_groups_are_told(client: TestClient) -> None:
    told = client.get("/v1/artefacts/clip").json()
    assert (told["group_by"], told["groups"]) == ("{shift}/*.png", ["shift=day", "shift=night"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "artefacts").mkdir()
    difference_detector(tmp_path / "artefacts" / "part.andon")
    return tmp_path / "artefacts"


def inspected(client: TestClient, numbers: range, light: float = 1.0, **params: str) -> list[dict[str, Any]]:
    """The answers to photographs of striped parts under more or less light."""
    return [
        client.post("/v1/inspect", content=png(striped(number, light)), headers=PNG, params=params).json()
        for number in numbers
    ]


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))


def test_drift_is_answered_measured_and_kept(folder: Path, tmp_path: Path) -> None:
    """Half the photographs before a restart, half after it."""
    shelf, states = Shelf(folder, threads=1), tmp_path / "drift"
    monitors = Monitors(states, shelf)
    with TestClient(watched(make_app(shelf, check_every=0, backing=Backing(monitors)))) as client:
        assert not any(answer["drift"] for answer in inspected(client, range(200, 210), 0.8))
        assert metric(client, 'andon_drift_images{artefact="part"}') == 10
        with pytest.raises(AndonError, match="another process is writing"):
            Monitors(states, shelf)
    monitors.close()
    (state,) = states.glob("part.*.json")
    assert read_monitor(state).images == 10
    monitors = Monitors(states, shelf)
    with TestClient(watched(make_app(shelf, check_every=0, backing=Backing(monitors)))) as client:
        found = inspected(client, range(210, 245), 0.8, language="de")
        (told,) = client.get("/v1/artefacts").json()["artefacts"]
        assert metric(client, 'andon_drift_images{artefact="part"}') == 45
        assert metric(client, 'andon_drift{artefact="part",measure="rejects"}') == 1
        assert metric(client, 'andon_drift_p_value{artefact="part",measure="rejects"}') <= 0.01
        assert metric(client, 'andon_drift_level{artefact="part",measure="brightness"}') > 0
    monitors.close()
    messages = [text for answer in found for text in answer["drift"]]
    assert any("Teile" in text for text in messages)
    assert any("of the parts score high" in text for text in told["drift"])


def test_another_detector_has_a_monitor_of_its_own(folder: Path, tmp_path: Path) -> None:
    part, states = folder / "part.andon", tmp_path / "drift"
    before = shutil.copy(part, tmp_path / "before")
    shelf = Shelf(folder, threads=1)
    monitors = Monitors(states, shelf)
    with TestClient(watched(make_app(shelf, check_every=0, backing=Backing(monitors)))) as client:
        inspected(client, range(3))
        predictor = andon.load(part, threads=1)
        changed = replace(predictor.calibration, threshold=predictor.calibration.threshold + 1)
        predictor.recalibrated(changed).save(part)
        client.post("/v1/reload")
        inspected(client, range(2))
        assert metric(client, 'andon_drift_images{artefact="part"}') == 2
        shutil.copy(before, part)
        client.post("/v1/reload")
        inspected(client, range(1))
        assert metric(client, 'andon_drift_images{artefact="part"}') == 4
    monitors.close()
    assert sorted(read_monitor(path).images for path in states.glob("*.json")) == [2, 4]


def test_a_state_that_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    """At the start it is refused; later the artefact is served without, and the log says so."""
    shelf, states = Shelf(folder, threads=1), tmp_path / "drift"
    monitors = Monitors(states, shelf)
    monitors.close()
    (state,) = states.glob("*.json")
    with single_writer(state), pytest.raises((BusyError, AndonError), match="another process is writing"):
        Monitors(states, shelf)
    monitors = Monitors(states, [])
    with single_writer(state):
        monitors.follow(shelf)
    assert list(monitors.problems) == ["part"]
    with TestClient(watched(make_app(shelf, check_every=0, backing=Backing(monitors)))) as client:
        assert inspected(client, range(1))[0]["drift"] == []
    state.write_text("damaged")
    with pytest.raises(AndonError, match="cannot be read as a monitor's state"):
        Monitors(states, shelf)


@pytest.mark.usefixtures("quick_records")
def test_every_verdict_is_recorded(grouped: Path, tmp_path: Path) -> None:
    recorder, shelf = Recorder(str(tmp_path / "station.db")), Shelf(grouped, threads=1)
    with TestClient(watched(make_app(shelf, check_every=0, backing=Backing(recorder=recorder)))) as client:
        files = [("files", (name, photo(1))) for name in ("day/1.png", "night/2.png")]
        files.insert(1, ("files", ("broken.png", b"no image")))
        day, broken, night = client.post("/v1/batch", files=files).json()["answers"]
        assert (day["record"], night["record"], night["heatmap"]) == (1, 2, None)
        recorder.close()
        os.rename(tmp_path / "station.db", tmp_path / "away.db")
        (tmp_path / "station.db").mkdir()
        answer = client.post("/v1/inspect?group=shift=day", content=photo(1), headers=PNG)
    assert (answer.status_code, answer.json()["decision"], answer.json()["record"]) == (200, "pass", None)
    with open_records(tmp_path / "away.db", pictures=tmp_path / "station.db.pictures") as records:
        first, second = records.each()
        assert (first.who, first.image_name, first.group, first.decision) == (
            "andon serve",
            "day/1.png",
            "shift=day",
            "pass",
        )
        assert (second.decision, second.artifact.hash) == ("fail", night["artefact_sha256"])
        assert (records.picture(first.image_hash), records.picture(second.image_hash)) == (None, photo(1))
        assert (records.picture(second.overlay_hash) or b"").startswith(b"\x89PNG")
        assert records.verify().fits
