"""The monitor's arithmetic for S streams side by side, some two hundred times as fast as one after the other.

:func:`check` proves on some streams that it is the monitor's own, event by event. Used by drift.py.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from andon.calibrate import promised_rate
from andon.runtime.monitor import MEASURES, Monitor, Reference
from andon.runtime.monitor.appearance import NAMES
from andon.runtime.monitor.charts import SLACK
from andon.runtime.monitor.line import UNTRIMMED
from andon.runtime.monitor.martingale import MOST, STAKES, reserve
from andon.runtime.monitor.reference import Picture
from andon.runtime.monitor.watch import EDGE, Counted

FALSE_ALARM, DEFECT_RATE = 0.01, 0.05  # as a monitor has them unless asked otherwise
LONGEST = 10_000  # parts of a stream
RESERVES = np.array([reserve(step) for step in range(LONGEST + 2)])
NORMAL = NormalDist()


@dataclass
class Lines:
    """S streams to be played. Values are those of the monitor: scores rounded, numbers as measured.

    parts: (S, T) which row of ``table`` each part is. table: (R, 8) score and numbers. nominal: (S, n) calibration
    scores, sorted. reference: (S, r, 7). chances: (S, T, 9).
    """

    parts: NDArray[np.intp]
    table: NDArray[np.float64]
    nominal: NDArray[np.float64]
    reference: NDArray[np.float64]
    chances: NDArray[np.float64]


class Bets:
    """:class:`Mixture` for S streams."""

    def __init__(self, streams: int, stakes: tuple[float, ...]) -> None:
        self.stakes = np.array(stakes)
        self.staked = np.zeros((streams, len(stakes)))
        self.steps = np.zeros(streams, int)
        self.peak = np.ones(streams)
        self.up, self.down = np.zeros(streams), np.zeros(streams)
        self.since = np.zeros((2, streams), int)  # of a fall, of a rise

    def bet(self, x: NDArray[np.float64], z: NDArray[np.float64], at: NDArray[np.bool_], image: int) -> None:
        """One step of the streams ``at``, with the outcomes ``x`` and the chart's values ``z``."""
        left, after = (RESERVES[self.steps + more] for more in (0, 1))
        staked = np.minimum(
            (self.staked + ((left - after) / len(self.stakes))[:, None]) * (1 + x[:, None] * self.stakes),
            MOST,
        )
        self.staked = np.where(at[:, None], staked, self.staked)
        self.steps += at
        self.peak = np.maximum(self.peak, RESERVES[self.steps] + self.staked.sum(1))
        self.since[0] = np.where(at & ~(self.down > 0), image, self.since[0])
        self.since[1] = np.where(at & ~(self.up > 0), image, self.since[1])
        self.up = np.where(at, np.maximum(0.0, self.up + z - SLACK), self.up)
        self.down = np.where(at, np.maximum(0.0, self.down - z - SLACK), self.down)

    def began(self) -> NDArray[np.intp]:
        """The image at which the change began, in the direction of the evidence."""
        upwards = (self.staked * np.sign(self.stakes)).sum(1) >= 0
        return np.where(upwards, self.since[1], self.since[0])


class RankedBets(Bets):
    """A ranked watch for S streams: ``codes`` (R,) are the places of the table's values among ``size`` distinct ones."""

    def __init__(self, codes: NDArray[np.intp], known: NDArray[np.intp], size: int) -> None:
        super().__init__(len(known), STAKES)
        self.codes, self.places = codes, np.arange(size)
        self.counts = np.stack([np.bincount(row[row >= 0], minlength=size) for row in known]).astype(np.int32)

    def add(
        self, rows: NDArray[np.intp], chance: NDArray[np.float64], at: NDArray[np.bool_], image: int
    ) -> None:
        """The next part of each stream, a row of the table."""
        code, every = self.codes[rows], np.arange(len(rows))
        greater = (self.counts * (self.places > code[:, None])).sum(1)
        p = (greater + chance * (self.counts[every, code] + 1)) / (self.counts.sum(1) + 1)
        p = np.clip(p, EDGE, 1 - EDGE)
        self.counts[every, code] += at
        self.bet(0.5 - p, np.array([NORMAL.inv_cdf(1 - value) for value in p.tolist()]), at, image)


