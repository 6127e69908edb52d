"""Extrapolated tails: the arithmetic against SciPy, and that an estimate is never called a promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from andon.calibrate import calibrate, calibrate_extrapolated, decide, promised_rate
from andon.calibrate.extrapolated import LEAST_IMAGES, estimate_tail, fit_pareto
from andon.errors import CalibrationError


@pytest.mark.parametrize("shape", [-0.4, -0.1, 0.0, 0.2])
def test_the_fit_finds_the_distribution_drawn_from(shape: float) -> None:
    drawn = stats.genpareto.rvs(shape, scale=3.0, size=20_000, random_state=1)
    found, scale = fit_pareto(drawn)
    likeliest, _, other_scale = stats.genpareto.fit(drawn, floc=0)
    assert float(found) == pytest.approx(shape, abs=0.03)
    assert float(found) == pytest.approx(likeliest, abs=0.03)
    assert float(scale) == pytest.approx(other_scale, rel=0.03)


def test_many_fits_at_once_are_single_fits() -> None:
    drawn = np.random.default_rng(0).exponential(size=(5, 40))
    shapes, scales = fit_pareto(drawn)
    for row, shape, scale in zip(drawn, shapes, scales, strict=True):
        assert fit_pareto(row) == (pytest.approx(shape), pytest.approx(scale))


def test_the_threshold_is_the_quantile_of_the_fitted_tail() -> None:
    scores = np.sort(np.random.default_rng(3).gamma(2.0, size=600))
    for rate in (0.0005, 0.00005):
        found = estimate_tail(scores, rate)
        assert found.tail == 60
        tail = stats.genpareto(found.shape, loc=scores[-61], scale=found.scale)
        assert found.threshold == pytest.approx(max(tail.isf(rate * 600 / 60), scores[-1]))
        assert 0 <= found.rate_low <= rate <= found.rate_high
    assert found.threshold > scores[-1]


@pytest.mark.parametrize("name", ["norm", "expon", "uniform"])
def test_the_estimate_comes_near_on_average(name: str) -> None:
    law = getattr(stats, name)
    rates = [
        law.sf(estimate_tail(law.rvs(size=400, random_state=seed), 0.001).threshold) for seed in range(20)
    ]
    assert 0.0002 < np.mean(rates) < 0.003


def test_an_estimate_is_no_promise() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    made = calibrate_extrapolated(scores, target_rate=0.001, map_peaks=scores)
    assert made.method == "extrapolated"
    assert made.threshold > scores.max()
    assert made.promised_rate == promised_rate(400, 400, 0.95) > 0.001
    assert made.statement.startswith(
        "an estimate, not a promise: about 0.1 % false alarms, 95 % bootstrap interval "
    )
    assert made.statement.endswith(
        "by a generalised Pareto tail of the 40 highest of 400 good images; what can be promised with 95 % confidence "
        "is at most 0.75 %, for 0.1 % 2,995 good images are needed"
    )
    assert decide(made.threshold, made) != "fail"
    assert made == calibrate_extrapolated(scores, target_rate=0.001, map_peaks=scores)


def test_what_can_be_promised_is_not_extrapolated() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    assert calibrate_extrapolated(scores, target_rate=0.01) == calibrate(scores, target_rate=0.01)


def test_too_little_to_extrapolate() -> None:
    with pytest.raises(CalibrationError, match="from 100 good images at least, got 99; give 1 more"):
        estimate_tail(np.arange(LEAST_IMAGES - 1.0), 0.001)
    with pytest.raises(CalibrationError, match="the 25 highest of 200 good scores are too much alike"):
        estimate_tail([1.0] * 200, 0.001)
