"""Raw scores of good images, and the threshold that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from andon.calibrate import calibrate, uncalibrated
from andon.errors import ImageError
from andon.pipeline.options import FitOptions
from andon.runtime.predictor import Measurement, Predictor
from andon.types import Calibration

Progress = Callable[[str, int, int], None]  # phase, done, total


def calibration_of(scores: Sequence[float], peaks: Sequence[float], options: FitOptions) -> Calibration:
    """The calibration from nominal raw ``scores`` and map ``peaks``; none at all gives one that asks for review."""
    if not scores:
        return uncalibrated()
    return calibrate(scores, target_rate=options.target_rate, confidence=options.confidence, map_peaks=peaks)


class ZonePeaks:
    """The largest map values in each zone with a threshold of its own, one an image that is shown to it."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def __call__(self, measured: Measurement) -> None:
        for name, peak in measured.zone_peaks.items():
            self.found.setdefault(name, []).append(peak)


def each(*watches: Callable[[Measurement], None]) -> Callable[[Measurement], None]:
    """What shows a measurement to all ``watches``."""

    def show(measured: Measurement) -> None:
        for watch in watches:
            watch(measured)

    return show


def raw_scores(
    predictor: Predictor,
    paths: Sequence[Path],
    progress: Progress | None = None,
    phase: str = "calibrate",
    *,
    watch: Callable[[Measurement], None] | None = None,
) -> tuple[list[float], list[float], list[list[str]]]:
    """Raw image scores and map peaks of ``paths``, and ``[name, reason]`` of the images that could not be read.

    ``watch`` is shown every measurement.
    """
    scores, peaks, skipped = [], [], []
    for done, path in enumerate(paths, 1):
        try:
            measured = predictor.measure(path)
            scores.append(measured.image_score)
            peaks.append(measured.map_peak)
            if watch is not None:
                watch(measured)
        except ImageError as error:
            skipped.append([path.name, str(error)])
        if progress:
            progress(phase, done, len(paths))
    return scores, peaks, skipped
