"""Connected components of a mask, and where one lies in its image.

Runs of set pixels are found row by row, joined with the runs they touch in the next row, and the joins are
resolved by union-find with path halving over whole arrays (He, Chao, Suzuki 2008, "A run-based two-scan
labeling algorithm"; the joining here is done for all runs at once).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError


def label(mask: NDArray[Any], connectivity: int = 8) -> tuple[NDArray[np.int32], int]:
    """Component numbers (H, W) int32, 0 outside and 1 to count inside, and the count.

    Components are numbered in the order of their first pixel, row by row. ``mask``: (H, W) bool.
    ``connectivity``: 8 joins pixels that touch at a corner, 4 only those that share an edge.

    Raises :class:`SettingsError` for another connectivity or a mask that is not (H, W) bool.

    >>> labels, count = label(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], dtype=bool))
    >>> count
    2
    >>> labels.tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 2, 0]]
    """
    if connectivity not in (4, 8):
        raise SettingsError(f"connectivity must be 4 or 8, not {connectivity!r}")
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise SettingsError(
            f"a mask must be (H, W) bool, not {mask.shape} {mask.dtype}: compare it first, e.g. mask > 0"
        )
    starts, ends = _runs(mask)
    first, second = _touching(starts, ends, mask.shape[1] + 1, reach=1 if connectivity == 8 else 0)
    roots = _join(len(starts), first, second)
    distinct, numbers = np.unique(roots, return_inverse=True)
    labels = np.zeros(mask.shape, dtype=np.int32)
    labels[mask] = np.repeat((numbers + 1).astype(np.int32), ends - starts)
    return labels, len(distinct)


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one-past-last position of every run, in rows padded by one empty column and laid end to end."""
    height, width = mask.shape
    padded = np.zeros(height * (width + 1) + 1, dtype=np.int8)
    padded[1:].reshape(height, width + 1)[:, :width] = mask
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return edges[0::2], edges[1::2]


def _touching(
    starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int, reach: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (run, run of the next row) that overlap when the first is widened by ``reach`` pixels."""
    lowest = np.searchsorted(ends, starts + (stride - reach), side="right")
    highest = np.searchsorted(starts, ends + (stride + reach), side="left")
    number = np.maximum(highest - lowest, 0)
    first = np.repeat(np.arange(len(starts)), number)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(number) - number, number)
    return first, np.repeat(lowest, number) + offset


def _join(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest run of each run's component, given the pairs of runs that touch."""
    parent = np.arange(count)
    while len(first):
        low, high = np.minimum(parent[first], parent[second]), np.maximum(parent[first], parent[second])
        open_ = low != high
        first, second, low, high = first[open_], second[open_], low[open_], high[open_]
        np.minimum.at(parent, high, low)
        while True:  # every run points at its root
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
    return parent


def third(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Row and column, 0 to 2, of the cell of a 3 x 3 grid in which the middle of a box lies.

    ``box``: top, left, bottom, right; ``size``: (H, W) of the image, at least 1 each.

    >>> third((0, 90, 10, 100), (100, 100))
    (0, 2)
    """
    top, left, bottom, right = box
    return min(2, int(1.5 * (top + bottom) / size[0])), min(2, int(1.5 * (left + right) / size[1]))
