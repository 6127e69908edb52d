"""Error rates at one threshold, each with its interval of confidence (Wilson 1927, "Probable inference")."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

from numpy.typing import ArrayLike

from andon.errors import MetricError
from andon.metrics.table import checked_scores


class Rate(NamedTuple):
    """A share, 0 to 1, with its interval, and the counts it came from."""

    value: float
    low: float
    high: float
    events: int
    total: int


def wilson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper end, 0 to 1, of Wilson's score interval of ``count / total``.

    Raises :class:`MetricError` when ``total`` is 0, the count does not fit, or the confidence is not in (0, 1).

    >>> [round(end, 3) for end in wilson(0, 20)]
    [0.0, 0.161]
    """
    if total < 1 or not 0 <= count <= total:
        raise MetricError(
            f"a rate needs 0 <= count <= total and a total of at least 1; got {count} of {total}"
        )
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, z2n = count / total, z * z / total
    centre = (p + z2n / 2) / (1 + z2n)
    half = z / (1 + z2n) * sqrt(p * (1 - p) / total + z2n / (4 * total))
    return (0.0 if count == 0 else centre - half), (1.0 if count == total else centre + half)


def rate(count: int, total: int, confidence: float = 0.95) -> Rate:
    """``count / total`` with its :func:`wilson` interval, and its errors.

    >>> [round(x, 3) for x in rate(0, 20)[:3]]
    [0.0, 0.0, 0.161]
    """
    low, high = wilson(count, total, confidence)
    return Rate(count / total, low, high, count, total)


def fpr_at(
    image_scores: ArrayLike, is_anomalous: ArrayLike, threshold: float, confidence: float = 0.95
) -> Rate:
    """The share of nominal images with ``image_score > threshold``: false alarms.

    >>> fpr_at([1.0, 2.0, 3.0], [False, False, True], threshold=1.0).value
    0.5
    """
    scores, truth = checked_scores(image_scores, is_anomalous)
    if truth.all():
        raise MetricError("a false-alarm rate needs at least one nominal image")
    nominal = scores[~truth]
    return rate(int((nominal > threshold).sum()), len(nominal), confidence)


def fnr_at(
    image_scores: ArrayLike, is_anomalous: ArrayLike, threshold: float, confidence: float = 0.95
) -> Rate:
    """The share of anomalous images with ``image_score <= threshold``: escapes, and defects sent to review.

    >>> fnr_at([1.0, 2.0, 3.0], [False, True, True], threshold=2.0).value
    0.5
    """
    scores, truth = checked_scores(image_scores, is_anomalous)
    if not truth.any():
        raise MetricError("a false-negative rate needs at least one anomalous image")
    anomalous = scores[truth]
    return rate(int((anomalous <= threshold).sum()), len(anomalous), confidence)
