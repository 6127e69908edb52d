"""The table that sets the methods side by side on everything, with a conclusion that a rule writes.

The rule, of the means over all categories; a method may earn several phrases, and they come in this order:

    best accuracy                          no image AUROC is higher
    fastest within 1 point of the best     of those at most 0.01 below the best AUROC, no p50 is lower
    fastest                                no p50 is lower at all, and the line above was not earned
    smallest                               no file is smaller
    dominated by X                         another method has both a higher AUROC and a lower p50; X, of these, has the
                                           highest AUROC, then the lowest p50, then the first name
    neither best nor beaten                none of the above
    misses most defects at its threshold   the deployed threshold fails less than half of the defects

A method without an AUROC in every category is not compared; without a time it is neither fast nor dominated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from andon.bench.published import Place
from andon.bench.rows import Row, Run, places_of, quantity, read_runs, single_variant
from andon.bench.tables import (
    WELCH,
    Significance,
    bold_best,
    categories,
    cost_entry,
    mean_entries,
    methods_of,
)
from andon.bench.writers import Column, Entry, Table

FIGURES = ("image_auroc", "aupro_30", "pixel_ap", "entropy_outside", "recall")
COSTS = ("artifact_mb", "fit_seconds", "p50_ms", "p99_ms", "fit_peak_mb", "runtime_mb")
POINT = 0.01
_SLACK = 1e-12  # so that 0.98 lies within 0.01 of 0.99
_RULE = (
    "Conclusion, by rule: best accuracy is the highest image AUROC; fastest is the lowest p50; smallest the smallest file; "
    "a method is dominated where another has both a higher AUROC and a lower p50; it misses most defects where its "
    "threshold fails less than half of them."
)


@dataclass(frozen=True)
class Standing:
    """What the rule looks at: image AUROC and recall as shares, the p50 of one image, the file's size."""

    accuracy: float | None
    milliseconds: float | None = None
    megabytes: float | None = None
    recall: float | None = None


def ten_models_table(
    rows: Iterable[Row],
    *,
    methods: Sequence[str] | None = None,
    variant: str | None = None,
    test: Significance = WELCH,
) -> Table:
    """One line a method: accuracy, heatmaps, size, times, memory, recall at the deployed threshold, and :func:`conclude`.

    Figures are each seed's mean over all categories in which any method has the figure; times the mean over the categories;
    memory and size the largest of them. Bold: the best of a column, for figures also what does not differ significantly.
    """
    runs = single_variant(read_runs(rows), variant)
    methods = methods_of(runs) if methods is None else list(methods)
    found: dict[str, dict[str, Entry]] = {}
    for name in FIGURES:
        found[name] = mean_entries(runs, methods, _defined(runs, name), name, test)
    for name in COSTS:
        costs = {m: cost_entry([r for r in runs if r.method == m], places_of(runs), name) for m in methods}
        found[name] = bold_best(costs, quantity(name))
    said = conclude({method: _standing(found, method) for method in methods})
    order = (*FIGURES[:-1], *COSTS, FIGURES[-1])
    columns = (
        Column("method", is_text=True),
        *(Column.of(quantity(name)) for name in order),
        Column("conclusion", is_text=True),
    )
    lines = tuple(
        (Entry(method), *(found[name][method] for name in order), Entry(said[method])) for method in methods
    )
    caption = (
        f"Means over {categories(len(places_of(runs)))}; shares in percent; of what is in MB, the "
        f"largest. Bold: the best of a column, for figures also what does not differ significantly ({test.words}). {_RULE}"
    )
    return Table("ten-models", "The methods side by side", caption, columns, lines)


def conclude(standings: Mapping[str, Standing]) -> dict[str, str]:
    """A conclusion for every method, by the rule at the top of this file.

    >>> said = conclude({"a": Standing(0.99, 80.0, 60.0, 0.9), "b": Standing(0.985, 9.0, 5.0, 0.4)})
    >>> said["a"], said["b"]
    ('best accuracy', 'fastest within 1 point of the best; smallest; misses most defects at its threshold')
    """
    compared = {name: one for name, one in sorted(standings.items()) if one.accuracy is not None}
    top = max((one.accuracy or 0.0 for one in compared.values()), default=0.0)
    near = {name: one for name, one in compared.items() if (one.accuracy or 0.0) >= top - POINT - _SLACK}
    quick, quickest = _least(near, "milliseconds"), _least(compared, "milliseconds")
    smallest = _least(compared, "megabytes")
    conclusions = {}
    for name, one in standings.items():
        phrases = [
            *(["best accuracy"] if one.accuracy == top else []),
            *(["fastest within 1 point of the best"] if name in quick else []),
            *(["fastest"] if name in quickest and name not in quick else []),
            *(["smallest"] if name in smallest else []),
        ]
        if by := _dominator(one, compared):
            phrases.append(f"dominated by {by}")
        missed = one.recall is not None and one.recall < 0.5
        phrases = phrases or ["neither best nor beaten"]
        phrases += ["misses most defects at its threshold"] if missed else []
        conclusions[name] = "; ".join(phrases) if name in compared else "not compared: lacks a category"
    return conclusions


def _least(standings: Mapping[str, Standing], part: str) -> set[str]:
    """The names with the lowest ``part``."""
    values = {name: getattr(one, part) for name, one in standings.items() if getattr(one, part) is not None}
    return {name for name, value in values.items() if value == min(values.values())}


def _dominator(one: Standing, compared: Mapping[str, Standing]) -> str:
    """The name of the method that is better on both accuracy and time; empty where there is none."""
    if one.accuracy is None or one.milliseconds is None:
        return ""
    better = [
        (-other.accuracy, other.milliseconds, name)
        for name, other in compared.items()
        if other.accuracy is not None and other.milliseconds is not None
        and other.accuracy > one.accuracy and other.milliseconds < one.milliseconds
    ]  # fmt: skip
    return min(better)[2] if better else ""


def _standing(found: Mapping[str, Mapping[str, Entry]], method: str) -> Standing:
    return Standing(
        found["image_auroc"][method].mean,
        found["p50_ms"][method].mean,
        found["artifact_mb"][method].mean,
        found["recall"][method].mean,
    )


def _defined(runs: Sequence[Run], name: str) -> list[Place]:
    """The places in which any method has the figure ``name``."""
    return places_of(run for run in runs if run.done and run.value(name) is not None)
