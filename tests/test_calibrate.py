"""Calibration: what is promised is held, and what cannot be promised is said."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from andon.calibrate import (
    calibrate,
    calibrate_with_defects,
    calibration_from_dict,
    calibration_to_dict,
    decide,
    images_needed,
    outcome_table,
    promised_rate,
    score01,
    uncalibrated,
    with_groups,
)
from andon.calibrate.conformal import conditional_order, marginal_order
from andon.calibrate.storage import METHODS
from andon.errors import CalibrationError, SettingsError

FINITE = st.floats(-1e6, 1e6)


def uniform(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(n)


# The arithmetic, against a second source


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (40, 40), (299, 299), (312, 312), (1000, 995), (500, 250), (3000, 1)]
)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_promised_rate_is_the_beta_quantile(n: int, k: int, confidence: float) -> None:
    assert promised_rate(n, k, confidence) == pytest.approx(
        stats.beta.ppf(confidence, n + 1 - k, k), rel=1e-9
    )


def test_promised_rate_of_the_maximum_has_a_closed_form() -> None:
    assert promised_rate(40, 40, 0.95) == pytest.approx(1 - 0.05 ** (1 / 40), rel=1e-12)
    assert promised_rate(10, 0, 0.95) == 1.0


@pytest.mark.parametrize(("rate", "confidence", "n"), [(0.01, 0.95, 299), (0.001, 0.95, 2995), (0.05, 0.9, 45), (0.5, 0.75, 2)])  # fmt: skip
def test_images_needed_is_the_least(rate: float, confidence: float, n: int) -> None:
    assert images_needed(rate, confidence) == n
    assert promised_rate(n, n, confidence) <= rate * (1 + 1e-9)
    assert n == 1 or promised_rate(n - 1, n - 1, confidence) > rate


@pytest.mark.parametrize("n", [1, 98, 298, 299, 400, 2000, 20_000])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2])
def test_the_conditional_order_is_the_least_that_holds(n: int, rate: float) -> None:
    k = conditional_order(n, rate, 0.95)
    if k is None:
        assert n < images_needed(rate, 0.95)
        return
    assert stats.binom.cdf(n - k, n, rate) <= 0.05
    assert stats.binom.cdf(n - k + 1, n, rate) > 0.05


@pytest.mark.parametrize(
    ("n", "rate", "k"), [(99, 0.01, 99), (98, 0.01, 99), (199, 0.01, 198), (19, 0.05, 19)]
)
def test_the_marginal_order_counts_as_on_paper(n: int, rate: float, k: int) -> None:
    assert marginal_order(n, rate) == k


# The promise


@pytest.mark.parametrize(("n", "method"), [(40, "max"), (98, "max"), (99, "conformal"), (298, "conformal"), (299, "conformal")])  # fmt: skip
def test_the_method_follows_the_number_of_images(n: int, method: str) -> None:
    assert calibrate(uniform(n)).method == method


def test_statements() -> None:
    assert calibrate(uniform(312)).statement == (
        "at most 1.0 % false alarms with 95 % confidence, from 312 good images"
    )
    assert calibrate(uniform(40)).statement == (
        "from 40 good images at most 7.2 % false alarms can be promised with 95 % confidence; "
        "for 1.0 % 299 good images are needed"
    )
    assert calibrate(uniform(150)).statement == (
        "at most 1.0 % false alarms on average over calibration sets, from 150 good images; "
        "with 95 % confidence at most 2.0 %, for 1.0 % 299 good images are needed"
    )
    assert calibrate([1.0], target_rate=0.00125, confidence=0.999).statement == (
        "from 1 good image at most 99.9 % false alarms can be promised with 99.9 % confidence; "
        "for 0.125 % 5,523 good images are needed"
    )


@pytest.mark.parametrize(("n", "rate", "confidence"), [(299, 0.01, 0.95), (700, 0.01, 0.95), (1000, 0.05, 0.9), (60, 0.05, 0.95)])  # fmt: skip
def test_the_promise_is_held_at_its_confidence(n: int, rate: float, confidence: float) -> None:
    """400 calibration sets of uniform scores, whose true false-alarm rate is 1 - threshold."""
    draws = np.random.default_rng(n).random((400, n))
    made = [calibrate(scores, target_rate=rate, confidence=confidence) for scores in draws]
    true_rates = np.array([1 - calibration.threshold for calibration in made])
    allowed = 400 * (1 - confidence) + 3 * math.sqrt(400 * confidence * (1 - confidence))
    assert (true_rates > rate).sum() <= allowed
    assert (true_rates > made[0].promised_rate).sum() <= allowed
    assert np.mean(true_rates) > rate / 10  # and not by never failing a part


@pytest.mark.parametrize("n", [99, 150, 298])
def test_the_average_promise_is_held(n: int) -> None:
    true_rates = [1 - calibrate(scores).threshold for scores in np.random.default_rng(n).random((400, n))]
    assert np.mean(true_rates) <= 0.01 + 3 * np.std(true_rates) / math.sqrt(400)


def test_the_promise_is_held_with_few_images() -> None:
    draws = np.random.default_rng(7).random((800, 25))
    made = [calibrate(scores) for scores in draws]
    share = np.mean([1 - calibration.threshold > calibration.promised_rate for calibration in made])
    assert share == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 800))


def test_ties_do_not_break_the_promise() -> None:
    """Scores that take ten values: the true rate is the probability of a strictly higher one."""
    draws = np.random.default_rng(3).integers(0, 10, (400, 299))
    true_rates = [(9 - calibrate(scores).threshold) / 10 for scores in draws]
    assert np.mean(np.array(true_rates) > 0.01) <= 0.05


def test_scores_may_come_in_any_order_and_kind() -> None:
    scores = uniform(320).astype(np.float32)
    assert calibrate(scores) == calibrate(scores[::-1]) == calibrate([float(score) for score in scores])


@given(st.lists(FINITE, min_size=1, max_size=60), st.floats(0.001, 0.5), st.floats(0.5, 0.999))
def test_the_false_alarms_on_the_calibration_images_keep_to_the_rate(
    scores: list[float], rate: float, confidence: float
) -> None:
    calibration = calibrate(scores, target_rate=rate, confidence=confidence)
    counts = outcome_table(calibration, scores)["nominal"]
    assert counts["fail"] <= rate * (len(scores) + 1)
    assert sum(counts.values()) == len(scores)
    assert calibration.threshold in scores


@pytest.mark.parametrize(("n", "rate", "needed", "held"), [(40, 0.01, 299, "7.2 %"), (298, 0.01, 299, "1.0 %"), (2994, 0.001, 2995, "0.1 %")])  # fmt: skip
def test_strict_gives_no_threshold_that_cannot_be_promised(
    n: int, rate: float, needed: int, held: str
) -> None:
    with pytest.raises(CalibrationError) as told:
        calibrate(uniform(n), target_rate=rate, strict=True)
    assert str(told.value).startswith(
        f"no threshold: {100 * rate:.1f} % false alarms cannot be promised with 95 %"
    )
    assert f"{needed:,} are needed, {needed - n:,} more. From these at most {held} can be promised" in str(
        told.value
    )
    assert calibrate(uniform(needed), target_rate=rate, strict=True) == calibrate(
        uniform(needed), target_rate=rate
    )


# Review


def test_the_review_band_holds_its_share() -> None:
    calibration = calibrate(np.arange(999.0))
    counts = outcome_table(calibration, np.arange(999.0))["nominal"]
    assert counts["review"] == 50  # 5 x 1 % of 999 + 1
    assert (
        outcome_table(calibrate(np.arange(999.0), review_rate=0.1), np.arange(999.0))["nominal"]["review"]
        == 100
    )


@pytest.mark.parametrize(
    ("scores", "rate"), [(range(18), None), (range(500), 0.0), ([1.0] * 500, None), ([1.0], 0.9)]
)
def test_no_review_band_where_none_fits(scores: list[float], rate: float | None) -> None:
    assert calibrate(scores, review_rate=rate).review_threshold is None


def test_review_lies_between_the_thresholds() -> None:
    calibration = calibrate(range(100), review_rate=0.05)
    assert (calibration.review_threshold, calibration.threshold) == (94.0, 99.0)
    assert [decide(score, calibration) for score in (94.0, 94.5, 99.0, 99.5)] == [
        "pass",
        "review",
        "review",
        "fail",
    ]


# Maps


def test_the_map_threshold_is_a_quantile_of_the_peaks() -> None:
    peaks = np.arange(499.0)
    assert calibrate(uniform(499), map_peaks=peaks).map_threshold == 494.0  # k = 495 of 499
    assert calibrate(uniform(20), map_peaks=peaks[:20]).map_threshold == 19.0
    calibration = calibrate(uniform(20))
    assert calibration.map_threshold == calibration.threshold


@pytest.mark.parametrize("n", [20, 150, 400])
def test_a_failing_image_whose_score_is_its_peak_has_a_region(n: int) -> None:
    calibration = calibrate(uniform(n), map_peaks=uniform(n))
    assert calibration.map_threshold <= calibration.threshold


def test_map_peaks_are_one_an_image() -> None:
    with pytest.raises(
        CalibrationError, match="map_peaks: expected one for each of the 3 nominal scores, got 2"
    ):
        calibrate([1, 2, 3], map_peaks=[1, 2])


# Decisions and scores


def test_a_threshold_is_passed_at_equality() -> None:
    calibration = calibrate([1.0, 2.0])
    assert (decide(2.0, calibration), decide(np.nextafter(2.0, 3.0), calibration)) == ("pass", "fail")


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_gets_no_decision(score: float) -> None:
    for calibration in (calibrate([1.0]), uncalibrated()):
        with pytest.raises(CalibrationError, match="expected a finite image score, got"):
            decide(score, calibration)


def test_without_a_threshold_every_image_is_for_review() -> None:
    calibration = uncalibrated()
    assert {decide(score, calibration) for score in (-1e9, 0.0, 1e9)} == {"review"}
    assert calibration.statement == "no threshold: calibrate with good images"
    assert math.isnan(calibration.threshold)
    assert math.isnan(calibration.map_threshold)
    assert calibration.promised_rate == 1.0
    assert score01(5.0, calibration) == 0.0
    assert uncalibrated([0.5, 2.0, 1.0]).map_threshold == 2.0


@given(st.lists(FINITE, min_size=1, max_size=30), st.lists(FINITE, min_size=2, max_size=10))
def test_score01_is_a_rank_and_never_falls(nominal: list[float], scores: list[float]) -> None:
    calibration = calibrate(nominal)
    ranks = [score01(score, calibration) for score in sorted(scores)]
    assert ranks == sorted(ranks)
    assert ranks == [sum(s < score for s in nominal) / (len(nominal) + 1) for score in sorted(scores)]
    assert score01(min(nominal), calibration) == 0.0
    assert score01(max(nominal) + 1, calibration) < 1.0


def test_outcome_table_counts_both_classes() -> None:
    table = outcome_table(calibrate(range(100), review_rate=0.05), range(100), [0, 96, 100, 101])
    assert table == {
        "nominal": {"pass": 95, "review": 5, "fail": 0},
        "anomalous": {"pass": 1, "review": 1, "fail": 2},
    }


# Refusals


@pytest.mark.parametrize("scores", [[1.0, math.nan], [math.inf], [-math.inf, 0.0]])
def test_scores_that_are_not_finite_are_refused(scores: list[float]) -> None:
    for made in (lambda: calibrate(scores), lambda: calibrate([0.0] * len(scores), map_peaks=scores),
                 lambda: calibrate_with_defects([1.0], scores)):  # fmt: skip
        with pytest.raises(CalibrationError, match="expected finite numbers, got"):
            made()


def test_no_scores_are_refused() -> None:
    with pytest.raises(
        CalibrationError, match=re.escape("at least one, got an array of shape (0,). A threshold")
    ):
        calibrate([])
    with pytest.raises(CalibrationError, match=re.escape("got an array of shape (2, 1)")):
        calibrate(np.zeros((2, 1)))
    with pytest.raises(CalibrationError, match="nominal scores: expected numbers, got"):
        calibrate(["high"])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["target_rate", "confidence"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_rates_are_shares(name: str, value: float) -> None:
    with pytest.raises(
        SettingsError, match=f"{name}: expected a share between 0 and 1, such as 0.01 for 1 %, got"
    ):
        calibrate([1.0], **{name: value})
    with pytest.raises(SettingsError, match=name):
        images_needed(**{"target_rate": 0.1, "confidence": 0.9, name: value})


def test_other_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="review_rate: expected a share from 0"):
        calibrate([1.0], review_rate=1.0)
    with pytest.raises(SettingsError, match="expected 0 <= k <= n and n >= 1, got k=4, n=3"):
        promised_rate(3, 4, 0.95)
    with pytest.raises(
        SettingsError, match="criterion: expected 'tpr', 'f1', 'cost' or 'youden', got 'best'"
    ):
        calibrate_with_defects([1.0], [2.0], criterion="best")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="cost_escape, cost_false_alarm: expected finite costs"):
        calibrate_with_defects([1.0], [2.0], criterion="cost", cost_escape=-1.0)
    with pytest.raises(SettingsError, match="required_tpr: expected a share"):
        calibrate_with_defects([1.0], [2.0], required_tpr=1.5)


# To JSON and back


@pytest.mark.parametrize("calibration", [
    calibrate(uniform(30), map_peaks=uniform(30)), calibrate(uniform(300)), uncalibrated(), uncalibrated([1.0]),
    calibrate_with_defects([1.0, 2.0], [4.0], criterion="youden"),
], ids=["max", "conformal", "none", "none with peaks", "youden"])  # fmt: skip
def test_json_keeps_everything(calibration) -> None:
    text = json.dumps(calibration_to_dict(calibration), allow_nan=False)
    back = calibration_from_dict(json.loads(text))
    assert repr(back) == repr(calibration)  # nan equals nan in words
    assert calibration.method in METHODS


@pytest.mark.parametrize(("entry", "value", "expected"), [
    ("threshold", None, "a finite number"),
    ("threshold", math.inf, "a finite number"),
    ("threshold", True, "a finite number"),
    ("map_threshold", "1.0", "a finite number"),
    ("review_threshold", 1e9, "null or a number below the threshold, "),
    ("target_rate", 1.5, "a share from 0 to 1"),
    ("promised_rate", -0.1, "a share from 0 to 1"),
    ("confidence", None, "a share from 0 to 1"),
    ("nominal_scores", [2.0, 1.0], "finite numbers, sorted upwards"),
    ("nominal_scores", [1.0, math.nan], "finite numbers, sorted upwards"),
    ("nominal_scores", [], "a list with at least one score"),
    ("nominal_scores", "12", "a list with at least one score"),
    ("method", "guess", "one of conformal, max, extrapolated, tpr, f1, cost, youden, none"),
    ("method", "none", "null, as the method is 'none'"),
    ("statement", 3, "a text"),
])  # fmt: skip
def test_damaged_content_is_named(entry: str, value: object, expected: str) -> None:
    content = calibration_to_dict(calibrate(range(40))) | {entry: value}
    if value == "none":
        entry = "threshold"
    with pytest.raises(
        CalibrationError, match=f"calibration, entry '{entry}': expected {re.escape(expected)}"
    ) as told:
        calibration_from_dict(content)
    assert str(told.value).endswith("The file is damaged or from another version: calibrate again.")


def test_missing_and_unknown_entries_are_refused() -> None:
    content = calibration_to_dict(calibrate(range(40)))
    for wrong in (content | {"extra": 1}, {k: v for k, v in content.items() if k != "method"}, [1], None):
        with pytest.raises(CalibrationError, match="calibration: expected the entries"):
            calibration_from_dict(wrong)


def test_every_field_is_stored() -> None:
    calibration = calibrate(range(40))
    names = {entry.name for entry in dataclasses.fields(calibration)}
    by_group = with_groups(calibration, "{lot}/*", {"lot=1": calibration})
    assert set(calibration_to_dict(by_group)) == names
    assert set(calibration_to_dict(calibration)) == names - {
        "group_by",
        "groups",
        "fall_back",
    }  # as before groups
