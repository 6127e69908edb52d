"""Intervals of confidence by resampling images (Efron and Tibshirani 1993, ch. 13: the percentile interval).

Nominal and anomalous images are drawn separately, with replacement, as many as there are: the share of
anomalous images is a property of the test set, not of the line. Everything is drawn from a seeded generator.
At a perfect score every resample is perfect, and the interval is a point: it says nothing about images not seen.
Figures that are a maximum over thresholds (best F1, TPR at a TNR) come out higher in resamples than in fact.

n images, B resamples, K thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError
from andon.metrics.counts import Floats
from andon.metrics.pixel import PixelTable
from andon.metrics.spro import RegionScores, SproCurve, area_under
from andon.metrics.table import ScoreTable
from andon.metrics.tally import MapTally, Sketch

_CELLS = 2_000_000  # numbers a block of resamples may hold
_GRID = 800  # thresholds that stand for the whole curve when images are resampled
Interval = tuple[float, float]
Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
Key = TypeVar("Key", float, str)


def bootstrap_intervals(
    table: ScoreTable,
    statistics: Mapping[str, Callable[[ScoreTable], NDArray[np.float64]]],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Lower and upper end for each of ``statistics``, all from the same resamples of ``table``.

    A statistic takes a table whose counts are (b, U) and gives (b,).

    >>> from andon.metrics.roc import auroc_of
    >>> from andon.metrics.table import score_table
    >>> table = score_table([1.0, 2.0, 3.0, 2.5, 4.0, 5.0], [False, False, False, True, True, True])
    >>> low, high = bootstrap_intervals(table, {"auroc": auroc_of}, seed=1)["auroc"]
    >>> 0.3 < low < 0.9 and high == 1.0
    True
    """
    _check(resamples, confidence)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for block in _resampled(table, resamples, np.random.default_rng(seed)):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(block))
    return {name: percentile_interval(np.concatenate(parts), confidence) for name, parts in drawn.items()}


def percentile_interval(values: NDArray[np.float64], confidence: float) -> Interval:
    """The middle ``confidence`` of ``values`` (B,).

    >>> [round(end, 9) for end in percentile_interval(np.arange(101.0), 0.9)]
    [5.0, 95.0]
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled(table: ScoreTable, resamples: int, rng: np.random.Generator) -> Iterator[ScoreTable]:
    bins, most = len(table.scores), int(table.anomalous.sum() + table.nominal.sum())
    block = max(1, _CELLS // max(bins, most))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        yield ScoreTable(table.scores, _draw(table.anomalous, rows, rng), _draw(table.nominal, rows, rng))


def _draw(counts: NDArray[np.int64], rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Counts (rows, U) of as many images as ``counts`` (U,) holds, drawn from it with replacement."""
    bin_of = np.repeat(np.arange(len(counts)), counts)
    drawn = bin_of[rng.integers(0, len(bin_of), (rows, len(bin_of)))] + len(counts) * np.arange(rows)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=rows * len(counts)).reshape(rows, len(counts))


