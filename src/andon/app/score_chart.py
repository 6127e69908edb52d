"""Scores and thresholds as a drawing for the browser: a Vega-Lite specification, plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.report.figures import bin_edges
from andon.types import Calibration

GOOD, BAD = "#0072b2", "#d55e00"  # told apart by colour-blind people, and by place
NOW, NEW = "#8a8a8a", "#00795a"
HEIGHT = 280  # pixels of the drawing
_LINE = 15  # pixels from one name of a threshold to the next
_WIDE = 30  # factor that positive scores span from which their axis is logarithmic


def score_chart(
    nominal: Sequence[float],
    anomalous: Sequence[float],
    new: Calibration,
    now: Calibration | None,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The raw scores as bars, good ones upwards and bad ones downwards, and a line for each threshold.

    ``new``: the calibration that is weighed; ``now``: the one in use, drawn where it is another one; None where it is of
    other scores. ``labels``: of ``good``, ``bad``, ``new``, ``review``, ``now``, and of the axes ``score`` and ``images``.
    No drawing, an empty dictionary, without any score.
    """
    lines = _lines(new, now, labels)
    values = np.array([*nominal, *anomalous, *(line["at"] for line in lines)], dtype=np.float64)
    if not len(nominal) + len(anomalous):
        return {}
    log = bool(values.min() > 0 and values.max() > _WIDE * values.min())
    edges = bin_edges(values, new.threshold if math.isfinite(new.threshold) else None, log)
    bars = [
        *_bars(labels["good"], nominal, edges, 1),
        *_bars(labels["bad"], anomalous, edges, -1),
    ]
    kinds = [labels["good"], labels["bad"]] if len(anomalous) else [labels["good"]]
    scale = {
        "type": "log" if log else "linear",
        "domain": [float(edges[0]), float(edges[-1])],
        "nice": False,
        "zero": False,
    }
    place = {
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": labels["score"], "grid": False, "format": "~g"},
    }
    return {
        "height": HEIGHT,
        "layer": [_bar_layer(bars, place, kinds, labels), _line_layer(lines, place), _name_layer(lines, place)],
        "resolve": {"scale": {"y": "independent", "color": "independent"}},
    }  # fmt: skip


def _bars(kind: str, values: Sequence[float], edges: NDArray[np.float64], sign: int) -> list[dict[str, Any]]:
    """A bar for each interval that holds scores; one at an edge belongs to the bar on its left, as it passes there."""
    inside = 1e-9 * float(np.diff(edges).min())
    counts, _ = np.histogram(np.asarray(values, dtype=np.float64) - inside, edges)
    return [
        {"kind": kind, "from": low, "to": high, "count": sign * count, "images": count}
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if count
    ]


def _lines(new: Calibration, now: Calibration | None, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The thresholds there are: the new one, where its review begins, and the one in use where it is another."""
    found = [
        (labels["new"], new.threshold, NEW, [1, 0]),
        (labels["review"], new.review_threshold, NEW, [5, 3]),
    ]
    if now is not None and now.threshold != new.threshold:
        found.append((labels["now"], now.threshold, NOW, [2, 2]))
    there = [line for line in found if line[1] is not None and math.isfinite(line[1])]
    return [
        {"name": name, "at": at, "colour": colour, "dash": dash, "row": 2 + _LINE * row}
        for row, (name, at, colour, dash) in enumerate(there)
    ]


def _bar_layer(
    bars: list[dict[str, Any]], place: Mapping[str, Any], kinds: list[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    count = {"title": labels["images"], "labelExpr": "format(abs(datum.value), 'd')", "tickMinStep": 1}
    return {
        "data": {"values": bars},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {"field": "from", **place},
            "x2": {"field": "to"},
            "y": {"field": "count", "type": "quantitative", "scale": _room(bars), "axis": count},
            "y2": {"datum": 0},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": kinds, "range": [GOOD, BAD][: len(kinds)]},
                "legend": {"title": None, "orient": "top"},
            },
            "tooltip": [
                {"field": "kind", "title": " "},
                {"field": "images", "title": labels["images"]},
                {"field": "from", "title": "≥", "format": ".4g"},
                {"field": "to", "title": "≤", "format": ".4g"},
            ],
        },
    }


def _room(bars: list[dict[str, Any]]) -> dict[str, Any]:
    """A scale with all bars in it, and room above them for the lines' names."""
    counts = [int(bar["count"]) for bar in bars]
    return {"domain": [1.05 * min(0, *counts), 1.4 * max(1, *counts)], "nice": False}


def _line_layer(lines: list[dict[str, Any]], place: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": {"values": lines},
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "at", **place},
            "color": {"field": "colour", "type": "nominal", "scale": None},
            "strokeDash": {"field": "dash", "type": "nominal", "scale": None},
            "tooltip": [{"field": "name", "title": " "}, {"field": "at", "title": " ", "format": ".6g"}],
        },
    }


def _name_layer(lines: list[dict[str, Any]], place: Mapping[str, Any]) -> dict[str, Any]:
    """The lines' names, one below the other, so that those of near lines do not meet."""
    return {
        "data": {"values": lines},
        "mark": {"type": "text", "align": "left", "baseline": "top", "dx": 5, "fontSize": 12},
        "encoding": {
            "x": {"field": "at", **place},
            "y": {"field": "row", "type": "quantitative", "scale": None, "axis": None},
            "text": {"field": "name"},
            "color": {"field": "colour", "type": "nominal", "scale": None},
        },
    }
