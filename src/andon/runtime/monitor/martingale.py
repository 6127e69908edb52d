"""A test martingale on p-values: capital that grows only when they stop being uniform.

V. Vovk, I. Petej, I. Nouretdinov, E. Ahlberg, L. Carlsson, A. Gammerman, "Retrain or not retrain: conformal test
martingales for change-point detection", COPA 2021. While the p-values p_1, p_2, ... are independent and uniform, the
capital S_t, begun at 1, is a martingale that is never negative; by Ville's inequality (1939) the probability that it
*ever* reaches c is at most 1 / c. So 1 / max S_t is a p-value at every moment, however often one looks.

Each bet multiplies what it stakes by

    f_e(p) = 1 + e (1/2 - p),    e in STAKES

which gains with small p-values (values too high) for e > 0 and with large ones for e < 0. |e| < 2 bounds what a single
part can do: no part multiplies the capital by more than 1.9. Where the paper lets one gambler jump between stakes, here
the start of the change is mixed over: at step t a fraction of the capital that was never staked is put on each e,

    reserve_t = ln k / ln(k + t),    k = REST

so that a change after a year is found nearly as soon as one after a day. What was staked before it has then been
lost; what is left falls with the logarithm of t only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

STAKES = (-1.8, -0.9, -0.4, 0.4, 0.9, 1.8)
REST = 100.0
MOST = 1e100  # capital beyond which nothing more is to be proven


@lru_cache(maxsize=64)
def reserve(step: int) -> float:
    """The share of the first capital that is still not staked after ``step`` bets.

    >>> reserve(0), round(reserve(1_000_000), 3)
    (1.0, 0.333)
    """
    return math.log(REST) / math.log(REST + step)


@dataclass
class Mixture:
    """Bets with multipliers 1 + e x for the stakes e, each begun at every step with a little of the reserve.

    With E[x] = 0 under the hypothesis (or E[x] <= 0 and e > 0) the capital is a (super)martingale.
    """

    stakes: tuple[float, ...]
    staked: list[float] = field(default_factory=list)  # the capital on each stake
    steps: int = 0
    peak: float = 1.0  # the largest capital so far

    def __post_init__(self) -> None:
        self.staked = self.staked or [0.0] * len(self.stakes)

    def bet(self, x: float) -> None:
        """One step, whose outcome is ``x``."""
        fresh = (reserve(self.steps) - reserve(self.steps + 1)) / len(self.stakes)
        self.steps += 1
        self.staked = [min((s + fresh) * (1 + e * x), MOST) for s, e in zip(self.staked, self.stakes)]
        self.peak = max(self.peak, self.capital)

    @property
    def capital(self) -> float:
        """S_t, staked or not."""
        return reserve(self.steps) + sum(self.staked)

    @property
    def p_value(self) -> float:
        """1 / max S: valid at every moment."""
        return 1 / self.peak

    @property
    def upwards(self) -> bool:
        """Whether the positive stakes hold more than the negative ones."""
        return sum(s * math.copysign(1, e) for s, e in zip(self.staked, self.stakes)) >= 0
