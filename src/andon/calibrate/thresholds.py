"""Scores of good images -> :class:`~andon.types.Calibration`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from andon.calibrate.conformal import (
    SLACK,
    check_share,
    conditional_order,
    images_needed,
    marginal_order,
    promised_rate,
)
from andon.errors import CalibrationError, SettingsError
from andon.metrics import wilson
from andon.types import Calibration

Values: TypeAlias = Sequence[float] | NDArray[np.floating]


def calibrate(
    nominal_scores: Values,
    *,
    target_rate: float = 0.01,
    confidence: float = 0.95,
    review_rate: float | None = None,
    map_peaks: Values | None = None,
    strict: bool = False,
) -> Calibration:
    """The lowest threshold at which at most ``target_rate`` of the good parts fail, as far as n scores allow.

    nominal_scores: raw image scores (n,) of good images that the detector never saw.
    target_rate: share of good parts that may fail. confidence: of that promise, over calibration sets.
    review_rate: share of good parts that a person may be asked to look at besides; default 5 x
    ``target_rate``, at most 0.2; 0 for none. With too few images for it there is no review band.
    map_peaks: per nominal image the largest raw value of its anomaly map; regions are reported above the
    ``1 - target_rate`` quantile of them (their maximum when few), or above the threshold without them.

    The strongest promise that n allows is taken: with ``confidence`` (299 images for 1 % at 95 %), else on
    average over calibration sets (99 for 1 %), else the maximum of the scores and what that promises.
    ``strict``: the first of these or none. Ties only make the true rate lower.

    Raises :class:`CalibrationError` on no scores or such as are not finite, and where ``strict`` cannot be had, with
    the number of images needed; :class:`SettingsError` on rates outside (0, 1).

    >>> calibrate([0.2, 0.4, 0.3] * 100).statement
    'at most 1.0 % false alarms with 95 % confidence, from 300 good images'
    >>> calibrate(range(40)).statement  # doctest: +ELLIPSIS
    'from 40 good images at most 7.2 % false alarms can be promised with 95 % confidence; ...'
    """
    check_share("target_rate", target_rate)
    check_share("confidence", confidence)
    review_rate = min(5 * target_rate, 0.2) if review_rate is None else review_rate
    check_review_rate(review_rate)
    scores = sorted_scores(nominal_scores, "nominal")
    n = len(scores)
    if strict:
        require_images(n, target_rate, confidence)
    k, method, statement = _choose_order(n, target_rate, confidence)
    threshold = float(scores[k - 1])
    return Calibration(
        threshold=threshold,
        review_threshold=place_review_threshold(scores, threshold, review_rate),
        map_threshold=place_map_threshold(map_peaks, n, target_rate, threshold),
        target_rate=target_rate,
        promised_rate=promised_rate(n, k, confidence),
        confidence=confidence,
        nominal_scores=tuple(scores.tolist()),
        method=method,
        statement=statement,
    )


def uncalibrated(
    train_peaks: Values = (), *, target_rate: float = 0.01, confidence: float = 0.95
) -> Calibration:
    """A calibration without a threshold: every image is for review, and the sentence says why.

    For detectors fitted when no good image was left over. train_peaks: the largest raw map values of the
    fitted images, if known; regions are shown above the largest (often too low: the detector saw them).

    >>> from andon.calibrate import decide
    >>> decide(123.0, uncalibrated())
    'review'
    """
    check_share("target_rate", target_rate)
    check_share("confidence", confidence)
    peaks = sorted_scores(train_peaks, "map peak") if len(train_peaks) else np.array([math.nan])
    return Calibration(
        threshold=math.nan,
        review_threshold=None,
        map_threshold=float(peaks[-1]),
        target_rate=target_rate,
        promised_rate=1.0,
        confidence=confidence,
        nominal_scores=(),
        method="none",
        statement="no threshold: calibrate with good images",
    )


def place_review_threshold(scores: NDArray[np.float64], threshold: float, review_rate: float) -> float | None:
    """The nominal score with about ``review_rate`` of the good parts from it to the threshold, or None."""
    passing = int(np.searchsorted(scores, threshold, side="right"))
    reviewed = math.floor(review_rate * (len(scores) + 1) + SLACK)
    if not 1 <= reviewed < passing or scores[passing - reviewed - 1] >= threshold:
        return None
    return float(scores[passing - reviewed - 1])


def place_map_threshold(map_peaks: Values | None, n: int, rate: float, threshold: float) -> float:
    """The ``1 - rate`` conformal quantile of ``map_peaks``, or their maximum; ``threshold`` without them."""
    if map_peaks is None:
        return threshold
    peaks = sorted_scores(map_peaks, "map peak")
    if len(peaks) != n:
        raise CalibrationError(
            f"map_peaks: expected one for each of the {n} nominal scores, got {len(peaks)}"
        )
    return float(peaks[min(n, max(1, marginal_order(n, rate))) - 1])


def sorted_scores(values: Values, kind: str) -> NDArray[np.float64]:
    """``values`` ascending, as float64 (n,), n >= 1, all finite."""
    try:
        scores = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{kind} scores: expected numbers, got {values!r:.80}") from error
    if scores.ndim != 1 or not len(scores):
        raise CalibrationError(
            f"{kind} scores: expected one number an image, at least one, got an array of shape "
            f"{scores.shape}. A threshold needs images that the detector was not fitted on."
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise CalibrationError(
            f"{kind} scores: expected finite numbers, got {scores[wrong[0]]} for image {wrong[0]} "
            f"({len(wrong)} such). Look at these images; leave out those that could not be scored."
        )
    return np.sort(scores)


def check_review_rate(value: float) -> None:
    """Raise :class:`SettingsError` unless ``value`` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise SettingsError(f"review_rate: expected a share from 0 (no review) to below 1, got {value}")


