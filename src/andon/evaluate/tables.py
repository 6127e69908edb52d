"""An :class:`~andon.types.Evaluation` as text: a table for the terminal, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from andon.cells import csv_cell, finite
from andon.types import Evaluation, Metric

_NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image average precision",
    "f1_max": "best F1",
    "tpr_at_tnr_99": "caught, 1 % false alarms",
    "tpr_at_tnr_95": "caught, 5 % false alarms",
    "tpr_at_tnr_90": "caught, 10 % false alarms",
    "fpr": "false alarms at the threshold",
    "fnr": "defects not failed at the threshold",
    "review_rate": "sent to review",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel average precision",
}
SUMMARY = (  # the figures that a line of the table of groups has room for
    "image_auroc",
    "image_ap",
    "fpr",
    "fnr",
    "pixel_auroc",
    "aupro_30",
    "auspro_5",
)


def metric_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row a figure: group, metric, value, low, high, note. What is not defined is None."""
    return [
        {"group": group, "metric": name, **asdict(metric)}
        for group, metrics in evaluation.groups.items()
        for name, metric in metrics.items()
    ]


def score_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row an image, in the order of the samples; the score of one that could not be read is None."""
    return [{**asdict(row), "image_score": finite(row.image_score)} for row in evaluation.rows]


def metrics_csv(evaluation: Evaluation) -> str:
    """The figures as CSV, an empty field for what is not defined."""
    return _csv(metric_rows(evaluation), ("group", "metric", "value", "low", "high", "note"))


def scores_csv(evaluation: Evaluation) -> str:
    """The raw scores as CSV, one row an image."""
    names = ("path", "category", "defect_type", "is_anomalous", "image_score", "decision", "error")
    return _csv(score_rows(evaluation), names)


def to_json(evaluation: Evaluation) -> str:
    """All of it as strict JSON: no NaN, null for what is not defined."""
    whole = {
        "threshold": None if evaluation.threshold is None else finite(evaluation.threshold),
        "settings": evaluation.settings,
        "groups": {
            group: {name: asdict(m) for name, m in ms.items()} for group, ms in evaluation.groups.items()
        },
        "curves": {name: asdict(curve) for name, curve in evaluation.curves.items()},
        "rows": score_rows(evaluation),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def format_table(evaluation: Evaluation) -> str:
    """Plain text: every figure over all images with its interval, then one line a group."""
    sizes = _sizes(evaluation)
    lines = [f"all: {_images(sizes.get('all', {}))}"]
    notes = evaluation.settings.get("notes")
    notes = notes if isinstance(notes, list) else []
    lines += _aligned(
        [_metric_cells(name, metric, notes) for name, metric in evaluation.groups["all"].items()]
    )
    others = [group for group in evaluation.groups if group != "all"]
    if others:
        lines += ["", *_group_lines(evaluation, others, sizes)]
    if notes:
        lines += ["", *(f"note: {note}" for note in notes)]
    return "\n".join(line.rstrip() for line in lines)


def metric_name(name: str) -> str:
    """A metric's name for people.

    >>> metric_name("auspro_5"), metric_name("image_auroc")
    ('AUsPRO up to 5 % false positives', 'image AUROC')
    """
    for prefix, title in (("aupro_", "AUPRO"), ("auspro_", "AUsPRO")):
        if name.startswith(prefix):
            return f"{title} up to {name.removeprefix(prefix)} % false positives"
    return _NAMES.get(name, name)


def _metric_cells(name: str, metric: Metric, said: Sequence[object]) -> list[str]:
    """Name, value, interval, and the note unless it is ``said`` for the whole evaluation below."""
    ends = "" if metric.low is None or metric.high is None else f"({metric.low:.4f} to {metric.high:.4f})"
    return ["  " + metric_name(name), _number(metric), ends, "" if metric.note in said else metric.note]


def _group_lines(
    evaluation: Evaluation, groups: Sequence[str], sizes: Mapping[str, Mapping[str, int]]
) -> list[str]:
    shown = [
        name
        for name in SUMMARY
        if any(evaluation.groups[g].get(name, Metric(None)).value is not None for g in groups)
    ]
    head = ["group", "good", "anomalous", *(_short(name) for name in shown)]
    rows = [
        [group, *(str(sizes.get(group, {}).get(kind, "-")) for kind in ("good", "anomalous"))]
        + [_group_cell(name, evaluation.groups[group].get(name, Metric(None))) for name in shown]
        for group in groups
    ]
    return _aligned([head, *rows])


def _group_cell(name: str, metric: Metric) -> str:
    """A figure; a rate at the threshold with its interval, as a group has few images."""
    known = name in ("fpr", "fnr") and metric.low is not None and metric.high is not None
    return f"{_number(metric)} ({metric.low:.3f} to {metric.high:.3f})" if known else _number(metric)


def _short(name: str) -> str:
    """A column's heading.

    >>> _short("auspro_5"), _short("image_ap"), _short("fnr")
    ('AUsPRO 5 %', 'image AP', 'not failed')
    """
    for prefix, title in (("aupro_", "AUPRO"), ("auspro_", "AUsPRO")):
        if name.startswith(prefix):
            return f"{title} {name.removeprefix(prefix)} %"
    special = {"fpr": "false alarms", "fnr": "not failed", "image_ap": "image AP"}
    return special.get(name, metric_name(name))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _number(metric: Metric) -> str:
    return "-" if metric.value is None else f"{metric.value:.4f}"


def _sizes(evaluation: Evaluation) -> Mapping[str, Mapping[str, int]]:
    sizes = evaluation.settings.get("images")
    return sizes if isinstance(sizes, dict) else {}


def _images(size: Mapping[str, int]) -> str:
    return f"{size.get('good', '?')} good and {size.get('anomalous', '?')} anomalous images"


def _csv(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()
