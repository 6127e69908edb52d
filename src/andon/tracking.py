"""What a fit was, kept where fits are compared: a folder of our own, or an MLflow server.

Everything is taken from the artefact, which says of itself how it was made: parameters, the curve of the losses, metrics.
The artefact itself goes with it, and its card (:func:`card_of`); the detector is registered under its file's name, a
version a fit.

MLflow's own file store is on its way out (mlflow-skinny 3.17 refuses to open one), so a folder is a plain ledger::

    LEDGER/runs/20260131T100000-1a2b3c4d/   run.json, curve.csv, card.md, NAME.andon
    LEDGER/models/NAME/1.json               which run is version 1 of NAME

A run is written beside and renamed into place: it is there whole, or not at all. Servers need the extra ``mlflow``.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from andon.artifact import read_artifact
from andon.errors import AndonError, MissingExtraError, SettingsError
from andon.files import atomic_write, check_folder

DEFAULT = "andon-runs"  # the ledger, below the working folder
EXPERIMENT = "andon"
REACH_S = 5.0
BATCH = 100  # parameters, or metrics, that MLflow takes at once
LONGEST = 500  # letters of a parameter's value
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Run:
    """One fit, as it is recorded. curve: (name, step from 1, value) in order. created: ISO 8601."""

    name: str
    artifact: Path
    sha256: str
    created: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: tuple[tuple[str, int, float], ...]
    tags: Mapping[str, str]
    card: str

    @property
    def identifier(self) -> str:
        """The run's name in a ledger: when it was made, and the beginning of the artefact's hash."""
        when = datetime.fromisoformat(self.created).strftime("%Y%m%dT%H%M%S")
        return f"{when}-{self.sha256[:8]}"


def run_of(path: str | os.PathLike[str]) -> Run:
    """The fit that made the artefact at ``path``. Raises :class:`ArtifactError`."""
    import hashlib

    artifact = Path(path)
    manifest = read_artifact(artifact).manifest
    with open(artifact, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Run(
        name=artifact.stem,
        artifact=artifact,
        sha256=digest,
        created=str(manifest.get("created") or datetime.now().astimezone().isoformat(timespec="seconds")),
        parameters=_parameters(manifest),
        metrics=_metrics(manifest, artifact),
        curve=tuple(_curve(manifest)),
        tags={f"version.{name}": str(value) for name, value in manifest.get("versions", {}).items()}
        | {"andon": str(manifest.get("andon_version")), "sha256": digest},
        card=card_of(manifest, artifact.name, digest),
    )


def require_usable(uri: str) -> None:
    """Raise an :class:`AndonError` where nothing can be recorded at ``uri``: before a fit, not after it."""
    folder = ledger_at(uri)
    if folder is not None:
        check_folder(folder)
        return
    parts = urlsplit(uri)
    if parts.scheme in PORTS:
        try:
            place = (parts.hostname or "", parts.port or PORTS[parts.scheme])
            socket.create_connection(place, REACH_S).close()
        except (OSError, ValueError) as error:
            raise AndonError(f"the MLflow server {uri} cannot be reached: {error}") from error
    _client(uri)


def track(path: str | os.PathLike[str], uri: str) -> str:
    """Where the fit that made the artefact at ``path`` has been recorded at ``uri``. Raises :class:`AndonError`."""
    run = run_of(path)
    folder = ledger_at(uri)
    return str(_to_ledger(run, folder)) if folder is not None else _to_mlflow(run, uri)


def ledger_at(uri: str) -> Path | None:
    """The folder that ``uri`` names; None for a server or another store of MLflow's.

    >>> ledger_at("runs"), ledger_at("file:///data/my%20runs"), ledger_at("http://mlflow.plant:5000")
    (PosixPath('runs'), PosixPath('/data/my runs'), None)
    """
    if not uri.strip():
        raise SettingsError(
            "--mlflow takes a folder, or the URI of an MLflow server such as http://mlflow.plant:5000"
        )
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if "://" not in uri and parts.scheme != "databricks" else None


def card_of(manifest: Mapping[str, Any], name: str, digest: str) -> str:
    """The model card of an artefact, Markdown: what it is, what it was made from, what it promises, what it does not."""
    detector, data, calibration = manifest["detector"], manifest.get("data", {}), manifest["calibration"]
    settings = ", ".join(f"{key} {value}" for key, value in detector.get("settings", {}).items())
    rows = {
        "method": f"{detector.get('title') or detector['method']} ({detector.get('paper', '')})",
        "settings": settings or "none",
        "input": f"{' x '.join(map(str, manifest['preprocessing']['size']))}, {manifest['preprocessing']['resize']}",
        "fitted on": f"{data.get('train')} photographs of good parts",
        "threshold": f"{_number(calibration['threshold'])} from {data.get('calibration')} further good ones, for a rate of false alarms of "
        f"{calibration['target_rate']}",
        "made": f"{manifest.get('created')} by andon {manifest.get('andon_version')}",
        "SHA-256": f"`{digest}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    notes = "".join(f"- {note}\n" for note in manifest.get("fit", {}).get("notes", []))
    return f"""# {name}

Says of a photograph of this part whether and where it differs from good ones: pass, review or fail.

| | |
|---|---|
{table}

## What is promised
{calibration["statement"]}

That holds for good parts like those it was fitted on, under the same camera and light. How many defects are found is not
promised: `andon evaluate` on parts whose defects are known measures it.

