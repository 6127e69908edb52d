"""What a private federation sends in place of a detector's own statistics, at the site and at the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from andon.errors import DataError, SettingsError
from andon.federated.privacy.accountant import Spent, epsilon_of, noise_for
from andon.federated.privacy.banks import PrivateBank
from andon.federated.privacy.budget import Budget
from andon.federated.privacy.mechanism import COUNT, ClippedSum
from andon.federated.privacy.moments import PrivateMoments
from andon.federated.privacy.public import public_images
from andon.federated.types import Contribution, Plan, Privacy
from andon.federated.wire import Expected
from andon.models.base import Detector, State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD

NO_ROWS = (
    "rows of a memory bank are patches of single images, chosen because of all the others: leaving out one image changes "
    "which rows there are, by any distance, so no noise on them is private. A private bank is made on public centres instead"
)


@dataclass(frozen=True)
class Guarantee:
    """What is promised to each image that a detector was fitted on at one site."""

    epsilon: float
    delta: float
    noise: float  # z of all releases together; nan where there is no such number (private training)
    releases: int
    replaced_epsilon: float  # for replacing one image instead of adding or removing it, at the same delta

    def __str__(self) -> str:
        times = "once" if self.releases == 1 else f"{self.releases} times"
        return (
            f"With or without any one image of a site, what it sends ({times}) is as likely up to a factor e^{self.epsilon:.3g} "
            f"and a chance of {self.delta:g} (for one image in the place of another: e^{self.replaced_epsilon:.3g}). Of pictures "
            "of the same part each is protected for itself, not the part."
        )


@dataclass(frozen=True)
class PrivateStatistics:
    """Statistics that may leave a site, and what that promises to its images."""

    state: State
    images: int  # a noisy count, at least 1
    guarantee: Guarantee


class Statistic(Protocol):
    """Sums over images with noise, and what a detector makes of them."""

    positions: int  # P
    dimensions: int  # D

    def features(self, images: Tensor) -> Tensor:
        """(n, P, D) patches of ``images`` (n, 3, H, W)."""
        ...

    def blocks(self, features: Tensor) -> dict[str, Tensor]:
        """What each image contributes, (n, ...) each."""
        ...

    def gather(self) -> ClippedSum:
        """An empty sum of such blocks."""
        ...

    def state(self, sums: Mapping[str, Tensor]) -> State:
        """Noisy sums as they are sent."""
        ...

    def merged(self, contributions: Sequence[Contribution], noise: float) -> State:
        """What sites sent as the detector's own unclosed statistics."""
        ...


def guarantee_of(privacy: Privacy) -> Guarantee:
    """What ``privacy`` promises where the noise is added to sums."""
    noise = noise_for(privacy.epsilon, privacy.delta)
    return Guarantee(
        privacy.epsilon, privacy.delta, noise, privacy.lloyd, epsilon_of(noise / 2, privacy.delta)
    )


def statistic_of(detector: Detector, plan: Plan, public: Tensor | None = None) -> Statistic:
    """The private statistic of ``detector`` under ``plan.privacy``; ``public`` images, where not the drawn ones.

    Raises :class:`SettingsError` for methods that have none, and for rows of a coreset.
    """
    privacy = _privacy(plan)
    if plan.site_rows is not None:
        raise SettingsError(f"site_rows cannot be had with privacy: {NO_ROWS} (centres).")
    if isinstance(detector, PatchCore) and detector.odd_patches:
        raise SettingsError(f"odd_patches cannot be had with privacy: {NO_ROWS}.")
    if not isinstance(detector, PatchCore | PaDiM | SubspaceAD):
        raise SettingsError(
            f"{plan.method} has no private statistics; padim, subspacead and patchcore have, and autoencoder can be trained privately"
        )
    if public is None:
        public = public_images(plan.size, privacy.public_images, privacy.public_seed)
    if isinstance(detector, PatchCore):
        return PrivateBank(detector, public, privacy.centres, seed=privacy.public_seed)
    if privacy.lloyd > 1:
        raise SettingsError(
            f"lloyd moves the centres of a memory bank, and {plan.method} has none; leave it at 1"
        )
    return PrivateMoments(detector, public)


def observe_privately(statistic: Statistic, batches: Iterable[Tensor], privacy: Privacy, *,
                      budget: Budget | None = None, rng: np.random.Generator | None = None) -> PrivateStatistics:  # fmt: skip
    """What may be told of the images in ``batches`` (n, 3, H, W) in one round. Noise is drawn anew in every call.

    ``budget``: is told first, and refuses. ``rng``: for experiments. Raises :class:`DataError` without an image.
    """
    sums, noise = statistic.gather(), round_noise(privacy)
    for images in batches:
        sums.add(statistic.blocks(statistic.features(images)))
    if not sums.sums:
        raise DataError("there is no image to take statistics of")
    if budget is not None:
        budget.spend(
            Spent(noise / privacy.adders**0.5)
        )  # what leaves this site; nobody here can see other sites' noise
    released = sums.released(noise, adders=privacy.adders, rng=rng)
    count = max(1, round(float(released[COUNT])))
    return PrivateStatistics(statistic.state(released), count, guarantee_of(privacy))


def round_noise(privacy: Privacy) -> float:
    """z of each round's release."""
    return noise_for(privacy.epsilon, privacy.delta, privacy.lloyd)


def merge_privately(statistic: Statistic, privacy: Privacy, contributions: Sequence[Contribution]) -> State:
    """The detector's unclosed statistics from what the sites sent in one round."""
    return statistic.merged(contributions, round_noise(privacy) / privacy.adders**0.5)


def expected_private(statistic: Statistic) -> Expected:
    """What a site's private statistics look like: those of the public images' first, made of nothing."""
    sums = statistic.gather()
    shape = (1, statistic.positions, statistic.dimensions)
    sums.add(statistic.blocks(torch.zeros(shape)))
    state = statistic.state(sums.sums)
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}


def _privacy(plan: Plan) -> Privacy:
    if plan.privacy is None:
        raise SettingsError("the plan promises no privacy")
    return plan.privacy
