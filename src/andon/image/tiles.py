"""A photograph in overlapping tiles, a few at a time, and what is found in each of them as one picture again.

Nothing here ever holds all tiles: they are cut out of the photograph's bytes when they are asked for, and laid down row
by row as their answers come. So memory is the photograph's and a few tiles', however large the photograph is.

Shapes: (H, W) a tile, (h, w) the map of a tile, C channels, N tiles; the canvas is what the tiles are cut from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from andon.image.resample import resize_float

if TYPE_CHECKING:
    from andon.image.prepared import Prepared

ALIGNED = 32  # pixels, the stride of the deepest feature map
MARGIN = 3 / 8  # of the overlap, at each of the two borders; the quarter between them is blended
BATCH_PIXELS = 4 * 256 * 256  # of the tiles that one run of a network takes together; a tile at least


@dataclass(frozen=True)
class Tiles:
    """The tiles of one photograph, none of which is made before it is asked for.

    make: the number of a tile, from 0 to ``count`` - 1 -> the tile, (3, H, W) float32 in [0, 1].
    """

    count: int
    make: Callable[[int], NDArray[np.float32]]

    def batches(self, most: int) -> Iterator[NDArray[np.float32]]:
        """All tiles in order, ``most`` or fewer together, (n, 3, H, W)."""
        for start in range(0, self.count, most):
            yield self.chosen(range(start, min(start + most, self.count)))

    def chosen(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """The tiles of these numbers, (n, 3, H, W)."""
        if len(numbers) == 1:  # most photographs are one image: no copy
            return self.make(numbers[0])[None]
        return np.stack([self.make(number) for number in numbers])


class Mosaic:
    """What is found in each tile of a photograph, as one picture whose extent is exactly the photograph.

    Tiles overlap; where they do, their answers are blended by weights that sum to 1. Besides the picture only the
    rows of the canvas that the next tiles still reach are held.
    """

    def __init__(self, prepared: Prepared, channels: int, *, as_bytes: bool = False) -> None:
        """``as_bytes``: values from 0 to 1 are kept as 0 to 255."""
        top, left, bottom, right = prepared.content
        self._prepared, self._as_bytes = prepared, as_bytes
        self._down = tile_weights(prepared.tops, prepared.size[0], prepared.margin)
        self._across = tile_weights(prepared.lefts, prepared.size[1], prepared.margin)
        width = prepared.lefts[-1] + prepared.size[1]
        self._band = np.zeros((channels, prepared.size[0], width), np.float32)
        self.picture = np.empty((channels, bottom - top, right - left), np.uint8 if as_bytes else np.float32)
        self._laid = 0

    def add(self, answers: NDArray[np.float32]) -> None:
        """Lay down the answers (n, C, h, w) for the next n tiles, in the order of :meth:`Prepared.batches`."""
        columns, (height, width) = self._prepared.lefts, self._prepared.size
        for answer in answers:
            row, column = divmod(self._laid, len(columns))
            left, down, across = columns[column], self._down[row][:, None], self._across[column]
            for plane, values in zip(self._band, answer, strict=True):
                plane[:, left : left + width] += resize_float(values, (height, width)) * down * across
            self._laid += 1
            if column == len(columns) - 1:
                self._settle(row)

    def _settle(self, row: int) -> None:
        """Keep the rows of the canvas that no later tile reaches, and make room for the next row of tiles."""
        tops, height = self._prepared.tops, self._prepared.size[0]
        done = height if row == len(tops) - 1 else tops[row + 1] - tops[row]
        top, left, bottom, right = self._prepared.content
        first, last = max(tops[row], top), min(tops[row] + done, bottom)
        if first < last:
            values = self._band[:, first - tops[row] : last - tops[row], left:right]
            self.picture[:, first - top : last - top] = to_bytes(values) if self._as_bytes else values
        self._band[:, : height - done] = self._band[:, done:]
        self._band[:, height - done :] = 0


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values from 0 to 1 as 0 to 255; what lies outside is cut off."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def tile_offsets(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Where tiles start so that they cover ``length`` evenly, neighbours sharing at least ``overlap``.

    All but the last start at multiples of :data:`ALIGNED`, where the overlap leaves room for that: networks look at
    every 8th or 16th pixel, and two tiles that look at the same pixels agree where they overlap.

    >>> tile_offsets(600, 256, 0.25)
    (0, 192, 344)
    """
    if length <= tile:
        return (0,)
    reach, last = math.floor(tile * (1 - overlap)), length - tile
    grid = ALIGNED if reach >= ALIGNED else 1
    count = 1 + math.ceil(last / (reach // grid * grid))
    starts = {min(-(-index * last // (count - 1) // grid) * grid, last) for index in range(count)}
    return tuple(sorted(starts))


@lru_cache(maxsize=16)
def tile_weights(offsets: tuple[int, ...], length: int, margin: int) -> tuple[NDArray[np.float32], ...]:
    """Each tile's weights (length,) along one axis: a squared sine, divided so that they sum to 1.

    ``margin``: pixels at an end of a tile that do not count where a neighbour has the same place, since a network sees
    too little around them; the first tile's start and the last one's end are the photograph's own.
    """
    window = np.zeros(length)
    inner = length - 2 * margin
    window[margin : length - margin] = np.sin(np.pi * (np.arange(inner) + 0.5) / inner) ** 2
    windows = [window.copy() for _ in offsets]
    windows[0][:margin], windows[-1][length - margin :] = (
        1,
        1,
    )  # nobody else answers for the photograph's border
    total = np.zeros(offsets[-1] + length)
    for offset, window in zip(offsets, windows, strict=True):
        total[offset : offset + length] += window
    return tuple(
        (window / total[offset : offset + length]).astype(np.float32)
        for window, offset in zip(windows, offsets, strict=True)
    )