class PixelBootstrap:
    """Intervals of the pixel metrics, at a bounded cost: resampled images, a curve of some 1,600 points.

    ``good``: tallies of images without defects; ``anomalous``: tallies of those with. Nominal pixels come from
    sketches, so a resampled area is off by some 1e-3; the interval is moved by what the unresampled one is
    off from the exact ``value``.
    """

    def __init__(
        self,
        good: Sequence[MapTally],
        anomalous: Sequence[MapTally],
        *,
        resamples: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        _check(resamples, confidence)
        self._confidence = confidence
        self._sketches = [[s for t in tallies for s in t.sketches] for tallies in (good, anomalous)]
        self._offsets = np.cumsum([0, *(tally.images for tally in anomalous)])
        rng = np.random.default_rng(seed)
        self._weights = [_weights(len(part), resamples, rng) for part in self._sketches]  # (1 + B, n)

    def areas(
        self, values: Mapping[float, float], curve: SproCurve, regions: Sequence[Sequence[RegionScores]]
    ) -> dict[float, Interval]:
        """Interval of each AUPRO or AUsPRO of ``values``, by limit; ``regions``: those of each anomalous tally."""
        fpr, spro = curve.fpr[1:-1:2], curve.spro[1:-1:2]
        way = sum((np.minimum(fpr / limit, 1.0) for limit in values), np.zeros(len(fpr))) / len(values)
        found = self._found(regions, grid := _grid(curve.thresholds, way + spro), saturated=True)
        statistics = {limit: _area_up_to(limit) for limit in values}
        return self._intervals(values, grid, found, statistics)

    def pixels(
        self, auroc: float, precision: float, table: PixelTable, regions: Sequence[Sequence[RegionScores]]
    ) -> tuple[Interval, Interval]:
        """Intervals of the pixel AUROC and average precision; ``regions``: the components of each tally."""
        recall = np.cumsum(table.anomalous) / table.anomalous.sum()
        fpr = table.greater / table.nominal_total
        # the root: the start of the curve, where precision is decided, counts more
        grid = _grid(table.thresholds, np.sqrt(fpr) + fpr + recall)
        found = self._found(regions, grid, saturated=False)
        statistics: dict[str, Statistic] = {"auroc": _area_up_to(1.0), "precision": _precision}
        got = self._intervals({"auroc": auroc, "precision": precision}, grid, found, statistics)
        return got["auroc"], got["precision"]

    def _intervals(
        self,
        values: Mapping[Key, float],
        grid: Floats,
        found: NDArray[np.float64],
        statistics: Mapping[Key, Statistic],
    ) -> dict[Key, Interval]:
        false_alarms = [_false_alarms(part, grid) for part in self._sketches]  # (n, K + 2)
        drawn: dict[Key, list[NDArray[np.float64]]] = {key: [] for key in values}
        for rows in _blocks(len(self._weights[1]), len(grid)):
            good, anomalous = (weights[rows] for weights in self._weights)
            false = good @ false_alarms[0] + anomalous @ false_alarms[1]  # (b, K + 2) pixels
            hits = anomalous @ found
            for key, parts in drawn.items():
                parts.append(statistics[key](false, hits))
        return {key: self._around(values[key], np.concatenate(parts)) for key, parts in drawn.items()}

    def _around(self, value: float, drawn: NDArray[np.float64]) -> Interval:
        """The interval of resampled values, of which the first is not resampled, moved to the exact ``value``."""
        low, high = percentile_interval(drawn[1:], self._confidence)
        shift = value - float(drawn[0])
        return min(max(low + shift, 0.0), value), max(min(high + shift, 1.0), value)

    def _found(
        self, regions: Sequence[Sequence[RegionScores]], grid: Floats, *, saturated: bool
    ) -> NDArray[np.float64]:
        """For each anomalous image, the sum of its sPRO, or its pixels, above each threshold (n, K + 2)."""
        found = np.zeros((len(self._sketches[1]), len(grid) + 2))
        for offset, part in zip(self._offsets, regions):
            for region in part:
                number = _region_above(region, grid)
                whole = 1.0 if saturated else float(len(region.scores))
                share = np.minimum(number / region.saturation_area, 1.0) if saturated else number
                found[offset + region.image, 1:-1] += share
                found[offset + region.image, -1] += whole
        return found


def _grid(thresholds: Floats, way: NDArray[np.float64]) -> Floats:
    """Some of ``thresholds`` (K,), evenly along ``way`` (K,), upwards, each with the number just below it."""
    chosen = np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], _GRID)))
    picked = thresholds[np.minimum(chosen, len(thresholds) - 1)]
    return np.unique(np.concatenate([picked, np.nextafter(picked, picked.dtype.type(-np.inf))]))[::-1]


def _false_alarms(sketches: Sequence[Sketch], grid: Floats) -> NDArray[np.float64]:
    """Nominal pixels above each threshold (n, K + 2), of each image: none at first, all at last."""
    result = np.zeros((len(sketches), len(grid) + 2))
    for row, item in zip(result, sketches):
        row[1:-1], row[-1] = item.above(grid), item.total
    return result


def _region_above(region: RegionScores, grid: Floats) -> NDArray[np.int64]:
    upwards = region.scores[::-1]
    return len(upwards) - np.searchsorted(upwards, grid, side="right")


def _area_up_to(limit: float) -> Statistic:
    """AUPRO, AUsPRO or AUROC of rows of (false-alarm pixels, what was found), both (b, K + 2)."""
    return lambda false, hits: area_under(false / np.maximum(false[:, -1:], 1), hits / hits[:, -1:], limit)


def _precision(false: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision of rows of (false-alarm pixels, anomalous pixels found), both (b, K + 2)."""
    called = np.maximum(hits + false, 1.0)
    return np.asarray((np.diff(hits, axis=-1) * (hits / called)[:, 1:]).sum(-1) / hits[:, -1])


def _weights(images: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each image is drawn (1 + B, n); the first row is the images as they are."""
    weights = np.ones((resamples + 1, images))
    for row in weights[1:] if images else ():
        row[:] = np.bincount(rng.integers(0, images, images), minlength=images)
    return weights


def _blocks(rows: int, width: int) -> Iterator[slice]:
    block = max(1, _CELLS // max(width, 1))
    return (slice(start, min(start + block, rows)) for start in range(0, rows, block))


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise MetricError(f"a bootstrap needs at least 1 resample, not {resamples}")
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1, not {confidence}")