## Limits
- Defects that look like the variation of good parts are not found.
- What changes for all parts (light, camera, another supplier) looks like defects: watch for drift, and calibrate anew.
{notes}"""


def _parameters(manifest: Mapping[str, Any]) -> dict[str, str]:
    detector, fit, calibration = manifest["detector"], manifest.get("fit", {}), manifest["calibration"]
    data = manifest.get("data", {})
    plain = {
        key: value for key, value in fit.items() if not isinstance(value, dict | list) and key != "seconds"
    }
    found = {
        "method": detector["method"],
        **{f"setting.{key}": value for key, value in detector.get("settings", {}).items()},
        **{f"input.{key}": value for key, value in manifest["preprocessing"].items()},
        **{f"fit.{key}": value for key, value in plain.items()},
        **{f"data.{key}": data[key] for key in ("layout", "category", "root") if data.get(key)},
        "target_rate": calibration["target_rate"],
        "confidence": calibration["confidence"],
    }
    return {key: _text(value)[:LONGEST] for key, value in found.items() if value is not None}


def _metrics(manifest: Mapping[str, Any], artifact: Path) -> dict[str, float]:
    calibration, data, fit = manifest["calibration"], manifest.get("data", {}), manifest.get("fit", {})
    found = {
        "threshold": calibration["threshold"],
        "promised_rate": None if calibration["method"] == "none" else calibration["promised_rate"],
        "images_fitted": data.get("train"),
        "images_calibrated": data.get("calibration"),
        "images_skipped": len(data.get("skipped", [])),
        "fit_seconds": fit.get("seconds"),
        "artifact_bytes": artifact.stat().st_size,
    }
    numbers = {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
    return {key: value for key, value in numbers.items() if value - value == 0}  # neither nan nor infinite


def _curve(manifest: Mapping[str, Any]) -> Iterator[tuple[str, int, float]]:
    for phase in manifest.get("fit", {}).get("curve", []):
        for step, loss in zip(phase["steps"], phase["loss"], strict=True):
            yield f"loss.{phase['phase']}", int(step), float(loss)
        for step, loss in phase.get("held_out", []):
            yield f"held_out_loss.{phase['phase']}", int(step), float(loss)


def _number(value: object) -> str:
    """A number in six digits, for people; anything else as it is."""
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- a folder -----------------------------------------------------------------------------------------------------


def _to_ledger(run: Run, ledger: Path) -> Path:
    """The run's folder below ``ledger``; the same artefact again is the same run."""
    place = ledger / "runs" / run.identifier
    if place.is_dir():
        return place
    half = place.with_name(f".{run.identifier}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        half.mkdir(parents=True)
        try:
            _write_run(run, half)
            os.rename(half, place)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        raise AndonError(f"cannot record the fit in {ledger}: {error.strerror or error}") from error
    _register(ledger / "models" / run.name, run)
    return place


def _write_run(run: Run, folder: Path) -> None:
    content = {
        "name": run.name, "created": run.created, "artifact": run.artifact.name, "sha256": run.sha256,
        "parameters": run.parameters, "metrics": run.metrics, "tags": run.tags,
    }  # fmt: skip
    shutil.copyfile(run.artifact, folder / run.artifact.name)
    with atomic_write(folder / "curve.csv", "w") as file:
        csv.writer(file).writerows([("name", "step", "value"), *run.curve])
    with atomic_write(folder / "card.md", "w") as file:
        file.write(run.card)
    with atomic_write(folder / "run.json", "w") as file:
        json.dump(content, file, indent=1)


def _register(model: Path, run: Run) -> None:
    """Make ``run`` the next version of ``model``; two at once get two numbers."""
    model.mkdir(parents=True, exist_ok=True)
    version = 1 + max((int(path.stem) for path in model.glob("*.json") if path.stem.isdecimal()), default=0)
    text = json.dumps({"run": run.identifier, "sha256": run.sha256, "created": run.created}, indent=1)
    while True:
        try:
            with open(model / f"{version}.json", "x", encoding="utf-8") as file:
                file.write(text)
            return
        except FileExistsError:
            version += 1


# --- MLflow -------------------------------------------------------------------------------------------------------


def _to_mlflow(run: Run, uri: str) -> str:
    """``NAME version N`` of the model registered at the MLflow server ``uri``."""
    client = _client(uri)
    with _refusing(uri):
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        made = client.create_run(
            number, run_name=run.name, tags={**run.tags, "mlflow.note.content": run.card}
        )
        identifier = made.info.run_id
        try:
            _log(client, identifier, run)
        except BaseException:
            client.set_terminated(identifier, "FAILED")
            raise
        client.set_terminated(identifier)
        _require_model(client, run.name)
        source = f"{made.info.artifact_uri}/{run.artifact.name}"
        version = client.create_model_version(run.name, source, identifier, description=run.card)
        return f"{uri}: {run.name} version {version.version}, run {identifier}"


def _log(client: Any, identifier: str, run: Run) -> None:
    from mlflow.entities import Metric, Param

    when = int(datetime.fromisoformat(run.created).timestamp() * 1000)
    metrics = [Metric(name, value, when, 0) for name, value in run.metrics.items()]
    metrics += [Metric(name, value, when, step) for name, step, value in run.curve]
    params = [Param(name, value) for name, value in run.parameters.items()]
    for start in range(0, max(len(metrics), len(params)), BATCH):
        client.log_batch(
            identifier, metrics=metrics[start : start + BATCH], params=params[start : start + BATCH]
        )
    client.log_artifact(identifier, str(run.artifact))
    client.log_text(identifier, run.card, "card.md")


def _require_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _client(uri: str) -> Any:
    """A client of the server or store at ``uri``. Raises :class:`MissingExtraError`.

    MLflow tells its makers how it is used unless it is told not to; here it is, since plants' networks are no place for that.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise MissingExtraError("mlflow-skinny", extra="mlflow", purpose=f"--mlflow {uri}") from error
    with _refusing(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _refusing(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise AndonError(f"MLflow at {uri} does not take the fit: {reason}") from error
