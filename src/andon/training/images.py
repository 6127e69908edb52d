"""Training images by number: decoded ahead by a few threads, kept in memory while they fit, varied where asked.

n tiles of one photograph (n = 1 where it is not tiled), H rows, W columns. Of a photograph in many tiles a few are drawn
each time that it is wanted: all of them, of all photographs of a batch, would not fit into memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.data.augment import Augmentation
from andon.errors import DataError, ImageError
from andon.image import Tiles

Load = Callable[
    [Path], NDArray[np.float32] | Tiles
]  # path -> (3, H, W) float32 in [0, 1], (n, 3, H, W) or Tiles
AHEAD = 2  # batches read while one is trained on
MOST_TILES = 4  # of one photograph in a batch


class Pick(NamedTuple):
    """One image of a batch; None for ``epoch``: as it is, never varied."""

    number: int
    epoch: int | None = None


class Source(Protocol):
    """Where a trainer takes images from."""

    count: int

    @property
    def drawn(self) -> bool:
        """Whether the images of a number differ from time to time, unvaried: tiles drawn from a photograph's many."""
        ...

    def batches(self, wanted: Iterable[Sequence[Pick]]) -> Generator[list[Tensor]]:
        """For each batch that is wanted its images, (n, 3, H, W) each."""
        ...


class Images:
    """Images in files. ``limit`` bytes of them are kept in memory: as bytes where that loses nothing.

    ``varied`` by ``seed``, epoch and number. A file that cannot be read any more raises :class:`ImageError`.
    """

    def __init__(self, paths: Sequence[Path], load: Load, *, workers: int = 0, limit: float = 0,
                 varied: Augmentation | None = None, seed: int = 0) -> None:  # fmt: skip
        self.paths, self.load, self.workers, self.varied, self.seed = paths, load, workers, varied, seed
        self.count = len(paths)
        self.drawn = False  # until a photograph in many tiles is met
        self._room = limit
        self._kept: dict[int, NDArray[np.uint8] | NDArray[np.float32]] = {}
        self._lock = Lock()

    def batches(self, wanted: Iterable[Sequence[Pick]]) -> Generator[list[Tensor]]:
        """For each batch that is wanted its images, (n, 3, H, W) each; a few batches are read ahead."""
        if self.workers == 0:
            for picks in wanted:
                yield [self._tensor(pick) for pick in picks]
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="andon-train")
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            for picks in wanted:
                waiting.append([pool.submit(self._tensor, pick) for pick in picks])
                if len(waiting) > AHEAD:
                    yield _together(waiting.popleft())
            while waiting:
                yield _together(waiting.popleft())
        finally:  # not waited for, as in andon.data.loader
            pool.shutdown(wait=False, cancel_futures=True)

    def _tensor(self, pick: Pick) -> Tensor:
        images = self._image(pick)
        if self.varied is not None and pick.epoch is not None:
            images = self.varied.tiles(images, seed=self.seed, epoch=pick.epoch, number=pick.number)
        return torch.from_numpy(images)

    def _image(self, pick: Pick) -> NDArray[np.float32]:
        kept = self._kept.get(pick.number)
        if kept is not None:
            return _floats(kept)
        images = self._read(self.paths[pick.number])
        if isinstance(images, Tiles):
            if images.count > MOST_TILES:
                return self._some(images, pick)
            images = images.chosen(range(images.count))
        self._keep(pick.number, images)
        return images

    def _some(self, tiles: Tiles, pick: Pick) -> NDArray[np.float32]:
        """MOST_TILES of many, drawn by seed, epoch and number; without an epoch always the same ones."""
        self.drawn = True
        epoch = 0 if pick.epoch is None else pick.epoch + 1
        rng = np.random.default_rng([self.seed, epoch, pick.number])
        return tiles.chosen(np.sort(rng.choice(tiles.count, MOST_TILES, replace=False)).tolist())

    def _read(self, path: Path) -> NDArray[np.float32] | Tiles:
        try:
            image = self.load(path)
        except (OSError, ImageError, DataError) as error:
            raise ImageError(
                f"{path} could be read when fitting began, but not while training: {error}. Bring it back and go on "
                "with --resume, or fit again without it."
            ) from error
        return image if isinstance(image, Tiles) or image.ndim == 4 else image[None]

    def _keep(self, number: int, images: NDArray[np.float32]) -> None:
        if self._room <= 0:
            return
        smaller = np.rint(images * np.float32(255)).astype(np.uint8)
        exact = np.array_equal(smaller / np.float32(255), images)
        kept = smaller if exact else images
        with self._lock:
            if number not in self._kept and kept.nbytes <= self._room:
                self._kept[number] = kept
                self._room -= kept.nbytes


def _together(futures: list[Future[Tensor]]) -> list[Tensor]:
    return [future.result() for future in futures]


def _floats(kept: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    if kept.dtype == np.uint8:
        return np.divide(kept, np.float32(255), dtype=np.float32)
    return kept.view(np.float32)
