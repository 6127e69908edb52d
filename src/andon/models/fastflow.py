"""FastFlow: the density of whole feature maps, by a normalising flow made of convolutions.

J. Yu, Y. Zheng, X. Wang, W. Li, Y. Wu, R. Zhao, L. Wu, "FastFlow: Unsupervised Anomaly Detection and Localization via
2D Normalizing Flows", arXiv:2111.07677, 2021. For each layer of the backbone, with features x (C, h, w):

    z   = f(x), f of ``flow_steps`` couplings whose subnets are convolutions, 3x3 and 1x1 in turn
    L   = (1/2 sum of z^2 - log |det df/dx|) / (C h w)                                (maximum likelihood)
    D   = mean over layers, brought to the image's size, of exp(-1/2 mean over channels of z^2)
    map = log(1 - log D)

The paper names no constants of the couplings; they are those of its public implementations (clamp 2, channels
permuted, a scale and an offset a channel), and so is the map, which is -D there.

Letters: B images, C channels of a layer, h and w its grid, f the flow, z what it makes of x.

Differences from the paper:

- Features are standardised by channel over the good images; for ResNets others normalise each image's over all
  channels and positions, which would hide a change of the whole image.
- The map has the order of 1 - D, but keeps strong anomalies apart, whose densities are 0 in float32; see
  :func:`andon.features.flows.rarity_map`. The image score is its maximum.
- Fewer steps (500 epochs there) and no weight decay (1e-5 there, on a loss C h w times as large).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.flows import ActNorm, Coupling, Flow, Permutation, Step, Subnet, halves, rarity_map
from andon.features.running import ChannelMoments
from andon.models.base import Phase, Scores, State, Turn, adam
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw


class FastFlow(TrainedDetector):
    """Scores by how unlikely features are beside those around them.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones).
    ``flow_steps``: couplings of each layer's flow (the paper's 8 for ResNets, 20 for transformers).
    ``kernels``: sizes of the subnets' convolutions, in turn (3 and 1; for ResNet18 the paper's are all 3).
    ``hidden_ratio``: a subnet's width over what it reads (1; 0.16 for transformers). ``clamp``: the largest log-scale.
    ``steps``, ``batch_size``, ``learning_rate``: the paper trains 500 epochs of batches of 32 at 1e-3.
    ``blur_sigma``: of the map, in pixels of the input; 0 for none, as in the paper.
    """

    title = "FastFlow"
    paper = (
        "Yu et al. 2021, FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows"
    )

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        flow_steps: int = 8,
        kernels: Sequence[int] = (3, 1),
        hidden_ratio: float = 1.0,
        clamp: float = 2.0,
        steps: int = 1500,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.flow_steps, self.kernels = whole("flow_steps", flow_steps, 1), odd_sizes(kernels)
        self.hidden_ratio, self.clamp = number("hidden_ratio", hidden_ratio), number("clamp", clamp)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        channels = [self.backbone.layers[layer].channels for layer in self.layers]
        self.moments = nn.ModuleList(ChannelMoments(c) for c in channels)
        self.flows = nn.ModuleList(Flow(self._step(c, i) for i in range(flow_steps)) for c in channels)
        self.reset()

    def _step(self, channels: int, number: int) -> Step:
        read, changed = halves(channels)
        hidden = max(1, int(self.hidden_ratio * read))
        subnet = Subnet(read, hidden, 2 * changed, self.kernels[number % len(self.kernels)])
        return Step(Coupling(channels, subnet, self.clamp), ActNorm(channels), Permutation(channels))

    def draw(self) -> None:
        """Draw weights and permutations anew, forget the features' statistics."""
        redraw(self.moments, self.flows)

    def look(self, images: Tensor) -> None:
        """Take each channel's mean and variance."""
        for layer, moments in zip(self.frozen(images).values(), self._moments(), strict=True):
            moments.add(layer, self.images_seen)

    def frozen(self, images: Tensor) -> State:
        """The backbone's features: {layer: (B, C, h, w)}."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def _moments(self) -> list[ChannelMoments]:
        return cast(list[ChannelMoments], list(self.moments))

    def latent(self, features: State) -> list[tuple[Tensor, Tensor]]:
        """z (B, C, h, w) of each layer, and each position's share of the log-determinant (B, 1, h, w)."""
        return [
            flow(moments.standardise(features[layer]))
            for layer, moments, flow in zip(self.layers, self._moments(), self.flows, strict=True)
        ]

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (), the mean over layers, in nats a number; the constant log 2 pi is left out."""
        features = self.frozen(images) if frozen is None else frozen
        with learning(self.flows):
            losses = [
                0.5 * z.square().mean() - log_det.mean() / int(z.shape[1])
                for z, log_det in self.latent(features)
            ]
        return torch.stack(losses).mean()

    def phases(self) -> Sequence[Phase]:
        """One phase of Adam, the rate falling tenfold for the last fifth."""
        turn = Turn(self.loss, list(self.flows.parameters()), adam(self.learning_rate))
        return (Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1),)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): 0 where z is 0, the likeliest."""
        self.require_fitted()
        require_images(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        rarities = [0.5 * z.square().mean(1, keepdim=True) for z, _ in self.latent(self.frozen(images))]
        anomaly_map = rarity_map(rarities, size, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


def odd_sizes(kernels: Sequence[int]) -> tuple[int, ...]:
    """``kernels`` when they are odd whole numbers, at least one; else :class:`SettingsError`."""
    if isinstance(kernels, list | tuple) and kernels and all(_is_odd(kernel) for kernel in kernels):
        return tuple(kernels)
    raise SettingsError(f"kernels must be odd whole numbers such as [3, 1], got {kernels!r}")


def _is_odd(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and value % 2 == 1
