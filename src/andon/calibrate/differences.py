"""Whether groups of good images differ in their scores at all: is a threshold for each of them worth its images?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from andon.metrics.holm import holm
from andon.metrics.kruskal import kruskal_wallis

LEAST_IN_GROUP = 5  # scores; below, the test's approximation is not good
LEVEL = 0.05


@dataclass(frozen=True)
class Differences:
    """What a test of all groups at once found, and of each two of them."""

    p_value: float | None  # of Kruskal and Wallis over all groups; None with fewer than two large enough
    medians: dict[str, float]  # raw score, of the groups compared
    pairs: dict[tuple[str, str], float]  # p-value of each two groups, after Holm's correction
    left_out: tuple[str, ...]  # groups too small to compare

    @property
    def statement(self) -> str:
        """The finding in a sentence."""
        if self.p_value is None:
            return f"whether the groups differ cannot be tested: two groups of at least {LEAST_IN_GROUP} images are needed"
        p = f"p {'< 0.0001' if self.p_value < 1e-4 else f'= {self.p_value:.2g}'}, Kruskal-Wallis"
        if self.p_value > LEVEL:
            return f"no sign that the good images of the {len(self.medians)} groups score differently ({p})"
        unlike = sorted((p, pair) for pair, p in self.pairs.items() if p <= LEVEL)
        said = f"the good images of the {len(self.medians)} groups score differently ({p})"
        if not unlike:
            return f"{said}, though of no two groups alone can it be said (Holm's correction)"
        first, second = unlike[0][1]
        return f"{said}; most clearly {first} and {second}; {len(unlike)} of {len(self.pairs)} pairs (Holm's correction)"


def group_differences(scores: Mapping[str, Sequence[float]]) -> Differences:
    """The test of nominal ``scores`` by group: Kruskal and Wallis over all, and over each two with Holm's correction.

    Groups of fewer than five scores are left out. The test is one of location: groups that differ in their spread alone
    may go unnoticed.

    >>> group_differences({"day": range(20), "night": range(30, 50)}).statement
    "the good images of the 2 groups score differently (p < 0.0001, Kruskal-Wallis); most clearly day and night; 1 of 1 pairs (Holm's correction)"
    """
    compared = {name: found for name, found in scores.items() if len(found) >= LEAST_IN_GROUP}
    pairs = list(combinations(compared, 2))
    corrected = holm([kruskal_wallis([compared[a], compared[b]])[1] for a, b in pairs])
    return Differences(
        p_value=kruskal_wallis(list(compared.values()))[1] if pairs else None,
        medians={name: float(np.median(found)) for name, found in compared.items()},
        pairs=dict(zip(pairs, corrected, strict=True)),
        left_out=tuple(name for name in scores if name not in compared),
    )
