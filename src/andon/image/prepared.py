"""One photograph as the network takes it, and the way back.

Shapes: (H0, W0) the photograph, (H, W) the network's input, (h, w) an anomaly map, N tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from andon.errors import ImageError
from andon.image.resample import Size, cut
from andon.image.tiles import BATCH_PIXELS, Mosaic, Tiles, to_bytes


@dataclass(frozen=True, eq=False)
class Prepared:
    """One photograph as the network takes it, and the way back: as one image, or in N overlapping tiles.

    canvas: (rows, columns, 3) uint8, the photograph scaled and padded; the tiles are cut from it when asked for.
    size: (H, W) of the network's input. original_size: (H0, W0).
    tops, lefts: of the tiles, on the canvas. content: top, left, bottom, right of the photograph on the canvas.
    margin: pixels at a tile's border that a neighbour answers for.
    inspected: the share of the photograph that is in the tiles, 0 to 1. No mode leaves anything out today.

    A detector's image score for the photograph is the largest of its tiles.
    """

    canvas: NDArray[np.uint8]
    size: Size
    original_size: Size
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    content: tuple[int, int, int, int]
    margin: int = 0
    inspected: float = 1.0

    @property
    def count(self) -> int:
        """N."""
        return len(self.tops) * len(self.lefts)

    @property
    def tiles(self) -> Tiles:
        """The tiles, row by row, each made when it is asked for."""
        return Tiles(self.count, self.tile)

    @property
    def images(self) -> NDArray[np.float32]:
        """All tiles at once, (N, 3, H, W) float32 RGB in [0, 1], made anew at each call: 12 bytes a pixel and more."""
        return self.tiles.chosen(range(self.count))

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """The tiles in order, as many together as one run of a network should take, (n, 3, H, W)."""
        return self.tiles.batches(max(1, BATCH_PIXELS // (self.size[0] * self.size[1])))

    def corner(self, number: int) -> tuple[int, int]:
        """Top and left of a tile on the canvas."""
        return self.tops[number // len(self.lefts)], self.lefts[number % len(self.lefts)]

    def tile(self, number: int) -> NDArray[np.float32]:
        """One tile (3, H, W), each value the float32 nearest to byte / 255."""
        top, left = self.corner(number)
        pixels = self.canvas[top : top + self.size[0], left : left + self.size[1]].transpose(2, 0, 1)
        return np.divide(pixels, np.float32(255), out=np.empty(pixels.shape, np.float32), dtype=np.float32)

    def stitch(self, maps: NDArray[np.floating]) -> NDArray[np.float32]:
        """One anomaly map (h', w') float32 whose extent is exactly the whole photograph.

        ``maps``: (N, 1, h, w) or (N, h, w), one per image, at any resolution. One map stays at its
        resolution, with the letterbox's padding cut off; several are brought to the tiles' (H, W) and
        blended with weights that fall off towards a tile's border, where a network sees least around it.

        Raises :class:`ImageError` when the shape does not fit.
        """
        stitcher = self.stitcher()
        stitcher.add(self._checked(maps)[:, None])
        return stitcher.picture[0]

    def stitcher(self, channels: int = 1, *, as_bytes: bool = False) -> Mosaic | Whole:
        """What :meth:`stitch` does, for answers that come in :meth:`batches`.

        ``as_bytes``: for pictures, whose values from 0 to 1 are kept as 0 to 255.
        """
        if self.count == 1:
            return Whole(self, as_bytes=as_bytes)
        return Mosaic(self, channels, as_bytes=as_bytes)

    def _checked(self, maps: NDArray[np.floating]) -> NDArray[np.float32]:
        given = np.asarray(maps)
        flat = given[:, 0] if given.ndim == 4 and given.shape[1] == 1 else given
        if flat.ndim != 3 or len(flat) != self.count or flat.size == 0 or flat.dtype.kind not in "fiu":
            raise ImageError(
                f"anomaly maps of shape ({self.count}, 1, h, w) or ({self.count}, h, w) expected, "
                f"got {given.shape} {given.dtype}"
            )
        return flat.astype(np.float32, copy=False)


class Whole:
    """The answer for a photograph that is one image: it stays at its resolution, and loses the letterbox's padding."""

    def __init__(self, prepared: Prepared, *, as_bytes: bool = False) -> None:
        self._prepared, self._as_bytes = prepared, as_bytes
        self.picture: NDArray[np.float32] | NDArray[np.uint8]  # (C, h', w')

    def add(self, answers: NDArray[np.float32]) -> None:
        """Take the answer (1, C, h, w)."""
        planes = [cut(plane, self._prepared.content, self._prepared.size) for plane in answers[0]]
        self.picture = to_bytes(np.stack(planes)) if self._as_bytes else np.stack(planes)
