"""RIAD: a network that fills in what was cut out of good parts cannot guess a defect from what is around it.

Zavrtanik, Kristan, Skocaj 2021, Reconstruction by inpainting for visual anomaly detection, Pattern Recognition 112.

    S_1 .. S_n  the k x k cells of the image, dealt at random into n disjoint sets of equal size        (section 3.1)
    y           = sum over i of M_i net((1 - M_i) x),   M_i the pixels of S_i: each pixel inpainted once     (inpainting)
    L           = mean (x - y)^2 + mean (1 - SSIM(x, y)) + MSGMS(x, y),   k drawn from K for each batch   (the loss)
    map         = mean over k in K, and over four scales, of 1 - GMS(x, y), smoothed                         (the anomaly map)

Letters: x the image, y its reconstruction, K ``sizes``, n ``sets``, B images, H and W the image, T the tile of cells.

Differences from the paper: the network works at half resolution, the image's 2 x 2 pixels folded into channels
(``fold``; 1 is the paper), ``width`` channels instead of 64, some hundreds of steps instead of 300 epochs, without
early stopping. At test time the cells are dealt by one pattern drawn from the seed and tiled over the image, so that
an image always scores the same. The map is blurred by a Gaussian as wide as the paper's 21 x 21 mean. The image score
is the maximum of the map, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from andon.errors import SettingsError
from andon.features.blocks import doubling
from andon.features.gradients import gms_distances
from andon.features.patches import blur_map
from andon.features.similarity import ssim
from andon.features.unet import UNet, require_size
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

TILE = 32  # cells a side of the pattern that is tiled at test time


class RIAD(ReconstructingDetector):
    """Scores by how the edges of each region differ from what its surroundings let expect. Gives the reconstruction.

    ``sizes``: K, the sides of the cells in pixels (paper: 2, 4, 8, 16); ``sets``: n (paper: 3). An image goes through
    the network ``sets`` times for each of ``sizes``, in training ``sets`` times a step: fewer of either are faster.
    ``width`` channels at the finest level, doubled at each of ``levels`` up to ``8 width`` (paper: 64 and 5);
    ``fold`` pixels a side are folded into channels first (paper: 1); ``blur_sigma`` pixels.
    """

    title = "RIAD"
    paper = "Zavrtanik et al. 2021, Reconstruction by inpainting for visual anomaly detection"
    pattern: Tensor  # (|K|, T, T) uint8: the set of each cell at test time

    def __init__(
        self,
        sizes: Sequence[int] = (4, 8, 16),
        sets: int = 3,
        width: int = 16,
        levels: int = 4,
        fold: int = 2,
        steps: int = 800,
        batch_size: int = 4,
        learning_rate: float = 1e-3,
        blur_sigma: float = 6.0,
        seed: int = 0,
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.sizes, self.sets = _sizes(sizes), whole("sets", sets, 2)
        self.width, self.levels = whole("width", width, 1), whole("levels", levels, 1)
        self.fold = whole("fold", fold, 1)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        self.net = UNet(3 * fold**2, 3 * fold**2, doubling(width, levels), skips=True)
        self.register_buffer("pattern", torch.zeros(len(self.sizes), TILE, TILE, dtype=torch.uint8))
        self.reset()

    def draw(self) -> None:
        """Draw the weights, and how cells are dealt at test time, anew."""
        redraw(self.net)
        self.pattern = torch.stack([deal(TILE, TILE, self.sets) for _ in self.sizes]).to(self.pattern)

    def fill_in(self, images: Tensor, cells: Tensor, k: int) -> Tensor:
        """y (B, 3, H, W) from x (B, 3, H, W) and the sets (rows, columns) of the cells of ``k`` pixels."""
        size = (int(images.shape[2]), int(images.shape[3]))
        dealt = cells.repeat_interleave(k, 0).repeat_interleave(k, 1)[: size[0], : size[1]]  # (H, W)
        numbers = torch.arange(self.sets, device=dealt.device)[:, None, None, None]
        masks = (dealt == numbers).to(images.dtype)  # (n, 1, H, W): M_i
        cut = (images[:, None] * (1 - masks)).flatten(0, 1)  # (B n, 3, H, W)
        filled = self._network(cut).reshape(-1, self.sets, 3, *size)
        return (filled * masks).sum(1)

    def _network(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) from (B, 3, H, W), padded to whole folds and cut back."""
        require_size(images, self.fold * 2 ** (self.levels - 1))
        h, w = int(images.shape[2]), int(images.shape[3])
        padded = F.pad(images, (0, -w % self.fold, 0, -h % self.fold), mode="replicate")
        folded = F.pixel_unshuffle(padded - 0.5, self.fold)
        return F.pixel_shuffle(self.net(folded), self.fold)[:, :, :h, :w] + 0.5

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L () for one k and one dealing, drawn for the batch."""
        k = self.sizes[int(torch.randint(len(self.sizes), ()))]
        cells = deal(-(-images.shape[2] // k), -(-images.shape[3] // k), self.sets).to(images.device)
        with learning(self.net):
            y = self.fill_in(images, cells, k)
        edges = torch.stack([distance.mean() for distance in gms_distances(images, y)]).mean()
        return F.mse_loss(y, images) + (1 - ssim(images, y)).mean() + edges

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam, the rate falling tenfold for the last sixth (paper: epoch 250 of 300); then a look at what is
        usual."""
        turn = Turn(self.loss, list(self.parameters()), adam(self.learning_rate))
        train = Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 5 / 6 else 0.1)
        return (train, *self.looks())

    def left_over(self, images: Tensor) -> Tensor:
        """The map before the blur."""
        return self._compared(images)[0]

    def _compared(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The map before the blur (B, 1, H, W), and y, both means over ``sizes``."""
        size = (int(images.shape[2]), int(images.shape[3]))
        filled = [
            self.fill_in(images, _tiled(self.pattern[i], -(-size[0] // k), -(-size[1] // k)), k)
            for i, k in enumerate(self.sizes)
        ]
        maps = [_raised(gms_distances(images, y), size) for y in filled]
        return torch.stack(maps).mean(0), torch.stack(filled).mean(0)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and their reconstruction: the mean over ``sizes``."""
        self.require_fitted()
        require_images(images)
        left_over, y = self._compared(images)
        anomaly_map = blur_map(left_over, self.blur_sigma)
        return Scores(anomaly_map, self.image_score(left_over, anomaly_map), y.clamp(0, 1))


def deal(rows: int, columns: int, sets: int) -> Tensor:
    """The set (rows, columns) int64 of each cell, dealt at random from the global generator, evenly.

    >>> deal(4, 6, 3).flatten().bincount().tolist()
    [8, 8, 8]
    """
    return (torch.randperm(rows * columns) % sets).reshape(rows, columns)


def _tiled(pattern: Tensor, rows: int, columns: int) -> Tensor:
    """``pattern`` (T, T) laid out to (rows, columns)."""
    times = (-(-rows // pattern.shape[0]), -(-columns // pattern.shape[1]))
    return pattern.repeat(times)[:rows, :columns]


def _raised(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The mean (B, 1, H, W) of maps of several scales, each brought up to ``size``."""
    raised = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps]
    return torch.stack(raised).mean(0)


def _sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes:
        raise SettingsError(f"sizes must be a list of whole numbers such as [4, 8, 16], got {sizes!r}")
    return tuple(whole("sizes", size, 1) for size in sizes)
