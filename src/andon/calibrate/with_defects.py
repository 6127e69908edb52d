"""Scores of good and of defective images -> :class:`~andon.types.Calibration`.

Letters: n good images, m defective ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from andon.calibrate.conformal import SLACK, check_share, promised_rate
from andon.calibrate.costs import Costs, cheapest_band, expected_cost
from andon.calibrate.decision import outcome_table
from andon.calibrate.thresholds import (
    Values,
    check_review_rate,
    measured,
    percent,
    place_map_threshold,
    place_review_threshold,
    sorted_scores,
)
from andon.errors import SettingsError
from andon.types import Calibration

Floats = NDArray[np.float64]
Criterion = Literal["tpr", "f1", "cost", "youden"]
_NO_BAND = "no review band is needed for the defects that must not pass"


def calibrate_with_defects(
    nominal_scores: Values,
    anomalous_scores: Values,
    *,
    criterion: Criterion = "tpr",
    required_tpr: float = 0.99,
    cost_escape: float = 10.0,
    cost_false_alarm: float = 1.0,
    cost_review: float | None = None,
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
    cost_review: of a person's look at a part, for ``cost``: both thresholds are then set together, at the least expected
    cost of escapes, false alarms and reviews (:func:`andon.calibrate.costs.cheapest_band`), whatever ``review_rate`` says.
    review_rate, map_peaks: as for :func:`calibrate`; map regions allow at least 1 % of good images.
    review_tpr: the share of defects that must not pass, so fail or be reviewed; the review band is then as narrow as
    that allows, whatever ``review_rate`` says.

    Between two scores the threshold is put in the middle. The statement gives both rates with Wilson
    intervals; they are measured on the images that chose the threshold, so expect somewhat worse.
    ``promised_rate`` is corrected for that choice (union bound over k); ``target_rate`` is the rate to expect
    from the a false alarms measured, (a + 1) / (n + 1).

    Raises :class:`CalibrationError` and :class:`SettingsError` as :func:`calibrate` does.
    """
    check_share("confidence", confidence)
    check_review_rate(review_rate)
    check_criterion(criterion, required_tpr, review_tpr, cost_review)
    nominal = sorted_scores(nominal_scores, "nominal")
    anomalous = sorted_scores(anomalous_scores, "anomalous")
    n, m = len(nominal), len(anomalous)
    share = m / (n + m) if defect_rate is None else defect_rate
    costs = Costs(cost_escape, cost_false_alarm, share, cost_review)
    thresholds = _candidates(np.union1d(nominal, anomalous))
    alarms = n - np.searchsorted(nominal, thresholds, side="right")
    caught = m - np.searchsorted(anomalous, thresholds, side="right")
    best = _best(criterion, alarms, caught, n, m, required_tpr, costs)
    threshold, false_alarms = float(thresholds[best]), int(alarms[best])
    expected_rate = min(false_alarms + 1, n) / (n + 1)
    review: float | None
    if cost_review is None and review_tpr is None:
        review = place_review_threshold(nominal, threshold, review_rate)
    else:
        lower = (
            cheapest_band(alarms, caught, n, m, costs)[0]
            if review_tpr is None
            else _highest_with(caught, review_tpr, m)
        )
        review = float(thresholds[lower]) if lower < best else None
    made = Calibration(
        threshold=threshold,
        review_threshold=review,
        map_threshold=place_map_threshold(map_peaks, n, max(expected_rate, 0.01), threshold),
        target_rate=expected_rate,
        promised_rate=promised_rate(n, n - false_alarms, 1 - (1 - confidence) / n),
        confidence=confidence,
        nominal_scores=tuple(nominal.tolist()),
        method=criterion,
        statement="",
    )
    no_band = _no_band_pays(costs) if cost_review is not None else _NO_BAND if review_tpr is not None else ""
    return replace(made, statement=_statement(made, nominal, anomalous, costs, no_band))


