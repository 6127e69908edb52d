"""A monitor's state as one small JSON file: written whole or not at all, resumed exactly, bound to its detector."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from andon.artifact import MODEL, Artifact
from andon.errors import DataError
from andon.files import atomic_write
from andon.runtime.monitor.events import MEASURES, DriftEvent
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.reference import Picture, Reference
from andon.runtime.monitor.watch import watch_from_dict

FORMAT = "andon-monitor"
SCHEMA = 2
_BINDING = (
    "preprocessing",
    "calibration",
    "nuisance",
)  # of the manifest: what decides a score and its verdict


def identity_of(artifact: Artifact) -> str:
    """A SHA-256 of graph, preprocessing, calibration and zones: with another threshold it is another detector."""
    parts = {name: artifact.manifest.get(name) for name in _BINDING}
    digest = hashlib.sha256(artifact.members[MODEL])
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()


def begin_monitor(artifact: Artifact, *, false_alarm: float = 0.01, defect_rate: float = 0.05) -> Monitor:
    """A new monitor for the line behind ``artifact``; see :meth:`Monitor.begin`."""
    return Monitor.begin(
        identity_of(artifact),
        artifact.manifest["calibration"]["nominal_scores"],
        Reference.from_manifest(artifact.manifest),
        false_alarm=false_alarm,
        defect_rate=defect_rate,
    )


def resume_monitor(path: str | os.PathLike[str], artifact: Artifact) -> Monitor:
    """The monitor in ``path``; a new one where there is no such file.

    Raises :class:`DataError` when the file is damaged or belongs to another detector.
    """
    if not Path(path).exists():
        return begin_monitor(artifact)
    monitor = read_monitor(path)
    if monitor.identity != identity_of(artifact):
        raise DataError(
            f"{os.fspath(path)} watches another detector, or this one before it was fitted or calibrated again. Its past "
            "scores say nothing about this one: give the name of a new file."
        )
    return monitor


def save_monitor(monitor: Monitor, path: str | os.PathLike[str]) -> None:
    """Write the monitor's state to ``path``, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(_to_dict(monitor), file, allow_nan=False)


def read_monitor(path: str | os.PathLike[str]) -> Monitor:
    """The monitor in ``path``, whatever detector it watches. Raises :class:`DataError`."""
    name = os.fspath(path)
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"there is no file {name}. Begin one with: andon inspect PART.andon PHOTOS --monitor {name}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as a monitor's state: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{name} is not a monitor's state, as andon inspect --monitor writes it.")
    if content.get("schema") != SCHEMA:
        raise DataError(
            f"{name} has schema {content.get('schema')!r}, this version of Andon reads {SCHEMA}. "
            "Upgrade Andon, or begin a new file."
        )
    try:
        return _from_dict(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name} is damaged ({error!r}). Begin a new file.") from error


def _to_dict(monitor: Monitor) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "identity": monitor.identity,
        "false_alarm": monitor.false_alarm,
        "defect_rate": monitor.defect_rate,
        "trim": monitor.trim if math.isfinite(monitor.trim) else None,
        "images": monitor.images,
        "events": [event.to_dict() for event in monitor.events],
        "picture": monitor.picture.to_dict(),
        "watches": {name: watch.to_dict() for name, watch in monitor.watches.items()},
    }


def _from_dict(content: dict[str, Any]) -> Monitor:
    if not set(content["watches"]) <= set(MEASURES):
        raise ValueError(f"unknown measures: {sorted(set(content['watches']) - set(MEASURES))}")
    return Monitor(
        identity=content["identity"],
        false_alarm=float(content["false_alarm"]),
        defect_rate=float(content["defect_rate"]),
        trim=math.inf if content["trim"] is None else float(content["trim"]),
        watches={name: watch_from_dict(watch) for name, watch in content["watches"].items()},
        picture=Picture.from_dict(content["picture"]),
        images=int(content["images"]),
        events=[DriftEvent(**event) for event in content["events"]],
    )
