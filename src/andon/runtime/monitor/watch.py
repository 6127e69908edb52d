"""One measure of the line, watched: its evidence of drift, its charts, its level, and how they went.

A watch is either ranked (any number, against all before it) or counted (how often something happens, against a rate).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist, fmean
from typing import Any

from andon.runtime.monitor.charts import Chart
from andon.runtime.monitor.conformal import Ranks
from andon.runtime.monitor.martingale import STAKES, Mixture

LEVEL = 0.1  # smoothing of the level: about the last 20 parts
USUAL = 20  # values whose mean is what is usual: of the reference where it has so many, else the line's first, too
KEPT = 256  # points of a history, at most
EDGE = 1e-12  # p-values are kept off 0 and 1 by so much, where normal scores end
_NORMAL = NormalDist()


@dataclass
class History:
    """Rows [image, log10 of the capital, EWMA, level]; every second one is dropped whenever there are too many."""

    stride: int = 1
    seen: int = 0
    rows: list[list[float]] = field(default_factory=list)

    def add(self, image: int, capital: float, ewma: float, level: float) -> None:
        """One more part; a row is kept of every ``stride``-th."""
        if self.seen % self.stride == 0:
            self.rows.append([image, round(math.log10(capital), 3), round(ewma, 3), float(f"{level:.6g}")])
        self.seen += 1
        if len(self.rows) > KEPT:
            self.rows, self.stride = self.rows[::2], 2 * self.stride


@dataclass
class Watch:
    """What both kinds keep.

    usual: the mean of the reference, or of the line's first values; level: the mean of the last 20 or so.
    """

    bets: Mixture
    chart: Chart = field(default_factory=Chart)
    history: History = field(default_factory=History)
    usual: float = 0.0
    level: float = 0.0
    noticed: bool = False

    def _record(self, value: float, z: float, image: int) -> None:
        self.level += LEVEL * (value - self.level)
        self.chart.add(z, image)
        self.history.add(image, self.bets.capital, self.chart.ewma, self.level)

    @property
    def p_value(self) -> float:
        """Of "nothing has changed"; valid at every moment."""
        return self.bets.p_value

    @property
    def upwards(self) -> bool:
        """The direction in which the evidence points."""
        return self.bets.upwards

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, from which :func:`watch_from_dict` makes the same watch."""
        return {
            "bets": vars(self.bets).copy(),
            "chart": vars(self.chart).copy(),
            "history": vars(self.history).copy(),
            "usual": self.usual,
            "level": self.level,
            "noticed": self.noticed,
        }


@dataclass
class Ranked(Watch):
    """A number whose every value is ranked among all before it: a conformal test martingale, both directions."""

    ranks: Ranks = field(default_factory=Ranks)
    behind_usual: int = 0  # values that `usual` is the mean of

    @classmethod
    def of(cls, reference: Iterable[float] = ()) -> Ranked:
        """A watch that knows the values of a ``reference``; without one it learns from the line's first."""
        values = list(reference)
        usual = fmean(values) if values else 0.0
        return cls(
            Mixture(STAKES), usual=usual, level=usual, ranks=Ranks.of(values), behind_usual=len(values)
        )

    def add(self, value: float, image: int, chance: float) -> None:
        """The value of the image with this number; ``chance`` is uniform on [0, 1)."""
        p = min(max(self.ranks.p_value(value, chance), EDGE), 1 - EDGE)
        if self.behind_usual < USUAL:
            self.behind_usual += 1
            self.usual += (value - self.usual) / self.behind_usual
            self.level = self.usual if self.behind_usual == 1 else self.level
        self.bets.bet(0.5 - p)
        self._record(value, _NORMAL.inv_cdf(1 - p), image)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"runs": self.ranks.to_runs(), "behind_usual": self.behind_usual}


@dataclass
class Counted(Watch):
    """Something that happens to at most ``usual`` (a share) of the parts; evidence only that it is more.

    bets: stakes e > 0 on x = happened - usual. The capital is a supermartingale whatever the order of the parts, as long
    as the share never exceeds ``usual``. No part more than doubles it. ``doubt``: the probability that ``usual`` itself
    was estimated too low; it is added to the p-value.
    """

    doubt: float = 0.0
    happened: int = 0  # times, of as many parts as the history has seen

    @classmethod
    def above(cls, rate: float, doubt: float = 0.0) -> Counted:
        """A watch for a share above ``rate``, between 0 and 1."""
        most = min(1 / (1 - rate), 0.9 / rate)
        return cls(Mixture((most / 4, most / 2, most)), usual=rate, level=rate, doubt=doubt)

    def add(self, happened: bool, image: int) -> None:
        """Whether it happened to the image with this number."""
        self.happened += happened
        x = float(happened) - self.usual
        self.bets.bet(x)
        self._record(float(happened), x / math.sqrt(self.usual * (1 - self.usual)), image)

    @property
    def p_value(self) -> float:
        return min(1.0, super().p_value + self.doubt)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"doubt": self.doubt, "happened": self.happened}


def watch_from_dict(content: dict[str, Any]) -> Ranked | Counted:
    """The watch that :meth:`Watch.to_dict` wrote. Raises KeyError, TypeError or ValueError on anything else."""
    bets = dict(content["bets"])
    bets["stakes"] = tuple(bets["stakes"])
    common: dict[str, Any] = {
        "bets": Mixture(**bets),
        "chart": Chart(**content["chart"]),
        "history": History(**content["history"]),
        "usual": float(content["usual"]),
        "level": float(content["level"]),
        "noticed": bool(content["noticed"]),
    }
    if "runs" in content:
        ranks = Ranks.from_runs(content["runs"])
        return Ranked(**common, ranks=ranks, behind_usual=int(content["behind_usual"]))
    return Counted(**common, doubt=float(content["doubt"]), happened=int(content["happened"]))
