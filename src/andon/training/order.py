"""Which images a step takes, and from which seed it draws: functions of the seed, the phase and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from andon.training.images import Pick


def seed_of(*numbers: int) -> int:
    """A seed for PyTorch that depends on all of ``numbers``."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def batches_of(
    seed: int, phase: int, count: int, batch_size: int, first: int, last: int
) -> Iterator[list[Pick]]:
    """The images of the steps from ``first`` up to, not including, ``last``.

    Every epoch is a permutation of its own; a batch may span two.

    >>> [[pick.number for pick in picks] for picks in batches_of(0, 0, 3, 2, 0, 3)]
    [[2, 0], [1, 1], [2, 0]]
    """
    for step in range(first, last):
        positions = range(step * batch_size, (step + 1) * batch_size)
        yield [Pick(int(_epoch(seed, phase, p // count, count)[p % count]), p // count) for p in positions]


@lru_cache(maxsize=4)
def _epoch(seed: int, phase: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, phase, epoch]).permutation(count)
