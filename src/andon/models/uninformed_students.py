"""Uninformed Students: several students regress a teacher's descriptors; where they err or disagree is new to them.

P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "Uninformed Students: Student-Teacher Anomaly Detection with
Discriminative Latent Embeddings", CVPR 2020 (arXiv:1911.02357).

    y'      = (y - mu) / sigma                                    the teacher's descriptors, normalised a channel
    loss    = mean over positions of |mu_i - y'|^2, a student i
    e       = |mean over i of mu_i - y'|^2                        the regression error
    v       = mean over i of |mu_i|^2 - |mean over i of mu_i|^2   the predictive variance
    map     = mean over l of (e_l - e_mu) / e_sigma + (v_l - v_mu) / v_sigma

Letters: y the teacher's descriptors, mu_i the i-th of M students' outputs, l the scale, e_mu and e_sigma mean and
deviation of e over good images; B images, C channels of a scale, H and W the image, h and w a scale's grid. Constants
(M = 3, Adam at 1e-4 with decay 1e-5) are the paper's.

Differences from the paper: the teacher is any backbone, which gives descriptors every few pixels, not a network
distilled for one patch size that gives one each pixel; a scale is a layer of it (the paper: a patch size of 17, 33 or
65), and ``scales="joined"`` joins the layers into one. Students are strided networks of 3x3 convolutions with ReLU.
e_mu to v_sigma come from the training images unless held-out ones are asked for (the paper). Fewer steps at a higher
rate that falls tenfold for the last fifth (the paper: 100 epochs of one image); the image score is the map's maximum,
and the map may be blurred. The sum of squares over channels is their mean here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from andon.features.patches import blur_map, join, joined_channels
from andon.features.pdn import centred, on_grid, strided_pdn
from andon.features.running import ChannelMoments, Measure
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, one_of, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

SCALES = ("layers", "joined")
NORMALISE_ON = ("train", "held_out")


class UninformedStudents(TrainedDetector):
    """Scores by the error of an ensemble of students, and by how far they are from agreeing.

    ``backbone``, ``layers``: the teacher, a name, file or module, and which of its layers (None: its default ones).
    ``students``: M, each scale's. ``scales``: an ensemble for each of the ``"layers"``, or one for the layers
    ``"joined"`` on the finest one's grid. ``width``: channels of a student's first convolution, doubled after it. ``normalise_on``:
    images that the means and deviations of e and v come from, ``"train"`` or ``"held_out"`` (the paper).
    ``blur_sigma`` of the map, in pixels (the paper: 0).
    """

    title = "Uninformed Students"
    paper = "Bergmann et al. 2020, Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent Embeddings"  # fmt: skip

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        students: int = 3,
        scales: Literal["layers", "joined"] = "layers",
        width: int = 32,
        normalise_on: Literal["train", "held_out"] = "train",
        steps: int = 1500,
        batch_size: int = 2,
        learning_rate: float = 1e-3,
        blur_sigma: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.students, self.width = whole("students", students, 1), whole("width", width, 1)
        self.scales = one_of("scales", scales, SCALES)
        self.normalise_on = one_of("normalise_on", normalise_on, NORMALISE_ON)
        self.uses_held_out = normalise_on == "held_out"
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        self.groups = (self.layers,) if scales == "joined" else tuple((layer,) for layer in self.layers)
        self.descriptors = nn.ModuleList(
            ChannelMoments(joined_channels(self.backbone, group)) for group in self.groups
        )
        self.ensembles = nn.ModuleList(self._ensemble(group) for group in self.groups)
        self.maps = ChannelMoments(2 * len(self.groups), floor=0.0)
        self.reset()

    def _ensemble(self, group: Sequence[str]) -> nn.Module:
        stride = min(self.backbone.layers[layer].stride for layer in group)
        channels = joined_channels(self.backbone, group)
        return Ensemble(strided_pdn("m", channels, stride, self.width) for _ in range(self.students))

    def _moments(self) -> list[ChannelMoments]:
        return [moments for moments in self.descriptors if isinstance(moments, ChannelMoments)]

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.ensembles, self.descriptors, self.maps)

    def look(self, images: Tensor) -> None:
        """mu and sigma."""
        for moments, y in zip(self._moments(), self.frozen(images).values(), strict=True):
            moments.add(y, self.images_seen)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """y (B, C, h, w), by scale."""
        features = self.backbone(images)
        return {f"scale{number}": join(features, group) for number, group in enumerate(self.groups)}

    def normalised(self, descriptors: State) -> list[Tensor]:
        """y' (B, C, h, w), by scale."""
        return [
            moments.standardise(y) for moments, y in zip(self._moments(), descriptors.values(), strict=True)
        ]

    def answers(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """mu_i (M, B, C, h, w), by scale, on the grids of ``targets``."""
        return [
            ensemble(centred(images), (int(y.shape[2]), int(y.shape[3])))
            for ensemble, y in zip(self.ensembles, targets, strict=True)
        ]

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The students' losses, added up, ()."""
        targets = self.normalised(self.frozen(images) if frozen is None else frozen)
        with learning(self.ensembles):
            answers = self.answers(images, targets)
        return torch.stack(
            [(mu - y).square().mean((1, 2, 3, 4)).sum() for mu, y in zip(answers, targets, strict=True)]
        ).sum()

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam, the rate falling tenfold for the last fifth; then, if asked for, a look at the maps."""
        turn = Turn(self.loss, list(self.ensembles.parameters()), adam(self.learning_rate, weight_decay=1e-5))
        training = Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1)
        if self.normalise_on != "train":
            return (training,)
        return (training, Look("measure the maps", Measure(self.maps, self.parts)))

    def settle(self, held_out: Iterable[Tensor]) -> None:
        """e_mu to v_sigma from held-out images, if asked for."""
        if self.normalise_on == "held_out":
            measure = Measure(self.maps, self.parts)
            for images in held_out:
                measure(images)

    def parts(self, images: Tensor) -> Tensor:
        """e and v of every scale, brought up to the image: (B, 2 L, H, W)."""
        targets = self.normalised(self.frozen(images))
        size = (int(images.shape[2]), int(images.shape[3]))
        pairs = zip(self.answers(images, targets), targets, strict=True)
        return torch.cat([on_grid(error_and_variance(mu, y), size) for mu, y in pairs], 1)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W)."""
        self.require_fitted()
        require_images(images)
        together = self.maps.standardise(self.parts(images)).sum(1, keepdim=True) / len(self.groups)
        anomaly_map = blur_map(together, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


class Ensemble(nn.ModuleList):
    """M students: images (B, 3, H, W) -> (M, B, C, h, w) on a grid."""

    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """mu_i."""
        return torch.stack([on_grid(student(images), grid) for student in self])


def error_and_variance(answers: Tensor, target: Tensor) -> Tensor:
    """e and v (B, 2, h, w), as means over channels, from mu_i (M, B, C, h, w) and y' (B, C, h, w)."""
    together = answers.mean(0)
    error = (together - target).square().mean(1)
    variance = (answers - together).square().mean((0, 2))
    return torch.stack([error, variance], 1)
