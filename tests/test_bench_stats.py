"""The statistics of repeated runs against SciPy, NumPy and brute force, and what they answer at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as sp

from andon.bench import stats
from andon.errors import MetricError, SettingsError

shares = st.floats(0.3, 1.0, allow_nan=False)
samples = st.lists(shares, min_size=2, max_size=9)


@pytest.mark.parametrize("degrees", [0.3, 0.77, 1, 1.5, 2, 7, 13.37, 14, 99.5, 1e3, 12345.6, 1e5])
def test_t_distribution_equals_scipy_to_tiny_p_values(degrees: float) -> None:
    smallest = 1.0
    for t in np.geomspace(1e-3, 1e6, 80):
        expected = 2 * sp.t.sf(t, degrees)
        if expected > 1e-290:
            assert stats.t_two_sided(float(t), degrees) == pytest.approx(expected, rel=1e-10)
            assert stats.t_two_sided(float(-t), degrees) == stats.t_two_sided(float(t), degrees)
            smallest = min(smallest, expected)
    assert smallest < 1e-12 or degrees < 3  # (few degrees have heavy tails)


def test_t_distribution_close_to_zero_and_at_its_ends() -> None:
    for degrees in (1.0, 3.3, 50.0):
        for t in (1e-12, 1e-8, 1e-5):
            expected = 1 - special.betainc(0.5, degrees / 2, t * t / (degrees + t * t))
            assert stats.t_two_sided(t, degrees) == pytest.approx(expected, abs=1e-15)
        assert stats.t_two_sided(0.0, degrees) == 1.0
        assert stats.t_two_sided(math.inf, degrees) == 0.0
    assert stats.t_two_sided(1.96, math.inf) == pytest.approx(2 * sp.norm.sf(1.96), rel=1e-12)
    assert stats.t_two_sided(1e200, 5.0) == 0.0


@pytest.mark.parametrize(("t", "degrees"), [(1.0, 0.0), (1.0, -2.0), (math.nan, 3.0), (1.0, math.nan)])
def test_t_distribution_refuses_what_is_none(t: float, degrees: float) -> None:
    with pytest.raises(MetricError, match="expected a number t and degrees of freedom above 0"):
        stats.t_two_sided(t, degrees)


def test_incomplete_beta_equals_scipy() -> None:
    inner = np.geomspace(1e-9, 0.5, 9)
    for a, b in itertools.product(np.geomspace(0.1, 1e4, 12), np.geomspace(0.1, 100, 9)):
        for x in np.concatenate([inner, 1 - inner]):
            expected = special.betainc(a, b, x)
            if expected > 1e-280:
                assert stats.incomplete_beta(a, b, float(x)) == pytest.approx(expected, rel=1e-10)


@given(st.floats(0.2, 200), st.floats(0.2, 200), st.floats(1e-3, 1 - 1e-3))
@settings(max_examples=150, deadline=None)
def test_incomplete_beta_is_symmetric_and_between_0_and_1(a: float, b: float, x: float) -> None:
    value = stats.incomplete_beta(a, b, x)
    assert 0 <= value <= 1
    assert value + stats.incomplete_beta(b, a, 1 - x) == pytest.approx(1, abs=1e-10)


def test_incomplete_beta_at_its_ends_and_outside() -> None:
    assert (stats.incomplete_beta(2, 3, 0.0), stats.incomplete_beta(2, 3, 1.0)) == (0.0, 1.0)
    for a, b, x in [(0, 1, 0.5), (1, -1, 0.5), (1, 1, -0.1), (1, 1, 1.1), (1, 1, math.nan)]:
        with pytest.raises(MetricError, match="expected a > 0, b > 0 and 0 <= x <= 1"):
            stats.incomplete_beta(a, b, x)


@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("degrees", [0.7, 1, 2, 3.3, 7, 50, 1e4])
def test_t_quantile_equals_scipy_and_inverts(confidence: float, degrees: float) -> None:
    quantile = stats.t_quantile(confidence, degrees)
    assert quantile == pytest.approx(sp.t.ppf((1 + confidence) / 2, degrees), rel=1e-10)
    assert stats.t_two_sided(quantile, degrees) == pytest.approx(1 - confidence, rel=1e-12)


@given(samples, samples)
@settings(max_examples=200, deadline=None)
def test_welch_equals_scipy(first: list[float], second: list[float]) -> None:
    spread = np.var(first) / len(first) + np.var(second) / len(second)
    if spread < 1e-12 * (np.mean(first) - np.mean(second)) ** 2 or min(np.std(first), np.std(second)) < 1e-6:
        return  # SciPy loses its digits there
    expected = sp.ttest_ind(first, second, equal_var=False).pvalue
    assert stats.welch_p(first, second) == pytest.approx(expected, rel=1e-8, abs=1e-300)


def test_welch_equals_scipy_at_tiny_p_values_and_uneven_sizes() -> None:
    rng = np.random.default_rng(0)
    tiny = 1.0
    for n1, n2, apart in [
        (8, 8, 0.5),
        (8, 8, 5.0),
        (3, 30, 0.2),
        (40, 40, 40.0),
        (2, 2, 0.01),
        (100, 5, 1.0),
    ]:
        first, second = rng.normal(0, 0.1, n1), rng.normal(apart, 0.3, n2)
        expected = sp.ttest_ind(first, second, equal_var=False).pvalue
        assert stats.welch_p(first, second) == pytest.approx(expected, rel=1e-10)
        tiny = min(tiny, expected)
    assert tiny < 1e-30


@given(samples, samples)
@settings(max_examples=80, deadline=None)
def test_welch_is_symmetric_and_knows_no_order(first: list[float], second: list[float]) -> None:
    p = stats.welch_p(first, second)
    assert p == stats.welch_p(second, first) == stats.welch_p(first[::-1], sorted(second))
    assert p is not None
    assert 0 <= p <= 1


def test_welch_without_spread_without_runs_and_with_gaps() -> None:
    assert stats.welch_p([0.9] * 3, [0.9] * 8) == 1.0
    assert stats.welch_p([0.9] * 3, [0.8] * 8) == 0.0
    assert stats.welch_p([0.9], [0.8, 0.7]) is None
    assert stats.welch_p([], []) is None
    assert stats.welch_p([0.9, None, math.nan], [0.8, 0.7]) is None
    gaps = stats.welch_p([0.9, None, 0.95, math.nan], [0.8, math.inf, 0.7])
    assert gaps == stats.welch_p([0.9, 0.95], [0.8, 0.7])
    one_flat = stats.welch_p([0.9] * 4, [0.8, 0.82, 0.85, 0.81])
    expected = sp.ttest_1samp([0.8, 0.82, 0.85, 0.81], 0.9).pvalue  # the flat one adds no uncertainty
    assert one_flat == pytest.approx(expected, rel=1e-10)


def test_welch_knows_no_unit() -> None:
    expected = stats.welch_p([1.0, 2.0], [1.0, 3.0])
    for unit in (1e-100, 1e100):
        assert stats.welch_p([unit, 2 * unit], [unit, 3 * unit]) == pytest.approx(expected, rel=1e-12)


def test_welch_calls_equal_methods_different_in_5_of_100() -> None:
    rng = np.random.default_rng(3)
    found = [stats.welch_p(rng.normal(0, 1, 8), rng.normal(0, 4, 5)) or 0.0 for _ in range(1500)]
    assert 0.035 < np.mean(np.array(found) < 0.05) < 0.065


@given(st.lists(shares, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_summary_equals_numpy_in_any_order(values: list[float]) -> None:
    found = stats.summarise(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-13)
    assert found == stats.summarise(values[::-1])
    if len(values) == 1:
        assert found.std is None
    else:
        assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-7, abs=1e-12)


def test_equal_values_have_no_spread_at_all() -> None:
    for value, n in itertools.product((0.1, 0.97, 1 / 3, 1e-9), range(2, 60)):
        assert stats.summarise([value] * n) == stats.Summary(value, 0.0, n)


def test_summary_counts_what_it_leaves_out() -> None:
    assert stats.summarise([None, 0.5, math.nan, 0.7, -math.inf]) == stats.Summary(
        pytest.approx(0.6), pytest.approx(0.2 / math.sqrt(2)), 2, 3
    )
    assert stats.summarise([None, math.nan]) == stats.Summary(None, None, 0, 2)
    assert stats.summarise([]) == stats.Summary(None, None, 0, 0)
    assert stats.summarise(np.array([1, 3])) == stats.Summary(2.0, math.sqrt(2), 2)
    with pytest.raises(MetricError, match="expected numbers, or None for what is not known; got '0.9'"):
        stats.summarise(["0.9"])  # type: ignore[list-item]


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.999))
@settings(max_examples=200, deadline=None)
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float], level: float) -> None:
    corrected = stats.holm(p_values)
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    rejected: set[int] = set()
    for rank, k in enumerate(order):
        bound = (len(p_values) - rank) * p_values[k]
        if abs(bound - level) < 1e-12:
            return  # rounding decides
        if bound > level:
            break
        rejected.add(k)
    assert {k for k, p in enumerate(corrected) if p is not None and p <= level} == rejected
    assert all(p is not None and own <= p <= 1 for own, p in zip(p_values, corrected))


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert stats.holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]
    assert stats.holm([]) == []
    with pytest.raises(MetricError, match="a p-value lies between 0 and 1"):
        stats.holm([0.5, 1.5])


FAR = {"a": [0.97, 0.98, 0.96], "b": [0.96, 0.98, 0.95], "c": [0.5, 0.52, 0.51]}


def test_the_best_and_what_does_not_differ_from_it() -> None:
    assert stats.best(FAR) == {"a", "b"}
    assert stats.best(FAR, higher_is_better=False) == {"c"}
    assert stats.best(FAR, level=0.9999) == {"a"}
    found = stats.compare(FAR)
    assert found.reference == "a"
    assert found.tested
    assert found.p_values["b"] == stats.welch_p(FAR["b"], FAR["a"])
    assert found.p_values["a"] == 1.0


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(shares, min_size=2, max_size=5), min_size=1))
@settings(max_examples=80, deadline=None)
def test_the_best_equals_brute_force(given_samples: dict[str, list[float]]) -> None:
    means = {name: stats.summarise(values).mean or 0.0 for name, values in given_samples.items()}
    top = max(means.values())
    tied = sorted((-len(given_samples[name]), name) for name in means if means[name] == top)
    reference = tied[0][1]
    expected = {
        name
        for name, values in given_samples.items()
        if means[name] == top or (stats.welch_p(values, given_samples[reference]) or 0.0) >= 0.05
    }
    assert stats.best(given_samples) == expected
    assert stats.best(dict(reversed(given_samples.items()))) == expected
    assert expected <= stats.best(given_samples, holm=True)


def test_single_runs_cannot_be_tested_and_say_so() -> None:
    found = stats.compare({"a": [0.9], "b": [0.9], "c": [0.8], "d": []})
    assert (set(found.marked), found.tested, found.untested) == ({"a", "b"}, False, ("c",))
    mixed = stats.compare({"a": [0.9, 0.91], "b": [0.9], "c": [0.9, 0.92]})
    assert (set(mixed.marked), mixed.untested) == ({"a", "c"}, ("b",))
    assert stats.best({"a": [0.9], "b": [0.8]}) == {"a"}


def test_the_best_of_nothing_and_of_equals() -> None:
    assert stats.best({}) == set()
    assert stats.best({"a": [], "b": [None, math.nan]}) == set()
    assert stats.compare({"a": []}).reference is None
    flat = {"a": [0.9, 0.9], "b": [0.9, 0.9, 0.9], "c": [0.8, 0.8]}
    assert stats.best(flat) == {"a", "b"}
    assert stats.compare(flat).reference == "b"  # more runs
    assert stats.compare({"b": [1.0, 0.9], "a": [0.9, 1.0]}).reference == "a"  # the first name


def test_holm_marks_more() -> None:
    close = {"a": [0.90, 0.92, 0.94, 0.91], "b": [0.88, 0.90, 0.89, 0.885], "c": [0.1, 0.1, 0.11, 0.1]}
    p = stats.welch_p(close["a"], close["b"])
    assert p is not None
    assert 0.025 < p < 0.05
    assert stats.best(close) == {"a"}
    close["d"] = close["b"]
    assert stats.best(close, holm=True) == {"a", "b", "d"}


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, math.nan])
def test_a_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(SettingsError, match=r"level must lie between 0 and 1, such as 0.05 for 5 %"):
        stats.best(FAR, level=level)


def test_ranks_share_places() -> None:
    given_samples = {"a": [0.5], "b": [0.9, 0.7], "c": [0.8], "d": [], "e": [0.1]}
    assert stats.ranks(given_samples) == {"a": 3, "b": 1, "c": 1, "d": None, "e": 4}
    assert stats.ranks(given_samples, higher_is_better=False) == {"a": 2, "b": 3, "c": 3, "d": None, "e": 1}


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_bands_equal_scipy(confidence: float) -> None:
    values = [0.91, 0.93, 0.90, 0.97, 0.94]
    found = stats.band([*values, None], confidence)
    low, high = sp.t.interval(confidence, 4, np.mean(values), sp.sem(values))
    assert (found.mean, found.low, found.high, found.n) == (
        pytest.approx(np.mean(values)), pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12), 5,
    )  # fmt: skip


def test_bands_of_few_values() -> None:
    assert stats.band([0.9]) == stats.Band(0.9, None, None, 1)
    assert stats.band([None]) == stats.Band(None, None, None, 0)
    assert stats.band([0.9, 0.9]) == stats.Band(0.9, 0.9, 0.9, 2)
    with pytest.raises(SettingsError, match="confidence must lie between 0 and 1, not 95"):
        stats.band([0.9, 0.8], 95)
    with pytest.raises(SettingsError, match="confidence"):
        stats.band([0.9], 1.0)
