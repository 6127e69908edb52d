"""A predictor, or another tool's maps, against photographs whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon import evaluate as engine
from andon.data import read_channels, read_samples
from andon.errors import DataError, ImageError
from andon.runtime.predictor import Predictor
from andon.types import Decision, Evaluation, Failure, Sample, Verdict

Progress = Callable[[str, int, int], None]  # phase, done, total
Watch = Callable[[Sample, NDArray[np.float32]], None]
Score = Callable[[Sample], tuple[float, NDArray[np.float32] | None]]


@dataclass(frozen=True)
class Judged:
    """An evaluation, and the verdict on each of its images (without maps), in the same order."""

    evaluation: Evaluation
    answers: list[Verdict | Failure]


def judge(
    predictor: Predictor,
    root: Path,
    *,
    layout: str = "auto",
    category: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Judged:
    """The figures of ``predictor`` on the test images of ``root``, at its deployed threshold, and its verdicts.

    ``watch`` is shown every raw map (h, w), once. Raises :class:`DataError` when there are no test images.
    """
    answers: list[Verdict | Failure] = []
    decisions: dict[Path, Decision] = {}  # of groups and zones with thresholds of their own, too

    def score(sample: Sample) -> tuple[float, NDArray[np.float32] | None]:
        try:
            verdict = predictor.inspect(sample.path)
        except ImageError as error:
            answers.append(Failure(str(sample.path), str(error)))
            raise
        answers.append(replace(verdict, anomaly_map=None))
        decisions[sample.path] = verdict.decision
        if watch is not None and verdict.anomaly_map is not None:
            watch(sample, verdict.anomaly_map)
        return verdict.image_score, verdict.anomaly_map

    calibration = predictor.calibration
    deployed = bool(np.isfinite(calibration.threshold))
    evaluation = _evaluate(
        root, score, layout, category, bootstrap, seed, progress,
        threshold=calibration.threshold if deployed else None,
        review_threshold=calibration.review_threshold,
        decide=(lambda sample, _: decisions[sample.path]) if deployed else None,
    )  # fmt: skip
    return Judged(evaluation, answers)


def evaluate_maps(
    maps: Path,
    root: Path,
    *,
    layout: str = "auto",
    category: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """The figures of the anomaly maps that another tool wrote into ``maps``, on the test images of ``root``."""
    score = engine.score_maps(_test_samples(root, layout, category), maps)
    return _evaluate(root, score, layout, category, bootstrap, seed, progress)


def has_known_answers(root: Path) -> bool:
    """Whether ``root`` is a data set with test images both good and anomalous."""
    try:
        samples = _test_samples(root, "auto", None)
    except DataError:
        return False
    return len({sample.is_anomalous for sample in samples}) == 2


def _evaluate(
    root: Path,
    score: Score,
    layout: str,
    category: str | None,
    bootstrap: int,
    seed: int,
    progress: Progress | None,
    threshold: float | None = None,
    review_threshold: float | None = None,
    decide: Callable[[Sample, float], Decision] | None = None,
) -> Evaluation:
    return engine.evaluate(
        _test_samples(root, layout, category),
        score,
        threshold=threshold,
        review_threshold=review_threshold,
        decide=decide,
        channels=read_channels,
        bootstrap=bootstrap,
        seed=seed,
        progress=partial(progress, "evaluate") if progress else None,
    )


def _test_samples(root: Path, layout: str, category: str | None) -> list[Sample]:
    samples = [sample for sample in read_samples(root, layout, category=category) if sample.split == "test"]
    if not samples:
        raise DataError(
            f"{root} holds no test images. Expected a data set with known answers (see: andon data layouts), "
            "or a folder with the subfolders good/ and bad/."
        )
    return samples
