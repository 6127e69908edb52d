"""Images dealt into folds, so that each can be judged by the others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 10


def deal(groups: Sequence[Hashable], folds: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """The fold (n,) of each image, 0 to K - 1, for K = ``folds`` or the number of groups, where that is smaller.

    Images of one group, such as copies of each other, come into the same fold. The groups are dealt in an order drawn
    from ``seed``, each to the fold with the fewest images.

    >>> sorted(deal(["a", "a", "b", "c"], folds=2).tolist())
    [0, 0, 1, 1]
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    listed = list(members.values())
    mixed = [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]
    mixed.sort(key=len, reverse=True)  # the large ones first, so that the folds come out even
    sizes = np.zeros(max(1, min(folds, len(listed))), np.intp)
    fold = np.zeros(len(groups), np.intp)
    for group_members in mixed:
        smallest = int(sizes.argmin())
        fold[group_members] = smallest
        sizes[smallest] += len(group_members)
    return fold
