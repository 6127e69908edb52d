"""Order statistics of n scores, and the rates that they hold: pure arithmetic.

Letters: n scores, k the order of the threshold among them (1-based), r a rate, c a confidence.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError

SLACK = 1e-9  # so that 100 * 0.99 counts as 99


def images_needed(target_rate: float, confidence: float) -> int:
    """The least number of good images with which ``target_rate`` can be promised with ``confidence``.

    The n with (1 - r)^n <= 1 - c: the threshold is then the largest score (Wilks 1941).

    >>> images_needed(0.01, 0.95), images_needed(0.001, 0.95)
    (299, 2995)
    """
    check_share("target_rate", target_rate)
    check_share("confidence", confidence)
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-target_rate) - SLACK))


def promised_rate(n: int, k: int, confidence: float) -> float:
    """The false-alarm rate that the k-th smallest of n nominal scores holds with ``confidence``.

    The ``confidence`` quantile of Beta(n + 1 - k, k), by bisection on the binomial tail; k = n gives
    1 - (1 - c)^(1/n). 1.0 for k = 0, a threshold below every score.

    >>> round(promised_rate(299, 299, 0.95), 5)
    0.00997
    """
    check_share("confidence", confidence)
    if not 0 <= k <= n or n < 1:
        raise SettingsError(f"promised_rate: expected 0 <= k <= n and n >= 1, got k={k}, n={n}")
    if k == 0:
        return 1.0
    low, high = 0.0, 1.0
    coefficients = _log_binomials(n, n - k)
    while low < (middle := (low + high) / 2) < high:
        held = _probabilities(n, coefficients, middle).sum() <= 1 - confidence
        low, high = (low, middle) if held else (middle, high)
    return high


def conditional_order(n: int, rate: float, confidence: float) -> int | None:
    """The least k with P(Binomial(n, rate) <= n - k) <= 1 - confidence; None where even k = n has more."""
    tail = np.cumsum(_probabilities(n, _log_binomials(n, n), rate))
    above = int(np.searchsorted(tail, (1 - confidence) * (1 + SLACK), side="right"))
    return n - above + 1 if above else None


def marginal_order(n: int, rate: float) -> int:
    """The least k with (n + 1 - k) / (n + 1) <= rate; n + 1 where no k <= n has it."""
    return math.ceil((n + 1) * (1 - rate) - SLACK)


def check_share(name: str, value: float, *, one_allowed: bool = False) -> None:
    """Raise :class:`SettingsError`, which calls ``value`` by ``name``, unless it lies in (0, 1); 1 may be allowed."""
    if not (0 < value < 1 or (one_allowed and value == 1)):
        raise SettingsError(f"{name}: expected a share between 0 and 1, such as 0.01 for 1 %, got {value}")


def _log_binomials(n: int, last: int) -> NDArray[np.float64]:
    """log C(n, j) for j = 0 ... last."""
    j = np.arange(1, last + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(np.log((n + 1 - j) / j))])


def _probabilities(n: int, log_binomials: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """P(Binomial(n, rate) = j) for the j of ``log_binomials``."""
    j = np.arange(len(log_binomials))
    return np.exp(log_binomials + j * math.log(rate) + (n - j) * math.log1p(-rate))
