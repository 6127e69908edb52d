"""The metrics and curves of one group of images, each with its interval or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError, SettingsError
from andon.metrics.bootstrap import Interval, PixelBootstrap, bootstrap_intervals
from andon.metrics.counts import ScoreCounts
from andon.metrics.pixel import auroc_of_pixels, average_precision_of_pixels, pixel_table
from andon.metrics.precision import average_precision_of
from andon.metrics.rates import Rate, fnr_at, fpr_at, rate
from andon.metrics.roc import auroc_of, f1_max, f1_max_of, roc_curve, tpr_at_tnr_of
from andon.metrics.spro import RegionScores, SproCurve, area_under, spro_curve
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
        if self.review_threshold is None:
            return
        if self.threshold is None or self.review_threshold > self.threshold:
            raise SettingsError(
                f"review_threshold {self.review_threshold} needs a threshold at least as high, not {self.threshold}"
            )

    def decide(self, image_score: float) -> Decision | None:
        """The verdict at the deployed thresholds; None without any."""
        if self.threshold is None:
            return None
        if image_score > self.threshold:
            return "fail"
        review = self.review_threshold is not None and image_score > self.review_threshold
        return "review" if review else "pass"

    def as_dict(self) -> dict[str, object]:
        """All of it, for the record."""
        return {**asdict(self), "spro_limits": list(self.spro_limits)}


def group_metrics(
    rows: Sequence[ScoreRow],
    good: Sequence[MapTally],
    anomalous: Sequence[MapTally],
    options: Options,
    *,
    with_pixels: bool,
    note: str = "",
) -> Metrics:
    """Every metric of ``rows`` (all scored) and the tallies of their maps; ``note`` goes to the pixel metrics."""
    metrics = _image_metrics(rows, options) | _rates(rows, options)
    if not with_pixels:
        return metrics | _undefined(_pixel_names(options), "no masks were asked for")
    return metrics | _pixel_metrics(good, anomalous, options, note)


def group_curves(
    rows: Sequence[ScoreRow], good: Sequence[MapTally], anomalous: Sequence[MapTally], label: str = ""
) -> list[Curve]:
    """The ROC of the images, and PRO and sPRO where they are defined, thinned to some 400 points."""
    curves = []
    if len({row.is_anomalous for row in rows}) == 2:
        roc = roc_curve([row.image_score for row in rows], [row.is_anomalous for row in rows])
        curves.append(_thinned("roc", roc.fpr, roc.tpr, label))
    nominal = [tally.nominal for tally in (*good, *anomalous)]
    for name, parts in (("pro", _components(anomalous)), ("spro", _channels(anomalous))):
        regions = [region for part in parts for region in part]
        if regions and any(bag.total for bag in nominal):
            curve = spro_curve(regions, nominal)
            curves.append(_thinned(name, curve.fpr, curve.spro, label))
    return curves


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
    names = ("fpr", "fnr", "review_rate")
    if options.threshold is None:
        return _undefined(names, "no threshold was given")
    scores, truth = [row.image_score for row in rows], [row.is_anomalous for row in rows]
    at, confidence = options.threshold, options.confidence
    reviewed = [row for row in rows if row.decision == "review"]
    return {
        "fpr": _rate(lambda: fpr_at(scores, truth, at, confidence)),
        "fnr": _rate(lambda: fnr_at(scores, truth, at, confidence), _reviewed_note(reviewed)),
        "review_rate": _rate(lambda: rate(len(reviewed), len(rows), confidence)),
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


def _pixel_metrics(
    good: Sequence[MapTally], anomalous: Sequence[MapTally], options: Options, note: str
) -> Metrics:
    if not any(tally.images for tally in anomalous):
        reason = "no anomalous image has both a mask and an anomaly map"
        return _undefined(_pixel_names(options), f"{reason} ({note})" if note else reason)
    resampled = None
    if options.bootstrap:
        resampled = PixelBootstrap(
            good, anomalous, resamples=options.bootstrap, confidence=options.confidence, seed=options.seed
        )
    nominal = [tally.nominal for tally in (*good, *anomalous)]
    if not any(bag.total for bag in nominal):
        return _undefined(_pixel_names(options), "no pixel lies outside the defects")
    metrics = _pixel_table_metrics(anomalous, nominal, resampled, note)
    pro = {f"aupro_{_percent(options.pro_limit)}": options.pro_limit}
    spro = {f"auspro_{_percent(limit)}": limit for limit in options.spro_limits}
    for names, parts in ((pro, _components(anomalous)), (spro, _channels(anomalous))):
        curve = spro_curve([region for part in parts for region in part], nominal)
        metrics |= _areas(names, curve, parts, resampled, note)
    return metrics


def _pixel_table_metrics(
    anomalous: Sequence[MapTally], nominal: Sequence[ScoreCounts], resampled: PixelBootstrap | None, note: str
) -> Metrics:
    parts = _components(anomalous)
    table = pixel_table([region.scores for part in parts for region in part], nominal)
    auroc, precision = auroc_of_pixels(table), average_precision_of_pixels(table)
    if resampled is None:
        return {"pixel_auroc": Metric(auroc, note=note), "pixel_ap": Metric(precision, note=note)}
    ends = resampled.pixels(auroc, precision, table, parts)
    return {
        "pixel_auroc": _metric(auroc, ends[0], note),
        "pixel_ap": _metric(precision, ends[1], note),
    }


def _areas(
    names: dict[str, float],
    curve: SproCurve,
    parts: Sequence[Sequence[RegionScores]],
    resampled: PixelBootstrap | None,
    note: str,
) -> Metrics:
    values = {limit: float(area_under(curve.fpr, curve.spro, limit)) for limit in names.values()}
    if resampled is None or not values:
        return {name: Metric(values[limit], note=note) for name, limit in names.items()}
    ends = resampled.areas(values, curve, parts)
    return {name: _metric(values[limit], ends[limit], note) for name, limit in names.items()}


def _metric(value: float, ends: Interval, note: str) -> Metric:
    """The figure with its interval, and a warning where every resample agreed."""
    if ends[0] == ends[1]:
        warning = "every resample gives the same, so the interval does not show how sure this is"
        note = f"{note}; {warning}" if note else warning
    return Metric(value, *ends, note=note)


def _components(tallies: Sequence[MapTally]) -> list[list[RegionScores]]:
    return [tally.components for tally in tallies]


def _channels(tallies: Sequence[MapTally]) -> list[list[RegionScores]]:
    return [tally.channels for tally in tallies]


def _pixel_names(options: Options) -> list[str]:
    spro = [f"auspro_{_percent(limit)}" for limit in options.spro_limits]
    return ["pixel_auroc", "pixel_ap", f"aupro_{_percent(options.pro_limit)}", *spro]


def _percent(limit: float) -> str:
    return f"{100 * limit:g}"


def _undefined(names: Sequence[str] | dict[str, Callable], reason: str) -> Metrics:
    return {name: Metric(None, note=reason) for name in names}


def _thinned(name: str, x: NDArray[np.float64], y: NDArray[np.float64], label: str) -> Curve:
    """A curve of at most some 400 points, evenly along its way; more of them where x is small."""
    if len(x) > _CURVE_POINTS:
        way = np.sqrt(x) + x + y
        kept = np.searchsorted(way, np.linspace(0.0, way[-1], _CURVE_POINTS))
        kept = np.unique(np.minimum(np.concatenate([[0], kept, [len(x) - 1]]), len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(name, tuple(x.tolist()), tuple(y.tolist()), label)
