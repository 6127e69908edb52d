"""Normalising flows over feature maps: networks that can be inverted, and whose log-determinant is a sum.

A flow f maps features x to z of the same shape. Trained so that z is standard normal, it gives the density of x:

    log p(x) = log N(f(x); 0, I) + log |det df/dx|                     (change of variables)

L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density estimation using Real NVP", ICLR 2017 (affine coupling); D. Kingma,
P. Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018 (a scale and an offset a channel,
channels mixed); L. Ardizzone et al., "Guided Image Generation with Conditional Invertible Neural Networks", 2019
(the soft clamp). A step is laid out as in the library that the papers use (FrEIA's all-in-one block).

Letters: B images, C channels, h and w the grid; x and y what goes into a step and comes out; s, t the log-scale and
offset that a subnet reads from half of the channels; alpha the clamp.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.patches import to_map

CAUTION = 0.1  # factor of a subnet's output, so that a new step changes little (FrEIA's)


class Subnet(nn.Module):
    """Two convolutions, (B, I, h, w) -> (B, O, h, w); not inverted, so it may be anything.

    ``condition`` channels come in besides, joined to the first convolution's input: one map (1, P, h, w) that all
    images share is convolved once.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int = 1, condition: int = 0) -> None:
        super().__init__()
        self.inner = nn.Conv2d(inputs, hidden, kernel, padding=kernel // 2)
        self.given = nn.Conv2d(condition, hidden, 1, bias=False) if condition else None
        self.outer = nn.Conv2d(hidden, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, O, h, w), from x (B, I, h, w) and ``condition`` (1 or B, P, h, w)."""
        hidden = self.inner(x)
        if self.given is not None:
            hidden = hidden + self.given(condition)
        return self.outer(F.relu(hidden))


class Coupling(nn.Module):
    """The second half of the channels, scaled and moved by what the first half says; the first stays.

        y1 = x1,  y2 = x2 exp(s) + t,  (s, t) = subnet(x1) / 10,  s <- alpha tanh(s)

    ``subnet``: (B, C - C // 2, h, w) -> (B, 2 (C // 2), h, w).
    """

    def __init__(self, channels: int, subnet: nn.Module, alpha: float) -> None:
        super().__init__()
        self.halves = halves(channels)
        self.subnet, self.alpha = subnet, alpha

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, h, w) and each position's share of the log-determinant (B, 1, h, w)."""
        x1, x2 = x.split(self.halves, 1)
        s, t = self._scale_and_offset(x1, condition)
        return torch.cat([x1, x2 * s.exp() + t], 1), s.sum(1, keepdim=True)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, C, h, w)."""
        y1, y2 = y.split(self.halves, 1)
        s, t = self._scale_and_offset(y1, condition)
        return torch.cat([y1, (y2 - t) * (-s).exp()], 1)

    def _scale_and_offset(self, half: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = (CAUTION * self.subnet(half, condition)).split(self.halves[1], 1)
        return self.alpha * s.tanh(), t


class ActNorm(nn.Module):
    """A learnt scale and offset a channel: y = x exp(g) + o. Starts as the identity, on standardised features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.zeros(channels, 1, 1))
        self.o = nn.Parameter(torch.zeros(channels, 1, 1))

    def reset_parameters(self) -> None:
        """Back to the identity."""
        nn.init.zeros_(self.g)
        nn.init.zeros_(self.o)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, h, w) and each position's share of the log-determinant ()."""
        return x * self.g.exp() + self.o, self.g.sum()

    def inverse(self, y: Tensor) -> Tensor:
        """x (B, C, h, w)."""
        return (y - self.o) * (-self.g).exp()


