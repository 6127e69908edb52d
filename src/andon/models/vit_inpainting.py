"""ViT inpainting (InTra): a transformer that fills in covered patches from those around them cannot guess a defect.

J. Pirnay, K. Chai, "Inpainting Transformer for Anomaly Detection", ICIAP 2022 (arXiv:2104.13897).

    tokens  = E x_ij + f(i, j)   for the K x K pixels x_ij of each patch in a window of L x L patches;
              x_inpaint + f(i, j)   for a covered one;   f depends on where the patch lies in the image   (section 3.1)
    blocks  of multihead feature self-attention (queries and keys from networks of their own), the first half's outputs
            added to the inputs of the second half's mirror images                                          (section 3.2)
    loss    = mean (x - y)^2 + a (1 - MSGMS(x, y)) + b (1 - SSIM(x, y)) over covered patches, a = b = 0.01  (section 3.2)
    diff    = 1 - MSGMS(x, y) of the whole image, each patch filled in once, smoothed
    map     = (diff(x) - mean of diff over the training images)^2;   image: its maximum                     (section 3.3)

The image score here is how unusual diff is, before it is smoothed, at its most unusual place
(:mod:`andon.features.unusual`); ``score="peak"`` is the paper's.

Letters: x the image, y the image filled in, K ``patch``, L ``window``, D ``width``, n ``heads``, s ``spacing``;
B images, H and W the image, M and N its rows and columns of patches.

Differences from the paper. It covers one patch of a window and averages the tokens to fill it in; here every s-th
patch of every s-th row is covered at once, each filled in from its own token: s^2 passes do a whole image, a patch
still sees its eight neighbours, and training has many covered patches a window. Windows are larger and overlap at test
time (the paper's: one a patch, as central as the border allows); each patch is taken from the one where it is most
central. Images are taken less their mean, and f starts as sines and cosines of row and column: both spare a short
training what takes the paper's long one millions of windows to find out. f is a grid read bilinearly, the mean image
is kept on 128 x 128 cells and the mean of diff on 64 x 64, so that images may have any size. Narrower and shallower,
without early stopping of its own; Adam with a rising and falling rate instead of 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.attention import Block, FeatureAttention, Positions, as_tokens
from andon.features.blocks import shrink, to_size
from andon.features.gradients import gms_distances
from andon.features.patches import blur_map
from andon.features.similarity import ssim
from andon.features.stable import rise_and_fall
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

EDGES, STRUCTURE = 0.01, 0.01  # a and b
SCALES = 3  # of MSGMS
CELLS = 128  # a side of the mean image
WARM_UP, LAST_RATE = 0.05, 0.05  # share of the training in which the rate rises; of the rate, at the end


class ViTInpainting(ReconstructingDetector):
    """Scores by how the edges of each patch differ from what its surroundings let expect. Gives the reconstruction.

    ``patch``: K, pixels a side, at least 8 (paper: 16). ``window``: L, patches a side (paper: 7). ``spacing``: s, every
    how manieth patch a side is covered at once, at least 2: s^2 passes an image. ``width`` (paper: 512), ``depth``
    blocks (paper: 13), ``heads`` (paper: 8). ``steps`` of ``batch_size`` windows (paper: 600 an image and epoch, until a
    held-out loss stops falling, batches of 256). ``blur_sigma``: pixels of the smoothing. ``score``: "unusual" or "peak".
    """

    title = "ViT inpainting"
    paper = "Pirnay and Chai 2022, Inpainting Transformer for Anomaly Detection"
    centre: Tensor  # (1, 3, cells, cells) float64: the mean of the images observed

    def __init__(
        self,
        patch: int = 16,
        window: int = 16,
        spacing: int = 2,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        steps: int = 1500,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 6.0,
        seed: int = 0,
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.patch, self.window = whole("patch", patch, 8), whole("window", window, 3)
        self.spacing = whole("spacing", spacing, 2)
        self.width, self.depth = whole("width", width, 2), whole("depth", depth, 1)
        self.heads = whole("heads", heads, 1)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        if width % (2 * heads):
            raise SettingsError(f"width must be a multiple of twice the {heads} heads, got {width}")
        self.embed, self.positions = nn.Conv2d(3 * patch**2, width, 1), Positions(width, waves=True)
        self.covered = nn.Parameter(torch.zeros(width))  # x_inpaint
        self.blocks = nn.ModuleList(Block(width, FeatureAttention(width, heads)) for _ in range(depth))
        self.norm, self.pixels = nn.LayerNorm(width), nn.Linear(width, 3 * patch**2)
        self.register_buffer("centre", torch.zeros(1, 3, CELLS, CELLS, dtype=torch.float64))
        self.reset()

    @property
    def learnt(self) -> tuple[nn.Module, ...]:
        """The networks that are trained, without ``covered``."""
        return self.embed, self.positions, self.blocks, self.norm, self.pixels

    def draw(self) -> None:
        """Draw the weights anew, and forget what was observed."""
        redraw(*self.learnt)
        nn.init.trunc_normal_(self.covered, std=0.02)
        nn.init.zeros_(self.pixels.weight)  # so that training starts from the mean image
        nn.init.zeros_(self.pixels.bias)
        self.centre = torch.zeros_like(self.centre)

    def look(self, images: Tensor) -> None:
        """Add ``images`` to the mean image."""
        cells = shrink(images.double(), (CELLS, CELLS))
        step = (cells.sum(0) - len(images) * self.centre) / (self.images_seen + len(images))
        self.centre = self.centre + step

    def mean_image(self, size: tuple[int, int]) -> Tensor:
        """The mean of the images observed, at ``size`` (H, W): (1, 3, H, W)."""
        return F.interpolate(self.centre.float(), size=size, mode="bilinear", align_corners=False)

    def cut(self, images: Tensor) -> Tensor:
        """The patches (B, 3 K^2, M, N) of images (B, 3, H, W); borders replicated to whole patches."""
        h, w = int(images.shape[2]), int(images.shape[3])
        padded = F.pad(images, (0, -w % self.patch, 0, -h % self.patch), mode="replicate")
        return F.pixel_unshuffle(padded, self.patch)

    def apart(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The patches of images (B, 3, H, W) less those of the mean image, and these: (B, ...), (1, 3 K^2, M, N)."""
        mean = self.cut(self.mean_image((int(images.shape[2]), int(images.shape[3]))))
        return self.cut(images) - mean, mean

    def transform(self, tokens: Tensor) -> Tensor:
        """What the tokens (B, P, D) of a window show: pixels (B, P, 3 K^2)."""
        kept: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i >= self.depth - self.depth // 2:
                tokens = tokens + kept.pop()
            tokens = block(tokens)
            if i < self.depth // 2:
                kept.append(tokens)
        pixels: Tensor = self.pixels(self.norm(tokens))
        return pixels

    def tokens(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of patches (B, 3 K^2, M, N), and those that stand in for covered ones: (B, D, M, N), (1, D, M, N)."""
        where = self.positions(int(patches.shape[2]), int(patches.shape[3]))
        return self.embed(patches) + where, self.covered[:, None, None] + where

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L () over the covered patches of one window an image, at one place drawn for the batch."""
        patches, mean = self.apart(images)
        rows, columns = (drawn(int(side), self.window) for side in patches.shape[2:])
        with learning(*self.learnt):
            shown, hidden = (part[:, :, rows, columns] for part in self.tokens(patches))
            m, n = int(shown.shape[2]), int(shown.shape[3])
            masks = lattice(m, n, self.spacing, like=images)[self._passes(len(images), m, n)]  # (B, 1, m, n)
            y = self.transform(as_tokens(torch.where(masks, hidden, shown)))  # (B, P, 3 K^2)
        taken = as_tokens(masks)[:, :, 0]  # (B, P)
        mean, x = as_tokens(mean[:, :, rows, columns]), as_tokens(patches[:, :, rows, columns])
        return self.difference(*(self.picture((mean + part)[taken]) for part in (x, y)))

    def _passes(self, count: int, m: int, n: int) -> Tensor:
        """Which pass (count,) each image takes, drawn among those that cover a patch of a window of m x n."""
        r, c = (torch.randint(min(self.spacing, side), (count,)) for side in (m, n))
        return r * self.spacing + c

    def picture(self, pixels: Tensor) -> Tensor:
        """(m, 3 K^2) -> (m, 3, K, K)."""
        return pixels.reshape(-1, 3, self.patch, self.patch)

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss () of patches y filled in for x (m, 3, K, K)."""
        edges = torch.stack([distance.mean() for distance in gms_distances(x, y, SCALES)]).mean()
        return F.mse_loss(y, x) + EDGES * edges + STRUCTURE * (1 - ssim(x, y)).mean()

    def fill_in(self, images: Tensor) -> Tensor:
        """y (B, 3, H, W): every patch filled in from those around it."""
        patches, mean = self.apart(images)
        shown, hidden = self.tokens(patches)
        m, n = int(patches.shape[2]), int(patches.shape[3])
        masks = lattice(m, n, self.spacing, like=images)  # (s^2, 1, M, N)
        tokens = torch.where(masks, hidden, shown[:, None]).flatten(0, 1)  # (B s^2, D, M, N)
        y = (self._by_windows(tokens).unflatten(0, (-1, len(masks))) * masks).sum(1)  # (B, 3 K^2, M, N)
        return F.pixel_shuffle(y + mean, self.patch)[:, :, : images.shape[2], : images.shape[3]]

    def _by_windows(self, tokens: Tensor) -> Tensor:
        """What the tokens (B, D, M, N) show, each in the window where it is most central: (B, 3 K^2, M, N)."""
        rows, columns = (windows(int(side), self.window) for side in tokens.shape[2:])
        parts = [tokens[:, :, r.whole, c.whole] for r in rows for c in columns]
        m, n = int(parts[0].shape[2]), int(parts[0].shape[3])
        shown = self.transform(as_tokens(torch.cat(parts))).transpose(1, 2).unflatten(2, (m, n))
        found = iter(shown.unflatten(0, (len(parts), -1)).unbind(0))
        return torch.cat(
            [torch.cat([next(found)[:, :, r.core, c.core] for c in columns], 3) for r in rows], 2
        )

    def diff(self, x: Tensor, y: Tensor) -> Tensor:
        """diff (B, 1, H, W) of images x and y (B, 3, H, W), before it is smoothed."""
        size = (int(x.shape[2]), int(x.shape[3]))
        maps = gms_distances(x, y, SCALES)
        raised = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps]
        return torch.stack(raised).mean(0)

    def phases(self) -> Sequence[Phase | Look]:
        """Adam, the rate rising and then falling along a cosine; then a look at what is usual."""
        turn = Turn(self.loss, list(self.parameters()), adam(self.learning_rate))
        train = Phase("train", self.steps, (turn,), self._rate)
        return (train, *self.looks())

    def looks(self) -> tuple[Look, ...]:
        """The look at what is usual, which the map needs, whatever the score is."""
        return (self.look_at_usual(),)

    def left_over(self, images: Tensor) -> Tensor:
        """diff before it is smoothed."""
        return self.diff(images, self.fill_in(images))

    def _rate(self, done: float) -> float:
        return rise_and_fall(done + 1 / self.steps, WARM_UP, LAST_RATE)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and their reconstruction."""
        self.require_fitted()
        require_images(images)
        y = self.fill_in(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        usual = self.unusual.mean.float()  # on G x G cells
        left_over = self.diff(images, y)
        anomaly_map = blur_map(left_over - to_size(usual, size), self.blur_sigma).square()
        return Scores(anomaly_map, self.image_score(left_over, anomaly_map), y.clamp(0, 1))


class Window(NamedTuple):
    """Places along one side that are looked at together, and those of them that this window answers for."""

    whole: slice
    core: slice  # within the window


def windows(count: int, length: int) -> list[Window]:
    """Windows of ``length`` over ``count`` places, or one of all of them, that overlap by half or more (3 by two thirds);
    each place falls to the window where it is most central.

    >>> [(w.whole.start, w.core.start, w.core.stop) for w in windows(20, 8)]
    [(0, 0, 6), (4, 2, 6), (8, 2, 6), (12, 2, 8)]
    """
    length = min(length, count)
    number = 1 + math.ceil((count - length) / (length - max(2, length // 2))) if count > length else 1
    starts = [round(i * (count - length) / max(1, number - 1)) for i in range(number)]
    ends = [(start + length + following) // 2 for start, following in pairwise(starts)] + [count]
    return [
        Window(slice(start, start + length), slice(first - start, last - start))
        for start, first, last in zip(starts, [0, *ends[:-1]], ends, strict=True)
    ]


def lattice(rows: int, columns: int, spacing: int, *, like: Tensor) -> Tensor:
    """Which patches are covered in each of the passes: (s^2, 1, rows, columns) bool, each patch in one of them."""
    r = torch.arange(rows, device=like.device)[:, None] % spacing
    c = torch.arange(columns, device=like.device)[None] % spacing
    which = r * spacing + c
    return torch.stack([which == i for i in range(spacing**2)])[:, None]


def drawn(count: int, length: int) -> slice:
    """``length`` places in a row out of ``count``, drawn at random; all of them if there are no more."""
    length = min(length, count)
    start = int(torch.randint(count - length + 1, ()))
    return slice(start, start + length)
