"""Raw scores -> what to do with the part."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from andon.calibrate.thresholds import Values, sorted_scores
from andon.errors import CalibrationError
from andon.types import Calibration, Decision


def decide(image_score: float, calibration: Calibration) -> Decision:
    """``fail`` above the threshold, ``review`` between the two or when there is none, else ``pass``.

    Raises :class:`CalibrationError` on a score that is not finite: it must not pass in silence.
    """
    if not math.isfinite(image_score):
        raise CalibrationError(
            f"expected a finite image score, got {image_score}: no decision can be made. "
            "Check the image, and the detector on a known good part."
        )
    if math.isnan(calibration.threshold):
        return "review"
    if image_score > calibration.threshold:
        return "fail"
    if calibration.review_threshold is not None and image_score > calibration.review_threshold:
        return "review"
    return "pass"


def score01(image_score: float, calibration: Calibration) -> float:
    """The share of good calibration images that scored lower, #{s_i < score} / (n + 1), in [0, 1).

    One minus the conformal p-value; it never falls when the score rises. 0.0 below all of them, and
    always 0.0 when there are none.

    >>> from andon.calibrate import calibrate
    >>> score01(2.5, calibrate([1.0, 2.0, 3.0]))
    0.5
    """
    nominal = calibration.nominal_scores
    return bisect_left(nominal, image_score) / (len(nominal) + 1)


def outcome_table(
    calibration: Calibration, nominal: Values, anomalous: Values | None = None
) -> dict[str, dict[Decision, int]]:
    """How many nominal and anomalous images would have passed, been reviewed and failed at this calibration.

    >>> from andon.calibrate import calibrate
    >>> outcome_table(calibrate(range(40)), range(40), [38, 60])["anomalous"]
    {'pass': 0, 'review': 1, 'fail': 1}
    """
    table = {"nominal": _count_decisions(calibration, sorted_scores(nominal, "nominal"))}
    if anomalous is not None:
        table["anomalous"] = _count_decisions(calibration, sorted_scores(anomalous, "anomalous"))
    return table


def _count_decisions(calibration: Calibration, scores: NDArray[np.float64]) -> dict[Decision, int]:
    counts: dict[Decision, int] = {"pass": 0, "review": 0, "fail": 0}
    for score in scores.tolist():
        counts[decide(score, calibration)] += 1
    return counts
