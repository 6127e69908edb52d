"""Codes that lie elsewhere on every part: what of them may be left out of the inspection of one photograph.

A found code must not hide a defect, so nothing is left out but codes that can be read, that lie wholly inside the area
declared for them, of a size and number as on the good parts. Where they are not so, nothing at all is left out, and the
photograph is one for a person.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from andon.errors import SettingsError
from andon.nuisance.codes import Code, Pixels, find_codes
from andon.nuisance.zones import Mask, Zone, polygon_mask

LEEWAY = 1.5  # a code's area may be so many times larger than the largest on good parts, or smaller than the smallest
LEAST_READ = 0.9  # of the good photographs, in which a code must be read
MOST_SHARE = 0.25  # of a photograph, that codes and what is around them may take up

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two excluded


@dataclass(frozen=True)
class CodeLimits:
    """What codes on good parts are like: at most how many, their area as a share of the photograph, and in which share
    of the photographs any could be ``read``. Raises :class:`SettingsError`."""

    most: int
    smallest: float
    largest: float
    read: float

    def __post_init__(self) -> None:
        if not (self.most >= 1 and 0 < self.smallest <= self.largest < 1 and 0 < self.read <= 1):
            raise SettingsError(f"limits of codes that make no sense: {self}")

    def doubt(self, areas: list[float]) -> str:
        """Why codes of these ``areas`` (shares of the photograph) are not as on good parts; nothing where they are."""
        if not areas:
            return "no code can be read"
        if len(areas) > self.most:
            return f"{len(areas)} codes where good parts have {self.most} at most"
        if min(areas) < self.smallest / LEEWAY or max(areas) > self.largest * LEEWAY:
            return "a code of another size than on good parts"
        return ""

    def described(self) -> str:
        """What they are, in words."""
        return (f"at most {self.most} of {self.smallest:.2%} to {self.largest:.2%} of the image; "
                f"read in {self.read:.0%} of the good images")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CodeLimits:
        """What :meth:`to_dict` wrote. Raises :class:`SettingsError`, KeyError, TypeError or ValueError."""
        return cls(int(content["most"]), *(float(content[key]) for key in ("smallest", "largest", "read")))


class Found(NamedTuple):
    """What of a photograph a zone of codes takes up: ``mask`` (H, W), a box for each code, and why it is nothing if so."""

    mask: Mask
    boxes: tuple[Box, ...]
    doubt: str


def find_moving(pixels: Pixels, area: Mask, zone: Zone, limits: CodeLimits | None) -> Found:
    """Where the codes of ``zone`` lie in the photograph (H, W, 3); it may be there where ``area`` (H, W) is.

    ``limits``: None takes any number of any size. Raises :class:`MissingExtraError`.
    """
    nothing = np.zeros(area.shape, bool)
    codes = codes_inside(pixels, area, zone)
    if limits is not None and (doubt := limits.doubt([code.area / area.size for code in codes])):
        return Found(nothing, (), f"zone {zone.name!r}: {doubt}; all of it was inspected")
    masks = _covers(codes, area, zone)
    return Found(
        np.logical_or.reduce([nothing, *masks]), tuple(box_of(mask) for mask in masks if mask.any()), ""
    )


def codes_inside(pixels: Pixels, area: Mask, zone: Zone) -> list[Code]:
    """The codes of the zone's kinds whose corners all lie in ``area`` (H, W); the rest of the photograph is not read."""
    if not area.any():
        return []
    top, left, bottom, right = box_of(area)
    moved = [
        Code(code.kind, tuple((row + top, column + left) for row, column in code.corners))  # type: ignore[arg-type]
        for code in find_codes(pixels[top:bottom, left:right], zone.codes)
    ]
    return [code for code in moved if all(_holds(area, *corner) for corner in code.corners)]


def learn_limits(zone: Zone, photographs: Iterable[tuple[Pixels, Mask]]) -> CodeLimits:
    """What the zone's codes are like on good ``photographs``, each with the (H, W) area where codes may lie.

    Raises :class:`SettingsError` where codes are read in too few of them, or take up too much.
    """
    counts: list[int] = []
    areas: list[float] = []
    shares: list[float] = []
    for pixels, area in photographs:
        codes = codes_inside(pixels, area, zone)
        counts.append(len(codes))
        areas += [code.area / area.size for code in codes]
        shares.append(sum(float(mask.mean()) for mask in _covers(codes, area, zone)))
    read = sum(count > 0 for count in counts)
    if read < LEAST_READ * len(counts) or not read:
        raise SettingsError(
            f"zone {zone.name!r}: a code ({', '.join(zone.codes)}) can be read in {read} of {len(counts)} good images; "
            f"at least {LEAST_READ:.0%} are needed, as what is not read is inspected. Photograph the code larger "
            "(3 pixels a module, Aztec 5) and sharper, or ignore a fixed zone."
        )
    if max(shares) > MOST_SHARE:
        raise SettingsError(
            f"zone {zone.name!r}: the codes and what is around them take up {max(shares):.0%} of a good image; at most "
            f"{MOST_SHARE:.0%} may be left out so. Make 'around' smaller."
        )
    return CodeLimits(max(counts), min(areas), max(areas), read / len(counts))


def _covers(codes: Sequence[Code], area: Mask, zone: Zone) -> list[Mask]:
    """What each code and what is around it take up in ``area``, (H, W)."""
    size = (area.shape[0], area.shape[1])
    return [polygon_mask(code.outline(zone.reach), size) & area for code in codes]


def box_of(mask: Mask) -> Box:
    """The box around a mask (H, W) that is True somewhere.

    >>> box_of(np.eye(4, dtype=bool)[1:3])
    (0, 1, 2, 3)
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _holds(area: Mask, row: float, column: float) -> bool:
    """Whether a place is inside the photograph and the area; its border counts."""
    height, width = area.shape
    if not (-1 <= row <= height + 1 and -1 <= column <= width + 1):
        return False
    return bool(area[min(max(math.floor(row), 0), height - 1), min(max(math.floor(column), 0), width - 1)])
