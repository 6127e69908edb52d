"""How photographs lie among each other by their descriptors: a plane to draw them on, and distances.

n photographs, D numbers each, r of them the reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (n, D)
Indices = NDArray[np.intp]

NEIGHBOURS = 3
MOST_REFERENCES = 10_000
_BLOCK = 1024
_FLOOR = 0.1  # of the median deviation: a number that hardly varies is not blown up beyond this
_PLANE = 20_000  # photographs that the plane is learned from


def standardise(vectors: Vectors, reference: Indices) -> Vectors:
    """Each of the D numbers with mean 0 and deviation 1 over the ``reference``, then divided by sqrt(D).

    The distance between two reference photographs is then about sqrt(2), whatever D is.
    """
    base = vectors[reference].astype(np.float64)
    deviation = base.std(axis=0)
    usual = float(np.median(deviation[deviation > 0])) if (deviation > 0).any() else 1.0
    scale = np.maximum(deviation, _FLOOR * usual) * np.sqrt(vectors.shape[1])
    return ((vectors - base.mean(axis=0)) / scale).astype(np.float32)


def plane(vectors: Vectors) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The first two principal components (n, 2) of ``vectors``, and the share of the variance that each explains.

    Each component's sign is such that its largest loading is positive: the same photographs give the same drawing.
    """
    step = -(-len(vectors) // _PLANE)
    base = vectors[::step].astype(np.float64)
    middle = base.mean(axis=0)
    values, axes = np.linalg.eigh((base - middle).T @ (base - middle))
    total = float(values.sum())
    if vectors.shape[1] < 2 or total <= 0:
        return np.zeros((len(vectors), 2)), (0.0, 0.0)
    first = axes[:, [-1, -2]]
    first = first * np.where(first[np.abs(first).argmax(axis=0), [0, 1]] < 0, -1, 1)
    return (vectors - middle) @ first, (float(values[-1]) / total, max(0.0, float(values[-2])) / total)


def distances(vectors: Vectors, reference: Indices, rng: np.random.Generator) -> NDArray[np.float64]:
    """For each photograph the mean distance to its three nearest in the ``reference``, itself left out (n,).

    Of more than 10,000 references so many are drawn. nan where there is no other one.
    """
    if len(reference) > MOST_REFERENCES:
        reference = np.sort(rng.choice(reference, MOST_REFERENCES, replace=False))
    found = np.full(len(vectors), np.nan)
    base = vectors[reference]
    lengths = np.square(base).sum(axis=1)
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK]
        squared = np.square(rows).sum(axis=1, keepdims=True) + lengths - 2 * rows @ base.T
        own = np.arange(start, start + len(rows))[:, None] == reference[None]
        found[start : start + _BLOCK] = _nearest_mean(np.where(own, np.inf, np.maximum(squared, 0)))
    return found


def _nearest_mean(squared: NDArray[np.float32]) -> NDArray[np.float64]:
    if squared.shape[1] < 1:
        return np.full(len(squared), np.nan)
    kept = min(NEIGHBOURS, squared.shape[1])
    nearest = np.sqrt(np.partition(squared, kept - 1, axis=1)[:, :kept].astype(np.float64))
    there = np.isfinite(nearest)
    count = there.sum(axis=1)
    total = np.where(there, nearest, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