def play(lines: Lines) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each stream and measure the image at which it was noticed, and at which it began; inf where it was not. (S, 9)"""
    (streams, parts), n = lines.parts.shape, lines.nominal.shape[1]
    order = min(n, math.ceil(UNTRIMMED * (n + 1)))
    trim = lines.nominal[:, order - 1]
    below = np.where(lines.nominal < trim[:, None], lines.nominal, np.nan)
    ranked = [ranked_bets(lines.table[:, 0], below)]
    ranked += [ranked_bets(lines.table[:, k + 1], lines.reference[:, :, k]) for k in range(len(NAMES))]
    doubt = FALSE_ALARM / (2 * len(MEASURES))
    good = promised_rate(n, order, 1 - doubt)
    one = Counted.above(good + (1 - good) * DEFECT_RATE, doubt)
    rejects = Bets(streams, one.bets.stakes)
    watches: list[Bets] = [ranked[0], rejects, *ranked[1:]]
    noticed, began = np.full((2, streams, len(watches)), np.inf)
    everywhere = np.ones(streams, bool)
    for image in range(1, parts + 1):
        rows, chance = lines.parts[:, image - 1], lines.chances[:, image - 1]
        ranked[0].add(rows, chance[:, 0], lines.table[rows, 0] < trim, image)
        x = (lines.table[rows, 0] > trim) - one.usual
        rejects.bet(x, x / math.sqrt(one.usual * (1 - one.usual)), everywhere, image)
        for k, watch in enumerate(ranked[1:], 2):
            watch.add(rows, chance[:, k], everywhere, image)
        p = np.stack([1 / watch.peak for watch in watches], 1)
        p[:, 1] = np.minimum(1, p[:, 1] + doubt)
        new = (holm_of(p) <= FALSE_ALARM) & np.isinf(noticed)
        if new.any():
            noticed = np.where(new, image, noticed)
            began = np.where(new, np.stack([watch.began() for watch in watches], 1), began)
    return noticed, began


def ranked_bets(values: NDArray[np.float64], known: NDArray[np.float64]) -> RankedBets:
    """A watch of a column of the table that knows some values of each stream (S, k); nan where it does not."""
    distinct = np.unique(np.concatenate([values, known[np.isfinite(known)]]))
    codes = np.where(np.isfinite(known), np.searchsorted(distinct, np.nan_to_num(known)), -1)
    return RankedBets(np.searchsorted(distinct, values), codes, len(distinct))


def holm_of(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's correction of each row."""
    order = np.argsort(p, axis=1)
    stepped = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(1, np.maximum.accumulate(stepped, 1)), 1)
    return corrected


def check(lines: Lines) -> None:
    """Exit unless :func:`play` and the monitor agree on these streams, event by event."""
    identities = [f"{stream + 1:08x}" for stream in range(len(lines.parts))]
    lines.chances = np.array([[np.random.default_rng((int(name, 16), image)).random(len(MEASURES))
                               for image in range(1, lines.parts.shape[1] + 1)] for name in identities])  # fmt: skip
    noticed, began = play(lines)
    for stream, name in enumerate(identities):
        values = dict(zip(NAMES, lines.reference[stream].T.tolist()))
        monitor = Monitor.begin(name, lines.nominal[stream].tolist(), Reference(values, Picture()),
                                false_alarm=FALSE_ALARM, defect_rate=DEFECT_RATE)  # fmt: skip
        for score, *numbers in lines.table[lines.parts[stream]].tolist():
            monitor.add_numbers(score, dict(zip(NAMES, numbers)))
        expected = {(event.measure, event.image, event.since) for event in monitor.events}
        found = {(measure, int(image), int(since)) for measure, image, since in
                 zip(MEASURES, noticed[stream], began[stream]) if np.isfinite(image)}  # fmt: skip
        if found != expected:
            sys.exit(f"the streams played side by side are not the monitor's: {found} instead of {expected}")
