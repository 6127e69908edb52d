"""One zone of a photograph: where it lies, and what is to be done there.

Places are (row, column). Zones are kept in fractions of the photograph, 0 at its upper left and 1 at its lower right
corner, so that they hold for photographs of any size. A pixel belongs to a zone when its centre does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from andon.calibrate import check_share
from andon.data.masks import resize_nearest
from andon.errors import SettingsError
from andon.nuisance.codes import KINDS, Around, Kind
from andon.runs import mask_of_runs, run_lengths

Mask = NDArray[np.bool_]  # (H, W)
Point = tuple[float, float]  # row, column
Treatment = Literal["ignore", "looser"]
TREATMENTS = ("ignore", "looser")
AROUND: Around = (0.1, 0.1, 0.1, 0.1)  # what belongs to a code besides it, where nothing is said
MOST_AROUND = 10.0  # heights or widths of a code
MOST_CELLS = 64_000_000  # pixels of a painted zone's grid
_NAME_LENGTH = 80
_ENTRIES = {"name", "box", "polygon", "cells", "treatment", "rate", "codes", "around"}


@dataclass(frozen=True)
class Cells:
    """A painted area: run lengths (:mod:`andon.runs`) on a grid of ``size`` (H, W). Raises :class:`SettingsError`."""

    size: tuple[int, int]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        rows, columns = self.size
        if min(rows, columns) < 1 or rows * columns > MOST_CELLS:
            raise SettingsError(
                f"cells: a size (H, W) of 1 to {MOST_CELLS:,} pixels expected, got {self.size}"
            )
        if min(self.counts, default=0) < 0 or sum(self.counts) != rows * columns:
            raise SettingsError(
                f"cells: run lengths of {sum(self.counts)} pixels for a grid of {rows} x {columns}"
            )
        if not sum(self.counts[1::2]):
            raise SettingsError("cells: no pixel is marked")

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """The cells that are True in ``mask`` (H, W)."""
        return cls((mask.shape[0], mask.shape[1]), tuple(run_lengths(mask)))

    def mask(self) -> Mask:
        """(H, W) bool, True in the marked cells."""
        return mask_of_runs(self.counts, self.size)


@dataclass(frozen=True)
class Zone:
    """An area that ``corners`` enclose (at least three, fractions of the photograph), or painted ``cells``.

    treatment: ``ignore``: not inspected at all; ``looser``: judged by a threshold of its own, at which ``rate`` of the
    good parts may fail there (None: the rate of the rest).
    codes: kinds of printed codes; then it is not the area that is meant but what codes of these kinds, wherever in it,
    take up with what is ``around`` them, in shares of their height and width (None: ``AROUND``).

    Raises :class:`SettingsError` for a zone that makes no sense.

    >>> Zone.box("label", (10, 20, 30, 60), size=(100, 100)).mask((10, 10)).sum()
    np.int64(8)
    """

    name: str
    corners: tuple[Point, ...] = ()
    cells: Cells | None = None
    treatment: Treatment = "ignore"
    rate: float | None = None
    codes: tuple[Kind, ...] = ()
    around: Around | None = None

    def __post_init__(self) -> None:
        if (
            not isinstance(self.name, str)
            or not 0 < len(self.name) <= _NAME_LENGTH
            or not self.name.isprintable()
        ):
            raise SettingsError(
                f"a zone's name must be a printable text of 1 to {_NAME_LENGTH} characters, got {self.name!r:.90}"
            )
        if (self.cells is None) == (not self.corners):
            raise SettingsError(f"zone {self.name!r} needs a polygon, a box or cells, and only one of them")
        if self.cells is None:
            _check_corners(self.name, self.corners)
        if self.treatment not in TREATMENTS:
            raise SettingsError(
                f"zone {self.name!r}: treatment must be 'ignore' or 'looser', got {self.treatment!r}"
            )
        if self.rate is not None and self.treatment != "looser":
            raise SettingsError(f"zone {self.name!r} has a rate, which only the treatment 'looser' takes")
        if self.rate is not None:
            check_share(f"zone {self.name!r}, rate", self.rate)
        _check_codes(self.name, self.codes, self.around)

    @property
    def reach(self) -> Around:
        """What belongs to a code besides it: above, left, below and right, in shares of its height and width."""
        return AROUND if self.around is None else self.around

    @classmethod
    def box(
        cls, name: str, box: Sequence[float], *, size: tuple[int, int] | None = None, **rest: Any
    ) -> Self:
        """The zone inside ``box`` (top, left, bottom, right), in fractions, or in pixels of a photograph of ``size``."""
        if len(box) != 4:
            raise SettingsError(f"zone {name!r}: a box is (top, left, bottom, right), got {list(box)!r:.80}")
        top, left, bottom, right = box
        return cls.polygon(
            name, ((top, left), (top, right), (bottom, right), (bottom, left)), size=size, **rest
        )

    @classmethod
    def polygon(
        cls,
        name: str,
        corners: Sequence[Sequence[float]],
        *,
        size: tuple[int, int] | None = None,
        **rest: Any,
    ) -> Self:
        """The zone with these ``corners`` (row, column), in fractions, or in pixels of a photograph of ``size``."""
        if any(len(corner) != 2 for corner in corners):
            raise SettingsError(f"zone {name!r}: corners are pairs (row, column), got {list(corners)!r:.80}")
        height, width = size or (1, 1)
        return cls(
            name, tuple((float(row) / height, float(column) / width) for row, column in corners), **rest
        )

    def mask(self, size: tuple[int, int]) -> Mask:
        """The zone's pixels (H, W) bool of a photograph of ``size`` (H, W); not to be written to."""
        return _mask(self.corners, self.cells, (int(size[0]), int(size[1])))

    def to_dict(self) -> dict[str, Any]:
        """The zone as JSON holds it, in fractions."""
        content: dict[str, Any] = {"name": self.name, "treatment": self.treatment}
        if self.rate is not None:
            content["rate"] = self.rate
        if self.codes:
            content["codes"] = list(self.codes)
        if self.around is not None:
            content["around"] = list(self.around)
        if self.cells is not None:
            return content | {"cells": {"size": list(self.cells.size), "counts": list(self.cells.counts)}}
        return content | {"polygon": [list(corner) for corner in self.corners]}

    @classmethod
    def from_dict(cls, content: object, size: tuple[int, int] | None = None) -> Self:
        """The zone that ``content`` describes, its places in pixels of a photograph of ``size``, or in fractions.

        Raises :class:`SettingsError` naming what is missing, unknown or makes no sense.
        """
        if not isinstance(content, Mapping):
            raise SettingsError(f"a zone must be a table of entries, got {content!r:.80}")
        name = content.get("name")
        unknown = sorted(set(map(str, content)) - _ENTRIES)
        shapes = [key for key in ("box", "polygon", "cells") if key in content]
        if unknown or len(shapes) != 1:
            raise SettingsError(
                f"zone {name!r}: expected a name, one of box, polygon and cells, and perhaps treatment, rate, codes and around; "
                f"got {sorted(map(str, content))}"
            )
        rest = {"treatment": content.get("treatment", "ignore"), "rate": content.get("rate")}
        if "codes" in content or "around" in content:
            rest |= {
                "codes": _listed(name, "codes", content) or None,
                "around": _listed(name, "around", content),
            }
        try:
            if "cells" in content:
                return cls(cast(str, name), cells=_cells(content["cells"]), **rest)
            make = cls.box if "box" in content else cls.polygon
            return make(cast(str, name), content[shapes[0]], size=size, **rest)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(f"zone {name!r}: {shapes[0]} cannot be read: {error}") from error


