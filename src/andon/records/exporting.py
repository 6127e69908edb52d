"""What leaves the records: tables and photographs."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from andon.cells import csv_cell
from andon.errors import DataError
from andon.files import atomic_write
from andon.records.entries import Filters, Inspection
from andon.records.moments import stamp
from andon.records.pictures import Pictures
from andon.types import Decision

COLUMNS = (
    "id", "at", "who", "artifact", "artifact_hash", "image", "image_hash", "decision", "verdict", "decided_by",
    "decided_at", "note", "score", "image_score", "threshold", "group", "regions", "sentence", "notes", "height",
    "width", "not_inspected", "milliseconds", "session", "line", "sequence", "part",
)  # fmt: skip


def judged(verdict: Decision, filters: Filters | None) -> Filters:
    """``filters`` for what persons said to be ``verdict``."""
    return replace(filters or Filters(), verdicts=(verdict,))


def write_csv(file: str | os.PathLike[str] | IO[str], inspections: Iterable[Inspection]) -> int:
    """Write a row for each inspection; how many."""
    count = 0
    with _opened(file) as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for inspection in inspections:
            count += 1
            writer.writerow({name: csv_cell(value) for name, value in csv_row(inspection).items()})
    return count


def csv_row(inspection: Inspection) -> dict[str, object]:
    """One inspection under ``COLUMNS``. ``verdict`` is a person's last word, "" where nobody decided."""
    decided = inspection.decided
    return {
        "id": inspection.id,
        "at": stamp(inspection.at),
        "who": inspection.who,
        "artifact": inspection.artifact.name,
        "artifact_hash": inspection.artifact.hash,
        "image": inspection.image_name,
        "image_hash": inspection.image_hash,
        "decision": inspection.decision,
        "verdict": decided.verdict if decided else "",
        "decided_by": decided.who if decided else "",
        "decided_at": stamp(decided.at) if decided else "",
        "note": decided.note if decided else "",
        "score": inspection.score,
        "image_score": inspection.image_score,
        "threshold": inspection.threshold,
        "group": inspection.group,
        "regions": json.dumps([asdict(region) for region in inspection.regions]),
        "sentence": inspection.sentence,
        "notes": "; ".join(inspection.notes),
        "height": inspection.size[0],
        "width": inspection.size[1],
        "not_inspected": inspection.not_inspected,
        "milliseconds": inspection.milliseconds,
        "session": inspection.session,
        "line": inspection.line,
        "sequence": inspection.sequence,
        "part": inspection.part,
    }


@contextmanager
def _opened(file: str | os.PathLike[str] | IO[str]) -> Iterator[IO[str]]:
    if isinstance(file, str | os.PathLike):
        with atomic_write(file, "w") as out:
            yield out
    else:
        yield file


def save_images(pictures: Pictures, inspections: Iterable[Inspection], folder: Path) -> list[int]:
    """Copy photographs into ``folder``; the numbers of those that are not kept any more."""
    missing: list[int] = []
    written: set[str] = set()
    for inspection in inspections:
        if inspection.image_hash in written:
            continue
        data = pictures.read(inspection.image_hash)
        if data is None:
            missing.append(inspection.id)
            continue
        written.add(str(inspection.image_hash))
        target = folder / safe_name(inspection)
        if target.exists() and target.read_bytes() != data:
            raise DataError(f"{target} is there and is another photograph. Give an empty folder.")
        with atomic_write(target) as file:
            file.write(data)
    return missing


def safe_name(inspection: Inspection) -> str:
    """A file name from the photograph's own, whatever that was, and the inspection's number.

    Nothing of it can lead out of a folder.
    """
    name = Path(inspection.image_name.replace("\\", "/")).name
    stem, suffix = Path(name).stem, Path(name).suffix.lower()
    safe = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "image"
    return f"{inspection.id:06}_{safe}{suffix if re.fullmatch(r'[.][a-z0-9]{1,8}', suffix) else '.bin'}"
