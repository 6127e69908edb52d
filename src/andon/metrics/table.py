"""Image scores and what is true of the images, as one table of distinct scores: what every image metric reads.

U distinct scores; a leading axis may hold bootstrap resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from andon.errors import MetricError


class ScoreTable(NamedTuple):
    """How many nominal and anomalous images have each distinct score, highest score first."""

    scores: NDArray[np.float64]  # (U,) strictly downwards
    anomalous: NDArray[np.int64]  # (..., U) images
    nominal: NDArray[np.int64]  # (..., U) images


def score_table(image_scores: ArrayLike, is_anomalous: ArrayLike) -> ScoreTable:
    """The table of ``image_scores`` (N,) and ``is_anomalous`` (N,) bool.

    Raises :class:`MetricError` for other shapes, scores that are not finite, or when one kind is missing.

    >>> table = score_table([1.0, 3.0, 3.0], [False, False, True])
    >>> table.scores.tolist(), table.anomalous.tolist(), table.nominal.tolist()
    ([3.0, 1.0], [1, 0], [1, 1])
    """
    scores, truth = checked_scores(image_scores, is_anomalous)
    if truth.all() or not truth.any():
        kind, other = ("anomalous", "nominal") if truth.all() else ("nominal", "anomalous")
        raise MetricError(
            f"all {len(truth)} images are {kind}: this metric needs at least one {other} image too"
        )
    distinct, place = np.unique(scores, return_inverse=True)
    anomalous = np.bincount(place[truth], minlength=len(distinct))
    nominal = np.bincount(place[~truth], minlength=len(distinct))
    return ScoreTable(distinct[::-1], anomalous[::-1], nominal[::-1])


def checked_scores(
    image_scores: ArrayLike, is_anomalous: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Both as arrays (N,), or :class:`MetricError`."""
    scores = np.asarray(image_scores, dtype=np.float64)
    truth = np.asarray(is_anomalous)
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise MetricError(
            f"expected as many image scores as truths, each (N,); got {scores.shape} and {truth.shape}"
        )
    if not len(scores):
        raise MetricError("there are no images to compute a metric on")
    if truth.dtype != np.bool_:
        if not np.isin(truth, (0, 1)).all():
            raise MetricError("is_anomalous must be bool: True where the image is anomalous")
        truth = truth.astype(bool)
    if not np.isfinite(scores).all():
        raise MetricError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} image scores are NaN or infinite"
        )
    return scores, truth


def at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many images score at least each distinct score: (..., U) -> (..., U)."""
    return np.cumsum(counts, axis=-1)
