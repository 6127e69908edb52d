"""How unusual it is what a method leaves over of an image, against what good images leave over at the same place.

An edge is hard to repaint and a plain area easy, in every good image: the largest residual of an image says mostly where
its hardest place is. Each place is measured by its own mean and deviation instead, as PaDiM does with features
(Defard et al. 2020), here with one number a place:

    s = max over places of (r - mu) / (sigma + 0.2 mean sigma + 0.01 mean |mu|)

Letters: r (G, G) the residual on G x G cells, lightly smoothed; mu and sigma its mean and deviation over the good images;
B images, H and W the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from andon.features.blocks import shrink
from andon.features.patches import blur_map
from andon.features.running import step_mean

CELLS = 64  # G
SIGMA = 0.7  # cells, of the smoothing
OF_DEVIATION, OF_MEAN = 0.2, 0.01  # what is added to each place's deviation: so that none explodes


class Unusual(nn.Module):
    """The image score s (B,) of residuals (B, 1, H, W) of any size. Before any is added, mu is 0 and sigma 1.

    >>> unusual = Unusual()
    >>> unusual.add(torch.tensor([0.1, 0.3]).view(2, 1, 1, 1).expand(2, 1, 8, 8), before=0)
    >>> round(unusual(torch.full((1, 1, 8, 8), 0.4)).item(), 2)
    1.64
    """

    mean: Tensor  # mu: (1, 1, G, G) float64
    square: Tensor  # mean of r^2: (1, 1, G, G) float64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 1, CELLS, CELLS, dtype=torch.float64))
        self.register_buffer("square", torch.ones(1, 1, CELLS, CELLS, dtype=torch.float64))

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.mean.zero_()
        self.square.fill_(1)

    def cells(self, left_over: Tensor) -> Tensor:
        """r (B, 1, G, G)."""
        return blur_map(shrink(left_over, (CELLS, CELLS)), SIGMA)

    def add(self, left_over: Tensor, before: int) -> None:
        """Count residuals (B, 1, H, W) of good images in, after ``before`` images."""
        r = self.cells(left_over.detach()).double()
        step_mean(self.mean, r.sum(0), len(r), before)
        step_mean(self.square, r.square().sum(0), len(r), before)

    def forward(self, left_over: Tensor) -> Tensor:
        """s (B,)."""
        sigma = (self.square - self.mean.square()).clamp(min=0).sqrt()
        scale = sigma + OF_DEVIATION * sigma.mean() + OF_MEAN * self.mean.abs().mean() + 1e-6
        r = self.cells(left_over)
        return ((r - self.mean.to(r.dtype)) / scale.to(r.dtype)).flatten(1).amax(1)
