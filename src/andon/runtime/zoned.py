"""The decision on a part whose photograph has zones: by the detector's own threshold, and by those of the zones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from andon.calibrate import decide, score01
from andon.nuisance import Judged, ZonePlan
from andon.runtime.explain import ENGLISH, describe, share_words
from andon.runtime.explain_difference import NO_DIFFERENCE, Difference
from andon.runtime.words import Words, retold
from andon.types import Calibration, Decision, Region

NOT_INSPECTED_SAID = 0.03  # share of the photograph from which the sentence says that it was not inspected
_RANK: dict[Decision, int] = {"pass": 0, "review": 1, "fail": 2}


@dataclass(frozen=True)
class Ruling:
    """What decided: the worst of the decisions, the score and calibration behind it, and the zone if it was one."""

    decision: Decision
    image_score: float
    calibration: Calibration
    zone: str = ""
    zoned: bool = False
    notes: tuple[str, ...] = ()
    group: str = (
        ""  # the note of :func:`andon.calibrate.calibration_for`: which group's threshold it is, or why none
    )
    doubts: tuple[str, ...] = ()  # of the photograph's zones: why a person must look, whatever the score

    @property
    def score(self) -> float:
        """0 to 1: the share of good calibration images that scored lower there."""
        return score01(self.image_score, self.calibration)

    def sentence(
        self,
        regions: Sequence[Region],
        size: tuple[int, int],
        not_inspected: float,
        *,
        words: Words = ENGLISH,
        difference: Difference = NO_DIFFERENCE,
    ) -> str:
        """The sentence on ``regions`` of a photograph of ``size``, as :func:`describe` makes it. It names a zone that
        decided, and says the share of the photograph that zones leave out where that is more than a few per cent."""
        calibration = self.calibration
        if self.group and math.isnan(calibration.threshold):
            finding = retold(self.group, words)
        elif self.doubts and self.decision == "review":
            finding = "; ".join(retold(doubt, words) for doubt in self.doubts)
        else:
            finding = describe(
                self.decision,
                regions,
                size,
                self.image_score,
                calibration,
                words=words,
                difference=difference,
            )
        if self.zone:
            finding = words["sentence.own_threshold"].format(finding=finding, zone=self.zone)
        if self.zoned and not_inspected >= NOT_INSPECTED_SAID:
            share = share_words(not_inspected, words)
            finding = words["sentence.not_inspected"].format(finding=finding, share=share)
        return finding


def rule(
    image_score: float,
    calibration: Calibration,
    plan: ZonePlan | None,
    judged: Judged | None,
    group: str = "",
) -> Ruling:
    """The ruling on a part with ``image_score`` outside its zones; of equals, the detector's own threshold has it.

    ``group``: the note on which group's ``calibration`` it is.
    """
    own = Ruling(
        decide(image_score, calibration), image_score, calibration, zoned=judged is not None, group=group
    )
    if plan is None or judged is None:
        return own
    decision: Decision = "review" if judged.doubts and own.decision == "pass" else own.decision
    own = replace(own, decision=decision, notes=judged.notes, doubts=judged.doubts)
    return max([own, *_of_zones(plan, judged, calibration)], key=lambda ruling: _RANK[ruling.decision])


def map_thresholds(
    calibration: Calibration, plan: ZonePlan | None, judged: Judged | None
) -> float | NDArray[np.float32]:
    """What the map is compared with to find regions: one number, or with zones an array (h, w)."""
    if plan is None or judged is None:
        return calibration.map_threshold
    return judged.thresholds(plan, calibration.map_threshold)


def _of_zones(plan: ZonePlan, judged: Judged, otherwise: Calibration) -> Iterator[Ruling]:
    """A ruling for each zone judged apart; by ``otherwise`` where it has no threshold of its own yet."""
    for treated in plan.treated:
        name, calibration = treated.zone.name, treated.calibration or otherwise
        if name not in judged.zone_peaks:
            continue
        peak = judged.zone_peaks[name]
        note = f"zone {name!r}: {peak:.6g} against the threshold {calibration.threshold:.6g}"
        yield Ruling(
            decide(peak, calibration),
            peak,
            calibration,
            name,
            True,
            (*judged.notes, note),
            doubts=judged.doubts,
        )
