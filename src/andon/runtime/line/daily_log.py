"""A table a day that only grows, and that a kill or a full disk cannot spoil: no half lines, no line twice.

Before lines are added, the file's end is looked at: a last line without its end is cut off, and of what is to be added
only the sequence numbers above the last line's are. So whatever was interrupted is put right by doing it again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal

from andon.cells import csv_cell
from andon.runtime.line.contract import Result

Kind = Literal["csv", "jsonl"]
COLUMNS = (
    "sequence", "inspected", "part", "decision", "score", "image_score", "threshold", "sentence", "error", "drift",
    "notes", "codes", "fields", "name", "height", "width", "not_inspected", "milliseconds", "arrived", "overlay",
    "regions", "sha256", "artifact_sha256",
)  # fmt: skip
_TAIL = 65536  # bytes looked at first for the last line


def append(path: Path, results: Sequence[Result], kind: Kind) -> None:
    """Add a line for each of ``results`` (in order) that the file does not have; flushed to the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        last = _repaired(file, kind)
        lines = [_line(result, kind) for result in results if result.sequence > last]
        if kind == "csv" and file.tell() == 0:
            lines.insert(0, _csv_line(COLUMNS))
        file.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())


def _repaired(file: IO[bytes], kind: Kind) -> int:
    """The sequence number of the last whole line, 0 without one; what follows it is cut off."""
    size, tail = file.seek(0, os.SEEK_END), _TAIL
    while True:
        start = max(0, size - tail)
        file.seek(start)
        end = file.read(size - start)
        whole = end[: end.rfind(b"\n") + 1]
        before = whole[:-1].rfind(b"\n")  # the end of the line before the last
        if start == 0 or before >= 0:
            break
        tail *= 8
    file.truncate(start + len(whole))
    file.seek(0, os.SEEK_END)
    return _sequence(whole[before + 1 :], kind) if whole else 0


def _sequence(line: bytes, kind: Kind) -> int:
    """The sequence number of a line; 0 of the CSV's header."""
    if kind == "jsonl":
        return int(json.loads(line)["sequence"])
    first = line.split(b",", 1)[0]
    return int(first) if first.isdigit() else 0


def _line(result: Result, kind: Kind) -> bytes:
    if kind == "jsonl":
        return result.document.encode("ascii") + b"\n"
    return _csv_line(_cell(result.content.get(name, "")) for name in COLUMNS)


def _csv_line(cells: Iterable[object]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


def _cell(value: object) -> object:
    """A value for one field, in one line: lists of texts joined by "; ", all else that is not plain as JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "; ".join(value)
    if isinstance(value, list | dict):
        value = json.dumps(value) if value else ""
    return csv_cell(" ".join(value.split())) if isinstance(value, str) else value
