"""Do two samples come from the same source? Kolmogorov-Smirnov with a permutation p-value.

- The statistic is the largest distance between the two empirical distribution functions (Smirnov 1939), ties included.
- Its p-value is (1 + b) / (1 + B): of B random relabellings, b give a statistic at least as large (Phipson & Smyth 2010,
  "Permutation p-values should never be zero"). Exact under exchangeability, whatever the distribution, ties included.

n, m: the sizes of the samples; B: permutations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError

Values = NDArray[np.float64]
PERMUTATIONS = 1999
MOST = 4000  # values of each sample that are permuted; more are drawn from by chance
_CELLS = 1 << 22  # of one block of permutations
_SLACK = 1e-12  # two ways to add up the same fractions


def ks_statistic(first: Values, second: Values) -> float:
    """The largest distance between the empirical distribution functions of two samples, 0 to 1.

    Raises :class:`SettingsError` when one is empty.

    >>> ks_statistic(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    1.0
    """
    labels, ends, n, m = _pooled(first, second)
    return float(_distances(labels[None], ends, n, m)[0])


def ks_test(
    first: Values, second: Values, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """The Kolmogorov-Smirnov statistic of two samples and its permutation p-value.

    Of a sample with more than 4,000 values so many are drawn without replacement, and both figures are theirs.
    """
    first, second = (_at_most(np.asarray(values, np.float64), rng) for values in (first, second))
    labels, ends, n, m = _pooled(first, second)
    seen = float(_distances(labels[None], ends, n, m)[0])
    as_large = 0
    for start in range(0, permutations, step := max(1, _CELLS // labels.size)):
        rows = min(step, permutations - start)
        drawn = rng.permuted(np.tile(labels, (rows, 1)), axis=1)
        as_large += int(np.count_nonzero(_distances(drawn, ends, n, m) >= seen - _SLACK))
    return seen, (1 + as_large) / (1 + permutations)


def _at_most(values: Values, rng: np.random.Generator) -> Values:
    return values if values.size <= MOST else rng.choice(values, MOST, replace=False)


def _pooled(first: Values, second: Values) -> tuple[NDArray[np.bool_], NDArray[np.intp], int, int]:
    """Which of the sorted values are of the first sample, where runs of equal values end, and both sizes."""
    n, m = len(first), len(second)
    if n < 1 or m < 1:
        raise SettingsError(f"two samples of at least one value each expected, got {n} and {m}")
    pooled = np.concatenate([first, second])
    order = np.argsort(pooled, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(pooled[order]) != 0, True))
    return order < n, ends, n, m


def _distances(labels: NDArray[np.bool_], ends: NDArray[np.intp], n: int, m: int) -> Values:
    """The statistic of each row of ``labels`` (rows, n + m)."""
    of_first = np.cumsum(labels, axis=1, dtype=np.int32)[:, ends]
    return np.asarray(np.abs(of_first / n - (ends + 1 - of_first) / m).max(axis=1))
