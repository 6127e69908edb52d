"""GCAD: one network knows what each spot looks like, another what the whole must look like to pass a narrow bottleneck.

Bergmann, Batzner, Fauser, Sattlegger, Steger 2022, Beyond Dents and Scratches: Logical Constraints in Unsupervised
Anomaly Detection and Localization, International Journal of Computer Vision 130 (GCAD: global context anomaly
detection).

    L     = |E_loc - U(E_glo)|^2 / d_loc + |E_glo - R_glo|^2 / d_glo + |E_loc - R_loc|^2 / d_loc         (the loss)
    A_loc = |E_loc - R_loc|,  A_glo = |E_glo - R_glo|        at each position, the norm over the channels
    A     = (A_loc - mu_loc) / sigma_loc + (A_glo - mu_glo) / sigma_glo      mu, sigma of held-out good images

E_loc: descriptors of a frozen network with a small field of view, each channel at mean 0 and deviation 1 on the
training images. E_glo: an encoder to g numbers an image and a decoder to d_glo channels. U: three 1 x 1 convolutions.
R_loc, R_glo: networks with skip connections that see the image. R_loc errs where a spot is new (a scratch), R_glo where
the whole is (a part that is missing, or too many): E_glo answers there as nothing that R_glo has seen.

Letters: d_loc, d_glo channels, g ``bottleneck``, B images, H and W the image, h and w the finest layer's grid.

Differences from the paper: E_loc is a backbone's layers on the finest one's grid, instead of two patch descriptors (17
and 33 pixels wide) distilled from a ResNet-18 at every pixel, each with a model of its own; the networks answer on that
grid, at ``width`` channels instead of 64, with batch normalisation in R_loc and R_glo; E_glo brings its coarsest
features to 8 x 8 positions, so that it takes images of any size, and has no skip connections that fade out in the first
fifth of training; no augmentation; some hundreds of steps instead of 500 epochs; the map is blurred.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.blocks import doubling
from andon.features.patches import join, joined_channels, to_map
from andon.features.running import ChannelMoments, Measure
from andon.features.unet import UNet
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, open_backbone, require_images, whole
from andon.models.trained import TrainedDetector, learning, redraw

GRID = 8  # positions a side of E_glo's coarsest features: 1/32 of 256 pixels, the paper's size
LOCAL_ONLY = 0.1  # share of the steps before R_glo learns, too (paper: 50 of 500 epochs)
DECAY = 1e-5  # of the weights, the paper's
FLOOR = 0.3  # least deviation of a channel of E_loc, as a share of the mean one


class GlobalEncoder(nn.Module):
    """E_glo: images (B, 3, H, W) -> (B, d_glo, 32, 32), all of it through g numbers an image."""

    def __init__(self, width: int, bottleneck: int, outputs: int, halvings: int = 5) -> None:
        super().__init__()
        widths = [min(2**level, 4) * width for level in range(halvings)]
        self.encoder = nn.Sequential(*(_down(i, o) for i, o in zip([3, *widths], widths, strict=False)))
        self.narrow = nn.Conv2d(widths[-1], bottleneck, GRID)
        self.widen = nn.ConvTranspose2d(bottleneck, widths[-1], GRID)
        self.decoder = nn.Sequential(
            _up(widths[-1], 2 * width), _up(2 * width, width), nn.Conv2d(width, outputs, 3, padding=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, d_glo, 32, 32) from images (B, 3, H, W) in [0, 1]."""
        coarse = _to(self.encoder(2 * images - 1), (GRID, GRID))
        answer: Tensor = self.decoder(self.widen(self.narrow(coarse)))
        return answer


