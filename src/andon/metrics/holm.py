"""P-values of several tests, corrected so that one false alarm among all of them stays as rare as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from andon.errors import MetricError


@overload
def holm(p_values: Sequence[float]) -> list[float]: ...
@overload
def holm(p_values: Sequence[float | None]) -> list[float | None]: ...
def holm(p_values: Sequence[float | None]) -> list[float] | list[float | None]:
    """The p-values after Holm's step-down correction, in the order given; None stays None and is no comparison.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    The k-th smallest of c is multiplied by c - k + 1, never falls below the one before it, and ends at 1.

    >>> holm([0.01, 0.04, 0.03, None])
    [0.03, 0.06, 0.06, None]
    """
    given = [p for p in p_values if p is not None]
    if any(not 0 <= p <= 1 for p in given):
        raise MetricError(f"a p-value lies between 0 and 1; got {given}")
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[place] = highest
    return corrected
