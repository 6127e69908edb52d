"""What somebody who sees what a site sends can learn of its images, and what a site that means harm can send.

Three attacks on privacy: whether an image was among those that the statistics are of (membership inference), and what its
patches looked like (inversion, by the nearest public patch or by optimisation). They are the measure of what noise is worth:
with them, a release without noise is shown to give images away, and a private one is held to its promise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import SettingsError
from andon.features.neighbours import nearest
from andon.federated.types import Contribution, Release
from andon.metrics import auroc
from andon.models.base import Detector, State
from andon.models.patchcore import PatchCore

Floats = NDArray[np.float64]


# --- was this image among them? ----------------------------------------------------------------------------------------


def bank_membership(rows: Tensor, features: Tensor) -> Floats:
    """(n,) scores of images by their patches (n, P, D), higher for members: minus the distance of the nearest row (M, D).

    A coreset keeps patches as they are: for one of an image's own, the distance is zero.
    """
    n, p, d = features.shape
    distance = nearest(features.reshape(-1, d).float(), rows.float())[0].reshape(n, p)
    return -distance.amin(1).double().numpy()


def mean_membership(mean: Tensor, contributions: Tensor, reference: Tensor) -> Floats:
    """(n,) scores of images by what they add (n, m) to a released ``mean`` (m,), higher for members.

    The tracing attack (Homer et al. 2008; Dwork et al. 2015, "Robust Traceability from Trace Amounts"): how far image and mean
    deviate in the same direction from ``reference`` (r, m), other images of the same kind that the attacker has; each number
    in units of its deviation there.
    """
    middle, spread = reference.double().mean(0), reference.double().std(0).clamp(min=1e-9)
    direction = (mean.double() - middle) / spread
    return (((contributions.double() - middle) / spread) @ direction / math.sqrt(len(direction))).numpy()


@torch.no_grad()
def loss_membership(detector: Detector, images: Tensor) -> Floats:
    """(n,) scores of ``images`` (n, 3, H, W), higher for members: minus what the detector finds odd (Yeom et al. 2018)."""
    return -np.array([float(detector(one[None]).anomaly_map.mean()) for one in images])


@dataclass(frozen=True)
class Membership:
    """How well an attack tells members from others. 0.5 and 0.05 are guessing."""

    auroc: float
    found_at_5: float  # share of the members found at 5 % of the others taken for members, at most
    implied_epsilon: float  # no promise below it can be true, with 95 % confidence


def membership(members: Floats, others: Floats, delta: float = 1e-5) -> Membership:
    """The figures of an attack that gave these scores."""
    scores, truth = np.concatenate([members, others]), np.repeat([True, False], [len(members), len(others)])
    cut = np.sort(others)[::-1][math.floor(0.05 * len(others))]
    return Membership(
        auroc(scores, truth), float((members > cut).mean()), implied_epsilon(members, others, delta)
    )


def implied_epsilon(members: Floats, others: Floats, delta: float, confidence: float = 0.95) -> float:
    """The epsilon that a mechanism must have at least, given that an attack tells its outcomes so far apart; at least 0.

    For every threshold, found <= e^epsilon false + delta (Kairouz, Oh and Viswanath 2015), with Clopper and Pearson's bounds
    on both rates. The threshold is chosen on the same scores, so all of them share the confidence (Bonferroni).
    """
    cuts = np.unique(np.concatenate([members, others]))
    cuts = cuts[:: max(1, len(cuts) // 50)]
    level = (1 - confidence) / (2 * len(cuts))
    best = 0.0
    for cut in cuts:
        found = _rate_at_least(int((members > cut).sum()), len(members), level)
        false = 1 - _rate_at_least(int((others <= cut).sum()), len(others), level)
        if found > delta and false > 0:
            best = max(best, math.log((found - delta) / false))
    return best


def _rate_at_least(hits: int, of: int, level: float) -> float:
    """Clopper and Pearson's lower bound: the rate at which ``hits`` or more of ``of`` have probability ``level``."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / of
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(hits, of, middle) < level else (low, middle)
    return low


def _tail(hits: int, of: int, rate: float) -> float:
    """P(X >= hits) of a binomial."""
    if rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    counts = np.arange(hits, of + 1)
    logs = _log_choose(of)[hits:] + counts * math.log(rate) + (of - counts) * math.log1p(-rate)
    return min(1.0, float(np.exp(logs).sum()))


