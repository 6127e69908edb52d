"""Results of a comparison as cases: one partition under one method, its runs side by side in every way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from andon.bench.stats import Band, band, summarise, welch_p
from andon.bench.words import counted, listed, title_of
from andon.federated.comparing import WAYS, fair
from andon.federated.fairness import RULES, Spread, spread_of
from andon.metrics.rates import Rate, rate

Row = Mapping[str, Any]
Said = Literal["match", "better", "worse", "open"]
MARGIN = 0.01  # a difference that lies within it is none worth speaking of
LEVEL = 0.05  # of Welch's test
_MOST_SETS = 2  # data sets named in a case's name


@dataclass(frozen=True)
class Case:
    """One recipe of partition, one method. ``rows``: the runs of each way that were computed, by their seeds."""

    scene: str
    method: str
    rows: Mapping[str, tuple[Row, ...]]

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return f"{title_of(self.method)} ({self.scene})"

    @property
    def ways(self) -> list[str]:
        """The ways that have results."""
        return list(self.rows)

    @property
    def alpha(self) -> float | None:
        """Of a partition by modes, how even it is; None for all others."""
        row = next(iter(self.rows.values()))[0]
        return float(row["alpha"]) if row["by"] == "dirichlet" else None

    def values(self, way: str, figure: str) -> list[float]:
        """The mean of ``figure`` over the sites, one a run in which every site has it."""
        return [spread.mean for _, spread in self._spreads(way, figure)]

    def spreads(self, way: str, figure: str) -> list[Spread]:
        """How ``figure`` spreads over the sites, one a run in which every site has it."""
        return [spread for _, spread in self._spreads(way, figure)]

    def _spreads(self, way: str, figure: str) -> list[tuple[tuple[int, int], Spread]]:
        found = []
        for row in self.rows.get(way, ()):
            own = {site: one["figures"].get(figure) for site, one in row["sites"].items()}
            if all(value is not None for value in own.values()):
                higher = figure not in ("fpr", "fnr")
                found.append((_run_of(row), spread_of(own, higher_is_better=higher)))
        return found

    def apart(self, way: str, other: str, figure: str) -> list[float]:
        """What ``way`` has more of ``figure`` than ``other``, one a run of the same seeds."""
        one, two = (dict(self._spreads(name, figure)) for name in (way, other))
        return [one[run].mean - two[run].mean for run in sorted(one.keys() & two.keys())]

    def difference(self, way: str, other: str, figure: str) -> Difference:
        """What ``way`` has more of ``figure`` than ``other``, and whether that is more than chance."""
        p = welch_p(self.values(way, figure), self.values(other, figure))
        return Difference(band(self.apart(way, other, figure)), p)

    def total(self, way: str, name: str) -> float | None:
        """The mean over the runs of a cost, such as ``seconds`` or ``bytes_up``."""
        return summarise(row[name] for row in self.rows.get(way, ())).mean

    @property
    def sites(self) -> list[str]:
        """The sites' names, where they are the same sites in all runs; else none."""
        rows = [row for own in self.rows.values() for row in own]
        return list(rows[0]["sites"]) if len({row["partition_seed"] for row in rows}) == 1 else []

    def site_value(self, way: str, site: str, figure: str) -> float | None:
        """The mean of ``figure`` at one site over the runs."""
        return summarise(row["sites"][site]["figures"].get(figure) for row in self.rows.get(way, ())).mean

    def promised(self, way: str, site: str) -> float | None:
        """The rate that the site's own threshold promises, the mean of the runs; higher than what was asked for where its
        calibration images are too few."""
        return summarise(row["sites"][site]["promised_rate"] for row in self.rows.get(way, ())).mean

    def false_alarms(self, way: str, site: str, *, common: bool = False) -> Rate | None:
        """False alarms on a site's good test images over the runs, at its own threshold or at one ``common`` to all sites.

        Runs judge the same images, so the interval is one of as many images as one run has. None where there are none.
        """
        own = [row["sites"][site] for row in self.rows.get(way, ())]
        key = "false_alarms_common" if common else "false_alarms"
        if not own or own[0][key] is None or not own[0]["test_good"]:
            return None
        images, mean = own[0]["test_good"], sum(one[key] for one in own) / len(own)
        return rate(round(mean), images)._replace(value=mean / images)


@dataclass(frozen=True)
class Difference:
    """How much more one way has than another: the mean of runs of equal seeds with its interval, and Welch's p."""

    by: Band
    p: float | None

    @property
    def said(self) -> Said:
        """What can be said: as good within :data:`MARGIN`, significantly better or worse, or nothing yet."""
        if self.by.mean is None or self.p is None or self.by.low is None or self.by.high is None:
            return "open"
        if self.by.low >= -MARGIN and self.by.high <= MARGIN:
            return "match"
        if self.p < LEVEL:
            return "better" if self.by.mean > 0 else "worse"
        return "open"


def _run_of(row: Row) -> tuple[int, int]:
    return row["partition_seed"], row["seed"]


def cases_of(rows: Sequence[Row]) -> list[Case]:
    """The cases of the ``rows`` that are done, in the order in which they first appear."""
    done = [row for row in rows if row["status"] == "done"]
    several = len({tuple(row["roots"]) for row in done}) > 1
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(done, key=_run_of):
        found[_scene(row, several), row["method"]][row["way"]].append(row)
    order = list(dict.fromkeys((_scene(row, several), row["method"]) for row in done))
    ways = [way for way in (*WAYS, *map(fair, RULES)) if any(row["way"] == way for row in done)]
    return [
        Case(
            scene,
            method,
            {way: tuple(found[scene, method][way]) for way in ways if way in found[scene, method]},
        )
        for scene, method in order
    ]


def _scene(row: Row, several: bool) -> str:
    sets = row["roots"] if len(row["roots"]) <= _MOST_SETS else [counted(len(row["roots"]), "data set")]
    return f"{listed(sets)}: {row['scene']}" if several else str(row["scene"])
