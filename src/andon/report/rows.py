"""Verdicts as rows: CSV for a spreadsheet, JSON lines for a program."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

from andon.cells import csv_cell, finite
from andon.files import atomic_write
from andon.types import Failure, Region, Verdict

COLUMNS = (
    "path", "decision", "score", "image_score", "threshold", "regions", "sentence",
    "height", "width", "not_inspected", "milliseconds", "notes", "error",
)  # fmt: skip


def verdict_rows(answers: Iterable[Verdict | Failure]) -> list[dict[str, object]]:
    """One dict per image with the keys ``COLUMNS``, ready for strict JSON: numbers that are not finite are None.

    A failure's decision is "" and its numbers None.

    >>> verdict_rows([Failure("a.png", "truncated")])[0]["error"]
    'truncated'
    """
    return [
        _verdict_row(answer) if isinstance(answer, Verdict) else _failure_row(answer.path, answer.reason)
        for answer in answers
    ]


def _verdict_row(verdict: Verdict) -> dict[str, object]:
    return {
        "path": verdict.path,
        "decision": verdict.decision,
        "score": finite(verdict.score),
        "image_score": finite(verdict.image_score),
        "threshold": finite(verdict.threshold),
        "regions": [_region(region) for region in verdict.regions],
        "sentence": verdict.sentence,
        "height": int(verdict.size[0]),
        "width": int(verdict.size[1]),
        "not_inspected": finite(verdict.not_inspected),
        "milliseconds": finite(verdict.milliseconds),
        "notes": list(verdict.notes),
        "error": "",
    }


def _failure_row(path: str, reason: str) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(COLUMNS)
    return {
        **empty,
        "path": path,
        "decision": "",
        "regions": [],
        "sentence": "",
        "notes": [],
        "error": reason,
    }


def _region(region: Region) -> dict[str, object]:
    return {
        "box": [int(edge) for edge in region.box],
        "area": int(region.area),
        "area_fraction": finite(region.area_fraction),
        "peak": finite(region.peak),
        "peak_position": [int(place) for place in region.peak_position],
    }


def write_jsonl(answers: Iterable[Verdict | Failure], file: str | os.PathLike[str] | IO[str]) -> None:
    """Write one strict JSON object a line (ASCII, no NaN) to a path, atomically, or to an open text file."""
    with _opened(file) as out:
        for row in verdict_rows(answers):
            out.write(json.dumps(row, allow_nan=False) + "\n")


def write_csv(
    answers: Iterable[Verdict | Failure],
    file: str | os.PathLike[str] | IO[str],
    words: Mapping[str, str] | None = None,
) -> None:
    """Write a CSV table (UTF-8, header first) to a path, atomically, or to an open text file.

    ``words``: a language's, as ``column.<name>`` and ``decision.<name>``; None for the names that programs know.

    Regions are JSON in their cell, notes are joined by "; ". A text that a spreadsheet would run as a formula
    (it begins with = + - @) gets an apostrophe before it.
    """
    with _opened(file) as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writerow({name: words[f"column.{name}"] if words else name for name in COLUMNS})
        for row in verdict_rows(answers):
            if words and row["decision"]:
                row["decision"] = words[f"decision.{row['decision']}"]
            writer.writerow({key: _cell(key, value) for key, value in row.items()})


def _cell(key: str, value: object) -> object:
    if key == "regions":
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "; ".join(str(item) for item in value)
    return csv_cell(value)


@contextlib.contextmanager
def _opened(file: str | os.PathLike[str] | IO[str]) -> Iterator[IO[str]]:
    if isinstance(file, str | os.PathLike):
        with atomic_write(file, "w") as out:
            yield out
    else:
        yield file
