"""Another false-alarm rate, tried on what was inspected and on the calibration set; nothing is written anywhere."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from andon.calibrate import outcome_table, promised_rate
from andon.calibrate.conformal import marginal_order
from andon.calibrate.thresholds import place_review_threshold
from andon.metrics import wilson
from andon.runtime.words import Words, decimal, percent, whole
from andon.types import Calibration

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
BARS = 30  # of the histogram, at most
REVIEWED, MOST_REVIEWED = 5, 0.2  # share of good parts for review: so many times the rate, at most so many


def rates(calibration: Calibration) -> tuple[float, ...]:
    """The rates that can be tried, upwards, the detector's own among them; none where it has no threshold."""
    if not calibration.nominal_scores or math.isnan(calibration.threshold):
        return ()
    return tuple(sorted({*RATES, calibration.target_rate}))


def at_rate(calibration: Calibration, rate: float) -> Calibration:
    """``calibration`` as it would be for another false-alarm rate, from the same good images; itself at its own rate.

    The threshold that holds ``rate`` on average over calibration sets, as far as there are images for it; never above
    the detector's own for a higher rate, nor below it for a lower one. What is promised of it with the confidence is
    in ``promised_rate``. Regions are cut at the same map threshold: the slider moves the decision, not the picture.
    """
    nominal = calibration.nominal_scores
    if rate == calibration.target_rate or not nominal or math.isnan(calibration.threshold):
        return calibration
    n = len(nominal)
    wanted = nominal[min(n, marginal_order(n, rate)) - 1]
    threshold = (min if rate > calibration.target_rate else max)(wanted, calibration.threshold)
    below = bisect_right(nominal, threshold)
    return replace(
        calibration,
        threshold=threshold,
        review_threshold=place_review_threshold(
            np.asarray(nominal), threshold, min(REVIEWED * rate, MOST_REVIEWED)
        ),
        target_rate=rate,
        promised_rate=promised_rate(n, below, calibration.confidence) if below else 1.0,
        statement="",
    )


@dataclass(frozen=True)
class Effect:
    """What a threshold does to the good images of the calibration."""

    failed: int
    review: int
    total: int


def effect_of(calibration: Calibration) -> Effect:
    """How many of the calibration's own good images would fail, and be for review."""
    counts = outcome_table(calibration, calibration.nominal_scores)["nominal"]
    return Effect(counts["fail"], counts["review"], len(calibration.nominal_scores))


def effect_text(calibration: Calibration, words: Words) -> str:
    """The effect and the promise of ``calibration``, as a sentence."""
    effect = effect_of(calibration)
    low, high = wilson(effect.failed, effect.total, calibration.confidence)
    return words["trial.effect"].format(
        threshold=decimal(words, f"{calibration.threshold:.4g}"),
        total=whole(words, effect.total),
        failed=whole(words, effect.failed),
        review=whole(words, effect.review),
        low=percent(words, low),
        high=percent(words, high),
        promised=percent(words, calibration.promised_rate),
        confidence=percent(words, calibration.confidence),
    )


def histogram(scores: Sequence[float], bars: int | None = None) -> list[dict[str, float]]:
    """``scores`` counted in ``bars`` equal steps from the smallest to the largest: from, to, count.

    Without ``bars`` there are twice the root of the number of scores, at most ``BARS``: few scores make few, wide bars.

    >>> histogram([0.0, 1.0, 1.0, 2.0], bars=2)
    [{'from': 0.0, 'to': 1.0, 'count': 1}, {'from': 1.0, 'to': 2.0, 'count': 3}]
    """
    low, high = min(scores), max(scores)
    bars = bars or min(BARS, math.ceil(2 * math.sqrt(len(scores))))
    step = (high - low) / bars or 1.0
    counts = [0] * bars
    for score in scores:
        counts[min(int((score - low) / step), bars - 1)] += 1
    return [
        {"from": low + at * step, "to": low + (at + 1) * step, "count": count}
        for at, count in enumerate(counts)
    ]


def chart(calibration: Calibration, image_score: float | None, words: Words) -> dict[str, Any]:
    """A Vega-Lite picture: the good images' scores, the threshold, and where this image lies."""
    rules = [{"at": calibration.threshold, "what": words["trial.threshold"]}]
    if image_score is not None:
        rules.append({"at": image_score, "what": words["trial.image"]})
    score: dict[str, Any] = {"type": "quantitative", "title": words["trial.score"], "scale": {"zero": False}}
    bars = {
        "data": {"values": histogram(calibration.nominal_scores)},
        "mark": {"type": "bar", "color": "#8aa0b4"},
        "encoding": {
            "x": {"field": "from", "bin": {"binned": True}, **score},
            "x2": {"field": "to"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "title": words["trial.images"],
                "axis": {"tickMinStep": 1},
            },
        },
    }
    lines = {
        "data": {"values": rules},
        "mark": {"type": "rule", "size": 3},
        "encoding": {
            "x": {"field": "at", **score},
            "color": {"field": "what", "type": "nominal", "legend": {"orient": "top", "title": None},
                      "scale": {"domain": [rule["what"] for rule in rules], "range": ["#d55e00", "#0072b2"]}},
            "strokeDash": {"field": "what", "type": "nominal", "legend": None,
                           "scale": {"domain": [rule["what"] for rule in rules], "range": [[1, 0], [6, 3]]}},
        },
    }  # fmt: skip
    return {"height": 220, "layer": [bars, lines]}
