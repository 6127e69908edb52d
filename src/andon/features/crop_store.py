"""Crops and what their teachers said of them, kept on disk: the teachers' pass is paid once, whatever is trained on it.

A store is a folder of shards of ``SHARD`` crops, each written whole or not at all, so that a run that is killed goes
on, and a store that is to be larger grows. Crop number n is drawn from (seed, n) alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import SettingsError
from andon.files import atomic_write

SHARD = 512  # crops
IMAGES = "images"

Make = Callable[[range], dict[str, Tensor]]  # numbers of crops -> {"images": uint8, layer: float}, a row each


class CropStore:
    """``store.take(numbers)`` -> images (B, 3, S, S) uint8 and {layer: (B, D, h, w)} float32."""

    def __init__(self, folder: Path, layers: Iterable[str], key: Mapping[str, object]) -> None:
        """Open or begin the store in ``folder``. ``key``: all that decides its content, as JSON can hold it.

        Raises :class:`SettingsError` where the folder holds crops made in another way.
        """
        self.folder, self.layers = folder, tuple(layers)
        self._shards: dict[int, dict[str, NDArray[np.generic]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        described, here = json.dumps(key, sort_keys=True), folder / "key.json"
        if here.exists() and here.read_text() != described:
            raise SettingsError(
                f"{folder} holds crops made in another way ({here.read_text()}), wanted {described}. Name another "
                "folder for the crops, or remove this one."
            )
        with atomic_write(here) as file:
            file.write(described.encode())

    def fill(self, count: int, make: Make, say: Callable[[int], None]) -> None:
        """Make the crops that are missing up to ``count``, rounded up to whole shards; ``say`` how many there are."""
        for shard in range(-(-count // SHARD)):
            if not self._path(shard).exists():
                parts = make(range(shard * SHARD, (shard + 1) * SHARD))
                self._write(shard, parts)
            say(min(count, (shard + 1) * SHARD))

    def take(self, numbers: NDArray[np.integer]) -> tuple[Tensor, dict[str, Tensor]]:
        """The crops of these numbers, and their targets."""
        rows = [(self._shard(int(n) // SHARD), int(n) % SHARD) for n in numbers]
        parts = {name: np.stack([shard[name][row] for shard, row in rows]) for name in rows[0][0]}
        images = torch.from_numpy(parts.pop(IMAGES))
        return images, {layer: torch.from_numpy(part).float() for layer, part in parts.items()}

    def _path(self, shard: int, name: str = IMAGES) -> Path:
        return self.folder / f"{shard:05d}-{name}.npy"

    def _write(self, shard: int, parts: Mapping[str, Tensor]) -> None:
        """The images come last: where they are, the shard is whole."""
        for name in sorted(parts, key=lambda name: name == IMAGES):
            part = parts[name].numpy() if name == IMAGES else parts[name].half().numpy()
            with atomic_write(self._path(shard, name)) as file:
                np.save(file, part)

    def _shard(self, shard: int) -> dict[str, NDArray[np.generic]]:
        if shard not in self._shards:
            self._shards[shard] = {
                name: np.load(self._path(shard, name), mmap_mode="r") for name in (*self.layers, IMAGES)
            }
        return self._shards[shard]
