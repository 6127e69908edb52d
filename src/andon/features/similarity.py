"""How alike two images look, as maps that can be learnt from: structural similarity.

Letters: B images, C channels, H and W the image; x and y the images compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from andon.features.patches import gaussian_kernel

K1, K2 = 0.01, 0.03  # the paper's constants, for values in [0, 1]
WINDOW_SIGMA = 1.5  # pixels


def ssim(x: Tensor, y: Tensor, sigma: float = WINDOW_SIGMA) -> Tensor:
    """The local similarity (B, C, H, W) in [-1, 1] of images (B, C, H, W) in [0, 1]; 1 where they are the same.

    Wang et al. 2004, Image quality assessment: from error visibility to structural similarity, eq. 13, with a
    Gaussian window of ``sigma`` pixels; borders are reflected.

    >>> x = torch.rand(1, 3, 32, 32)
    >>> float(ssim(x, x).min()) > 0.999
    True
    """
    mu_x, mu_y = blur(x, sigma), blur(y, sigma)
    var_x = blur(x * x, sigma) - mu_x * mu_x
    var_y = blur(y * y, sigma) - mu_y * mu_y
    cov = blur(x * y, sigma) - mu_x * mu_y
    c1, c2 = K1**2, K2**2
    light = (2 * mu_x * mu_y + c1) / (mu_x * mu_x + mu_y * mu_y + c1)
    return light * (2 * cov + c2) / (var_x + var_y + c2)


def blur(x: Tensor, sigma: float) -> Tensor:
    """``x`` (B, C, H, W) under a Gaussian of ``sigma`` pixels cut off at four sigma, borders reflected."""
    kernel = torch.tensor(gaussian_kernel(sigma), dtype=x.dtype, device=x.device)
    radius, channels = len(kernel) // 2, int(x.shape[1])
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    columns = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(columns, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
