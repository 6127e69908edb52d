"""What the server answers, field by field: these classes are the schema in /openapi.json."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from andon.cells import finite
from andon.report import verdict_rows
from andon.runtime.monitor import DriftEvent
from andon.runtime.monitor.events import retell
from andon.runtime.server.drifting import Monitors
from andon.runtime.server.inspecting import Inspected
from andon.runtime.server.problems import Problem
from andon.runtime.server.shelf import Change, Shelf, Shelved
from andon.runtime.words import Words


class Region(BaseModel):
    """One connected area whose anomaly map lies above the map threshold."""

    box: tuple[int, int, int, int] = Field(
        description="Top, left, bottom, right in pixels of the photograph; the last two excluded."
    )
    area: int = Field(description="In pixels of the photograph.")
    area_fraction: float | None = Field(description="Of the photograph, 0 to 1.")
    peak: float | None = Field(description="Largest raw value of the anomaly map inside.")
    peak_position: tuple[int, int] = Field(description="Row, column of the photograph.")


class VerdictAnswer(BaseModel):
    """The verdict on one image."""

    request_id: str = Field(description="The one sent as X-Request-Id, else one made here; it is in the log.")
    artefact: str
    artefact_sha256: str = Field(description="Of the file that answered: it may be exchanged at any time.")
    file: str | None = Field(description="The file's name, where one was sent.")
    decision: Literal["pass", "review", "fail"]
    score: float | None = Field(description="0 to 1: the share of good calibration images that scored lower.")
    image_score: float | None = Field(description="Raw; above the threshold the image fails.")
    threshold: float | None = Field(description="Raw; null where there is none.")
    regions: list[Region]
    sentence: str = Field(description="Where and why, in the language asked for.")
    height: int = Field(description="Of the photograph, upright, in pixels.")
    width: int
    not_inspected: float | None = Field(description="Share of the image that no threshold looked at, 0 to 1.")
    milliseconds: float | None = Field(description="From decoding to the verdict, without waiting.")
    notes: list[str] = Field(description="What was done to the image, and what else should be known.")
    group: str | None = Field(description="That the image belongs to, where thresholds differ by group.")
    drift: list[str] = Field(description="What the monitor has become certain of at this image (--monitor).")
    record: int | None = Field(
        description="Its number in the records (--records); null where it is in none: the server's log says why."
    )
    heatmap: str | None = Field(
        description="With ?heatmap=true: the photograph under its heatmap, with the regions; a PNG in Base64."
    )


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs; never changes.")
    expected: str
    came: str
    to_do: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Every error's shape."""

    error: ErrorDetail


class UnreadAnswer(ErrorAnswer):
    """An image of a batch that could not be inspected."""

    file: str | None


class BatchAnswer(BaseModel):
    """One answer an image, in the order sent."""

    request_id: str
    counts: dict[Literal["pass", "review", "fail", "unread"], int]
    answers: list[VerdictAnswer | UnreadAnswer]


class ArtefactAnswer(BaseModel):
    """An artefact that is in use."""

    name: str
    sha256: str = Field(description="Of the file.")
    bytes: int = Field(description="Of the file.")
    in_use_since: datetime
    method: str
    paper: str | None
    size: tuple[int, int] = Field(description="Rows and columns that the network sees.")
    resize: str | None = Field(description="How a photograph is brought to that size.")
    threshold: float | None
    target_rate: float | None = Field(description="Share of good parts that may fail, the rate asked for.")
    statement: str = Field(description="What can be promised of false alarms, in words.")
    group_by: str | None = Field(
        description="The pattern of paths that names an image's group; null without groups."
    )
    groups: list[str] = Field(description="Those that thresholds were set for.")
    drift: list[str] = Field(
        description="What the monitor has noticed so far, with the levels of now (--monitor)."
    )
    fitted: str | None = Field(description="When.")
    andon_version: str | None = Field(description="That fitted it.")


class ProblemAnswer(BaseModel):
    """A file that is not in use, or no longer the newest, and why."""

    name: str
    problem: str


class ArtefactsAnswer(BaseModel):
    """All artefacts that are in use, and what is wrong with their files."""

    artefacts: list[ArtefactAnswer]
    problems: list[ProblemAnswer]


