"""Outlines of regions: a mask -> polygons along its pixels' edges, fewer corners, and back to a mask.

A point is (x, y): columns first, as drawing tools have it, in pixels from the upper left corner of the image, so
that the pixel in row r and column c is the square from (c, r) to (c + 1, r + 1). A ring is an array (N, 2) of points
whose last joins its first. Outer rings run clockwise as seen on a screen, holes the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError

Ring = NDArray[np.float64]  # (N, 2) of x, y
Mask = NDArray[np.bool_]  # (H, W)

_STEP = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # right, down, left, up, in x, y
_AREA_KEPT = 0.9  # simplifying changes a ring's area by at most a tenth
_FINEST = 0.05  # pixels; below this tolerance a ring is left as it is


@dataclass(frozen=True, eq=False)
class Outline:
    """The boundary of one region: its outer ring, and one ring for each hole in it."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


def trace(mask: NDArray[Any]) -> list[Outline]:
    """One outline for each region of ``mask`` (H, W) bool, in the order of their first pixels, row by row.

    Exact: :func:`fill` of all its rings gives the mask back. Pixels that touch at a corner belong together (8
    neighbours, as in :func:`andon.components.label`), so a ring may pass the same point twice.

    Raises :class:`SettingsError` for a mask that is not (H, W) bool.

    >>> trace(np.array([[False, True], [False, True]]))[0].outer.tolist()
    [[1.0, 0.0], [2.0, 0.0], [2.0, 2.0], [1.0, 2.0]]
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise SettingsError(
            f"a mask must be (H, W) bool, not {mask.shape} {mask.dtype}: compare it first, e.g. mask > 0"
        )
    rings = _rings(mask)
    outer = [ring for ring in rings if area(ring) > 0]
    holes: list[list[Ring]] = [[] for _ in outer]
    for ring in rings:
        if area(ring) < 0:
            holes[_owner(ring, outer)].append(ring)
    return [Outline(ring, tuple(inside)) for ring, inside in zip(outer, holes, strict=True)]


def area(ring: Ring) -> float:
    """The area inside ``ring`` in square pixels, negative where it runs anticlockwise (the shoelace formula)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def simplify(ring: Ring, tolerance: float) -> Ring:
    """``ring`` with fewer corners, none of those left out further than ``tolerance`` pixels from the new ring.

    Douglas and Peucker 1973, from the ring's first corner and the one farthest from it. Where that would change the
    area by more than a tenth (of small and thin regions), the tolerance is halved until it does not.

    >>> stairs = trace(np.tri(40, dtype=bool))[0].outer
    >>> len(stairs), len(simplify(stairs, 1.0))
    (82, 3)
    """
    if not tolerance >= 0:
        raise SettingsError(f"tolerance: expected pixels, 0 or more, got {tolerance}")
    whole = area(ring)
    while tolerance >= _FINEST:
        fewer = ring[_kept(ring, tolerance)]
        if len(fewer) > 2 and _AREA_KEPT <= area(fewer) / whole <= 1 / _AREA_KEPT:
            return fewer
        tolerance /= 2
    return ring


