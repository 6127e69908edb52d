"""What frozen networks make of the training images, computed once and kept on disk.

Each image is shown to ``Detector.frozen`` alone, whether there is room to keep the answer or not: so an answer does not
depend on which images were read together, and a fit that is stopped and resumed with an empty cache is the same to the
bit as one that was not.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import DataError
from andon.models.base import Detector, State

FREE_SHARE = 0.5  # of the disk's free space, at most
BLOCK = 1 << 20  # bytes of zeros written at once


@dataclass
class CacheReport:
    """What the cache kept and saved."""

    kept: int = 0  # images
    gigabytes: float = 0.0  # on disk
    computed: int = 0  # passes of one image through the frozen networks
    hits: int = 0  # passes that were not needed
    seconds_computing: float = 0.0
    seconds_saved: float = 0.0  # the time of a pass, as measured, times the hits, less the time to read them

    def described(self) -> dict[str, Any]:
        """As plain values."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


class FeatureCache:
    """``Detector.frozen`` of up to ``count`` images by number, on disk (memory-mapped), in at most ``gigabytes``.

    Its files have no name: they vanish with the process, however that ends. ``notes`` says what could not be kept.
    """

    def __init__(self, detector: Detector, count: int, gigabytes: float, folder: Path | None = None) -> None:
        self.detector, self.count, self.limit, self.folder = detector, count, gigabytes * 1e9, folder
        self.report, self.notes = CacheReport(), []  # type: tuple[CacheReport, list[str]]
        self.empty: bool | None = None  # whether the method has nothing frozen; None: not known yet
        self._files: list[IO[bytes]] = []
        self._maps: dict[str, NDArray[Any]] = {}  # name -> (capacity, n, ...)
        self._slots: dict[int, int] = {}  # number -> row
        self._reading = 0.0

    def forget(self) -> None:
        """Forget all answers: a phase of training may have changed what the next one's are."""
        self._slots.clear()

    def rows(self, numbers: Sequence[int], images: Sequence[Tensor]) -> State:
        """What is frozen of ``images`` (n, 3, H, W) each, on their device, joined in order; {} where nothing is."""
        if self.empty:
            return {}
        found = [self._row(number, image) for number, image in zip(numbers, images, strict=True)]
        return {name: torch.cat([row[name] for row in found]) for name in found[0]}

    def _row(self, number: int, image: Tensor) -> State:
        slot = self._slots.get(number)
        if slot is not None and len(image) == next(iter(self._maps.values())).shape[1]:
            return self._read(slot, image.device)
        start = time.perf_counter()
        with torch.no_grad():
            row = self.detector.frozen(image)
        _require_rows(self.detector, row, len(image))
        kept = {name: tensor.detach().cpu() for name, tensor in row.items()}
        self.report.computed += 1
        self.report.seconds_computing += time.perf_counter() - start
        self._keep(number, kept)
        return row

    def _read(self, slot: int, device: torch.device) -> State:
        start = time.perf_counter()
        row = {
            name: torch.from_numpy(np.array(stored[slot])).to(device) for name, stored in self._maps.items()
        }
        self._reading += time.perf_counter() - start
        self.report.hits += 1
        pass_seconds = self.report.seconds_computing / self.report.computed
        self.report.seconds_saved = max(0.0, self.report.hits * pass_seconds - self._reading)
        return row

    def _keep(self, number: int, row: State) -> None:
        if self.empty is None:
            self.empty = not row
            if row:
                self._open(row)
        slot = len(self._slots)
        fits = {name: tuple(stored.shape[1:]) for name, stored in self._maps.items()}
        if not fits or slot >= len(next(iter(self._maps.values()))) or number in self._slots:
            return
        if fits != {name: tuple(tensor.shape) for name, tensor in row.items()}:
            return  # a photograph in another number of tiles: computed anew each time
        for name, tensor in row.items():
            self._maps[name][slot] = tensor.numpy()
        self._slots[number] = slot
        self.report.kept = max(self.report.kept, len(self._slots))

    def _open(self, row: State) -> None:
        """Make files for rows like the first one, all their space taken at once: a full disk is met here."""
        size = sum(tensor.nbytes for tensor in row.values())
        folder = self.folder or Path(tempfile.gettempdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            room = min(self.limit, FREE_SHARE * shutil.disk_usage(folder).free)
            capacity = min(self.count, int(room // size))
            if capacity:
                self._maps = {name: self._file(folder, capacity, tensor) for name, tensor in row.items()}
        except OSError as error:
            self.close()
            self.notes.append(
                f"nothing of the frozen network is kept between epochs: {folder}: {error.strerror or error}"
            )
            return
        self.report.gigabytes = capacity * size / 1e9
        if capacity < self.count:
            self.notes.append(
                f"what the frozen network makes of the images is kept for {capacity} of {self.count}: {size / 1e6:.3g} MB "
                f"each, {room / 1e9:.3g} GB in {folder}. A larger cache_gb, or a cache_folder with more room, is faster."
            )

    def _file(self, folder: Path, capacity: int, like: Tensor) -> NDArray[Any]:
        file = tempfile.TemporaryFile(dir=folder, prefix="andon-features-")  # noqa: SIM115 (closed by close)
        self._files.append(file)
        array = like.numpy()
        _take_space(file, capacity * array.nbytes)
        return np.memmap(file, array.dtype, "r+", shape=(capacity, *array.shape))

    def close(self) -> None:
        """Give the space back."""
        self._maps, self._slots = {}, {}
        while self._files:
            self._files.pop().close()


def _take_space(file: IO[bytes], size: int) -> None:
    """Make ``file`` of ``size`` bytes that really are on the disk. Raises OSError when it is full."""
    if sys.platform == "linux":
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, BLOCK):
        file.write(bytes(min(BLOCK, size - start)))
    file.flush()


def _require_rows(detector: Detector, row: State, count: int) -> None:
    for name, tensor in row.items():
        if not tensor.ndim or len(tensor) != count:
            raise DataError(
                f"{type(detector).__name__}.frozen must give one row an image; of {count} it gave {name!r} of shape "
                f"{tuple(tensor.shape)}. Switch the cache off with cache_gb=0."
            )
