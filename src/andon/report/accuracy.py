"""The report's part on accuracy: metrics in words, groups, curves."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from andon.evaluate.tables import SUMMARY
from andon.report import figures
from andon.report.content import DASH, NBSP, fraction, percent
from andon.types import Curve, Evaluation, Metric

MOST_REMARKS = 8


@dataclass(frozen=True)
class MetricLine:
    """One metric in words: ``name``, what it ``meaning``s, its ``value``, ``interval`` and ``note``."""

    name: str
    meaning: str
    value: str
    interval: str
    note: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Metrics (columns) of groups; ``rows`` are (name, its images, cells of (value, interval, footnote mark))."""

    columns: list[str]
    rows: list[tuple[str, str, list[tuple[str, str, str]]]]
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CurvePlot:
    """One curve with its figure, its area in words, and what it shows."""

    title: str
    value: str
    caption: str
    svg: str


def accuracy(evaluation: Evaluation | None) -> dict[str, Any]:
    """What the template needs of ``evaluation``: ``metrics``, ``groups``, ``curves``, ``interval``, ``remarks``."""
    if evaluation is None:
        return {"metrics": [], "groups": None, "curves": [], "interval": "", "remarks": []}
    metrics = evaluation.groups.get("all", {})
    confidence = evaluation.settings.get("confidence", 0.95)
    remarks = evaluation.settings.get("notes")
    return {
        "metrics": metric_lines(metrics),
        "groups": group_table(evaluation.groups, evaluation.settings.get("images")),
        "curves": _curves(evaluation, metrics),
        "interval": percent(float(confidence)) if isinstance(confidence, int | float) else "",
        "remarks": [str(remark) for remark in remarks[:MOST_REMARKS]] if isinstance(remarks, list) else [],
    }


def _curves(evaluation: Evaluation, metrics: Mapping[str, Metric]) -> list[CurvePlot]:
    by_name: dict[str, list[Curve]] = defaultdict(list)
    whole_first = sorted(evaluation.curves.items(), key=lambda item: (item[0] != item[1].name, item[0]))
    for _, curve in whole_first:
        if len(curve.x) >= 2:
            by_name[curve.name].append(curve)
    plots = [_roc_plot(by_name["roc"], metrics)] if "roc" in by_name else []
    return plots + [
        _overlap_plot(name, by_name[name], metrics) for name in ("pro", "spro") if name in by_name
    ]


def _roc_plot(curves: list[Curve], metrics: Mapping[str, Metric]) -> CurvePlot:
    fpr, fnr = _value(metrics, "fpr"), _value(metrics, "fnr")
    point = None if fpr is None or fnr is None else (fpr, 1 - fnr)
    svg = figures.curve_figure(curves, x_limit=1.0, x_label="good parts failed", y_label="defective parts caught",
                               point=point, identifier="roc")  # fmt: skip
    caption = "Every threshold at once: defects caught against good parts failed."
    caption += " The dot is the threshold in use." if point else ""
    auroc = _value(metrics, "image_auroc")
    text = "" if auroc is None else f"AUROC {fraction(auroc)}"
    return CurvePlot("ROC, whole images", text, caption + _others(curves), svg)


def _overlap_plot(name: str, curves: list[Curve], metrics: Mapping[str, Metric]) -> CurvePlot:
    """The curve called ``pro`` or ``spro``, up to the limit that is usual for it where ``metrics`` have that."""
    head, word, title, usual = {"pro": ("aupro_", "AUPRO", "PRO", (30,)),
                                "spro": ("auspro_", "AUsPRO", "sPRO", (5, 30))}[name]  # fmt: skip
    tails = [key.removeprefix(head) for key in metrics if key.startswith(head)]
    limits = sorted(int(tail) for tail in tails if tail.isdigit())
    main = next((limit for limit in (*usual, *limits) if limit in limits), 30)  # per cent
    svg = figures.curve_figure(curves, x_limit=min(1.0, max(main / 100, 0.3)), area_to=main / 100,
                               x_label="pixels of good areas marked", y_label="of each defect, found",
                               identifier=name)  # fmt: skip
    value = _value(metrics, f"{head}{main}")
    text = "" if value is None else f"{word} to {main}{NBSP}% {fraction(value)}"
    caption = "How much of each defect is marked as the map's threshold falls; the shaded area is the figure."
    return CurvePlot(f"{title}, where the defects are", text, caption + _others(curves), svg)


def _others(curves: list[Curve]) -> str:
    return " Grey: the single groups." if len(curves) > 1 else ""


