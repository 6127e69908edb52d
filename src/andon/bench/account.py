"""What was run of a grid and what was not, what failed and why, with which settings: the end of its report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from andon.bench.grid import GRIDS
from andon.bench.joined import Results
from andon.bench.published import Place
from andon.bench.rows import Run, labels
from andon.bench.tables import AS_IT_IS
from andon.bench.words import counted, title_of
from andon.bench.writers import NO_VALUE, Column, Entry, Table

MOST_NAMES = 8  # cells listed under one reason
NOT_RUN = "not run"
_FLAGS = {"size": "--size", "minutes": "--minutes", "limit": "--limit", "layout": "--layout"}


@dataclass(frozen=True)
class Failure:
    """A reason, and some of the cells that failed for it; ``more``: how many others did."""

    reason: str
    cells: tuple[str, ...]
    more: int = 0


@dataclass(frozen=True)
class Account:
    """What the figures of a grid rest on. ``coverage``: how many runs every method has in every category."""

    cells: int
    done: int
    failed: int
    coverage: Table
    failures: tuple[Failure, ...]
    fits: Table
    command: str
    facts: tuple[tuple[str, str], ...]

    @property
    def missing(self) -> int:
        """Cells that were asked for and have no result."""
        return self.cells - self.done - self.failed


def account_of(
    results: Results, runs: Sequence[Run], methods: Sequence[str], variants: Sequence[str],
    places: Sequence[Place], significance: str,
) -> Account:  # fmt: skip
    """The account of ``results``, whose ``runs`` are read already."""
    failed = [run for run in runs if not run.done]
    return Account(
        results.cells, len(runs) - len(failed), len(failed),
        _coverage(runs, methods, variants, places, results.seeds), tuple(_failures(failed)),
        _fits(results, methods, variants), command_of(results),
        (
            ("Grid", f"{results.name}: {results.title}"), ("Data", ", ".join(results.folders) or "none"),
            ("Runs of each cell", f"{results.seeds}, with the seeds 0 to {results.seeds - 1}" if results.seeds > 1 else "1"),
            ("Differences", significance), ("Made with", "; ".join(results.made) or "not said"),
        ),
    )  # fmt: skip


def cautions(results: Results, account: Account) -> list[str]:
    """What a reader must know before believing a figure."""
    said = []
    if account.missing:
        said.append(f"{account.missing} of {counted(account.cells, 'cell')} have no result yet.")
    if account.failed:
        said.append(f"{counted(account.failed, 'cell')} failed; the reasons are below.")
    usual = GRIDS[results.name].seeds if results.name in GRIDS else results.seeds
    if results.rows and results.seeds < usual:
        times = "once" if results.seeds == 1 else f"{results.seeds} times"
        said.append(f"Each cell was run {times}, where the grid asks for {usual}.")
    if short := _cut_short(results.rows):
        said.append(
            f"Training ended before its planned steps, for a budget of minutes or an early stop, in {_shares(short)}: these "
            "figures are those of the budget, not of the method."
        )
    if results.doubled:
        said.append(
            f"{counted(results.doubled, 'cell')} came more than once, with the same figures, and count once."
        )
    return said


def _cut_short(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    """Of methods whose training ended early: runs, runs that ended early, the fewest steps done, those planned."""
    found: dict[str, tuple[int, int, int, int]] = {}
    for row in rows:
        done, planned = _steps(row)
        if not planned:
            continue
        total, early, fewest, most = found.get(row["cell"]["method"], (0, 0, planned, 0))
        found[row["cell"]["method"]] = (
            total + 1, early + (done < planned), min(fewest, done), max(most, planned),
        )  # fmt: skip
    return {name: found[name] for name in sorted(found) if found[name][1]}


def _shares(short: dict[str, tuple[int, int, int, int]]) -> str:
    return "; ".join(
        f"{early} of {counted(total, 'run')} of {title_of(name)} (from {fewest:,} of {planned:,} steps)"
        for name, (total, early, fewest, planned) in short.items()
    )


def _steps(row: dict[str, Any]) -> tuple[int, int]:
    steps = (row.get("data") or {}).get("steps")
    return (int(steps[0]), int(steps[1])) if isinstance(steps, list) and len(steps) == 2 else (0, 0)


def _coverage(
    runs: Sequence[Run], methods: Sequence[str], variants: Sequence[str], places: Sequence[Place], seeds: int
) -> Table:
    """Methods, with their variants, down; categories across."""
    states = Counter((run.method, run.variant, run.place, run.done) for run in runs)
    varied = len(variants) > 1
    heads = [Column("method", is_text=True), *([Column("variant", is_text=True)] if varied else [])]
    columns = [*heads, *(Column(label, is_text=True) for label in labels(places))]
    rows = []
    for method in methods:
        for variant in variants:
            counts = [[states[method, variant, place, done] for done in (True, False)] for place in places]
            names = [Entry(method), *([Entry(variant or AS_IT_IS)] if varied else [])]
            rows.append((*names, *(Entry(_state(done, failed, seeds)) for done, failed in counts)))
    caption = f"Runs with a result, of {seeds}."
    return Table("coverage", "What was run", caption, tuple(columns), tuple(rows))


def _state(done: int, failed: int, seeds: int) -> str:
    if not done + failed:
        return NOT_RUN
    words = f"{done} of {max(seeds, done + failed)}"
    return f"{words}, {failed} failed" if failed else words


def _failures(failed: Sequence[Run]) -> list[Failure]:
    """The reasons, the most frequent first."""
    reasons: dict[str, list[str]] = {}
    for run in failed:
        name = " ".join(
            part for part in ("/".join(dict.fromkeys(run.place)), title_of(run.method), run.variant) if part
        )
        reasons.setdefault(run.error or "no reason was given", []).append(f"{name}, seed {run.seed}")
    ordered = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Failure(why, tuple(cells[:MOST_NAMES]), len(cells[MOST_NAMES:])) for why, cells in ordered]


def _fits(results: Results, methods: Sequence[str], variants: Sequence[str]) -> Table:
    """How each method was fitted: what was set, on how many images, at which size, for how many steps."""
    titles = ("method", "variant", "settings", "size", "train", "held out", "calibration", "test", "steps")
    lines = []
    for method in methods:
        for variant in variants:
            own = [
                row for row in results.rows
                if (row["cell"]["method"], row["cell"].get("variant") or "") == (method, variant)
            ]  # fmt: skip
            if own:
                lines.append([method, variant or AS_IT_IS, *_fit(own)])
    kept = [k for k in range(len(titles)) if k == 0 or any(line[k] != NO_VALUE for line in lines)]
    if len(variants) < 2:
        kept = [k for k in kept if titles[k] != "variant"]
    if len(kept) == 1:
        lines = []  # nothing is known
    columns = tuple(Column(titles[k], is_text=True) for k in kept)
    rows = tuple(tuple(Entry(line[k]) for k in kept) for line in lines)
    caption = (
        "As the methods' own defaults are, where nothing is said. Images of a category; a range where categories differ. Steps: "
        "done of planned, of those that train."
    )
    return Table("fits", "How each was fitted", caption, columns, rows)


def _fit(rows: Sequence[dict[str, Any]]) -> list[str]:
    said = sorted({_settings(row["cell"]) for row in rows})
    data = [row["data"] for row in rows if isinstance(row.get("data"), dict)]
    sizes = sorted(
        {"x".join(map(str, found["size"])) for found in data if isinstance(found.get("size"), list)}
    )
    counts = [
        _range(found.get(name) for found in data) for name in ("train", "held_out", "calibration", "test")
    ]
    done = [steps for row in rows if (steps := _steps(row))[1]]
    trained = f"{_range(d for d, _ in done)} of {_range(p for _, p in done)}" if done else NO_VALUE
    return ["; ".join(said) or NO_VALUE, ", ".join(sizes) or NO_VALUE, *counts, trained]


def _settings(cell: dict[str, Any]) -> str:
    pairs = {**(cell.get("options") or {}), **(cell.get("settings") or {})}
    return ", ".join(f"{name} = {_plain(value)}" for name, value in sorted(pairs.items()) if name != "size")


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _range(values: Iterable[Any]) -> str:
    numbers = sorted({int(value) for value in values if isinstance(value, int)})
    if not numbers:
        return NO_VALUE
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def command_of(results: Results) -> str:
    """A command that asks for these cells, as far as they say it: where the data lies is not known."""
    usual = GRIDS.get(results.name)
    words = ["andon", "bench", "run", results.name]
    words += [word for folder in results.folders or ("DATA",) for word in ("--data", folder)]
    if usual is None or set(results.methods) != set(usual.methods):
        words += [word for method in results.methods for word in ("--method", method)]
    if usual is None or results.seeds != usual.seeds:
        words += ["--seeds", str(results.seeds)]
    if usual is not None and set(results.variants) != {variant.name for variant in usual.variants}:
        words += [word for variant in results.variants if variant for word in ("--variant", variant)]
    return shlex.join([*words, *_options(results)])


def _options(results: Results) -> list[str]:
    """The options and settings that are not those of a variant."""
    usual = GRIDS.get(results.name)
    own = (
        {variant.name: {**variant.options, **variant.settings} for variant in usual.variants} if usual else {}
    )
    found: dict[str, list[str]] = {}
    for row in results.rows:
        cell = row["cell"]
        given = {**(cell.get("options") or {}), **(cell.get("settings") or {})}
        varied = own.get(cell.get("variant") or "", {})
        for name, value in given.items():
            if name not in varied and _plain(value) not in found.setdefault(name, []) and name != "window":
                found[name].append(_plain(value))
    words = []
    for name, values in sorted(found.items()):
        if len(values) == 1:
            flag = _FLAGS.get(name)
            words += [flag, values[0]] if flag else ["--set", f"{name}={values[0]}"]
    return words
