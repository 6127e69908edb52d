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
_STRETCH = 1 << 21  # values of the longest run that are merged at a time
_PER_THRESHOLD = 4  # scores that wait for each known threshold
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
    """Counts above thresholds that are known beforehand: memory for a few times the thresholds.

    >>> counts = FixedCounts(np.array([2.0, 4.0]))
    >>> counts.add(np.array([1.0, 2.0, 2.0, 5.0]))
    >>> [c.tolist() for c in counts.above(np.array([2.0, 4.0]))]
    [[1, 1], [3, 1]]
    """

    def __init__(self, thresholds: Floats) -> None:
        self.total = 0
        self._thresholds = thresholds  # (T,) strictly upwards
        self._below = np.zeros(len(thresholds), dtype=np.int64)  # scores < t
        self._upto = np.zeros(len(thresholds), dtype=np.int64)  # scores <= t
        self._waiting: list[Floats] = []

    def add(self, scores: Floats) -> None:
        """Put in ``scores`` (N,); the array is kept for a while and must not be changed afterwards."""
        self.total += len(scores)
        self._waiting.append(scores)
        if sum(map(len, self._waiting)) >= max(_BUFFER, _PER_THRESHOLD * len(self._thresholds)):
            self._settle()

    def above(self, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many scores are ``> t``, and how many ``>= t``; ``thresholds`` must be among those known, upwards."""
        self._settle()
        place = np.searchsorted(self._thresholds, thresholds)
        return self.total - self._upto[place], self.total - self._below[place]

    def _settle(self) -> None:
        """Look the thresholds up in the scores that wait: the more of these at once, the less it costs for each."""
        if self._waiting:
            ordered = np.concatenate(self._waiting)
            self._waiting = []
            ordered.sort()
            self._below += np.searchsorted(ordered, self._thresholds, side="left")
            self._upto += np.searchsorted(ordered, self._thresholds, side="right")


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


def run_starts(ordered: NDArray[Any]) -> NDArray[np.intp]:
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
    """Several sorted runs as one, a stretch of values at a time: memory for the result and one stretch."""
    longest = max((values for values, _ in runs), key=len)
    bounds = longest[_STRETCH::_STRETCH]
    places = [np.concatenate([[0], np.searchsorted(v, bounds), [len(v)]]) for v, _ in runs]
    merged = [
        _summed([(v[p[k] : p[k + 1]], c[p[k] : p[k + 1]]) for (v, c), p in zip(runs, places)])
        for k in range(len(bounds) + 1)
    ]
    return np.concatenate([values for values, _ in merged]), _small(np.concatenate([c for _, c in merged]))


def _summed(parts: list[tuple[Floats, Integers]]) -> tuple[Floats, Integers]:
    """Distinct values of sorted parts, upwards, and the sum of their counts."""
    together, counts = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    if together.dtype == np.float32 and len(counts) and int(counts.max()) < 1 << 32:
        packed = (_ordered_bits(together).astype(np.uint64) << np.uint64(32)) | counts.astype(np.uint64)
        packed.sort()  # one sort of whole numbers instead of a search for every value
        bits, counts = (packed >> np.uint64(32)).astype(np.uint32), packed & np.uint64(0xFFFFFFFF)
        starts = run_starts(bits) if len(bits) else np.zeros(0, dtype=np.intp)
        return _from_ordered_bits(bits[starts]), np.add.reduceat(counts, starts).astype(np.int64)
    order = np.argsort(together, kind="stable")
    together, counts = together[order], counts[order].astype(np.int64)
    starts = run_starts(together) if len(together) else np.zeros(0, dtype=np.intp)
    return together[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _ordered_bits(values: Floats) -> NDArray[np.uint32]:
    """float32 as whole numbers in the same order; -0 counts as 0.

    >>> bits = _ordered_bits(np.array([-2.0, -0.5, -0.0, 0.0, 3.0], dtype=np.float32))
    >>> bool((np.diff(bits.astype(np.int64)) >= 0).all()), _from_ordered_bits(bits).tolist()
    (True, [-2.0, -0.5, 0.0, 0.0, 3.0])
    """
    bits = (values + np.float32(0)).view(np.uint32)
    return bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _from_ordered_bits(bits: NDArray[np.uint32]) -> Floats:
    """The float32 that :func:`_ordered_bits` made whole numbers of."""
    values: Floats = (bits ^ np.where(bits >> 31, np.uint32(0x80000000), np.uint32(0xFFFFFFFF))).view(
        np.float32
    )
    return values


def _small(counts: NDArray[np.int64]) -> Integers:
    """The counts in the fewest bytes that hold them: most values of a map occur a few times."""
    return counts.astype(np.min_scalar_type(int(counts.max())))
