"""Another threshold for a predictor that exists, without its training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from andon.calibrate import calibrate, calibrate_with_defects
from andon.data import list_images, read_samples
from andon.errors import DataError
from andon.pipeline.fitting import FITTED_ON, raw_scores, short_digest
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
    left_out: int  # good images that the detector was fitted on


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

    Rates not given stay as they were. The former calibration goes to the manifest's history. Good images that the
    detector was fitted on, byte for byte, are left out and said: a threshold set on them would be too low.
    Raises :class:`DataError` where no image can be read or none is new, one is both good and bad, or a folder in
    ``good`` is named like a defect.
    """
    criterion = criterion or Criterion()
    before = predictor.calibration
    confidence = before.confidence if confidence is None else confidence
    found = [sample.path for sample in read_samples(good, "folder")]  # refuses what is named like defects
    bad_images = list_images(bad) if bad is not None else []
    _check_apart(found, bad_images)
    good_images = _not_fitted(predictor, found, good)
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
    left_out = len(found) - len(good_images)
    return Recalibration(predictor.recalibrated(calibration), nominal, anomalous, skipped, left_out)


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


def _require_some(scores: list[float], folder: Path, skipped: list[list[str]]) -> None:
    if not scores:
        raise DataError(f"none of the {len(skipped)} images in {folder} could be read. {skipped[0][1]}")
