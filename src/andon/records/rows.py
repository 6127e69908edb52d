"""Rows into and out of the tables: verdicts, persons' decisions, changes; each written with its entry of the trail."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from sqlalchemy import Connection, Table, insert, select

from andon.cells import finite
from andon.errors import DataError, SettingsError
from andon.records import trail
from andon.records.entries import (
    ANSWERS,
    Answer,
    ArtifactName,
    Change,
    Decided,
    Inspection,
    LineResult,
    Session,
    TrailEntry,
)
from andon.records.moments import moment, now, stamp
from andon.records.pictures import Kept
from andon.records.schema import CHANGES, DECISIONS, INSPECTIONS
from andon.types import Decision, Region, Verdict

MOST_TEXT = 2000  # letters of a note, a reason or a name; longer ones are refused
_DISAGREED: dict[str, Decision] = {"fail": "pass", "pass": "fail"}


def add_inspection(
    connection: Connection, session: Session, verdict: Verdict, artifact: ArtifactName, image_name: str, group: str,
    image: Kept, overlay: Kept, result: LineResult | None = None,
) -> int:  # fmt: skip
    """The number of the new row; of a line's ``result``, at the time of its inspection."""
    values = {
        **told(session),
        **(_brought(result) if result is not None else {}),
        "artifact_name": plain(artifact.name),
        "artifact_hash": artifact.hash,
        "image_name": plain(image_name),
        "image_hash": image.hash,
        "image_kept": image.kept,
        "overlay_hash": overlay.hash,
        "overlay_kept": overlay.kept,
        "height": int(verdict.size[0]),
        "width": int(verdict.size[1]),
        "decision": verdict.decision,
        "score": finite(verdict.score),
        "image_score": finite(verdict.image_score),
        "threshold": finite(verdict.threshold),
        "group_name": plain(group),
        "regions": as_json([_region(region) for region in verdict.regions]),
        "sentence": plain(verdict.sentence),
        "notes": as_json(list(verdict.notes)),
        "not_inspected": float(verdict.not_inspected),
        "milliseconds": float(verdict.milliseconds),
    }
    number = _insert(connection, INSPECTIONS, values)
    trail.append(connection, who=session.who, kind="verdict", thing="inspection", thing_id=number, artifact_hash=artifact.hash)  # fmt: skip
    return number


def _brought(result: LineResult) -> dict[str, object]:
    """When a line inspected what, and the number that it gave."""
    return {
        "at": stamp(result.at),
        "line": plain(result.line),
        "sequence": result.sequence,
        "part": plain(result.part),
    }


def add_decision(
    connection: Connection, session: Session, inspection: int, answer: Answer, note: str
) -> Decided:
    """What was recorded. Raises :class:`DataError` without such an inspection."""
    table = INSPECTIONS
    query = select(table.c.decision, table.c.artifact_hash).where(table.c.id == inspection)
    found = connection.execute(query).first()
    if found is None:
        raise DataError(f"there is no inspection {inspection}")
    values = {
        **told(session),
        "inspection": inspection,
        "answer": answer,
        "verdict": verdict_of(answer, found.decision),
        "note": limited("note", note),
    }
    number = _insert(connection, DECISIONS, values)
    trail.append(connection, who=session.who, kind="decision", thing="decision", thing_id=number, artifact_hash=found.artifact_hash)  # fmt: skip
    return decided_of({"id": number, **values})


def verdict_of(answer: Answer, decision: str) -> Decision:
    """What a part is by a person's ``answer`` to the machine's ``decision``."""
    if answer not in ANSWERS:
        raise SettingsError(f"expected one of {', '.join(ANSWERS)} as an answer, got {answer!r}")
    if answer == "agree":
        return cast(Decision, decision)
    if answer != "disagree":
        return answer
    if decision not in _DISAGREED:
        raise SettingsError(
            "a review says neither good nor bad, so one cannot disagree: answer pass, fail or review"
        )
    return _DISAGREED[decision]


