"""For each photograph the one that is most like it, by what is its own: exact, by blocks, without a loop over pairs.

Photographs of parts in the same place are all alike, so what they share must go first. Each photograph is a vector of D
numbers; the mean of its category and the K principal components in which most of them differ (place, kind of product,
shade) are taken off. What is left, brought to length 1, is the photograph's own, and the cosine of two of them is their
*similarity*. It is asked of two descriptions:

- thumbnails of 32 x 32 luma, each first brought to mean 0 and variance 1, which takes light and contrast off; in the
  eight turns and mirrorings of a square as well. They know a photograph that was saved again, in another size or light.
- features of the backbone. They know a part that was photographed twice, moved or cropped a little.

Unit vectors u, v have |u - v|^2 = 2 - 2 cos, and an orthogonal projection P to d = 64 numbers never makes a distance
longer, so cos >= c needs |Pu - Pv|^2 <= 2 - 2c. Only such pairs are compared in full.

n, m: photographs on the two sides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indices = NDArray[np.intp]
Thumbs = NDArray[np.float16]  # (n, 32, 32)

FEW = 8  # photographs: below, nothing is known of what they share
_FEW_LEAST = 0.9995  # similarity from which two of so few are near copies
_ENOUGH = 16  # components taken off, from which on the least similarity falls no further
_PER_COMPONENT = 10  # photographs for each of them
_KEPT = 64  # numbers of the projection
_BASIS = 1024  # photographs that components are learned from
_ROWS, _COLUMNS = 1024, 8192  # of a block
_PAIRS = 8192  # compared together
_DENSE = 16  # a block with more than one candidate in so many pairs is multiplied as a whole
_BLANK = 1.0  # grey levels of standard deviation: below, there is nothing to compare
_FLOOR = 0.1  # of the median deviation: a feature that hardly varies is not blown up beyond this

TURNS: dict[str, Callable[[Thumbs], Thumbs]] = {
    "": lambda t: t,
    "mirrored": lambda t: t[:, :, ::-1],
    "upside down, mirrored": lambda t: t[:, ::-1],
    "turned by 180°": lambda t: t[:, ::-1, ::-1],
    "turned by 90°, mirrored": lambda t: t.transpose(0, 2, 1),
    "turned by 90° to the left": lambda t: t.transpose(0, 2, 1)[:, ::-1],
    "turned by 90° to the right": lambda t: t.transpose(0, 2, 1)[:, :, ::-1],
    "turned by 270°, mirrored": lambda t: t.transpose(0, 2, 1)[:, ::-1, ::-1],
}


class Side(ABC):
    """The photographs of one category, described in one way and ready to be compared.

    The vectors are made when needed; only their projections (256 bytes a photograph) are kept meanwhile.
    """

    turns: tuple[str, ...] = ("",)
    most_common: int  # components taken off, at most
    least_mean: float  # similarity of near copies where the mean alone could be taken off
    least_all: float  # the same with enough components

    def __init__(self, members: Indices) -> None:
        few = len(members) < FEW
        common = 0 if few else min(self.most_common, len(members) // _PER_COMPONENT)
        reached = min(1.0, common / _ENOUGH)
        self.least = _FEW_LEAST if few else self.least_mean + (self.least_all - self.least_mean) * reached
        sample = self.described(members[_spaced(len(members), _BASIS)], "")
        self.mean = np.zeros_like(sample[0]) if few else sample.mean(axis=0)
        axes = np.linalg.svd(sample - self.mean, full_matrices=False)[2]
        self.common, self.basis = axes[:common], axes[common : common + _KEPT].T

    @abstractmethod
    def described(self, indices: Indices, turn: str) -> Vectors:
        """(n, D) float32, a new array; rows of zeros where there is nothing to compare."""

    def own(self, indices: Indices, turn: str = "") -> Vectors:
        """(n, D) float32: what is a photograph's own, of length 1; zeros where there is nothing to compare."""
        vectors = self.described(indices, turn)
        blank = ~vectors.any(axis=1, keepdims=True)
        vectors -= self.mean
        vectors -= (vectors @ self.common.T) @ self.common
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where(blank, np.float32(0), vectors / np.maximum(length, np.float32(1e-6)))

    def projected(self, indices: Indices, turn: str = "") -> Vectors:
        """(n, d): their projections."""
        starts = range(0, len(indices), _COLUMNS)
        return np.concatenate([self.own(indices[i : i + _COLUMNS], turn) @ self.basis for i in starts])


