"""The benchmark's tables, from the results of its cells: methods, variants, costs.

Whatever order the rows come in, a table is the same. :mod:`andon.bench.writers` turns one into text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from andon.bench.published import NOTHING, Figure, Place, Published, load
from andon.bench.rows import (
    Quantity,
    Row,
    Run,
    labels,
    places_of,
    quantity,
    read_runs,
    seed_means,
    single_variant,
)
from andon.bench.stats import compare, summarise, welch_p
from andon.bench.writers import NO_VALUE, Column, Entry, Table
from andon.errors import SettingsError
from andon.metrics.holm import holm

COSTS = ("fit_seconds", "train_seconds", "fit_peak_mb", "p50_ms", "p99_ms", "images_per_second", "runtime_mb", "artifact_mb")  # fmt: skip
AS_IT_IS = "as it is"  # a variant without a name


@dataclass(frozen=True)
class Significance:
    """How two samples are held to differ: Welch's t-test at ``level``, with Holm's correction where ``holm``."""

    level: float = 0.05
    holm: bool = False

    @property
    def words(self) -> str:
        """For a caption."""
        return f"Welch's t-test, {100 * self.level:g} %" + (", Holm's correction" if self.holm else "")


WELCH = Significance()


@dataclass(frozen=True)
class _Sample:
    """The values behind one field of a table, and its entry without marks."""

    values: Sequence[float | None]
    entry: Entry


@dataclass(frozen=True)
class _Asked:
    """One figure of one kind of defect, and what was published of it."""

    metric: str
    group: str
    expected: int  # the most seeds that anything was run with
    published: Published

    @property
    def what(self) -> Quantity:
        return quantity(self.metric)

    @property
    def title(self) -> str:
        return _first_up(self.what.title) + (f", {self.group}" if self.group else "")

    def at(self, runs: Iterable[Run], place: Place, method: str, variant: str = "") -> _Sample:
        """The sample of one method at one place; ``variant``: what published figures call it."""
        sample = _sample([run for run in runs if run.place == place], self)
        return _beside(
            sample, self.published.find(place, method, self.metric, variant=variant, group=self.group)
        )

    def over(self, runs: Iterable[Run], places: Sequence[Place], method: str, variant: str = "") -> _Sample:
        """The sample of one method's means over ``places``, seed by seed."""
        sample = _mean_sample(list(runs), places, self)
        found = self.published.find_mean(places, method, self.metric, variant=variant, group=self.group)
        return _beside(sample, found)


def method_table(
    rows: Iterable[Row],
    metric: str,
    *,
    places: Sequence[Place] | None = None,
    methods: Sequence[str] | None = None,
    variant: str | None = None,
    group: str = "",
    test: Significance = WELCH,
    published: Published | None = None,
) -> Table:
    """Categories down, methods across: mean and spread over the seeds, the paper's figure in brackets, a line of means.

    Bold: the best of a line and all that do not differ significantly from it; with single runs, the best alone. A field
    says "not run" where there is no row and "failed" where no run ended well. The line of means holds each seed's mean over
    all categories; a method that lacks one has none.

    ``places`` (set, category) and ``methods``: which, in this order, run or not; None: those of the rows, sorted.
    ``variant``: which of the rows' variants, None where they have one only. ``group``: one kind of defect. ``published``:
    None for the figures that come along, :data:`~andon.bench.published.NOTHING` for none. Raises DataError for rows that
    are no samples.

    >>> cell = {"set": "parts", "category": "clip", "method": "padim", "seed": 0}
    >>> table = method_table([{"cell": cell, "status": "done", "figures": {"image_auroc": 0.9}}], "image_auroc")
    >>> table.rows[0][1].mean, table.rows[0][1].bold
    (0.9, True)
    """
    runs = single_variant(read_runs(rows), variant)
    places = places_of(runs) if places is None else list(places)
    methods = methods_of(runs) if methods is None else list(methods)
    name = variant if variant is not None else next((run.variant for run in runs), "")
    asked = _Asked(metric, group, _expected(runs), load() if published is None else published)
    own = {method: [run for run in runs if run.method == method] for method in methods}
    samples = [
        (label, {method: asked.at(own[method], place, method, name) for method in methods})
        for place, label in zip(places, labels(places))
    ]
    if len(places) > 1:
        samples.append(
            ("mean", {method: asked.over(own[method], places, method, name) for method in methods})
        )
    lines, tested = [], True
    for label, line in samples:
        entries, line_tested = _marked(line, asked.what, test)
        lines.append((Entry(label), *entries))
        tested = tested and line_tested
    columns = (Column("category", is_text=True), *(Column.of(asked.what, method) for method in methods))
    caption = f"{_spread(asked)} {_bold(test, tested)}{_brackets(lines)}"
    return Table(_name("methods", metric, group), asked.title, caption, columns, tuple(lines))


