"""The results of cells ("rows", JSON) as runs, and what their figures are called.

A place is (set, category). The runs of one place, method and variant differ in their seed alone: they are one sample.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from andon.bench.published import Place
from andon.bench.stats import summarise
from andon.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """A figure or cost: its title, and how it is printed. ``is_share``: 0 to 1, printed in percent.

    ``higher_is_better`` None: neither is. ``decimals`` None: three digits that count.
    """

    name: str
    title: str
    is_share: bool = True
    higher_is_better: bool | None = True
    decimals: int | None = 1


def _cost(name: str, title: str, higher: bool = False) -> Quantity:
    return Quantity(name, title, False, higher, None)


_QUANTITIES = (
    Quantity("image_auroc", "image AUROC"), Quantity("image_ap", "image AP"), Quantity("f1_max", "best F1"),
    Quantity("tpr_at_tnr_99", "TPR at TNR 99 %"), Quantity("tpr_at_tnr_95", "TPR at TNR 95 %"),
    Quantity("tpr_at_tnr_90", "TPR at TNR 90 %"), Quantity("pixel_auroc", "pixel AUROC"), Quantity("pixel_ap", "pixel AP"),
    Quantity("fpr", "false alarms at the threshold", higher_is_better=False),
    Quantity("fnr", "defects not failed at the threshold", higher_is_better=False),
    Quantity("recall", "recall at the threshold"),
    Quantity("review_rate", "sent to review", higher_is_better=False),
    Quantity("entropy_outside", "entropy outside the mask", False, None, 3),
    _cost("fit_seconds", "fit (s)"), _cost("train_seconds", "training (s)"), _cost("fit_peak_mb", "peak memory of the fit (MB)"),
    _cost("p50_ms", "p50 (ms)"), _cost("p99_ms", "p99 (ms)"), _cost("images_per_second", "images a second", True),
    _cost("runtime_mb", "memory of the runtime (MB)"), _cost("artifact_mb", "size on disk (MB)"),
)  # fmt: skip
QUANTITIES = {quantity.name: quantity for quantity in _QUANTITIES}
_AREA = re.compile(r"(aupro|auspro)_([0-9.]+)")
_AREA_TITLES = {"aupro": "AUPRO", "auspro": "AUsPRO"}


def quantity(name: str) -> Quantity:
    """What is known of the figure or cost ``name``; for one that is not known, a plain number, more of it better.

    >>> quantity("auspro_5").title, quantity("p99_ms").higher_is_better
    ('AUsPRO, FPR to 5 %', False)
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    if area := _AREA.fullmatch(name):
        return Quantity(name, f"{_AREA_TITLES[area[1]]}, FPR to {area[2]} %")
    return Quantity(name, name, False, True, 3)


@dataclass(frozen=True)
class Run:
    """One cell's result."""

    place: Place
    method: str
    variant: str
    seed: int
    done: bool
    error: str
    figures: Mapping[str, float | None]
    groups: Mapping[str, Mapping[str, float | None]]
    costs: Mapping[str, float | None]
    made: str  # settings and options as text

    def value(self, name: str, group: str = "") -> float | None:
        """The figure or cost ``name``, of one kind of defect where ``group`` names it; None where there is none.

        ``recall`` is what ``fnr`` leaves. What is not finite is None.
        """
        figures = self.groups.get(group, {}) if group else {**self.costs, **self.figures}
        if name == "recall":
            missed = figures.get("fnr")
            return None if missed is None or not math.isfinite(missed) else 1 - missed
        found = figures.get(name)
        return None if found is None or not math.isfinite(found) else float(found)


def read_runs(rows: Iterable[Row]) -> list[Run]:
    """The runs of ``rows``, by place, method, variant and seed, whatever order the rows came in; equal runs count once.

    Raises :class:`DataError` for a row that lacks its parts, for two results of one seed, and for runs of one place,
    method and variant that were not made alike: they would be one sample.
    """
    runs: list[Run] = []
    for run in sorted((_run(row) for row in rows), key=_order):
        if runs and runs[-1] == run:
            continue
        if runs and _order(runs[-1])[:4] == _order(run)[:4]:
            _check_sample(runs[-1], run)
        runs.append(run)
    return runs


