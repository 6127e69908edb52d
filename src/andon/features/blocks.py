"""What the methods that make an image anew have in common: the blocks of their networks, and what is left over.

Letters: B images, C channels of an image, I and O channels in and out, H and W the image, h and w a grid, x an image
and y its reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.features.similarity import ssim


def doubling(width: int, levels: int) -> list[int]:
    """Channels after each of ``levels`` halvings: ``width`` doubled at each, up to eight times.

    >>> doubling(16, 5)
    [16, 32, 64, 128, 128]
    """
    return [min(2**level, 8) * width for level in range(levels)]


Norm = Callable[[int], nn.Module]  # channels -> what brings them to scale
GROUPS = 8  # of channels, at most, in :func:`group_norm`


def group_norm(channels: int) -> nn.Module:
    """Normalises each image by itself (Wu and He 2018): where no image may touch another, and in small batches."""
    return nn.GroupNorm(math.gcd(channels, GROUPS), channels)


def encoder(widths: Sequence[int], o: int, norm: Norm = nn.BatchNorm2d) -> nn.Sequential:
    """(B, 3, H, W) -> (B, O, h, w), with a halving for each of ``widths`` (rounded up) and no bound on the values."""
    inputs = [3, *widths[:-1]]
    return nn.Sequential(
        *(down(i, w, norm) for i, w in zip(inputs, widths, strict=True)), nn.Conv2d(widths[-1], o, 1)
    )


def decoder(i: int, widths: Sequence[int], norm: Norm = nn.BatchNorm2d) -> nn.Sequential:
    """(B, I, h, w) -> (B, 3, H, W), with a doubling for each of ``widths``, the last one first; no bound.

    It convolves before it doubles, at a quarter of the cost of the reverse; the last doubling makes four pixels of
    twelve channels, so that each has weights of its own.
    """
    outputs = list(widths[::-1])
    inputs = [i, *outputs[:-1]]
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(zip(inputs, outputs, strict=True)):
        layers += [nn.Upsample(scale_factor=2, mode="nearest")] if number else []
        layers.append(convolved(before, after, norm=norm))
    return nn.Sequential(*layers, nn.Conv2d(widths[0], 12, 3, padding=1), nn.PixelShuffle(2))


def down(i: int, o: int, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """(B, I, h, w) -> (B, O, h / 2, w / 2), two convolutions."""
    return nn.Sequential(convolved(i, o, stride=2, norm=norm), convolved(o, o, norm=norm))


def up(i: int, o: int) -> nn.Module:
    """(B, I, h, w) -> (B, O, 2 h, 2 w)."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolved(i, o))


def convolved(i: int, o: int, stride: int = 1, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """(B, I, h, w) -> (B, O, h / stride, w / stride), rounded up."""
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), norm(o), nn.ReLU())


def judging(i: int, o: int, norm: nn.Module) -> nn.Module:
    """(B, I, h, w) -> (B, O, h / 2, w / 2), as the networks that tell made images from real ones have it."""
    return nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), norm, nn.LeakyReLU(0.2))


def to_size(y: Tensor, size: tuple[int, int]) -> Tensor:
    """``y`` (B, C, h, w) brought to ``size`` (H, W) bilinearly."""
    return F.interpolate(y, size=size, mode="bilinear", align_corners=False)


def shrink(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``x`` (B, C, H, W) on ``size`` (h, w) cells, each the mean over the area that it covers; raised where smaller.

    >>> shrink(torch.arange(6.0).view(1, 1, 1, 6), (1, 4))
    tensor([[[[0.3333, 1.6667, 3.3333, 4.6667]]]])
    """
    rows = _cells(int(x.shape[2]), size[0], like=x)
    columns = _cells(int(x.shape[3]), size[1], like=x)
    return rows @ x @ columns.T


def _cells(source: int, target: int, *, like: Tensor) -> Tensor:
    """(target, source): how much of each target cell every source cell covers; rows sum to 1."""
    start = torch.arange(target, dtype=like.dtype, device=like.device)[:, None] * (source / target)
    cell = torch.arange(source, dtype=like.dtype, device=like.device)[None]
    end = start + source / target
    covered = torch.minimum(end, cell + 1) - torch.maximum(start, cell)
    return covered.clamp(min=0) * (target / source)


def residual(x: Tensor, y: Tensor, ssim_share: float = 0.0) -> Tensor:
    """(B, 1, H, W): s (1 - SSIM(x, y)) + (1 - s) |x - y|, mean over the channels; s is ``ssim_share`` in [0, 1]."""
    apart = (1 - ssim_share) * (x - y).abs()
    if ssim_share:
        apart = apart + ssim_share * (1 - ssim(x, y))
    return apart.mean(1, keepdim=True)


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Let gradients pass through ``networks`` without reaching their weights: another one's turn to learn."""
    weights = [p for network in networks for p in network.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
