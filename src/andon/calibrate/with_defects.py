"""Scores of good and of defective images -> :class:`~andon.types.Calibration`.

Letters: n good images, m defective ones.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.calibrate.conformal import SLACK, check_share, promised_rate
from andon.calibrate.thresholds import (
    Values,
    check_review_rate,
    measured,
    place_map_threshold,
    place_review_threshold,
    sorted_scores,
)
from andon.errors import SettingsError
from andon.types import Calibration

Criterion = Literal["tpr", "f1", "cost", "youden"]


def calibrate_with_defects(
    nominal_scores: Values,
    anomalous_scores: Values,
    *,
    criterion: Criterion = "tpr",
    required_tpr: float = 0.99,
    cost_escape: float = 10.0,
    cost_false_alarm: float = 1.0,
    defect_rate: float | None = None,
    confidence: float = 0.95,
    review_rate: float = 0.05,
    review_tpr: float | None = None,
    map_peaks: Values | None = None,
) -> Calibration:
    """The best threshold by ``criterion`` on good and defective images, with both rates measured there.

    criterion: ``tpr`` the highest threshold at which ``required_tpr`` of the defects fail; ``f1`` the
    largest F1 of the defects; ``youden`` the largest TPR - FPR; ``cost`` the least of ``cost_escape`` x
    escapes + ``cost_false_alarm`` x false alarms, a part being defective with ``defect_rate`` (default: as
    among the images given). Equal thresholds: the lowest, which lets fewer defects escape.
    review_rate, map_peaks: as for :func:`calibrate`; map regions allow at least 1 % of good images.
    review_tpr: the share of defects that must not pass, so fail or be reviewed; the review band is then as narrow as
    that allows, whatever ``review_rate`` says.

    Between two scores the threshold is put in the middle. The statement gives both rates with Wilson
    intervals; they are measured on the images that chose the threshold, so expect somewhat worse.
    ``promised_rate`` is corrected for that choice (union bound over k); ``target_rate`` is the rate to expect
    from the a false alarms measured, (a + 1) / (n + 1).

    Raises :class:`CalibrationError` and :class:`SettingsError` as :func:`calibrate` does.
    """
    check_share("required_tpr", required_tpr, one_allowed=True)
    check_share("confidence", confidence)
    check_review_rate(review_rate)
    if review_tpr is not None:
        check_share("review_tpr", review_tpr, one_allowed=True)
    nominal = sorted_scores(nominal_scores, "nominal")
    anomalous = sorted_scores(anomalous_scores, "anomalous")
    n, m = len(nominal), len(anomalous)
    share = m / (n + m) if defect_rate is None else defect_rate
    _check_costs(cost_escape, cost_false_alarm, share)
    thresholds = _candidates(np.union1d(nominal, anomalous))
    alarms = n - np.searchsorted(nominal, thresholds, side="right")
    caught = m - np.searchsorted(anomalous, thresholds, side="right")
    costs = (share * cost_escape / m, (1 - share) * cost_false_alarm / n)
    best = _best(criterion, alarms, caught, n, m, required_tpr, costs)
    threshold, false_alarms = float(thresholds[best]), int(alarms[best])
    expected_rate = min(false_alarms + 1, n) / (n + 1)
    statement = _measured_statement(false_alarms, n, int(caught[best]), m, confidence)
    if review_tpr is None:
        review = place_review_threshold(nominal, threshold, review_rate)
    else:
        at = _highest_with(caught, review_tpr, m)
        review = float(thresholds[at]) if at < best else None
        statement += _review_statement(review, nominal, anomalous, threshold, confidence)
    return Calibration(
        threshold=threshold,
        review_threshold=review,
        map_threshold=place_map_threshold(map_peaks, n, max(expected_rate, 0.01), threshold),
        target_rate=expected_rate,
        promised_rate=promised_rate(n, n - false_alarms, 1 - (1 - confidence) / n),
        confidence=confidence,
        nominal_scores=tuple(nominal.tolist()),
        method=criterion,
        statement=statement + ("; good and defective scores overlap" if nominal[-1] >= anomalous[0] else ""),
    )


def _best(
    criterion: Criterion,
    alarms: NDArray[np.intp],
    caught: NDArray[np.intp],
    n: int,
    m: int,
    required_tpr: float,
    costs: tuple[float, float],
) -> int:
    """Which threshold is best, by the false alarms and the defects caught at each (T,), thresholds upwards.

    ``costs``: of one escape and of one false alarm among these images.
    """
    if criterion == "tpr":
        return _highest_with(caught, required_tpr, m)
    if criterion == "f1":
        return int(np.argmax(2 * caught / (caught + alarms + m)))
    if criterion == "youden":
        return int(np.argmax(caught * n - alarms * m))
    if criterion == "cost":
        cost = costs[0] * (m - caught) + costs[1] * alarms
        return int(np.flatnonzero(cost <= cost.min() * (1 + SLACK))[0])
    raise SettingsError(f"criterion: expected 'tpr', 'f1', 'cost' or 'youden', got {criterion!r}")


def _highest_with(caught: NDArray[np.intp], share: float, m: int) -> int:
    """The highest threshold at which ``share`` of the m defects lie above, by the ``caught`` at each."""
    return int(np.flatnonzero(caught >= share * m - SLACK)[-1])


def _candidates(distinct: NDArray[np.float64]) -> NDArray[np.float64]:
    """One threshold for each way to divide the ascending ``distinct`` scores: below, between, at the last."""
    below, above = distinct[:-1], distinct[1:]
    middle = below / 2 + above / 2
    middle = np.where((middle >= below) & (middle < above), middle, below)
    return np.concatenate([[np.nextafter(distinct[0], -np.inf)], middle, distinct[-1:]])


def _measured_statement(alarms: int, n: int, caught: int, m: int, confidence: float) -> str:
    return (
        f"on the calibration images {measured(caught, m, confidence)} of the defects and "
        f"{measured(alarms, n, confidence)} of the good parts fail, in brackets the {100 * confidence:.10g} % intervals"
    )


def _review_statement(
    review: float | None,
    nominal: NDArray[np.float64],
    anomalous: NDArray[np.float64],
    threshold: float,
    confidence: float,
) -> str:
    if review is None:
        return "; no review band is needed for the defects that must not pass"
    seen, n, m = int((anomalous > review).sum()), len(nominal), len(anomalous)
    asked = int(((nominal > review) & (nominal <= threshold)).sum())
    return (
        f"; with review {measured(seen, m, confidence)} of the defects do not pass, and a person looks at "
        f"{measured(asked, n, confidence)} of the good parts"
    )


def _check_costs(cost_escape: float, cost_false_alarm: float, defect_rate: float) -> None:
    costs = (cost_escape, cost_false_alarm)
    if not all(0 <= cost < math.inf for cost in costs) or not any(costs):
        raise SettingsError(
            "cost_escape, cost_false_alarm: expected finite costs of at least 0, not both 0, "
            f"got {cost_escape} and {cost_false_alarm}"
        )
    check_share("defect_rate", defect_rate)
