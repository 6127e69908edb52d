"""Features as tokens: one vector for each position of one grid, and what is left of the largest values of a map.

Letters: B images, C channels of a layer, D of a token, H and W the image, h and w the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from andon.features.patches import join, joined_channels
from andon.features.trunk import Backbone


def are_alike(backbone: Backbone, layers: Sequence[str]) -> bool:
    """Whether all ``layers`` have the same channels and stride, as the blocks of a ViT have."""
    return len({(backbone.layers[layer].channels, backbone.layers[layer].stride) for layer in layers}) == 1


def fused_channels(backbone: Backbone, layers: Sequence[str]) -> int:
    """D, the channels of what :func:`fuse` gives."""
    return backbone.layers[layers[0]].channels if are_alike(backbone, layers) else joined_channels(backbone, layers)  # fmt: skip


def fuse(backbone: Backbone, features: Mapping[str, Tensor], layers: Sequence[str]) -> Tensor:
    """The ``layers`` of ``features`` as one map (B, D, h, w): their mean where they are alike, else joined."""
    if are_alike(backbone, layers):
        return torch.stack([features[layer] for layer in layers]).mean(0)
    return join(features, layers)


def top_mean(anomaly_map: Tensor, share: float) -> Tensor:
    """The mean (B,) of the largest ``share`` in (0, 1] of each map's values (B, 1, H, W), at least one of them.

    >>> top_mean(torch.tensor([[[[1.0, 2.0], [3.0, 8.0]]]]), 0.5)
    tensor([5.5000])
    """
    values = anomaly_map.flatten(1)
    count = max(1, int(share * int(values.shape[1])))
    return values.topk(count, dim=1).values.mean(1)
