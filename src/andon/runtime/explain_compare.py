"""A photograph beside what it should look like: how it differs, and a picture of a good part, from what the detector has.

A reconstruction where the method makes one; else the pictures of good parts that were kept at the fit; else nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from andon.image import Prepared
from andon.runtime.explain_difference import (
    UNCLEAR,
    Difference,
    Pixels,
    against_expected,
    against_good,
    canvas_size,
    look,
    on_canvas,
    region_mask,
)
from andon.runtime.explain_good import Expected, GoodPictures, bank_row, cut, window_of
from andon.types import Region

Thresholds = float | NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Seen:
    """One photograph, as it was inspected, and what the graph answered besides map and score."""

    pixels: Pixels  # (H0, W0, 3), the photograph
    prepared: Prepared
    nearest: NDArray[np.integer] | None = None  # (N, h, w) rows of the memory bank
    expected: Pixels | None = None  # (h, w, 3), the photograph as the method reconstructs it, where it does

    @property
    def size(self) -> tuple[int, int]:
        """(H0, W0) of the photograph."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Comparer:
    """Compares photographs with the good parts that an artefact, of these ``members``, can tell of."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members = members

    @cached_property
    def good(self) -> GoodPictures:
        """The pictures kept at the fit, decoded when first asked for. Raises :class:`ArtifactError`."""
        return GoodPictures.of(self._members)

    def difference(
        self, seen: Seen, anomaly_map: NDArray[np.floating], thresholds: Thresholds, region: Region
    ) -> Difference:
        """In what way ``region`` differs from good parts, as far as that is clear."""
        expected = seen.expected
        if expected is None and not self.good.pictures:
            return UNCLEAR
        canvas = canvas_size(seen.size)
        photo = look(seen.pixels, canvas)
        mask = region_mask(anomaly_map, thresholds, region, seen.size)
        if expected is None:
            return against_good(photo, self.good.looks(seen.size), mask)
        odd = on_canvas(np.asarray(anomaly_map > thresholds), canvas) | mask
        return against_expected(photo, look(expected, canvas), mask, odd)

    def expected(self, seen: Seen, region: Region) -> Expected | None:
        """A picture of what ``region`` and its surroundings should look like; None where there is none."""
        if seen.expected is not None:
            return Expected(cut(seen.expected, window_of(region, seen.size)), "reconstruction")
        if not self.good.pictures:
            return None
        row = None
        if seen.nearest is not None:
            peak = region.peak_position
            place = ((peak[0] + 0.5) / seen.size[0], (peak[1] + 0.5) / seen.size[1])
            row = bank_row(seen.nearest, seen.prepared, place)
        return self.good.expected(look(seen.pixels, canvas_size(seen.size)), region, seen.size, row)
