"""What mistakes and a person's look cost, and the two thresholds that cost the least on the images at hand.

C. K. Chow 1970, "On optimum recognition error and reject tradeoff", IEEE Transactions on Information Theory 16(1): decide
where that is expected to be cheaper than to reject, and reject in between; here to reject is to ask a person, who is taken
to be right. A part whose probability of being defective is p costs p c_e where it passes, (1 - p) c_a where it fails, c_r
where it is reviewed. So c_r must lie below c_e c_a / (c_e + c_a), the most that the cheaper of both mistakes ever costs,
or no review is worth its price. Letters: n good and m defective images, T candidate thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.calibrate.conformal import SLACK, check_share
from andon.calibrate.decision import outcome_table
from andon.calibrate.thresholds import Values
from andon.errors import SettingsError
from andon.types import Calibration

Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Costs:
    """What one part costs, in any one unit, by what becomes of it; right decisions cost nothing.

    review: of a person's look at a part, good or defective; None where nobody looks, so that all but what fails passes.
    defect_rate: the share of defective parts on the line, 0 to 1; that of a calibration set says little about it.
    Raises :class:`SettingsError` for costs that are negative or not finite, or where neither mistake costs anything.
    """

    escape: float  # a defect that passes
    false_alarm: float  # a good part that fails
    defect_rate: float
    review: float | None = None

    def __post_init__(self) -> None:
        given = (self.escape, self.false_alarm)
        if not all(0 <= cost < math.inf for cost in given) or not any(given):
            raise SettingsError(
                "cost_escape, cost_false_alarm: expected finite costs of at least 0, not both 0, "
                f"got {self.escape} and {self.false_alarm}"
            )
        if self.review is not None and not 0 <= self.review < math.inf:
            raise SettingsError(f"cost_review: expected a finite cost of at least 0, got {self.review}")
        check_share("defect_rate", self.defect_rate)

    @property
    def dearest_review(self) -> float:
        """The cost from which on no review is worth its price, whatever the scores.

        >>> Costs(escape=10, false_alarm=1, defect_rate=0.01).dearest_review  # doctest: +ELLIPSIS
        0.909...
        """
        return self.escape * self.false_alarm / (self.escape + self.false_alarm)


class Expected(NamedTuple):
    """The expected cost of one part of the line, by what it is spent on."""

    escapes: float
    false_alarms: float
    reviews: float

    @property
    def total(self) -> float:
        """All three together."""
        return sum(self)


def expected_cost(calibration: Calibration, nominal: Values, anomalous: Values, costs: Costs) -> Expected:
    """What a part of the line costs on average, its good and defective parts scoring as these images do.

    >>> from andon.calibrate import calibrate_with_defects
    >>> set_at = calibrate_with_defects([1.0, 2.0, 5.0], [4.0, 6.0], required_tpr=0.5, review_rate=0.0)
    >>> expected_cost(set_at, [1.0, 2.0, 5.0], [4.0, 6.0], Costs(escape=10, false_alarm=1, defect_rate=0.1)).escapes
    0.5
    """
    if costs.review is None:
        calibration = replace(calibration, review_threshold=None)
    table = outcome_table(calibration, nominal, anomalous)
    good, bad, share = table["nominal"], table["anomalous"], costs.defect_rate
    n, m = sum(good.values()), sum(bad.values())
    return Expected(
        share * costs.escape * bad["pass"] / m,
        (1 - share) * costs.false_alarm * good["fail"] / n,
        (costs.review or 0.0) * (share * bad["review"] / m + (1 - share) * good["review"] / n),
    )


def cheapest_band(alarms: Counts, caught: Counts, n: int, m: int, costs: Costs) -> tuple[int, int]:
    """The two of T thresholds that cost the least: (above which a person looks, above which the part fails).

    alarms, caught: how many of the n nominal and m anomalous scores lie above each threshold (T,), thresholds upwards.
    Exact over all pairs, in time O(T): the cost of a pair is one term of the lower and one of the upper threshold,

        p c_e #{defects <= l} / m - c_r M(l)   +   (1 - p) c_a #{good > u} / n + c_r M(u),   l <= u,

    with M(t) the share of all parts at or below t. Without a cost of reviews both are the same. Of equal pairs the one with
    the fewest reviews, then the lower one, which lets fewer defects escape.
    """
    share, review = costs.defect_rate, costs.review
    passed = share * (m - caught) / m
    below = passed + (1 - share) * (n - alarms) / n  # M
    escapes, false_alarms = costs.escape * passed, costs.false_alarm * (1 - share) * alarms / n
    slack = SLACK * (costs.escape + costs.false_alarm + (review or 0.0))
    if review is None:
        total = escapes + false_alarms
        best = int(np.flatnonzero(total <= total.min() + slack)[0])
        return best, best
    lower = escapes - review * below
    least = np.minimum.accumulate(lower)
    at = np.maximum.accumulate(np.where(lower <= least + slack, np.arange(len(lower)), 0))
    total = least + false_alarms + review * below
    reviewed = np.where(total <= total.min() + slack, below - below[at], np.inf)
    best = int(np.flatnonzero(reviewed <= reviewed.min() + SLACK)[0])
    return int(at[best]), best
