"""f-AnoGAN: a network that makes good parts out of noise, and an encoder that says which noise; a defect has none.

T. Schlegl, P. Seeböck, S. M. Waldstein, G. Langs, U. Schmidt-Erfurth 2019, f-AnoGAN: Fast Unsupervised Anomaly
Detection with Generative Adversarial Networks, Medical Image Analysis 54. Its first phase is WGAN-GP: I. Gulrajani,
F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville 2017, Improved Training of Wasserstein GANs (arXiv:1704.00028).

    L_D = mean D(G(z)) - mean D(x) + lambda mean (|grad D(x^)| - 1)^2     x^ between G(z) and x; lambda = 10
    L_G = -mean D(G(z)),  z ~ N(0, I)                                     after 5 turns of D, one of G
    L_E = mean (x - G(E(x)))^2 + kappa mean (f(x) - f(G(E(x))))^2         (izi_f; f: features of D), kappa = 1
    A(x) = L_E of that one image
    map  = |x - G(E(x))|, mean over channels

Letters: x the image on ``side`` x ``side`` cells, z the noise, G the generator, D the critic, E the encoder; B images,
H and W the image as it came, Z numbers of noise (``latent``).

One z makes a whole image, as in the paper, so the networks work at one size: an image of any H x W is averaged to
``side`` x ``side`` cells first (the paper cuts out 64 x 64 pixels), and the map and G(E(x)) are raised to H x W.
A is the paper's score of an image, a mean over all of it (``score="paper"``). The map is blurred. The image score here is
how unusual |x - G(E(x))| is at its most unusual place (:mod:`andon.features.unusual`), which a small defect moves more;
``score="peak"`` is the map's largest value.

Differences from the paper: convolutions of stride 2 in the critic and the encoder, resampling and one convolution in
the generator, instead of residual blocks; all turns of a step see the same images, each with noise of its own, and
each turn of the critic keeps second moments of its own (this Adam has no first ones); Adam for the encoder, as for the
rest, instead of RMSProp; far fewer steps and higher rates (the published code: width 64, batches of 64, 1e-4 for the
GAN, and 50,000 steps at 5e-5 for the encoder).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.blocks import held, judging, shrink, to_size, up
from andon.features.patches import to_map
from andon.models.base import Look, Phase, Scores, State, Turn, adam
from andon.models.checks import number, require_images, whole
from andon.models.reconstructing import PAPER, UNUSUAL, ReconstructingDetector
from andon.models.trained import learning, redraw

COARSEST = 4  # cells a side of the grid on which G begins and D ends
BETAS = (0.0, 0.9)  # of Adam for the GAN, WGAN-GP's


class FAnoGAN(ReconstructingDetector):
    """Scores by what the best image that a GAN of good parts can make leaves over. Gives that image, too.

    ``side`` cells a side that the networks work at: 4 times a power of 2; ``width`` channels at half of it, doubled at
    each halving up to ``8 width``; ``latent`` numbers of noise; ``critic_turns`` of D for one of G; ``penalty``
    lambda; ``kappa``; ``steps`` of the GAN and ``encoder_steps`` after them, at ``learning_rate`` and
    ``encoder_rate``; ``score``: "unusual", "peak" or "paper" (above); ``blur_sigma`` pixels.
    """

    title = "f-AnoGAN"
    paper = "Schlegl et al. 2019, f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks"
    has_paper_score = True

    def __init__(
        self,
        side: int = 64,
        width: int = 16,
        latent: int = 128,
        critic_turns: int = 5,
        penalty: float = 10.0,
        kappa: float = 1.0,
        score: str = UNUSUAL,
        steps: int = 500,
        encoder_steps: int = 1000,
        batch_size: int = 16,
        learning_rate: float = 5e-4,
        encoder_rate: float = 1e-3,
        blur_sigma: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.score_by(score)
        self.side, self.levels = _side(side)
        self.width, self.latent = whole("width", width, 1), whole("latent", latent, 1)
        self.critic_turns = whole("critic_turns", critic_turns, 1)
        self.penalty, self.kappa = number("penalty", penalty), number("kappa", kappa)
        self.steps, self.encoder_steps = whole("steps", steps, 1), whole("encoder_steps", encoder_steps, 1)
        self.batch_size = whole("batch_size", batch_size, 1)
        self.learning_rate = number("learning_rate", learning_rate)
        self.encoder_rate = number("encoder_rate", encoder_rate)
        self.blur_sigma, self.seed = number("blur_sigma", blur_sigma), whole("seed", seed)
        widths = [min(2**level, 8) * self.width for level in range(self.levels)]
        self.generator = _generator(latent, widths)
        self.features, self.judge = _critic(widths)  # f, and D = judge(f)
        self.encoder = _encoder(widths, latent)
        self.reset()

    def draw(self) -> None:
        """Draw the weights anew."""
        redraw(self.generator, self.features, self.judge, self.encoder)

    def cells(self, images: Tensor) -> Tensor:
        """x (B, 3, side, side) in [-1, 1] of ``images`` (B, 3, H, W) in [0, 1]."""
        return 2 * shrink(images, (self.side, self.side)) - 1

    def critic(self, x: Tensor) -> Tensor:
        """D(x) (B,), higher for what looks real."""
        judged: Tensor = self.judge(self.features(x))
        return judged[:, 0]

    def critic_loss(self, images: Tensor, frozen: State | None = None, *, turn: int = 0) -> Tensor:
        """L_D () in its ``turn`` of a step."""
        x = self.cells(images)
        with learning(self.generator), torch.no_grad():
            made = self.generator(self._noise(len(x), turn))
        alpha = torch.rand(self.critic_turns, len(x), 1, 1, 1, device=x.device)[turn]
        between = (made + alpha * (x - made)).requires_grad_()
        slopes = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)[0]
        steepness = (slopes.flatten(1).square().sum(1) + 1e-12).sqrt()  # the root of 0 has no gradient
        fooled = self.critic(made).mean() - self.critic(x).mean()
        return fooled + self.penalty * (steepness - 1).square().mean()

    def generator_loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L_G ()."""
        with learning(self.generator), held(self.features, self.judge):
            return -self.critic(self.generator(self._noise(len(images), self.critic_turns))).mean()

    def loss(self, images: Tensor, frozen: State | None = None) -> Tensor:
        """L_E (), of the second phase."""
        x = self.cells(images)
        with learning(self.encoder), held(self.generator, self.features, self.judge):
            return self.distance(x, self.generator(self.encoder(x))).mean()

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """A (B,): L_E of each image."""
        seen = (x - y).square().flatten(1).mean(1)
        return seen + self.kappa * (self.features(x) - self.features(y)).square().flatten(1).mean(1)

    def _noise(self, count: int, turn: int) -> Tensor:
        """z (count, Z), another one in every turn of a step."""
        like = next(self.generator.parameters())
        return torch.randn(self.critic_turns + 1, count, self.latent, device=like.device)[turn]

    def phases(self) -> Sequence[Phase | Look]:
        """The GAN: turns of the critic, then one of the generator; then the encoder, the rate falling for the last
        fifth; then a look at what is usual."""
        gan = adam(self.learning_rate, betas=BETAS)
        critic = [*self.features.parameters(), *self.judge.parameters()]
        turns = [Turn(partial(self.critic_loss, turn=turn), critic, gan) for turn in range(self.critic_turns)]
        turns.append(Turn(self.generator_loss, list(self.generator.parameters()), gan))
        encoding = Turn(self.loss, list(self.encoder.parameters()), adam(self.encoder_rate))
        return (
            Phase("gan", self.steps, turns, adversarial=True),
            Phase("encoder", self.encoder_steps, (encoding,), lambda done: 1.0 if done < 0.8 else 0.1),
            *self.looks(),
        )

    def left_over(self, images: Tensor) -> Tensor:
        """The map on the ``side`` x ``side`` cells, before it is raised and blurred."""
        x = self.cells(images)
        return _apart(x, self.generator(self.encoder(x)))

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), and the good part made in their place."""
        self.require_fitted()
        require_images(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        x = self.cells(images)
        y = self.generator(self.encoder(x))
        left_over = _apart(x, y)
        anomaly_map = to_map(left_over, size, self.blur_sigma)
        paper = self.score == PAPER
        image_score = self.distance(x, y) if paper else self.image_score(left_over, anomaly_map)
        return Scores(anomaly_map, image_score, to_size(0.5 + 0.5 * y, size))


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """|x - y| in shares of the range of values, mean over channels: (B, 1, side, side)."""
    return 0.5 * (x - y).abs().mean(1, keepdim=True)


def _side(side: int) -> tuple[int, int]:
    """``side`` and its halvings down to the coarsest grid; else :class:`SettingsError`."""
    levels = (whole("side", side, 2 * COARSEST) // COARSEST).bit_length() - 1
    if side != COARSEST << levels:
        raise SettingsError(f"side must be 4 times a power of 2 (32, 64, 128 ...), got {side}")
    return side, levels


def _generator(latent: int, widths: Sequence[int]) -> nn.Sequential:
    """G: (B, Z) -> (B, 3, side, side) in [-1, 1]."""
    outputs = list(widths[::-1])
    return nn.Sequential(
        nn.Linear(latent, outputs[0] * COARSEST**2), nn.Unflatten(1, (outputs[0], COARSEST, COARSEST)),
        *(up(i, o) for i, o in zip([outputs[0], *outputs], outputs, strict=False)),
        nn.Conv2d(outputs[-1], 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


def _critic(widths: Sequence[int]) -> tuple[nn.Sequential, nn.Module]:
    """f: (B, 3, side, side) -> (B, 8 width, 4, 4), each image normalised by itself; and D's last layer -> (B, 1)."""
    features = nn.Sequential(
        *(judging(i, o, nn.GroupNorm(1, o)) for i, o in zip([3, *widths], widths, strict=False))
    )
    return features, nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * COARSEST**2, 1))


def _encoder(widths: Sequence[int], latent: int) -> nn.Sequential:
    """E: (B, 3, side, side) -> (B, Z)."""
    return nn.Sequential(
        *(judging(i, o, nn.BatchNorm2d(o)) for i, o in zip([3, *widths], widths, strict=False)),
        nn.Flatten(), nn.Linear(widths[-1] * COARSEST**2, latent),
    )  # fmt: skip
