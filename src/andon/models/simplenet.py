"""SimpleNet: a discriminator that knows good features from the same ones with a little noise.

Z. Liu, Y. Zhou, Y. Xu, Z. Wang 2023, SimpleNet: A Simple Network for Image Anomaly Detection and Localization, CVPR
(arXiv:2303.15140).

    o     = features of the layers, each averaged over 3 x 3, joined on the finest grid
    q     = G(o),  q^- = q + eps,  eps ~ N(0, sigma^2)
    loss  = mean of max(0, th + D(q)) + mean of max(0, th - D(q^-)), over positions
    map   = D(q) brought up to (H, W) and blurred; image score = the maximum of D(q)

Letters: G the adaptor, a linear layer; D the discriminator: linear, batch normalisation, leaky ReLU, linear. Higher D is
more anomalous here; the paper's is its negative. th ``margin``, sigma ``noise``; B images, H and W the image, h and w the
finest layer's grid.

From the authors' code: hidden layer of 1,024, th 0.5, sigma 0.015, Adam at 0.0002 with weight decay 0.00001 for D and
AdamW at half of it for G, weights from Xavier's normal, leak 0.2, 160 epochs of 8 images, blur of sigma 4.

Differences from the paper: each layer is first centred and divided by its spread on the training images
(:mod:`andon.features.standardise`), so that sigma means the same on any backbone (the paper's 0.015 is of raw
WideResNet50 features); channels are joined as they are (the paper pools them to 1,536); one AdamW for G and D; a
narrower hidden layer, fewer steps at a higher rate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from andon.features.noised import adamw, discriminator, pointwise, truncated, xavier
from andon.features.patches import aggregate, join, joined_channels, to_map
from andon.features.standardise import StandardLayers
from andon.models.base import Phase, Scores, State, Turn
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw


class SimpleNet(TrainedDetector):
    """Scores by a discriminator trained on good features against the same ones with noise.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones). ``hidden``: D's
    hidden units (the paper: 1,024). ``noise``: sigma, in units of the features' spread. ``margin``: th.
    ``blur_sigma``: of the map, in pixels of the input.
    """

    title = "SimpleNet"
    paper = "Liu et al. 2023, SimpleNet: A Simple Network for Image Anomaly Detection and Localization"

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        hidden: int = 512,
        noise: float = 0.2,
        margin: float = 0.5,
        steps: int = 600,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.hidden, self.noise = whole("hidden", hidden, 1), number("noise", noise)
        self.margin = number("margin", margin)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        channels = joined_channels(self.backbone, self.layers)
        self.scale = StandardLayers(self.backbone, self.layers)
        self.adaptor = pointwise(channels, channels)
        self.judge = discriminator(channels, self.hidden)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew and forget the features' spread."""
        redraw(self.scale, self.adaptor, self.judge)
        xavier(self.adaptor, self.judge)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """The backbone's features, by layer."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def look(self, images: Tensor) -> None:
        """Take the mean and spread of the features of nominal ``images``."""
        self.scale.add(self.frozen(images), self.images_seen)

    def adapted(self, features: State) -> Tensor:
        """q (B, C, h, w)."""
        averaged = {layer: aggregate(x) for layer, x in self.scale(features).items()}
        q: Tensor = self.adaptor(join(averaged, self.layers))
        return q

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """(): the loss above."""
        q = self.adapted(self.frozen(images) if frozen is None else frozen)
        noised = q + self.noise * torch.randn_like(q)
        with learning(self.judge):
            scores = self.judge(torch.cat([q, noised]))
        anomalous = torch.zeros_like(scores)
        anomalous[len(q) :] = 1
        return truncated(scores, anomalous, self.margin)

    def phases(self) -> Sequence[Phase]:
        """One phase of AdamW, the adaptor at half the rate."""
        parameters, optimiser = adamw(self.learning_rate, self.adaptor, self.judge)
        return (Phase("train", self.steps, (Turn(self.loss, parameters, optimiser),)),)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): D, with nominal places below -th as trained."""
        self.require_fitted()
        require_images(images)
        grid = self.judge(self.adapted(self.frozen(images)))  # (B, 1, h, w)
        size = (int(images.shape[2]), int(images.shape[3]))
        return Scores(to_map(grid, size, self.blur_sigma), grid.flatten(1).amax(1))
