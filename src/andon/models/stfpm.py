"""STFPM: a student learns a teacher's features at several layers at once, on good parts only.

G. Wang, S. Han, E. Ding, D. Huang, "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021
(arXiv:2103.04257).

    l^l(i, j) = 1/2 |F^_t^l(i, j) - F^_s^l(i, j)|^2     F^ = F / |F|, a position       (eq. 1 and 2)
    l^l       = mean of l^l(i, j) over positions                                       (eq. 3)
    loss      = sum over l of alpha_l l^l,   alpha_l = 1                               (eq. 4)
    map       = product over l of l^l(i, j) brought up to (H, W);  image score = its maximum

Letters: F_t and F_s the teacher's and the student's features, l the layer, i and j the position; B images, H and W the
image, h and w a layer's grid. Constants (SGD at 0.4, momentum 0.9, decay 1e-4, alpha = 1) are the paper's.

Differences from the paper: any backbone teaches, and the student is a residual network of its own with a linear
output a layer (the paper: a ResNet18, both); ``combine="sum"`` adds the layers' maps up instead; fewer steps, of fewer
images (the paper: 100 epochs of 32); the rate falls tenfold for the last fifth; no choice among epochs by a validation
set; the map may be blurred.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.patches import blur_map
from andon.features.pdn import on_grid
from andon.features.pyramid import PyramidStudent, on_grids
from andon.models.base import Phase, Scores, State, Turn
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

COMBINE = ("product", "sum")
MOMENTUM, DECAY = 0.9, 1e-4


class STFPM(TrainedDetector):
    """Scores by the angle between a teacher's features and a student's, over several layers.

    ``backbone``, ``layers``: the teacher, a name, file or module, and which of its layers (None: its default ones).
    ``width``, ``blocks``: of the student (64 and 2: ResNet18's). ``combine``: the layers' maps by ``"product"`` (the
    paper) or ``"sum"``. ``blur_sigma`` of the map, in pixels (the paper: 0).
    """

    title = "STFPM"
    paper = "Wang et al. 2021, Student-Teacher Feature Pyramid Matching for Anomaly Detection"

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        width: int = 32,
        blocks: int = 2,
        combine: Literal["product", "sum"] = "product",
        steps: int = 600,
        batch_size: int = 8,
        learning_rate: float = 0.4,
        blur_sigma: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.width, self.blocks = whole("width", width, 1), whole("blocks", blocks)
        if combine not in COMBINE:
            raise SettingsError(f"combine must be one of {list(COMBINE)}, got {combine!r}")
        self.combine = combine
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        taken = {name: info for name, info in self.backbone.layers.items() if name in self.layers}
        self.student = PyramidStudent(taken, width, blocks)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.student)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """F_t, by layer."""
        features = self.backbone(images)
        return {name: features[name] for name in self.student.names}

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """Eq. 4, ()."""
        frozen = self.frozen(images) if frozen is None else frozen
        with learning(self.student):
            student = on_grids(self.student(images), frozen)
        return torch.stack([apart(frozen[name], student[name]).mean() for name in student]).sum()

    def phases(self) -> Sequence[Phase]:
        """One phase of SGD, the rate falling tenfold for the last fifth."""

        def sgd(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, self.learning_rate, MOMENTUM, weight_decay=DECAY)

        turn = Turn(self.loss, list(self.student.parameters()), sgd)
        return (Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1),)

    def parts(self, images: Tensor) -> Tensor:
        """The layers' maps (B, L, H, W), brought up to the image."""
        teacher = self.frozen(images)
        student = on_grids(self.student(images), teacher)
        size = (int(images.shape[2]), int(images.shape[3]))
        return torch.cat([on_grid(apart(teacher[name], student[name]), size) for name in student], 1)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W)."""
        self.require_fitted()
        require_images(images)
        parts = self.parts(images)
        together = parts.prod(1, keepdim=True) if self.combine == "product" else parts.sum(1, keepdim=True)
        anomaly_map = blur_map(together, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


def apart(teacher: Tensor, student: Tensor) -> Tensor:
    """l^l(i, j) of eq. 1 and 2, (B, 1, h, w) in [0, 2], from F_t and F_s (B, C, h, w)."""
    difference = F.normalize(teacher, dim=1) - F.normalize(student, dim=1)
    return 0.5 * difference.square().sum(1, keepdim=True)
