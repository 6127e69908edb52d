"""Modes of good images: groups that look alike, found without any defect, by simple features.

Features: the photograph reduced to 8 x 8 colours, each number standardised over the training images. Groups: k-means
(S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982; first centres by
D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007).

n photographs, D numbers each, K modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.survey.spread import standardise
from andon.errors import DataError, SettingsError
from andon.image import decode

Vectors = NDArray[np.float32]  # (n, D)
Modes = NDArray[np.intp]  # (n,): the number of each photograph's mode

SIDE = 8  # colours along each side
STARTS = 5  # of k-means; the tightest groups are kept
PASSES = 100  # at most


def features(paths: Sequence[Path]) -> Vectors:
    """(n, 192) float32: each photograph as 8 x 8 colours. Raises :class:`ImageError` for one that cannot be read."""
    small = [
        np.asarray(
            Image.fromarray(decode(path).pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32
        )
        for path in paths
    ]
    return np.stack(small).reshape(len(paths), -1)


def find_modes(
    training: Sequence[Path], others: Sequence[Path], count: int, seed: int
) -> tuple[Modes, Modes]:
    """The modes of the ``training`` photographs, ``count`` of them, and the nearest mode of each of the ``others``.

    Raises :class:`SettingsError` for a count below 1, :class:`DataError` for more modes than photographs.
    """
    if count < 1:
        raise SettingsError(f"the number of modes must be at least 1, got {count!r}")
    if count > len(training):
        raise DataError(f"{count} modes cannot be found among {len(training)} good images; ask for fewer")
    vectors = standardise(features([*training, *others]), np.arange(len(training)))
    centres = k_means(vectors[: len(training)], count, np.random.default_rng(seed))
    found = _squared(vectors, centres).argmin(1)
    return found[: len(training)], found[len(training) :]


def k_means(vectors: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Centres (K, D) of ``count`` groups, sorted by the size of their group, the largest first.

    >>> k_means(np.array([[0.0], [0.2], [0.1], [9.0]], np.float32), 2, np.random.default_rng(0)).round(1).tolist()
    [[0.10000000149011612], [9.0]]
    """
    runs = [_lloyd(vectors, _first_centres(vectors, count, rng)) for _ in range(STARTS)]
    centres = min(runs, key=lambda run: float(_squared(vectors, run).min(1).sum()))
    sizes = np.bincount(_squared(vectors, centres).argmin(1), minlength=count)
    return centres[np.lexsort((centres[:, 0], -sizes))]


def _first_centres(vectors: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Photographs drawn one after the other, with probabilities by the squared distance to those drawn before."""
    chosen = [int(rng.integers(len(vectors)))]
    while len(chosen) < count:
        apart = _squared(vectors, vectors[chosen]).min(1).astype(np.float64)
        apart[chosen] = 0
        total = apart.sum()
        free = np.setdiff1d(np.arange(len(vectors)), chosen)
        chosen.append(int(rng.choice(len(vectors), p=apart / total) if total > 0 else free[0]))
    return vectors[chosen]


def _lloyd(vectors: Vectors, centres: Vectors) -> Vectors:
    """The centres when they no longer move; a group that lost all its photographs keeps its centre."""
    for _ in range(PASSES):
        group = _squared(vectors, centres).argmin(1)
        moved = np.stack([vectors[group == k].mean(0) if (group == k).any() else centres[k]
                          for k in range(len(centres))])  # fmt: skip
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _squared(vectors: Vectors, centres: Vectors) -> NDArray[np.float32]:
    """(n, K): squared distances."""
    products = vectors @ centres.T
    lengths = np.square(vectors).sum(1, keepdims=True) + np.square(centres).sum(1)
    return np.maximum(lengths - 2 * products, 0).astype(np.float32)
