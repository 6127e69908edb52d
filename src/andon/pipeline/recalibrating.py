"""Another threshold for a predictor that exists, without its training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from andon.calibrate import (
    Costs,
    Expected,
    calibrate_with_defects,
    calibration_of_group,
    expected_cost,
    outcome_table,
)
from andon.data import list_images, read_samples
from andon.errors import DataError
from andon.pipeline.ignoring import ZoneSource, later_plan, own_thresholds
from andon.pipeline.parts import FITTED_ON, short_digest
from andon.pipeline.rules import Criterion, Rule
from andon.pipeline.scoring import Scored, ZonePeaks, each, scored
from andon.runtime.monitor import ReferenceMaker
from andon.runtime.predictor import Predictor
from andon.types import Calibration, Decision

Progress = Callable[[str, int, int], None]  # phase, done, total


class Part(NamedTuple):
    """The images that one calibration decides on: all, or those of a group."""

    name: str
    calibration: Calibration
    nominal: list[float]  # raw scores
    anomalous: list[float]
    criterion: Criterion | None = None  # of the calibration, where defects were given

    def outcomes(self) -> dict[str, dict[Decision, int]]:
        """How many of the nominal and of the anomalous images pass, are reviewed and fail; kinds without images left out."""
        kinds = {"nominal": self.nominal, "anomalous": self.anomalous}
        return {
            kind: outcome_table(self.calibration, scores)["nominal"]
            for kind, scores in kinds.items()
            if scores
        }

    def costs(self) -> tuple[Costs, dict[str, Expected]] | None:
        """What was given as costs, and what a part is expected to cost as set and, where reviews have a price, otherwise.

        None where the threshold was not set by costs, or not both kinds of images are there.
        """
        if (
            self.criterion is None
            or self.calibration.method != "cost"
            or not (self.nominal and self.anomalous)
        ):
            return None
        costs = self.criterion.costs(len(self.nominal), len(self.anomalous))
        found = {"as set": expected_cost(self.calibration, self.nominal, self.anomalous, costs)}
        if costs.review is not None:
            alone = calibrate_with_defects(
                self.nominal, self.anomalous, criterion="cost", cost_escape=costs.escape,
                cost_false_alarm=costs.false_alarm, defect_rate=costs.defect_rate, review_rate=0.0,
            )  # fmt: skip
            found["without reviews"] = expected_cost(alone, self.nominal, self.anomalous, costs)
            found["all reviewed"] = Expected(0.0, 0.0, costs.review)
        return costs, found


@dataclass(frozen=True)
class Recalibration:
    """The predictor with its new threshold, and the raw scores that it was set on."""

    predictor: Predictor
    nominal: list[float]
    anomalous: list[float]
    skipped: list[list[str]]  # [name, reason] of images that could not be read
    left_out: int  # good images that the detector was fitted on
    by_group: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)  # nominal, anomalous
    criterion: Criterion | None = None  # where defects were given

    def parts(self) -> list[Part]:
        """What decides on which of the images: one calibration for all of them, or one for each group."""
        calibration = self.predictor.calibration
        groups = [
            Part(name, calibration_of_group(calibration, name), *scores, self.criterion)
            for name, scores in self.by_group.items()
        ]
        return groups or [Part("all images", calibration, self.nominal, self.anomalous, self.criterion)]


def recalibrate(
    predictor: Predictor,
    good: Path,
    bad: Path | None = None,
    criterion: Criterion | None = None,
    *,
    target_rate: float | None = None,
    confidence: float | None = None,
    review_rate: float | None = None,
    strict: bool = False,
    extrapolate: bool = False,
    group_by: str | None = None,
    fall_back: bool = False,
    ignore: ZoneSource | None = None,
    progress: Progress | None = None,
) -> Recalibration:
    """``predictor`` with the threshold that the images in ``good`` (and ``bad``) call for.

    Rates not given stay as they were. The former calibration goes to the manifest's history. Good images that the
    detector was fitted on, byte for byte, are left out and said: a threshold set on them would be too low.
    ``strict``, ``extrapolate``: see :class:`Rule`. ``group_by``: a pattern of paths (:class:`andon.calibrate.PathPattern`);
    each group with images enough gets a threshold of its own, and the images of others are for review, or decided by
    the threshold of all groups together where ``fall_back`` says so. ``ignore``: zones not to inspect from now on, in
    the place of those given at an earlier calibration; those of the fit stay.

    Raises :class:`DataError` where no image can be read or none is new, one is both good and bad, a folder in ``good``
    is named like a defect, or a path does not fit ``group_by``; :class:`SettingsError` on rules that do not go together;
    :class:`CalibrationError` where ``strict`` has too few images.
    """
    before = predictor.calibration
    rule = Rule(
        before.target_rate if target_rate is None else target_rate,
        before.confidence if confidence is None else confidence,
        review_rate, strict, extrapolate, group_by, fall_back,
        (criterion or Criterion()) if bad is not None else None,
    )  # fmt: skip
    found = [sample.path for sample in read_samples(good, "folder")]  # refuses what is named like defects
    bad_images = list_images(bad) if bad is not None else []
    _check_apart(found, bad_images)
    good_images = _not_fitted(predictor, found, good)
    plan, asked, own_peaks = predictor.zone_plan, predictor, ZonePeaks()
    if ignore is not None:
        plan = later_plan(predictor, ignore, good_images)
        asked = predictor.recalibrated(before, plan)
    looks = ReferenceMaker.from_manifest(predictor.manifest)
    nominal = scored(asked, good_images, group_by, progress, each(own_peaks, looks))
    _require_some(nominal, good)
    anomalous = scored(asked, bad_images, group_by, progress)
    if bad is not None:
        _require_some(anomalous, bad)
    calibration = rule.calibration(nominal, anomalous)
    if plan is not None:
        plan = own_thresholds(plan, own_peaks.found, target_rate=rule.target_rate, confidence=rule.confidence)
    found_anew = predictor.recalibrated(calibration, plan).artifact.with_manifest(**looks.manifest_entry())
    return Recalibration(
        Predictor(found_anew, check=False), nominal.scores, anomalous.scores, nominal.skipped + anomalous.skipped,
        len(found) - len(good_images), {name: (nominal.of(name)[0], anomalous.of(name)[0]) for name in calibration.groups},
        rule.criterion,
    )  # fmt: skip


def _check_apart(good: list[Path], bad: list[Path]) -> None:
    both = {path.resolve() for path in good} & {path.resolve() for path in bad}
    if both:
        raise DataError(
            f"{len(both)} images are given as good and as bad, {min(both)} among them. Give folders that do not overlap."
        )


def _not_fitted(predictor: Predictor, images: list[Path], folder: Path) -> list[Path]:
    """Those of ``images`` that the detector was not fitted on."""
    fitted = set(predictor.manifest.get("data", {}).get(FITTED_ON, ()))
    new = [path for path in images if short_digest(path) not in fitted] if fitted else images
    if not new:
        raise DataError(
            f"the detector was fitted on all {len(images)} images in {folder}: a threshold set on them would be too low. "
            "Give good images that it has not seen, of a later lot for example."
        )
    return new


def _require_some(found: Scored, folder: Path) -> None:
    if not found.scores:
        raise DataError(
            f"none of the {len(found.skipped)} images in {folder} could be read. {found.skipped[0][1]}"
        )
