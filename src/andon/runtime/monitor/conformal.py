"""Conformal p-values of values that come one by one: each is ranked among all that came before it.

V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2 (smoothed, online). If
the values are exchangeable, the p-values are independent and uniform, exactly, however few came before. Ranking against
a fixed set instead, as split conformal prediction does for one value, makes them depend on each other through the luck
of that set; a martingale would take that luck for drift after some n ln(1/alpha) parts. So the ranked ones are kept.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

DIGITS = 14  # bits of a raw score that are kept


def rounded(value: float) -> float:
    """``value`` to 14 significant bits (0.006 %): a rule that no data decide, so that ranks stay valid.

    Few distinct values make a small state file; those that fall together are told apart by chance.

    >>> rounded(3.14159265), rounded(-0.001), rounded(0.0)
    (3.1416015625, -0.001000046730041504, 0.0)
    """
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, DIGITS)), exponent - DIGITS)


@dataclass
class Ranks:
    """The values seen so far, sorted upwards."""

    values: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, values: Iterable[float]) -> Ranks:
        """Ranks that begin with ``values``."""
        return cls(array("d", sorted(values)))

    def p_value(self, value: float, chance: float) -> float:
        """(#{greater} + u #{equal}) / n, ``value`` itself among the n and the equal; then it is kept. In (0, 1).

        ``chance``: u, uniform on (0, 1). Small for a high value.

        >>> Ranks.of([1.0, 2.0, 3.0]).p_value(2.5, 0.5)
        0.375
        """
        right = bisect_right(self.values, value)
        equal = right - bisect_left(self.values, value)
        p = (len(self.values) - right + chance * (equal + 1)) / (len(self.values) + 1)
        insort(self.values, value)
        return p

    def to_runs(self) -> list[list[float]]:
        """[value, how often] for each distinct value."""
        return [[value, len(list(run))] for value, run in groupby(self.values)]

    @classmethod
    def from_runs(cls, runs: Sequence[Sequence[float]]) -> Ranks:
        """What :meth:`to_runs` wrote."""
        return cls(array("d", [value for value, count in runs for _ in range(int(count))]))
