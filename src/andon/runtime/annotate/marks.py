"""Anomaly map -> marks: the regions of one photograph as a person can edit them.

H, W: rows and columns of the photograph, upright. Boxes are (top, left, bottom, right), the last two excluded;
points are (x, y) along the pixels' edges, as in :mod:`andon.outline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.components import label
from andon.heatmap import checked_map
from andon.image import resize_map
from andon.outline import Outline, Ring, joined, simplify, trace
from andon.runtime.explain import MIN_AREA, MOST, find_regions
from andon.types import Decision, Region

Shape = Literal["polygon", "box", "mask", "counts", "instances"]
TOLERANCE = 1.0  # pixels that a polygon's corners may be taken from the region's edge


@dataclass(frozen=True, eq=False)
class Mark:
    """One region of a photograph."""

    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]  # of the box: (bottom - top, right - left)
    polygon: Ring  # (N, 2) of x, y; holes are joined to the outer ring (see andon.outline.joined)
    confidence: float  # 0 to 1, see confidence()

    @property
    def area(self) -> int:
        """In pixels of the photograph."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """What is said of one photograph."""

    name: str  # relative to the folder of images, with /
    stem: str  # the name without its ending, or with it where two images would share it; with /
    size: tuple[int, int]
    decision: Decision
    score: float  # 0 to 1: the share of good calibration images that scored lower
    marks: tuple[Mark, ...]
    turned: bool = False  # stored on its side or upside down (EXIF); all here is upright


@dataclass(frozen=True)
class Style:
    """How marks are written: the name of their class, their shape, and what a format wants besides."""

    shape: Shape
    label: str = "defect"
    detector: str = ""  # the detector's name, where a format keeps it
    url: str = ""  # what Label Studio puts before an image's name


def find_marks(
    anomaly_map: NDArray[np.floating],
    map_threshold: float | NDArray[np.floating],
    size: tuple[int, int],
    *,
    min_area: float = MIN_AREA,
    most: int = MOST,
    tolerance: float = TOLERANCE,
    level: float = 1.0,
) -> tuple[Mark, ...]:
    """The regions where the raw map (h, w), brought to ``size`` (H, W), lies above ``map_threshold``, strongest first.

    The map is resized bilinearly, as for pixel metrics, so that outlines are smooth; its peak is kept as it is. An
    array (h, w) gives each place a threshold of its own; nan has no regions. ``min_area`` and ``most`` as in
    :func:`andon.runtime.explain.find_regions`; ``tolerance`` in pixels as in :func:`andon.outline.simplify`. ``level``:
    where to cut, as a share of the threshold's height above the median of this map; below 1 more is marked.

    Raises :class:`ImageError` on a map that is not 2-D or not finite.
    """
    values = _at_size(checked_map(anomaly_map), size).astype(np.float64)
    usual = float(np.median(values))
    limits = level * _limits_at_size(map_threshold, size) + (1 - level) * usual
    regions = find_regions(
        values, limits if limits.ndim else float(limits), size, min_area=min_area, most=most
    )
    if not regions:
        return ()
    labels, _ = label(values > limits)
    limits = np.broadcast_to(limits, size)
    return tuple(
        _mark(region, labels, confidence(region.peak, float(limits[region.peak_position]), usual), tolerance)
        for region in regions
    )


def confidence(peak: float, map_threshold: float, usual: float) -> float:
    """How far a region stands out: the part of its height that lies above where it was cut, 0 to 1.

    Height is counted from ``usual``, the median of the photograph's own map: 0 at the threshold, 0.5 where the region
    rises twice as high as the threshold does, and 1 where half of the photograph lies above the threshold. It ranks
    regions and is no probability: of good parts' highest points a share of ``1 - target_rate`` or more lies below
    every region, by the choice of the threshold, so that this share could not tell one region from another.

    >>> confidence(5.0, 3.0, 1.0)
    0.5
    """
    return min(1.0, max(0.0, (peak - map_threshold) / max(peak - usual, 1e-12)))


def image_mask(image: AnnotatedImage) -> NDArray[np.uint8]:
    """(H, W) uint8: 0 outside the marks, their numbers from 1 in their order inside."""
    numbers = np.zeros(image.size, np.uint8)
    for number, mark in enumerate(image.marks, 1):
        top, left, bottom, right = mark.box
        numbers[top:bottom, left:right][mark.mask] = number
    return numbers


def _at_size(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The map at ``size``, where its peak is as high as it was: shrinking would average it away."""
    values = resize_map(anomaly_map, size)
    if values.max() < anomaly_map.max():
        row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
        at = (2 * int(row) + 1) * size[0] // (2 * anomaly_map.shape[0])
        values[at, (2 * int(column) + 1) * size[1] // (2 * anomaly_map.shape[1])] = anomaly_map.max()
    return values


def _limits_at_size(
    map_threshold: float | NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.float64]:
    """The threshold of each pixel (H, W), or the one of all of them (a scalar array)."""
    limits = np.asarray(map_threshold, dtype=np.float64)
    if not limits.ndim:
        return limits
    rows, columns = (np.arange(want) * have // want for want, have in zip(size, limits.shape, strict=True))
    return limits[np.ix_(rows, columns)]


def _mark(region: Region, labels: NDArray[np.int32], certainty: float, tolerance: float) -> Mark:
    top, left, bottom, right = region.box
    mask = labels[top:bottom, left:right] == labels[region.peak_position]
    (outline,) = trace(mask)
    fewer = Outline(
        simplify(outline.outer, tolerance), tuple(simplify(hole, tolerance) for hole in outline.holes)
    )
    return Mark(region.box, mask, joined(fewer) + np.array([left, top]), round(certainty, 4))