def joined(outline: Outline) -> Ring:
    """One ring for a region with holes: each hole is reached over a bridge of no width, there and back.

    For tools and formats that know no holes. It encloses the same pixels, as the way back undoes the way there.
    """
    ring = outline.outer
    for hole in outline.holes:
        apart = ((ring[:, None] - hole[None]) ** 2).sum(axis=2)  # (N, corners of the hole)
        here, there = np.unravel_index(int(apart.argmin()), apart.shape)
        round_trip = np.concatenate([np.roll(hole, -int(there), axis=0), hole[there][None], ring[here][None]])
        ring = np.insert(ring, int(here) + 1, round_trip, axis=0)
    return ring


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> Mask:
    """The mask (H, W) of the pixels whose middle lies inside an odd number of ``rings``.

    >>> fill([np.array([[1.0, 0], [3, 0], [3, 2], [1, 2]])], (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for ring in rings:
        rows, columns = _crossings(ring, height)
        np.add.at(crossings, (rows, np.clip(np.ceil(columns - 0.5), 0, width).astype(np.intp)), 1)
    return (np.cumsum(crossings[:, :width], axis=1) % 2).astype(np.bool_)


def _rings(mask: Mask) -> list[Ring]:
    """Every boundary of ``mask``, with the region on the right hand of who walks along it."""
    stride = mask.shape[1] + 1  # points in a row
    edges = _edges(mask, stride)  # 4 x (point where it starts) + direction, sorted
    if not len(edges):
        return []
    directions = edges % 4
    ends = edges // 4 + _STEP[directions] @ np.array([1, stride])
    following = np.full(len(edges), -1)
    for turn in (1, 0, 3):  # right, straight on, left: the last that is there holds, so left comes first
        wanted = 4 * ends + (directions + turn) % 4
        at = np.minimum(np.searchsorted(edges, wanted), len(edges) - 1)
        following = np.where(edges[at] == wanted, at, following)
    return [_corners(edges[walk], stride) for walk in _walks(following.tolist())]


def _edges(mask: Mask, stride: int) -> NDArray[np.int64]:
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    found = []
    sides = ((0, padded[:-2, 1:-1], 0), (1, padded[1:-1, 2:], 1), (2, padded[2:, 1:-1], 1 + stride),
             (3, padded[1:-1, :-2], stride))  # fmt: skip
    for (
        direction,
        neighbour,
        start,
    ) in sides:  # above, right, below, left; `start` from the pixel's upper left corner
        rows, columns = np.nonzero(inside & ~neighbour)
        found.append(4 * (rows * stride + columns + start) + direction)
    return np.sort(np.concatenate(found))


def _walks(following: list[int]) -> list[list[int]]:
    """The cycles of a permutation, each from its lowest member."""
    walks, seen = [], [False] * len(following)
    for first in range(len(following)):
        if seen[first]:
            continue
        walk, at = [], first
        while not seen[at]:
            seen[at] = True
            walk.append(at)
            at = following[at]
        walks.append(walk)
    return walks


def _corners(walk: NDArray[np.int64], stride: int) -> Ring:
    """The points of a walk along edges where it turns."""
    turns = walk[walk % 4 != np.roll(walk, 1) % 4] // 4
    return np.stack([turns % stride, turns // stride], axis=1).astype(np.float64)


def _owner(hole: Ring, outer: Sequence[Ring]) -> int:
    """Which of the rings of ``outer`` the hole lies in: the smallest one around the pixel left of its first edge."""
    row = int(hole[0, 1])  # the first edge of a walk starts at its topmost, leftmost point
    column = int(hole[0, 0])
    around = [
        (area(ring), number) for number, ring in enumerate(outer) if _is_inside(column - 0.5, row + 0.5, ring)
    ]
    return min(around)[1]


def _is_inside(x: float, y: float, ring: Ring) -> bool:
    ends = np.roll(ring, -1, axis=0)
    across = (ring[:, 1] <= y) != (ends[:, 1] <= y)  # the ring's edges are level or upright
    return bool(np.count_nonzero(across & (ring[:, 0] < x)) % 2)


def _kept(ring: Ring, tolerance: float) -> NDArray[np.intp]:
    """The numbers of the corners that Douglas and Peucker's method keeps."""
    closed = np.concatenate([ring, ring[:1]])
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    keep = np.zeros(len(closed), dtype=np.bool_)
    keep[[0, far]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        apart = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(apart.argmax())
        if apart[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return np.flatnonzero(keep[:-1])


def _distances(points: Ring, start: Ring, end: Ring) -> NDArray[np.float64]:
    """From each of ``points`` to the segment from ``start`` to ``end``."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.hypot(*(points - start - share[:, None] * along).T)


def _crossings(ring: Ring, height: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where the edges of ``ring`` cross the middle lines of rows: rows (n,), and x (n,)."""
    start, end = ring, np.roll(ring, -1, axis=0)
    top, bottom = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(top - 0.5), 0, height).astype(np.intp)
    number = np.clip(np.ceil(bottom - 0.5), 0, height).astype(np.intp) - first
    edge = np.repeat(np.arange(len(ring)), number)
    rows = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number)
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    return rows, start[edge, 0] + (rows + 0.5 - start[edge, 1]) * slope
