"""What goes into the benchmark's page: for every grid its questions, their answers, tables and drawings. Plain values.

The first part answers the grid's own question; those after it ask what every benchmark is asked: does it hold from
category to category, what does accuracy cost, which method would one take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from andon.bench.account import Account, account_of, cautions
from andon.bench.grid import GRIDS
from andon.bench.joined import Results
from andon.bench.parts import Asked, Block, Part, parts_of
from andon.bench.published import Published, load
from andon.bench.rows import Run, places_of, read_runs
from andon.bench.tables import (
    WELCH,
    Significance,
    methods_of,
)

HOMES = {"mvtec": "mvtec_ad", "loco": "mvtec_loco", "visa": "visa"}  # grid -> public set that it asks about


@dataclass(frozen=True)
class GridReport:
    """What is said of one grid; the first part is its own question. ``cautions``: what limits every figure of it."""

    name: str
    title: str
    parts: tuple[Part, ...]
    cautions: tuple[str, ...]
    account: Account


def report_of(results: Results, test: Significance = WELCH, published: Published | None = None) -> GridReport:
    """The report of one grid. ``published``: None for the figures that come along, NOTHING for none."""
    runs = read_runs(results.rows)
    asked = Asked(results, *_variants(results, runs), test, load() if published is None else published)
    blocks = _blocks(results, runs)
    parts = parts_of(asked, blocks)
    methods = [*results.methods, *(name for name in methods_of(runs) if name not in results.methods)]
    places = list(dict.fromkeys(place for block in blocks for place in block.places))
    variants = [name for name in asked.variants if name in results.variants or _has(runs, name)]
    account = account_of(results, runs, methods, variants or [""], places, test.words)
    return GridReport(results.name, results.title, tuple(parts), tuple(cautions(results, account)), account)


def _has(runs: Sequence[Run], variant: str) -> bool:
    return any(run.variant == variant for run in runs)


def _variants(results: Results, runs: Sequence[Run]) -> tuple[tuple[str, ...], str]:
    """The variants in the order of the tables, words before numbers, and the one that is the method as it is."""
    usual = [variant.name for variant in GRIDS[results.name].variants] if results.name in GRIDS else []
    there = {*results.variants, *(run.variant for run in runs)} or {""}
    if len(there) > 1 and results.baseline:
        there.add(results.baseline)
    known = {name: place for place, name in enumerate(usual)}
    order = sorted(there, key=lambda name: (_number(name), known.get(name, len(known)), name))
    if results.name == "autovi-fewshot":
        order.sort(key=lambda name: name == results.baseline)
    plain = results.baseline if results.baseline in there else order[0]
    return tuple(order), plain


def _number(name: str) -> int:
    """The number that a variant's name begins with, 0 where it begins with none."""
    first = name.partition(" ")[0]
    return int(first) if first.isdecimal() else 0


def _blocks(results: Results, runs: Sequence[Run]) -> list[Block]:
    """The parts of the results, those that were run first; the grid's public set is one of them, run or not."""
    home = "autovi" if results.name.startswith("autovi-") else HOMES.get(results.name, "")
    methods = tuple(dict.fromkeys([*results.methods, *methods_of(runs)]))
    blocks = []
    if home:
        usual = GRIDS[results.name].methods if results.name in GRIDS else ()
        own = [run for run in runs if run.place[0] == home]
        rows = tuple(row for row in results.rows if row["cell"]["set"] == home)
        known = load()
        every = tuple(dict.fromkeys([*methods, *usual]))
        blocks.append(Block(known.sets[home].title, tuple(known.places(home)), rows, tuple(own), every))
    rest = [run for run in runs if run.place[0] != home]
    if rest or not blocks:
        rows = tuple(row for row in results.rows if row["cell"]["set"] != home)
        blocks.append(Block("", tuple(places_of(rest)), rows, tuple(rest), methods))
    return sorted(blocks, key=lambda block: not block.runs)
