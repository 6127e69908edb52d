"""Per-region overlap, exact (Bergmann, Batzner, Fauser, Sattlegger, Steger 2021, "The MVTec Anomaly Detection
Dataset", IJCV, sect. 5.1).

PRO is sPRO whose channels are the connected components (8-connected) of the anomalous pixels, each saturated
by its whole area. AUPRO is the area under it up to a false-positive rate of 0.3, divided by 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.components import label
from andon.errors import MetricError
from andon.metrics.counts import FixedCounts, Floats, ScoreCounts
from andon.metrics.spro import RegionScores, SproCurve, area_under, checked_map, spro_curve


class ProAccumulator:
    """The PRO curve of images that come one at a time.

    >>> accumulator = ProAccumulator()
    >>> anomaly_map = np.array([[0.9, 0.2], [0.3, 0.1]], dtype=np.float32)
    >>> accumulator.add(anomaly_map, anomaly_map > 0.5)
    >>> accumulator.aupro()
    1.0
    """

    def __init__(self) -> None:
        self.regions: list[RegionScores] = []
        self.nominal = ScoreCounts()
        self.images = 0

    def add(self, anomaly_map: NDArray[Any], anomaly_mask: NDArray[np.bool_] | None = None) -> None:
        """Take in one image: ``anomaly_map`` (H, W) raw, ``anomaly_mask`` (H, W) bool, None for a good image."""
        scores = checked_map(anomaly_map)
        mask = checked_mask(scores, anomaly_mask)
        self.regions += component_scores(scores, mask, self.images)
        self.nominal.add(scores[~mask])
        self.images += 1

    def curve(self) -> SproCurve:
        """The exact curve. Raises :class:`MetricError` without an anomalous, or without a nominal, pixel."""
        return spro_curve(self.regions, [self.nominal])

    def aupro(self, limit: float = 0.3) -> float:
        """The area under the curve up to the false-positive rate ``limit``, divided by it: 0 to 1."""
        curve = self.curve()
        return float(area_under(curve.fpr, curve.spro, limit))


def aupro(
    anomaly_maps: Sequence[NDArray[Any]],
    anomaly_masks: Sequence[NDArray[np.bool_] | None],
    limit: float = 0.3,
) -> float:
    """AUPRO of ``anomaly_maps`` (H, W) with ``anomaly_masks`` (H, W) bool, None for good images. 0 to 1.

    Both are read twice, one image at a time, so they may be lazy; memory is for the anomalous pixels alone.

    >>> aupro(np.array([[[0.0, 3.0]], [[1.0, 2.0]]]), [np.array([[False, True]]), None])
    1.0
    """
    check_pairs(anomaly_maps, anomaly_masks)
    regions: list[RegionScores] = []
    for i in range(len(anomaly_masks)):
        if (mask := anomaly_masks[i]) is not None:
            scores = checked_map(anomaly_maps[i])
            regions += component_scores(scores, checked_mask(scores, mask), i)
    counts = nominal_counts(anomaly_maps, anomaly_masks, [region.scores for region in regions])
    curve = spro_curve(regions, [counts])
    return float(area_under(curve.fpr, curve.spro, limit))


def check_pairs(maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None]) -> None:
    """Raise :class:`MetricError` unless there are as many masks (None for a good image) as maps."""
    if len(maps) != len(masks):
        raise MetricError(f"there are {len(maps)} anomaly maps, but {len(masks)} masks")


def nominal_counts(
    maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None], inside: Sequence[Floats]
) -> FixedCounts:
    """The pixels of ``maps`` (H, W) outside ``masks``, counted at the anomalous scores ``inside`` (N,) each."""
    counts = FixedCounts(np.unique(np.concatenate(inside)) if inside else np.zeros(0))
    for i in range(len(maps)):
        scores = checked_map(maps[i])
        counts.add(scores[~checked_mask(scores, masks[i])])
    return counts


def component_scores(scores: Floats, mask: NDArray[np.bool_], image: int = 0) -> list[RegionScores]:
    """The pixel scores of each connected component of ``mask`` (H, W), every pixel kept."""
    if not mask.any():
        return []
    labels, _ = label(mask)
    inside, numbers = scores[mask], labels[mask]
    order = np.lexsort((-inside, numbers))
    ends = np.cumsum(np.bincount(numbers)[1:])
    parts = np.split(inside[order], ends[:-1])
    return [RegionScores(part, float(len(part)), image) for part in parts]


def checked_mask(scores: Floats, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """``mask`` as (H, W) bool like ``scores``, all False for None; or :class:`MetricError`."""
    if mask is None:
        return np.zeros(scores.shape, dtype=bool)
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != scores.shape:
        raise MetricError(
            f"an anomaly mask must be bool and as large as its map {scores.shape}, not {mask.shape} {mask.dtype}"
        )
    return mask