def percent(rate: float) -> str:
    """``1.0 %``: two digits that count, at least one decimal."""
    value = 100 * rate
    decimals = 1 if value <= 0 else max(1, 1 - math.floor(math.log10(value)))
    whole, _, rest = f"{value:.{decimals}f}".partition(".")
    return f"{whole}.{rest.rstrip('0') or '0'} %"


def measured(count: int, total: int, confidence: float = 0.95) -> str:
    """A share that was counted, with its Wilson interval.

    >>> measured(3, 40)
    '7.5 % (3 of 40; 2.6 % to 19.9 %)'
    """
    low, high = wilson(count, total, confidence)
    return f"{percent(count / total)} ({count:,} of {total:,}; {percent(low)} to {percent(high)})"


def exact_percent(rate: float) -> str:
    """``1.25 %``: a rate that was asked for, not rounded; at least one decimal."""
    text = f"{100 * rate:.10f}".rstrip("0")
    return f"{text}0 %" if text.endswith(".") else f"{text} %"


def require_images(n: int, target_rate: float, confidence: float) -> None:
    """Raise :class:`CalibrationError` unless n scores suffice to promise ``target_rate`` with ``confidence``."""
    needed = images_needed(target_rate, confidence)
    if n < needed:
        held = (
            f"From these at most {percent(promised_rate(n, n, confidence))} can be promised: ask for that rate, or do"
            if n
            else "Do"
        )
        raise CalibrationError(
            f"no threshold: {exact_percent(target_rate)} false alarms cannot be promised with {100 * confidence:.10g} % "
            f"confidence from {count_images(n)}; {needed:,} are needed, {needed - n:,} more. {held} "
            "without --strict (strict=False) and read the statement."
        )


def _choose_order(n: int, target_rate: float, confidence: float) -> tuple[int, str, str]:
    """The order k of the threshold among n scores, the method and the statement."""
    target, sure, images = exact_percent(target_rate), f"{100 * confidence:.10g} %", count_images(n)
    needed = f"{count_images(images_needed(target_rate, confidence))} are needed"
    k = conditional_order(n, target_rate, confidence)
    if k is not None:
        return k, "conformal", f"at most {target} false alarms with {sure} confidence, from {images}"
    k = marginal_order(n, target_rate)
    held = percent(promised_rate(n, min(k, n), confidence))
    if k > n:
        promise = f"from {images} at most {held} false alarms can be promised with {sure} confidence"
        return n, "max", f"{promise}; for {target} {needed}"
    promise = f"at most {target} false alarms on average over calibration sets, from {images}"
    return k, "conformal", f"{promise}; with {sure} confidence at most {held}, for {target} {needed}"


def count_images(n: int) -> str:
    return f"{n:,} good image{'' if n == 1 else 's'}"
