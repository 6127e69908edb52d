"""A threshold from good and defective images: the best there is by each criterion, and honestly described."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from andon.calibrate import calibrate, calibrate_with_defects, decide
from andon.errors import SettingsError


def rates(
    threshold: float, nominal: NDArray[np.float64], anomalous: NDArray[np.float64]
) -> tuple[float, float]:
    return float((anomalous > threshold).mean()), float((nominal > threshold).mean())


def overlapping(seed: int, n: int = 120, m: int = 35) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, n).round(1), rng.normal(1.5, 1, m).round(1)  # rounded: with ties


def all_thresholds(*scores: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.unique(np.concatenate(scores))
    return np.concatenate([[values[0] - 1], values])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("required", [0.5, 0.9, 1.0])
def test_tpr_is_kept_at_the_fewest_false_alarms(seed: int, required: float) -> None:
    nominal, anomalous = overlapping(seed)
    calibration = calibrate_with_defects(nominal, anomalous, required_tpr=required)
    tpr, fpr = rates(calibration.threshold, nominal, anomalous)
    options = [rates(t, nominal, anomalous) for t in all_thresholds(nominal, anomalous)]
    assert tpr >= required
    assert fpr == min(f for t, f in options if t >= required)
    assert calibration.target_rate == pytest.approx((120 * fpr + 1) / 121)


@pytest.mark.parametrize("seed", range(5))
def test_f1_youden_and_cost_are_the_best_there_are(seed: int) -> None:
    nominal, anomalous = overlapping(seed)
    n, m = len(nominal), len(anomalous)
    gains = {
        "f1": lambda tpr, fpr: 2 * tpr * m / (tpr * m + fpr * n + m),
        "youden": lambda tpr, fpr: tpr - fpr,
        "cost": lambda tpr, fpr: -(10 * (1 - tpr) * m + fpr * n),
    }
    for criterion, gain in gains.items():
        calibration = calibrate_with_defects(nominal, anomalous, criterion=criterion)  # type: ignore[arg-type]
        best = max(gain(*rates(t, nominal, anomalous)) for t in all_thresholds(nominal, anomalous))
        assert gain(*rates(calibration.threshold, nominal, anomalous)) == pytest.approx(best)
        assert calibration.method == criterion


def test_the_defect_rate_weighs_the_cost() -> None:
    nominal, anomalous = overlapping(1)
    rare = calibrate_with_defects(nominal, anomalous, criterion="cost", defect_rate=0.001)
    common = calibrate_with_defects(nominal, anomalous, criterion="cost", defect_rate=0.5)
    assert rare.threshold > common.threshold


def test_separable_classes_are_divided_in_the_middle() -> None:
    for criterion in ("tpr", "f1", "youden", "cost"):
        calibration = calibrate_with_defects([1.0, 2.0], [4.0, 5.0], criterion=criterion)  # type: ignore[arg-type]
        assert calibration.threshold == 3.0
        assert "overlap" not in calibration.statement


def test_the_statement_gives_both_rates_and_says_when_they_overlap() -> None:
    calibration = calibrate_with_defects(np.arange(100.0), np.arange(90.0, 190.0), required_tpr=1.0)
    assert calibration.threshold == 89.5
    assert calibration.statement == (
        "on the calibration images 100.0 % (100 of 100; 96.3 % to 100.0 %) of the defects and 10.0 % "
        "(10 of 100; 5.5 % to 17.4 %) of the good parts fail, in brackets the 95 % intervals; "
        "good and defective scores overlap"
    )


def test_identical_classes_still_give_a_threshold() -> None:
    calibration = calibrate_with_defects([1.0], [1.0])
    assert decide(1.0, calibration) == "fail"
    assert calibration.promised_rate == 1.0


@pytest.mark.parametrize("scores", [([1.0], [1.0]), ([1.0, 2.0], [4.0]), ([5.0, 6.0], [1.0, 9.0])])
def test_its_target_rate_can_be_asked_for_again(scores: tuple[list[float], list[float]]) -> None:
    rate = calibrate_with_defects(*scores).target_rate
    assert calibrate(scores[0], target_rate=rate).target_rate == rate


def test_the_promise_with_defects_is_held_though_the_scores_chose_the_threshold() -> None:
    rng = np.random.default_rng(5)
    broken = 0
    for _ in range(200):
        made = calibrate_with_defects(rng.random(200), rng.random(50) + 0.5, criterion="youden")
        broken += 1 - made.threshold > made.promised_rate
    assert broken <= 200 * 0.05


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("required", [0.9, 0.97, 1.0])
def test_the_review_band_holds_the_defects_that_must_not_pass(seed: int, required: float) -> None:
    nominal, anomalous = overlapping(seed)
    made = calibrate_with_defects(nominal, anomalous, required_tpr=0.8, review_tpr=required)
    alone = calibrate_with_defects(nominal, anomalous, required_tpr=0.8, review_rate=0.0)
    assert made.threshold == alone.threshold
    assert made.review_threshold is not None
    assert rates(made.review_threshold, nominal, anomalous)[0] >= required
    higher = [t for t in all_thresholds(nominal, anomalous) if t > made.review_threshold]
    assert all(rates(t, nominal, anomalous)[0] < required for t in higher if t < made.threshold)
    assert "with review " in made.statement


def test_no_review_band_where_the_threshold_catches_enough() -> None:
    made = calibrate_with_defects([1.0, 2.0], [4.0, 5.0], review_tpr=0.9)
    assert made.review_threshold is None
    assert "no review band is needed for the defects that must not pass" in made.statement
    with pytest.raises(SettingsError, match="review_tpr: expected a share"):
        calibrate_with_defects([1.0], [2.0], review_tpr=1.5)
