"""The same report as one file of Markdown, LaTeX, CSV or JSON: no drawings, every table and answer."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from andon.bench.page import titled
from andon.bench.parts import Part
from andon.bench.report import GridReport
from andon.bench.writers import Column, Entry, Table, to_json, to_latex, to_markdown
from andon.cells import csv_cell, finite

_HEAD = ("grid", "table", "line", "column", "text", "value", "std", "runs", "bold", "underlined", "significant", "published",
         "source", "note")  # fmt: skip


def bundle_markdown(reports: Sequence[GridReport]) -> str:
    """Questions, answers and tables; methods by their titles."""
    blocks = []
    for report in reports:
        account = report.account
        blocks.append(f"# {_safe(report.title)}\n\n    {' '.join(account.command.split())}\n")
        blocks += [f"> {_safe(caution)}\n" for caution in report.cautions]
        for part in report.parts:
            first, *further = map(_safe, part.answer or ("",))
            blocks.append(
                f"## {_safe(part.question)}\n\n**{first}**\n" + "".join(f"\n{said}\n" for said in further)
            )
            blocks += [to_markdown(titled(table)) for table in part.tables]
        blocks.append(
            f"## What was run\n\n{account.done} of {account.cells} cells have a result, {account.failed} failed.\n"
        )
        blocks += [to_markdown(titled(table)) for table in _accounts(report)]
        blocks += [
            f"- {_safe(failure.reason)}: {_safe('; '.join(failure.cells))}{_more(failure.more)}\n"
            for failure in account.failures
        ]
    return "\n".join(blocks)


def _safe(sentence: str) -> str:
    """A sentence that Markdown takes for no more than that, on one line."""
    return html.escape(" ".join(sentence.split(" ")), quote=False).replace("*", "\\*").replace("`", "\\`")


def _more(count: int) -> str:
    return f"; and {count} more" if count else ""


def bundle_latex(reports: Sequence[GridReport]) -> str:
    """The tables alone, each with its label; methods by their titles."""
    texts = []
    for report, _, table in _tables(reports):
        named = replace_name(table, report.name)
        texts.append(to_latex(titled(named)))
    return "\n".join(texts)


def replace_name(table: Table, grid: str) -> Table:
    """``table`` under a name that no other grid's table has."""
    return Table(f"{grid}-{table.name}", table.title, table.caption, table.columns, table.rows)


def bundle_csv(reports: Sequence[GridReport]) -> str:
    """One line for every field of every table, figures unrounded; methods by the names that ``--method`` takes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for report, _, table in _tables(reports):
        heads = _heads(table)
        for row in table.rows:
            line = " / ".join(entry.text for entry in row[:heads])
            for entry, column in zip(row[heads:], table.columns[heads:]):
                writer.writerow(
                    [csv_cell(v) for v in (report.name, table.name, line, *_fields(entry, column))]
                )
    return text.getvalue()


def _heads(table: Table) -> int:
    """How many columns say what a line is about."""
    named = [column.is_text and column.title in ("method", "variant", "category") for column in table.columns]
    return max(1, next((k for k, is_head in enumerate(named) if not is_head), len(named)))


def _fields(entry: Entry, column: Column) -> tuple[object, ...]:
    value = None if entry.mean is None else finite(entry.mean)
    marks = [
        int(mark) if not column.is_text else None
        for mark in (entry.bold, entry.underlined, entry.significant)
    ]
    return (
        column.title, entry.text if entry.mean is None else "", value, entry.std, entry.n or None, *marks, entry.published,
        entry.source or None, entry.note or None,
    )  # fmt: skip


def bundle_json(reports: Sequence[GridReport]) -> str:
    """Everything as strict JSON; methods by the names that ``--method`` takes."""
    whole = [
        {
            "grid": report.name, "title": report.title, "cautions": report.cautions, "command": report.account.command,
            "cells": {name: getattr(report.account, name) for name in ("cells", "done", "failed", "missing")},
            "facts": dict(report.account.facts), "parts": [_part(part) for part in report.parts],
            "coverage": json.loads(to_json(report.account.coverage)), "fits": json.loads(to_json(report.account.fits)),
            "failures": [
                {"reason": one.reason, "cells": one.cells, "more": one.more} for one in report.account.failures
            ],
        }
        for report in reports
    ]  # fmt: skip
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _part(part: Part) -> dict[str, object]:
    return {
        "question": part.question, "answer": part.answer, "tables": [json.loads(to_json(table)) for table in part.tables],
    }  # fmt: skip


def _tables(reports: Sequence[GridReport]) -> Iterator[tuple[GridReport, int, Table]]:
    """Every table with its report and the number of its part."""
    for report in reports:
        for number, part in enumerate(report.parts):
            for table in part.tables:
                yield report, number, table


def _accounts(report: GridReport) -> list[Table]:
    return [table for table in (report.account.coverage, report.account.fits) if table.rows]


BUNDLES: Mapping[str, Callable[[Sequence[GridReport]], str]] = {
    "markdown": bundle_markdown,
    "latex": bundle_latex,
    "csv": bundle_csv,
    "json": bundle_json,
}