def check_criterion(
    criterion: str, required_tpr: float, review_tpr: float | None, cost_review: float | None
) -> None:
    """Raise :class:`SettingsError` for shares outside their ranges, and for rules that do not go together."""
    if criterion not in get_args(Criterion):
        raise SettingsError(f"criterion: expected 'tpr', 'f1', 'cost' or 'youden', got {criterion!r}")
    check_share("required_tpr", required_tpr, one_allowed=True)
    if review_tpr is not None:
        check_share("review_tpr", review_tpr, one_allowed=True)
    if cost_review is not None and criterion != "cost":
        raise SettingsError(f"cost_review is for the criterion 'cost', got {criterion!r}")
    if cost_review is not None and review_tpr is not None:
        raise SettingsError("cost_review and review_tpr both set the review band; give one of them")


def _best(
    criterion: Criterion,
    alarms: NDArray[np.intp],
    caught: NDArray[np.intp],
    n: int,
    m: int,
    required_tpr: float,
    costs: Costs,
) -> int:
    """Which threshold is best, by the false alarms and the defects caught at each (T,), thresholds upwards."""
    if criterion == "tpr":
        return _highest_with(caught, required_tpr, m)
    if criterion == "f1":
        return int(np.argmax(2 * caught / (caught + alarms + m)))
    if criterion == "youden":
        return int(np.argmax(caught * n - alarms * m))
    return cheapest_band(alarms, caught, n, m, costs)[1]


def _highest_with(caught: NDArray[np.intp], share: float, m: int) -> int:
    """The highest threshold at which ``share`` of the m defects lie above, by the ``caught`` at each."""
    return int(np.flatnonzero(caught >= share * m - SLACK)[-1])


def _candidates(distinct: Floats) -> Floats:
    """One threshold for each way to divide the ascending ``distinct`` scores: below, between, at the last."""
    below, above = distinct[:-1], distinct[1:]
    middle = below / 2 + above / 2
    middle = np.where((middle >= below) & (middle < above), middle, below)
    return np.concatenate([[np.nextafter(distinct[0], -np.inf)], middle, distinct[-1:]])


def _statement(made: Calibration, nominal: Floats, anomalous: Floats, costs: Costs, no_band: str) -> str:
    """What ``made`` comes to on these images.

    ``no_band``: what is said in the place of a review band that was looked for and is none; "" where none was looked for.
    """
    caught, alarms = int((anomalous > made.threshold).sum()), int((nominal > made.threshold).sum())
    said = [
        f"on the calibration images {measured(caught, len(anomalous), made.confidence)} of the defects and "
        f"{measured(alarms, len(nominal), made.confidence)} of the good parts fail, in brackets the "
        f"{100 * made.confidence:.10g} % intervals"
    ]
    if no_band:
        said.append(no_band if made.review_threshold is None else _review_statement(made, nominal, anomalous))
    if made.method == "cost":
        cost = expected_cost(made, nominal, anomalous, costs).total
        said.append(f"expected cost a part {cost:.4g}, {percent(costs.defect_rate)} of them defective")
    if nominal[-1] >= anomalous[0]:
        said.append("good and defective scores overlap")
    return "; ".join(said)


def _review_statement(made: Calibration, nominal: Floats, anomalous: Floats) -> str:
    """What the review band of ``made`` comes to on these images."""
    counts = outcome_table(made, nominal, anomalous)
    asked, passed = counts["nominal"]["review"], counts["anomalous"]["pass"]
    n, m = len(nominal), len(anomalous)
    return (
        f"with review {measured(m - passed, m, made.confidence)} of the defects do not pass, and a person looks at "
        f"{measured(asked, n, made.confidence)} of the good parts"
    )


def _no_band_pays(costs: Costs) -> str:
    """Why the cheapest review band is none."""
    if costs.review is not None and costs.review >= costs.dearest_review:
        return (
            f"no review band: a review at {costs.review:g} is never worth its price; with an escape at {costs.escape:g} and "
            f"a false alarm at {costs.false_alarm:g} it must cost less than {costs.dearest_review:.4g}"
        )
    return f"no review band: on these images none saves what its reviews at {costs.review:g} each would cost"
