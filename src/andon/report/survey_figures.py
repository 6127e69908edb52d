"""The figures of a survey as inline SVG, in the report's style.

Many dots are drawn as one line of tiny strokes with round ends: a tenth of the bytes of as many markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from andon.data.survey import Part, Seen
from andon.report.figures import (
    BAD,
    CALIBRATION,
    GOOD,
    INK,
    MUTED,
    REVIEW,
    RULE,
    draw_svg,
    locator,
    log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = NDArray[np.float64]

KINDS = {  # (split, anomalous) -> CSS name of the colour, words, colour
    ("train", False): ("neutral", "training", CALIBRATION),
    ("train", True): ("bad", "training, defective", BAD),
    ("calibration", False): ("amber", "for the threshold", REVIEW),
    ("calibration", True): ("bad", "for the threshold, defective", BAD),
    ("test", False): ("good", "test, good", GOOD),
    ("test", True): ("bad", "test, defective", BAD),
}
MOST_DOTS = 600  # of a group over time; more are drawn as a band
MAP_CELLS = 400  # places along each axis of the map that are told apart
_LEAST_WIDTH = 0.13  # of the axis, for a group over time
_LOG_SPAN = 10.0
_PER_ROW = 4  # histograms
_ORDER_LABELS = {"brightness": "brightness (0 to 255)", "sharpness": "sharpness"}


@dataclass(frozen=True)
class Group:
    """The photographs of one split, good or defective: where they begin among ``seen``, and how many they are."""

    kind: tuple[str, bool]
    start: int
    size: int

    @property
    def words(self) -> str:
        """What it is called in figures."""
        return KINDS[self.kind][1]

    @property
    def colour(self) -> str:
        """Its stand-in colour."""
        return KINDS[self.kind][2]

    @property
    def members(self) -> slice:
        """Its place among ``seen``."""
        return slice(self.start, self.start + self.size)


def groups_of(seen: Sequence[Seen]) -> list[Group]:
    """The groups of a category, whose photographs lie in their order."""
    groups: list[Group] = []
    for index, one in enumerate(seen):
        kind = (one.split, one.is_anomalous)
        if groups and groups[-1].kind == kind:
            groups[-1] = Group(kind, groups[-1].start, groups[-1].size + 1)
        else:
            groups.append(Group(kind, index, 1))
    return groups


def _dots(axes: Axes, x: Values, y: Values, colour: str, size: float, alpha: float) -> None:
    """A dot at each (x, y) that is finite."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points = np.stack([x, y], 1)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return
    path = Path(np.repeat(points, 2, axis=0), np.tile([Path.MOVETO, Path.LINETO], len(points)))
    path.should_simplify = False  # it would take strokes without length away
    patch = PathPatch(path, fill=False, edgecolor=colour, linewidth=size, alpha=alpha, capstyle="round")
    axes.add_patch(patch)
    axes.update_datalim(points)
    axes.autoscale_view()


# --- over time ------------------------------------------------------------------------------------------------------


def order_figure(part: Part, identifier: str) -> str:
    """Brightness and sharpness of each photograph in the order they were taken, one group after the other.

    The line is the running median. A group of more than 600 is drawn as the band of its middle 80 %.
    """
    groups = groups_of(part.seen)
    places = _places(groups)

    def draw(figure: Figure) -> None:
        top, low = figure.subplots(2, 1, sharex=True)
        for axes, measure in ((top, "brightness"), (low, "sharpness")):
            values = np.array([getattr(s, measure) for s in part.seen])
            for group, (left, width) in zip(groups, places, strict=True):
                _draw_over_time(axes, values[group.members], left, width, group.colour)
            _style_over_time(axes, values, _ORDER_LABELS[measure])
        for group, (left, width) in zip(groups, places, strict=True):
            middle = left + width / 2
            top.text(middle, 1.06, f"{group.words} · {group.size:,}", color=MUTED, ha="center", va="bottom",
                     transform=top.get_xaxis_transform())  # fmt: skip
        low.set_xlim(-0.01, 1.01)
        low.set_xticks([])
        low.set_xlabel(
            f"photographs by their {'EXIF time' if part.timed else 'file names'}, first to last in each group"
        )

    return draw_svg(draw, (9.4, 4.2), identifier)