@lru_cache(maxsize=8)
def _log_choose(of: int) -> Floats:
    """(of + 1,) ln of the binomial coefficients."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, of + 1)))])
    return factorials[-1] - factorials - factorials[::-1]


# --- what did it look like? --------------------------------------------------------------------------------------------


@torch.no_grad()
def nearest_public(detector: PatchCore, rows: Tensor, public: Tensor, side: int) -> Tensor:
    """(M, 3, S, S) windows of ``public`` images (n, 3, H, W), about the patches most like ``rows`` (M, D)."""
    patches = detector.patches(public).float()
    h, w = int(patches.shape[2]), int(patches.shape[3])
    index = nearest(rows.float(), patches.permute(0, 2, 3, 1).flatten(0, 2))[1][:, 0]
    places = torch.stack([index // (h * w), index % (h * w) // w, index % w], dim=1)
    return windows(public, places, (h, w), side)


def windows(images: Tensor, places: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """(M, 3, S, S) of ``images`` about ``places`` (M, 3): image, row and column in the ``grid``; mirrored beyond the edges."""
    half = side // 2
    padded = F.pad(images, (half, half, half, half), mode="reflect")
    out = []
    for image, row, column in places.tolist():
        y = round((row + 0.5) * images.shape[2] / grid[0])
        x = round((column + 0.5) * images.shape[3] / grid[1])
        out.append(padded[image, :, y : y + side, x : x + side])
    return torch.stack(out)


def inverted(
    detector: PatchCore, rows: Tensor, side: int, *, steps: int = 300, smooth: float = 0.02, seed: int = 0
) -> Tensor:
    """(M, 3, S, S): pictures whose middle patch has the features ``rows`` (M, D), found by gradient descent from grey.

    Mahendran and Vedaldi 2015: |f(x) - row|^2 / |row|^2 + ``smooth`` times the total variation of x; Adam.
    """
    if side % 16:
        raise SettingsError(f"the side must be a multiple of 16, got {side}")
    generator = torch.Generator().manual_seed(seed)
    hidden = (0.05 * torch.randn(len(rows), 3, side, side, generator=generator)).requires_grad_()
    optimiser = torch.optim.Adam([hidden], lr=0.05)
    size = rows.square().sum(1).clamp(min=1e-9)
    for _ in range(steps):
        picture = torch.sigmoid(hidden)
        grid = detector.patches(picture)
        middle = grid[:, :, grid.shape[2] // 2, grid.shape[3] // 2]
        apart = (middle - rows).square().sum(1) / size
        rough = picture.diff(dim=2).abs().mean((1, 2, 3)) + picture.diff(dim=3).abs().mean((1, 2, 3))
        optimiser.zero_grad()
        (apart + smooth * rough).sum().backward()
        optimiser.step()
    return torch.sigmoid(hidden).detach()


def likeness(one: Tensor, other: Tensor, middle: int) -> Tensor:
    """(M,) correlation in [-1, 1] of the middle ``middle`` x ``middle`` pixels of pictures (M, 3, S, S), mean over colours."""
    begin = (int(one.shape[2]) - middle) // 2
    cut = slice(begin, begin + middle)
    a, b = (x[:, :, cut, cut].flatten(2) for x in (one, other))
    a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
    norm = torch.linalg.vector_norm(a, dim=2) * torch.linalg.vector_norm(b, dim=2)
    return ((a * b).sum(2) / norm.clamp(min=1e-9)).mean(1)


# --- sites that mean harm: what is about to leave, changed -----------------------------------------------------------------


def scaled(factor: float) -> Release:
    """Floating numbers of the state times ``factor``; the count of images stays."""
    return lambda one: _changed(one, lambda tensor: tensor * factor)


def noised(share: float, seed: int = 0) -> Release:
    """Noise of ``share`` times each entry's own deviation on all floating numbers; an entry of one number stays."""
    generator = torch.Generator().manual_seed(seed)

    def spoil(tensor: Tensor) -> Tensor:
        spread = tensor.double().std(correction=0)
        drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return (tensor.double() + share * spread * drawn).to(tensor.dtype)

    return lambda one: _changed(one, spoil)


def replaced(state: State) -> Release:
    """``state``, of other images altogether, such as of something else that is made there, in place of the site's own."""
    return lambda one: replace(one, state=state)


def flooding(rows: int, spread: float, seed: int = 0) -> Release:
    """A memory bank with ``rows`` random rows more, ``spread`` times the deviation of its own about their mean."""
    generator = torch.Generator().manual_seed(seed)

    def flood(one: Contribution) -> Contribution:
        own = one.state["patches"]
        drawn = torch.randn(rows, own.shape[1], generator=generator) * own.std(0) * spread + own.mean(0)
        return replace(one, state={**one.state, "patches": torch.cat([own, drawn])})

    return flood


def _changed(one: Contribution, change: Callable[[Tensor], Tensor]) -> Contribution:
    state = {name: change(of) if of.is_floating_point() else of for name, of in one.state.items()}
    return replace(one, state=state)
