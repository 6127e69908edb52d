"""CS-Flow: the density of feature maps of one image at several sizes, together, by a normalising flow across scales.

M. Rudolph, T. Wehrbein, B. Rosenhahn, B. Wandt, "Fully Convolutional Cross-Scale-Flows for Image-based Defect
Detection", WACV 2022. The image is shrunk to 1/2 and 1/4; a layer of the backbone makes features x_i of each size i.
A coupling changes each half of the channels at all scales by what a subnet reads in the other half at all scales:

    y_1 = x_1 exp(s) + t,  (s, t) = r_2(x_2);   y_2 = x_2 exp(s) + t,  (s, t) = r_1(y_1)       (section 3.2)
    s <- 2 alpha / pi atan(s / alpha)                                                          (the soft clamp)
    L = (1/2 sum of z^2 - log |det dz/dx|) / numbers in z                        (maximum likelihood, section 3.3)
    image score = mean over everything of z^2 / 2;   map = mean over channels of z_i^2 / 2 of the finest size

The subnet's layout, its gain gamma that starts at 0, the constants, the optimiser and the cut of its gradient are the
authors' code's.

Letters: B images, C channels of the layer, h_i and w_i the grid of size i; alpha the clamp; x_1, x_2 halves of channels.

Differences from the paper:

- Features are standardised by channel and size.
- The smaller images are means of 2x2 and 4x4 pixels; the authors' code picks one of these.
- Images of 256 and a layer of stride 16 give grids of 16, 8 and 4 positions a side: theirs are 768 pixels, 24, 12 and 6.
  The subnets are narrower, training is shorter and its rate higher.
- Grids need not halve exactly: where they do not, a coarser one is brought to the size that is there.
- We give log(1 + map), brought to the image's size, and log(1 + image score): the same order. A flow far from what it
  was trained on gives numbers of any size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.flows import Permutation, rarity_map
from andon.features.running import ChannelMoments
from andon.models.base import Phase, Scores, State, Turn, adam
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

SCALES = 3  # the image, its half, its quarter
SLOPE = 0.1  # of the leaky ReLU below 0
LIMIT = 1e6  # what comes out of a coupling is cut to it
CLIP = 1.0  # norm that the gradient is cut to


class CSFlow(TrainedDetector):
    """Scores by how unlikely features are beside those around them, near and far.

    ``backbone``, ``layers``: a name, file or module, and its one layer that is read (None: the deepest default one).
    ``blocks``: couplings, the last with 5x5 convolutions, the others with 3x3 (the paper's 4).
    ``width``: channels inside the subnets (1024 on 304 channels in the paper). ``clamp``: alpha (3).
    ``steps``, ``batch_size``, ``learning_rate``: the paper trains 240 epochs of batches of 16 at 2e-4.
    ``blur_sigma``: of the map, in pixels of the input; 0 for none, as in the paper.
    """

    title = "CS-Flow"
    paper = "Rudolph et al. 2022, Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection"

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        blocks: int = 4,
        width: int = 64,
        clamp: float = 3.0,
        steps: int = 1000,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, opened = open_backbone(backbone, layers)
        self.layers = opened[-1:] if layers is None else opened
        if len(self.layers) != 1:
            raise SettingsError(f"CS-Flow reads one layer, got {list(self.layers)}; give one of them")
        self.blocks, self.width = whole("blocks", blocks, 1), whole("width", width, 1)
        self.clamp = number("clamp", clamp)
        if not self.clamp:
            raise SettingsError("clamp must be above 0: it is the largest log-scale of a coupling")
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        channels = self.backbone.layers[self.layers[0]].channels
        self.moments = nn.ModuleList(ChannelMoments(channels) for _ in range(SCALES))
        self.flow = nn.ModuleList(
            CrossStep(channels, width, 5 if last else 3, clamp) for last in [False] * (blocks - 1) + [True]
        )
        self.reset()

    def draw(self) -> None:
        """Draw weights and permutations anew, forget the features' statistics."""
        redraw(self.moments, self.flow)

    def look(self, images: Tensor) -> None:
        """Take each channel's mean and variance, at each size."""
        for x, moments in zip(self.frozen(images).values(), self._moments(), strict=True):
            moments.add(x, self.images_seen)

    def frozen(self, images: Tensor) -> State:
        """The backbone's features of each size, the finest first: {"scale0": (B, C, h_0, w_0), ...}."""
        sizes = [images, *(F.avg_pool2d(images, 2**i) for i in range(1, SCALES))]
        return {f"scale{i}": self.backbone(image)[self.layers[0]] for i, image in enumerate(sizes)}

    def _moments(self) -> list[ChannelMoments]:
        return cast(list[ChannelMoments], list(self.moments))

    def latent(self, features: State) -> tuple[list[Tensor], Tensor]:
        """z, (B, C, h_i, w_i) for each size i, and the log-determinant (B,)."""
        z = [
            moments.standardise(features[f"scale{i}"]) for i, moments in enumerate(self._moments())
        ]  # fmt: skip
        log_det = torch.zeros_like(z[0][:, 0, 0, 0])
        for step in self.flow:
            z, share = step(z)
            log_det = log_det + share
        return z, log_det

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L () in nats a number; the constant log 2 pi is left out."""
        features = self.frozen(images) if frozen is None else frozen
        with learning(self.flow):
            z, log_det = self.latent(features)
        return mean_energy(z).mean() - log_det.mean() / sum(x[0].numel() for x in z)

    def phases(self) -> Sequence[Phase]:
        """One phase of Adam, its gradient cut, the rate falling tenfold for the last fifth."""
        optimiser = adam(self.learning_rate, eps=1e-4, weight_decay=1e-5)
        turn = Turn(self.loss, list(self.flow.parameters()), optimiser, clip=CLIP)
        return (Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1),)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W). The image score is not the map's maximum: it means everything."""
        self.require_fitted()
        require_images(images)
        z, _ = self.latent(self.frozen(images))
        size = (int(images.shape[2]), int(images.shape[3]))
        anomaly_map = rarity_map([0.5 * z[0].square().mean(1, keepdim=True)], size, self.blur_sigma)
        return Scores(anomaly_map, mean_energy(z).log1p())


class CrossStep(nn.Module):
    """The channels of each size in another order, then the coupling."""

    def __init__(self, channels: int, width: int, kernel: int, alpha: float) -> None:
        super().__init__()
        self.orders = nn.ModuleList(Permutation(channels) for _ in range(SCALES))
        self.halves = (channels // 2, channels - channels // 2)
        self.read_first = CrossSubnet(self.halves[0], width, 2 * self.halves[1], kernel)  # r_1
        self.read_second = CrossSubnet(self.halves[1], width, 2 * self.halves[0], kernel)  # r_2
        self.alpha = alpha

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """y, as x (B, C, h_i, w_i) for each size i, and the log-determinant (B,)."""
        ordered = [order(x_i) for order, x_i in zip(self.orders, x, strict=True)]
        x1, x2 = self._split(ordered)
        s2, t2 = self._scales_and_offsets(self.read_second(x2))
        y1 = [x_i * s.exp() + t for x_i, s, t in zip(x1, s2, t2, strict=True)]
        s1, t1 = self._scales_and_offsets(self.read_first(y1))
        y2 = [x_i * s.exp() + t for x_i, s, t in zip(x2, s1, t1, strict=True)]
        log_det = torch.stack([s.sum((1, 2, 3)) for s in (*s1, *s2)]).sum(0)
        return [torch.cat(pair, 1).clamp(-LIMIT, LIMIT) for pair in zip(y1, y2, strict=True)], log_det

    def inverse(self, y: list[Tensor]) -> list[Tensor]:
        """x of which ``y`` is the image."""
        y1, y2 = self._split(y)
        s1, t1 = self._scales_and_offsets(self.read_first(y1))
        x2 = [(y_i - t) * (-s).exp() for y_i, s, t in zip(y2, s1, t1, strict=True)]
        s2, t2 = self._scales_and_offsets(self.read_second(x2))
        x1 = [(y_i - t) * (-s).exp() for y_i, s, t in zip(y1, s2, t2, strict=True)]
        orders = cast(list[Permutation], list(self.orders))
        return [
            order.inverse(torch.cat(pair, 1))
            for order, pair in zip(orders, zip(x1, x2, strict=True), strict=True)
        ]

    def _split(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [x_i.split(self.halves, 1) for x_i in x]
        return [first for first, _ in pairs], [second for _, second in pairs]

    def _scales_and_offsets(self, read: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [r.chunk(2, 1) for r in read]
        gain = 2 * self.alpha / math.pi
        return [gain * torch.atan(s / self.alpha) for s, _ in pairs], [t for _, t in pairs]


class CrossSubnet(nn.Module):
    """Two convolutions at each size; the second reads the neighbouring sizes, too. Not inverted."""

    def __init__(self, inputs: int, width: int, outputs: int, kernel: int) -> None:
        super().__init__()
        pad = kernel // 2
        self.inner = nn.ModuleList(nn.Conv2d(inputs, width, kernel, 1, pad) for _ in range(SCALES))
        self.same = nn.ModuleList(nn.Conv2d(width, outputs, kernel, 1, pad) for _ in range(SCALES))
        self.up = nn.ModuleList(nn.Conv2d(width, outputs, kernel, 1, pad) for _ in range(SCALES - 1))
        self.down = nn.ModuleList(nn.Conv2d(width, outputs, kernel, 2, pad) for _ in range(SCALES - 1))
        self.gamma = nn.Parameter(torch.zeros(SCALES))

    def reset_parameters(self) -> None:
        """No output at first: the coupling is the identity."""
        nn.init.zeros_(self.gamma)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """(B, O, h_i, w_i) for each size i, from x (B, I, h_i, w_i)."""
        hidden = [F.leaky_relu(inner(x_i), SLOPE) for inner, x_i in zip(self.inner, x, strict=True)]
        out = [same(hidden_i) for same, hidden_i in zip(self.same, hidden, strict=True)]
        for i, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            out[i] = out[i] + up(_to_grid(hidden[i + 1], hidden[i]))
            out[i + 1] = out[i + 1] + _to_grid(down(hidden[i]), hidden[i + 1])
        return [out_i * self.gamma[i] for i, out_i in enumerate(out)]


def _to_grid(x: Tensor, like: Tensor) -> Tensor:
    """``x`` (B, C, ...) on the grid of ``like``, bilinearly."""
    size = (int(like.shape[2]), int(like.shape[3]))
    if (int(x.shape[2]), int(x.shape[3])) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def mean_energy(z: Sequence[Tensor]) -> Tensor:
    """(B,): the mean of z^2 / 2 over all channels, positions and sizes, z (B, C, h_i, w_i) for each size i."""
    return 0.5 * torch.cat([z_i.flatten(1) for z_i in z], 1).square().mean(1)
