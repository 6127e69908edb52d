"""EWMA and CUSUM of standard normal values: how far, in which direction, since when. And their run lengths, computed.

- EWMA: S. W. Roberts, "Control chart tests based on geometric moving averages", 1959.
- CUSUM: E. S. Page, "Continuous inspection schemes", 1954. The change began after its last zero (Page's estimate).
- Average run length by a Markov chain: D. Brook, D. A. Evans, "An approach to the probability distribution of CUSUM run
  length", 1972; for the EWMA J. M. Lucas, M. S. Saccucci, 1990.

The values are normal scores of conformal p-values, z = Phi^-1(1 - p): independent and exactly standard normal while
nothing changes, whatever the distribution of what was measured. So these run lengths hold for every measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.05  # of the EWMA: about the last 40 parts
SLACK = 0.25  # of the CUSUM: best for a shift of half a standard deviation
RUN_LENGTH = 10_000  # parts without drift between two false signals of a chart, on average
_CELLS = 151  # of the Markov chain
Values = NDArray[np.floating]


@dataclass
class Chart:
    """Both charts of one measure, two-sided."""

    ewma: float = 0.0
    up: float = 0.0
    down: float = 0.0
    up_since: int = 0  # the first image after the CUSUM's last zero
    down_since: int = 0

    def add(self, z: float, image: int) -> None:
        """One more value, of the image with this number."""
        self.ewma += SMOOTHING * (z - self.ewma)
        self.up_since = self.up_since if self.up > 0 else image
        self.down_since = self.down_since if self.down > 0 else image
        self.up = max(0.0, self.up + z - SLACK)
        self.down = max(0.0, self.down - z - SLACK)

    def since(self, upwards: bool) -> int:
        """The number of the image at which a change in this direction began."""
        return self.up_since if upwards else self.down_since

    @property
    def cusum(self) -> float:
        """The larger side, negative where it is the lower one."""
        return self.up if self.up >= self.down else -self.down


@lru_cache
def ewma_limit(run_length: float = RUN_LENGTH) -> float:
    """The absolute EWMA beyond which it signals, once in ``run_length`` values without a change on average.

    >>> round(ewma_limit(), 3)
    0.581
    """
    return _limit(lambda limit: ewma_run_length(limit), run_length, _sigma(SMOOTHING))


@lru_cache
def cusum_limit(run_length: float = RUN_LENGTH) -> float:
    """The height at which either side of the CUSUM signals, once in ``run_length`` values on average.

    >>> round(cusum_limit(), 2)
    14.5
    """
    return _limit(lambda limit: cusum_run_length(limit), run_length, 1.0)


def cusum_run_length(limit: float, shift: float = 0.0, slack: float = SLACK) -> float:
    """The average number of values until a two-sided CUSUM signals, their mean moved by ``shift`` deviations.

    >>> round(cusum_run_length(5.0, slack=0.5))
    465
    """
    up, down = _one_side(limit, shift, slack), _one_side(limit, -shift, slack)
    return 1 / (1 / up + 1 / down)


def ewma_run_length(limit: float, shift: float = 0.0, smoothing: float = SMOOTHING) -> float:
    """The average number of values until an EWMA begun at 0 leaves [-``limit``, ``limit``].

    >>> round(ewma_run_length(2.814 * math.sqrt(0.1 / 1.9), smoothing=0.1))
    499
    """
    half = limit / _CELLS
    middles = (2 * np.arange(_CELLS) - _CELLS + 1) * half
    ahead = middles[None] - (1 - smoothing) * middles[:, None]  # from row to column
    move = _phi((ahead + half) / smoothing - shift) - _phi((ahead - half) / smoothing - shift)
    return float(_steps(move)[_CELLS // 2])


def _one_side(limit: float, shift: float, slack: float) -> float:
    width = 2 * limit / (2 * _CELLS - 1)  # state 0 is the half cell at zero
    ahead = (np.arange(_CELLS)[None] - np.arange(_CELLS)[:, None]) * width + slack - shift
    move = _phi(ahead + width / 2) - _phi(ahead - width / 2)
    move[:, 0] = _phi(ahead[:, 0] + width / 2)
    return float(_steps(move)[0])


def _steps(move: Values) -> Values:
    """The mean number of steps from each state until the chain leaves: (I - move) L = 1."""
    return np.linalg.solve(np.eye(len(move)) - move, np.ones(len(move)))


def _phi(x: Values) -> Values:
    """The standard normal distribution function."""
    flat = [0.5 * math.erfc(-value / math.sqrt(2)) for value in x.ravel().tolist()]
    return np.array(flat).reshape(x.shape)


def _sigma(smoothing: float) -> float:
    """The EWMA's standard deviation, in the long run."""
    return math.sqrt(smoothing / (2 - smoothing))


def _limit(run_length: Callable[[float], float], wanted: float, unit: float) -> float:
    """The limit with this run length, by bisection to a thousandth."""
    low, high = 0.5 * unit, 30 * unit
    while high - low > 1e-3 * unit:
        middle = (low + high) / 2
        low, high = (middle, high) if run_length(middle) < wanted else (low, middle)
    return high
