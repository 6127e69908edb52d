"""Files of results as the page takes them: joined by grid, places and kinds of defect under their public names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from andon.bench.grid import GRIDS
from andon.bench.published import Place, load
from andon.bench.rows import Row, read_runs
from andon.bench.run import read_results
from andon.errors import DataError

_DEFECT = "defect:"  # before a kind of defect's name, in rows


@dataclass(frozen=True)
class Results:
    """All that was found of one grid: what it compares, its rows, and how many cells were asked for.

    ``folders``: the data sets' own names. ``made``: with which versions. ``doubled``: cells that are in several files.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    variants: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: int
    baseline: str
    rows: tuple[dict[str, Any], ...]
    cells: int
    folders: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    doubled: int = 0


def result_files(paths: Iterable[Path]) -> list[Path]:
    """``paths``, a folder standing for the results in it. Raises :class:`DataError` for a folder without any."""
    found: list[Path] = []
    for path in paths:
        inside = (
            [file for file in sorted(path.glob("*.json")) if not _is_report(file)]
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise DataError(f"{path} holds no results of andon bench: give GRID.json, or the folder of --out")
        found += inside
    return found


def _is_report(file: Path) -> bool:
    """Whether it is what ``andon bench report --json`` writes, a list, which may lie beside the results."""
    with open(file, "rb") as opened:
        return opened.read(1) == b"["


def join_results(paths: Iterable[Path]) -> list[Results]:
    """The results in the files ``paths``, one for each grid, in the order in which ``andon bench grids`` lists them.

    Of a cell that is in several files, one that has its figures comes before one that failed, else the first; whose figures
    differ raises :class:`DataError`, as does a file that holds no results.
    """
    contents: dict[str, dict[Path, Mapping[str, Any]]] = {}
    for path in paths:
        content = _checked(path)
        contents.setdefault(content["grid"]["name"], {})[path] = content
    order = [*GRIDS, *sorted(set(contents) - set(GRIDS))]
    joined = []
    for name in order:
        try:
            joined += [_joined(list(contents[name].values()))] if name in contents else []
        except DataError as error:
            raise DataError(f"{', '.join(map(str, contents[name]))} cannot be joined: {error}") from error
    return joined


def _checked(path: Path) -> Mapping[str, Any]:
    content = read_results(path)
    try:
        grid = content["grid"]
        (
            str(grid["name"]),
            str(grid["title"]),
            str(grid["baseline"]),
            int(grid["seeds"]),
            int(content["cells"]),
        )
        for part in ("methods", "variants", "metrics"):
            if not all(isinstance(name, str) for name in grid[part]):
                raise TypeError(f"{part} must be names")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not say what its grid is ({error}): run the grid again") from error
    try:
        read_runs(content["rows"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return content


def _joined(contents: Sequence[Mapping[str, Any]]) -> Results:
    ordered = sorted(contents, key=lambda content: json.dumps(content["grid"], sort_keys=True))
    grids = [content["grid"] for content in ordered]
    given = [row for content in contents for row in content["rows"]]
    rows = _once(given)
    read_runs(rows)  # of one cell with two results, it says so
    first = grids[0]
    cells = sum(int(content["cells"]) for content in contents) - (len(given) - len(rows))
    return Results(
        first["name"], str(first["title"]), _union(grids, "methods"), _union(grids, "variants"), _union(grids, "metrics"),
        max(int(grid["seeds"]) for grid in grids), str(first["baseline"]), tuple(_public(rows)), max(cells, len(rows)),
        tuple(sorted({str(row["cell"]["set"]) for row in rows})),
        tuple(sorted({_versions(content.get("made")) for content in contents} - {""})),
        len(given) - len(rows),
    )  # fmt: skip


def _union(grids: Iterable[Mapping[str, Any]], part: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for grid in grids for name in grid[part]))


def _once(rows: Iterable[Row]) -> list[Row]:
    """``rows`` without those that repeat a cell; two results that differ both stay."""
    kept: dict[str, list[Row]] = {}
    for row in rows:
        key = json.dumps(row["cell"], sort_keys=True)
        same = kept.setdefault(key, [])
        if row["status"] == "failed":
            kept[key] = same or [row]
            continue
        done = [other for other in same if other["status"] == "done"]
        kept[key] = done if _answer(row) in map(_answer, done) else [*done, row]
    return [row for same in kept.values() for row in same]


def _answer(row: Row) -> str:
    """What two results of one cell must share: all but its costs."""
    return json.dumps([row.get("figures"), row.get("groups")], sort_keys=True)


def _public(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """``rows`` with the sets' and categories' public names, where no two places would share one."""
    places = {_place(row) for row in rows}
    known = {place: load().identify(place) or place for place in places}
    taken = list(known.values())
    names = {place: name if taken.count(name) == 1 else place for place, name in known.items()}
    changed = []
    for row in rows:
        name, category = names[_place(row)]
        groups = {key.removeprefix(_DEFECT): found for key, found in (row.get("groups") or {}).items()}
        changed.append({**row, "cell": {**row["cell"], "set": name, "category": category}, "groups": groups})
    return changed


def _place(row: Row) -> Place:
    return str(row["cell"]["set"]), str(row["cell"]["category"])


def _versions(made: Any) -> str:
    if not isinstance(made, Mapping):
        return ""
    titles = {"andon": "Andon", "python": "Python", "machine": ""}
    return ", ".join(f"{title} {made[name]}".strip() for name, title in titles.items() if made.get(name))
