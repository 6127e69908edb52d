"""What the page draws, as plain values: :mod:`andon.bench.figures` draws them.

A *case* is one method at one place (set, category).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from andon.bench.published import Place
from andon.bench.rows import Quantity, Run, labels, quantity, seed_means
from andon.bench.stats import Band, band, summarise, welch_p
from andon.bench.tables import Significance, cost_entry
from andon.metrics.holm import holm

MOST_CASES = 48  # lines of one chart of pairs; with more, methods' means are drawn instead


@dataclass(frozen=True)
class Point:
    """One method: what it costs and what it gives. ``on_front``: none is both faster and more accurate."""

    name: str
    cost: float
    value: float
    on_front: bool


@dataclass(frozen=True)
class TradeOff:
    """Every method's accuracy over its time."""

    what: Quantity
    cost: Quantity
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Strip:
    """One method's mean figure at each place (label, value), and the mean of these."""

    name: str
    values: tuple[tuple[str, float], ...]
    mean: float


@dataclass(frozen=True)
class Spread:
    """How evenly methods do from place to place; the best mean first."""

    what: Quantity
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Pair:
    """One case under the baseline and under a variant. ``sign``: 1 significantly better, -1 worse, 0 neither."""

    before: float
    after: float
    sign: int


@dataclass(frozen=True)
class Pairs:
    """Cases (method, label) down, variants across; None where either was not run."""

    what: Quantity
    baseline: str
    variants: tuple[str, ...]
    cases: tuple[tuple[str, str], ...]
    pairs: tuple[tuple[Pair | None, ...], ...]  # as many as cases, each of as many as variants


@dataclass(frozen=True)
class Learning:
    """One method's curve: a mean and its band for each number of images, upwards; ``whole``: with all images."""

    name: str
    steps: tuple[tuple[float, Band], ...]
    whole: Band | None

    @property
    def with_all(self) -> float | None:
        """The mean with all images."""
        return None if self.whole is None else self.whole.mean


@dataclass(frozen=True)
class Curves:
    """Accuracy over the number of good images. ``images``: how many all are, on average; None where that is not said."""

    what: Quantity
    learnings: tuple[Learning, ...]
    images: float | None


Chart = TradeOff | Spread | Pairs | Curves


def trade_off(
    means: Mapping[str, float], runs: Sequence[Run], places: Sequence[Place], metric: str, cost: str
) -> TradeOff:
    """The methods of ``means`` (method -> figure) that have a time at every place."""
    found = {
        name: cost_entry([run for run in runs if run.method == name], places, cost).mean for name in means
    }
    known = {name: (value, means[name]) for name, value in found.items() if value is not None and value > 0}
    higher = quantity(metric).higher_is_better is not False
    points = [
        Point(name, ms, value, not any(_beats(other, (ms, value), higher) for other in known.values()))
        for name, (ms, value) in sorted(known.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return TradeOff(quantity(metric), quantity(cost), tuple(points))


def _beats(other: tuple[float, float], one: tuple[float, float], higher: bool) -> bool:
    """Whether ``other`` (cost, value) is as good as ``one`` in both, and better in one of them."""
    gain = other[1] - one[1] if higher else one[1] - other[1]
    return other[0] <= one[0] and gain >= 0 and other != one


def spread(runs: Sequence[Run], methods: Sequence[str], places: Sequence[Place], metric: str) -> Spread:
    """The methods that have the figure at one place at least."""
    strips = []
    for method in methods:
        values = []
        for place, label in zip(places, labels(places)):
            own = [r.value(metric) for r in runs if r.method == method and r.place == place and r.done]
            mean = summarise(own).mean
            values += [] if mean is None else [(label, mean)]
        mean = summarise(value for _, value in values).mean
        strips += [] if mean is None else [Strip(method, tuple(values), mean)]
    sign = 1 if quantity(metric).higher_is_better is False else -1
    return Spread(quantity(metric), tuple(sorted(strips, key=lambda one: (sign * one.mean, one.name))))


def pairs(
    runs: Sequence[Run], methods: Sequence[str], places: Sequence[Place], variants: Sequence[str], baseline: str,
    metric: str, test: Significance,
) -> Pairs:  # fmt: skip
    """Each case beside its baseline; Holm's correction counts the variants of a case, as in the table.

    The means over ``places`` where the cases are more than :data:`MOST_CASES`; no label where there is one place.
    """
    others = [name for name in variants if name != baseline]
    if len(places) == 1 or len(methods) * len(places) > MOST_CASES:
        cases = [(method, list(places), "") for method in methods]
    else:
        cases = [
            (method, [place], label) for method in methods for place, label in zip(places, labels(places))
        ]
    lines = []
    for method, where, label in cases:
        own = {name: [r for r in runs if r.method == method and r.variant == name] for name in variants}
        samples = {name: seed_means(own.get(name, []), where, metric)[0] for name in (baseline, *others)}
        lines.append(((method, label), _line(samples, baseline, others, quantity(metric), test)))
    kept = [line for line in lines if any(line[1])]
    return Pairs(
        quantity(metric), baseline, tuple(others), tuple(case for case, _ in kept), tuple(line for _, line in kept)
    )  # fmt: skip


def _line(
    samples: Mapping[str, list[float]], baseline: str, others: Sequence[str], what: Quantity, test: Significance
) -> tuple[Pair | None, ...]:  # fmt: skip
    before = summarise(samples[baseline]).mean
    p_values = [welch_p(samples[name], samples[baseline]) for name in others]
    p_values = holm(p_values) if test.holm else p_values
    found: list[Pair | None] = []
    for name, p in zip(others, p_values):
        after = summarise(samples[name]).mean
        if before is None or after is None:
            found.append(None)
            continue
        better = (after > before) == (what.higher_is_better is not False)
        significant = p is not None and p < test.level and after != before
        found.append(Pair(before, after, (1 if better else -1) if significant else 0))
    return tuple(found)


def curves(
    runs: Sequence[Run], methods: Sequence[str], places: Sequence[Place], shots: Mapping[str, float], whole: str,
    metric: str, images: float | None,
) -> Curves:  # fmt: skip
    """The methods' means over ``places`` for every variant of ``shots`` (variant -> images) and the variant ``whole``."""
    learnings = []
    for method in methods:
        own = [run for run in runs if run.method == method]
        bands = {
            name: band(seed_means([run for run in own if run.variant == name], places, metric)[0])
            for name in (*shots, whole)
        }
        steps = tuple((shots[name], bands[name]) for name in shots if bands[name].mean is not None)
        end = bands[whole] if bands[whole].mean is not None else None
        learnings += [Learning(method, steps, end)] if steps or end else []
    return Curves(quantity(metric), tuple(learnings), images)