def _check_sample(before: Run, run: Run) -> None:
    """Raise :class:`DataError` where two neighbours in order cannot both belong to one sample."""
    what = f"{_said(run)} has runs"
    if before.made != run.made:
        raise DataError(
            f"{what} with {before.made} and with {run.made}: they are no sample. Give them different variants"
        )
    if before.seed == run.seed:
        raise DataError(f"{what} with the same seed {run.seed} and different results: keep one of them")


def _run(row: Row) -> Run:
    try:
        cell, status = row["cell"], row["status"]
        made = {"settings": cell.get("settings") or {}, "options": cell.get("options") or {}}
        run = Run(
            (str(cell["set"]), str(cell["category"])), str(cell["method"]), str(cell.get("variant") or ""), int(cell["seed"]),
            status == "done", " ".join(str(row.get("error") or "").split()),
            dict(row.get("figures") or {}), dict(row.get("groups") or {}), dict(row.get("costs") or {}),
            json.dumps(made, sort_keys=True, default=str),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"a row needs a status and a cell with set, category, method and seed ({error!r}); got {str(row)[:200]}"
        ) from error
    if status not in ("done", "failed"):
        raise DataError(f"a row's status is done or failed, not {status!r}")
    for figures in (run.figures, run.costs, *run.groups.values()):
        for name, value in figures.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise DataError(f"{_said(run)}: expected a number or null for {name}, got {value!r}")
    return run


def _order(run: Run) -> tuple[str, str, str, str, int, str, str]:
    rest = json.dumps([run.done, run.error, run.figures, run.groups, run.costs], sort_keys=True)
    return (*run.place, run.method, run.variant, run.seed, run.made, rest)


def _said(run: Run) -> str:
    variant = f" ({run.variant})" if run.variant else ""
    return f"{run.method}{variant} on {'/'.join(run.place)}"


def single_variant(runs: Sequence[Run], wanted: str | None) -> list[Run]:
    """The runs of the variant ``wanted``; None: all of them, which must be of one variant (:class:`DataError`)."""
    variants = sorted({run.variant for run in runs})
    if wanted is not None:
        return [run for run in runs if run.variant == wanted]
    if len(variants) > 1:
        raise DataError(
            f"the rows have the variants {', '.join(map(repr, variants))}: say which of them is wanted"
        )
    return list(runs)


def places_of(runs: Iterable[Run]) -> list[Place]:
    """Every place, in order."""
    return sorted({run.place for run in runs})


def labels(places: Sequence[Place]) -> list[str]:
    """What to call the places: the category, with its set before it where there are several sets.

    >>> labels([("mvtec", "bottle"), ("visa", "pcb1")]), labels([("mvtec", "bottle")])
    (['mvtec, bottle', 'visa, pcb1'], ['bottle'])
    """
    several = len({name for name, _ in places}) > 1
    return [f"{name}, {category}" if several and name != category else category for name, category in places]


def seed_means(
    runs: Sequence[Run], places: Sequence[Place], name: str, group: str = ""
) -> tuple[list[float], int]:
    """One mean over ``places`` for every seed that has a value in all of them, and in how many places there is any value.

    A mean over some places only is no mean over the places: without a value in one, there is none.
    """
    found: dict[Place, dict[int, float]] = {place: {} for place in places}
    for run in runs:
        value = run.value(name, group) if run.done else None
        if value is not None and run.place in found:
            found[run.place][run.seed] = value
    filled = sum(bool(by_seed) for by_seed in found.values())
    if filled < len(places) or not places:
        return [], filled
    seeds = set.intersection(*(set(by_seed) for by_seed in found.values()))
    means = [summarise(by_seed[seed] for by_seed in found.values()).mean for seed in sorted(seeds)]
    return [mean for mean in means if mean is not None], filled
