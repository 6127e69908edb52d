"""Raw scores of images, as the predictor itself gives them, group after group where paths name groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from andon.calibrate import group_paths
from andon.errors import ImageError
from andon.runtime.predictor import Measurement, Predictor

Progress = Callable[[str, int, int], None]  # phase, done, total


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
    """Raw image scores and map peaks of ``paths``, and ``[name, reason]`` of the images that have none: they cannot be
    read, or are for a person whatever their score, as codes in them are not as on good parts.

    ``watch`` is shown every measurement.
    """
    scores, peaks, skipped = [], [], []
    for done, path in enumerate(paths, 1):
        try:
            measured = predictor.measure(path)
            if measured.judged is not None and measured.judged.doubts:  # for a person, whatever the threshold
                raise ImageError("; ".join(measured.judged.doubts))
            scores.append(measured.image_score)
            peaks.append(measured.map_peak)
            if watch is not None:
                watch(measured)
        except ImageError as error:
            skipped.append([path.name, str(error)])
        if progress:
            progress(phase, done, len(paths))
    return scores, peaks, skipped


class Scored(NamedTuple):
    """Raw scores and map peaks of images, group after group, and where each group's lie among them."""

    scores: list[float]
    peaks: list[float]
    skipped: list[list[str]]  # [name, reason] of images that could not be read
    groups: dict[str, slice]

    def of(self, group: str) -> tuple[list[float], list[float]]:
        """The raw scores and the map peaks of one group; none where it has no images."""
        place = self.groups.get(group, slice(0, 0))
        return self.scores[place], self.peaks[place]


def scored(
    predictor: Predictor,
    images: Sequence[Path],
    group_by: str | None,
    progress: Progress | None = None,
    watch: Callable[[Measurement], None] | None = None,
) -> Scored:
    """``images`` scored by the groups that the pattern ``group_by`` finds in their paths; without one, as they come.

    ``watch`` is shown every measurement. Raises :class:`DataError` for a path that does not fit the pattern.
    """
    found = Scored([], [], [], {})
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