def variant_table(
    rows: Iterable[Row],
    metric: str,
    *,
    baseline: str = "",
    variants: Sequence[str] | None = None,
    places: Sequence[Place] | None = None,
    methods: Sequence[str] | None = None,
    group: str = "",
    test: Significance = WELCH,
    published: Published | None = None,
) -> Table:
    """Methods and categories down, variants across; underlined where the mean is better than the ``baseline``'s.

    A star: it differs significantly from the baseline, for the better where underlined, else for the worse. Holm's correction
    counts the variants of a line. A line of means for every method over several categories. ``variants``: in this order;
    None: the baseline, then words, then numbers upwards. Raises :class:`SettingsError` for a baseline that is not among them.
    """
    runs = read_runs(rows)
    places = places_of(runs) if places is None else list(places)
    methods = methods_of(runs) if methods is None else list(methods)
    variants = _variants(runs, baseline) if variants is None else list(variants)
    if baseline not in variants:
        listed = ", ".join(map(repr, variants)) or "none"
        raise SettingsError(f"the baseline {baseline!r} is not among the variants: {listed}")
    asked = _Asked(metric, group, _expected(runs), load() if published is None else published)
    said = {
        name: "" if name == baseline else name for name in variants
    }  # the baseline is the method as it is
    lines = []
    for method in methods:
        own = {name: [r for r in runs if r.method == method and r.variant == name] for name in variants}
        samples = [
            (label, {name: asked.at(own[name], place, method, said[name]) for name in variants})
            for place, label in zip(places, labels(places))
        ]
        if len(places) > 1:
            samples.append(
                ("mean", {name: asked.over(own[name], places, method, said[name]) for name in variants})
            )
        lines += [
            (Entry(method), Entry(label), *_underlined(line, baseline, asked.what, test))
            for label, line in samples
        ]
    heads = (Column("method", is_text=True), Column("category", is_text=True))
    columns = (*heads, *(Column.of(asked.what, name or AS_IT_IS) for name in variants))
    caption = (
        f"{_spread(asked)} Underlined: better than {(baseline or AS_IT_IS)!r}; a star: significantly different from it "
        f"({test.words}), which single runs cannot be.{_brackets(lines)}"
    )
    return Table(_name("variants", metric, group), asked.title, caption, columns, tuple(lines))


def cost_table(
    rows: Iterable[Row],
    *,
    costs: Sequence[str] = COSTS,
    methods: Sequence[str] | None = None,
    variant: str | None = None,
) -> Table:
    """What each method costs: the mean over the categories, each the mean of its seeds; of memory and size the largest.

    Bold: the least of a column, or the most where more is better. A method that lacks a category has no mean.
    """
    runs = single_variant(read_runs(rows), variant)
    places, methods = places_of(runs), methods_of(runs) if methods is None else list(methods)
    own = {method: [run for run in runs if run.method == method] for method in methods}
    found = {
        name: bold_best({method: cost_entry(own[method], places, name) for method in methods}, quantity(name))
        for name in costs
    }
    columns = (Column("method", is_text=True), *(Column.of(quantity(name)) for name in costs))
    lines = tuple((Entry(method), *(found[name][method] for name in costs)) for method in methods)
    caption = (
        f"The mean over {categories(len(places))}, each the mean of its runs; of what is in MB, the largest of the "
        "categories. Bold: the best of a column, untested."
    )
    return Table("costs", "Costs", caption, columns, lines)


