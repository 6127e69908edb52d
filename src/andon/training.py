"""Gradient steps: the ``loss*`` of ``observe* -> loss* -> close``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from andon.models.base import Detector, Look, Phase
from andon.models.trained import seeded

Take = Callable[[Sequence[int]], Tensor]  # numbers of training images -> (B, 3, H, W)
Progress = Callable[[str, int, int], None]  # phase, done, total


def train(detector: Detector, take: Take, count: int, say: Progress) -> list[float]:
    """The losses of training ``detector`` on ``count`` images, in an order drawn from its seed; all its phases.

    Before every step the global generator is seeded with the detector's seed and the step's number.
    """
    losses: list[float] = []
    for number, phase in enumerate(detector.phases()):
        if isinstance(phase, Look):
            _look(detector, phase, take, count, say)
        else:
            losses += _train(detector, phase, number, take, count, say)
    return losses


@torch.no_grad()
def _look(detector: Detector, phase: Look, take: Take, count: int, say: Progress) -> None:
    for start in range(0, count, detector.batch_size):
        numbers = range(start, min(start + detector.batch_size, count))
        phase.look(take(numbers))
        say(phase.name, numbers.stop, count)


def _train(
    detector: Detector, phase: Phase, number: int, take: Take, count: int, say: Progress
) -> list[float]:
    optimisers = [turn.optimiser(turn.parameters) for turn in phase.turns]
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    losses = []
    for step in range(phase.steps):
        images = take(_batch(step, detector, number, count))
        frozen = detector.frozen(images)
        for turn, optimiser, initial in zip(phase.turns, optimisers, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, initial, strict=True):
                group["lr"] = rate * phase.rate(step / phase.steps)
            with seeded(_seed(detector.seed, number, step)):
                loss = turn.loss(images, frozen)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(float(loss.detach()))
        say(phase.name, step + 1, phase.steps)
    return losses


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _batch(step: int, detector: Detector, phase: int, count: int) -> list[int]:
    """The images of a step: every epoch is a permutation of its own; a batch may span two."""
    positions = range(step * detector.batch_size, (step + 1) * detector.batch_size)
    orders = {
        epoch: np.random.default_rng([detector.seed, phase, epoch]).permutation(count)
        for epoch in {position // count for position in positions}
    }
    return [int(orders[position // count][position % count]) for position in positions]