class Permutation(nn.Module):
    """The channels in another order, drawn once. Kept with the weights: sites that train together share it."""

    order: Tensor  # (C,) int64

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(channels))

    def reset_parameters(self) -> None:
        """Draw another order."""
        self.order.copy_(torch.randperm(len(self.order)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); its determinant is 1 or -1."""
        return x.index_select(1, self.order)

    def inverse(self, y: Tensor) -> Tensor:
        """x (B, C, h, w)."""
        return y.index_select(1, self.order.argsort())


class Rotation(nn.Module):
    """The channels mixed by a rotation, drawn once: the soft permutation of FrEIA."""

    matrix: Tensor  # (C, C, 1, 1)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(channels)[:, :, None, None])

    def reset_parameters(self) -> None:
        """Draw another rotation, every one as likely: Q of a normal matrix, signs set so that R has a positive
        diagonal and det Q = 1."""
        size = len(self.matrix)
        q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
        q = q * r.diagonal().sign()
        q[:, 0] *= torch.linalg.slogdet(q).sign
        self.matrix.copy_(q[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); its determinant is 1."""
        return F.conv2d(x, self.matrix)

    def inverse(self, y: Tensor) -> Tensor:
        """x (B, C, h, w)."""
        return F.conv2d(y, self.matrix.transpose(0, 1))


class Step(nn.Module):
    """Coupling, ActNorm, then the channels mixed."""

    def __init__(self, coupling: Coupling, norm: ActNorm, mix: Permutation | Rotation) -> None:
        super().__init__()
        self.coupling, self.norm, self.mix = coupling, norm, mix

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, C, h, w) and each position's share of the log-determinant (B, 1, h, w)."""
        y, coupled = self.coupling(x, condition)
        y, scaled = self.norm(y)
        return self.mix(y), coupled + scaled

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, C, h, w)."""
        x: Tensor = self.coupling.inverse(self.norm.inverse(self.mix.inverse(y)), condition)
        return x


class Flow(nn.Module):
    """``steps`` after each other."""

    def __init__(self, steps: Iterable[Step]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (B, C, h, w) and each position's share of the log-determinant (B, 1, h, w)."""
        log_det = torch.zeros_like(x[:, :1])
        for step in self.steps:
            x, share = step(x, condition)
            log_det = log_det + share
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, C, h, w) of which ``z`` is the image."""
        for step in reversed(cast(list[Step], self.steps)):
            z = step.inverse(z, condition)
        return z


def halves(channels: int) -> tuple[int, int]:
    """How a coupling splits ``channels``: the half that is read, the half that is changed.

    >>> halves(7)
    (4, 3)
    """
    return channels - channels // 2, channels // 2


def log_density(z: Tensor, log_det: Tensor) -> Tensor:
    """log p(x) / C at each position (B, 1, h, w), in nats a channel: from z (B, C, h, w), log_det (B, 1, h, w)."""
    normal = -0.5 * (math.log(2 * math.pi) + z.square().mean(1, keepdim=True))
    return normal + log_det / int(z.shape[1])


def rarity_map(rarities: Sequence[Tensor], size: tuple[int, int], sigma: float) -> Tensor:
    """One map (B, 1, H, W) at ``size`` of several layers' rarities a (B, 1, h, w), blurred by ``sigma`` pixels.

    a >= 0 is minus the logarithm of a density, of which 1 is the largest; D = mean over layers of exp(-a).

        map = log(1 - log D)

    It orders positions as the 1 - D does that papers take, and keeps apart what is so rare that exp(-a) is 0: a flow
    far from what it was trained on gives an a of any size. So, too, it is log(1 + a) that is interpolated and blurred.

    >>> rarity_map([torch.full((1, 1, 2, 2), 1e6), torch.full((1, 1, 1, 1), 2e6)], (4, 4), 0.0)[0, 0, 0, 0]
    tensor(13.8155)
    """
    raised = [to_map(a.clamp(min=0).log1p(), size, sigma).expm1() for a in rarities]
    log_mean = (-torch.stack(raised)).logsumexp(0) - math.log(len(raised))
    return (-log_mean).clamp(min=0).log1p()


def warm_cosine(done: float, warm: float = 0.08, start: float = 0.1, end: float = 1e-3) -> float:
    """The factor of the learning rate: up from ``start`` over the share ``warm``, then along a cosine to ``end``.

    >>> [round(warm_cosine(done), 3) for done in (0, 0.08, 0.5, 1)]
    [0.1, 0.984, 0.5, 0.001]
    """
    cosine = end + (1 - end) * (1 + math.cos(math.pi * done)) / 2
    if done >= warm:
        return cosine
    at_warm = end + (1 - end) * (1 + math.cos(math.pi * warm)) / 2
    return start + (at_warm - start) * done / warm
