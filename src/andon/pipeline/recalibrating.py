"""Another threshold for a predictor that exists, without its training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from andon.calibrate import (
    PathPattern,
    calibrate,
    calibrate_extrapolated,
    calibrate_with_defects,
    calibration_of_group,
    group_images_needed,
    group_paths,
    outcome_table,
    refused_group,
    too_few,
    with_groups,
)
from andon.data import list_images, read_samples
from andon.errors import DataError, SettingsError
from andon.pipeline.ignoring import ZoneSource, later_plan, own_thresholds
from andon.pipeline.parts import FITTED_ON, short_digest
from andon.pipeline.scoring import ZonePeaks, each, raw_scores
from andon.runtime.monitor import ReferenceMaker
from andon.runtime.predictor import Measurement, Predictor
from andon.types import Calibration, Decision

LEAST_GOOD, LEAST_BAD = 20, 10  # images of a group that gets a threshold of its own from good and bad ones
Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class Criterion:
    """What a threshold is best for when defects are known; see :func:`andon.calibrate.calibrate_with_defects`."""

    name: Literal["tpr", "f1", "cost", "youden"] = "tpr"
    required_tpr: float = 0.99
    cost_escape: float = 10.0
    cost_false_alarm: float = 1.0
    defect_rate: float | None = None
    review_tpr: float | None = None


@dataclass(frozen=True)
class Rule:
    """How scores become a threshold: the rates, and what to do where the images are too few to promise them.

    ``strict``: no threshold then. ``extrapolate``: an estimate by the scores' tail.
    """

    target_rate: float
    confidence: float
    review_rate: float | None = None
    strict: bool = False
    extrapolate: bool = False
    criterion: Criterion | None = None  # with bad images; without them None

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


class Part(NamedTuple):
    """The images that one calibration decides on: all, or those of a group."""

    name: str
    calibration: Calibration
    nominal: list[float]  # raw scores
    anomalous: list[float]

    def outcomes(self) -> dict[str, dict[Decision, int]]:
        """How many of the nominal and of the anomalous images pass, are reviewed and fail; kinds without images left out."""
        kinds = {"nominal": self.nominal, "anomalous": self.anomalous}
        return {
            kind: outcome_table(self.calibration, scores)["nominal"]
            for kind, scores in kinds.items()
            if scores
        }


@dataclass(frozen=True)
class Recalibration:
    """The predictor with its new threshold, and the raw scores that it was set on."""

    predictor: Predictor
    nominal: list[float]
    anomalous: list[float]
    skipped: list[list[str]]  # [name, reason] of images that could not be read
    left_out: int  # good images that the detector was fitted on
    by_group: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)  # nominal, anomalous

    def parts(self) -> list[Part]:
        """What decides on which of the images: one calibration for all of them, or one for each group."""
        calibration = self.predictor.calibration
        groups = [
            Part(name, calibration_of_group(calibration, name), *scores)
            for name, scores in self.by_group.items()
        ]
        return groups or [Part("all images", calibration, self.nominal, self.anomalous)]


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
        review_rate, strict, extrapolate,
        (criterion or Criterion()) if bad is not None else None,
    )  # fmt: skip
    _check_together(rule, group_by, fall_back)
    found = [sample.path for sample in read_samples(good, "folder")]  # refuses what is named like defects
    bad_images = list_images(bad) if bad is not None else []
    _check_apart(found, bad_images)
    good_images = _not_fitted(predictor, found, good)
    plan, asked, own_peaks = predictor.zone_plan, predictor, ZonePeaks()
    if ignore is not None:
        plan = later_plan(predictor, ignore, good_images)
        asked = predictor.recalibrated(before, plan)
    looks = ReferenceMaker.from_manifest(predictor.manifest)
    nominal = _score(asked, good_images, group_by, progress, each(own_peaks, looks))
    _require_some(nominal, good)
    anomalous = _score(asked, bad_images, group_by, progress)
    if bad is not None:
        _require_some(anomalous, bad)
    calibration = rule(nominal.scores, nominal.peaks, anomalous.scores)
    names = sorted({*nominal.groups, *anomalous.groups})
    if group_by is not None:
        own = {name: rule.of_group(calibration, *nominal.of(name), anomalous.of(name)[0]) for name in names}
        calibration = with_groups(calibration, group_by, own, fall_back=fall_back)
    if plan is not None:
        plan = own_thresholds(plan, own_peaks.found, target_rate=rule.target_rate, confidence=rule.confidence)
    found_anew = predictor.recalibrated(calibration, plan).artifact.with_manifest(**looks.manifest_entry())
    return Recalibration(
        Predictor(found_anew, check=False), nominal.scores, anomalous.scores, nominal.skipped + anomalous.skipped,
        len(found) - len(good_images), {name: (nominal.of(name)[0], anomalous.of(name)[0]) for name in names},
    )  # fmt: skip


class _Scored(NamedTuple):
    """Raw scores and map peaks of images, group after group, and where each group's lie among them."""

    scores: list[float]
    peaks: list[float]
    skipped: list[list[str]]
    groups: dict[str, slice]

    def of(self, group: str) -> tuple[list[float], list[float]]:
        place = self.groups.get(group, slice(0, 0))
        return self.scores[place], self.peaks[place]


def _score(
    predictor: Predictor, images: list[Path], group_by: str | None, progress: Progress | None,
    watch: Callable[[Measurement], None] | None = None,
) -> _Scored:  # fmt: skip
    found = _Scored([], [], [], {})
    done = 0
    for name, paths in group_paths(group_by, images).items() if group_by is not None else [("", images)]:
        scores, peaks, skipped = raw_scores(
            predictor, paths, _part_of(progress, done, len(images)), watch=watch
        )
        if group_by is not None:
            found.groups[name] = slice(len(found.scores), len(found.scores) + len(scores))
        found.scores.extend(scores)
        found.peaks.extend(peaks)
        found.skipped.extend(skipped)
        done += len(paths)
    return found


def _part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """``progress`` told of a part of the work as of the whole."""
    return (lambda phase, done, _: progress(phase, before + done, total)) if progress is not None else None


def _check_together(rule: Rule, group_by: str | None, fall_back: bool) -> None:
    """Raise :class:`SettingsError` for rules that do not go together."""
    if rule.criterion is not None and (rule.strict or rule.extrapolate):
        raise SettingsError(
            "strict and extrapolate are for thresholds from good images alone; leave out the bad ones"
        )
    if rule.extrapolate and (rule.strict or group_by is not None):
        raise SettingsError("extrapolate gives an estimate: it goes neither with strict nor with group_by")
    if rule.criterion is not None and rule.criterion.review_tpr is not None and rule.review_rate is not None:
        raise SettingsError("review_rate and review_tpr both set the review band; give one of them")
    if fall_back and group_by is None:
        raise SettingsError("fall_back is for groups without a threshold of their own; give group_by, too")
    if group_by is not None:
        PathPattern.parse(group_by)


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


def _require_some(found: _Scored, folder: Path) -> None:
    if not found.scores:
        raise DataError(
            f"none of the {len(found.skipped)} images in {folder} could be read. {found.skipped[0][1]}"
        )
