"""Pictures of good parts that an artefact may keep, and the one to set beside an odd region.

Members of the artefact, where they were asked for at the fit (docs/decisions/0011-nearest-good-patch.md)::

    good/000.jpg ...    good photographs, reduced
    good_sources.npy    (M, 3) float32, for a memory bank of M rows: the picture, and the row and column in it, 0 to 1,
                        of the patch that is most like the row

Places are (row, column) as shares of the photograph, 0 to 1. Sizes are (rows, columns).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ArtifactError, ImageError
from andon.image import Prepared, decode
from andon.runtime.explain_difference import Look, Mask, Pixels, canvas_size, look
from andon.types import Region

FOLDER, SOURCES = "good/", "good_sources.npy"
QUALITY = 85  # of the JPEGs
ALIKE = 0.6  # correlation of the surroundings from which two parts are taken to lie alike
AROUND = 2.0  # rows and columns of what is shown, in those of the region
SMALLEST = 0.2  # of the photograph: what is shown is at least so long and wide

Place = tuple[float, float]
Window = tuple[float, float, float, float]  # top, left, bottom, right; shares of the photograph


@dataclass(frozen=True)
class Expected:
    """A picture of what a region should look like, and where it comes from."""

    pixels: Pixels
    kind: Literal["same_place", "nearest", "reconstruction"]


@dataclass(frozen=True)
class GoodPictures:
    """The pictures (H, W, 3) that an artefact keeps, and the sources (M, 3) of its memory bank where it has one."""

    pictures: tuple[Pixels, ...]
    sources: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, members: Mapping[str, bytes]) -> GoodPictures:
        """Those among an artefact's ``members``; none is as good as any. Raises :class:`ArtifactError`."""
        names = sorted(name for name in members if name.startswith(FOLDER))
        try:
            pictures = tuple(decode(members[name]).pixels for name in names)
        except ImageError as error:
            raise ArtifactError(f"the artefact's pictures of good parts cannot be read: {error}") from error
        sources = _sources(members[SOURCES], len(pictures)) if SOURCES in members else None
        return cls(pictures, sources)

    @cached_property
    def _looks(self) -> dict[tuple[int, int], list[Look]]:
        return {}

    def looks(self, size: tuple[int, int]) -> list[Look]:
        """The pictures as they are compared with a photograph of ``size`` (H, W)."""
        canvas = canvas_size(size)
        found = self._looks.get(canvas)
        if found is None:
            found = [look(picture, canvas) for picture in self.pictures]
            self._looks.clear()  # photographs of one line have one size: the last one is enough
            self._looks[canvas] = found
        return found

    def expected(
        self, photo: Look, region: Region, size: tuple[int, int], row: int | None
    ) -> Expected | None:
        """What the surroundings of ``region`` look like in a good part; None where nothing can be shown.

        The same place of a picture, where parts lie alike (:data:`ALIKE`): of those the one whose colours around the
        region are nearest to ``photo``'s. Else the source of ``row``, the row of the memory bank that is nearest to the
        region's peak.
        """
        window = window_of(region, size)
        around = _around(window, region, size, photo.light.shape)
        looks = self.looks(size)
        alike = [number for number, one in enumerate(looks) if _correlation(photo, one, around) >= ALIKE]
        if alike:
            best = min(alike, key=lambda number: _distance(photo, looks[number], around))
            return Expected(cut(self.pictures[best], window), "same_place")
        if self.sources is None or row is None or row >= len(self.sources):
            return None
        number, *place = self.sources[row].tolist()
        return Expected(cut(self.pictures[int(number)], _moved(window, (place[0], place[1]))), "nearest")


