"""A predictor, or another tool's maps, against photographs whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon import evaluate as engine
from andon.data import read_channels, read_samples
from andon.errors import DataError
from andon.runtime.predictor import Predictor
from andon.types import Evaluation, Sample

Progress = Callable[[str, int, int], None]  # phase, done, total
Score = Callable[[Sample], tuple[float, NDArray[np.float32] | None]]


def evaluate(
    predictor: Predictor,
    root: Path,
    *,
    layout: str = "auto",
    category: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """The figures of ``predictor`` on the test images of ``root``, at its deployed threshold.

    Raises :class:`DataError` when there are no test images of both kinds.
    """

    def score(sample: Sample) -> tuple[float, NDArray[np.float32]]:
        measured = predictor.measure(sample.path)
        return measured.image_score, measured.anomaly_map

    calibration = predictor.calibration
    return _evaluate(
        root, score, layout, category, bootstrap, seed, progress,
        threshold=calibration.threshold if np.isfinite(calibration.threshold) else None,
        review_threshold=calibration.review_threshold,
    )  # fmt: skip


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


def _evaluate(root: Path, score: Score, layout: str, category: str | None, bootstrap: int, seed: int,
              progress: Progress | None, **thresholds: float | None) -> Evaluation:  # fmt: skip
    return engine.evaluate(
        _test_samples(root, layout, category),
        score,
        channels=read_channels,
        bootstrap=bootstrap,
        seed=seed,
        progress=partial(progress, "evaluate") if progress else None,
        **thresholds,
    )


def _test_samples(root: Path, layout: str, category: str | None) -> list[Sample]:
    samples = [sample for sample in read_samples(root, layout, category=category) if sample.split == "test"]
    if not samples:
        raise DataError(
            f"{root} holds no test images. Expected a data set with known answers (see: andon data layouts), "
            "or a folder with the subfolders good/ and bad/."
        )
    return samples