class Regressor(nn.Module):
    """R: images (B, 3, H, W) -> (B, O, H / stride, W / stride), ``stride`` a power of 2, by a U-Net on that grid."""

    def __init__(self, width: int, levels: int, stride: int, outputs: int) -> None:
        super().__init__()
        halvings = stride.bit_length() - 1
        widths = [max(1, width >> (halvings - level)) for level in range(1, halvings + 1)]  # up to ``width``
        self.stem = nn.Sequential(*(_halve(i, o) for i, o in zip([3, *widths], widths, strict=False)))
        first = widths[-1] if widths else 3
        self.net = UNet(first, outputs, doubling(width, levels), skips=True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, O, h, w) from images (B, 3, H, W) in [0, 1]."""
        answer: Tensor = self.net(self.stem(2 * images - 1))
        return answer


class GCAD(TrainedDetector):
    """Scores by what is new at a spot, and by what does not fit together: parts missing, moved, or too many.

    ``backbone``, ``layers``: of E_loc (None: its default ones). ``bottleneck``: g (paper: 32); fewer numbers make it
    stricter about the whole, more let more through. ``global_channels``: d_glo (paper: 10). ``width`` channels of R at
    the grid, doubled at each of its ``levels`` up to ``8 width`` (paper: 64 and 5, at every pixel), and half of it in
    E_glo. ``blur_sigma`` pixels.
    """

    title = "GCAD"
    paper = "Bergmann et al. 2022, Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization"  # fmt: skip
    uses_held_out = True

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        bottleneck: int = 32,
        global_channels: int = 10,
        width: int = 32,
        levels: int = 3,
        steps: int = 1000,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.bottleneck = whole("bottleneck", bottleneck, 1)
        self.global_channels = whole("global_channels", global_channels, 1)
        self.width, self.levels = whole("width", width, 1), whole("levels", levels, 1)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        local_channels = joined_channels(self.backbone, self.layers)
        stride = min(self.backbone.layers[layer].stride for layer in self.layers)
        self.descriptors = ChannelMoments(local_channels, floor=FLOOR)
        self.global_encoder = GlobalEncoder(max(1, width // 2), bottleneck, global_channels)
        self.upsampling = nn.Sequential(
            nn.Conv2d(global_channels, 2 * width, 1), nn.LeakyReLU(),
            nn.Conv2d(2 * width, 4 * width, 1), nn.LeakyReLU(),
            nn.Conv2d(4 * width, local_channels, 1),
        )  # fmt: skip
        self.local_regressor = Regressor(width, levels, stride, local_channels)
        self.global_regressor = Regressor(width, levels, stride, global_channels)
        self.maps = ChannelMoments(2, floor=0.0)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew, forget the descriptors' and the maps' means and deviations."""
        redraw(self.global_encoder, self.upsampling, self.local_regressor, self.global_regressor)
        redraw(self.descriptors, self.maps)

    def look(self, images: Tensor) -> None:
        """Count the descriptors of ``images`` in."""
        self.descriptors.add(join(self.backbone(images), self.layers), self.images_seen)

    def frozen(self, images: Tensor) -> State:
        """The backbone's features, {layer: (B, C, h, w)}."""
        features = self.backbone(images)
        return {layer: features[layer] for layer in self.layers}

    def local(self, features: State) -> Tensor:
        """E_loc (B, d_loc, h, w): the layers joined, each channel at mean 0 and deviation 1 on the training images.

        A channel that hardly varies on good images is not scaled up beyond all others: its deviation counts as
        ``FLOOR`` of the mean one.
        """
        return self.descriptors.standardise(join(features, self.layers))

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (), by means over the positions."""
        return self._loss(images, frozen, whole_too=True)

    def _local_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L without its second term."""
        return self._loss(images, frozen, whole_too=False)

    def _loss(self, images: Tensor, frozen: State | None, whole_too: bool) -> Tensor:
        e_loc = self.local(self.frozen(images) if frozen is None else frozen)
        size = _size(e_loc)
        with learning(self.local_regressor, self.global_regressor):
            e_glo = _to(self.global_encoder(images), size)
            loss = F.mse_loss(self.upsampling(e_glo), e_loc)  # the first term
            loss = loss + F.mse_loss(_to(self.local_regressor(images), size), e_loc)  # the third
            if whole_too:
                loss = loss + F.mse_loss(_to(self.global_regressor(images), size), e_glo)  # the second
        return loss

    def phases(self) -> Sequence[Phase | Look]:
        """E_glo, U and R_loc; then R_glo with them, the rate falling tenfold for the last fifth; then the maps' range
        on the training images."""
        first = round(LOCAL_ONLY * self.steps)
        maker = adam(self.learning_rate, weight_decay=DECAY)
        local = _parameters(self.global_encoder, self.upsampling, self.local_regressor)
        every = [*local, *self.global_regressor.parameters()]
        return (
            Phase("local", first, (Turn(self._local_loss, local, maker),)),
            Phase(
                "local and global",
                self.steps - first,
                (Turn(self.loss, every, maker),),
                lambda done: 1.0 if done < 0.8 else 0.1,
            ),
            Look("measure the maps", Measure(self.maps, self.branches)),
        )

    def settle(self, held_out: Iterable[Tensor]) -> None:
        """mu and sigma from ``held_out``; without any, those of the training images stay."""
        measure = Measure(self.maps, self.branches)
        for images in held_out:
            measure(images)

    def branches(self, images: Tensor) -> Tensor:
        """A_loc and A_glo (B, 2, h, w)."""
        e_loc = self.local(self.frozen(images))
        size = _size(e_loc)
        e_glo = _to(self.global_encoder(images), size)
        a_loc = e_loc - _to(self.local_regressor(images), size)
        a_glo = e_glo - _to(self.global_regressor(images), size)
        return torch.stack([torch.linalg.vector_norm(a, dim=1) for a in (a_loc, a_glo)], 1)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): deviations from the mean of good images."""
        self.require_fitted()
        require_images(images)
        grid = self.maps.standardise(self.branches(images)).sum(1, keepdim=True)  # A (B, 1, h, w)
        anomaly_map = to_map(grid, _size(images), self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))


def _parameters(*networks: nn.Module) -> list[nn.Parameter]:
    return [parameter for network in networks for parameter in network.parameters()]


def _size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[2]), int(x.shape[3])


def _to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``x`` (B, C, h, w) brought bilinearly to ``size``; as it is where it has it."""
    return x if _size(x) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _halve(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, ceil(h / 2), ceil(w / 2)) for R."""
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


def _down(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, ceil(h / 2), ceil(w / 2)) for E_glo."""
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.LeakyReLU(0.2))


def _up(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, 2 h, 2 w) for E_glo."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(i, o, 3, 1, 1), nn.LeakyReLU(0.2)
    )
