"""Features measured in their own spread, so that an amount of noise means the same on any backbone.

Letters: B images, C channels, h and w the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from andon.features.trunk import Backbone


class Standardise(nn.Module):
    """(x - mean of the channel) / spread of the layer, (B, C, h, w) -> (B, C, h, w).

    The spread is one number: the root of the channels' mean variance, so that channels keep their weights among
    each other. Before anything was added: x as it is. Kept as running means, so that several sites' average.

    >>> layer = Standardise(1)
    >>> layer.add(torch.tensor([1.0, 3.0, 1.0, 3.0]).view(2, 1, 1, 2), seen=0)
    >>> layer(torch.tensor([2.0, 3.0]).view(1, 1, 1, 2)).flatten().tolist()
    [0.0, 1.0]
    """

    mean: Tensor  # (C,) float64
    square: Tensor  # (C,) float64: the mean of the squares

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("square", torch.ones(channels, dtype=torch.float64))

    def reset_parameters(self) -> None:
        """Forget all that was added."""
        self.mean, self.square = torch.zeros_like(self.mean), torch.ones_like(self.square)

    def add(self, features: Tensor, seen: int) -> None:
        """Count ``features`` (B, C, h, w) in; ``seen`` images were counted before."""
        found = features.detach().double().flatten(2)  # (B, C, h w)
        share = len(features) / (seen + len(features))
        self.mean = self.mean + share * (found.mean((0, 2)) - self.mean)
        self.square = self.square + share * (found.square().mean((0, 2)) - self.square)

    def spread(self) -> Tensor:
        """() float64: the root of the channels' mean variance; 1 where nothing varies."""
        variance = (self.square - self.mean.square()).mean()
        return torch.where(variance > 1e-12, variance, torch.ones_like(variance)).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, C, h, w), centred, in units of the spread."""
        return (x - self.mean.to(x.dtype).view(1, -1, 1, 1)) / self.spread().to(x.dtype)


class StandardLayers(nn.Module):
    """{layer: (B, C, h, w)} -> the same, each standardised by itself."""

    def __init__(self, backbone: Backbone, layers: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(layers)
        self.each = nn.ModuleList(Standardise(backbone.layers[layer].channels) for layer in layers)

    def add(self, features: Mapping[str, Tensor], seen: int) -> None:
        """Count the ``features`` of a batch in; ``seen`` images were counted before."""
        for name, layer in zip(self.names, self.each, strict=True):
            layer.add(features[name], seen)  # type: ignore[operator]

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The layers of ``features``, standardised."""
        return {name: layer(features[name]) for name, layer in zip(self.names, self.each, strict=True)}
