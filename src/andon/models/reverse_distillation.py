"""Reverse distillation: a student makes a teacher's features anew from a bottleneck that has only ever held good ones.

H. Deng, X. Li 2022, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR (arXiv:2201.10703).

    phi   = OCE(MFF(f_1, ..., f_K))         multi-scale fusion, then one-class embedding at half the deepest grid
    g_k   = D_k(g_{k+1}),  g_{K+1} = phi    the student: from the deepest layer back to the finest
    M_k   = 1 - cos(f_k, g_k), a position   (eq. 1)
    loss  = sum over k of 1 - cos(f_k, g_k), each map flattened to one vector
    map   = sum over k of M_k brought up to (H, W) and blurred; image score = its maximum   (eq. 3)

Letters: f_k the teacher's features (B, C_k, h_k, w_k) at stride s_k, fine to coarse; g_k the student's; B images, H and
W the image, m channels inside a residual block.

The loss of eq. 2 is the mean of M_k over positions; the authors' code flattens each map, as above, and so do we. From
the same code: Adam at 0.005 with betas 0.5 and 0.999, blur of sigma 4, weights drawn as He et al. 2015 do. There, 200
epochs of 16 images; WideResNet50, layers 1 to 3.

Differences from the paper: any backbone and any of its layers, so the student is mirrored from their channels and
strides and is built of ResNet18's blocks (the paper mirrors WideResNet50 with its bottleneck blocks); where the
teacher's features may lie below zero, so may the student's: its level's last ReLU comes after what is compared; grids
whose sides are odd are cropped after doubling; maps are brought up with aligned pixels, not corners; the learning rate
falls tenfold for the last fifth; fewer steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.patches import to_map
from andon.features.trunk import LayerInfo
from andon.models.base import Phase, Scores, State, Turn, adam
from andon.models.checks import fraction, number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

BETAS = (0.5, 0.999)


class ReverseDistillation(TrainedDetector):
    """Scores by the angle between a teacher's features and what a student makes of their one-class embedding.

    ``backbone``, ``layers``: the teacher, and which of its layers (None: its default ones). ``blocks``: residual blocks
    in the embedding and at each level of the student (the paper: 3, and 3, 4, 6). ``width``: channels inside a block
    as a fraction of those that it gives. ``blur_sigma``: of the map, in pixels of the input.
    """

    title = "Reverse Distillation"
    paper = "Deng & Li 2022, Anomaly Detection via Reverse Distillation from One-Class Embedding"

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        blocks: int = 2,
        width: float = 1.0,
        steps: int = 1000,
        batch_size: int = 8,
        learning_rate: float = 5e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.blocks, self.width = whole("blocks", blocks, 1), fraction("width", width)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        self._order = sorted(
            self.layers, key=lambda layer: self.backbone.layers[layer].stride
        )  # fine to coarse
        found = [self.backbone.layers[layer] for layer in self._order]
        self.embedding = Embedding(found, self.blocks, self.width)
        self.student = Student(found, self.blocks, self.width)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew: convolutions as He et al. 2015 do, for what they give."""
        redraw(self.embedding, self.student)
        for module in (*self.embedding.modules(), *self.student.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """The teacher's f_k, by layer."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self._order}

    def imitate(self, features: State) -> State:
        """The student's g_k, by layer, each of the shape of f_k in ``features``."""
        f = [features[layer] for layer in self._order]
        return dict(zip(self._order, self.student(self.embedding(f), f), strict=True))

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """(): the loss above, the mean over images."""
        f = self.frozen(images) if frozen is None else frozen
        with learning(self.embedding, self.student):
            g = self.imitate(f)
        apart = [1 - F.cosine_similarity(f[layer].flatten(1), g[layer].flatten(1)) for layer in self._order]
        return torch.stack(apart).sum(0).mean()

    def phases(self) -> Sequence[Phase]:
        """One phase of Adam, the rate falling tenfold for the last fifth."""
        learned = [*self.embedding.parameters(), *self.student.parameters()]
        turn = Turn(self.loss, learned, adam(self.learning_rate, betas=BETAS))
        return (Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1),)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): sums of 1 - cos, from 0 to 2 a layer."""
        self.require_fitted()
        require_images(images)
        f = self.frozen(images)
        g = self.imitate(f)
        size = (int(images.shape[2]), int(images.shape[3]))
        maps = [
            to_map(1 - F.cosine_similarity(f[layer], g[layer])[:, None], size, self.blur_sigma)
            for layer in self._order
        ]
        anomaly_map = torch.stack(maps).sum(0)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


class Embedding(nn.Module):
    """phi (B, 2 C_K, h_K / 2, w_K / 2) from f_k, fine to coarse."""

    def __init__(self, found: Sequence[LayerInfo], blocks: int, width: float) -> None:
        super().__init__()
        deepest = found[-1]
        self.fusion = nn.ModuleList(lower(info, deepest) for info in found[:-1])
        fused = sum(deepest.channels if ratio(deepest, info) > 1 else info.channels for info in found[:-1])
        first = Block(fused + deepest.channels, 2 * deepest.channels, width, down=True)
        rest = (Block(2 * deepest.channels, 2 * deepest.channels, width) for _ in range(blocks - 1))
        self.one_class = nn.Sequential(first, nn.ReLU(), *(step for b in rest for step in (b, nn.ReLU())))

    def forward(self, f: Sequence[Tensor]) -> Tensor:
        """phi from f_k, fine to coarse."""
        lowered = [fuse(x) for fuse, x in zip(self.fusion, f[:-1], strict=True)]
        fused = [fit(x, f[-1]) for x in lowered]
        embedded: Tensor = self.one_class(torch.cat([*fused, f[-1]], 1))
        return embedded


class Student(nn.Module):
    """g_k, fine to coarse, of the shapes of f_k, from phi."""

    def __init__(self, found: Sequence[LayerInfo], blocks: int, width: float) -> None:
        super().__init__()
        deepest = found[-1]
        phi = LayerInfo(2 * deepest.channels, 2 * deepest.stride)
        levels = []
        for info, coarser in zip(found, [*found[1:], phi], strict=True):
            first = Block(coarser.channels, info.channels, width, up=ratio(coarser, info))
            rest = [Block(info.channels, info.channels, width) for _ in range(blocks - 1)]
            levels.append(nn.Sequential(first, *(step for block in rest for step in (nn.ReLU(), block))))
        self.levels = nn.ModuleList(levels)
        self.rectified = [info.rectified for info in found]

    def forward(self, phi: Tensor, f: Sequence[Tensor]) -> list[Tensor]:
        """g_k, fine to coarse; of f_k the sizes alone are read."""
        g: list[Tensor] = []
        x = phi
        for level, like, rectified in reversed(list(zip(self.levels, f, self.rectified, strict=True))):
            made = fit(level(x), like)
            x = F.relu(made)
            g.append(x if rectified else made)
        return g[::-1]


class Block(nn.Module):
    """(B, I, h, w) -> (B, O, h', w'), a residual block without its last ReLU: ResNet18's, which may halve (``down``),
    or its mirror, which multiplies the sides by ``up``."""

    def __init__(self, i: int, o: int, width: float, *, down: bool = False, up: int = 1) -> None:
        super().__init__()
        m = max(1, round(width * o))
        self.body = nn.Sequential(
            _resize(i, m, 3, down, up), nn.BatchNorm2d(m), nn.ReLU(),
            nn.Conv2d(m, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip
        changed = down or up > 1 or i != o
        self.skip = nn.Sequential(_resize(i, o, 1, down, up), nn.BatchNorm2d(o)) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        added: Tensor = self.body(x) + self.skip(x)
        return added


def _resize(i: int, o: int, kernel: int, down: bool, up: int) -> nn.Module:
    if up > 1:
        return nn.ConvTranspose2d(i, o, up, up, bias=False)
    return nn.Conv2d(i, o, kernel, 2 if down else 1, kernel // 2, bias=False)


def lower(info: LayerInfo, deepest: LayerInfo) -> nn.Module:
    """(B, C_k, h_k, w_k) -> (B, C_K, h_K, w_K): a convolution for each halving, channels doubling up to C_K."""
    steps: list[nn.Module] = []
    i, halvings = info.channels, ratio(deepest, info).bit_length() - 1
    for left in reversed(range(halvings)):
        o = min(2 * i, deepest.channels) if left else deepest.channels
        steps += [nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        i = o
    return nn.Sequential(*steps)


def ratio(coarse: LayerInfo, fine: LayerInfo) -> int:
    """How many times ``coarse``'s stride is ``fine``'s. Raises :class:`SettingsError` unless it is a power of two."""
    times, rest = divmod(coarse.stride, fine.stride)
    if rest or times & (times - 1):
        raise SettingsError(
            f"reverse distillation needs layers whose strides are each other's doubles, got {fine.stride} and "
            f"{coarse.stride}; choose other layers"
        )
    return times


def fit(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with the rows and columns of ``like``: cropped where larger, the last ones repeated where smaller."""
    h, w = int(like.shape[2]), int(like.shape[3])
    missing = (h - int(x.shape[2]), w - int(x.shape[3]))
    if missing == (0, 0):
        return x
    return F.pad(x, (0, max(missing[1], 0), 0, max(missing[0], 0)), mode="replicate")[:, :, :h, :w]
