"""A threshold beyond all good scores seen, by extrapolating their tail: an estimate, never a promise.

Peaks over threshold: the excesses of the highest scores over a high score u are taken for a generalised Pareto
distribution, P(X - u > x) = (1 + xi x / sigma)^(-1 / xi) (Pickands 1975; Coles 2001, "An introduction to statistical
modeling of extreme values", ch. 4). Shape and scale by probability-weighted moments (Hosking, Wallis 1987, "Parameter
and quantile estimation for the generalized Pareto distribution", eq. 8; their k is -xi). The interval is a
percentile bootstrap over the images, u and fit included.

Nothing guarantees that the tail goes on as it began: a rare kind of good part that was not among the images is not in
the fit either. Letters: n scores, t of them in the tail, r a rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from andon.calibrate.conformal import conditional_order, images_needed, promised_rate
from andon.calibrate.thresholds import (
    Values,
    calibrate,
    count_images,
    exact_percent,
    percent,
    place_review_threshold,
    sorted_scores,
)
from andon.errors import CalibrationError
from andon.types import Calibration

TAIL = 0.1  # share of the scores taken for the tail (DuMouchel 1983's upper 10 %)
LEAST_TAIL = 25  # scores; moments of fewer say little
LEAST_IMAGES = 100  # a tail of LEAST_TAIL is then a quarter of them at most
RESAMPLES = 1000


@dataclass(frozen=True)
class TailEstimate:
    """A threshold for a rate by the fitted tail, and how sure that is."""

    threshold: float  # raw; never below the highest score
    rate_low: float  # ends of the bootstrap interval of the true rate at that threshold, 0 to 1
    rate_high: float
    shape: float  # xi: below 0 the tail ends, above 0 it is heavy
    scale: float  # sigma, raw
    tail: int  # t


def fit_pareto(excesses: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shape xi and scale sigma of a generalised Pareto distribution from ``excesses`` (..., t) >= 0, by moments.

    a_s is the mean of x (1 - F)^s; xi = 2 - a_0 / (a_0 - 2 a_1), sigma = 2 a_0 a_1 / (a_0 - 2 a_1). For xi < 1/2, where
    the moments behave; above, the shape comes out too low. Excesses that are all alike have no scale: sigma is 0.

    >>> shape, scale = fit_pareto(np.random.default_rng(0).exponential(2.0, 100_000))
    >>> abs(float(shape)) < 0.02, abs(float(scale) - 2) < 0.05
    (True, True)
    """
    x = np.sort(np.asarray(excesses, dtype=np.float64), axis=-1)
    t = x.shape[-1]
    a0 = x.mean(axis=-1)
    a1 = (x * (np.arange(t - 1, -1, -1) / (t - 1))).mean(axis=-1)
    gap = a0 - 2 * a1
    flat = gap <= 1e-12 * np.maximum(a0, np.finfo(float).tiny)
    gap = np.where(flat, 1.0, gap)
    return np.where(flat, 0.0, 2 - a0 / gap), np.where(flat, 0.0, 2 * a0 * a1 / gap)


def estimate_tail(
    nominal_scores: Values, rate: float, confidence: float = 0.95, seed: int = 0
) -> TailEstimate:
    """The threshold that about ``rate`` of the good parts exceed, by the tail of their scores (n,).

    Raises :class:`CalibrationError` below 100 scores, or where the highest ones are all equal.
    """
    scores = sorted_scores(nominal_scores, "nominal")
    n = len(scores)
    if n < LEAST_IMAGES:
        raise CalibrationError(
            f"a tail can be extrapolated from {LEAST_IMAGES} good images at least, got {n}; "
            f"give {LEAST_IMAGES - n} more, or do without --extrapolate"
        )
    tail = max(LEAST_TAIL, round(TAIL * n))
    start, shape, scale = (float(value) for value in _fitted(scores, tail))
    if scale <= 0:
        raise CalibrationError(
            f"the {tail} highest of {n} good scores are too much alike to extrapolate their tail; do without --extrapolate"
        )
    threshold = max(start + _quantile(rate * n / tail, shape, scale), float(scores[-1]))
    drawn = scores[np.sort(np.random.default_rng(seed).integers(0, n, (RESAMPLES, n)), axis=1)]
    rates = tail / n * _tail_share(threshold, *_fitted(drawn, tail))
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return TailEstimate(threshold, float(low), float(high), shape, scale, tail)


def calibrate_extrapolated(
    nominal_scores: Values,
    *,
    target_rate: float,
    confidence: float = 0.95,
    review_rate: float | None = None,
    map_peaks: Values | None = None,
    seed: int = 0,
) -> Calibration:
    """As :func:`calibrate` where the images suffice to promise ``target_rate``; else a threshold by their tail.

    That one is an estimate, and the statement says so. It is never below the highest score, so ``promised_rate`` is
    what the highest score promises.
    """
    plain = calibrate(
        nominal_scores, target_rate=target_rate, confidence=confidence, review_rate=review_rate, map_peaks=map_peaks
    )  # fmt: skip
    n = len(plain.nominal_scores)
    if conditional_order(n, target_rate, confidence) is not None:
        return plain
    found = estimate_tail(plain.nominal_scores, target_rate, confidence, seed)
    return Calibration(
        threshold=found.threshold,
        review_threshold=place_review_threshold(
            np.array(plain.nominal_scores), found.threshold, min(5 * target_rate, 0.2) if review_rate is None else review_rate
        ),
        map_threshold=plain.map_threshold,
        target_rate=target_rate,
        promised_rate=promised_rate(n, n, confidence),
        confidence=confidence,
        nominal_scores=plain.nominal_scores,
        method="extrapolated",
        statement=_statement(found, n, target_rate, confidence),
    )  # fmt: skip


def _statement(found: TailEstimate, n: int, target_rate: float, confidence: float) -> str:
    sure = f"{100 * confidence:.10g} %"
    return (
        f"an estimate, not a promise: about {exact_percent(target_rate)} false alarms, {sure} bootstrap interval "
        f"{percent(found.rate_low)} to {percent(found.rate_high)}, by a generalised Pareto tail of the {found.tail} highest "
        f"of {count_images(n)}; what can be promised with {sure} confidence is at most "
        f"{percent(promised_rate(n, n, confidence))}, for {exact_percent(target_rate)} "
        f"{count_images(images_needed(target_rate, confidence))} are needed"
    )


def _fitted(
    ascending: NDArray[np.float64], tail: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Start u, shape and scale of the tail of the ``tail`` highest of ``ascending`` (..., n) scores."""
    start = ascending[..., -tail - 1]
    return start, *fit_pareto(ascending[..., -tail:] - start[..., None])


def _quantile(share: float, shape: float, scale: float) -> float:
    """The excess that a ``share`` of the tail exceeds."""
    if abs(shape) < 1e-9:
        return -scale * math.log(share)
    return scale / shape * math.expm1(-shape * math.log(share))


def _tail_share(
    at: float, start: NDArray[np.float64], shape: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The share of each tail above ``at``, no lower than its start; none where it ends before, or has no scale."""
    straight = np.abs(shape) < 1e-9  # an exponential tail
    xi = np.where(straight, 1.0, shape)
    scaled = (at - start) / np.where(scale > 0, scale, 1.0)
    inside = 1 + xi * scaled
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(straight, np.exp(-scaled), inside ** (-1 / xi))
    return np.where((scale > 0) & (straight | (inside > 0)), share, 0.0)
