"""Another artefact in the place of one in use: the change written down and the file exchanged, or neither."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from andon.artifact import Artifact
from andon.calibrate import calibration_from_dict
from andon.errors import DataError
from andon.files import atomic_write, single_writer
from andon.nuisance import ZonePlan
from andon.records import ArtifactName, Session

if TYPE_CHECKING:
    from andon.records import Records

_TOLD = (
    "threshold",
    "review_threshold",
    "map_threshold",
    "target_rate",
    "promised_rate",
    "method",
    "statement",
)


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What records say of an artefact's thresholds and zones: numbers, the statement, where zones lie; no scores."""
    calibration = calibration_from_dict(manifest["calibration"])
    told = {name: manifest["calibration"][name] for name in _TOLD}
    if calibration.groups:
        told["groups"] = {
            name: manifest["calibration"]["groups"][name]["threshold"] for name in calibration.groups
        }
    plan = ZonePlan.from_manifest(manifest)
    return told | {"zones": [zone.to_dict() for zone in plan.zones] if plan is not None else []}


def put_in_place(
    target: Path,
    artifact: Artifact,
    records: Records,
    session: Session,
    kind: Literal["threshold", "zones"],
    before: Mapping[str, object],
    seen: str | None,
    why: str,
) -> ArtifactName:
    """The name and hash of the artefact that is in ``target`` now, the change written to the records and their trail.

    ``before``: the :func:`summary` of what was there; ``seen``: the hash of the file that whoever changes it looked at,
    None where there was none. The new file is on the disk, whole, before the change is written down, and takes its place
    after it: on a full disk, or records that cannot be written, the old one stays and nothing is said.

    Raises :class:`DataError` where another file is there by now, :class:`AccessError` for who is no engineer,
    :class:`SettingsError` without a reason, :class:`BusyError` where another process writes it.
    """
    records.check(session, "engineer")
    data = artifact.to_bytes()
    made = ArtifactName(target.stem, hashlib.sha256(data).hexdigest())
    with single_writer(target):
        _check_unchanged(target, seen)
        with atomic_write(target) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            records.change(
                session, kind, ArtifactName(target.stem, seen or made.hash), before, summary(artifact.manifest),
                why=why, hash_after=made.hash,
            )  # fmt: skip
    return made


def _check_unchanged(target: Path, seen: str | None) -> None:
    there = ArtifactName.of(target).hash if target.exists() else None
    if there != seen:
        raise DataError(
            f"{target.name} is another one by now than the one that you looked at: somebody changed it meanwhile. "
            "Load the page anew, look at what is there, and change that."
        )
