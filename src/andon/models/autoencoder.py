"""Autoencoder: a network that has only ever copied good parts copies a defect badly.

Bergmann, Löwe, Fauser, Sattlegger, Steger 2019, Improving Unsupervised Defect Segmentation by Applying Structural
Similarity to Autoencoders (arXiv:1807.02011).

    L(x, y) = s (1 - mean SSIM(x, y)) + (1 - s) mean |x - y|           (the paper's eq. 5 for s = 1; its l2 is l1 here)
    map     = s (1 - SSIM(x, y)) + (1 - s) |x - y|, mean over channels

    image   how unusual the map is at its most unusual place (andon.features.unusual), or its largest value once blurred

Letters: x the image, y its reconstruction, s ``ssim_share``, C ``width``; B images, H and W the image.

Differences from the paper: fully convolutional (any size, 1/16 of it in the bottleneck, ``latent`` channels) instead
of 100 numbers an image; batch (or group) normalisation; the two losses can be mixed; the map is blurred; the paper scores
no whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.blocks import Norm, decoder, doubling, encoder, group_norm, residual, to_size
from andon.features.patches import blur_map
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, share, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "group": group_norm}
STRIDES = 4  # halvings: the bottleneck is 1/16 of the image


class Autoencoder(ReconstructingDetector):
    """Scores by what a small bottleneck fails to reproduce. Gives the reconstruction, too.

    ``width`` channels at the first halving, doubled at each up to ``8 width``; ``latent`` channels in the bottleneck;
    ``ssim_share`` in [0, 1] of structural similarity in loss and map, the rest is the absolute difference;
    ``blur_sigma`` pixels. ``norm``: "batch", or "group" where no image may touch another. ``score``: "unusual" or "peak"
    (:class:`ReconstructingDetector`). Private training needs ``norm="group", score="peak"``.
    """

    title = "Autoencoder"
    paper = "Bergmann et al. 2019, Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders"  # fmt: skip

    def __init__(
        self,
        width: int = 16,
        latent: int = 32,
        ssim_share: float = 0.5,
        steps: int = 1500,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
        norm: Literal["batch", "group"] = "batch",
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        if norm not in NORMS:
            raise SettingsError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        self.norm = norm
        self.width, self.latent = whole("width", width, 1), whole("latent", latent, 1)
        self.ssim_share = share("ssim_share", ssim_share)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        widths = doubling(width, STRIDES)
        self.encoder, self.decoder = (
            encoder(widths, latent, NORMS[norm]),
            decoder(latent, widths, NORMS[norm]),
        )
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.encoder, self.decoder)

    def reconstruct(self, images: Tensor) -> Tensor:
        """y (B, 3, H, W), in [0, 1] where it is like the images, from x (B, 3, H, W) in [0, 1]."""
        y = self.decoder(self.encoder(images - 0.5)) + 0.5
        return to_size(y, (int(images.shape[2]), int(images.shape[3])))

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 1, H, W): the map's formula above."""
        return residual(x, y, self.ssim_share)

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (): the mean of the map."""
        with learning(self.encoder, self.decoder):
            return self.difference(images, self.reconstruct(images)).mean()

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam, the rate falling tenfold for the last fifth; then a look at what is usual."""
        turn = Turn(self.loss, list(self.parameters()), adam(self.learning_rate))
        train = Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1)
        return (train, *self.looks())

    def left_over(self, images: Tensor) -> Tensor:
        """The map before the blur."""
        return self.difference(images, self.reconstruct(images))

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and their reconstruction."""
        self.require_fitted()
        require_images(images)
        y = self.reconstruct(images)
        left_over = self.difference(images, y)
        anomaly_map = blur_map(left_over, self.blur_sigma)
        return Scores(anomaly_map, self.image_score(left_over, anomaly_map), y.clamp(0, 1))