def encoded(picture: Image.Image, longest: int) -> bytes:
    """``picture`` as JPEG, its longest side ``longest`` pixels at most."""
    scale = min(1.0, longest / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def packed(pictures: Sequence[bytes], sources: NDArray[np.float32] | None) -> dict[str, bytes]:
    """The members of an artefact that keep ``pictures`` (JPEG) and ``sources``."""
    members = {f"{FOLDER}{number:03}.jpg": picture for number, picture in enumerate(pictures)}
    if sources is not None:
        buffer = io.BytesIO()
        np.save(buffer, sources.astype(np.float32), allow_pickle=False)
        members[SOURCES] = buffer.getvalue()
    return members


def window_of(region: Region, size: tuple[int, int]) -> Window:
    """The part of a photograph of ``size`` to show of ``region``: itself and its surroundings, inside the photograph.

    >>> window_of(Region((40, 40, 60, 60), 400, 0.04, 1.0, (50, 50)), (100, 100))
    (0.3, 0.3, 0.7, 0.7)
    """
    top, left, bottom, right = region.box
    height, width = (
        min(1.0, max(AROUND * (end - start) / of, SMALLEST))
        for start, end, of in ((top, bottom, size[0]), (left, right, size[1]))
    )
    middle = ((top + bottom) / (2 * size[0]), (left + right) / (2 * size[1]))
    return _inside(middle, height, width)


def cut(pixels: Pixels, window: Window) -> Pixels:
    """``window`` of ``pixels`` (H, W, 3), at least one pixel."""
    height, width = pixels.shape[:2]
    top, left = min(int(window[0] * height), height - 1), min(int(window[1] * width), width - 1)
    bottom, right = max(round(window[2] * height), top + 1), max(round(window[3] * width), left + 1)
    return pixels[top:bottom, left:right]


def on_photo(prepared: Prepared, tile: int, place: Place) -> Place:
    """Where ``place`` in a tile of ``prepared``, in shares of the tile, lies in the photograph."""
    row, column = prepared.corner(tile)
    height, width = prepared.size
    top, left, bottom, right = prepared.content
    return (
        min(max((row + place[0] * height - top) / (bottom - top), 0.0), 1.0),
        min(max((column + place[1] * width - left) / (right - left), 0.0), 1.0),
    )


def on_tile(prepared: Prepared, place: Place) -> tuple[int, Place]:
    """The tile in which ``place`` of the photograph lies most in the middle, and where in it."""
    height, width = prepared.size
    top, left, bottom, right = prepared.content
    at = (top + place[0] * (bottom - top), left + place[1] * (right - left))
    inside = []
    for tile in range(prepared.count):
        row, column = prepared.corner(tile)
        inside.append(((at[0] - row) / height, (at[1] - column) / width))
    tile = min(range(len(inside)), key=lambda t: max(abs(share - 0.5) for share in inside[t]))
    return tile, inside[tile]


def bank_row(nearest: NDArray[np.integer], prepared: Prepared, place: Place) -> int:
    """The row of the memory bank nearest to the patch at ``place``. ``nearest``: (N, h, w), the graph's answer."""
    tile, inside = on_tile(prepared, place)
    row, column = (
        min(max(int(share * of), 0), of - 1) for share, of in zip(inside, nearest.shape[1:], strict=True)
    )
    return int(nearest[tile, row, column])


def _moved(window: Window, place: Place) -> Window:
    """A window as large as ``window`` around ``place``, inside the photograph."""
    return _inside(place, window[2] - window[0], window[3] - window[1])


def _inside(middle: Place, height: float, width: float) -> Window:
    top = min(max(middle[0] - height / 2, 0.0), 1 - height)
    left = min(max(middle[1] - width / 2, 0.0), 1 - width)
    return tuple(round(edge, 6) for edge in (top, left, top + height, left + width))  # type: ignore[return-value]


def _around(window: Window, region: Region, size: tuple[int, int], canvas: tuple[int, ...]) -> Mask:
    """The canvas' pixels inside ``window`` and outside the box of ``region``; all of the window where the box fills it."""
    height, width = canvas
    shown = np.zeros((height, width), np.bool_)
    shown[
        int(window[0] * height) : round(window[2] * height), int(window[1] * width) : round(window[3] * width)
    ] = True
    top, left, bottom, right = region.box
    around = shown.copy()
    around[top * height // size[0] : -(-bottom * height // size[0]),
           left * width // size[1] : -(-right * width // size[1])] = False  # fmt: skip
    return around if around.any() else shown


def _correlation(photo: Look, good: Look, mask: Mask) -> float:
    """Of the lightness inside ``mask``; 0 where one of them is even."""
    a, b = (one.light[mask] - one.light[mask].mean() for one in (photo, good))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _distance(photo: Look, good: Look, mask: Mask) -> float:
    """Mean difference of the colours inside ``mask``."""
    return float(np.abs(photo.colours[mask] - good.colours[mask]).mean())


def _sources(data: bytes, pictures: int) -> NDArray[np.float32]:
    try:
        sources = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"the artefact's {SOURCES} cannot be read: {error}") from error
    if not (isinstance(sources, np.ndarray) and sources.ndim == 2 and sources.shape[1] == 3 and len(sources)
            and np.isfinite(sources).all() and sources[:, 0].min() >= 0 and sources[:, 0].max() < pictures):  # fmt: skip
        raise ArtifactError(
            f"the artefact's {SOURCES} does not fit its {pictures} pictures of good parts. Fit again."
        )
    return sources.astype(np.float32)
