"""Variational autoencoder: what a code of few nats cannot tell about an image is anomalous.

D. P. Kingma, M. Welling 2014, Auto-Encoding Variational Bayes (arXiv:1312.6114), as an anomaly detector: J. An, S. Cho
2015, Variational Autoencoder based Anomaly Detection using Reconstruction Probability; C. Baur, B. Wiestler,
S. Albarqouni, N. Navab 2018, Deep Autoencoding Models for Unsupervised Anomaly Segmentation in Brain MR Images
(arXiv:1804.04488), from which come the grid of codes and the residual as the map.

    z = mu + sigma eps,  eps ~ N(0, I),  (mu, log sigma^2) = encoder(x),  y = decoder(z)      (Kingma & Welling, eq. 4)
    KL   = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2)                                          (appendix B, negative)
    loss = 1/2 log mean (x - y)^2 + beta KL / (3 H W)
    map  = s (1 - SSIM(x, y)) + (1 - s) |x - y|, mean over channels, + k KL of the position; blurred
    image: how unusual the map is at its most unusual place (andon.features.unusual), or its largest value

For beta = 1 the loss is the negative lower bound (eq. 10) divided by the values of the image, up to a constant, with
Gaussian values of one variance, which is put where it is best: at the mean squared error (O. Rybkin, K. Daniilidis,
S. Levine 2021, Simple and Effective VAE Training with Calibrated Decoders, arXiv:2006.13202). So beta needs no tuning to the contrast of the images.

Letters: x the image, y its reconstruction, z the code, s ``ssim_share``, k ``kl_weight``; B images, H and W the image,
h and w the grid of codes, Z its channels (``latent``).

Differences from the papers: scoring takes z = mu, one answer instead of a mean over L draws, so the map is a residual,
not a reconstruction probability; one variance for all pixels; codes on a grid of 1/16 of the image, as in Baur et al.,
not one vector; the image score is that of one place (An & Cho: the sum over the pixels, under which a small defect drowns).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from andon.features.blocks import decoder, doubling, encoder, residual, to_size
from andon.features.patches import blur_map
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, share, whole
from andon.models.reconstructing import UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

LOG_VARIANCE = 12.0  # |log sigma^2| is kept below, so that its exponential stays finite
FLOOR = (
    1e-6  # added to the squared error: about a third of a step of 8 bits, below which nothing is to be learnt
)


class VAE(ReconstructingDetector):
    """Scores by what is left over after a probabilistic bottleneck. Gives the reconstruction, too.

    ``width`` channels at the first halving, doubled at each up to ``8 width``; ``levels`` halvings up to the codes of
    ``latent`` channels; ``beta`` weighs KL in the loss; ``ssim_share`` in [0, 1] of structural similarity in the map;
    ``kl_weight`` of KL in the map; ``blur_sigma`` pixels; ``score``: "unusual" or "peak" (:class:`ReconstructingDetector`).
    """

    title = "VAE"
    paper = "Kingma and Welling 2014, Auto-Encoding Variational Bayes; An and Cho 2015; Baur et al. 2018"

    def __init__(
        self,
        width: int = 16,
        latent: int = 32,
        levels: int = 4,
        beta: float = 1.0,
        ssim_share: float = 0.5,
        kl_weight: float = 0.0,
        steps: int = 1500,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
        score: str = UNUSUAL,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.width, self.latent = whole("width", width, 1), whole("latent", latent, 1)
        self.levels, self.beta = whole("levels", levels, 1), number("beta", beta)
        self.ssim_share, self.kl_weight = share("ssim_share", ssim_share), number("kl_weight", kl_weight)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        widths = doubling(width, levels)
        self.encoder, self.decoder = encoder(widths, 2 * latent), decoder(latent, widths)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.encoder, self.decoder)

    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2, each (B, Z, h, w), of x (B, 3, H, W) in [0, 1]."""
        mu, log_variance = self.encoder(x - 0.5).chunk(2, dim=1)
        return mu, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """y (B, 3, H, W) of ``size`` (H, W), in [0, 1] where it is like the images, from z (B, Z, h, w)."""
        return to_size(self.decoder(z) + 0.5, size)

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The negative lower bound () in nats a value of the images, up to a constant."""
        with learning(self.encoder, self.decoder):
            mu, log_variance = self.code(images)
            z = mu + torch.exp(0.5 * log_variance) * torch.randn_like(mu)
            y = self.decode(z, (int(images.shape[2]), int(images.shape[3])))
        distortion = 0.5 * torch.log((images - y).square().mean() + FLOOR)
        return distortion + self.beta * divergence(mu, log_variance).sum() / images.numel()

    def phases(self) -> Sequence[Phase | Look]:
        """One phase of Adam, the rate falling tenfold for the last fifth; then a look at what is usual."""
        turn = Turn(self.loss, list(self.parameters()), adam(self.learning_rate))
        train = Phase("train", self.steps, (turn,), lambda done: 1.0 if done < 0.8 else 0.1)
        return (train, *self.looks())

    def left_over(self, images: Tensor) -> Tensor:
        """The map before the blur."""
        return self._compared(images)[0]

    def _compared(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The map before the blur (B, 1, H, W), and y."""
        size = (int(images.shape[2]), int(images.shape[3]))
        mu, log_variance = self.code(images)
        y = self.decode(mu, size)
        left_over = residual(images, y, self.ssim_share)
        if self.kl_weight:
            left_over = left_over + self.kl_weight * to_size(divergence(mu, log_variance), size)
        return left_over, y

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and their reconstruction from the mean code."""
        self.require_fitted()
        require_images(images)
        left_over, y = self._compared(images)
        anomaly_map = blur_map(left_over, self.blur_sigma)
        return Scores(anomaly_map, self.image_score(left_over, anomaly_map), y.clamp(0, 1))


def divergence(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) in nats, summed over the channels: (B, Z, h, w) twice -> (B, 1, h, w).

    >>> divergence(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)).item()
    1.5
    """
    return 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(1, keepdim=True)