def polygon_mask(corners: Sequence[Point], size: tuple[int, int]) -> Mask:
    """The pixels (H, W) bool of an image of ``size`` whose centre lies inside the polygon; ``corners`` in its pixels.

    Even-odd rule: along each row of centres, the pixels between the 1st and 2nd crossing of the outline, the 3rd and
    4th, and so on.
    """
    height, width = size
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    mask = np.zeros(size, bool)
    for (row, column), (next_row, next_column) in pairwise([*corners, corners[0]]):
        crossed = np.flatnonzero((row > rows) != (next_row > rows))
        if len(crossed):
            at = column + (rows[crossed] - row) * (next_column - column) / (next_row - row)
            mask[crossed] ^= columns < at[:, None]
    return mask


@lru_cache(maxsize=64)
def _mask(corners: tuple[Point, ...], cells: Cells | None, size: tuple[int, int]) -> Mask:
    if cells is not None:
        mask = resize_nearest(cells.mask(), size)
    else:
        mask = polygon_mask([(row * size[0], column * size[1]) for row, column in corners], size)
    mask.setflags(write=False)
    return mask


def _cells(content: Any) -> Cells:
    rows, columns = content["size"]
    return Cells((int(rows), int(columns)), tuple(map(int, content["counts"])))


def _listed(name: object, entry: str, content: Mapping[Any, Any]) -> tuple[Any, ...] | None:
    value = content.get(entry)
    if value is not None and not isinstance(value, list | tuple):
        raise SettingsError(f"zone {name!r}: {entry!r} must be a list, got {value!r:.80}")
    return None if value is None else tuple(value)


def _check_codes(name: str, codes: tuple[Kind, ...] | None, around: Around | None) -> None:
    if codes != () and (not codes or set(map(str, codes)) - set(KINDS)):
        raise SettingsError(
            f"zone {name!r}: 'codes' must be some of {', '.join(KINDS)}, got {list(codes or ())!r:.80}"
        )
    if around is None:
        return
    if not codes:
        raise SettingsError(f"zone {name!r} has 'around', which only a zone of 'codes' takes")
    numbers = [value for value in around if isinstance(value, int | float)]
    if len(numbers) != 4 or len(around) != 4 or not all(0 <= value <= MOST_AROUND for value in numbers):
        raise SettingsError(
            f"zone {name!r}: 'around' must be four numbers from 0 to {MOST_AROUND:g} (above, left, below, right, in "
            f"heights and widths of the code), got {list(around)!r:.80}"
        )


def _check_corners(name: str, corners: tuple[Point, ...]) -> None:
    numbers = [value for corner in corners for value in corner]
    if len(corners) < 3 or not all(map(math.isfinite, numbers)):
        raise SettingsError(
            f"zone {name!r}: a polygon has at least three corners, all finite, got {corners!r:.80}"
        )
    tall, wide = (max(axis) - min(axis) for axis in zip(*corners, strict=True))
    if min(tall, wide) <= 0:
        raise SettingsError(f"zone {name!r} is empty: its corners are {corners!r:.80}")
    tops, lefts = zip(*corners, strict=True)
    if max(tops) <= 0 or max(lefts) <= 0 or min(tops) >= 1 or min(lefts) >= 1 or max(map(abs, numbers)) > 3:
        raise SettingsError(
            f"zone {name!r} lies outside the photograph: as fractions of it its corners are {corners!r:.80}. "
            'Rows come before columns; places in pixels need "units": "pixels" and the "size" [rows, columns] of the photograph they were drawn on.'
        )
