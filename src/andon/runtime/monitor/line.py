"""The monitor of a line: takes score and photograph of each part, and says when, what and since when something drifts.

What it may be relied on for: as long as the good parts are exchangeable with those of the calibration, and each number
of the appearance is exchangeable along the line, the probability that the monitor *ever* reports anything is at most
``false_alarm``, over the whole life of the line. Every watch yields a p-value that is valid at every moment; Holm's
correction over all of them keeps that probability for all together.

Defective parts are not drift. The scores are trimmed: let c be the k-th smallest of the n calibration scores,
k = ceil(0.95 (n + 1)), at most n. Given c, the k - 1 scores below it and the line's scores below it are independent draws
of one distribution, so the martingale of the scores sees those alone, and nothing else can move it. How often scores
exceed c is watched apart: drift shows there only if it is more than ``defect_rate`` beyond what c allows good parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from andon.calibrate import check_share, promised_rate
from andon.errors import SettingsError
from andon.metrics.holm import holm
from andon.runtime.monitor.appearance import NAMES, appearance
from andon.runtime.monitor.conformal import rounded
from andon.runtime.monitor.events import ENGLISH, MEASURES, DriftEvent, describe
from andon.runtime.monitor.reference import Picture, Reference
from andon.runtime.monitor.watch import Counted, Ranked
from andon.runtime.words import Words, percent

UNTRIMMED = 0.95  # share of the good parts whose scores are looked at


@dataclass
class Monitor:
    """Watches one line behind one detector. Make one with :meth:`begin`, feed it with :meth:`add`.

    identity: of the detector, see :func:`~andon.runtime.monitor.state.identity_of`. trim: c, infinite without calibration.
    """

    identity: str
    false_alarm: float
    defect_rate: float
    trim: float
    watches: dict[str, Ranked | Counted]
    picture: Picture  # the grey picture that positions are measured against
    images: int = 0
    events: list[DriftEvent] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        identity: str,
        nominal_scores: Sequence[float] = (),
        reference: Reference | None = None,
        *,
        false_alarm: float = 0.01,
        defect_rate: float = 0.05,
    ) -> Monitor:
        """A monitor for a detector calibrated on ``nominal_scores``.

        ``reference``: how good photographs look; without one the line's first are taken. ``false_alarm``: the probability
        that a line without drift ever raises an alarm. ``defect_rate``: the share of defective parts that is no drift.
        Raises :class:`SettingsError` on shares outside (0, 1).
        """
        check_share("false_alarm", false_alarm)
        check_share("defect_rate", defect_rate)
        scores = sorted(rounded(score) for score in nominal_scores)
        trim = scores[_trim_order(len(scores)) - 1] if scores else math.inf
        watches: dict[str, Ranked | Counted] = {"scores": Ranked.of(s for s in scores if s < trim)}
        if scores:
            watches["rejects"] = _rejects(len(scores), false_alarm / (2 * len(MEASURES)), defect_rate)
        values = reference.values if reference else {}
        watches |= {name: Ranked.of(values.get(name, ())) for name in NAMES}
        picture = reference.picture if reference else Picture()
        return cls(identity, false_alarm, defect_rate, trim, watches, picture)

    def add(
        self, image_score: float, pixels: NDArray[np.uint8] | None = None, path: str = ""
    ) -> tuple[DriftEvent, ...]:
        """What this part has made certain; mostly nothing. ``pixels``: (H, W, 3) uint8 RGB, None for the score alone."""
        if pixels is None:
            return self.add_numbers(image_score, {}, path)
        numbers, grey = appearance(pixels, self.picture.grey())
        self.picture.learn(grey)
        return self.add_numbers(image_score, numbers, path)

    def add_numbers(
        self, image_score: float, numbers: Mapping[str, float], path: str = ""
    ) -> tuple[DriftEvent, ...]:
        """As :meth:`add`, with the numbers of :func:`~andon.runtime.monitor.appearance.appearance` at hand."""
        if not math.isfinite(image_score):
            raise SettingsError(f"expected a finite image score, got {image_score}")
        self.images += 1
        chances = (
            np.random.default_rng((int(self.identity[:8], 16), self.images)).random(len(MEASURES)).tolist()
        )
        score = rounded(image_score)
        values = {"scores": score, **numbers} if score < self.trim else numbers
        for (name, watch), chance in zip(self.watches.items(), chances):
            if isinstance(watch, Counted):
                watch.add(score > self.trim, self.images)
            elif name in values:
                watch.add(values[name], self.images, chance)
        return self._noticed(path)

    def _noticed(self, path: str) -> tuple[DriftEvent, ...]:
        """The events of the watches that only now are certain enough."""
        found = []
        for name, p_value in self.p_values().items():
            watch = self.watches[name]
            if p_value <= self.false_alarm and not watch.noticed:
                watch.noticed = True
                found.append(self._event(name, p_value, path))
        self.events += found
        return tuple(found)

    def _event(self, name: str, p_value: float, path: str) -> DriftEvent:
        watch = self.watches[name]
        upwards, since = watch.upwards, watch.chart.since(watch.upwards)
        message = describe(name, since, upwards, watch.usual, watch.level)
        return DriftEvent(name, self.images, path, since, upwards, watch.usual, watch.level, p_value, message)

    def p_values(self) -> dict[str, float]:
        """Of "nothing has changed", for each watch, corrected for all of them; valid at every moment."""
        return dict(zip(self.watches, holm([watch.p_value for watch in self.watches.values()])))

    def standing(self) -> tuple[DriftEvent, ...]:
        """What was noticed, with the levels of now."""
        return tuple(
            replace(event, now=(now := self.watches[event.measure].level),
                    message=describe(event.measure, event.since, event.upwards, event.before, now))
            for event in self.events
        )  # fmt: skip

    @property
    def statement(self) -> str:
        """The guarantee, in words."""
        return self.statement_in(ENGLISH)

    def statement_in(self, words: Words) -> str:
        """The guarantee, in the language of ``words``."""
        return words["monitor.statement"].format(
            false_alarm=percent(words, self.false_alarm), defect_rate=percent(words, self.defect_rate)
        )


def _trim_order(count: int) -> int:
    """k: which of ``count`` sorted scores is the level at which scores are trimmed."""
    return min(count, math.ceil(UNTRIMMED * (count + 1)))


def _rejects(count: int, doubt: float, defect_rate: float) -> Counted:
    """A watch for more scores above c than good parts and ``defect_rate`` defective ones can have.

    That good parts have no more is known with confidence 1 - ``doubt``, from the calibration's k-th of n.
    """
    good = promised_rate(count, _trim_order(count), 1 - doubt)
    return Counted.above(good + (1 - good) * defect_rate, doubt)
