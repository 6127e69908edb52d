"""Image metrics against scikit-learn, against brute force, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from andon import metrics
from andon.errors import MetricError
from andon.metrics.bootstrap import _draw, bootstrap_intervals, percentile_interval
from andon.metrics.precision import average_precision_of
from andon.metrics.roc import auroc_of, f1_max_of, tpr_at_tnr_of
from andon.metrics.table import ScoreTable, score_table


@st.composite
def scored(draw):
    """Scores with heavy ties and both kinds of images."""
    size = draw(st.integers(2, 30))
    levels = draw(st.integers(1, 8))
    scores = draw(st.lists(st.integers(0, levels), min_size=size, max_size=size))
    truth = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    truth[0], truth[1] = True, False
    return np.array(scores) / 3 - 1, np.array(truth)


@given(scored())
@settings(max_examples=120, deadline=None)
def test_auroc_and_average_precision_equal_scikit_learn(case):
    scores, truth = case
    assert metrics.auroc(scores, truth) == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)
    expected = sk.average_precision_score(truth, scores)
    assert metrics.average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)


@given(scored())
@settings(max_examples=120, deadline=None)
def test_roc_curve_equals_scikit_learn_and_strict_counting(case):
    scores, truth = case
    fpr, tpr, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    curve = metrics.roc_curve(scores, truth)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    for x, y, threshold in zip(*curve):
        assert x == (scores[~truth] > threshold).mean()
        assert y == (scores[truth] > threshold).mean()


@given(scored(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]))
@settings(max_examples=100, deadline=None)
def test_tpr_at_tnr_and_f1_equal_brute_force(case, tnr):
    scores, truth = case
    thresholds = [*np.unique(scores), scores.min() - 1]
    allowed = [t for t in thresholds if (scores[~truth] <= t).mean() >= tnr]
    expected = max((scores[truth] > t).mean() for t in allowed)
    assert metrics.tpr_at_tnr(scores, truth, tnr) == pytest.approx(expected)
    best = metrics.f1_max(scores, truth)
    assert best.f1 == pytest.approx(max(_f1(truth, scores > t) for t in thresholds))
    assert _f1(truth, scores > best.threshold) == pytest.approx(best.f1)


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    return 2 * (truth & called).sum() / (truth.sum() + called.sum())


def test_tnr_counts_images_not_rounding_errors():
    nominal = np.arange(100.0)  # exactly one may lie above
    anomalous = np.array([98.5])
    scores, truth = np.append(nominal, anomalous), np.arange(101) == 100
    assert metrics.tpr_at_tnr(scores, truth, 0.99) == 1.0
    assert metrics.tpr_at_tnr(scores, truth, 0.991) == 0.0


def test_raw_scores_far_from_zero_are_not_squashed():
    scores = np.array([50.0, 60.0, 80.0, 90.0])
    assert metrics.auroc(scores, [False, False, True, True]) == 1.0
    assert metrics.auroc(scores * 1e-30, [False, False, True, True]) == 1.0


def test_auroc_does_not_depend_on_order_and_flips_with_the_sign():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=200).round(1), rng.random(200) < 0.4
    order = rng.permutation(200)
    assert metrics.auroc(scores[order], truth[order]) == metrics.auroc(scores, truth)
    assert metrics.auroc(-scores, truth) == pytest.approx(1 - metrics.auroc(scores, truth))


def test_neighbouring_floats_are_not_ties():
    low, high = 1.0, np.nextafter(1.0, 2)
    assert metrics.auroc([low, high], [False, True]) == 1.0
    best = metrics.f1_max([low, high], [False, True])
    assert best == (1.0, low)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (
            [1.0, 2.0],
            [True, True],
            "all 2 images are anomalous: this metric needs at least one nominal image too",
        ),
        (
            [1.0, 2.0],
            [False, False],
            "all 2 images are nominal: this metric needs at least one anomalous image too",
        ),
        ([1.0, np.nan], [True, False], "1 of 2 image scores are NaN or infinite"),
        ([1.0, np.inf], [True, False], "1 of 2 image scores are NaN or infinite"),
        ([], [], "there are no images to compute a metric on"),
        (
            [1.0],
            [True, False],
            r"expected as many image scores as truths, each \(N,\); got \(1,\) and \(2,\)",
        ),
        ([1.0, 2.0], [0.5, 1], "is_anomalous must be bool: True where the image is anomalous"),
    ],
)
def test_undefined_input_is_refused(scores, truth, message):
    for metric in (metrics.auroc, metrics.average_precision, metrics.f1_max, metrics.roc_curve):
        with pytest.raises(MetricError, match=f"^{message}$"):
            metric(scores, truth)


def test_zero_and_one_are_accepted_as_truth():
    assert metrics.auroc([1, 2], [0, 1]) == 1.0


@given(count=st.integers(0, 50), more=st.integers(0, 50), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(count, more, confidence):
    total = count + more
    if total == 0:
        with pytest.raises(MetricError, match="a total of at least 1; got 0 of 0"):
            metrics.rate(count, total)
        return
    expected = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    got = metrics.rate(count, total, confidence)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_rates_at_a_threshold_are_strict():
    scores, truth = [1.0, 2.0, 3.0, 2.0, 5.0], [False, False, False, True, True]
    assert metrics.fpr_at(scores, truth, 2.0)[3:] == (1, 3)
    assert metrics.fnr_at(scores, truth, 2.0)[3:] == (1, 2)
    with pytest.raises(MetricError, match="needs at least one nominal image"):
        metrics.fpr_at([1.0], [True], 0.0)
    with pytest.raises(MetricError, match="needs at least one anomalous image"):
        metrics.fnr_at([1.0], [False], 0.0)
    with pytest.raises(MetricError, match="confidence must lie between 0 and 1, not 95"):
        metrics.rate(1, 2, 95)


STATISTICS = {"auroc": auroc_of, "ap": average_precision_of, "f1": f1_max_of}


def _case(size: int = 60, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.4
    return (rng.normal(size=size) + truth).round(1), truth


def test_vectorised_statistics_equal_the_plain_ones_row_by_row():
    scores, truth = _case()
    table = score_table(scores, truth)
    rng = np.random.default_rng(0)
    batch = ScoreTable(table.scores, _draw(table.anomalous, 20, rng), _draw(table.nominal, 20, rng))
    for row in range(20):
        drawn = np.concatenate(
            [np.repeat(table.scores, batch.anomalous[row]), np.repeat(table.scores, batch.nominal[row])]
        )
        kind = np.arange(len(drawn)) < batch.anomalous[row].sum()
        assert auroc_of(batch)[row] == pytest.approx(sk.roc_auc_score(kind, drawn))
        assert average_precision_of(batch)[row] == pytest.approx(sk.average_precision_score(kind, drawn))
        assert f1_max_of(batch)[row] == pytest.approx(metrics.f1_max(drawn, kind).f1)
        assert tpr_at_tnr_of(batch, 0.9)[row] == pytest.approx(metrics.tpr_at_tnr(drawn, kind, 0.9))


def test_resamples_are_stratified():
    table = score_table(*_case())
    drawn = _draw(table.anomalous, 50, np.random.default_rng(0))
    assert (drawn.sum(1) == table.anomalous.sum()).all()
    assert (drawn[:, table.anomalous == 0] == 0).all()
    assert drawn.mean(0) == pytest.approx(table.anomalous, abs=1.2)


def test_bootstrap_agrees_with_a_plain_loop():
    scores, truth = _case()
    rng = np.random.default_rng(9)
    plain = []
    for _ in range(1500):
        pick = np.concatenate(
            [rng.choice(np.flatnonzero(truth == kind), (truth == kind).sum()) for kind in (True, False)]
        )
        plain.append(metrics.auroc(scores[pick], truth[pick]))  # itself checked above
    low, high = bootstrap_intervals(score_table(scores, truth), STATISTICS, resamples=3000)["auroc"]
    assert (low, high) == pytest.approx(percentile_interval(np.array(plain), 0.95), abs=0.015)


def test_bootstrap_is_seeded_narrows_with_more_images_and_widens_with_confidence():
    small, large = score_table(*_case(60)), score_table(*_case(2000))
    first = bootstrap_intervals(small, STATISTICS, resamples=300, seed=4)
    assert bootstrap_intervals(small, STATISTICS, resamples=300, seed=4) == first
    assert bootstrap_intervals(small, STATISTICS, resamples=300, seed=5) != first

    def width(table: ScoreTable, confidence: float) -> float:
        low, high = bootstrap_intervals(table, STATISTICS, resamples=300, confidence=confidence)["auroc"]
        return high - low

    assert width(large, 0.95) < 0.5 * width(small, 0.95)
    assert width(small, 0.8) < width(small, 0.99)


def test_bootstrap_interval_covers_the_truth():
    """AUROC of two unit normals one apart is 0.7602; a 90 % interval should hold it about nine times in ten."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        scores = np.concatenate([rng.normal(0, 1, 60), rng.normal(1, 1, 60)])
        table = score_table(scores, np.arange(120) >= 60)
        low, high = bootstrap_intervals(table, {"a": auroc_of}, resamples=200, confidence=0.9, seed=trial)[
            "a"
        ]
        covered += low <= 0.7602 <= high
    assert 46 <= covered <= 60


def test_bootstrap_refuses_nonsense():
    table = score_table(*_case())
    with pytest.raises(MetricError, match="needs at least 1 resample, not 0"):
        bootstrap_intervals(table, STATISTICS, resamples=0)
    with pytest.raises(MetricError, match="confidence must lie between 0 and 1, not 1"):
        bootstrap_intervals(table, STATISTICS, confidence=1)
