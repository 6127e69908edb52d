"""Zones in files: ``zones.json``, or a picture in which people painted what to ignore.

``zones.json``::

    {"format": "andon-zones", "schema": 1, "units": "pixels", "size": [1200, 1600],
     "zones": [{"name": "label", "box": [100, 200, 300, 700]},
               {"name": "lot number", "polygon": [[800, 90], [800, 400], [950, 400]],
                "treatment": "looser", "rate": 0.001}]}

Boxes are [top, left, bottom, right], corners [row, column]. ``units`` is ``pixels`` of a photograph of ``size``
[rows, columns], or ``fractions`` of any photograph, 0 to 1.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from andon.components import label
from andon.data.masks import mask_values
from andon.errors import DataError, SettingsError
from andon.files import atomic_write
from andon.image import IMAGE_SUFFIXES
from andon.nuisance.zones import Cells, Mask, Zone

FORMAT = "andon-zones"
SCHEMA = 1
MOST_ZONES = 100
MOST_IGNORED = 0.9  # of a photograph, that fixed zones may take up together
SAME_SHAPE = 0.02  # by which heights over widths of two photographs of one camera may differ, as a share
_ENTRIES = {"format", "schema", "units", "size", "zones"}


def read_zones(path: str | os.PathLike[str]) -> tuple[Zone, ...]:
    """The zones in ``path``: a ``zones.json``, or a mask image whose non-zero pixels are to be ignored.

    Raises :class:`DataError` saying what is wrong with the file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"there is no file {path} with zones: give a zones.json, or an image whose non-zero pixels mark them"
        )
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return zones_of_mask(mask_values(path) != 0)
        return _zones(json.loads(path.read_text(encoding="utf-8")))
    except (SettingsError, UnicodeDecodeError, json.JSONDecodeError, OSError) as error:
        raise DataError(f"the zones in {path} cannot be used: {error}") from error


def drawn_on(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """The size (H, W) of the photograph that the zones in ``path`` were drawn on; None where it does not say.

    Raises :class:`DataError` as :func:`read_zones`, which should be called before.
    """
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        height, width = mask_values(Path(path)).shape
        return height, width
    return _drawn_on(json.loads(Path(path).read_text(encoding="utf-8")))


def check_zones(zones: Sequence[Zone], size: tuple[int, int], drawn: tuple[int, int] | None = None) -> None:
    """Raise :class:`DataError` where ``zones`` do not suit photographs of ``size`` (H, W).

    They were ``drawn`` on a photograph of another shape, one holds no pixel, or they leave too little to inspect.
    """
    if drawn is not None and abs(drawn[0] * size[1] / (drawn[1] * size[0]) - 1) > SAME_SHAPE:
        raise DataError(
            f"the zones were drawn on a photograph of {drawn[0]} x {drawn[1]} pixels (rows x columns), these have "
            f"{size[0]} x {size[1]}: another shape. Are they zones of another part or camera? Draw them anew."
        )
    for zone in zones:
        if not zone.mask(size).any():
            raise DataError(f"zone {zone.name!r} holds no pixel of a photograph of {size[0]} x {size[1]}")
    fixed = [zone.mask(size) for zone in zones if zone.treatment == "ignore" and not zone.codes]
    share = float(np.logical_or.reduce(fixed).mean()) if fixed else 0.0
    if share > MOST_IGNORED:
        raise DataError(
            f"the zones take up {share:.0%} of the photograph and leave hardly anything to inspect: at most "
            f"{MOST_IGNORED:.0%} can be ignored. Draw them smaller."
        )


def write_zones(path: str | os.PathLike[str], zones: Sequence[Zone]) -> Path:
    """The path of the ``zones.json`` written, atomically."""
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "units": "fractions",
        "zones": [zone.to_dict() for zone in zones],
    }
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    return Path(path)


def zones_of_mask(mask: Mask) -> tuple[Zone, ...]:
    """A zone to ignore for each connected area of ``mask`` (H, W) bool, in the order of their first pixels.

    Raises :class:`SettingsError` when there is none, or more than ``MOST_ZONES``.
    """
    labels, count = label(mask)
    if not 0 < count <= MOST_ZONES:
        raise SettingsError(f"the mask has {count} separate areas; expected 1 to {MOST_ZONES}")
    return tuple(Zone(f"mask {number}", cells=Cells.of(labels == number)) for number in range(1, count + 1))


def _zones(content: Any) -> tuple[Zone, ...]:
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise SettingsError(f'expected a JSON object with "format": "{FORMAT}"')
    if content.get("schema") != SCHEMA:
        raise SettingsError(
            f"schema {content.get('schema')!r} is not known; this version reads schema {SCHEMA}"
        )
    if unknown := sorted(set(content) - _ENTRIES):
        raise SettingsError(f"unknown entries {unknown}; there are: {', '.join(sorted(_ENTRIES))}")
    entries = content.get("zones")
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_ZONES:
        raise SettingsError(f'"zones" must be a list of 1 to {MOST_ZONES} zones')
    size = _drawn_on(content)
    zones = tuple(Zone.from_dict(entry, size) for entry in entries)
    if twice := [name for name, count in Counter(zone.name for zone in zones).items() if count > 1]:
        raise SettingsError(f"{len(twice)} names are used twice: {', '.join(twice[:5])}")
    return zones


def _drawn_on(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size (H, W) of the photograph that pixels refer to; None for fractions."""
    units, size = content.get("units", "fractions"), content.get("size")
    if units not in ("pixels", "fractions"):
        raise SettingsError(f'"units" must be "pixels" or "fractions", got {units!r}')
    if units == "fractions":
        return None
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not whole or not isinstance(size, list):
        raise SettingsError(
            'places in pixels need the "size" [rows, columns] of the photograph they were drawn on'
        )
    return size[0], size[1]
