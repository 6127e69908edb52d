"""Fits recorded in a folder, and at a server that speaks MLflow's REST interface, by MLflow's own client."""

from __future__ import annotations

import csv
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import andon.pipeline
from andon.artifact import read_artifact
from andon.cli.fit import command
from andon.errors import AndonError, MissingExtraError, SettingsError
from andon.runtime.predictor import Predictor
from andon.tracking import require_usable, run_of, track
from lines import difference_detector
from plcs import free_port

CURVE = [
    {
        "phase": "train",
        "planned": 4,
        "done": 4,
        "seconds": 1.0,
        "steps": [2, 4],
        "loss": [3.0, 1.0],
        "held_out": [[4, 1.5]],
    }
]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector whose manifest says what a trained one's does."""
    path = difference_detector(tmp_path_factory.mktemp("part") / "clip.andon")
    found = read_artifact(path)
    made = found.with_manifest(
        andon_version="0.1.0",
        created="2026-01-31T10:00:00+00:00",
        detector={
            "method": "vae",
            "title": "VAE",
            "paper": "Kingma and Welling 2014",
            "settings": {"width": 2, "layers": [1, 2]},
        },
        data={"train": 20, "calibration": 20, "skipped": [["x.png", "broken"]], "category": ""},
        fit={"seed": 0, "seconds": 12.5, "precision": "float32", "curve": CURVE, "notes": ["a note"]},
        explain={"pictures": 0, "bytes": 0},
        versions={"numpy": "2.4.6"},
    )
    return made.save(path)


def test_a_run_is_what_the_artefact_says_of_itself(artifact: Path) -> None:
    run = run_of(artifact)
    assert run.parameters["method"] == "vae"
    assert run.parameters["setting.layers"] == "[1, 2]"
    assert run.parameters["input.size"] == "[64, 96]"
    assert run.parameters["target_rate"] == "0.01"
    assert "fit.seconds" not in run.parameters
    assert (run.metrics["images_fitted"], run.metrics["images_skipped"], run.metrics["fit_seconds"]) == (
        20,
        1,
        12.5,
    )
    assert run.metrics["artifact_bytes"] == artifact.stat().st_size
    assert run.curve == (("loss.train", 2, 3.0), ("loss.train", 4, 1.0), ("held_out_loss.train", 4, 1.5))
    assert run.tags["version.numpy"] == "2.4.6"
    assert "| method | VAE (Kingma and Welling 2014) |" in run.card
    assert f"| SHA-256 | `{run.sha256}` |" in run.card
    assert "false alarms can be promised with 95 % confidence" in run.card
    assert "- a note\n" in run.card


def test_without_a_threshold_nothing_is_made_up(artifact: Path, tmp_path: Path) -> None:
    from andon.calibrate import calibration_to_dict, uncalibrated

    bare = read_artifact(artifact).with_manifest(calibration=calibration_to_dict(uncalibrated()))
    run = run_of(bare.save(tmp_path / "bare.andon"))
    assert not {"threshold", "promised_rate"} & run.metrics.keys()
    json.dumps(run.metrics, allow_nan=False)


