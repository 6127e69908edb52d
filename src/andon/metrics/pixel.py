"""AUROC and average precision over pixels, exact, without sorting all pixels of all images at once.

Both need the nominal pixels only as counts above, and at, the distinct scores of the anomalous pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError
from andon.metrics.counts import Counts, Floats
from andon.metrics.pro import check_pairs, checked_mask, nominal_counts
from andon.metrics.spro import checked_map, known_counts


class PixelTable(NamedTuple):
    """Pixels at each distinct score of an anomalous pixel, highest score first."""

    thresholds: Floats  # (K,) downwards
    anomalous: NDArray[np.int64]  # (K,) anomalous pixels with this score
    greater: NDArray[np.int64]  # (K,) nominal pixels above it
    at_least: NDArray[np.int64]  # (K,) nominal pixels above it or equal
    nominal_total: int


def pixel_table(anomalous: Sequence[Floats], nominal: Sequence[Counts]) -> PixelTable:
    """The table of ``anomalous`` pixel scores, in any number of arrays (N,), and bags of nominal ones."""
    scores = np.concatenate(anomalous) if len(anomalous) else np.zeros(0)
    if not len(scores):
        raise MetricError("no pixel is anomalous: pixel metrics need at least one")
    thresholds, numbers = np.unique(scores, return_counts=True)
    known = known_counts(nominal, thresholds)
    greater, at_least = known.above(thresholds)
    return PixelTable(thresholds[::-1], numbers[::-1], greater[::-1], at_least[::-1], known.total)


def auroc_of_pixels(table: PixelTable) -> float:
    """The chance that an anomalous pixel scores above a nominal one, a tie counting half."""
    higher = 0.5 * (table.greater + table.at_least.astype(np.float64))
    positives = float(table.anomalous.sum())
    return float(1.0 - (table.anomalous / positives * (higher / table.nominal_total)).sum())


def average_precision_of_pixels(table: PixelTable) -> float:
    """The sum over thresholds of recall gained times precision."""
    hits = np.cumsum(table.anomalous)
    return float((table.anomalous / hits[-1] * (hits / (hits + table.at_least))).sum())


def pixel_auroc(
    anomaly_maps: Sequence[NDArray[Any]], anomaly_masks: Sequence[NDArray[np.bool_] | None]
) -> float:
    """AUROC over all pixels of ``anomaly_maps`` (H, W); ``anomaly_masks`` (H, W) bool, None for good images.

    Both are read twice, one image at a time; memory is for the anomalous pixels alone.

    >>> pixel_auroc(np.array([[[0.0, 3.0]], [[1.0, 4.0]]]), [np.array([[False, True]]), None])
    0.6666666666666667
    """
    return auroc_of_pixels(_table(anomaly_maps, anomaly_masks))


def pixel_average_precision(
    anomaly_maps: Sequence[NDArray[Any]], anomaly_masks: Sequence[NDArray[np.bool_] | None]
) -> float:
    """Average precision over all pixels; arguments and memory as in :func:`pixel_auroc`.

    >>> pixel_average_precision(np.array([[[0.0, 3.0]], [[1.0, 4.0]]]), [np.array([[False, True]]), None])
    0.5
    """
    return average_precision_of_pixels(_table(anomaly_maps, anomaly_masks))


def _table(maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None]) -> PixelTable:
    check_pairs(maps, masks)
    inside: list[Floats] = []
    for i in range(len(maps)):
        if (mask := masks[i]) is not None:
            scores = checked_map(maps[i])
            inside.append(scores[checked_mask(scores, mask)])
    return pixel_table(inside, [nominal_counts(maps, masks, inside)])
