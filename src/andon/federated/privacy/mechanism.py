"""Sums over images with noise, of which no single image can be told: the Gaussian mechanism on clipped contributions.

Every image i contributes blocks v_k(i), k = 1..K (a count of one, sums of its features, sums of their products). Each block
has a public bound B_k on its length. An image with a longer block counts less, as a whole, so that means stay means:

    w(i) = min(1, min_k B_k / |v_k(i)|)         release_k = sum_i w(i) v_k(i) + N(0, s_k^2 I),  s_k = z B_k / sqrt(h_k)

with shares h_k > 0 that sum to 1. **Sensitivity.** Add or remove one image: block k moves by w |v_k| <= B_k. Divided by s_k,
the whole moves by at most sqrt(sum_k B_k^2 / s_k^2) = sqrt(sum_k h_k) / z = 1/z: one Gaussian release with noise multiplier
z, whatever the images are (``accountant``). Written with weights a_k of the blocks it is the same as s_k = z Delta / a_k,
Delta = sqrt(sum_k (a_k B_k)^2), for h_k = (a_k B_k / Delta)^2. **Replace one image**: block k moves by at most 2 B_k (v in
one direction, v' in the other), so half the multiplier, z / 2.

Noise is float64; the rounding of floats could in principle tell something of the sum (Mironov 2012), which this does not
defend against. It is drawn from the system's own random source, never from a seed that others know.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from andon.errors import SettingsError

COUNT = "count"  # the block that every image has: a one


class ClippedSum:
    """Sums over images, each image's blocks at most ``bounds`` long and added as a whole.

    ``shares`` of the privacy that each block gets (default: alike). Raises :class:`SettingsError` for bounds or shares that
    are not above 0, or a missing bound of the count.
    """

    def __init__(self, bounds: Mapping[str, float], shares: Mapping[str, float] | None = None) -> None:
        shares = shares or dict.fromkeys(bounds, 1.0)
        if COUNT not in bounds or set(shares) != set(bounds) or min(*bounds.values(), *shares.values()) <= 0:
            raise SettingsError(
                f"every block needs a bound and a share above 0, and there must be a {COUNT!r}; got {dict(bounds)} and "
                f"{dict(shares)}"
            )
        self.bounds = dict(bounds)
        self.shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        self.sums: dict[str, Tensor] = {}

    def weights(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """w (n,) float64 of n images from their ``blocks`` (n, ...); without the count, which is one for each."""
        first = next(iter(blocks.values()))
        smallest = torch.full((len(first),), min(1.0, self.bounds[COUNT]), dtype=torch.float64)
        for name, block in blocks.items():
            length = torch.linalg.vector_norm(block.double().flatten(1), dim=1)
            smallest = torch.minimum(smallest, self.bounds[name] / length.clamp(min=1e-300))
        return smallest

    def add(self, blocks: Mapping[str, Tensor]) -> None:
        """Add n images: their ``blocks`` (n, ...), all of ``bounds`` but the count. Values must be finite."""
        w = self.weights(blocks)
        counted = {COUNT: torch.ones(len(w), dtype=torch.float64), **blocks}
        for name, block in counted.items():
            if not bool(torch.isfinite(block).all()):
                raise SettingsError(f"{name!r} of an image is not finite: no bound holds for it")
            total = (w @ block.double().reshape(len(w), -1)).reshape(block.shape[1:])
            self.sums[name] = self.sums[name] + total if name in self.sums else total

    def deviations(self, noise: float) -> dict[str, float]:
        """s_k: the standard deviation of each number of each block at noise multiplier ``noise``."""
        return {name: noise * bound / math.sqrt(self.shares[name]) for name, bound in self.bounds.items()}

    def released(
        self, noise: float, *, adders: int = 1, rng: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """The sums with noise. ``adders``: sites that each add their part of it, under secure aggregation only.

        ``rng``: for experiments; None for the system's random source.
        """
        scale = 1 / math.sqrt(adders)
        return {
            name: total + scale * self.deviations(noise)[name] * normal(tuple(total.shape), rng)
            for name, total in self.sums.items()
        }


def normal(shape: tuple[int, ...], rng: np.random.Generator | None = None) -> Tensor:
    """Standard normal numbers, float64: from ``rng``, or (None) from the system's random source, by Box and Muller 1958."""
    if rng is not None:
        return torch.from_numpy(np.asarray(rng.standard_normal(shape)))
    pairs = (math.prod(shape) + 1) // 2
    raw = np.frombuffer(os.urandom(16 * pairs), np.uint64).reshape(2, pairs) >> np.uint64(11)
    u = (raw.astype(np.float64) + 0.5) / 2**53  # in (0, 1)
    radius, angle = np.sqrt(-2 * np.log(u[0])), 2 * np.pi * u[1]
    drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: math.prod(shape)]
    return torch.from_numpy(drawn.reshape(shape))


def clip_rows(rows: Tensor, norm: float) -> Tensor:
    """``rows`` (..., D), each shortened to length ``norm`` where it is longer."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows * (norm / length.clamp(min=1e-300)).clamp(max=1.0)
