"""Private training (DP-SGD): every image's gradient is cut to a length and hidden in noise, by Opacus.

Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1: each step takes each image with probability q, by
itself; the gradients of those taken are shortened to length C and added; N(0, (z C)^2) is added; the sum is divided by the
expected number of images. z is the one with which all steps of the fit come to the plan's promise (``accountant``). How many
images a site has counts as known. Which images a step takes and the noise are drawn from the system's random source.

No image may touch another's gradient, so batch normalisation is out (``norm="group"``), and so is FedProx's term, which is
not any image's; so is the look at what is usual after the training (``score="peak"``). Only the autoencoder is trained so: the other methods look at all images before, in ways that tell.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from andon.errors import MissingExtraError, SettingsError
from andon.federated.privacy.accountant import Spent, training_noise
from andon.federated.privacy.budget import Budget
from andon.federated.types import LocalTraining, Plan, Privacy
from andon.models.autoencoder import Autoencoder
from andon.models.base import Detector, Phase, Turn
from andon.models.reconstructing import PEAK
from andon.training import Pick, Source

if TYPE_CHECKING:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer


def require_trainable(detector: Detector, plan: Plan) -> None:
    """Raise :class:`SettingsError` where ``detector`` cannot be trained privately under ``plan``."""
    if not isinstance(detector, Autoencoder):
        raise SettingsError(
            f"{plan.method} cannot be trained privately; autoencoder can, and padim, subspacead and patchcore have private "
            "statistics"
        )
    if detector.norm != "group":
        raise SettingsError(
            "batch normalisation mixes the images of a batch, so that no image's gradient is its own; give the setting "
            "norm=group"
        )
    if detector.score != PEAK:
        raise SettingsError(
            "what the training images leave over at each place would be told without noise; give the setting score=peak"
        )
    if plan.proximal:
        raise SettingsError("FedProx's term is no image's gradient and would not be hidden; give proximal=0")


def sampling_of(detector: Detector, images: int) -> float:
    """q: the share of a site's ``images`` that a step takes on average."""
    return min(1.0, detector.batch_size / images)


def private_training(plan: Plan, budget: Budget | None = None) -> LocalTraining:
    """How a site takes its part of a round under ``plan.privacy``; ``budget`` is told before each, and refuses."""
    privacy = plan.privacy
    if privacy is None:
        raise SettingsError("the plan promises no privacy")

    def train(detector: Detector, images: Source, phase: Phase, seed: int) -> None:
        require_trainable(detector, plan)
        sampling = sampling_of(detector, images.count)
        noise = training_noise(privacy.epsilon, privacy.delta, sampling, detector.steps)
        if budget is not None:
            budget.spend(Spent(noise, sampling, phase.steps))
        (turn,) = phase.turns
        descend_privately(detector, images, phase, turn, privacy, sampling, noise)

    return train


def descend_privately(detector: Detector, images: Source, phase: Phase, turn: Turn, privacy: Privacy, sampling: float,
                      noise: float, rng: np.random.Generator | None = None) -> None:  # fmt: skip
    """Take ``phase``'s steps on ``detector``. ``rng``: for experiments; None for the system's random source."""
    rng = rng or np.random.default_rng(secrets.randbits(256))
    wrapped, optimiser = _private(detector, turn, privacy, noise, max(1.0, sampling * images.count), rng)
    rate = [group["lr"] for group in optimiser.param_groups]
    taken = [np.flatnonzero(rng.random(images.count) < sampling) for _ in range(phase.steps)]
    try:
        with closing(images.batches([Pick(int(n)) for n in numbers] for numbers in taken)) as batches:
            for step, batch in enumerate(batches):
                for group, full in zip(optimiser.param_groups, rate, strict=True):
                    group["lr"] = full * phase.rate(step / phase.steps)
                _step(turn, optimiser, batch)
    finally:
        wrapped.remove_hooks()
        for parameter in turn.parameters:
            parameter.grad = None
            for left in ("grad_sample", "summed_grad", "_forward_counter"):
                if hasattr(parameter, left):
                    delattr(parameter, left)


def _private(detector: nn.Module, turn: Turn, privacy: Privacy, noise: float, expected: float,
             rng: np.random.Generator) -> tuple[GradSampleModule, DPOptimizer]:  # fmt: skip
    """``detector`` with hooks that keep each image's gradient, and the optimiser that cuts and hides them."""
    try:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer
    except ImportError as error:
        raise MissingExtraError("opacus", extra="federated", purpose="private training") from error
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    wrapped = GradSampleModule(detector, loss_reduction="mean")
    optimiser = DPOptimizer(
        turn.optimiser(turn.parameters),
        noise_multiplier=noise,
        max_grad_norm=privacy.clip,
        expected_batch_size=expected,
        loss_reduction="mean",
        generator=generator,
    )
    return wrapped, optimiser


def _step(turn: Turn, optimiser: DPOptimizer, batch: list[Tensor]) -> None:
    optimiser.zero_grad()
    if batch:
        turn.loss(torch.cat(batch).requires_grad_(), {}).backward()  # PyTorch's hooks want such an input
    else:  # nobody was drawn: the noise is added all the same
        for parameter in turn.parameters:
            parameter.grad_sample = torch.zeros(0, *parameter.shape)  # type: ignore[attr-defined]
    optimiser.step()
