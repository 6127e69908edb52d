"""Average precision (Davis and Goadrich 2006), without interpolation: the sum over thresholds of recall gained
times precision. Equal scores are one threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from andon.metrics.table import ScoreTable, at_least, score_table


def average_precision(image_scores: ArrayLike, is_anomalous: ArrayLike) -> float:
    """AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores, highest first. 0 to 1.

    >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), 4)
    0.8333
    """
    return float(average_precision_of(score_table(image_scores, is_anomalous)))


def average_precision_of(table: ScoreTable) -> NDArray[np.float64]:
    """AP of each row of the table: (..., U) -> (...)."""
    hits = at_least(table.anomalous)
    called = np.maximum(hits + at_least(table.nominal), 1)
    return np.asarray((table.anomalous * (hits / called)).sum(-1) / table.anomalous.sum(-1))
