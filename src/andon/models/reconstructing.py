"""What the detectors that compare an image with a picture of it as a good part have in common: the image score."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from andon.features.running import Measure
from andon.features.unusual import Unusual
from andon.models.base import Look
from andon.models.checks import one_of
from andon.models.trained import TrainedDetector

UNUSUAL, PEAK, PAPER = "unusual", "peak", "paper"


class ReconstructingDetector(TrainedDetector):
    """Abstract. ``score`` says what the image score is:

    "unusual": how far the residual is above what good images leave over at the same place (:mod:`andon.features.unusual`),
    measured on the training images after the training; "peak": the largest value of the map, after no further look;
    "paper", where ``has_paper_score``: the paper's, which is neither.

    A subclass calls :meth:`score_by` in ``__init__``, ends its phases with :meth:`looks`, and implements ``left_over``.
    """

    reconstructs = True
    has_paper_score = False
    score: str
    unusual: Unusual

    def score_by(self, score: str) -> None:
        """Set ``score``. Raises :class:`SettingsError` when there is no such one."""
        self.score = one_of(
            "score", score, (UNUSUAL, PEAK, PAPER) if self.has_paper_score else (UNUSUAL, PEAK)
        )
        self.unusual = Unusual()

    def reset(self) -> None:
        """Forget everything that was observed and learnt, and what is usual."""
        self.unusual.reset_parameters()
        super().reset()

    @abstractmethod
    def left_over(self, images: Tensor) -> Tensor:
        """The residual (B, 1, H, W) of ``images`` (B, 3, H, W): more where they are less like good ones."""

    def looks(self) -> tuple[Look, ...]:
        """The look at the training images that the score needs."""
        return (self.look_at_usual(),) if self.score == UNUSUAL else ()

    def look_at_usual(self) -> Look:
        """A pass over the training images that measures what is left over of each place."""
        return Look("what is usual", Measure(self.unusual, self.left_over))

    def image_score(self, left_over: Tensor, anomaly_map: Tensor) -> Tensor:
        """(B,): "unusual" of the residual (B, 1, h, w), or the largest value of the map (B, 1, H, W)."""
        if self.score == UNUSUAL:
            unusual: Tensor = self.unusual(left_over)
            return unusual
        return anomaly_map.flatten(1).amax(1)
