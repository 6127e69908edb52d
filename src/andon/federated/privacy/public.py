"""Images that anybody may see, and what is learnt from them: scales and centres on which private sums are taken.

Nothing here depends on a site's images, so none of it costs privacy. All sites and the server draw the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from andon.data.synthetic import draw
from andon.features.drawn import draw_texture
from andon.features.gaussian import pack, unpack
from andon.features.neighbours import greedy_k_centre, nearest

RIDGE = 1e-3  # of the mean variance, added to every direction's before scaling by it
SCENE_EVERY = 4  # one of four public images is a scene of the synthetic line, the others are textures
SMALLEST = 64  # rows and columns of a drawn scene
LLOYD = 10  # rounds of Lloyd's algorithm on public patches


@lru_cache(maxsize=2)
def public_images(size: tuple[int, int], count: int, seed: int = 0) -> Tensor:
    """(count, 3, H, W) float32 in [0, 1]: drawn textures and scenes of the synthetic line."""
    side = max(*size, SMALLEST)
    pictures = [_picture(side, seed, number) for number in range(count)]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return images[:, :, : size[0], : size[1]].contiguous()


def _picture(side: int, seed: int, number: int) -> np.ndarray:
    if number % SCENE_EVERY == 0:
        return draw([seed, number], size=(side, side)).image
    return draw_texture(np.random.default_rng([seed, number]), side)


@dataclass(frozen=True)
class Frame:
    """Public coordinates y = (x - centre) A of patches x, in which public patches have mean 0 and variance about 1.

    In them noise that is alike in all directions is alike in its harm. ``forward`` is A (D, D), ``back`` its inverse.
    """

    centre: Tensor  # (D,) float64
    forward: Tensor
    back: Tensor

    @classmethod
    def of(cls, rows: Tensor, *, diagonal: bool = False) -> Frame:
        """From public patches (N, D). ``diagonal``: each dimension scaled by itself, none mixed."""
        rows = rows.double()
        centre = rows.mean(0)
        covariance = (rows - centre).T @ (rows - centre) / len(rows)
        if diagonal:
            covariance = covariance.diag().diag()
        covariance = covariance + RIDGE * covariance.diag().mean() * torch.eye(len(centre), dtype=rows.dtype)
        variances, vectors = torch.linalg.eigh(covariance)
        return cls(centre, vectors * variances.rsqrt() @ vectors.T, vectors * variances.sqrt() @ vectors.T)

    def into(self, x: Tensor) -> Tensor:
        """y (..., D) float64 of patches x (..., D)."""
        return (x.double() - self.centre) @ self.forward

    def sums_back(self, count: Tensor, total: Tensor) -> Tensor:
        """Sums of x (..., D) from ``count`` and sums of y (..., D)."""
        return total @ self.back + count * self.centre

    def products_back(self, count: Tensor, total: Tensor, second: Tensor) -> Tensor:
        """Sums of x x' (..., D, D) from ``count``, sums of y (..., D) and of y y' (..., D, D)."""
        mixed = (total @ self.back)[..., :, None] * self.centre
        return (
            self.back @ second @ self.back + mixed + mixed.mT + count * torch.outer(self.centre, self.centre)
        )

    def sums_into(self, count: Tensor, total: Tensor) -> Tensor:
        """Sums of y from ``count`` and sums of x: the inverse of :meth:`sums_back`."""
        return (total - count * self.centre) @ self.forward

    def products_into(self, count: Tensor, total: Tensor, second: Tensor) -> Tensor:
        """Sums of y y' from sums of x and x x': the inverse of :meth:`products_back`."""
        mixed = total[..., :, None] * self.centre
        centred = second - mixed - mixed.mT + count * torch.outer(self.centre, self.centre)
        return self.forward @ centred @ self.forward


def svec(matrices: Tensor) -> Tensor:
    """Upper triangles (..., T) of symmetric ``matrices`` (..., D, D), off-diagonal entries times sqrt(2).

    So the triangle is as long as the matrix: |svec(x x')| = |x|^2.

    >>> round(float(svec(torch.ones(2, 2)).norm()), 6)
    2.0
    """
    return pack(matrices) * _doubled(matrices.shape[-1])


def smat(triangles: Tensor, dimensions: int) -> Tensor:
    """The matrices (..., D, D) that :func:`svec` made ``triangles`` (..., T) of."""
    return unpack(triangles / _doubled(dimensions), dimensions)


def _doubled(dimensions: int) -> Tensor:
    rows, columns = torch.triu_indices(dimensions, dimensions).unbind(0)
    return torch.where(rows == columns, 1.0, 2.0).double().sqrt()


def public_centres(rows: Tensor, count: int, seed: int) -> Tensor:
    """(K, D) float32 centres of public patches (N, D): k-means from a greedy start, K the smaller of ``count`` and N."""
    centres = rows[greedy_k_centre(rows, min(count, len(rows)), seed=seed)].clone()
    for _ in range(LLOYD):
        owner = nearest(rows, centres)[1][:, 0]
        members = torch.zeros(len(centres)).index_add_(0, owner, torch.ones(len(rows)))
        sums = torch.zeros_like(centres).index_add_(0, owner, rows)
        centres = torch.where(members[:, None] > 0, sums / members.clamp(min=1)[:, None], centres)
    return centres
