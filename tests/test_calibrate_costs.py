"""The review band that costs the least: against brute force, and what is said where none pays."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from andon.calibrate import Costs, calibrate_with_defects, expected_cost
from andon.errors import SettingsError
from andon.types import Calibration

Floats = NDArray[np.float64]


def overlapping(seed: int, n: int = 40, m: int = 15) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, n).round(1), rng.normal(1.5, 1, m).round(1)  # rounded: with ties


def cost_of(lower: float, upper: float, nominal: Floats, anomalous: Floats, costs: Costs) -> float:
    """The cost of a part, straight from its definition."""
    share, review = costs.defect_rate, costs.review or 0.0
    band = lambda scores: ((scores > lower) & (scores <= upper)).mean()  # noqa: E731
    return float(
        share * (costs.escape * (anomalous <= lower).mean() + review * band(anomalous))
        + (1 - share) * (costs.false_alarm * (nominal > upper).mean() + review * band(nominal))
    )


def made(nominal: Floats, anomalous: Floats, costs: Costs) -> Calibration:
    return calibrate_with_defects(
        nominal, anomalous, criterion="cost", cost_escape=costs.escape, cost_false_alarm=costs.false_alarm,
        cost_review=costs.review, defect_rate=costs.defect_rate,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("costs", [Costs(10, 1, 0.1, 0.3), Costs(5, 2, 0.3, 0.5), Costs(200, 1, 0.01, 0.2), Costs(1, 1, 0.5, 0.6),
                                   Costs(3, 1, 0.2, 0.0), Costs(10, 0, 0.1, 0.2), Costs(0, 1, 0.1, 0.2)])  # fmt: skip
def test_the_band_is_the_cheapest_of_all_pairs(seed: int, costs: Costs) -> None:
    nominal, anomalous = overlapping(seed)
    calibration = made(nominal, anomalous, costs)
    upper = calibration.threshold
    lower = upper if calibration.review_threshold is None else calibration.review_threshold
    values = np.unique(np.concatenate([nominal, anomalous]))
    pairs = itertools.combinations_with_replacement([values[0] - 1, *values], 2)
    best = min(cost_of(low, high, nominal, anomalous, costs) for low, high in pairs)
    assert cost_of(lower, upper, nominal, anomalous, costs) == pytest.approx(best)
    assert expected_cost(calibration, nominal, anomalous, costs).total == pytest.approx(best)
    if costs.review >= costs.dearest_review:
        assert calibration.review_threshold is None


def test_it_is_quick_on_thousands_of_images() -> None:
    rng = np.random.default_rng(0)
    calibration = made(rng.normal(0, 1, 20_000), rng.normal(2, 1, 5_000), Costs(5, 1, 0.3, 0.2))
    # scores of two normal distributions: the posterior at a threshold is that at which both decisions cost the same (Chow)
    for threshold, odds in ((calibration.review_threshold, 0.2 / 4.8), (calibration.threshold, 0.8 / 0.2)):
        expected = 1 + math.log(odds * 0.7 / 0.3) / 2
        assert threshold == pytest.approx(expected, abs=0.2)


def test_free_reviews_take_no_more_than_they_must() -> None:
    nominal, anomalous = np.array([1.0, 2.0, 5.0]), np.array([4.0, 6.0, 7.0])
    calibration = made(nominal, anomalous, Costs(10, 1, 0.1, 0.0))
    assert (calibration.review_threshold, calibration.threshold) == (3.0, 5.5)
    apart = made(np.array([1.0, 2.0]), np.array([4.0, 5.0]), Costs(10, 1, 0.1, 0.0))
    assert (apart.review_threshold, apart.threshold) == (None, 3.0)


def test_without_a_band_it_is_the_threshold_of_the_two_costs() -> None:
    nominal, anomalous = overlapping(3)
    alone = calibrate_with_defects(nominal, anomalous, criterion="cost", review_rate=0.0)
    dear = calibrate_with_defects(nominal, anomalous, criterion="cost", cost_review=10.0)
    assert (dear.threshold, dear.review_threshold) == (alone.threshold, None)
    assert (
        "no review band: a review at 10 is never worth its price; with an escape at 10 and a false alarm at 1 "
        "it must cost less than 0.9091"
    ) in dear.statement
    apart = calibrate_with_defects([1.0, 2.0], [4.0], criterion="cost", cost_review=0.1)
    assert (
        "no review band: on these images none saves what its reviews at 0.1 each would cost"
        in apart.statement
    )


def test_the_statement_says_what_a_part_costs() -> None:
    nominal, anomalous = np.array([1.0, 2.0, 5.0]), np.array([4.0, 6.0, 7.0])
    costs = Costs(10, 1, 0.1, 0.3)
    calibration = made(nominal, anomalous, costs)
    escapes, alarms, reviews = expected_cost(calibration, nominal, anomalous, costs)
    assert calibration.review_threshold is not None
    assert (
        "with review 100.0 % (3 of 3; 43.9 % to 100.0 %) of the defects do not pass" in calibration.statement
    )
    assert (
        f"expected cost a part {escapes + alarms + reviews:.4g}, 10.0 % of them defective"
        in calibration.statement
    )


def test_nobody_looks_where_no_review_has_a_cost() -> None:
    calibration = calibrate_with_defects([1.0, 2.0, 5.0] * 20, [4.0, 6.0], criterion="f1", review_rate=0.3)
    assert calibration.review_threshold is not None
    with_people = expected_cost(calibration, [1.0], [3.0], Costs(10, 1, 0.5, 0.1))
    alone = expected_cost(calibration, [1.0], [3.0], Costs(10, 1, 0.5))
    assert alone == (5.0, 0.0, 0.0)
    assert with_people.total <= alone.total


@pytest.mark.parametrize(("more", "text"), [
    ({"cost_review": -1.0}, "cost_review: expected a finite cost of at least 0, got -1.0"),
    ({"cost_review": math.inf}, "cost_review: expected a finite cost of at least 0, got inf"),
    ({"cost_review": math.nan}, "cost_review: expected a finite cost of at least 0, got nan"),
    ({"cost_escape": -1.0}, "cost_escape, cost_false_alarm: expected finite costs of at least 0, not both 0, got -1.0 and 1.0"),
    ({"cost_escape": 0.0, "cost_false_alarm": 0.0}, "not both 0"),
    ({"defect_rate": 0.0, "cost_review": 1.0}, "defect_rate: expected a share between 0 and 1"),
    ({"criterion": "f1", "cost_review": 1.0}, "cost_review is for the criterion 'cost', got 'f1'"),
    ({"cost_review": 1.0, "review_tpr": 0.9}, "cost_review and review_tpr both set the review band; give one of them"),
])  # fmt: skip
def test_costs_that_make_no_sense(more: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError) as told:
        calibrate_with_defects([1.0], [2.0], **{"criterion": "cost", **more})  # type: ignore[arg-type]
    assert text in str(told.value)


def test_the_figures_in_the_docs() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "thresholds.md"
    assert doctest.testfile(str(page), module_relative=False) == (0, 6)