def add_change(
    connection: Connection, session: Session, kind: Literal["threshold", "zones"], artifact: ArtifactName,
    before: Mapping[str, object], after: Mapping[str, object], why: str, hash_after: str | None,
) -> Change:  # fmt: skip
    """What was recorded. Raises :class:`SettingsError` without a reason."""
    if kind not in get_args(Literal["threshold", "zones"]):
        raise SettingsError(f"expected threshold or zones as what was changed, got {kind!r}")
    if not why.strip():
        raise SettingsError("a change needs a reason: say in a few words why")
    values = {
        **told(session),
        "kind": kind,
        "artifact_name": plain(artifact.name),
        "artifact_hash": artifact.hash,
        "artifact_hash_after": hash_after,
        "before": as_json(dict(before)),
        "after": as_json(dict(after)),
        "why": limited("reason", why),
    }
    number = _insert(connection, CHANGES, values)
    trail.append(connection, who=session.who, kind=kind, thing="change", thing_id=number, artifact_hash=artifact.hash)  # fmt: skip
    return change_of({"id": number, **values})


def _insert(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    return int(cast(tuple[int, ...], key)[0])


def told(session: Session) -> dict[str, str]:
    """When (now), who, and in which session."""
    return {"at": stamp(now()), "who": session.who, "session": session.token}


def plain(text: str) -> str:
    """``text`` as every database takes it: bytes that are no UTF-8 and the character 0 as escapes.

    >>> plain("a\\x00b\\udcff")
    'a\\\\x00b\\\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def limited(what: str, text: str) -> str:
    """``text`` without spaces around it. Raises :class:`SettingsError` where it is too long."""
    if len(text) > MOST_TEXT:
        raise SettingsError(f"the {what} has {len(text):,} letters; at most {MOST_TEXT:,} are kept")
    return plain(text.strip())


def as_json(value: object) -> str:
    """``value`` as strict JSON in ASCII; numbers that are not finite are null."""
    try:
        return json.dumps(_strict(value), allow_nan=False)
    except TypeError as error:
        raise SettingsError(f"this cannot be recorded: {error}. Expected what JSON can hold.") from error


def _strict(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _region(region: Region) -> dict[str, object]:
    return {
        "box": [int(edge) for edge in region.box],
        "area": int(region.area),
        "area_fraction": float(region.area_fraction),
        "peak": float(region.peak),
        "peak_position": [int(place) for place in region.peak_position],
        "elongation": float(region.elongation),
    }


def _region_of(entry: Mapping[str, Any]) -> Region:
    box, position = tuple(entry["box"]), tuple(entry["peak_position"])
    return Region(**{**entry, "box": box, "peak_position": position})


def inspection_of(row: Mapping[Any, Any], decided: Decided | None) -> Inspection:
    """A row of the inspections."""
    return Inspection(
        id=row["id"],
        at=moment(row["at"]),
        who=row["who"],
        session=row["session"],
        artifact=ArtifactName(row["artifact_name"], row["artifact_hash"]),
        image_name=row["image_name"],
        image_hash=row["image_hash"],
        overlay_hash=row["overlay_hash"],
        size=(row["height"], row["width"]),
        decision=row["decision"],
        score=row["score"],
        image_score=row["image_score"],
        threshold=row["threshold"],
        group=row["group_name"],
        regions=tuple(_region_of(entry) for entry in json.loads(row["regions"])),
        sentence=row["sentence"],
        notes=tuple(json.loads(row["notes"])),
        not_inspected=row["not_inspected"],
        milliseconds=row["milliseconds"],
        decided=decided,
        line=row["line"],
        sequence=row["sequence"],
        part=row["part"],
    )


def decided_of(row: Mapping[Any, Any]) -> Decided:
    """A row of the decisions."""
    return Decided(row["id"], row["inspection"], moment(row["at"]), row["who"], row["answer"], row["verdict"], row["note"])  # fmt: skip


def change_of(row: Mapping[Any, Any]) -> Change:
    """A row of the changes."""
    return Change(
        id=row["id"],
        at=moment(row["at"]),
        who=row["who"],
        kind=row["kind"],
        artifact=ArtifactName(row["artifact_name"], row["artifact_hash"]),
        artifact_hash_after=row["artifact_hash_after"],
        before=json.loads(row["before"]),
        after=json.loads(row["after"]),
        why=row["why"],
    )


def entry_of(row: Mapping[Any, Any]) -> TrailEntry:
    """A row of the trail."""
    return TrailEntry(**{**row, "at": moment(row["at"]), "details": json.loads(row["details"])})
