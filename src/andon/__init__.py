"""Andon finds defective parts after seeing only good ones.

::

    import andon

    detector = andon.fit("good/")              # a folder of good photographs
    verdict = detector.inspect("new.png")
    print(verdict.decision, verdict.sentence)
    detector.save("part.andon")
    detector = andon.load("part.andon")        # needs no PyTorch
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from andon.errors import (
    AndonError,
    ArtifactError,
    BusyError,
    CalibrationError,
    DataError,
    ImageError,
    MetricError,
    MissingExtraError,
    NotFittedError,
    SettingsError,
)
from andon.types import Calibration, Evaluation, Failure, Region, Sample, Verdict

__version__ = "0.1.0"

if TYPE_CHECKING:
    from andon.pipeline import FitOptions, fit
    from andon.runtime.predictor import Predictor, load

# Loaded on first use, so that `import andon` costs milliseconds.
_LAZY = {
    "FitOptions": "andon.pipeline",
    "fit": "andon.pipeline",
    "Predictor": "andon.runtime.predictor",
    "load": "andon.runtime.predictor",
}

__all__ = [
    "AndonError",
    "ArtifactError",
    "BusyError",
    "Calibration",
    "CalibrationError",
    "DataError",
    "Evaluation",
    "Failure",
    "FitOptions",
    "ImageError",
    "MetricError",
    "MissingExtraError",
    "NotFittedError",
    "Predictor",
    "Region",
    "Sample",
    "SettingsError",
    "Verdict",
    "__version__",
    "fit",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'andon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
