"""From a backbone's layers to one grid of patch features, and from a grid of distances to a map.

Letters: B images, C channels of a layer, D of all layers joined, H and W the image, h and w the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from andon.features.trunk import Backbone


def aggregate(features: Tensor) -> Tensor:
    """Each position's mean over its 3x3 neighbourhood: (B, C, h, w) -> (B, C, h, w).

    PatchCore's local aggregation (Roth et al. 2022, eq. 1 and 2, p = 3). Outside the image there are zeros, as in the
    authors' code: features shrink towards a border, and with them the distances there, where a network that pads its
    input knows least. A mean over the positions that exist costs about 2 points of image AUROC (docs/LOG.md).
    """
    return F.avg_pool2d(features, 3, stride=1, padding=1)


def join(features: Mapping[str, Tensor], layers: Sequence[str], *, repeat: bool = False) -> Tensor:
    """The ``layers`` of ``features`` on the finest one's grid, joined along channels: (B, D, h, w).

    Coarser layers are brought up bilinearly (pixel centres aligned, not corners), or their values repeated.
    """
    way: dict[str, Any] = {"mode": "nearest"} if repeat else {"mode": "bilinear", "align_corners": False}
    maps = [features[layer] for layer in layers]
    size = max((int(m.shape[2]), int(m.shape[3])) for m in maps)
    raised = [m if (m.shape[2], m.shape[3]) == size else F.interpolate(m, size=size, **way) for m in maps]
    return torch.cat(raised, dim=1)


def pooled(features: Mapping[str, Tensor]) -> Tensor:
    """Mean and deviation over the image of each channel of each layer (B, C, h, w): (B, 2 x all channels)."""
    parts = [part for m in features.values() for part in (m.mean((2, 3)), m.std((2, 3), correction=0))]
    return torch.cat(parts, dim=1)


def to_map(grid: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """``grid`` (B, 1, h, w) brought up bilinearly to ``size`` (H, W) and blurred: (B, 1, H, W).

    The blur is Gaussian with ``sigma`` pixels (0: none), cut off at four sigma, borders replicated. Both steps are
    linear and separable, so they are one small matrix a side: rows (H, h), columns (W, w).
    """
    rows = raise_and_blur(int(grid.shape[2]), size[0], sigma, like=grid)
    columns = raise_and_blur(int(grid.shape[3]), size[1], sigma, like=grid)
    return rows @ grid @ columns.T


def blur_map(anomaly_map: Tensor, sigma: float) -> Tensor:
    """``anomaly_map`` (B, 1, H, W) under a Gaussian of ``sigma`` pixels (0: as it is), borders replicated."""
    if sigma == 0:
        return anomaly_map
    return to_map(anomaly_map, (int(anomaly_map.shape[2]), int(anomaly_map.shape[3])), sigma)


def raise_and_blur(source: int, target: int, sigma: float, *, like: Tensor) -> Tensor:
    """The matrix (target, source) that interpolates ``source`` values to ``target`` and blurs them."""
    unit = torch.eye(source, dtype=like.dtype, device=like.device)[None]  # (1, source, source)
    raised = F.interpolate(unit, size=target, mode="linear", align_corners=False)  # (1, source, target)
    if sigma > 0:
        weights = gaussian_kernel(sigma)
        radius = len(weights) // 2
        padded = F.pad(raised, (radius, radius), mode="replicate")[0][
            :, None
        ]  # (source, 1, target + 2 radius)
        kernel = torch.tensor(weights, dtype=like.dtype, device=like.device)
        raised = F.conv1d(padded, kernel[None, None])[:, 0][None]
    return raised[0].T


def gaussian_kernel(sigma: float) -> list[float]:
    """Weights of a Gaussian with ``sigma``, cut off at four sigma, that sum to 1.

    >>> [round(w, 3) for w in gaussian_kernel(0.5)]
    [0.0, 0.106, 0.787, 0.106, 0.0]
    """
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    return [weight / math.fsum(weights) for weight in weights]


def joined_channels(backbone: Backbone, layers: Sequence[str]) -> int:
    """D, the channels of ``layers`` together."""
    return sum(backbone.layers[layer].channels for layer in layers)
