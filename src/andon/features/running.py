"""Statistics of maps over any number of images, in bounded memory: means a batch at a time.

All are buffers that hold a mean over images, so that several sites' ones merge by their weighted mean. How many images
they hold already is told by the caller (``before``).

Letters: B images, C channels, h and w the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

FLOOR = (
    0.05  # a channel's deviation counts as at least this share of the mean one: dead channels do not explode
)
DECADES = (-10, 6)  # what a histogram tells apart: 1e-10 to 1e6
PER_DECADE = 128  # bins: 1.8 % wide


class ChannelMoments(nn.Module):
    """Mean and mean square of C channels over all positions of all images, float64.

    >>> moments = ChannelMoments(1)
    >>> moments.add(torch.tensor([[[[1.0, 3.0]]]]), before=0)
    >>> moments.mean.item(), moments.deviation().item()
    (2.0, 1.0)
    """

    mean: Tensor  # (C,) float64
    square: Tensor  # (C,) float64

    def __init__(self, channels: int, floor: float = FLOOR) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(channels, dtype=torch.float64))

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.mean.zero_()
        self.square.zero_()

    def add(self, x: Tensor, before: int) -> None:
        """Count ``x`` (B, C, h, w) in, after ``before`` images."""
        x = x.detach().double()
        step_mean(self.mean, x.mean((2, 3)).sum(0), len(x), before)
        step_mean(self.square, x.square().mean((2, 3)).sum(0), len(x), before)

    def deviation(self) -> Tensor:
        """The standard deviations (C,) float64, at least ``floor`` times their mean, and 1e-6."""
        std = (self.square - self.mean.square()).clamp(min=0).sqrt()
        return std.clamp(min=1e-6).maximum(self.floor * std.mean())

    def standardise(self, x: Tensor) -> Tensor:
        """``x`` (B, C, h, w) less the mean, over the deviation, a channel."""
        mean, std = self.mean.to(x.dtype), self.deviation().to(x.dtype)
        return (x - mean[:, None, None]) / std[:, None, None]


class MapQuantiles(nn.Module):
    """Quantiles of C channels' values above 0 over all positions of all images, good to 1 %.

    A histogram a channel, bins of equal ratio; within a bin, values are taken as spread evenly over its logarithms.
    """

    histogram: Tensor  # (C, bins) float64: mean over images of the counts

    def __init__(self, channels: int) -> None:
        super().__init__()
        bins = (DECADES[1] - DECADES[0]) * PER_DECADE
        self.register_buffer("histogram", torch.zeros(channels, bins, dtype=torch.float64))

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.histogram.zero_()

    def add(self, x: Tensor, before: int) -> None:
        """Count ``x`` (B, C, h, w) in, after ``before`` images."""
        channels, bins = self.histogram.shape
        place = ((x.detach().double().log10() - DECADES[0]) * PER_DECADE).clamp(0, bins - 1).long()
        rows = place.transpose(0, 1).flatten(1) + bins * torch.arange(channels, device=x.device)[:, None]
        counts = torch.bincount(rows.flatten(), minlength=channels * bins)
        step_mean(self.histogram, counts.view(channels, bins).double(), len(x), before)

    def quantile(self, q: float) -> Tensor:
        """The ``q`` quantiles (C,) float64. Before any image, 1."""
        totals = self.histogram.cumsum(1)
        wanted = q * totals[:, -1:]
        place = torch.searchsorted(totals, wanted).clamp(max=totals.shape[1] - 1)  # (C, 1)
        inside = self.histogram.gather(1, place)
        share = 1 - (totals.gather(1, place) - wanted) / inside.clamp(min=1e-300)
        quantile = 10 ** ((place + share) / PER_DECADE + DECADES[0])
        return torch.where(totals[:, -1:] > 0, quantile, 1.0)[:, 0]


class Statistic(Protocol):
    """What is learnt of maps batch by batch."""

    def reset_parameters(self) -> None:
        """Forget everything."""

    def add(self, x: Tensor, before: int) -> None:
        """Count ``x`` (B, C, h, w) in, after ``before`` images."""


class Measure:
    """A look at images that begins anew: what ``statistic`` knew is forgotten at the first batch.

    ``of``: images (B, 3, H, W) -> (B, C, h, w), what the statistic is of.
    """

    def __init__(self, statistic: Statistic, of: Callable[[Tensor], Tensor]) -> None:
        self.statistic, self.of, self.seen = statistic, of, 0

    def __call__(self, images: Tensor) -> None:
        """Count ``images`` in."""
        if not self.seen:
            self.statistic.reset_parameters()
        self.statistic.add(self.of(images), self.seen)
        self.seen += len(images)


def step_mean(mean: Tensor, total: Tensor, count: int, before: int) -> None:
    """In place: ``mean`` over ``before`` items becomes the mean over these and ``count`` more that add up to ``total``."""
    mean += (total - count * mean) / (before + count)
