"""How to train, apart from the method's own settings; and how a phase of training went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from andon.data.augment import Augmentation
from andon.errors import SettingsError
from andon.models.checks import number, whole

CURVE_POINTS = 500  # of each phase, at most


@dataclass(frozen=True)
class Plan:
    """How to train. Raises :class:`SettingsError` for values that make no sense."""

    minutes: float | None = None  # of training; None: as many as the method's steps take
    early_stop: int | None = (
        None  # evaluations without a better held-out loss after which a phase ends; None: never
    )
    precision: str = "float32"  # of the loss: "float32", "bfloat16" or "float16"
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:1"
    augment: Augmentation | None = None
    copies: int = 1  # varied versions of each image that a closed-form method sees besides the image
    cache_gb: float = 4.0  # on disk, for what frozen networks make of the images; 0: none
    cache_folder: Path | None = None  # where; None: the system's folder for temporary files
    image_gb: float = 0.5  # of memory, for decoded images

    def __post_init__(self) -> None:
        if self.minutes is not None and number("minutes", self.minutes) == 0:
            raise SettingsError(
                "minutes must be more than 0; leave it away to train for all of the method's steps"
            )
        if self.early_stop is not None:
            whole("early_stop", self.early_stop, 1)
        whole("copies", self.copies)
        number("cache_gb", self.cache_gb)
        number("image_gb", self.image_gb)

    @property
    def caches(self) -> bool:
        """Whether to keep what frozen networks make of the images: not of varied ones, which are new every time."""
        return self.cache_gb > 0 and self.augment is None

    def key(self) -> dict[str, Any]:
        """What of it decides what is learnt, as plain values: a fit goes on only with the same."""
        kinds = self.augment.kinds if self.augment else ()
        return {"early_stop": self.early_stop, "precision": self.precision, "augment": list(kinds),
                "copies": self.copies if kinds else 0, "caches": self.caches, "timed": self.minutes is not None}  # fmt: skip


@dataclass
class Record:
    """How one phase went, or is going."""

    phase: str
    steps: int  # planned
    losses: list[float] = field(default_factory=list)  # one a step: the sum over its turns
    held_out: list[tuple[int, float]] = field(default_factory=list)  # (after how many steps, loss)
    seconds: float = 0.0
    ended: str = ""  # why before its last step

    def described(self) -> dict[str, Any]:
        """It as plain values, the curve thinned."""
        steps, losses = curve(self.losses)
        described = {"phase": self.phase, "planned": self.steps, "done": len(self.losses),
                     "seconds": round(self.seconds, 3), "steps": steps, "loss": losses}  # fmt: skip
        if self.held_out:
            described["held_out"] = [[step, _short(loss)] for step, loss in self.held_out]
        return {**described, "ended": self.ended} if self.ended else described


def curve(losses: Sequence[float], points: int = CURVE_POINTS) -> tuple[list[int], list[float]]:
    """At most ``points`` means of as many consecutive losses each, and the last step of each, counted from 1.

    >>> curve([4.0, 2.0, 1.0, 1.0], points=2)
    ([2, 4], [3.0, 1.0])
    """
    parts = [
        part for part in np.array_split(np.arange(len(losses)), min(points, len(losses)) or 1) if part.size
    ]
    values = np.asarray(losses, dtype=np.float64)
    return [int(part[-1]) + 1 for part in parts], [_short(values[part].mean()) for part in parts]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
