"""What one browser has inspected: bounded in memory, and as a table to take home."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from andon.app.badges import short
from andon.app.inspecting import Shot
from andon.cells import csv_cell
from andon.records import Decided
from andon.records.moments import stamp
from andon.runtime.words import Words, decimal
from andon.types import Failure

MOST = 5000  # rows that a browser keeps; the records keep all
COLUMNS = (
    "number", "at", "detector", "detector_hash", "image", "decision", "score", "image_score", "threshold", "sentence",
    "notes", "tried_rate", "tried_threshold", "tried_decision", "operator", "operator_decision", "operator_note",
    "milliseconds", "record", "error",
)  # fmt: skip
Rate = Callable[[str], float | None]  # a detector's name -> the rate that is tried on it; None: its own


@dataclass
class Journal:
    """The photographs of one session, oldest first, and the files that could not be inspected."""

    shown: int  # whose pictures are kept
    entries: list[Shot | Failure] = field(default_factory=list)
    count: int = 0  # shots ever

    @property
    def shots(self) -> list[Shot]:
        """Those that were inspected, newest first."""
        return [entry for entry in reversed(self.entries) if isinstance(entry, Shot)]

    def add(self, entry: Shot | Failure) -> None:
        """One more; the pictures of the one that is too old by now go."""
        self.entries.append(entry)
        self.count += isinstance(entry, Shot)
        del self.entries[:-MOST]
        with_pictures = [
            at for at, each in enumerate(self.entries) if isinstance(each, Shot) and each.pictures
        ]
        for at in with_pictures[: -self.shown]:
            old = self.entries[at]
            if isinstance(old, Shot):
                self.entries[at] = old.without_pictures()

    def decide(self, number: int, decided: Decided) -> None:
        """Keep what a person said of the shot ``number``."""
        for at, each in enumerate(self.entries):
            if isinstance(each, Shot) and each.number == number:
                self.entries[at] = replace(each, decided=decided)


def as_csv(entries: Iterable[Shot | Failure], rate: Rate) -> bytes:
    """A CSV table (UTF-8 with a mark for spreadsheets), a row for each entry, under ``COLUMNS``.

    ``decision`` is the machine's at the detector's own threshold, as it was recorded; ``tried_*`` is what the slider
    makes of it; ``operator_decision`` is the person's, and has the last word.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        row = _shot_row(entry, rate(entry.detector.name)) if isinstance(entry, Shot) else _failure_row(entry)
        writer.writerow({name: csv_cell(value) for name, value in row.items()})
    return buffer.getvalue().encode("utf-8-sig")


def _shot_row(shot: Shot, rate: float | None) -> dict[str, object]:
    verdict, tried = shot.verdict, shot.ruling(rate)
    return {
        "number": shot.number,
        "at": stamp(shot.at),
        "detector": shot.detector.name,
        "detector_hash": shot.detector.hash,
        "image": shot.name,
        "decision": verdict.decision,
        "score": verdict.score,
        "image_score": verdict.image_score,
        "threshold": verdict.threshold,
        "sentence": verdict.sentence,
        "notes": "; ".join(verdict.notes),
        "tried_rate": shot.calibration.target_rate if rate is None else rate,
        "tried_threshold": tried.calibration.threshold,
        "tried_decision": shot.decision(rate),
        "operator": shot.decided.who if shot.decided else "",
        "operator_decision": shot.decided.verdict if shot.decided else "",
        "operator_note": shot.decided.note if shot.decided else "",
        "milliseconds": round(verdict.milliseconds, 3),
        "record": "" if shot.record is None else shot.record,
        "error": shot.unrecorded,
    }


def _failure_row(failure: Failure) -> dict[str, object]:
    return {"image": failure.path, "error": failure.reason}


def as_table(shots: Sequence[Shot], rate: Rate, words: Words) -> list[dict[str, object]]:
    """A row for each of ``shots`` for the screen, under headings in the language of ``words``."""
    names = {name: words[f"inspect.column_{name}"] for name in ("number", "image", "decision", "score", "tried", "operator", "note")}  # fmt: skip
    return [
        {
            names["number"]: shot.number,
            names["image"]: shot.name,
            names["decision"]: short(shot.verdict.decision, words),
            names["tried"]: short(shot.decision(rate(shot.detector.name)), words),
            names["operator"]: short(shot.decided.verdict, words) if shot.decided else "",
            names["score"]: decimal(words, f"{shot.verdict.score:.3f}"),
            names["note"]: shot.decided.note if shot.decided else "",
        }
        for shot in shots
    ]
