"""Whether several groups of numbers lie alike: the rank test of Kruskal and Wallis.

W. Kruskal, W. Wallis, "Use of ranks in one-criterion variance analysis", J. Am. Stat. Assoc. 47, 1952.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from andon.errors import MetricError


def kruskal_wallis(groups: Sequence[ArrayLike]) -> tuple[float, float]:
    """H, corrected for ties, and its p-value by the chi-squared distribution with one degree less than groups.

    Small p: the groups do not all lie alike. With two groups it is the two-sided rank test of Wilcoxon, Mann and
    Whitney in its normal approximation. Good from about five numbers a group. p is 1 where all numbers are equal.

    Raises :class:`MetricError` for fewer than two groups, an empty one, or numbers that are not finite.

    >>> round(kruskal_wallis([[1, 2, 3, 4, 5], [4, 5, 6, 7, 8]])[1], 4)
    0.0273
    """
    samples = [np.asarray(group, dtype=np.float64).ravel() for group in groups]
    if len(samples) < 2 or not all(len(sample) for sample in samples):
        raise MetricError(
            f"expected at least two groups, none of them empty; got sizes {list(map(len, samples))}"
        )
    pooled = np.concatenate(samples)
    if not np.isfinite(pooled).all():
        raise MetricError("expected finite numbers in every group")
    n = len(pooled)
    ranks, ties = _ranks(pooled)
    if len(ties) == 1:
        return 0.0, 1.0
    sums = [
        part.sum() ** 2 / len(part) for part in np.split(ranks, np.cumsum([len(s) for s in samples])[:-1])
    ]
    h = 12 / (n * (n + 1)) * math.fsum(sums) - 3 * (n + 1)
    h = max(0.0, h / (1 - float((ties**3 - ties).sum()) / (n**3 - n)))
    return h, chi_squared_tail(h, len(samples) - 1)


def chi_squared_tail(x: float, degrees: int) -> float:
    """P(a chi-squared number of ``degrees`` >= 1 is at least ``x`` >= 0).

    For whole degrees a finite sum (Abramowitz and Stegun 1964, 26.4.4 and 26.4.5).

    >>> round(chi_squared_tail(3.841, 1), 4), round(chi_squared_tail(5.991, 2), 4)
    (0.05, 0.05)
    """
    half, odd = x / 2, degrees % 2
    if half <= 0:
        return 1.0
    first = math.erfc(math.sqrt(half)) if odd else 0.0
    powers = [j + odd / 2 for j in range((degrees + 1) // 2 if not odd else (degrees - 1) // 2)]
    terms = [math.exp(a * math.log(half) - half - math.lgamma(a + 1)) for a in powers]
    return min(1.0, first + math.fsum(terms))


def _ranks(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean rank, from 1, of each of ``values``, and how often each distinct one occurs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse], counts.astype(np.float64)
