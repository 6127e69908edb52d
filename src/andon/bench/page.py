"""The benchmark's page: one HTML file that loads nothing; the same results give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from andon.bench.account import NOT_RUN
from andon.bench.figures import Drawing, draw
from andon.bench.parts import Part
from andon.bench.report import GridReport
from andon.bench.words import counted, title_of
from andon.bench.writers import NO_VALUE, Column, Entry, Table
from andon.files import atomic_write
from andon.report.page import open_template

MOST_LINES = 24  # of the tables of one part that stand open; those after it are folded
_FILTERED = 10  # lines from which on a table can be filtered
_LONG = 24  # letters of a field that may take several lines
_BEATEN = re.compile(r"(?<=dominated by )\w+")


@dataclass(frozen=True)
class Cell:
    """One field as the page shows it. ``order``: what sorting goes by."""

    text: str
    spread: str = ""
    kind: str = ""  # CSS classes
    star: bool = False
    published: str = ""
    source: str = ""  # the mark of the source
    note: str = ""  # the mark of the note
    order: str = ""


@dataclass(frozen=True)
class Head:
    """A column's head."""

    text: str
    is_text: bool


@dataclass(frozen=True)
class Grid:
    """A table as the page shows it; ``foot``: its last lines, which sorting leaves where they are."""

    title: str
    caption: str
    heads: tuple[Head, ...]
    body: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...]
    is_open: bool
    filtered: bool


def write_page(path: str | os.PathLike[str], reports: Sequence[GridReport]) -> Path:
    """The path of the page written, atomically. Raises MissingExtraError without matplotlib or jinja2."""
    template = open_template("bench.html.j2")
    script = (files("andon") / "templates" / "bench.js").read_text(encoding="utf-8")
    page = {
        "title": reports[0].title if len(reports) == 1 else "Benchmark",
        "subtitle": _subtitle(reports),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        "grids": [_section(report) for report in reports],
    }
    text = template.render(page)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def _subtitle(reports: Sequence[GridReport]) -> str:
    cells, done = (sum(getattr(r.account, name) for r in reports) for name in ("cells", "done"))
    grids = f"{len(reports)} grids · " if len(reports) > 1 else f"{reports[0].name} · " if reports else ""
    return f"{grids}{done:,} of {counted(cells, 'cell')} with a result"


def _section(report: GridReport) -> dict[str, Any]:
    """One grid, as the template takes it."""
    account, slug = report.account, re.sub(r"[^a-z0-9]+", "-", report.name.lower()).strip("-") or "grid"
    return {
        "slug": slug,
        "name": report.name,
        "parts": [_part(part, f"{slug}-{k}") for k, part in enumerate(report.parts)],
        "cautions": report.cautions,
        "account": account,
        "status": _status(report),
        "coverage": table_grid(account.coverage, is_open=True),
        "fits": table_grid(account.fits, is_open=True) if account.fits.rows else None,
    }


def _status(report: GridReport) -> str:
    account = report.account
    parts = [
        f"{account.done:,} of {counted(account.cells, 'cell')} {'has' if account.done == 1 else 'have'} a result"
    ]
    parts += [f"{account.failed:,} failed"] if account.failed else []
    parts += (
        [f"{account.missing:,} {'was' if account.missing == 1 else 'were'} not run"]
        if account.missing
        else []
    )
    return ", ".join(parts) + "."


def _part(part: Part, identifier: str) -> dict[str, Any]:
    lines, shown, said = 0, [], set[str]()
    for place, table in enumerate(part.tables):
        lines += len(table.rows)
        own, _, common = table.caption.partition(". ")
        once = table if not common or common not in said else replace(table, caption=f"{own}.")
        said.add(common)
        shown.append(table_grid(once, is_open=place == 0 or lines <= MOST_LINES))
    drawings: list[Drawing] = [draw(chart, f"{identifier}-{k}") for k, chart in enumerate(part.charts)]
    return {
        "id": identifier, "question": part.question, "answer": part.answer[0] if part.answer else "",
        "further": part.answer[1:], "tables": shown, "drawings": drawings,
    }  # fmt: skip


# --- tables ---------------------------------------------------------------------------------------------------------------


def titled(table: Table) -> Table:
    """``table`` with the methods called as people write them, in heads, first fields and conclusions."""
    columns = tuple(
        column if column.is_text or not k else replace(column, title=title_of(column.title))
        for k, column in enumerate(table.columns)
    )
    if table.columns[0].title != "method":
        return replace(table, columns=columns)
    rows = tuple((_named(row[0]), *map(_concluded, row[1:])) for row in table.rows)
    return replace(table, rows=rows)


def _named(entry: Entry) -> Entry:
    return replace(entry, text=title_of(entry.text))


def _concluded(entry: Entry) -> Entry:
    return replace(entry, text=_BEATEN.sub(lambda found: title_of(found[0]), entry.text))


def table_grid(table: Table, *, is_open: bool) -> Grid:
    """A table as the page shows it, its lines of means apart where there is one at its end."""
    table = _conclusion_first(titled(table))
    lines = tuple(tuple(_cell(table, row, k) for k in range(len(row))) for row in table.rows)
    cut = len(lines) - 1 if lines and table.rows[-1][0].text == "mean" and len(lines) > 1 else len(lines)
    notes = [(str(k), note) for k, note in enumerate(table.notes, 1)]
    notes += [(_mark(table, source), source) for source in table.sources]
    heads = tuple(Head(column.title, column.is_text) for column in table.columns)
    return Grid(
        table.title, table.caption, heads, lines[:cut], lines[cut:], tuple(notes), is_open, cut >= _FILTERED
    )


def _conclusion_first(table: Table) -> Table:
    """``table`` with its conclusions beside the methods' names: at its far end few would see them."""
    if table.columns[-1].title != "conclusion":
        return table
    rows = tuple((row[0], row[-1], *row[1:-1]) for row in table.rows)
    return replace(table, columns=(table.columns[0], table.columns[-1], *table.columns[1:-1]), rows=rows)


def _cell(table: Table, row: Sequence[Entry], k: int) -> Cell:
    entry, column = row[k], table.columns[k]
    text = entry.text if entry.mean is None else _number(column, entry.mean)
    classes = [
        *(["number"] if not column.is_text else []),
        *(["best"] if entry.bold else []),
        *(["better"] if entry.underlined else []),
        *(["words"] if column.is_text and len(text) > _LONG else []),
        *(["absent"] if entry.mean is None and text in (NOT_RUN, NO_VALUE) else []),
        *(["broken"] if entry.mean is None and ("failed" in text) and entry.text != "" else []),
        *(["means"] if row[0].text == "mean" or (len(row) > 1 and row[1].text == "mean") else []),
    ]
    return Cell(
        text, "" if entry.std is None else column.number(entry.std), " ".join(classes), entry.significant,
        "" if entry.published is None else column.number(entry.published),
        _mark(table, entry.source) if entry.source else "",
        str(1 + table.notes.index(entry.note)) if entry.note else "",
        "" if column.is_text else "" if entry.mean is None else repr(entry.mean),
    )  # fmt: skip


def _number(column: Column, value: float) -> str:
    """A number with a proper minus, and none before what is rounded to 0."""
    text = column.number(value)
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _mark(table: Table, source: str) -> str:
    """a, b, ... z, aa: the mark of a source."""
    place = table.sources.index(source)
    return chr(ord("a") + place % 26) * (1 + place // 26)