def test_a_ledger(artifact: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "runs of line 3"
    place = Path(track(artifact, ledger.as_uri()))
    assert place.parent == ledger / "runs"
    assert re.fullmatch(r"20260131T100000-[0-9a-f]{8}", place.name)
    assert sorted(path.name for path in place.iterdir()) == ["card.md", "clip.andon", "curve.csv", "run.json"]
    assert read_artifact(place / "clip.andon").manifest["created"] == "2026-01-31T10:00:00+00:00"
    assert list(csv.reader((place / "curve.csv").open(newline=""))) == [
        ["name", "step", "value"], ["loss.train", "2", "3.0"], ["loss.train", "4", "1.0"], ["held_out_loss.train", "4", "1.5"],
    ]  # fmt: skip
    assert json.loads((place / "run.json").read_text())["parameters"]["setting.width"] == "2"
    assert json.loads((ledger / "models" / "clip" / "1.json").read_text())["run"] == place.name
    assert track(artifact, str(ledger)) == str(place)  # the same artefact again is the same run
    assert [path.name for path in (ledger / "models" / "clip").iterdir()] == ["1.json"]
    changed = (
        read_artifact(artifact)
        .with_manifest(created="2026-02-01T10:00:00+00:00")
        .save(tmp_path / "clip.andon")
    )
    track(changed, str(ledger))
    assert sorted(path.name for path in (ledger / "models" / "clip").iterdir()) == ["1.json", "2.json"]


def test_a_ledger_that_cannot_be_written_has_no_half_runs(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("andon.tracking.shutil.copyfile", full)
    with pytest.raises(AndonError, match="cannot record the fit in .*: No space left on device"):
        track(artifact, str(tmp_path / "ledger"))
    assert list((tmp_path / "ledger" / "runs").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(AndonError, match="is a file, not a folder|cannot write"):
        require_usable(str(tmp_path / "file"))


# --- a server -----------------------------------------------------------------------------------------------------


class Mlflow(BaseHTTPRequestHandler):
    """The calls of MLflow's REST interface that a fit makes; ``refuse`` is a call that it does not take."""

    calls: list[tuple[str, dict[str, Any]]]
    artifacts: str
    refuse = ""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}"))

    def _answer(self, asked: dict[str, Any]) -> None:
        call = self.path.partition("/mlflow/")[2].partition("?")[0]
        self.calls.append((call, asked))
        info = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "RUNNING", "start_time": 0,
                "artifact_uri": self.artifacts, "lifecycle_stage": "active"}  # fmt: skip
        version = {"name": asked.get("name", ""), "version": "3", "status": "READY", "creation_timestamp": 0}
        answers: dict[str, dict[str, Any]] = {
            "experiments/create": {"experiment_id": "1"},
            "runs/create": {"run": {"info": info, "data": {}}},
            "runs/get": {"run": {"info": info, "data": {}}},
            "runs/update": {"run_info": info},
            "runs/log-batch": {},
            "model-versions/create": {"model_version": version},
        }
        missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is none"}
        known = {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it is there"}
        status, content = (200, answers[call]) if call in answers and call != self.refuse else (404, missing)
        if call == "registered-models/create":
            status, content = 400, known
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, type[Mlflow]]]:
    handler = type("Handler", (Mlflow,), {"calls": [], "artifacts": (tmp_path / "kept").as_uri()})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, args=[0.02], daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", handler
    serving.shutdown()
    serving.server_close()


def test_a_server_gets_all_of_it(artifact: Path, server: tuple[str, type[Mlflow]], tmp_path: Path) -> None:
    uri, handler = server
    require_usable(uri)
    assert track(artifact, uri) == f"{uri}: clip version 3, run r1"
    calls = handler.calls
    batches = [asked for call, asked in calls if call == "runs/log-batch"]
    assert {one["key"]: one["value"] for batch in batches for one in batch["params"]} == run_of(
        artifact
    ).parameters
    losses = [
        (one["step"], one["value"])
        for batch in batches
        for one in batch["metrics"]
        if one["key"] == "loss.train"
    ]
    assert losses == [(2, 3.0), (4, 1.0)]
    assert (tmp_path / "kept" / "clip.andon").read_bytes() == artifact.read_bytes()
    assert (tmp_path / "kept" / "card.md").read_text() == run_of(artifact).card
    (version,) = [asked for call, asked in calls if call == "model-versions/create"]
    assert version["name"] == "clip"
    assert version["source"].endswith("kept/clip.andon")
    assert version["description"] == run_of(artifact).card
    assert [asked["status"] for call, asked in calls if call == "runs/update"] == ["FINISHED"]


def test_a_server_that_refuses(artifact: Path, server: tuple[str, type[Mlflow]]) -> None:
    uri, handler = server
    handler.refuse = "runs/log-batch"
    with pytest.raises(AndonError, match=f"MLflow at {uri} does not take the fit: .*there is none"):
        track(artifact, uri)
    assert [asked["status"] for call, asked in handler.calls if call == "runs/update"] == ["FAILED"]


def test_a_server_that_is_away_is_found_out_before_the_fit() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AndonError, match=f"the MLflow server {uri} cannot be reached: .*refused"):
        require_usable(uri)
    with pytest.raises(SettingsError, match="--mlflow takes a folder, or the URI of an MLflow server"):
        require_usable(" ")


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch, server: tuple[str, type[Mlflow]]) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "andon[mlflow]"')):
        require_usable(server[0])


# --- andon fit ----------------------------------------------------------------------------------------------------


def fit(artifact: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """``andon fit`` with all but the fit itself."""
    monkeypatch.setattr(andon.pipeline, "fit", lambda *_, **__: Predictor.open(artifact, threads=1))
    return CliRunner().invoke(command, [str(artifact.parent), "-o", str(artifact), *arguments])


def test_fit_records_by_default_in_a_folder(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = fit(artifact, monkeypatch, "--mlflow")
    assert done.exit_code == 0, (done.output, done.exception)
    (run,) = (tmp_path / "andon-runs" / "runs").iterdir()
    assert f"recorded: andon-runs/runs/{run.name}" in done.output


def test_fit_says_how_to_record_later(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> str:
        raise AndonError("the server has gone.")

    monkeypatch.setattr("andon.tracking.track", refuse)
    done = fit(artifact, monkeypatch, "--mlflow", str(tmp_path))
    assert isinstance(done.exception, AndonError)
    assert f"{artifact} is saved. Record it later with: python -c" in str(done.exception)
