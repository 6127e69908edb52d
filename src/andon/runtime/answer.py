"""What a graph answers: for a few images, and for a photograph whose tiles it is asked for a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.image import Prepared


class Answer(NamedTuple):
    """What the graph answered for N images; the last two where the method has them."""

    maps: NDArray[np.float32]  # (N, h, w) raw
    scores: NDArray[np.float32]  # (N,) raw
    nearest: NDArray[np.integer] | None  # (N, h, w) rows of the memory bank
    reconstruction: NDArray[np.float32] | None  # (N, 3, H, W) in [0, 1]


class Found(NamedTuple):
    """What the graph answered for one photograph of N tiles; the last two where the method has them."""

    anomaly_map: NDArray[np.float32]  # (h, w) raw, its extent the whole photograph
    image_score: float  # raw: the largest of the tiles'
    nearest: NDArray[np.integer] | None  # (N, h, w) rows of the memory bank
    expected: NDArray[np.uint8] | None  # (h, w, 3) the photograph as the method reconstructs it


def gather(prepared: Prepared, run: Callable[[NDArray[np.float32]], Answer], *, reconstructs: bool) -> Found:
    """The answers of ``run`` for a few tiles at a time, as those for the photograph.

    Neither all tiles nor all their answers are ever held: besides the map, and the picture where the method
    ``reconstructs``, memory does not grow with the photograph.
    """
    maps = prepared.stitcher()
    pictures = prepared.stitcher(3, as_bytes=True) if reconstructs else None
    scores, nearest = [], []
    for images in prepared.batches():
        answer = run(images)
        maps.add(answer.maps[:, None])
        scores.append(answer.scores.max())
        if answer.nearest is not None:
            nearest.append(answer.nearest)
        if pictures is not None and answer.reconstruction is not None:
            pictures.add(answer.reconstruction)
    return Found(
        maps.picture[0],
        float(max(scores)),
        np.concatenate(nearest) if nearest else None,
        None if pictures is None else np.ascontiguousarray(np.moveaxis(pictures.picture, 0, 2)),
    )
