"""A comparison, or partitions alone, as one HTML file that loads nothing, and the comparison as Markdown."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from andon.bench.figures import Drawing
from andon.bench.page import table_grid
from andon.bench.words import counted, listed, title_of
from andon.bench.writers import to_markdown
from andon.federated import drawings
from andon.federated.answers import Part, parts_of
from andon.federated.cases import Case, cases_of
from andon.federated.partitions import Partition
from andon.files import atomic_write
from andon.report.page import open_template
from andon.report.survey import check_report_extra

_TEMPLATE = "federated.html.j2"
_MOST_PARTITIONS = 12  # drawn
_HELD = "Who holds what?"


def check_page_extra() -> None:
    """Raise :class:`MissingExtraError` where matplotlib or jinja2 is missing: before the work, not after it."""
    check_report_extra()


def write_partition_page(path: str | os.PathLike[str], partitions: Sequence[Partition]) -> Path:
    """The path of a page that shows who holds what. Raises MissingExtraError without matplotlib or jinja2."""
    recipes = listed(dict.fromkeys(partition.recipe.label for partition in partitions))
    page = {"title": "Who holds what", "subtitle": f"{_sets(partitions)} · {recipes}",
            "parts": [_held(partitions)], "failures": [], "facts": []}  # fmt: skip
    return _write(Path(path), page)


def write_comparison(
    folder: Path, rows: Sequence[Mapping[str, Any]], partitions: Sequence[Partition]
) -> list[Path]:
    """``report.html`` and ``report.md`` in ``folder``, about the results ``rows`` of ``partitions``."""
    cases = cases_of(rows)
    parts = parts_of(cases)
    shown = [_shown(part, cases, f"q{number}") for number, part in enumerate(parts, 1)]
    failed = [row for row in rows if row["status"] != "done"]
    methods = listed(title_of(method) for method in dict.fromkeys(row["method"] for row in rows))
    page = {
        "title": "Together, alone, or in one place", "subtitle": f"{_sets(partitions)} · {methods}",
        "parts": [*shown, _held(partitions)], "failures": _failures(failed), "facts": _facts(rows),
    }  # fmt: skip
    markdown = folder / "report.md"
    with atomic_write(markdown, "w") as file:
        file.write(as_markdown(parts, failed, rows))
    return [_write(folder / "report.html", page), markdown]


def as_markdown(
    parts: Sequence[Part], failed: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> str:
    """The questions, answers and tables as GitHub's Markdown."""
    blocks = []
    for part in parts:
        first, *further = part.answer
        blocks.append(
            "\n".join([f"## {part.question}", "", f"**{first}**", "", *(f"- {said}" for said in further)])
        )
        blocks += [to_markdown(table).strip() for table in part.tables]
    if failed:
        blocks.append(
            "\n".join(["## What failed, and why", "", *(f"- {_cell(row)}: {row['error']}" for row in failed)])
        )
    blocks.append(
        "\n".join(["## How it was done", "", *(f"- {label}: {value}" for label, value in _facts(rows))])
    )
    return "\n\n".join(blocks).replace("\u00a0", " ") + "\n"


def _write(path: Path, page: Mapping[str, Any]) -> Path:
    script = (files("andon") / "templates" / "bench.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = open_template(_TEMPLATE).render({**page, "script": script, "script_hash": digest})
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _shown(part: Part, cases: Sequence[Case], identifier: str) -> dict[str, Any]:
    """One part as the template takes it; the first table stands open."""
    drawn = [
        drawing
        for name in part.charts
        if (drawing := _draw(name, cases, f"{identifier}-{name[:3]}")) is not None
    ]
    tables = [
        table_grid(table, is_open=place == 0) for place, table in enumerate(t for t in part.tables if t.rows)
    ]
    return {"id": identifier, "question": part.question, "answer": part.answer[0], "further": part.answer[1:],
            "tables": tables, "drawings": drawn}  # fmt: skip


def _draw(name: str, cases: Sequence[Case], identifier: str) -> Drawing | None:
    if name == "ways":
        return drawings.ways_drawing(cases, identifier)
    if name == "curve":
        return drawings.curve_drawing(cases, identifier)
    if name == "false alarms":
        return drawings.alarms_drawing(cases, identifier)
    return drawings.pareto_drawing(cases, identifier)


def _held(partitions: Sequence[Partition]) -> dict[str, Any]:
    shown = partitions[:_MOST_PARTITIONS]
    drawn = [
        drawings.partition_drawing(partition, f"held-{number}") for number, partition in enumerate(shown)
    ]
    more = len(partitions) - len(shown)
    answer = f"{counted(len(partitions), 'partition')} of {_sets(partitions)}" + (
        f"; {more} are not drawn." if more else "."
    )
    return {"id": "held", "question": _HELD, "answer": answer, "further": [], "tables": [], "drawings": drawn}


def _sets(partitions: Sequence[Partition]) -> str:
    return listed(dict.fromkeys(root.name for partition in partitions for root in partition.roots))


def _failures(failed: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Each reason with the cells that failed of it."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in failed:
        found[row["error"]].append(_cell(row))
    return list(found.items())


def _cell(row: Mapping[str, Any]) -> str:
    return f"{title_of(row['method'])} ({row['scene']}), {row['way']}, seed {row['seed']}"


def _facts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """How everything was done, as labels and values."""

    def all_of(name: str) -> list[Any]:
        return list(dict.fromkeys(str(row[name]) for row in rows))

    runs = {(row["scene"], row["method"], row["partition_seed"], row["seed"]) for row in rows}
    sizes = listed(dict.fromkeys(f"{row['size'][0]} x {row['size'][1]}" for row in rows))
    settings = [text for text in all_of("settings") if text != "{}"]
    return [
        ("Fits", f"{len(rows)} ({counted(len(runs), 'run')} in several ways), {sum(r['status'] != 'done' for r in rows)} failed"),
        ("A run", "one seed: it draws which good images set the threshold, and the detector's own numbers; test images and, for one "
                  "partition, who holds what stay the same"),
        ("Input size", sizes),
        ("Settings of the methods", listed(settings) or "as they are"),
        ("False alarms asked for", listed(f"{100 * float(rate):g} %" for rate in all_of("target_rate"))),
        ("Local", "each site fits on its own training images only, by the same code, as a federation of one"),
        ("Centralised", "one fit on the training images of all sites"),
        ("Thresholds", "in every way each site sets its own, on its own calibration images, which no detector was fitted on; a quarter "
                       "of its good images"),
        ("Test images", "each is judged at one site, and each site's figures are of its own; their mean counts sites alike"),
        ("Rounds", f"{listed(all_of('rounds'))} for methods that train; the others take one. Local and centralised ones train without a pause"),
    ]  # fmt: skip
