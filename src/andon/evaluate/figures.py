"""The metrics and curves of one group of images, each with its interval or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError, SettingsError
from andon.metrics.bootstrap import Interval, PixelBootstrap, bootstrap_intervals
from andon.metrics.counts import KnownCounts
from andon.metrics.pixel import auroc_of_pixels, average_precision_of_pixels, pixel_table
from andon.metrics.precision import average_precision_of
from andon.metrics.rates import Rate, fnr_at, fpr_at, rate
from andon.metrics.roc import auroc_of, f1_max, f1_max_of, roc_curve, tpr_at_tnr_of
from andon.metrics.spro import SproCurve, area_under, spro_curve
from andon.metrics.table import ScoreTable, score_table
from andon.metrics.tally import MapTally
from andon.types import Curve, Decision, Metric, ScoreRow

Metrics = dict[str, Metric]
IMAGE_STATISTICS: dict[str, Callable[[ScoreTable], NDArray[np.float64]]] = {
    "image_auroc": auroc_of,
    "image_ap": average_precision_of,
    "f1_max": f1_max_of,
    "tpr_at_tnr_99": partial(tpr_at_tnr_of, tnr=0.99),
    "tpr_at_tnr_95": partial(tpr_at_tnr_of, tnr=0.95),
    "tpr_at_tnr_90": partial(tpr_at_tnr_of, tnr=0.90),
}
_CURVE_POINTS = 400


@dataclass(frozen=True)
class Options:
    """How figures are computed; checked when made. Raises :class:`SettingsError`."""

    threshold: float | None = None
    review_threshold: float | None = None
    spro_limits: tuple[float, ...] = (0.05,)
    pro_limit: float = 0.3
    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for limit in (*self.spro_limits, self.pro_limit):
            if not 0 < limit <= 1:
                raise SettingsError(f"a false-positive-rate limit must lie in (0, 1], not {limit}")
        if self.bootstrap < 0:
            raise SettingsError(f"bootstrap is a number of resamples, 0 for none, not {self.bootstrap}")
        if not 0 < self.confidence < 1:
            raise SettingsError(f"confidence must lie between 0 and 1, not {self.confidence}")
        self._check_thresholds()

    def _check_thresholds(self) -> None:
        given = [value for value in (self.threshold, self.review_threshold) if value is not None]
        if any(math.isnan(value) for value in given):
            raise SettingsError("a threshold is NaN: calibrate again, or give None for no threshold")
        if len(given) == 2 and given[1] > given[0]:
            raise SettingsError(f"review_threshold {given[1]} must not lie above the threshold {given[0]}")

    def decide(self, image_score: float) -> Decision | None:
        """The verdict at the deployed thresholds, of which one may be missing; None without any."""
        if self.threshold is None and self.review_threshold is None:
            return None
        if self.threshold is not None and image_score > self.threshold:
            return "fail"
        review = self.review_threshold is not None and image_score > self.review_threshold
        return "review" if review else "pass"

    def as_dict(self) -> dict[str, object]:
        """All of it, for the record; a threshold that nothing exceeds is None there."""
        finite = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in (("threshold", self.threshold), ("review_threshold", self.review_threshold))
        }
        return {**asdict(self), **finite, "spro_limits": list(self.spro_limits)}


def group_figures(
    rows: Sequence[ScoreRow],
    good: Sequence[MapTally],
    anomalous: Sequence[MapTally],
    options: Options,
    *,
    with_pixels: bool,
    note: str = "",
) -> tuple[Metrics, list[Curve]]:
    """Every metric and curve of ``rows`` (all scored) and the tallies of their maps.

    ``note`` goes to the pixel metrics.
    """
    metrics = _image_metrics(rows, options) | _rates(rows, options)
    curves = _roc(rows)
    pixels = PixelFigures(good, anomalous, options)
    reason = pixels.undefined if with_pixels else "no masks were asked for"
    if reason:
        reason = f"{reason} ({note})" if note else reason
        return metrics | _undefined(_pixel_names(options), reason), curves
    metrics |= pixels.over_pixels(note)
    for name, title, limits in (
        ("pro", "aupro", (options.pro_limit,)),
        ("spro", "auspro", options.spro_limits),
    ):
        areas, curve = pixels.over_regions(name, title, limits, note)
        metrics |= areas
        curves.append(_thinned(name, curve.fpr, curve.spro))
    return metrics, curves


def _roc(rows: Sequence[ScoreRow]) -> list[Curve]:
    if len({row.is_anomalous for row in rows}) < 2:
        return []
    roc = roc_curve([row.image_score for row in rows], [row.is_anomalous for row in rows])
    return [_thinned("roc", roc.fpr, roc.tpr)]


def _image_metrics(rows: Sequence[ScoreRow], options: Options) -> Metrics:
    scores, truth = [row.image_score for row in rows], [row.is_anomalous for row in rows]
    try:
        table = score_table(scores, truth)
    except MetricError as error:
        return _undefined(IMAGE_STATISTICS, str(error))
    values = {name: float(statistic(table)) for name, statistic in IMAGE_STATISTICS.items()}
    notes = {"f1_max": f"at image_score > {f1_max(scores, truth).threshold:.6g}, chosen on these images"}
    if not options.bootstrap:
        return {name: Metric(value, note=notes.get(name, "")) for name, value in values.items()}
    ends = bootstrap_intervals(
        table,
        IMAGE_STATISTICS,
        resamples=options.bootstrap,
        confidence=options.confidence,
        seed=options.seed,
    )
    return {name: _metric(value, ends[name], notes.get(name, "")) for name, value in values.items()}


def _rates(rows: Sequence[ScoreRow], options: Options) -> Metrics:
    failed, truth = [float(row.decision == "fail") for row in rows], [row.is_anomalous for row in rows]
    confidence = options.confidence
    if all(row.decision is None for row in rows):
        return _undefined(("fpr", "fnr", "review_rate"), "no threshold was given")
    reviewed = [row for row in rows if row.decision == "review"]
    review = {"review_rate": _rate(lambda: rate(len(reviewed), len(rows), confidence))}
    if options.threshold is None:
        return _undefined(("fpr", "fnr"), "no threshold was given") | review
    return {
        "fpr": _rate(lambda: fpr_at(failed, truth, 0.5, confidence)),
        "fnr": _rate(lambda: fnr_at(failed, truth, 0.5, confidence), _reviewed_note(reviewed)),
        **review,
    }


def _rate(compute: Callable[[], Rate], note: str = "") -> Metric:
    try:
        found = compute()
    except MetricError as error:
        return Metric(None, note=str(error))
    share = f"{found.events} of {found.total}"
    return Metric(found.value, found.low, found.high, f"{share}; {note}" if note else share)


def _reviewed_note(reviewed: Sequence[ScoreRow]) -> str:
    held = sum(row.is_anomalous for row in reviewed)
    return f"{held} of these go to review" if held else ""


class PixelFigures:
    """The metrics of one group that look at pixels; nominal pixels are counted once for all of them."""

    def __init__(self, good: Sequence[MapTally], anomalous: Sequence[MapTally], options: Options) -> None:
        self._good, self._anomalous, self._options = good, anomalous, options
        self._regions = {
            "pro": [tally.components for tally in anomalous],
            "spro": [tally.channels for tally in anomalous],
        }
        self._inside = [region.scores for part in self._regions["pro"] for region in part]

    @property
    def undefined(self) -> str:
        """Why there are none; empty when there are."""
        if not self._inside:
            return "no anomalous image has both a mask and an anomaly map"
        outside = any(tally.nominal.total for tally in (*self._good, *self._anomalous))
        return "" if outside else "no pixel lies outside the defects"

    def over_pixels(self, note: str) -> Metrics:
        """Pixel AUROC and average precision."""
        table = pixel_table(self._inside, [self._known])
        auroc, precision = auroc_of_pixels(table), average_precision_of_pixels(table)
        if self._resampled is None:
            return {"pixel_auroc": Metric(auroc, note=note), "pixel_ap": Metric(precision, note=note)}
        ends = self._resampled.pixels(auroc, precision, table, self._regions["pro"])
        return {"pixel_auroc": _metric(auroc, ends[0], note), "pixel_ap": _metric(precision, ends[1], note)}

    def over_regions(
        self, name: str, title: str, limits: Sequence[float], note: str
    ) -> tuple[Metrics, SproCurve]:
        """The areas under the ``pro`` or ``spro`` curve up to each limit, and the curve."""
        parts = self._regions[name]
        curve = spro_curve([region for part in parts for region in part], [self._known])
        names = {f"{title}_{_percent(limit)}": limit for limit in limits}
        values = {limit: float(area_under(curve.fpr, curve.spro, limit)) for limit in limits}
        if self._resampled is None or not values:
            return {key: Metric(values[limit], note=note) for key, limit in names.items()}, curve
        ends = self._resampled.areas(values, curve, parts)
        return {key: _metric(values[limit], ends[limit], note) for key, limit in names.items()}, curve

    @cached_property
    def _known(self) -> KnownCounts:
        bags = [tally.nominal for tally in (*self._good, *self._anomalous)]
        return KnownCounts(np.unique(np.concatenate(self._inside)), bags)

    @cached_property
    def _resampled(self) -> PixelBootstrap | None:
        options = self._options
        if not options.bootstrap:
            return None
        return PixelBootstrap(
            self._good,
            self._anomalous,
            resamples=options.bootstrap,
            confidence=options.confidence,
            seed=options.seed,
        )


def _metric(value: float, ends: Interval, note: str) -> Metric:
    """The figure with its interval, and a warning where every resample agreed."""
    if ends[0] == ends[1]:
        warning = "every resample gives the same, so the interval does not show how sure this is"
        note = f"{note}; {warning}" if note else warning
    return Metric(value, *ends, note=note)


def _pixel_names(options: Options) -> list[str]:
    spro = [f"auspro_{_percent(limit)}" for limit in options.spro_limits]
    return ["pixel_auroc", "pixel_ap", f"aupro_{_percent(options.pro_limit)}", *spro]


def _percent(limit: float) -> str:
    return f"{100 * limit:g}"


def _undefined(names: Sequence[str] | dict[str, Callable], reason: str) -> Metrics:
    return {name: Metric(None, note=reason) for name in names}


def _thinned(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    """A curve of at most some 400 points, evenly along its way; more of them where x is small."""
    if len(x) > _CURVE_POINTS:
        way = np.sqrt(x) + x + y
        kept = np.searchsorted(way, np.linspace(0.0, way[-1], _CURVE_POINTS))
        kept = np.unique(np.minimum(np.concatenate([[0], kept, [len(x) - 1]]), len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(name, tuple(x.tolist()), tuple(y.tolist()))
