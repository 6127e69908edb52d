"""How many scores lie above a threshold, exactly, without keeping every score.

A camera's worth of pixels is billions of float32, but they are drawn from few values: there are 8.4 million
float32 numbers between x and 2x. So distinct values and their counts are kept, and memory stays bounded by
the range of the scores, not by the number of images. Where the thresholds are known beforehand, only the
counts between them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
_BUFFER = 1 << 22  # scores that wait before they are sorted: 16 MiB of float32
_RUNS = 8  # sorted runs that may stand side by side before they become one


class Counts(Protocol):
    """A bag of scores that can say how many are above, and at least, each threshold."""

    total: int

    def above(self, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many scores are ``> t``, and how many ``>= t``, for each of ``thresholds`` (T,), sorted upwards."""


class ScoreCounts:
    """Every distinct score with its count: thresholds may be asked later, and any number of times.

    >>> counts = ScoreCounts()
    >>> counts.add(np.array([1.0, 2.0, 2.0, 5.0]))
    >>> [c.tolist() for c in counts.above(np.array([2.0, 4.0]))]
    [[1, 1], [3, 1]]
    """

    def __init__(self) -> None:
        self.total = 0
        self._waiting: list[Floats] = []
        self._runs: list[tuple[Floats, Integers]] = []  # (distinct upwards, counts)

    def add(self, scores: Floats) -> None:
        """Put in ``scores`` (N,); the array is kept for a while and must not be changed afterwards."""
        self.total += len(scores)
        self._waiting.append(scores)
        if sum(map(len, self._waiting)) >= _BUFFER:
            self._settle()

    def above(self, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many scores are ``> t``, and how many ``>= t``, for each of ``thresholds`` (T,), sorted upwards."""
        self._settle()
        greater = np.zeros(len(thresholds), dtype=np.int64)
        at_least = np.zeros(len(thresholds), dtype=np.int64)
        for values, counts in self._runs:
            tail = np.append(np.cumsum(counts[::-1], dtype=np.int64)[::-1], 0)  # how many scores from here on
            place = np.searchsorted(values, thresholds, side="left")
            at_least += tail[place]
            present = np.append(values, np.nan)[place] == thresholds
            greater += tail[place + present]
        return greater, at_least

    @property
    def distinct(self) -> int:
        """How many value and count pairs are held now."""
        self._settle()
        return sum(len(values) for values, _ in self._runs)

    def _settle(self) -> None:
        if self._waiting:
            together = np.concatenate(self._waiting)
            self._waiting = []
            together.sort()
            self._runs.append(_counted_sorted(together))
        if len(self._runs) > _RUNS:
            self._runs = [_merged(self._runs)]


class FixedCounts:
    """Counts above thresholds that are known beforehand: memory for the thresholds alone.

    >>> counts = FixedCounts(np.array([2.0, 4.0]))
    >>> counts.add(np.array([1.0, 2.0, 2.0, 5.0]))
    >>> [c.tolist() for c in counts.above(np.array([2.0, 4.0]))]
    [[1, 1], [3, 1]]
    """

    def __init__(self, thresholds: Floats) -> None:
        self.total = 0
        self._thresholds = thresholds  # (T,) strictly upwards
        self._below = np.zeros(len(thresholds), dtype=np.int64)  # scores < t, where they were looked up
        self._upto = np.zeros(len(thresholds), dtype=np.int64)  # scores <= t, likewise
        self._gap = np.zeros(len(thresholds) + 1, dtype=np.int64)  # else: scores in (t_{k-1}, t_k]
        self._equal = np.zeros(len(thresholds), dtype=np.int64)  # and of those, scores = t_k

    def add(self, scores: Floats) -> None:
        """Put in ``scores`` (N,)."""
        self.total += len(scores)
        if len(self._thresholds) <= len(scores):  # look up the fewer in the more
            ordered = np.sort(scores)
            self._below += np.searchsorted(ordered, self._thresholds, side="left")
            self._upto += np.searchsorted(ordered, self._thresholds, side="right")
            return
        values, counts = _counted(scores)
        place = np.searchsorted(self._thresholds, values, side="left")
        np.add.at(self._gap, place, counts)
        present = np.append(self._thresholds, np.nan)[place] == values
        self._equal[place[present]] += counts[present]

    def above(self, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many scores are ``> t``, and how many ``>= t``; ``thresholds`` must be among those known, upwards."""
        place = np.searchsorted(self._thresholds, thresholds)
        upto = self._upto + np.cumsum(self._gap[:-1])
        below = self._below + np.cumsum(self._gap[:-1]) - self._equal
        return self.total - upto[place], self.total - below[place]


class KnownCounts:
    """Answers kept: cheap for the thresholds that were asked once, or for some of them."""

    def __init__(self, thresholds: Floats, bags: Sequence[Counts]) -> None:
        self.total = sum(bag.total for bag in bags)
        self._thresholds = thresholds  # (T,) strictly upwards
        self._greater = np.zeros(len(thresholds), dtype=np.int64)
        self._at_least = np.zeros(len(thresholds), dtype=np.int64)
        for bag in bags:
            greater, at_least = bag.above(thresholds)
            self._greater += greater
            self._at_least += at_least

    def above(self, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many scores are ``> t``, and how many ``>= t``; ``thresholds`` must be among those known, upwards."""
        if len(thresholds) == len(self._thresholds):
            return self._greater, self._at_least
        place = np.searchsorted(self._thresholds, thresholds)
        return self._greater[place], self._at_least[place]


def _counted(scores: Floats) -> tuple[Floats, Integers]:
    """Distinct scores, upwards, and how often each occurs."""
    return _counted_sorted(np.sort(scores))


def run_starts(ordered: Floats) -> NDArray[np.intp]:
    """The first place of each distinct score among sorted ones (N,), N >= 1.

    >>> run_starts(np.array([1.0, 1.0, 2.0])).tolist()
    [0, 2]
    """
    return np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)


def _counted_sorted(ordered: Floats) -> tuple[Floats, Integers]:
    if not len(ordered):
        return ordered, np.zeros(0, dtype=np.int64)
    starts = run_starts(ordered)
    return ordered[starts], _small(np.diff(np.append(starts, len(ordered))))


def _merged(runs: list[tuple[Floats, Integers]]) -> tuple[Floats, Integers]:
    """Several sorted runs as one."""
    together = np.concatenate([values for values, _ in runs])
    together.sort()
    values = together[np.append(True, together[1:] != together[:-1])]
    del together
    counts = np.zeros(len(values), dtype=np.int64)
    for part, number in runs:
        counts[np.searchsorted(values, part)] += number
    return values, _small(counts)


def _small(counts: NDArray[np.int64]) -> Integers:
    """The counts in the fewest bytes that hold them: most values of a map occur a few times."""
    return counts.astype(np.min_scalar_type(int(counts.max())))