class ThumbSide(Side):
    """Photographs by their thumbnails.

    With 31 and 32 components taken off, two parts reached at most 0.54 (MVTec transistor) and 0.70 (LOCO juice bottle); a
    photograph saved again as JPEG of quality 50 kept at least 0.90, at half its size 0.82, with a crop of 1 % only 0.24.
    """

    turns = tuple(TURNS)
    most_common = 32
    least_mean, least_all = 0.95, 0.8

    def __init__(self, thumbs: Thumbs, members: Indices) -> None:
        self.thumbs = thumbs
        super().__init__(members)

    def described(self, indices: Indices, turn: str) -> Vectors:
        """Each thumbnail with mean 0 and variance 1; zeros where it is blank."""
        turned = TURNS[turn](self.thumbs[indices])
        flat = turned.reshape(len(turned), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(flat).mean(axis=1, keepdims=True))
        return np.where(spread < _BLANK, np.float32(0), flat / np.maximum(spread, _BLANK))


class FeatureSide(Side):
    """Photographs by their descriptors (n, D), each number scaled by its deviation in the category.

    With andon-s and 16 components taken off, two parts reached at most 0.56 (MVTec transistor) and 0.61 (LOCO juice
    bottle). Of 140 pairs found in the magnetic tiles, 136 were taken within 200 shots of each other: the same tile.
    """

    most_common = 16
    least_mean, least_all = 0.97, 0.7

    def __init__(self, descriptors: Vectors, members: Indices) -> None:
        self.descriptors = descriptors
        deviation = descriptors[members[_spaced(len(members), _BASIS)]].std(axis=0)
        self.scale = np.maximum(deviation, max(_FLOOR * float(np.median(deviation)), 1e-12))
        super().__init__(members)

    def described(self, indices: Indices, turn: str) -> Vectors:
        """The scaled descriptors; turned photographs are not known to them."""
        return np.asarray(self.descriptors[indices] / self.scale, np.float32)


def _spaced(count: int, most: int) -> Indices:
    """At most ``most`` indices below ``count``, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def nearest(side: Side, rows: Indices, columns: Indices) -> tuple[Indices, Vectors, list[str]]:
    """For each of ``rows`` its most similar of ``columns``, itself left out: index, similarity, and the turn.

    The index is -1 where none is a near copy.
    """
    partner = np.full(len(rows), -1)
    best = np.full(len(rows), side.least, np.float32)
    turns = [""] * len(rows)
    if not len(rows) or not len(columns):
        return partner, best, turns
    low = side.projected(rows)
    for turn in side.turns:
        for i, j in _candidates(low, side.projected(columns, turn), side.least):
            other = rows[i] != columns[j]
            for at, of, value in _closest(side, rows, columns, turn, i[other], j[other]):
                if value > best[at]:
                    partner[at], best[at], turns[at] = columns[of], value, turn
    return partner, np.minimum(best, 1), turns


def _candidates(rows: Vectors, columns: Vectors, least: float) -> Iterator[tuple[Indices, Indices]]:
    """The pairs, as two arrays of indices, that may have a cosine of ``least``: those of one block after the other."""
    half_rows, half_columns = (0.5 * np.square(side).sum(axis=1, keepdims=True) for side in (rows, columns))
    left_side = np.concatenate([rows, np.ones_like(half_rows)], 1)
    right_side = np.concatenate([columns, -half_columns], 1)  # a product is then Pu Pv - |Pv|^2 / 2
    enough = half_rows - np.float32(1 - least + 1e-4)
    for top in range(0, len(rows), _ROWS):
        for left in range(0, len(columns), _COLUMNS):
            i, j = slice(top, top + _ROWS), slice(left, left + _COLUMNS)
            row, column = np.nonzero(left_side[i] @ right_side[j].T >= enough[i])
            if row.size:
                yield top + row, left + column


def _closest(
    side: Side, rows: Indices, columns: Indices, turn: str, i: Indices, j: Indices
) -> Iterator[tuple[int, int, float]]:
    """For each row among the pairs (i, j) the column with the largest cosine, and that."""
    if not i.size:
        return
    (some_rows, at), (some_columns, of) = (np.unique(index, return_inverse=True) for index in (i, j))
    left, right = side.own(rows[some_rows]), side.own(columns[some_columns], turn)
    if i.size * _DENSE > len(some_rows) * len(some_columns):
        values = (left @ right.T)[at, of]
    else:
        parts = (slice(k, k + _PAIRS) for k in range(0, i.size, _PAIRS))
        values = np.concatenate([np.einsum("pd,pd->p", left[at[part]], right[of[part]]) for part in parts])
    order = np.lexsort((-j, values, i))
    last = np.append(np.diff(i[order]) != 0, True)
    for k in order[last]:
        yield int(i[k]), int(j[k]), float(values[k])
