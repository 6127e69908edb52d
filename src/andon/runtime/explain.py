"""Where an image deviates and in what way: an anomaly map -> regions -> one sentence.

Shapes: h, w rows and columns of the map, H, W of the photograph, which is the map's extent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from andon.components import label, third
from andon.errors import SettingsError
from andon.heatmap import checked_map
from andon.runtime.explain_difference import NO_DIFFERENCE, Difference
from andon.runtime.words import DEFAULT, Words, decimal, words_of
from andon.types import Calibration, Decision, Region

MOST = 10  # regions reported at most
MIN_AREA = 1e-4  # of the image: 6 or 7 pixels of 256 x 256
ENGLISH = words_of(DEFAULT)

_THIN = 4.0  # elongation from which a region is long and thin
_LARGE, _WHOLE = 0.05, 0.5  # shares of the image from which it is large, or everywhere
_EDGE_LENGTH, _EDGE_DEPTH = 0.5, 0.2  # along an edge: at least that long, at most that deep
_ALONE = 0.8  # share of the deviating area from which one region is spoken of as the only one
_CLEAR, _STRONG = 0.25, 1.0  # excess over the threshold, in steps from the usual good part to the threshold


def find_regions(
    anomaly_map: NDArray[np.floating],
    map_threshold: float | NDArray[np.floating],
    size: tuple[int, int],
    *,
    min_area: float = MIN_AREA,
    most: int = MOST,
) -> tuple[Region, ...]:
    """The connected areas where the raw map (h, w) lies above ``map_threshold``, the strongest first.

    Found on the map's own grid, with 8 neighbours; boxes, areas and peaks are those of the photograph of
    ``size`` (H, W). min_area: share of the image, 0 to 1; smaller regions are left out, except the strongest
    of all, so that a pinhole that fails a part is still shown. most: how many at most. A threshold of nan
    (uncalibrated) has no regions. An array (h, w) gives each place a threshold of its own.

    Raises :class:`ImageError` on a map that is not 2-D or not finite, :class:`SettingsError` on the rest.

    >>> field = np.zeros((4, 4)); field[1, 2] = 5.0
    >>> find_regions(field, 1.0, (40, 80))[0].box
    (10, 40, 20, 60)
    """
    values = checked_map(anomaly_map)
    _check_settings(size, min_area, most)
    above = values > np.asarray(map_threshold)  # in the threshold's precision, not the map's
    if not above.any():  # most parts are good, and maps of large photographs large
        return ()
    labels, _ = label(above)
    rows, columns = np.nonzero(labels)
    order = np.lexsort((-values[rows, columns], labels[rows, columns]))  # by region, its peak first
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(labels[rows, columns], prepend=0))
    areas = np.diff(np.append(starts, len(rows)))
    ranked = np.lexsort((-areas, -values[rows[starts], columns[starts]]))
    enough = [at for at in ranked[1:] if areas[at] >= min_area * values.size]
    members = [slice(starts[at], starts[at] + areas[at]) for at in [ranked[0], *enough][:most]]
    return tuple(_region(rows[part], columns[part], values, size) for part in members)


def describe(
    decision: Decision,
    regions: Sequence[Region],
    size: tuple[int, int],
    image_score: float,
    calibration: Calibration,
    *,
    words: Words = ENGLISH,
    difference: Difference = NO_DIFFERENCE,
) -> str:
    """One sentence for the person at the line: how strong, where, how large, and a cautious guess.

    ``regions`` as :func:`find_regions` gives them for a photograph of ``size`` (H, W); ``words``: the table
    of a language. ``difference``: what a comparison with good parts found of the main region
    (:func:`main_region`); where nobody compared, the guess is a rule of thumb on the shape alone.
    """
    if math.isnan(calibration.threshold):
        return words["sentence.uncalibrated"]
    if decision == "pass":
        return words["sentence.pass"]
    if decision == "review":
        place = words[f"place.{place_of(regions[0], size)}"] if regions else ""
        return words[f"sentence.{'review_at' if regions else 'review'}"].format(place=place)
    strength = words[f"strength.{_strength(image_score, calibration)}"]
    if not regions:
        return words["sentence.fail_nowhere"].format(strength=strength)
    shape = shape_of(regions)
    kind = {"several": "fail_several", "most": "fail_most"}.get(shape, "fail")
    finding = words[f"sentence.{kind}"].format(
        strength=strength,
        place=words[f"place.{place_of(main_region(regions), size)}"],
        share=share_words(sum(region.area_fraction for region in regions), words),
        shape=_shape_words(shape, len(regions), words),
    )
    return _completed(finding, shape, difference, words)


def main_region(regions: Sequence[Region]) -> Region:
    """The region that a sentence speaks of: the strongest of several spots, else the largest."""
    if shape_of(regions) == "several":
        return regions[0]
    return max(regions, key=lambda region: region.area_fraction)


def _completed(finding: str, shape: str, difference: Difference, words: Words) -> str:
    """``finding`` with what differs from good parts and with the guess, as far as there are any."""
    if difference.light:
        text = words[f"difference.{difference.light}"]
        finding = words["sentence.compared"].format(finding=finding, difference=text)
    guess = difference.guess or (shape if difference.by_shape else "")
    if not guess:
        return finding
    return words["sentence.guessed"].format(finding=finding, guess=words[f"guess.{guess}"])


def _region(
    rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float32], size: tuple[int, int]
) -> Region:
    """The region of the map's pixels at ``rows``, ``columns``, the peak first, scaled to ``size``."""
    height, width = values.shape
    share = len(rows) / values.size
    top, bottom = _scaled(int(rows.min()), int(rows.max()), size[0], height)
    left, right = _scaled(int(columns.min()), int(columns.max()), size[1], width)
    row, column = int(rows[0]), int(columns[0])
    return Region(
        box=(top, left, bottom, right),
        area=max(1, round(share * size[0] * size[1])),
        area_fraction=share,
        peak=float(values[row, column]),
        peak_position=((2 * row + 1) * size[0] // (2 * height), (2 * column + 1) * size[1] // (2 * width)),
        elongation=_elongation(rows, columns, size[0] / height, size[1] / width),
    )


def _scaled(first: int, last: int, length: int, cells: int) -> tuple[int, int]:
    """Start and end of the pixels, of ``length``, that the cells ``first`` to ``last``, of ``cells``, touch."""
    return first * length // cells, -(-(last + 1) * length // cells)


def _elongation(rows: NDArray[np.intp], columns: NDArray[np.intp], tall: float, wide: float) -> float:
    """Major over minor axis of the ellipse with the second moments of these cells of ``tall`` x ``wide``."""
    y, x = rows * tall, columns * wide
    yy, xx = y.var() + tall**2 / 12, x.var() + wide**2 / 12  # a cell has an extent of its own
    yx = ((y - y.mean()) * (x - x.mean())).mean()
    spread = math.hypot(yy - xx, 2 * yx)
    return math.sqrt((yy + xx + spread) / (yy + xx - spread))


def _strength(image_score: float, calibration: Calibration) -> str:
    """By the excess over the threshold, measured from the median good part to the threshold."""
    nominal, threshold = calibration.nominal_scores, calibration.threshold
    spread = threshold - nominal[len(nominal) // 2]
    if spread <= 0:  # a threshold among the good parts: their range
        spread = nominal[-1] - nominal[0]
    excess = image_score - threshold
    if excess >= _STRONG * spread:
        return "strong"
    return "clear" if excess >= _CLEAR * spread else "slight"


def place_of(region: Region, size: tuple[int, int]) -> str:
    """The key of the words for where ``region`` lies: an edge, or a cell of a 3 x 3 grid."""
    top, left, bottom, right = region.box
    height, width = size
    if (right - left) * (bottom - top) > 2 / 3 * height * width:
        return "whole"
    upright = bottom - top >= _EDGE_LENGTH * height and right - left <= _EDGE_DEPTH * width
    if upright and (left == 0 or right == width):
        return "left_edge" if left == 0 else "right_edge"
    flat = right - left >= _EDGE_LENGTH * width and bottom - top <= _EDGE_DEPTH * height
    if flat and (top == 0 or bottom == height):
        return "top_edge" if top == 0 else "bottom_edge"
    row, column = third(region.box, size)
    names = (("upper", "", "lower")[row], ("left", "", "right")[column])
    return "_".join(filter(None, names)) or "centre"


def shape_of(regions: Sequence[Region]) -> str:
    """The key of the words for what ``regions`` look like together."""
    total = sum(region.area_fraction for region in regions)
    main = max(regions, key=lambda region: region.area_fraction)
    if total >= _WHOLE:
        return "most"
    if len(regions) > 1 and main.area_fraction < _ALONE * total:
        return "several"
    if main.elongation >= _THIN:
        return "thin"
    return "large" if main.area_fraction >= _LARGE else "compact"


def _shape_words(shape: str, count: int, words: Words) -> str:
    if shape == "most":
        return ""
    return words[f"shape.{'many' if shape == 'several' and count >= MOST else shape}"].format(count=count)


def share_words(share: float, words: Words) -> str:
    """A share of the image, 0 to 1, as people say it."""
    if share < 0.0005:
        return words["share.tiny"]
    percent = f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"
    return words["share.percent"].format(percent=decimal(words, percent))


def _check_settings(size: tuple[int, int], min_area: float, most: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise SettingsError(f"size: expected (H, W) of the photograph, got {size}")
    if not 0 <= min_area <= 1:
        raise SettingsError(f"min_area: expected a share of the image, 0 to 1, got {min_area}")
    if most < 1:
        raise SettingsError(f"most: expected at least 1 region, got {most}")
