"""How the raw scores of images become a threshold, or one for each group of them: the rules of `fit` and of `calibrate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from andon.calibrate import (
    Costs,
    PathPattern,
    calibrate,
    calibrate_extrapolated,
    calibrate_with_defects,
    check_criterion,
    group_images_needed,
    refused_group,
    too_few,
    with_groups,
)
from andon.errors import SettingsError
from andon.pipeline.scoring import Scored
from andon.types import Calibration

LEAST_GOOD, LEAST_BAD = 20, 10  # images of a group that gets a threshold of its own from good and bad ones


@dataclass(frozen=True)
class Criterion:
    """What a threshold is best for when defects are known; see :func:`andon.calibrate.calibrate_with_defects`.

    Raises :class:`SettingsError` for shares, costs and rules that make no sense.
    """

    name: Literal["tpr", "f1", "cost", "youden"] = "tpr"
    required_tpr: float = 0.99
    cost_escape: float = 10.0
    cost_false_alarm: float = 1.0
    defect_rate: float | None = None
    review_tpr: float | None = None
    cost_review: float | None = None

    def __post_init__(self) -> None:
        check_criterion(self.name, self.required_tpr, self.review_tpr, self.cost_review)
        self.costs(1, 1)

    def costs(self, good: int, bad: int) -> Costs:
        """What mistakes and reviews cost; ``good`` and ``bad`` images say how many are defective where nothing else does."""
        share = bad / (good + bad) if self.defect_rate is None else self.defect_rate
        return Costs(self.cost_escape, self.cost_false_alarm, share, self.cost_review)


@dataclass(frozen=True)
class Rule:
    """How scores become a threshold: the rates, and what to do where the images are too few to promise them.

    ``strict``: no threshold then. ``extrapolate``: an estimate by the scores' tail. ``group_by``: a pattern of paths;
    each group with images enough gets a threshold of its own. ``fall_back``: images of all others are decided by the
    threshold of all groups together, else they are for review. Raises :class:`SettingsError` for rules that do not go
    together.
    """

    target_rate: float
    confidence: float
    review_rate: float | None = None
    strict: bool = False
    extrapolate: bool = False
    group_by: str | None = None
    fall_back: bool = False
    criterion: Criterion | None = None  # with bad images; without them None

    def __post_init__(self) -> None:
        if self.criterion is not None and (self.strict or self.extrapolate):
            raise SettingsError(
                "strict and extrapolate are for thresholds from good images alone; leave out the bad ones"
            )
        if self.extrapolate and (self.strict or self.group_by is not None):
            raise SettingsError(
                "extrapolate gives an estimate: it goes neither with strict nor with group_by"
            )
        self._check_review()
        if self.fall_back and self.group_by is None:
            raise SettingsError(
                "fall_back is for groups without a threshold of their own; give group_by, too"
            )
        if self.group_by is not None:
            PathPattern.parse(self.group_by)

    def _check_review(self) -> None:
        if self.criterion is None or self.review_rate is None:
            return
        for name in ("review_tpr", "cost_review"):
            if getattr(self.criterion, name) is not None:
                raise SettingsError(f"review_rate and {name} both set the review band; give one of them")

    def calibration(
        self, nominal: Scored, anomalous: Scored, known_groups: Iterable[str] = ()
    ) -> Calibration:
        """The threshold of all images together and, with ``group_by``, of each group of them.

        ``known_groups``: groups that are told that they have no threshold where no image of them was scored.
        """
        pooled = self(nominal.scores, nominal.peaks, anomalous.scores)
        if self.group_by is None:
            return pooled
        names = sorted({*nominal.groups, *anomalous.groups, *known_groups})
        own = {name: self.of_group(pooled, *nominal.of(name), anomalous.of(name)[0]) for name in names}
        return with_groups(pooled, self.group_by, own, fall_back=self.fall_back)

    def __call__(
        self, nominal: Sequence[float], peaks: Sequence[float], anomalous: Sequence[float]
    ) -> Calibration:
        """The calibration from raw scores of good images, their maps' peaks, and raw scores of bad ones if any."""
        given: dict[str, Any] = {"confidence": self.confidence, "map_peaks": peaks}
        if self.criterion is not None:
            how = asdict(self.criterion)
            return calibrate_with_defects(
                nominal, anomalous, criterion=how.pop("name"), **how, **given,
                review_rate=0.05 if self.review_rate is None else self.review_rate,
            )  # fmt: skip
        given |= {"target_rate": self.target_rate, "review_rate": self.review_rate}
        return (
            calibrate_extrapolated(nominal, **given)
            if self.extrapolate
            else calibrate(nominal, **given, strict=self.strict)
        )

    def of_group(
        self,
        pooled: Calibration,
        nominal: Sequence[float],
        peaks: Sequence[float],
        anomalous: Sequence[float],
    ) -> Calibration:
        """The same for one group: without a threshold, and with the number needed, where its images are too few."""
        n, m = len(nominal), len(anomalous)
        if self.criterion is None:
            if n >= group_images_needed(self.target_rate, self.confidence, strict=self.strict):
                return self(nominal, peaks, anomalous)
            reason = too_few(n, self.target_rate, self.confidence, strict=self.strict)
        elif n >= LEAST_GOOD and m >= LEAST_BAD:
            return self(nominal, peaks, anomalous)
        else:
            reason = (
                f"{n:,} good and {m:,} defective images; at least {LEAST_GOOD} and {LEAST_BAD} are needed"
            )
        return refused_group(pooled, nominal, reason)
