"""Saturated per-region overlap, exact (Bergmann, Batzner, Fauser, Sattlegger, Steger 2022, "Beyond Dents and
Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization", IJCV, eq. 1 and 2).

A pixel is called anomalous when its score is above t, strictly; P(t) is the set of those. For defect channel i
with mask A_i and saturation area s_i <= |A_i|

    sPRO_i(t) = min(|A_i and P(t)| / s_i, 1),

averaged over all channels of all images, against the false-positive rate over all pixels outside every channel,
good images included. AUsPRO is the area from rate 0 to a limit, divided by the limit, linear between thresholds.

What we do differently: the official code looks for thresholds until neighbouring points are within 0.001; here
every distinct score is a threshold. sPRO changes only at scores c of channel pixels; between two of them the
curve is level. So the corners (FPR(> c), sPRO(> c)) and (FPR(>= c), sPRO(>= c)) are the whole curve, and the
pixel r-th highest in its channel adds min(r / s, 1) - min((r - 1) / s, 1) to it: pixels after saturation are
not even kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError
from andon.metrics.counts import Counts, FixedCounts, Floats, KnownCounts, ScoreCounts, run_starts
from andon.types import DefectChannel


class RegionScores(NamedTuple):
    """What counts of one annotated region: its highest pixel scores, as many as saturate it."""

    scores: Floats  # (ceil(saturation_area),) downwards
    saturation_area: float  # pixels, at most the region's area
    image: int = 0  # which image it lies in


class SproCurve(NamedTuple):
    """Mean sPRO over the false-positive rate, from (0, 0) to (1, 1); straight between the points."""

    fpr: NDArray[np.float64]  # (2 K + 2,) upwards
    spro: NDArray[np.float64]  # (2 K + 2,) upwards
    thresholds: Floats  # (K,) distinct scores downwards; points 2k+1 and 2k+2 lie at > and >= thresholds[k]


class SproAccumulator:
    """The sPRO curve of images that come one at a time; maps may differ in size.

    Memory: the pixels of the channels, and the distinct nominal scores (see :mod:`andon.metrics.counts`).

    >>> accumulator = SproAccumulator()
    >>> anomaly_map = np.array([[0.1, 0.2], [0.3, 0.9]], dtype=np.float32)
    >>> accumulator.add(anomaly_map, [DefectChannel(anomaly_map > 0.5, saturation_area=1)])
    >>> accumulator.auspro(0.3)
    1.0
    """

    def __init__(self) -> None:
        self.regions: list[RegionScores] = []
        self.nominal = ScoreCounts()
        self.images = 0

    def add(self, anomaly_map: NDArray[Any], channels: Sequence[DefectChannel] = ()) -> None:
        """Take in one image: ``anomaly_map`` (H, W) raw, ``channels`` its defects, none for a good image.

        Raises :class:`MetricError` when shapes differ, a score is not finite, or a channel is empty.
        """
        scores = checked_map(anomaly_map)
        self.regions += [channel_scores(scores, channel, self.images) for channel in channels]
        self.nominal.add(outside(scores, channels))
        self.images += 1

    def curve(self) -> SproCurve:
        """The exact curve. Raises :class:`MetricError` without any channel, or any pixel outside them."""
        return spro_curve(self.regions, [self.nominal])

    def auspro(self, limit: float = 0.05) -> float:
        """The area under the curve up to the false-positive rate ``limit``, divided by it: 0 to 1."""
        curve = self.curve()
        return float(area_under(curve.fpr, curve.spro, limit))


def auspro(
    anomaly_maps: Sequence[NDArray[Any]],
    channels: Sequence[Sequence[DefectChannel]],
    limits: Iterable[float] = (0.05,),
) -> dict[float, float]:
    """AUsPRO at each limit, of ``anomaly_maps`` (H, W) and the defect channels of each, none for good images.

    Both are read twice, one image at a time, so they may be lazy; memory is for the channels' pixels alone.

    >>> maps = np.array([[[0.0, 3.0]], [[1.0, 2.0]]])
    >>> auspro(maps, [[DefectChannel(np.array([[False, True]]), 1)], []], limits=(0.3, 1.0))
    {0.3: 1.0, 1.0: 1.0}
    """
    if len(anomaly_maps) != len(channels):
        raise MetricError(
            f"there are {len(anomaly_maps)} anomaly maps, but channels for {len(channels)} images"
        )
    regions: list[RegionScores] = []
    for i in range(len(channels)):
        if found := channels[i]:
            scores = checked_map(anomaly_maps[i])
            regions += [channel_scores(scores, channel, i) for channel in found]
    counts = FixedCounts(_gains(regions)[0])
    for i in range(len(channels)):
        counts.add(outside(checked_map(anomaly_maps[i]), channels[i]))
    curve = spro_curve(regions, [counts])
    return {limit: float(area_under(curve.fpr, curve.spro, limit)) for limit in limits}


def spro_curve(regions: Sequence[RegionScores], nominal: Sequence[Counts]) -> SproCurve:
    """The exact curve of ``regions`` against the nominal pixels in all of the bags ``nominal``."""
    thresholds, gains = _gains(regions)
    known = known_counts(nominal, thresholds)
    (greater, at_least), total = known.above(thresholds), known.total
    fpr = np.empty(2 * len(thresholds) + 2)
    fpr[0], fpr[1:-1:2], fpr[2:-1:2], fpr[-1] = 0, greater[::-1], at_least[::-1], total
    reached = np.append(0.0, np.cumsum(gains[::-1]))
    reached = np.minimum(reached / reached[-1], 1.0)  # the sum is the number of channels, but for rounding
    spro = np.append(np.repeat(reached, 2)[: 2 * len(thresholds) + 1], 1.0)
    return SproCurve(fpr / total, spro, thresholds[::-1])


def known_counts(nominal: Sequence[Counts], thresholds: Floats) -> KnownCounts:
    """The nominal pixels of several bags above each of ``thresholds`` (upwards), or :class:`MetricError`."""
    known = KnownCounts(thresholds, nominal)
    if not known.total:
        raise MetricError("no pixel lies outside the defects, so there is no false-positive rate")
    return known


def area_under(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Area under the polyline (..., N) from x = 0 to ``limit``, divided by it. ``x`` upwards from 0 to 1.

    >>> float(area_under(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5))
    0.25
    """
    if not 0 < limit <= 1:
        raise MetricError(f"the false-positive-rate limit must lie in (0, 1], not {limit}")
    left, right = x[..., :-1], x[..., 1:]
    width = np.clip(np.minimum(right, limit) - left, 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(right > left, width / (right - left), 0.0)
    middle = y[..., :-1] + 0.5 * part * (y[..., 1:] - y[..., :-1])
    return np.asarray((width * middle).sum(-1) / limit)


def checked_map(anomaly_map: NDArray[Any]) -> Floats:
    """``anomaly_map`` (H, W) as float32 where that is exact, else float64; or :class:`MetricError`."""
    scores = np.asarray(anomaly_map)
    if scores.ndim != 2 or not scores.size:
        raise MetricError(f"an anomaly map must be (H, W), not {scores.shape}")
    if scores.dtype.kind not in "fiub":
        raise MetricError(f"an anomaly map must hold real numbers, not {scores.dtype}")
    exact = np.can_cast(scores.dtype, np.float32)
    scores = scores.astype(np.float32 if exact else np.float64, copy=False)
    if not np.isfinite(scores).all():
        raise MetricError("an anomaly map holds NaN or infinite scores: look at what made it")
    return scores


def channel_scores(scores: Floats, channel: DefectChannel, image: int = 0) -> RegionScores:
    """The pixel scores of one defect that count, of the map ``scores`` (H, W).

    A saturation area larger than the defect is the defect's own area, as in the official code.
    """
    mask = _checked_mask(scores, channel)
    inside = np.sort(scores[mask])[::-1]
    if not len(inside):
        raise MetricError(f"the mask of defect {channel.name!r} has no pixel: leave the channel out")
    if not channel.saturation_area > 0:
        raise MetricError(
            f"the saturation area of defect {channel.name!r} must be above 0 pixels, not {channel.saturation_area}"
        )
    saturation = min(float(channel.saturation_area), float(len(inside)))
    return RegionScores(inside[: ceil(saturation)].copy(), saturation, image)


def outside(scores: Floats, channels: Sequence[DefectChannel]) -> Floats:
    """The scores (N,) of the pixels that lie in no channel."""
    if not channels:
        return scores.reshape(-1)
    union = np.zeros(scores.shape, dtype=bool)
    for channel in channels:
        union |= _checked_mask(scores, channel)
    return np.asarray(scores[~union])


def _checked_mask(scores: Floats, channel: DefectChannel) -> NDArray[np.bool_]:
    mask = np.asarray(channel.anomaly_mask)
    if mask.dtype != np.bool_:
        raise MetricError(f"the mask of defect {channel.name!r} must be bool, not {mask.dtype}")
    if mask.shape != scores.shape:
        raise MetricError(
            f"the mask of defect {channel.name!r} is {mask.shape}, but the anomaly map is {scores.shape}: "
            "resize the map to the mask"
        )
    return mask


def _gains(regions: Sequence[RegionScores]) -> tuple[Floats, NDArray[np.float64]]:
    """Distinct scores of channel pixels, upwards, and how much the sum of all sPRO_i gains at each."""
    if not regions:
        raise MetricError("there is no defect channel, so there is no per-region overlap")
    scores = np.concatenate([region.scores for region in regions])
    gains = np.concatenate([_gain(len(region.scores), region.saturation_area) for region in regions])
    order = np.argsort(scores)
    scores = scores[order]
    starts = run_starts(scores)
    return scores[starts], np.add.reduceat(gains[order], starts)


def _gain(pixels: int, saturation: float) -> NDArray[np.float64]:
    """min(r / s, 1) - min((r - 1) / s, 1) for the pixels r = 1, 2, ... of one region."""
    gain = np.full(pixels, 1 / saturation)
    gain[-1] = (saturation - (pixels - 1)) / saturation
    return gain
