"""Dinomaly: a transformer that gives back the features of good parts through noise gives back a defect's badly.

J. Guo, S. Lu, W. Zhang, F. Chen, H. Li, H. Liao, "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised
Anomaly Detection", CVPR 2025 (arXiv:2405.14325). Constants are those of the paper and of its code
(github.com/guojiajeremy/Dinomaly).

    noisy bottleneck   d_0 = drop(W2 drop(gelu(W1 drop(mean of all layers' features)))): dropout is all the noise
    linear attention   d_1 .. d_L, the outputs of L blocks one after the other, whose attention cannot focus on one
                       token and so cannot copy it
    loose constraint   layers and blocks in groups: f_E^g the mean of a group of layers, f_D^g of the group of blocks
                       that mirrors it (the first layers belong to the last blocks)
    loose loss         mean over g of 1 - cos(vec f_E^g, vec f_D^g), where f_D^g takes a tenth of the gradient at the
                       positions given back best already: the share p of all in the batch, p rising from 0 to 0.9
    map                mean over g of 1 - cos(f_E^g, f_D^g) at each position; image: mean of its largest 1 %

Letters: B images, h and w the grid of the tokens, C channels of a group of layers, D of a token, L ``depth``, g a group.

Differences from the paper. The paper's backbone is a ViT (DINOv2 with registers, 8 middle layers of 12, 392 pixels);
one may be given by its ``timm:`` name, with its ``layers``. The default is the embedded convolutional network, each
position of whose finest grid is taken for a token. Where layers differ in channels or stride, they are joined instead
of averaged, and a linear layer brings a group's tokens to the group's channels. A learnt vector for each position
(read bilinearly for grids of any size) is added after the bottleneck, because convolutional features do not say where
they are. Fewer blocks and steps, for processors without a GPU: the paper's are named below. The rate's warm-up and the
rise of p keep their share of the training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.attention import Block, LinearAttention, Positions, as_grid, as_tokens
from andon.features.patches import to_map
from andon.features.stable import StableAdamW, rise_and_fall
from andon.features.tokens import fuse, fused_channels, top_mean
from andon.models.base import Phase, Scores, State, Turn
from andon.models.checks import fraction, number, open_backbone, require_images, share, whole
from andon.models.trained import TrainedDetector, learning, redraw

T = TypeVar("T")

WARM_UP = 100  # steps of rising rate, at most a tenth of all
LAST_RATE = 0.1  # of the rate, at the end
LEFT_TO_ITSELF = 0.9  # p at the end of its rise
RISE = 0.2  # of the training: how long p rises (paper: 1,000 of 5,000 steps)
CLIP = 0.1  # bound of the gradient's norm
EASY = 0.1  # factor of the gradient of what is left to itself
SPREAD = 0.28  # deviation of the first weights times sqrt(inputs): the paper's 0.01 for 768
EPS = 1e-8  # of the layer norms


class Dinomaly(TrainedDetector):
    """Scores by how badly a noisy transformer gives back the features of a frozen backbone.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones). ``groups``: of
    layers and of blocks, at most as many as there are (paper: 2). ``depth`` blocks (paper: 8) with tokens of ``width``
    channels, 0 for as many as the features have (paper: 768), and ``heads`` (paper: 12). ``dropout`` in [0, 1) (paper:
    0.2; 0.4 for the most varied data). ``steps`` of ``batch_size`` images (paper: 5,000 of 16 for one product).
    ``top_share``: of the map's values that the image score is the mean of. ``blur_sigma``: pixels; 0 for none.
    """

    title = "Dinomaly"
    paper = (
        "Guo et al. 2025, Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection"
    )

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        groups: int = 2,
        depth: int = 4,
        width: int = 0,
        heads: int = 4,
        dropout: float = 0.2,
        steps: int = 500,
        batch_size: int = 8,
        learning_rate: float = 2e-3,
        top_share: float = 0.01,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.groups, self.depth = whole("groups", groups, 1), whole("depth", depth, 1)
        self.width, self.heads = whole("width", width), whole("heads", heads, 1)
        self.dropout = share("dropout", dropout)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate, self.seed = number("learning_rate", learning_rate), whole("seed", seed)
        self.top_share, self.blur_sigma = fraction("top_share", top_share), number("blur_sigma", blur_sigma)
        count = min(groups, depth, len(self.layers))
        self.layer_groups = in_groups(self.layers, count)
        self.block_groups = in_groups(range(depth), count)[::-1]
        self._make(width or fused_channels(self.backbone, self.layers))
        self.reset()

    def _make(self, d: int) -> None:
        """The networks, with tokens of ``d`` channels."""
        if self.dropout == 1 or d % self.heads:
            raise SettingsError(
                f"dropout must be below 1 and heads a divisor of the {d} channels of a token, "
                f"got dropout={self.dropout:g} and heads={self.heads}"
            )
        i, drop = fused_channels(self.backbone, self.layers), nn.Dropout(self.dropout)
        self.bottleneck = nn.Sequential(drop, nn.Linear(i, 4 * d), nn.GELU(), drop, nn.Linear(4 * d, d), drop)
        self.positions = Positions(d)
        self.decoder = nn.ModuleList(Block(d, LinearAttention(d, self.heads), EPS) for _ in range(self.depth))
        channels = [fused_channels(self.backbone, group) for group in self.layer_groups]
        self.out = nn.ModuleList(nn.Identity() if c == d else nn.Linear(d, c) for c in channels)

    @property
    def learnt(self) -> tuple[nn.Module, ...]:
        """The networks that are trained."""
        return self.bottleneck, self.positions, self.decoder, self.out

    def draw(self) -> None:
        """Draw the weights anew: normal, cut off at three deviations."""
        self._done = 0.0  # share of the training that is done, as the engine told it last
        redraw(*self.learnt)
        for module in [module for network in self.learnt for module in network.modules()]:
            if isinstance(module, nn.Linear):
                std = SPREAD / math.sqrt(module.in_features)
                nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def frozen(self, images: Tensor) -> State:
        """The backbone's ``layers``: (B, C, h, w) each."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def given(self, features: State) -> list[Tensor]:
        """f_E^g (B, C, h, w) for each group, all on the tokens' grid."""
        size = _grid(features)
        fused = [fuse(self.backbone, features, group) for group in self.layer_groups]
        return [f if f.shape[2:] == size else F.interpolate(f, size=size, mode="bilinear") for f in fused]

    def given_back(self, features: State) -> list[Tensor]:
        """f_D^g (B, C, h, w) for each group."""
        x = fuse(self.backbone, features, self.layers)
        h, w = int(x.shape[2]), int(x.shape[3])
        d = self.bottleneck(as_tokens(x)) + as_tokens(self.positions(h, w))
        outputs = []
        for block in self.decoder:
            d = block(d)
            outputs.append(d)
        means = [torch.stack([outputs[i] for i in group]).mean(0) for group in self.block_groups]
        return [as_grid(out(mean), h, w) for out, mean in zip(self.out, means, strict=True)]

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The loose loss (), with p for how far the training is."""
        features = self.frozen(images) if frozen is None else frozen
        with learning(*self.learnt):
            back = self.given_back(features)
        p = LEFT_TO_ITSELF * min(1.0, self._done / RISE)
        losses = [loose_loss(e, d, p) for e, d in zip(self.given(features), back, strict=True)]
        return torch.stack(losses).mean()

    def phases(self) -> Sequence[Phase]:
        """One phase of StableAdamW; the rate rises, then falls along a cosine to a tenth."""
        learnt = [parameter for network in self.learnt for parameter in network.parameters()]
        turn = Turn(self.loss, learnt, lambda parameters: StableAdamW(parameters, self.learning_rate), CLIP)
        return (Phase("train", self.steps, (turn,), self._rate),)

    def _rate(self, done: float) -> float:
        """The rate's factor, asked for before every step; the loss takes from here how far the training is."""
        self._done = done
        return rise_and_fall(done + 1 / self.steps, min(0.1, WARM_UP / self.steps), LAST_RATE)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): cosine distances, 0 to 2."""
        self.require_fitted()
        require_images(images)
        features = self.frozen(images)
        pairs = zip(self.given(features), self.given_back(features), strict=True)
        distance = torch.stack([1 - F.cosine_similarity(e, d, dim=1) for e, d in pairs]).mean(0)
        size = (int(images.shape[2]), int(images.shape[3]))
        anomaly_map = to_map(distance[:, None], size, self.blur_sigma)
        return Scores(anomaly_map, top_mean(anomaly_map, self.top_share))


def loose_loss(e: Tensor, d: Tensor, p: float) -> Tensor:
    """The mean over images of 1 - cos(vec e, vec d), for e, d (B, C, h, w); d takes a tenth of the gradient at the
    share ``p`` of positions where it is most like e."""
    with torch.no_grad():
        distance = 1 - F.cosine_similarity(e, d, dim=1)  # (B, h, w)
        hard = max(1, int(distance.numel() * (1 - p)))
        easy = distance < distance.flatten().topk(hard).values[-1]
    d = torch.where(easy[:, None], EASY * d + (1 - EASY) * d.detach(), d)
    return (1 - F.cosine_similarity(e.flatten(1), d.flatten(1), dim=1)).mean()


def in_groups(items: Sequence[T], count: int) -> list[list[T]]:
    """``items`` in ``count`` groups of neighbours, as even as can be.

    >>> in_groups("abcde", 2)
    [['a', 'b'], ['c', 'd', 'e']]
    """
    ends = [round(len(items) * (i + 1) / count) for i in range(count)]
    return [list(items[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _grid(features: State) -> tuple[int, int]:
    """(h, w) of the finest layer."""
    return max((int(f.shape[2]), int(f.shape[3])) for f in features.values())
