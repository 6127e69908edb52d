"""CFLOW-AD: the density of each position's features, given the position, by a normalising flow.

D. Gudovskiy, S. Ishizaka, K. Kozuka, "CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via
Conditional Normalizing Flows", WACV 2022. For each layer of the backbone, with features x of C channels at a position
whose code is c (sines and cosines of its row and column):

    log p(x | c) = log N(f(x; c); 0, I) + log |det df/dx|,  f of ``coupling_layers`` steps that read c
    L   = - mean over positions of log sigmoid(log p(x | c) / C)
    D   = mean over layers, brought to the image's size, of exp(log p(x | c) / C - max over good images)
    map = log(1 - log D)

The layout of a step, the clamp, the loss and the schedule are the authors' code's.

Letters: B images, C channels of a layer, h and w its grid, N positions taken (a fibre), P channels of the code.

Differences from the paper:

- Features are standardised by channel first; the flow's scales start at 1.
- A training step takes N random positions of ``batch_size`` images from every layer; the paper goes through all
  positions of 32 images, 256 at a time, before it reads the next 32. Fewer steps, so a higher rate.
- The largest density is that of the training images after training; the authors' code takes the test set's.
- The paper's map is 1 - D (times the number of layers). Ours has the same order, but keeps strong anomalies apart,
  whose densities are 0 in float32; see :func:`andon.features.flows.rarity_map`. The image score is its maximum.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.flows import (
    ActNorm,
    Coupling,
    Flow,
    Rotation,
    Step,
    Subnet,
    halves,
    log_density,
    rarity_map,
    warm_cosine,
)
from andon.features.running import ChannelMoments
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw


class CFlow(TrainedDetector):
    """Scores by how unlikely each position's features are there.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones).
    ``coupling_layers``: steps of each layer's flow (the paper's 8). ``position_channels``: P, a multiple of 4 (128).
    ``clamp``: alpha, the largest log-scale of a step (1.9). ``fibre``: N, positions of a layer in a training step.
    ``steps``, ``batch_size``, ``learning_rate``: the paper trains 200 epochs of batches of 32 at 2e-4.
    ``blur_sigma``: of the map, in pixels of the input; 0 for none, as in the paper.
    """

    title = "CFLOW-AD"
    paper = "Gudovskiy et al. 2022, CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via Conditional Normalizing Flows"  # fmt: skip
    best: Tensor  # (layers,) the largest log p(x | c) / C of the training images

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        coupling_layers: int = 8,
        position_channels: int = 128,
        clamp: float = 1.9,
        fibre: int = 1024,
        steps: int = 2000,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.coupling_layers = whole("coupling_layers", coupling_layers, 1)
        self.position_channels = whole("position_channels", position_channels, 4)
        if self.position_channels % 4:
            raise SettingsError(
                f"position_channels must be a multiple of 4 (sine and cosine of row and column), got {position_channels}"
            )
        self.clamp, self.fibre = number("clamp", clamp), whole("fibre", fibre, 1)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        channels = [self.backbone.layers[layer].channels for layer in self.layers]
        self.moments = nn.ModuleList(ChannelMoments(c) for c in channels)
        self.flows = nn.ModuleList(Flow(self._step(c) for _ in range(coupling_layers)) for c in channels)
        self.register_buffer("best", torch.zeros(len(channels)))
        self.reset()

    def _step(self, channels: int) -> Step:
        """One step for C ``channels``; its subnet is twice as wide as what it reads."""
        read, changed = halves(channels)
        given = self.position_channels
        subnet = Subnet(read, 2 * (read + given), 2 * changed, condition=given)
        return Step(Coupling(channels, subnet, self.clamp), ActNorm(channels), Rotation(channels))

    def draw(self) -> None:
        """Draw weights and rotations anew, forget the features' statistics."""
        redraw(self.moments, self.flows)
        self.best.fill_(-torch.inf)

    def look(self, images: Tensor) -> None:
        """Take each channel's mean and variance."""
        for layer, moments in zip(self.frozen(images).values(), self._moments(), strict=True):
            moments.add(layer, self.images_seen)

    def frozen(self, images: Tensor) -> State:
        """The backbone's features: {layer: (B, C, h, w)}."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (), the mean over layers, at N positions drawn in each. What is known of the largest density is void."""
        features = self.frozen(images) if frozen is None else frozen
        self.best.fill_(-torch.inf)
        losses = []
        with learning(self.flows):
            for x, flow in self._parts(features):
                taken, code = take_fibre(x, self._code(x), self.fibre)
                losses.append(-F.logsigmoid(log_density(*flow(taken, code))).mean())
        return torch.stack(losses).mean()

    def _parts(self, features: State) -> list[tuple[Tensor, nn.Module]]:
        """Each layer's standardised features (B, C, h, w), and its flow."""
        standardised = [
            moments.standardise(features[layer])
            for layer, moments in zip(self.layers, self._moments(), strict=True)
        ]
        return list(zip(standardised, self.flows, strict=True))

    def _moments(self) -> list[ChannelMoments]:
        return cast(list[ChannelMoments], list(self.moments))

    def _code(self, x: Tensor) -> Tensor:
        size = (int(x.shape[2]), int(x.shape[3]))
        return position_code(self.position_channels, size, like=x)

    def log_densities(self, features: State) -> list[Tensor]:
        """log p(x | c) / C of each layer: (B, 1, h, w) each."""
        return [log_density(*flow(x, self._code(x))) for x, flow in self._parts(features)]

    def note_best(self, images: Tensor) -> None:
        """Raise ``best`` to the largest density of ``images``."""
        found = [density.amax() for density in self.log_densities(self.frozen(images))]
        self.best.copy_(torch.maximum(self.best, torch.stack(found)))

    def phases(self) -> Sequence[Phase | Look]:
        """Adam, the rate warmed up and lowered along a cosine; then a look for the largest densities."""
        turn = Turn(self.loss, list(self.flows.parameters()), adam(self.learning_rate))
        return Phase("train", self.steps, (turn,), warm_cosine), Look("normalise", self.note_best)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): 0 where every layer's density is the largest known."""
        self.require_fitted()
        require_images(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        densities = self.log_densities(self.frozen(images))
        rarities = [best - density for density, best in zip(densities, self.best, strict=True)]
        anomaly_map = rarity_map(rarities, size, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


def take_fibre(features: Tensor, code: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``count`` positions (all, if there are fewer) drawn from (B, C, h, w), as (1, C, 1, N), and their codes
    (1, P, 1, N) from ``code`` (1, P, h, w)."""
    rows = features.transpose(0, 1).flatten(1)  # (C, B h w)
    picks = torch.randperm(rows.shape[1])[:count].to(rows.device)
    codes = code[0].flatten(1)  # (P, h w)
    return rows[:, picks][None, :, None], codes[:, picks % codes.shape[1]][None, :, None]


def position_code(channels: int, size: tuple[int, int], *, like: Tensor) -> Tensor:
    """(1, P, h, w) in [-1, 1]: sine and cosine of the column and of the row, at P / 4 wavelengths from 2 pi up to
    nearly 10,000 times that, in steps of one ratio."""
    quarter, (h, w) = channels // 4, size
    rates = 1e4 ** (-torch.arange(quarter, dtype=like.dtype, device=like.device) / quarter)

    def angles(count: int) -> Tensor:
        return rates[:, None] * torch.arange(count, dtype=like.dtype, device=like.device)

    rows = angles(h)[:, :, None].expand(-1, -1, w)
    columns = angles(w)[:, None].expand(-1, h, -1)
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()])[None]
