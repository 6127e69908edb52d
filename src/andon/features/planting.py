"""Batches with invented defects: textures or colours that show through masks of Perlin noise.

Zavrtanik, Kristan, Skočaj 2021 (DRAEM, arXiv:2108.07610), section 3.2. All randomness comes from torch's global
generator, at first or second hand.

Letters: B images I (3, H, W), A a texture, M a mask, beta the opacity.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from andon.features.perlin import blob_mask
from andon.features.textures import TextureSource, disturbed

ANOMALOUS = 0.5  # share of the images that get a defect: the authors' code
OPACITY = (0.1, 1.0)  # beta, drawn uniformly: the paper


def numpy_generator() -> np.random.Generator:
    """A NumPy generator whose seed is drawn from torch's global one."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, ())))


def random_masks(rng: np.random.Generator, images: Tensor, share: float = ANOMALOUS) -> Tensor:
    """(B, 1, H, W) bool: blobs on a ``share`` of the images, nothing on the others."""
    size = (int(images.shape[2]), int(images.shape[3]))
    empty = np.zeros(size, dtype=bool)
    masks = [blob_mask(rng, size) if rng.random() < share else empty for _ in range(len(images))]
    return torch.from_numpy(np.stack(masks)[:, None]).to(images.device)


def plant(images: Tensor, source: TextureSource | None) -> tuple[Tensor, Tensor]:
    """``images`` (B, 3, H, W) in [0, 1] with defects on half of them, and where, (B, 1, H, W) bool.

        I_a = (1 - M) I + M ((1 - beta) I + beta A)                                              (DRAEM's eq. 3)

    A comes from ``source``, disturbed; without one it is a single random colour (smudges, as DSR plants).
    """
    rng = numpy_generator()
    masks = random_masks(rng, images)
    spoiled = images.clone()
    for image, mask in zip(spoiled, masks, strict=True):
        if mask.any():
            beta = float(rng.uniform(*OPACITY))
            texture = _texture(rng, source, image)
            image += mask * beta * (texture - image)
    return spoiled, masks


def _texture(rng: np.random.Generator, source: TextureSource | None, like: Tensor) -> Tensor:
    """A texture (3, H, W), or a colour (3, 1, 1), in [0, 1]."""
    if source is None:
        return torch.from_numpy(rng.random((3, 1, 1), dtype=np.float32)).to(like.device)
    picture = disturbed(rng, source.draw(rng, (int(like.shape[1]), int(like.shape[2]))))
    return as_images(picture[None]).to(like.device)[0]


def as_images(pictures: np.ndarray) -> Tensor:
    """Pictures (B, H, W, 3) uint8 as images (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def turn(images: Tensor, degrees: float, share: float) -> Tensor:
    """``images`` (B, 3, H, W), a ``share`` of them turned by up to ``degrees`` either way, the border continued."""
    if not degrees:
        return images
    size = images.shape
    angle = (2 * torch.rand(size[0]) - 1) * math.radians(degrees) * (torch.rand(size[0]) < share)
    cos, sin, aspect = torch.cos(angle), torch.sin(angle), size[2] / size[3]
    rows = [
        torch.stack([cos, -sin * aspect, 0 * cos], 1),
        torch.stack([sin / aspect, cos, 0 * cos], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1).to(images), list(size), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
