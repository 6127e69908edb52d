"""What SimpleNet and SuperSimpleNet share: the networks that tell features from noised ones, and their loss.

Letters: B images, I and O channels in and out, h and w the grid; higher scores are more anomalous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from andon.features.perlin import CELLS, blob_mask

LEAK = 0.2  # of the leaky ReLU
ADAPTOR_DECAY, JUDGE_DECAY = 0.01, 1e-5  # AdamW's, as published
ADAPTOR_RATE = 0.5  # the adaptor's learning rate as a share of the others'


def pointwise(i: int, o: int, bias: bool = True) -> nn.Conv2d:
    """A linear layer at each position: (B, I, h, w) -> (B, O, h, w)."""
    return nn.Conv2d(i, o, 1, bias=bias)


def discriminator(i: int, hidden: int) -> nn.Sequential:
    """(B, I, h, w) -> (B, 1, h, w): a score a position, from that position alone."""
    return nn.Sequential(
        pointwise(i, hidden), nn.BatchNorm2d(hidden), nn.LeakyReLU(LEAK), pointwise(hidden, 1, bias=False)
    )


def xavier(*networks: nn.Module) -> None:
    """Draw the weights of all linear and convolution layers in ``networks`` from Xavier's normal distribution."""
    for module in chain.from_iterable(network.modules() for network in networks):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight)


def truncated(scores: Tensor, anomalous: Tensor, margin: float) -> Tensor:
    """(): how far ``scores`` reach above -margin where nominal, and below +margin where ``anomalous`` (1, else 0).

    The mean over nominal places plus the mean over anomalous ones; both tensors of one shape. SimpleNet's eq. 6,
    with signs turned.

    >>> float(truncated(torch.tensor([-1.0, 0.0, 0.2]), torch.tensor([0.0, 0.0, 1.0]), 0.5))
    0.550000011920929
    """
    nominal = 1 - anomalous
    too_high = ((scores + margin).clamp(min=0) * nominal).sum() / nominal.sum().clamp(min=1)
    too_low = ((margin - scores).clamp(min=0) * anomalous).sum() / anomalous.sum().clamp(min=1)
    return too_high + too_low


def blobs(count: int, size: tuple[int, int], threshold: float, empty: float) -> Tensor:
    """(count, 1, h, w) float32, 1 in blobs of Perlin noise, on average none at all in a share ``empty`` of them.

    Drawn from torch's global generator. Cells are no finer than two positions of the grid.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    finest = max(0, min(CELLS[1], min(size).bit_length() - 2))
    masks = [blob_mask(rng, size, threshold=threshold, exponents=(0, finest)) for _ in range(count)]
    for mask in masks:
        mask &= rng.random() >= empty
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))


def adamw(
    rate: float, adaptor: nn.Module, *others: nn.Module
) -> tuple[list[nn.Parameter], Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]]:
    """All parameters, and a maker of their optimiser: ``others`` at ``rate``, the adaptor at half of it."""
    own = list(adaptor.parameters())
    rest = [parameter for network in others for parameter in network.parameters()]

    def make(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        groups = [
            {"params": own, "lr": ADAPTOR_RATE * rate, "weight_decay": ADAPTOR_DECAY},
            {"params": rest, "weight_decay": JUDGE_DECAY},
        ]
        return torch.optim.AdamW(groups, lr=rate)

    return own + rest, make
