"""DRAEM: one network repaints an image as if it were good, another compares the two; both learn on invented defects.

Zavrtanik, Kristan, Skočaj 2021, DRAEM - A discriminatively trained reconstruction embedding for surface anomaly
detection (arXiv:2108.07610).

    I_a     = (1 - M) I + M ((1 - beta) I + beta A),   beta ~ U(0.1, 1)              (eq. 3; `andon.features.planting`)
    L_rec   = l2(I, I_r) + lambda (1 - mean SSIM(I, I_r))                            (eq. 1 and 2; lambda = 1 in the code)
    L       = L_rec + focal(M, M_o)                                                  (eq. 4)
    score   = max of (M_o * f),  f a mean over pixels                                (eq. 5; ``score="peak"``)

The image score here is how unusual M_o * f is at its most unusual place (:mod:`andon.features.unusual`).

Letters: I a good image, A a texture, M a mask of Perlin noise, I_a the image with a planted defect, I_r what the
reconstructive network makes of it, M_o the probability that the discriminative network gives each pixel of (I_r, I_a)
to be anomalous.

Differences from the paper: narrower networks (base ``width`` 128 and ``segment_width`` 64 there), because they run on
CPUs; in both, going up, the convolution comes before the interpolation; one logit in place of two under a softmax;
textures drawn by code unless a folder is given (the paper takes the Describable Textures); good images are not turned
unless ``rotation`` says so, because a part that lies askew can be a defect (the paper: 45 degrees; its code: 90, three
images in ten); f is over 9 x 9 pixels (the code: 21 x 21, of images of 256), at the border over those that exist; far
fewer steps (700 epochs there, the rate falling to a fifth after 80 and 90 % in the code, as here).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from andon.features.planting import plant, turn
from andon.features.similarity import ssim
from andon.features.textures import DRAWN, TextureSource
from andon.features.unet import UNet, expect_nothing, falling, focal_loss, require_size, smooth
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

TURNED = 0.3  # share of the images that are turned where `rotation` is not 0: the authors' code


class DRAEM(ReconstructingDetector):
    """Scores by a network that has learnt to tell an image from its repainting. Gives the reconstruction, too.

    ``width`` and ``segment_width`` channels of the two networks' finest levels; ``levels`` of the first (the second has
    one more); ``textures`` "drawn", or a folder of pictures; ``rotation`` degrees by which good images may be turned;
    ``score``: "unusual" or "peak" (above); ``smoothing`` pixels: the side of f.
    """

    title = "DRAEM"
    paper = "Zavrtanik, Kristan, Skočaj 2021, DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection"  # fmt: skip

    def __init__(
        self,
        width: int = 8,
        segment_width: int = 8,
        levels: int = 5,
        textures: str | os.PathLike[str] = DRAWN,
        rotation: float = 0.0,
        smoothing: int = 9,
        steps: int = 600,
        batch_size: int = 4,
        learning_rate: float = 1e-3,
        seed: int = 0,
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.width, self.segment_width = whole("width", width, 1), whole("segment_width", segment_width, 1)
        self.levels, self.rotation = whole("levels", levels, 1), number("rotation", rotation)
        self.textures = os.fspath(textures)
        self.smoothing = whole("smoothing", smoothing, 1)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate, self.seed = number("learning_rate", learning_rate), whole("seed", seed)
        self._source = TextureSource(textures)
        growth = [min(2**level, 8) for level in range(levels + 1)]
        self.repaint = UNet(3, 3, [width * factor for factor in growth[:-1]], skips=False)
        self.compare = UNet(6, 1, [segment_width * factor for factor in growth], skips=True)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.repaint, self.compare)
        expect_nothing(self.compare)

    def look(self, images: Tensor) -> None:
        """Refuse images too small to be halved so often."""
        require_size(images, 2**self.levels)

    def reconstruct(self, images: Tensor) -> Tensor:
        """I_r (B, 3, H, W), in [0, 1] where it is like a good image, from I_a (B, 3, H, W) in [0, 1]."""
        repainted: Tensor = self.repaint(images - 0.5) + 0.5
        return repainted

    def logits(self, images: Tensor, repainted: Tensor) -> Tensor:
        """The log-odds of M_o (B, 1, H, W), from I_a and I_r."""
        answer: Tensor = self.compare(torch.cat([repainted, images], 1) - 0.5)
        return answer

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (), on images of which half get a defect."""
        good = turn(images, self.rotation, TURNED)
        spoiled, masks = plant(good, self._source)
        with learning(self.repaint, self.compare):
            repainted = self.reconstruct(spoiled)
            found = self.logits(spoiled, repainted)
        l_rec = F.mse_loss(repainted, good) + 1 - ssim(repainted, good).mean()
        return l_rec + focal_loss(found, masks)

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam on both networks together, the rate falling to a fifth after 80 and 90 %; then a look at what
        is usual."""
        turn = Turn(self.loss, list(self.parameters()), adam(self.learning_rate))
        return (Phase("train", self.steps, (turn,), falling), *self.looks())

    def left_over(self, images: Tensor) -> Tensor:
        """M_o * f."""
        return smooth(self.logits(images, self.reconstruct(images)).sigmoid(), self.smoothing)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and their reconstruction."""
        self.require_fitted()
        require_images(images)
        repainted = self.reconstruct(images)
        anomaly_map = self.logits(images, repainted).sigmoid()
        smoothed = smooth(anomaly_map, self.smoothing)
        return Scores(anomaly_map, self.image_score(smoothed, smoothed), repainted.clamp(0, 1))