class ChangeAnswer(BaseModel):
    """What became of one file."""

    name: str
    kind: Literal["added", "swapped", "refused", "gone", "removed"]
    message: str


class ReloadAnswer(ArtefactsAnswer):
    """What reading the files again has changed, and what is in use now."""

    changes: list[ChangeAnswer]


class HealthAnswer(BaseModel):
    """The process lives."""

    alive: Literal[True] = True
    andon_version: str


class ReadyAnswer(BaseModel):
    """Whether images can be inspected."""

    ready: bool
    artefacts: int = Field(description="Opened, their golden inputs answered as at the fit.")
    problems: int = Field(description="Files that are not in use; GET /v1/artefacts says why.")


def verdict_answer(
    found: Inspected, shelved: Shelved, request_id: str, file: str | None, words: Words
) -> VerdictAnswer:
    """What ``shelved`` found of the image named ``file``, in the fields of ``andon inspect --jsonl``."""
    row: dict[str, Any] = verdict_rows([found.verdict])[0]
    return VerdictAnswer(
        request_id=request_id,
        artefact=shelved.name,
        artefact_sha256=shelved.sha256,
        file=file,
        heatmap=base64.b64encode(found.heatmap).decode("ascii") if found.heatmap is not None else None,
        group=found.group,
        drift=[retell(event, words).message for event in found.drift],
        record=found.record,
        **{name: value for name, value in row.items() if name not in ("path", "error")},
    )


def unread_answer(problem: Problem, request_id: str, file: str | None) -> UnreadAnswer:
    """``problem`` with one image of a batch."""
    return UnreadAnswer(file=file, **problem.content(request_id))  # type: ignore[arg-type]


def batch_answer(request_id: str, answers: Sequence[VerdictAnswer | UnreadAnswer]) -> BatchAnswer:
    """``answers`` with their counts."""
    found = Counter(answer.decision if isinstance(answer, VerdictAnswer) else "unread" for answer in answers)
    counts = {kind: found[kind] for kind in ("pass", "review", "fail", "unread")}
    return BatchAnswer(request_id=request_id, counts=counts, answers=list(answers))  # type: ignore[arg-type]


def artefact_answer(shelved: Shelved, drift: Sequence[DriftEvent] = ()) -> ArtefactAnswer:
    """What an artefact says of itself, and what drift of it was noticed."""
    manifest, predictor = shelved.predictor.artifact.manifest, shelved.predictor
    detector, calibration = manifest["detector"], predictor.calibration
    return ArtefactAnswer(
        name=shelved.name,
        sha256=shelved.sha256,
        bytes=shelved.size,
        in_use_since=datetime.fromtimestamp(shelved.since, UTC),
        method=str(detector.get("title") or detector.get("name")),
        paper=_text(detector, "paper"),
        size=predictor.preprocessing.size,
        resize=_text(manifest["preprocessing"], "resize"),
        threshold=finite(calibration.threshold),
        target_rate=finite(calibration.target_rate),
        statement=calibration.statement,
        group_by=calibration.group_by or None,
        groups=sorted(calibration.groups),
        drift=[retell(event, predictor.words).message for event in drift],
        fitted=_text(manifest, "created"),
        andon_version=_text(manifest, "andon_version"),
    )


def artefacts_answer(shelf: Shelf, monitors: Monitors | None) -> ArtefactsAnswer:
    """All that is on the shelf."""
    return ArtefactsAnswer(
        artefacts=[
            artefact_answer(shelved, monitors.standing(shelved) if monitors is not None else ())
            for shelved in shelf
        ],
        problems=[ProblemAnswer(name=name, problem=text) for name, text in shelf.problems.items()],
    )


def reload_answer(shelf: Shelf, monitors: Monitors | None, changes: Sequence[Change]) -> ReloadAnswer:
    """All that is on the shelf, after ``changes``."""
    now = artefacts_answer(shelf, monitors)
    told = [ChangeAnswer(name=change.name, kind=change.kind, message=change.message) for change in changes]
    return ReloadAnswer(artefacts=now.artefacts, problems=now.problems, changes=told)


def _text(entries: Mapping[str, Any], key: str) -> str | None:
    value = entries.get(key)
    return None if value is None else str(value)