def _places(groups: Sequence[Group]) -> list[tuple[float, float]]:
    """(left, width) of each group on an axis from 0 to 1, small ones wide enough for their name."""
    total = sum(group.size for group in groups)
    wide = np.array([max(group.size / total, _LEAST_WIDTH) for group in groups])
    wide /= wide.sum()
    lefts = np.concatenate([[0], np.cumsum(wide)[:-1]])
    gap = 0.012 if len(groups) > 1 else 0.0
    return [(float(left + gap), float(width - 2 * gap)) for left, width in zip(lefts, wide, strict=True)]


def _draw_over_time(axes: Axes, values: Values, left: float, width: float, colour: str) -> None:
    x = left + width * (np.arange(len(values)) + 0.5) / len(values)
    if len(values) <= MOST_DOTS:
        _dots(axes, x, values, colour, 3.4, 0.7)
    centres = np.linspace(0, len(values) - 1, min(len(values), 120))
    half = max(3, len(values) // 24)
    windows = [values[max(0, round(c) - half) : round(c) + half + 1] for c in centres]
    windows = [window[np.isfinite(window)] for window in windows]
    if len(values) < 12 or not all(window.size for window in windows):
        return
    at = left + width * (centres + 0.5) / len(values)
    if len(values) > MOST_DOTS:
        low, high = (np.array([np.quantile(w, share) for w in windows]) for share in (0.1, 0.9))
        axes.fill_between(at, low, high, color=colour, alpha=0.35, linewidth=0)
    axes.plot(at, [float(np.median(w)) for w in windows], color=INK, linewidth=1.2)


def _style_over_time(axes: Axes, values: Values, label: str) -> None:
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > _LOG_SPAN * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(locator("LogLocator", subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(locator("NullLocator"))
    else:
        axes.yaxis.set_major_locator(locator("MaxNLocator", 4))
    axes.set_ylabel(label)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


# --- in the plane -----------------------------------------------------------------------------------------------------


def map_figure(part: Part, identifier: str) -> str:
    """Each photograph as a dot, near to those that look like it: the first two principal components."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=RULE, linewidth=0.6)
        axes.axvline(0, color=RULE, linewidth=0.6)
        for group in groups_of(part.seen):
            points = _thinned(part.points[group.members], part.points)
            _dots(axes, points[:, 0], points[:, 1], group.colour, 4.2, 0.75)
        shares = [f"{100 * share:.0f} %" for share in part.explained]
        axes.set_xlabel(f"1st component ({shares[0]} of the variance)")
        axes.set_ylabel(f"2nd component ({shares[1]})")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.06)

    return draw_svg(draw, (4.4, 3.6), identifier)


def _thinned(points: Values, among: Values) -> Values:
    """Those of ``points`` (n, 2) that can be told apart in the drawing of all."""
    extent = np.maximum(np.ptp(among, axis=0), 1e-12)
    _, first = np.unique(np.round(points / extent * MAP_CELLS), axis=0, return_index=True)
    return points[np.sort(first)]


def distance_figure(part: Part, identifier: str) -> str:
    """How far the photographs of each group lie from the nearest training images, as shares of the group."""
    groups = [g for g in groups_of(part.seen) if np.isfinite(part.distance[g.members]).all()]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        highest = _histograms(axes, [(part.distance[g.members], g.colour) for g in groups])
        axes.set_ylim(0, 1.05 * highest)
        axes.set_xlabel("distance to the nearest training images (1 is usual)")
        axes.set_ylabel("images of the group")

    return draw_svg(draw, (4.4, 3.6), identifier)


def _histograms(axes: Axes, samples: Sequence[tuple[Values, str]]) -> float:
    """The highest share, after the shares of each sample are drawn: the training as an outline, the others filled."""
    highest = 0.0
    values = np.concatenate([sample for sample, _ in samples])
    log = bool(values.min() > 0 and values.max() > _LOG_SPAN * values.min())
    edges = _edges(values, min(len(sample) for sample, _ in samples), log)
    for sample, colour in samples:
        counts, _ = np.histogram(np.clip(sample, edges[0], edges[-1]), bins=edges)
        share = np.where(counts, counts / len(sample), np.nan)
        highest = max(highest, float(np.nanmax(share)))
        if colour != CALIBRATION:
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.4, zorder=3)
    if log:
        log_axis(axes)
    else:
        axes.xaxis.set_major_locator(locator("MaxNLocator", 3))
    axes.yaxis.set_major_locator(locator("MaxNLocator", 3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    return highest


def _edges(values: Values, smallest: int, log: bool) -> Values:
    """Edges around all ``values``, as many as the smallest sample can fill."""
    scale = np.log(values) if log else values
    low, high = float(scale.min()), float(scale.max())
    room = 0.03 * (high - low) or 0.05 * max(abs(low), 1.0)
    edges = np.linspace(low - room, high + room, int(np.clip(2.5 * np.sqrt(smallest), 8, 40)) + 1)
    return np.asarray(np.exp(edges) if log else edges)


def drift_figure(pairs: Sequence[tuple[str, Values, Values]], identifier: str) -> str:
    """Pairs of samples, (name, first, second), each as two histograms: outline and filled."""
    rows = -(-len(pairs) // _PER_ROW)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, _PER_ROW, squeeze=False, sharey=True)
        for axes in grid.ravel()[len(pairs) :]:
            axes.set_visible(False)
        highest = 0.0
        for axes, (name, first, second) in zip(grid.ravel(), pairs, strict=False):
            highest = max(highest, _histograms(axes, [(first, CALIBRATION), (second, GOOD)]))
            axes.set_title(name, fontsize=9, color=INK, loc="left")
            axes.tick_params(labelleft=axes in grid[:, 0])
        grid[0, 0].set_ylim(0, 1.05 * highest)

    return draw_svg(draw, (9.4, 1.9 * rows), identifier)


# --- defects and sizes ------------------------------------------------------------------------------------------------


def areas_figure(lanes: Sequence[tuple[str, Values]], small: float, identifier: str) -> str:
    """The share of its image that each defect covers, one row of ticks per kind; a line at the share ``small``."""
    values = np.concatenate([shares for _, shares in lanes])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(small, color=REVIEW, linewidth=1.3)
        axes.text(small, 1.02, "8 × 8 pixels at 256 × 256", color=REVIEW, ha="center", va="bottom",
                  transform=axes.get_xaxis_transform())  # fmt: skip
        for row, (_, shares) in enumerate(lanes):
            x = np.unique(np.round(np.log10(shares), 3)).astype(np.float64)
            _dots(axes, np.power(10.0, x), np.full(len(x), float(row)), BAD, 5.0, 0.6)
            axes.plot([np.median(shares)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.4)
        low, high = min(values.min(), small) / 1.6, min(1.05, max(values.max(), small) * 1.6)
        log_axis(axes)
        if high > 1e4 * low:
            axes.xaxis.set_major_locator(locator("LogLocator", subs=(1,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.set_xlim(low, high)
        axes.set_yticks(range(len(lanes)), [f"{name[:26]}  {len(shares):,}" for name, shares in lanes])
        axes.set_ylim(len(lanes) - 0.4, -0.6)
        axes.set_xlabel("share of the image that its masks mark (line: median)")
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)

    return draw_svg(draw, (9.4, 1.0 + 0.28 * len(lanes)), identifier)


def sizes_figure(sizes: NDArray[np.int64], identifier: str) -> str:
    """Each size (rows, columns) that photographs have, as a dot."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        distinct = np.unique(sizes, axis=0).astype(np.float64)
        _dots(axes, distinct[:, 1], distinct[:, 0], CALIBRATION, 4.0, 0.8)
        axes.set_xlabel("columns (pixels)")
        axes.set_ylabel("rows (pixels)")
        axes.set_xlim(0, distinct[:, 1].max() * 1.06)
        axes.set_ylim(0, distinct[:, 0].max() * 1.06)
        axes.grid(color=RULE, linewidth=0.6)
        axes.tick_params(length=0)

    return draw_svg(draw, (4.4, 3.2), identifier)
