"""What one pass over anomaly maps must keep so that every pixel metric, and its interval, can be had afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.metrics.counts import Floats, ScoreCounts, run_starts
from andon.metrics.pro import component_scores
from andon.metrics.spro import RegionScores, channel_scores, checked_map, outside
from andon.types import DefectChannel

_RANKS = 1024  # order statistics kept of an image, for the bootstrap alone


class Sketch(NamedTuple):
    """The nominal pixels of one image in short: some of its distinct scores, and how many pixels reach each.

    Exact when the image has at most 1,024 distinct scores; else counts are off by at most a few per cent.
    """

    scores: Floats  # (R,) upwards
    at_least: NDArray[np.int64]  # (R,) pixels with this score or a higher one
    total: int

    def above(self, thresholds: Floats) -> NDArray[np.int64]:
        """About how many pixels are ``> t``, for each of ``thresholds`` (T,)."""
        tail = np.append(self.at_least, 0)
        return np.asarray(tail[np.searchsorted(self.scores, thresholds, side="right")])


class MapTally:
    """One pass over the anomaly maps of a set of images: nominal scores, channels, components, and sketches.

    Memory: the anomalous pixels, the distinct nominal scores, and 12 KiB an image.

    >>> tally = MapTally()
    >>> anomaly_map = np.array([[0.1, 0.2], [0.3, 0.9]], dtype=np.float32)
    >>> tally.add(anomaly_map, [DefectChannel(anomaly_map > 0.5, saturation_area=1)])
    >>> tally.images, tally.nominal.total, len(tally.channels), len(tally.components)
    (1, 3, 1, 1)
    """

    def __init__(self) -> None:
        self.nominal = ScoreCounts()
        self.channels: list[RegionScores] = []  # for sPRO
        self.components: list[RegionScores] = []  # for PRO, and every anomalous pixel once
        self.sketches: list[Sketch] = []
        self.images = 0

    def add(self, anomaly_map: NDArray[Any], channels: Sequence[DefectChannel] = ()) -> None:
        """Take in one image: ``anomaly_map`` (H, W) raw, ``channels`` its defects, none for a good image.

        Raises :class:`MetricError` when shapes differ, a score is not finite, or a channel is empty; nothing
        of the image is kept then.
        """
        scores = checked_map(anomaly_map)
        found = [channel_scores(scores, channel, self.images) for channel in channels]
        nominal = np.sort(outside(scores, channels))
        if channels:
            union = np.logical_or.reduce([channel.anomaly_mask for channel in channels])
            self.components += component_scores(scores, union, self.images)
        self.channels += found
        self.sketches.append(sketch(nominal))
        self.nominal.add(nominal)
        self.images += 1


def sketch(ordered: Floats) -> Sketch:
    """The sketch of scores (N,) sorted upwards: dense at the top, where false alarms are counted."""
    if not len(ordered):
        return Sketch(ordered, np.zeros(0, dtype=np.int64), 0)
    starts = run_starts(ordered)
    if len(starts) > _RANKS:
        wanted = len(ordered) - np.geomspace(1, len(ordered), _RANKS)
        starts = starts[np.unique(np.searchsorted(starts, wanted, side="right") - 1)]
    return Sketch(ordered[starts].copy(), len(ordered) - starts, len(ordered))
