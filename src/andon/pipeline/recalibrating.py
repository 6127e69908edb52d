"""Another threshold for a predictor that exists, without its training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from andon.calibrate import calibrate, calibrate_with_defects
from andon.data import list_images, read_samples
from andon.errors import DataError
from andon.pipeline.fitting import raw_scores
from andon.runtime.predictor import Predictor


@dataclass(frozen=True)
class Criterion:
    """What a threshold is best for when defects are known; see :func:`andon.calibrate.calibrate_with_defects`."""

    name: Literal["tpr", "f1", "cost", "youden"] = "tpr"
    required_tpr: float = 0.99
    cost_escape: float = 10.0
    cost_false_alarm: float = 1.0
    defect_rate: float | None = None


@dataclass(frozen=True)
class Recalibration:
    """The predictor with its new threshold, and the raw scores that it was set on."""

    predictor: Predictor
    nominal: list[float]
    anomalous: list[float]
    skipped: list[list[str]]  # [name, reason] of images that could not be read


def recalibrate(
    predictor: Predictor,
    good: Path,
    bad: Path | None = None,
    criterion: Criterion | None = None,
    *,
    target_rate: float | None = None,
    confidence: float | None = None,
    review_rate: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Recalibration:
    """``predictor`` with the threshold that the images in ``good`` (and ``bad``) call for.

    Rates not given stay as they were. The former calibration goes to the manifest's history.
    Raises :class:`DataError` where no image can be read, one is both good and bad, or a folder in ``good`` is
    named like a defect.
    """
    criterion = criterion or Criterion()
    before = predictor.calibration
    confidence = before.confidence if confidence is None else confidence
    good_images = [
        sample.path for sample in read_samples(good, "folder")
    ]  # refuses what is named like defects
    bad_images = list_images(bad) if bad is not None else []
    _check_apart(good_images, bad_images)
    nominal, peaks, skipped = raw_scores(predictor, good_images, progress)
    _require_some(nominal, good, skipped)
    anomalous: list[float] = []
    if bad is None:
        rate = before.target_rate if target_rate is None else target_rate
        calibration = calibrate(
            nominal, target_rate=rate, confidence=confidence, review_rate=review_rate, map_peaks=peaks
        )
    else:
        anomalous, _, unread = raw_scores(predictor, bad_images, progress)
        _require_some(anomalous, bad, unread)
        skipped += unread
        calibration = calibrate_with_defects(
            nominal, anomalous, criterion=criterion.name, required_tpr=criterion.required_tpr,
            cost_escape=criterion.cost_escape, cost_false_alarm=criterion.cost_false_alarm,
            defect_rate=criterion.defect_rate, confidence=confidence, map_peaks=peaks,
            review_rate=0.05 if review_rate is None else review_rate,
        )  # fmt: skip
    return Recalibration(predictor.recalibrated(calibration), nominal, anomalous, skipped)


def _check_apart(good: list[Path], bad: list[Path]) -> None:
    both = {path.resolve() for path in good} & {path.resolve() for path in bad}
    if both:
        raise DataError(
            f"{len(both)} images are given as good and as bad, {min(both)} among them. Give folders that do not overlap."
        )


def _require_some(scores: list[float], folder: Path, skipped: list[list[str]]) -> None:
    if not scores:
        raise DataError(f"none of the {len(skipped)} images in {folder} could be read. {skipped[0][1]}")
