"""The ROC curve and what is read from it (Hanley and McNeil 1982; Fawcett 2006, "An introduction to ROC analysis").

An image is called anomalous when ``image_score > t``, strictly. Scores are raw: nothing is squashed or clipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from andon.errors import MetricError
from andon.metrics.table import ScoreTable, at_least, score_table


class RocCurve(NamedTuple):
    """False- and true-positive rate of ``image_score > threshold``, from (0, 0) to (1, 1)."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]  # every distinct score, downwards, then -inf


class BestF1(NamedTuple):
    """The largest F1, and a threshold that reaches it."""

    f1: float
    threshold: float


def roc_curve(image_scores: ArrayLike, is_anomalous: ArrayLike) -> RocCurve:
    """The curve through every distinct score.

    >>> curve = roc_curve([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    >>> curve.fpr.tolist(), curve.tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    table = score_table(image_scores, is_anomalous)
    fpr = np.append(0.0, at_least(table.nominal) / table.nominal.sum())
    tpr = np.append(0.0, at_least(table.anomalous) / table.anomalous.sum())
    return RocCurve(fpr, tpr, np.append(table.scores, -np.inf))


def auroc(image_scores: ArrayLike, is_anomalous: ArrayLike) -> float:
    """The chance that an anomalous image scores above a nominal one, a tie counting half. 0 to 1.

    >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    return float(auroc_of(score_table(image_scores, is_anomalous)))


def auroc_of(table: ScoreTable) -> NDArray[np.float64]:
    """AUROC of each row of the table: (..., U) -> (...)."""
    higher = at_least(table.anomalous) - 0.5 * table.anomalous  # (..., U) above each score, ties half
    pairs = table.anomalous.sum(-1, dtype=np.float64) * table.nominal.sum(-1)
    return np.asarray((higher * table.nominal).sum(-1) / pairs)


def tpr_at_tnr(image_scores: ArrayLike, is_anomalous: ArrayLike, tnr: float) -> float:
    """The share of anomalous images above the lowest threshold that passes at least ``tnr`` of the nominal ones.

    The AutoVI study reports it at 0.99, 0.95 and 0.90 (Carvalho et al. 2024). ``tnr``: 0 to 1.

    >>> tpr_at_tnr([1.0, 2.0, 3.0, 2.5, 4.0], [False, False, False, True, True], tnr=0.6)
    1.0
    >>> tpr_at_tnr([1.0, 2.0, 3.0, 2.5, 4.0], [False, False, False, True, True], tnr=0.99)
    0.5
    """
    return float(tpr_at_tnr_of(score_table(image_scores, is_anomalous), tnr))


def tpr_at_tnr_of(table: ScoreTable, tnr: float) -> NDArray[np.float64]:
    """TPR at a TNR of at least ``tnr``, of each row of the table: (..., U) -> (...)."""
    if not 0 <= tnr <= 1:
        raise MetricError(f"tnr must lie between 0 and 1, not {tnr}")
    total = table.nominal.sum(-1, keepdims=True)
    allowed = np.floor(total * (1 - tnr) + 1e-9)  # nominal images that may lie above the threshold
    found = np.where(at_least(table.nominal) <= allowed, at_least(table.anomalous), 0)
    return np.asarray(found.max(-1) / table.anomalous.sum(-1))


def f1_max(image_scores: ArrayLike, is_anomalous: ArrayLike) -> BestF1:
    """The largest F1 over all thresholds, and the middle of the gap below the score where it is reached.

    It is chosen on the images it is reported for: an upper bound, not what a deployed threshold reaches.

    >>> f1_max([0.0, 1.0, 3.0, 5.0], [False, False, True, True])
    BestF1(f1=1.0, threshold=2.0)
    """
    table = score_table(image_scores, is_anomalous)
    best = int(np.argmax(_f1(table)))
    below = (
        table.scores[best + 1] if best + 1 < len(table.scores) else np.nextafter(table.scores[best], -np.inf)
    )
    middle = 0.5 * table.scores[best] + 0.5 * below
    return BestF1(float(_f1(table)[best]), float(middle if middle < table.scores[best] else below))


def f1_max_of(table: ScoreTable) -> NDArray[np.float64]:
    """The largest F1 of each row of the table: (..., U) -> (...)."""
    return np.asarray(_f1(table).max(-1))


def _f1(table: ScoreTable) -> NDArray[np.float64]:
    hits = at_least(table.anomalous)
    return np.asarray(2 * hits / (hits + at_least(table.nominal) + table.anomalous.sum(-1, keepdims=True)))
