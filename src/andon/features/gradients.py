"""How alike the edges of two images are: gradient magnitude similarity.

Xue, Zhang, Mou, Bovik 2014, Gradient Magnitude Similarity Deviation: a Highly Efficient Perceptual Image Quality
Index, eq. 1 to 4; over several scales as in Zavrtanik et al. 2021 (RIAD), eq. 5.

Letters: B images, C channels, H and W the image; x and y the images compared; g the gradient magnitude.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EDGE = 0.0026  # the paper's c: 170 for values up to 255
SCALES = 4
FLAT = 1e-9  # added under the root, which has no slope at 0


def gms(x: Tensor, y: Tensor) -> Tensor:
    """The similarity (B, 1, H, W) in (0, 1] of the edges of grey images (B, 1, H, W) in [0, 1].

    (2 g(x) g(y) + c) / (g(x)^2 + g(y)^2 + c): 1 where the edges are equally strong.

    >>> x = torch.rand(1, 1, 32, 32)
    >>> bool((gms(x, x) > 0.9999).all())
    True
    """
    square_x, square_y = _gradient_square(x), _gradient_square(y)
    product = torch.sqrt(square_x * square_y + FLAT**2)
    return (2 * product + EDGE) / (square_x + square_y + EDGE)


def gms_distances(x: Tensor, y: Tensor, scales: int = SCALES) -> list[Tensor]:
    """1 - GMS of images (B, C, H, W) made grey: (B, 1, H, W), then (B, 1, H / 2, W / 2) and so on, ``scales`` maps."""
    x, y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    maps = [1 - gms(x, y)]
    while len(maps) < scales and min(x.shape[2:]) >= 4:
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        maps.append(1 - gms(x, y))
    return maps


def _gradient_square(x: Tensor) -> Tensor:
    """g^2 (B, 1, H, W) by Prewitt's filters; borders replicated."""
    filters = torch.tensor([[[1.0, 0, -1]] * 3, [[1.0] * 3, [0.0] * 3, [-1.0] * 3]]) / 3  # (2, 3, 3)
    weight = filters[:, None].to(x.device, x.dtype)
    edges = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight)  # (B, 2, H, W)
    return edges.square().sum(1, keepdim=True)
