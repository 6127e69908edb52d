"""Pictures of good parts for an artefact, chosen to show how good parts vary, and where the memory bank is found in them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError
from andon.image import Prepared, Preprocessing, decode
from andon.nuisance import ZonePlan
from andon.runtime.explain_good import encoded, on_photo, packed

if TYPE_CHECKING:
    from andon.models.base import Detector

Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
LOOKED_AT = 256  # good photographs, spread over all, that are chosen from
MOST = 100  # pictures kept at most
LONGEST = 1024  # side of a picture in pixels, where photographs are cut into tiles; else that of the network's input
GLANCE = 12  # rows and columns at which photographs are told apart


def good_members(
    detector: Detector,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    limit: int,
    zones: ZonePlan | None = None,
) -> dict[str, bytes]:
    """The members of an artefact that keep pictures of some of the good photographs ``paths``, their ``zones`` covered.

    ``limit``: bytes of all pictures together, though one is kept however large. For a detector with a memory bank also
    where its rows are found in them, 12 bytes a row.
    """

    def read(path: Path) -> Pixels:
        pixels = decode(path, white_level=preprocessing.white_level).pixels
        return pixels if zones is None else zones.cover(pixels)

    longest = LONGEST if preprocessing.resize == "tiles" else max(preprocessing.size)
    pictures: list[bytes] = []
    chosen: list[Path] = []
    for path in _varied(paths, read):
        picture = encoded(Image.fromarray(read(path)), longest)
        if pictures and (sum(map(len, pictures)) + len(picture) > limit or len(pictures) == MOST):
            break
        pictures.append(picture)
        chosen.append(path)
    return packed(pictures, _sources(detector, lambda: (preprocessing.apply(read(path)) for path in chosen)))


def _varied(paths: Sequence[Path], read: Callable[[Path], Pixels]) -> list[Path]:
    """Photographs that can be read, those first that differ most from the ones before (greedy k-centres)."""
    import torch

    from andon.features.neighbours import greedy_k_centre

    glances: list[NDArray[np.float32]] = []
    readable: list[Path] = []
    for path in paths[:: -(-len(paths) // LOOKED_AT)]:
        with contextlib.suppress(ImageError):  # the fit has reported it
            picture = Image.fromarray(read(path))
            glance = picture.resize((GLANCE, GLANCE), Image.Resampling.BOX)
            glances.append(np.asarray(glance, np.float32).reshape(-1) / np.float32(255))
            readable.append(path)
    order = greedy_k_centre(torch.from_numpy(np.stack(glances)), min(len(glances), MOST))
    return [readable[number] for number in order.tolist()]


def _sources(detector: Detector, prepared: Callable[[], Iterable[Prepared]]) -> NDArray[np.float32] | None:
    """(M, 3): picture, row and column in the photograph, as shares, of each row of the memory bank; None without one.

    Of the photographs ``prepared``, one and a few of its tiles are held at a time.
    """
    import torch

    spots: list[tuple[int, int, Prepared]] = []  # of each batch: picture, first tile, and where tiles lie

    def batches() -> Iterator[torch.Tensor]:
        for number, one in enumerate(prepared()):
            first = 0
            for images in one.batches():
                spots.append((number, first, replace(one, canvas=np.empty((0, 0, 3), np.uint8))))
                first += len(images)
                yield torch.from_numpy(images)

    found = detector.bank_sources(batches())
    if found is None:
        return None
    rows = []
    for batch, tile, row, column in found.tolist():
        number, first, one = spots[int(batch)]
        rows.append((number, *on_photo(one, first + int(tile), (row, column))))
    return np.array(rows, np.float32)
