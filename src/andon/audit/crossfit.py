"""How far each patch of an image is from the images of the other folds: in any place, and in its own place.

The features are those of PatchCore (Roth et al. 2022, eq. 1 to 3), computed once for an image and kept on disk. Each
fold has a memory bank of its own, its coreset. An image is scored by the banks of all other folds, and of their answers
the second smallest counts: what has its like in one other fold only stays odd, so that a defect which happened twice
does not hide itself. One that is in two other folds does hide.

Letters: N images, P = h w patches an image of D dimensions, K folds, R images of reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.features.neighbours import greedy_k_centre, nearest

Maps = NDArray[np.float32]
Tell = Callable[[int, int], None]  # done, total

BANK = 500  # rows of a fold's bank
BANK_IMAGES = 100  # images of a fold that its bank is made of, at most
REFERENCES = 200  # images that places are compared with, at most
REACH = 1  # patches that a part may lie beside its place


class PatchStore:
    """The patches of up to N images, appended in order, on disk in half precision; they vanish with the process."""

    def __init__(self, images: int) -> None:
        self.images, self.count = images, 0
        self.grid = (0, 0)  # (h, w)
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="andon-patches-")  # noqa: SIM115 (closed by close)
        self._rows: NDArray[np.float16] = np.empty((0, 0, 0), np.float16)

    def append(self, patches: Tensor) -> None:
        """Keep ``patches`` (B, D, h, w) of the next B images."""
        if not self.count:
            self.grid = (int(patches.shape[2]), int(patches.shape[3]))
            shape = (self.images, self.grid[0] * self.grid[1], int(patches.shape[1]))
            self._rows = np.memmap(self._file, np.float16, "w+", shape=shape)
        rows = patches.flatten(2).transpose(1, 2)  # (B, P, D)
        self._rows[self.count : self.count + len(rows)] = rows.numpy()
        self.count += len(rows)

    def of(self, images: NDArray[np.intp], places: NDArray[np.intp] | None = None) -> Tensor:
        """(n, P, D) float32 of the ``images`` by number, or (n, p, D) in ``places`` alone."""
        rows = self._rows[images] if places is None else self._rows[images[:, None], places[None]]
        return torch.from_numpy(np.asarray(rows, np.float32))

    def close(self) -> None:
        """Give the space back."""
        self._rows = np.empty((0, 0, 0), np.float16)
        self._file.close()


def free_distances(
    store: PatchStore, folds: NDArray[np.intp], seed: int = 0, tell: Tell | None = None
) -> Maps:
    """(N, h, w): for each patch the distance to its like in the other folds, wherever that lies in their images.

    ``folds`` (N,): the fold of each image, as :func:`andon.audit.folds.deal` gives them; at least two.
    """
    count = int(folds.max()) + 1
    banks = [_bank(store, np.flatnonzero(folds == fold), seed) for fold in range(count)]
    found = np.empty((len(folds), store.grid[0] * store.grid[1]), np.float32)
    done = 0
    for fold in range(count):
        others = [bank for other, bank in enumerate(banks) if other != fold]
        for image in np.flatnonzero(folds == fold):
            rows = store.of(np.array([image]))[0]
            distances = torch.cat([nearest(rows, bank)[0] for bank in others], dim=1)  # (P, K - 1)
            found[image] = second_smallest(distances).numpy()
            done += 1
            if tell is not None:
                tell(done, len(folds))
    return found.reshape(-1, *store.grid)


def placed_distances(store: PatchStore, folds: NDArray[np.intp], seed: int = 0) -> Maps:
    """(N, h, w): as :func:`free_distances`, to patches at the same place or right beside it.

    Compared with at most 200 images, drawn by ``seed``; the second nearest image counts.
    """
    drawn = np.random.default_rng(seed).permutation(len(folds))[:REFERENCES]
    references = np.sort(drawn)
    own = torch.from_numpy(folds[:, None] == folds[None, references])  # (N, R)
    everyone = np.arange(len(folds))
    found = np.empty((len(folds), store.grid[0] * store.grid[1]), np.float32)
    for place in range(found.shape[1]):
        rows = store.of(everyone, np.array([place]))[:, 0]  # (N, D)
        beside = store.of(references, beside_of(place, store.grid))  # (R, p, D)
        distances = torch.cdist(rows, beside.flatten(0, 1)).reshape(len(rows), len(references), -1).amin(2)
        found[:, place] = second_smallest(distances.masked_fill(own, torch.inf)).numpy()
    return found.reshape(-1, *store.grid)


def second_smallest(distances: Tensor) -> Tensor:
    """(n,) of ``distances`` (n, m): the second smallest finite one of each row, the smallest where it is the only one."""
    smallest = distances.topk(min(2, distances.shape[1]), dim=1, largest=False).values  # (n, 2), upwards
    return torch.where(smallest[:, -1].isfinite(), smallest[:, -1], smallest[:, 0])


def beside_of(place: int, grid: tuple[int, int]) -> NDArray[np.intp]:
    """The numbers of the patches within REACH of ``place`` in a grid (h, w), row by row.

    >>> beside_of(0, (2, 3)).tolist()
    [0, 1, 3, 4]
    """
    h, w = grid
    row, column = divmod(place, w)
    rows = np.arange(max(row - REACH, 0), min(row + REACH + 1, h))
    columns = np.arange(max(column - REACH, 0), min(column + REACH + 1, w))
    return (rows[:, None] * w + columns[None]).ravel()


def _bank(store: PatchStore, members: NDArray[np.intp], seed: int) -> Tensor:
    """The coreset (at most BANK, D) of the patches of ``members``."""
    if len(members) > BANK_IMAGES:
        members = np.sort(np.random.default_rng(seed).choice(members, BANK_IMAGES, replace=False))
    rows = store.of(members).flatten(0, 1)
    return rows[greedy_k_centre(rows, min(BANK, len(rows)), seed=seed)]