def cost_entry(runs: Sequence[Run], places: Sequence[Place], name: str) -> Entry:
    """One cost of one method over ``places``: a mean, or the largest where it is in MB."""
    done = [run for run in runs if run.done]
    if not done:
        return Entry("failed", note=_failure(runs)) if runs else Entry("not run")
    means = [summarise(run.value(name) for run in done if run.place == place).mean for place in places]
    kept = [mean for mean in means if mean is not None]
    if not kept or len(kept) < len(means):
        return Entry(NO_VALUE, note=f"{len(kept)} of {categories(len(means))}")
    return Entry(mean=max(kept) if name.endswith("_mb") else summarise(kept).mean, n=len(done))


def bold_best(entries: Mapping[str, Entry], what: Quantity) -> dict[str, Entry]:
    """``entries`` with those of the best mean in bold; none where neither more nor less is better."""
    means = [entry.mean for entry in entries.values() if entry.mean is not None]
    if what.higher_is_better is None or not means:
        return dict(entries)
    top = max(means) if what.higher_is_better else min(means)
    return {name: replace(entry, bold=entry.mean == top) for name, entry in entries.items()}


def mean_entries(
    runs: Sequence[Run], methods: Sequence[str], places: Sequence[Place], metric: str, test: Significance
) -> dict[str, Entry]:
    """For every method its mean over ``places``; bold: the best, and all that do not differ significantly from it."""
    asked = _Asked(metric, "", _expected(runs), NOTHING)
    samples = {
        method: asked.over([run for run in runs if run.method == method], places, method)
        for method in methods
    }
    return dict(zip(methods, _marked(samples, asked.what, test)[0]))


def _sample(runs: Sequence[Run], asked: _Asked) -> _Sample:
    """The values of one method at one place."""
    done = [run for run in runs if run.done]
    if not done:
        return _Sample([], Entry("failed", note=_failure(runs)) if runs else Entry("not run"))
    values = [run.value(asked.metric, asked.group) for run in done]
    found = summarise(values)
    remarks = [_failure(runs)] if len(done) < len(runs) else []
    if found.mean is None:
        return _Sample([], Entry(NO_VALUE, note="; ".join([*remarks, "not defined on these images"])))
    if found.left_out:
        remarks.append(f"{found.left_out} without a value")
    if found.n < asked.expected:
        remarks.insert(0, f"{found.n} of {asked.expected} runs")
    return _Sample(values, Entry(mean=found.mean, std=found.std, n=found.n, note="; ".join(remarks)))


def _mean_sample(runs: Sequence[Run], places: Sequence[Place], asked: _Asked) -> _Sample:
    """One method's mean over ``places``, seed by seed."""
    there = [run for run in runs if run.place in places] if places else runs
    if not any(run.done for run in there):
        return _Sample([], Entry("failed", note=_failure(there)) if there else Entry("not run"))
    values, filled = seed_means(there, places, asked.metric, asked.group)
    if not places or filled < len(places):
        lacking = f"{filled} of {categories(len(places))}" if places else "not defined on these images"
        return _Sample([], Entry(NO_VALUE, note=lacking))
    found = summarise(values)
    if found.mean is None:
        return _Sample([], Entry(NO_VALUE, note="no seed has a value in every category"))
    note = f"{found.n} of {asked.expected} runs" if found.n < asked.expected else ""
    return _Sample(values, Entry(mean=found.mean, std=found.std, n=found.n, note=note))


