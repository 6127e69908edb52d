"""Whether a common detector serves every site: figures of spread, and weights that favour those it serves worst.

A rule of weights says how much each site counts in what all sites make:

``size``   by its images: w_k = n_k / sum n
``equal``  all alike: w_k = 1 / S
``need``   more where the common detector finds good parts odd: w_k ~ n_k F_k^q, the weights that q-FFL's objective
           sum_k p_k F_k^(q + 1) / (q + 1) gives a site's gradient (T. Li, M. Sanjabi, A. Beirami, V. Smith, "Fair Resource
           Allocation in Federated Learning", ICLR 2020, eq. 2). F_k is the mean score of the site's own good parts under
           the detector fitted by size, set once: q-FFL brings it up to date in every round.

S sites, n_k the images of site k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from andon.errors import SettingsError
from andon.federated.partitions import apportioned
from andon.federated.types import Aggregate, Contribution
from andon.models.base import Detector, State
from andon.models.fre import FRE
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD

RULES = ("size", "equal", "need")
_SUMS = ("count", "total", "second")  # of moments, float64


@dataclass(frozen=True)
class Spread:
    """One figure over the sites: its mean, the worst site, and how unlike the sites are.

    ``variance`` divides by S. ``jain`` is (sum x)^2 / (S sum x^2), 1 where all sites are alike (R. Jain, D. Chiu, W. Hawe,
    "A Quantitative Measure of Fairness and Discrimination for Resource Allocation in Shared Computer Systems", DEC-TR-301,
    1984); it is near 1 for all figures far from 0 and says little without the others. None where all are 0.
    """

    mean: float
    worst: float
    worst_site: str
    gap: float  # from the worst to the best
    variance: float
    jain: float | None


def spread_of(values: Mapping[str, float], *, higher_is_better: bool = True) -> Spread:
    """The spread of ``values`` (site -> figure). Raises :class:`SettingsError` without any.

    >>> found = spread_of({"a": 0.9, "b": 0.7})
    >>> found.worst_site, round(found.mean, 3), round(found.gap, 3), round(found.variance, 3), round(found.jain, 4)
    ('b', 0.8, 0.2, 0.01, 0.9846)
    """
    if not values:
        raise SettingsError("there is no site to compare")
    numbers = list(values.values())
    mean = sum(numbers) / len(numbers)
    sign = 1 if higher_is_better else -1
    worst = min(sorted(values), key=lambda site: sign * values[site])
    squares = sum(value * value for value in numbers)
    jain = sum(numbers) ** 2 / (len(numbers) * squares) if squares else None
    variance = sum((value - mean) ** 2 for value in numbers) / len(numbers)
    return Spread(mean, values[worst], worst, max(numbers) - min(numbers), variance, jain)


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points of which more is better in both: whether none of the others is as good in both and better in one.

    >>> pareto([(0.9, 0.5), (0.8, 0.6), (0.8, 0.5)])
    [True, True, False]
    """
    return [
        not any(other[0] >= one[0] and other[1] >= one[1] and other != one for other in points)
        for one in points
    ]


def weights_by(rule: str, images: Mapping[str, int], need: Mapping[str, float] | None = None, q: float = 2.0,
               ) -> dict[str, float]:  # fmt: skip
    """The weight of each site by ``rule``; they add up to 1. ``need``: F of each site, for the rule of that name.

    >>> weights_by("size", {"a": 10, "b": 30})
    {'a': 0.25, 'b': 0.75}
    >>> round(weights_by("need", {"a": 10, "b": 10}, {"a": 1.0, "b": 3.0}, q=1)["b"], 6)
    0.75
    """
    if rule not in RULES:
        raise SettingsError(f"there is no rule of weights {rule!r}. Give one of: {', '.join(RULES)}")
    if not 0 <= q < float("inf"):
        raise SettingsError(f"q must be a number of at least 0, got {q!r}")
    raw = {site: 1.0 if rule == "equal" else float(count) for site, count in images.items()}
    if rule == "need":
        if (
            need is None
            or set(need) != set(images)
            or not all(0 < value < float("inf") for value in need.values())
        ):
            raise SettingsError("the rule 'need' takes a mean score above 0 of every site")
        most = max(need.values())  # F^q of large F and q would overflow
        raw = {site: count * (need[site] / most) ** q for site, count in raw.items()}
    total = sum(raw.values())
    return {site: value / total for site, value in raw.items()}


def weighted(detector: Detector, weights: Mapping[str, float]) -> Aggregate:
    """The aggregate in which each site counts by ``weights`` (site -> weight, of any sum).

    Trained weights are averaged by them. Moments are scaled, as if each site had so many of all images. A memory bank gets
    rows from each site by them, the first of the site's own coreset, which are themselves a greedy coreset: equal weights are
    a balanced coreset. Raises :class:`SettingsError` for a method whose states are none of these.
    """

    def of(one: Contribution) -> float:
        if one.site not in weights:
            raise SettingsError(f"site {one.site!r} has no weight")
        return weights[one.site]

    def average(contributions: Sequence[Contribution]) -> State:
        return type(detector).merge([one.state for one in contributions], [of(one) for one in contributions])

    def scale(contributions: Sequence[Contribution]) -> State:
        images, total = sum(one.images for one in contributions), sum(map(of, contributions))
        factors = [of(one) / total * images / one.images for one in contributions]
        states = [_scaled(detector, one.state, by) for one, by in zip(contributions, factors, strict=True)]
        return type(detector).merge(states, [1] * len(states))

    def select(contributions: Sequence[Contribution]) -> State:
        held = [len(one.state["patches"]) for one in contributions]
        rows = quotas(limit, list(map(of, contributions)), held)
        states = [_first_rows(one.state, count) for one, count in zip(contributions, rows, strict=True)]
        return type(detector).merge(states, [1] * len(states))

    if detector.steps:
        return average
    if isinstance(detector, PatchCore):
        limit = detector.bank_limit
        return select
    if isinstance(detector, (PaDiM, SubspaceAD, FRE)):
        return scale
    raise SettingsError(
        f"sites cannot be weighed in {type(detector).__name__}: its statistics have no weights"
    )


def quotas(count: int, weights: Sequence[float], held: Sequence[int]) -> list[int]:
    """``count`` rows by ``weights``, none more than the site holds; what one cannot give falls to the others.

    >>> quotas(10, [1, 1, 1], [2, 9, 9])
    [2, 4, 4]
    """
    rows = [0] * len(held)
    while (left := min(count, sum(held)) - sum(rows)) > 0:
        open_ = [k for k in range(len(held)) if rows[k] < held[k]]
        if not any(weights[k] for k in open_):
            break
        for k, more in zip(open_, apportioned(left, [weights[k] for k in open_]), strict=True):
            rows[k] = min(held[k], rows[k] + more)
    return rows


def _first_rows(state: State, count: int) -> State:
    return {name: of[:count] if of.ndim else of for name, of in state.items()}


def _scaled(detector: Detector, state: State, by: float) -> State:
    """``state`` as if of ``by`` times as many images of the same kind."""
    if isinstance(detector, FRE):
        return {**state, "images_seen": (state["images_seen"] * by).round().clamp(min=1).to(torch.int64),
                "rows": state["rows"] * by**0.5}  # fmt: skip
    return {name: of * by if name in _SUMS else of for name, of in state.items()}
