"""GANomaly: an image is coded, made from its code, and coded again; two codes of a defect differ.

S. Akcay, A. Atapour-Abarghouei, T. P. Breckon 2018, GANomaly: Semi-Supervised Anomaly Detection via Adversarial
Training (arXiv:1805.06725), ACCV 2018.

    z = G_E(x),  y = G_D(z),  z' = E(y)                                   the generator G = (G_E, G_D), and E
    L_adv = mean (f(x) - f(y))^2                                          (eq. 1) f: features of the discriminator
    L_con = mean |x - y|                                                  (eq. 2)
    L_enc = mean (z - z')^2                                               (eq. 3)
    L     = w_adv L_adv + w_con L_con + w_enc L_enc                       (eq. 4) weights 1, 50, 1
    A(x)  = |z - z'|, mean over the code                                  (eq. 5)

The discriminator D learns to tell x from y by binary cross entropy; the two take turns, first D.

Letters: x the image, y the image made, z and z' the codes; B images, H and W the image, h and w the grid of codes,
Z its channels (``latent``).

What the answers are: the paper scores whole images alone, by A (``score="paper"``). The map, which the paper does not
have, is |x - y|, mean over channels, blurred. The image score here is how unusual |x - y| is at its most unusual place
(:mod:`andon.features.unusual`), which a small defect moves more; ``score="peak"`` is the map's largest value.

Differences from the paper: fully convolutional (any size): a grid of codes, 1/16 of the image, instead of one of 100
numbers for an image of 32 or 64 pixels, and D judges every position of a grid of that size; plain resampling and
convolution in the decoder instead of transposed convolution; D is not drawn anew when it wins (the published code
does it below a loss of 1e-5); PyTorch's first weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.blocks import decoder, doubling, encoder, held, judging, residual, to_size
from andon.features.patches import blur_map
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import PAPER, UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

BETAS = (0.5, 0.999)  # of Adam, the published code's


class GANomaly(ReconstructingDetector):
    """Scores by how far the code of an image is from the code of the image made from it. Gives that image, too.

    ``width`` channels at the first halving, doubled at each up to ``8 width``; ``levels`` halvings up to the codes of
    ``latent`` channels; ``adversarial_weight``, ``contextual_weight``, ``code_weight``: w_adv, w_con, w_enc;
    ``score``: "unusual", "peak" or "paper" (above); ``blur_sigma`` pixels.
    """

    title = "GANomaly"
    paper = "Akcay et al. 2018, GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training"
    has_paper_score = True

    def __init__(
        self,
        width: int = 16,
        latent: int = 32,
        levels: int = 4,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        code_weight: float = 1.0,
        score: str = UNUSUAL,
        steps: int = 800,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.width, self.latent = whole("width", width, 1), whole("latent", latent, 1)
        self.levels = whole("levels", levels, 1)
        self.adversarial_weight = number("adversarial_weight", adversarial_weight)
        self.contextual_weight = number("contextual_weight", contextual_weight)
        self.code_weight = number("code_weight", code_weight)
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        widths = doubling(width, levels)
        self.encoder, self.decoder = encoder(widths, latent), decoder(latent, widths)  # G_E, G_D
        self.encoder_again = encoder(widths, latent)  # E
        self.features = nn.Sequential(
            *(judging(i, o, nn.BatchNorm2d(o)) for i, o in zip([3, *widths], widths, strict=False))
        )  # f
        self.judge = nn.Conv2d(widths[-1], 1, 3, padding=1)  # D = judge(f)
        self.reset()

    @property
    def makers(self) -> tuple[nn.Module, ...]:
        """The networks that learn against the discriminator."""
        return self.encoder, self.decoder, self.encoder_again

    @property
    def judges(self) -> tuple[nn.Module, ...]:
        """The discriminator's networks."""
        return self.features, self.judge

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(*self.makers, *self.judges)

    def make(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, Z, h, w) and y (B, 3, H, W) of x (B, 3, H, W), images in [0, 1]."""
        z = self.encoder(x - 0.5)
        y = 0.5 + 0.5 * torch.tanh(self.decoder(z))
        return z, to_size(y, (int(x.shape[2]), int(x.shape[3])))

    def code_again(self, y: Tensor) -> Tensor:
        """z' (B, Z, h, w) of y (B, 3, H, W)."""
        again: Tensor = self.encoder_again(y - 0.5)
        return again

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L (), which the generator and E minimise."""
        with learning(*self.makers, *self.judges), held(*self.judges):
            z, y = self.make(images)
            again = self.code_again(y)
            real, made = self.features(images - 0.5), self.features(y - 0.5)
        adversarial = F.mse_loss(made, real)
        contextual, codes = F.l1_loss(y, images), F.mse_loss(again, z)
        return (
            self.adversarial_weight * adversarial
            + self.contextual_weight * contextual
            + self.code_weight * codes
        )

    def judges_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """The cross entropy () of D, which calls x 1 and y 0 at every position."""
        with learning(*self.makers, *self.judges):
            with torch.no_grad():
                y = self.make(images)[1]
            real = self.judge(self.features(images - 0.5))
            made = self.judge(self.features(y - 0.5))
        return 0.5 * (F.softplus(-real).mean() + F.softplus(made).mean())

    def phases(self) -> Sequence[Phase | Look]:
        """One phase: a turn of D, a turn of the generator and E; Adam, the rates falling tenfold for the last fifth. Then
        a look at what is usual."""
        optimiser = adam(self.learning_rate, betas=BETAS)
        turns = (
            Turn(self.judges_loss, [p for net in self.judges for p in net.parameters()], optimiser),
            Turn(self.loss, [p for net in self.makers for p in net.parameters()], optimiser),
        )
        train = Phase("train", self.steps, turns, lambda done: 1.0 if done < 0.8 else 0.1, adversarial=True)
        return (train, *self.looks())

    def left_over(self, images: Tensor) -> Tensor:
        """The map before the blur."""
        return residual(images, self.make(images)[1])

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and the image made."""
        self.require_fitted()
        require_images(images)
        z, y = self.make(images)
        left_over = residual(images, y)
        anomaly_map = blur_map(left_over, self.blur_sigma)
        if self.score == PAPER:
            return Scores(anomaly_map, (z - self.code_again(y)).abs().flatten(1).mean(1), y)
        return Scores(anomaly_map, self.image_score(left_over, anomaly_map), y)
