"""SuperSimpleNet: good features against the same ones noised in blobs; a map and an image score, each learnt.

B. Rolih, M. Fučka, D. Skočaj 2024, SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable
Surface Defect Detection, ICPR (arXiv:2408.03143). The unsupervised setting.

    F     = features of the layers brought to ``upscale`` times the finest grid, joined, averaged over 3 x 3
    A     = adaptor(F), twice over;  P = A + eps M,  eps ~ N(0, sigma^2),  M blobs of Perlin noise, empty for half
    M_o   = segmentation head (P), a score a position: linear, batch normalisation, leaky ReLU, linear
    s     = classification head: 5 x 5 convolution of [P, M_o]; its maximum and mean, those of M_o, linear
    loss  = mean of max(0, th + M_o) where M = 0, + mean of max(0, th - M_o) where M = 1
            + focal(M_o, M) + focal(s, any M)
    map   = M_o brought up to (H, W) and blurred; image score = s, before its sigmoid

Letters: M (B, 1, h, w) of 0 and 1, th ``margin``, sigma ``noise``; focal(x, y) = (1 - p)^4 (-log p) on average, with
p the probability that sigmoid(x) gives to y; B images, H and W the image, h and w the grid.

From the authors' code (its setting for MVTec AD): th 0.5, sigma 0.015, Perlin noise above 0.2 (0.6 for VisA) with 1 to
32 cells a side, hidden layer of 1,024, 128 channels in the classification head, the head reads M_o without gradient, AdamW at
0.0002 (the adaptor 0.0001) falling to 0.4 of it at 80 % and again at 90 %, weights from Xavier's normal, 300 epochs of 32 images,
blur of sigma 4.

Differences from the paper: each layer is first centred and divided by its spread on the training images
(:mod:`andon.features.standardise`), so that sigma means the same on any backbone (the paper's 0.015 is of raw
WideResNet50 features); the grid is the finest layer's (``upscale=1``, the paper 2: four times the work); narrower heads,
fewer steps and images a step at a higher rate; blobs are turned at random and no finer than two positions; the weights of the
last linear layer start positive, so that what is far from everything seen raises s (drawn with either sign, some
defects far beyond the noise trained on scored below the good images).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.noised import adamw, blobs, discriminator, pointwise, truncated, xavier
from andon.features.patches import aggregate, joined_channels, to_map
from andon.features.standardise import StandardLayers
from andon.models.base import Phase, Scores, State, Turn
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

EMPTY = 0.5  # share of the copies that get no noise
GAMMA = 4  # of the focal loss


class SuperSimpleNet(TrainedDetector):
    """Scores by two heads trained on good features against the same ones with noise in blobs.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones). ``upscale``: how
    much finer than the finest layer the grid is. ``hidden``: of the segmentation head; ``channels``: of the
    classification head. ``noise``: sigma, in units of the features' spread; ``threshold``: where blobs are cut from
    Perlin noise in [-1, 1], the higher the fewer. ``margin``: th. ``blur_sigma``: of the map, in pixels of the input.
    """

    title = "SuperSimpleNet"
    paper = (
        "Rolih et al. 2024, SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable "
        "Surface Defect Detection"
    )

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        upscale: int = 1,
        hidden: int = 512,
        channels: int = 64,
        noise: float = 0.2,
        threshold: float = 0.2,
        margin: float = 0.5,
        steps: int = 1000,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.upscale, self.hidden = whole("upscale", upscale, 1), whole("hidden", hidden, 1)
        self.channels = whole("channels", channels, 1)
        self.noise, self.threshold = number("noise", noise), number("threshold", threshold)
        self.margin = number("margin", margin)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        joined = joined_channels(self.backbone, self.layers)
        self.scale = StandardLayers(self.backbone, self.layers)
        self.adaptor = pointwise(joined, joined)
        self.segmentation = discriminator(joined, self.hidden)
        self.classification = Classification(joined, self.channels)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew and forget the features' spread."""
        redraw(self.scale, self.adaptor, self.segmentation, self.classification)
        xavier(self.adaptor, self.segmentation, self.classification)
        with torch.no_grad():
            self.classification.score.weight.abs_()

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """The backbone's features, by layer."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def look(self, images: Tensor) -> None:
        """Take the mean and spread of the features of nominal ``images``."""
        self.scale.add(self.frozen(images), self.images_seen)

    def adapted(self, features: State) -> Tensor:
        """A (B, C, h, w)."""
        maps = list(self.scale(features).values())
        h, w = (self.upscale * max(int(x.shape[side]) for x in maps) for side in (2, 3))
        raised = [F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False) for x in maps]
        adapted: Tensor = self.adaptor(aggregate(torch.cat(raised, 1)))
        return adapted

    def heads(self, adapted: Tensor) -> tuple[Tensor, Tensor]:
        """M_o (B, 1, h, w) and s (B,) from A or P (B, C, h, w)."""
        grid = self.segmentation(adapted)
        return grid, self.classification(adapted, grid.detach())

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """(): the loss above."""
        a = self.adapted(self.frozen(images) if frozen is None else frozen).repeat(2, 1, 1, 1)
        m = blobs(len(a), (int(a.shape[2]), int(a.shape[3])), self.threshold, EMPTY).to(a.device)
        with learning(self.segmentation, self.classification):
            grid, score = self.heads(a + self.noise * torch.randn_like(a) * m)
        return truncated(grid, m, self.margin) + focal(grid, m) + focal(score, m.flatten(1).amax(1))

    def phases(self) -> Sequence[Phase]:
        """One phase of AdamW, the adaptor at half the rate; both fall to 0.4 at 80 %, and again at 90 %."""
        parameters, optimiser = adamw(
            self.learning_rate, self.adaptor, self.segmentation, self.classification
        )
        turn = Turn(self.loss, parameters, optimiser)
        return (Phase("train", self.steps, (turn,), lambda done: 0.4 ** ((done >= 0.8) + (done >= 0.9))),)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): M_o, and s, the log odds of a defect as trained."""
        self.require_fitted()
        require_images(images)
        grid, score = self.heads(self.adapted(self.frozen(images)))
        size = (int(images.shape[2]), int(images.shape[3]))
        return Scores(to_map(grid, size, self.blur_sigma), score)


class Classification(nn.Module):
    """s (B,) from features (B, C, h, w) and their scores (B, 1, h, w)."""

    def __init__(self, i: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(i + 1, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.score = nn.Linear(2 * channels + 2, 1)

    def forward(self, features: Tensor, grid: Tensor) -> Tensor:
        """The log odds of a defect anywhere."""
        x = self.body(torch.cat([features, grid], 1))
        pooled = [x.amax((2, 3)), x.mean((2, 3)), grid.amax((2, 3)), grid.mean((2, 3))]
        score: Tensor = self.score(torch.cat(pooled, 1))[:, 0]
        return score


def focal(scores: Tensor, truth: Tensor) -> Tensor:
    """(): the mean focal loss of log odds ``scores`` against ``truth`` of 0 and 1, both of one shape.

    Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4, with gamma 4 and no weight for classes.

    >>> round(float(focal(torch.tensor([0.0]), torch.tensor([1.0]))), 4)  # log(2) / 16
    0.0433
    """
    minus_log_p = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")
    return ((1 - torch.exp(-minus_log_p)) ** GAMMA * minus_log_p).mean()