def _marked(samples: Mapping[str, _Sample], what: Quantity, test: Significance) -> tuple[list[Entry], bool]:
    """A line's entries, the best in bold; and whether all could be tested."""
    entries = [sample.entry for sample in samples.values()]
    if what.higher_is_better is None:
        return entries, True
    compared = compare(
        {name: sample.values for name, sample in samples.items()},
        level=test.level,
        higher_is_better=what.higher_is_better,
        holm_corrected=test.holm,
    )
    bold = [replace(entry, bold=name in compared.marked) for name, entry in zip(samples, entries)]
    return bold, compared.tested


def _underlined(
    samples: Mapping[str, _Sample], baseline: str, what: Quantity, test: Significance
) -> list[Entry]:
    """A line's entries, set against the baseline's."""
    base, others = samples[baseline], [name for name in samples if name != baseline]
    found = [welch_p(samples[name].values, base.values) for name in others]
    p_values = dict(zip(others, holm(found) if test.holm else found))
    entries = []
    for name, sample in samples.items():
        p = p_values.get(name)
        better = _is_better(sample.entry.mean, base.entry.mean, what)
        entries.append(replace(sample.entry, underlined=better, significant=p is not None and p < test.level))
    return entries


def _is_better(mean: float | None, than: float | None, what: Quantity) -> bool:
    if mean is None or than is None or what.higher_is_better is None:
        return False
    return mean > than if what.higher_is_better else mean < than


def _beside(sample: _Sample, figure: Figure | None) -> _Sample:
    if figure is None:
        return sample
    return replace(sample, entry=replace(sample.entry, published=figure.value, source=figure.citation))


def methods_of(runs: Iterable[Run]) -> list[str]:
    """Every method, sorted."""
    return sorted({run.method for run in runs})


def categories(count: int) -> str:
    """So many categories, in words."""
    return "1 category" if count == 1 else f"{count} categories"


def _variants(runs: Iterable[Run], baseline: str) -> list[str]:
    names = {run.variant for run in runs}
    return sorted(names, key=lambda name: (name != baseline, _by_number(name)))


def _expected(runs: Iterable[Run]) -> int:
    """The most seeds that any place, method and variant has."""
    counts: dict[tuple[Place, str, str], int] = {}
    for run in runs:
        key = (run.place, run.method, run.variant)
        counts[key] = counts.get(key, 0) + 1
    return max(counts.values(), default=0)


def _failure(runs: Sequence[Run]) -> str:
    """How many failed, and what the first of them said."""
    failed = [run for run in runs if not run.done]
    count = f"{len(failed)} failed" if len(runs) > 1 else "failed"
    return f"{count}: {failed[0].error}" if failed[0].error else count


def _by_number(name: str) -> tuple[bool, float, str]:
    """Words before numbers, numbers upwards.

    >>> sorted(["10 images", "2 images", "noise"], key=_by_number)
    ['noise', '2 images', '10 images']
    """
    number = re.search(r"\d+(\.\d+)?", name)
    return number is not None, float(number[0]) if number else 0.0, name


def _spread(asked: _Asked) -> str:
    unit = ", in percent" if asked.what.is_share else ""
    runs = f"mean ± standard deviation of {asked.expected} runs" if asked.expected > 1 else "one run"
    return f"{asked.title}{unit}: {runs if asked.expected else 'nothing was run'}."


def _bold(test: Significance, tested: bool) -> str:
    words = f"Bold: the best of a line, and what does not differ significantly from it ({test.words})."
    return (
        words if tested else f"{words} A single run cannot be tested: it is bold only where it is the best."
    )


def _brackets(lines: Sequence[Sequence[Entry]]) -> str:
    if not any(entry.published is not None for line in lines for entry in line):
        return ""
    return " In brackets: what was published, with the settings of its source, which need not be ours."


def _name(*parts: str) -> str:
    return "-".join(part for part in parts if part)


def _first_up(words: str) -> str:
    return words[:1].upper() + words[1:]