def _value(metrics: Mapping[str, Metric], name: str) -> float | None:
    metric = metrics.get(name)
    return metric.value if metric else None


# --- metrics in words ---------------------------------------------------------------------------------------

_RATES = ("fpr", "fnr", "review_rate", "tpr_at_tnr")
_WORDS = {
    "image_auroc": ("Image AUROC", "how often a defective part scores above a good one"),
    "image_ap": (
        "Image average precision",
        "how pure the highest scores are in defects, over all thresholds",
    ),
    "f1_max": (
        "Best F1",
        "best balance of catches and false alarms; its threshold is chosen on these images",
    ),
    "fpr": ("False alarms", "good parts that failed, at the threshold in use"),
    "fnr": ("Not failed", "defective parts that did not fail, those sent to review included"),
    "review_rate": ("Sent to review", "parts between the review threshold and the threshold"),
    "pixel_auroc": ("Pixel AUROC", "how often a defective pixel scores above a good one"),
    "pixel_ap": ("Pixel average precision", "how pure the highest pixels are in defects"),
}


def metric_words(name: str) -> tuple[str, str]:
    """A metric's name and its meaning as people read them.

    >>> metric_words("tpr_at_tnr_99")[0].replace(NBSP, " "), metric_words("auspro_5")[0].replace(NBSP, " ")
    ('Caught at 1 % false alarms', 'AUsPRO to 5 %')
    """
    if name in _WORDS:
        return _WORDS[name]
    head, _, tail = name.rpartition("_")
    if head == "tpr_at_tnr" and tail.isdigit():
        rate = f"{100 - int(tail)}{NBSP}%"
        return (
            f"Caught at {rate} false alarms",
            f"defective parts found when {rate} of these good parts may fail",
        )
    if head == "aupro":
        return (
            f"AUPRO to {tail}{NBSP}%",
            f"how much of each defect is found, up to {tail}{NBSP}% false pixels",
        )
    if head == "auspro":
        return (
            f"AUsPRO to {tail}{NBSP}%",
            f"as AUPRO, a defect being found at its saturation area, up to {tail}{NBSP}%",
        )
    return name, ""


def metric_lines(metrics: Mapping[str, Metric]) -> list[MetricLine]:
    """The metrics of one group, one line each, in the order given."""
    return [
        MetricLine(*metric_words(name), *_shown(name, metric), metric.note)
        for name, metric in metrics.items()
    ]


def _shown(name: str, metric: Metric) -> tuple[str, str]:
    """(value, interval) as text; dashes and blanks where they are not defined."""
    if metric.value is None or not math.isfinite(metric.value):
        return DASH, ""
    text = percent if name.startswith(_RATES) else fraction
    if metric.low is None or metric.high is None:
        return text(metric.value), ""
    low, high = text(metric.low), text(metric.high)
    return text(metric.value), f"{low.removesuffix(f'{NBSP}%')}{DASH}{high}"


def group_name(name: str) -> str:
    """A group's name as people read it."""
    return {"all": "All images"}.get(name, name.removeprefix("defect:"))


def group_table(groups: Mapping[str, Mapping[str, Metric]], sizes: object = None) -> GroupTable | None:
    """The main metrics of every group but ``all``, with numbered notes; None when there is no other group.

    ``sizes``: group -> {"good": n, "anomalous": m}, where an evaluation kept it.
    """
    names = [name for name in groups if name != "all"]
    defined = {key for name in names for key, metric in groups[name].items() if metric.value is not None}
    columns = [key for key in SUMMARY if key in defined]
    if not names or not columns:
        return None
    notes: dict[str, str] = {}
    rows = []
    for name in names:
        cells = []
        for key in columns:
            metric = groups[name].get(key, Metric(None))
            counted = re.match(r"\d+ of \d+", metric.note)  # the row's own counts say it
            mark = notes.setdefault(metric.note, str(len(notes) + 1)) if metric.note and not counted else ""
            cells.append((*_shown(key, metric), mark))
        rows.append((group_name(name), _size(sizes, name), cells))
    return GroupTable(
        [metric_words(key)[0] for key in columns], rows, [(mark, note) for note, mark in notes.items()]
    )


def _size(sizes: object, name: str) -> str:
    size = sizes.get(name) if isinstance(sizes, Mapping) else None
    if not isinstance(size, Mapping):
        return ""
    return f"{size.get('good', DASH)} good, {size.get('anomalous', DASH)} defective"
