"""EfficientAD: a student that knows the teacher on good parts only, and an autoencoder for how parts belong together.

K. Batzner, L. Heckler, R. König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV
2024 (arXiv:2303.14535). Implemented, with facts looked up in https://github.com/nelson1425/EfficientAD:

    T' = (T - mu) / sigma                                 the teacher's features, normalised a channel
    L_hard    = mean of D where D >= its p_hard quantile,   D = (T' - S)^2
    L_penalty = mean S(P)^2                                 P pictures of something else
    L_AE      = mean (T'(X) - A(X))^2                       X the images in other light
    L_STAE    = mean (A(X) - S'(X))^2
    M_ST = mean over channels of (T' - S)^2,   M_AE = of (A - S')^2
    M^   = 0.1 (M - q_a) / (q_b - q_a),   q_a and q_b the 0.9 and 0.995 quantiles of M on good images
    map  = (M^_ST + M^_AE) / 2,   image score = its maximum

Letters: T teacher, S and S' the student's first and second C channels, A autoencoder, M maps; B images, C channels of
the teacher, H and W the image, h and w the teacher's grid. The quantiles, 0.1, the range of light, dropout, and Adam with
decay 1e-5 whose rate falls tenfold for the last 5 % are the paper's; it has p_hard = 0.999, a rate of 1e-4, and 70,000
steps of one image.

Differences from the paper: the teacher is any backbone, its layers joined on the finest one's grid; the student is then
a strided PDN on that grid and has another receptive field than the teacher. A file of published PDN weights as
``backbone`` gives the paper's networks (with their padding kept, so that the map needs no border). The encoder's output
is resized to 8 x 8 before its last convolution, so that images may have any size; the decoder stops at the grid.
The quantiles are read off a histogram, on the grid, and by default on the training images. Penalty pictures (the paper
takes ImageNet) come from a folder, or are drawn by code, one a step; by default there are none. Fewer steps, at a higher
rate, and more errors that teach in each: p_hard is 0.99 by default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.crops import CropSource
from andon.features.patches import join, joined_channels, to_map
from andon.features.pdn import (
    VARIANTS,
    PDNTeacher,
    centred,
    on_grid,
    pdn,
    pdn_from_state,
    read_pdn,
    strided_pdn,
)
from andon.features.running import ChannelMoments, MapQuantiles, Measure
from andon.features.trunk import Backbone
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, one_of, open_backbone, require_images, share, whole
from andon.models.trained import TrainedDetector, learning, redraw

NORMALISE_ON = ("train", "held_out")
Q_A, Q_B = 0.9, 0.995
LIGHT = 0.2  # brightness, contrast or saturation is multiplied by 1 - LIGHT to 1 + LIGHT
DROPOUT = 0.2
SIDES = (3, 8, 15, 32, 63, 127)  # of the decoder's maps for an image of 256 pixels
BOTTLENECK = 8  # the encoder's grid before its last convolution, as the paper has it at 256 pixels
GREY = (0.299, 0.587, 0.114)


class EfficientAD(TrainedDetector):
    """Scores by where a student disagrees with its teacher, and with an autoencoder.

    ``backbone``, ``layers``: the teacher, a name, file or module, and which of its layers (None: its default ones); or
    a file of PDN weights. ``variant``: the student is a PDN-``"s"`` or PDN-``"m"``; ``width`` of its first convolution
    (None: the paper's beside a PDN, else 48 or 64), ``autoencoder_width`` of the autoencoder's (the paper: 32).
    ``hard_fraction``: p_hard (the paper: 0.999). ``penalty``: ``"none"``, ``"drawn"`` by code, or a folder of pictures of
    other things.
    ``normalise_on``: images that q_a and q_b come from, ``"train"`` or ``"held_out"`` (the paper). ``blur_sigma`` of
    the map, in pixels (the paper: 0).
    """

    title = "EfficientAD"
    paper = (
        "Batzner et al. 2024, EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies"
    )
    ranges: Tensor  # (2, 2) float32: q_a and q_b of M_ST and of M_AE

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        variant: Literal["s", "m"] = "s",
        width: int | None = None,
        autoencoder_width: int = 32,
        hard_fraction: float = 0.99,
        penalty: str | os.PathLike[str] = "none",
        normalise_on: Literal["train", "held_out"] = "train",
        steps: int = 1500,
        batch_size: int = 2,
        learning_rate: float = 1e-3,
        blur_sigma: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = _open_teacher(backbone, layers)
        self.variant = one_of("variant", variant, VARIANTS)
        self.width = None if width is None else whole("width", width, 1)
        self.autoencoder_width = whole("autoencoder_width", autoencoder_width, 1)
        self.hard_fraction = share("hard_fraction", hard_fraction)
        self.penalty, self._pictures = os.fspath(penalty), _pictures(os.fspath(penalty))
        self.normalise_on = one_of("normalise_on", normalise_on, NORMALISE_ON)
        self.uses_held_out = normalise_on == "held_out"
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        channels = joined_channels(self.backbone, self.layers)
        self.channels = channels
        if isinstance(self.backbone, PDNTeacher):
            self.student = pdn(self.variant, 2 * channels, self.width)
        else:
            stride = min(self.backbone.layers[layer].stride for layer in self.layers)
            self.student = strided_pdn(self.variant, 2 * channels, stride, self.width)
        raises = 6 if isinstance(self.backbone, PDNTeacher) else 4
        self.autoencoder = PatchAutoencoder(self.autoencoder_width, channels, raises)
        self.features = ChannelMoments(channels)
        self.maps = MapQuantiles(2)
        self.register_buffer("ranges", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.student, self.autoencoder, self.features, self.maps)
        self.ranges = torch.tensor([[0.0, 1.0], [0.0, 1.0]], device=self.ranges.device)

    def look(self, images: Tensor) -> None:
        """mu and sigma."""
        self.features.add(self.taught(images), self.images_seen)

    def taught(self, images: Tensor) -> Tensor:
        """T (B, C, h, w), not normalised."""
        return join(self.backbone(images), self.layers)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> State:
        """T of the images as they are."""
        return {"teacher": self.taught(images)}

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L_hard + L_penalty + L_AE + L_STAE, ()."""
        frozen = self.frozen(images) if frozen is None else frozen
        lit = other_light(images)
        others = self.others(images)
        with torch.no_grad():
            t_lit = self.features.standardise(self.taught(lit))
        t = self.features.standardise(frozen["teacher"])
        grid = (int(t.shape[2]), int(t.shape[3]))
        with learning(self.student, self.autoencoder):
            out = on_grid(self.student(centred(torch.cat([images, lit, others]))), grid)
            a = self.autoencoder(lit, grid)
        b, c = len(images), self.channels
        loss = hardest((t - out[:b, :c]).square(), self.hard_fraction)
        loss = loss + (t_lit - a).square().mean() + (a - out[b : 2 * b, c:]).square().mean()
        return loss + out[2 * b :, :c].square().mean() if len(others) else loss

    def others(self, images: Tensor) -> Tensor:
        """P (1, 3, H, W) in [0, 1], or none (0, 3, H, W)."""
        if self._pictures is None:
            return images[:0]
        rows, columns = int(images.shape[2]), int(images.shape[3])
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self._pictures.size = max(rows, columns)
        picture = self._pictures.batch(rng, 1)[:, :, :rows, :columns]
        return torch.from_numpy(picture).to(images.device, images.dtype) / 255

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam, the rate falling tenfold for the last 5 %; then, if asked for, a look at the maps."""
        learned = [*self.student.parameters(), *self.autoencoder.parameters()]
        turn = Turn(self.loss, learned, adam(self.learning_rate, weight_decay=1e-5))
        training = Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.95 else 0.1)
        if self.normalise_on != "train":
            return (training,)
        return (training, Look("measure the maps", Measure(self.maps, self.parts)))

    def settle(self, held_out: Iterable[Tensor]) -> None:
        """q_a and q_b, from the training images' maps or the held-out ones'."""
        if self.normalise_on == "held_out":
            measure = Measure(self.maps, self.parts)
            for images in held_out:
                measure(images)
        if float(self.maps.histogram.sum()):
            ends = torch.stack([self.maps.quantile(Q_A), self.maps.quantile(Q_B)], 1)
            self.ranges = ends.float().to(self.ranges.device)

    def parts(self, images: Tensor) -> Tensor:
        """M_ST and M_AE, (B, 2, h, w)."""
        t = self.features.standardise(self.taught(images))
        grid = (int(t.shape[2]), int(t.shape[3]))
        out = on_grid(self.student(centred(images)), grid)
        a = self.autoencoder(images, grid)
        m_st = (t - out[:, : self.channels]).square().mean(1, keepdim=True)
        m_ae = (a - out[:, self.channels :]).square().mean(1, keepdim=True)
        return torch.cat([m_st, m_ae], 1)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W)."""
        self.require_fitted()
        require_images(images)
        q_a, q_b = self.ranges[:, 0, None, None], self.ranges[:, 1, None, None]
        normalised = 0.1 * (self.parts(images) - q_a) / (q_b - q_a).clamp(min=1e-9)
        size = (int(images.shape[2]), int(images.shape[3]))
        anomaly_map = to_map(normalised.mean(1, keepdim=True), size, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


class PatchAutoencoder(nn.Module):
    """The paper's autoencoder: images to a teacher's features through ``2 width`` numbers an image."""

    def __init__(self, width: int, channels: int, raises: int) -> None:
        super().__init__()
        w, latent = width, 2 * width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(w, latent, 4, 2, 1), nn.ReLU(), nn.Conv2d(latent, latent, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(latent, latent, 4, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.squeeze = nn.Conv2d(latent, latent, BOTTLENECK)
        self.raises = nn.ModuleList(nn.Conv2d(latent, latent, 4, 1, 2) for _ in range(raises))
        self.dropout = nn.Dropout(DROPOUT)
        self.last = nn.Sequential(
            nn.Conv2d(latent, latent, 3, 1, 1), nn.ReLU(), nn.Conv2d(latent, channels, 3, 1, 1)
        )

    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """A (B, C, h, w) on the ``grid`` (h, w)."""
        x = self.squeeze(on_grid(self.encoder(centred(images)), (BOTTLENECK, BOTTLENECK)))
        for side, convolution in zip(SIDES, self.raises, strict=False):
            size = (_side(side, int(images.shape[2])), _side(side, int(images.shape[3])))
            x = self.dropout(F.relu(convolution(on_grid(x, size))))
        return self.last(on_grid(x, grid))


def _side(side: int, image: int) -> int:
    """``side`` at 256 pixels, for an ``image`` of another side."""
    return max(SIDES[0], math.ceil(side * image / 256))


def hardest(errors: Tensor, fraction: float) -> Tensor:
    """L_hard (): the mean of the ``errors`` at or above their ``fraction`` quantile.

    >>> float(hardest(torch.arange(101.0), 0.98))  # the quantile is 98: 98, 99, 100
    99.0
    """
    count = errors.numel()
    kept = count - math.ceil((count - 1) * fraction)
    return errors.flatten().topk(kept, sorted=False).values.mean()


def other_light(images: Tensor) -> Tensor:
    """X (B, 3, H, W) in [0, 1]: brightness, contrast or saturation multiplied by 0.8 to 1.2, drawn an image."""
    grey = (images * torch.tensor(GREY, device=images.device).view(3, 1, 1)).sum(1, keepdim=True)
    bases = [
        torch.zeros_like(images),
        grey.mean((2, 3), keepdim=True).expand_as(images),
        grey.expand_as(images),
    ]
    kind = torch.randint(3, (len(images), 1, 1, 1)).to(images.device)
    factor = 1 + LIGHT * (2 * torch.rand(len(images), 1, 1, 1).to(images.device) - 1)
    base = torch.where(kind == 0, bases[0], torch.where(kind == 1, bases[1], bases[2]))
    return (base + factor * (images - base)).clamp(0, 1)


def _open_teacher(
    backbone: str | os.PathLike[str] | nn.Module, layers: Sequence[str] | None
) -> tuple[Backbone, tuple[str, ...]]:
    """The teacher and the layers taken from it: a PDN where ``backbone`` is a file of its weights."""
    state = None if isinstance(backbone, nn.Module) else read_pdn(backbone)
    if state is None or isinstance(backbone, nn.Module):
        return open_backbone(backbone, layers)
    teacher = pdn_from_state(state, layers)
    teacher.name = os.fspath(backbone)
    return teacher, tuple(teacher.layers)


def _pictures(penalty: str) -> CropSource | None:
    """Where penalty pictures come from. Raises :class:`DataError` for a folder without images."""
    if penalty == "none":
        return None
    if penalty == "drawn":
        return CropSource((), drawn=1.0)
    if not Path(penalty).is_dir():
        raise SettingsError(f"penalty must be 'none', 'drawn' or a folder of pictures, got {penalty!r}")
    return CropSource((penalty,), drawn=0.0)
