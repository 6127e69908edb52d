"""The benchmark's drawings as inline SVG, in the report's style: readable without colour, in light and in dark.

What colour says, shape, fill or a label says too: filled dots lie on the front, triangles point where a variant leads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from andon.bench.charts import Chart, Curves, Learning, Pair, Pairs, Spread, Strip, TradeOff
from andon.bench.label_places import Place, label_places
from andon.bench.rows import Quantity
from andon.bench.tables import AS_IT_IS
from andon.bench.words import first_up, phrase, quoted, shown, title_of
from andon.report.figures import BAD, CALIBRATION, GOOD, INK, MUTED, PAPER, RULE, draw_svg, locator, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.4  # inches; the page scales the drawing to its own width
_PANELS = 3  # side by side
_LABEL = 24  # letters of a category's name, at most
_SIGNS = {1: (">", GOOD), -1: ("<", BAD), 0: ("o", CALIBRATION)}
Points = tuple[list[float], list[float], list[float], list[float]]  # x, mean, low, high


@dataclass(frozen=True)
class Drawing:
    """An SVG element, what it shows in words, a caption and a legend: (CSS class, mark, words)."""

    svg: str
    alt: str
    caption: str
    legend: tuple[tuple[str, str, str], ...] = ()


def draw(chart: Chart, identifier: str) -> Drawing:
    """The drawing of any chart; ids in it begin with ``identifier``. Raises MissingExtraError without matplotlib."""
    if isinstance(chart, TradeOff):
        return _trade_off(chart, identifier)
    if isinstance(chart, Spread):
        return _spread(chart, identifier)
    if isinstance(chart, Pairs):
        return _pairs(chart, identifier)
    return _curves(chart, identifier)


def _limits(values: list[float], room: float = 0.06) -> tuple[float, float]:
    """The ends of an axis around ``values``."""
    span = (max(values) - min(values)) or 0.02
    return min(values) - room * span, max(values) + room * span


def _number_axis(axis: object, what: Quantity, ticks: int = 5) -> None:
    """At most ``ticks`` ticks, in percent where the figure is a share."""
    axis.set_major_locator(locator("MaxNLocator", ticks, steps=(1, 2, 2.5, 5, 10)))  # type: ignore[attr-defined]
    if what.is_share:
        axis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")  # type: ignore[attr-defined]


# --- accuracy over time ---------------------------------------------------------------------------------------------------


def _trade_off(chart: TradeOff, identifier: str) -> Drawing:
    costs = [one.cost for one in chart.points]
    across, up = (min(costs) / 1.35, max(costs) * 1.6), _limits([one.value for one in chart.points], 0.14)
    height = 3.6 if len(chart.points) <= 10 else 4.6
    places = label_places(chart.points, across, up, (72 * (WIDTH - 0.9), 72 * (height - 0.8)))

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(color=RULE, linewidth=0.6)
        _draw_front(axes, chart, across[1])
        for k, one in enumerate(chart.points):
            face, edge = (GOOD, GOOD) if one.on_front else (PAPER, MUTED)
            axes.plot(one.cost, one.value, "o", color=face, markeredgecolor=edge, markersize=7, zorder=4)
            _write(axes, title_of(one.name), (one.cost, one.value), places[k], one.on_front)
        log_axis(axes)
        if across[1] < 5 * across[0]:
            axes.xaxis.set_major_locator(locator("MaxNLocator", 6))
        axes.set(xlim=across, ylim=up, xlabel="milliseconds an image, median", ylabel=phrase(chart.what))
        _number_axis(axes.yaxis, chart.what)
        axes.tick_params(length=0, pad=5)

    said = [
        f"{title_of(one.name)} {shown(one.value, chart.what)} at {one.cost:.3g} ms" for one in chart.points
    ]
    return Drawing(
        draw_svg(make, (WIDTH, height), identifier),
        f"{first_up(phrase(chart.what))} over the time of an image. {'; '.join(said)}.",
        "Means over the categories. Higher is more accurate, further left is faster; the line joins those that none beats on both.",
        (("good", "●", "beaten by none on both"), ("hollow", "○", "another is both faster and more accurate")),
    )  # fmt: skip


def _draw_front(axes: Axes, chart: TradeOff, end: float) -> None:
    front = [one for one in chart.points if one.on_front]
    if len(front) > 1:
        x, y = [one.cost for one in front] + [end], [one.value for one in front] + [front[-1].value]
        axes.step(x, y, where="post", color=GOOD, linewidth=1.2, alpha=0.55, zorder=2)


def _write(axes: Axes, text: str, at: tuple[float, float], place: Place, is_front: bool) -> None:
    """A label beside its dot, with a line to it where it stands far off."""
    dx, dy, side = place
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4}
    axes.annotate(
        text, at, (dx, dy), textcoords="offset points", ha=side, va="center", color=INK if is_front else MUTED,
        fontweight="bold" if is_front else "normal", arrowprops=line if abs(dy) > 15 else None, zorder=5,
    )  # fmt: skip


# --- from category to category --------------------------------------------------------------------------------------------


def _spread(chart: Spread, identifier: str) -> Drawing:
    values = [value for strip in chart.strips for _, value in strip.values]
    low, high = _limits(values, 0.05)
    longest = max(len(label) for strip in chart.strips for label, _ in strip.values)
    room = 0.012 * min(longest, _LABEL) * (high - low)

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        for row, strip in enumerate(chart.strips):
            _draw_strip(axes, strip, row)
        axes.set_yticks(range(len(chart.strips)), [title_of(strip.name) for strip in chart.strips])
        axes.set(xlim=(low - room, high), ylim=(len(chart.strips) - 0.4, -0.6), xlabel=phrase(chart.what))
        _number_axis(axes.xaxis, chart.what)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="y", labelcolor=INK)

    spans = [
        f"{title_of(strip.name)} {shown(min(own), chart.what)} to {shown(max(own), chart.what)}"
        for strip in chart.strips
        if (own := [value for _, value in strip.values])
    ]
    return Drawing(
        draw_svg(make, (WIDTH, 0.9 + 0.34 * len(chart.strips)), identifier),
        f"{first_up(phrase(chart.what))} of each method by category. {'; '.join(spans)}.",
        "A dot is a category, the mean of its runs; the bar is the mean over the categories. Named is the lowest.",
    )


def _draw_strip(axes: Axes, strip: Strip, row: int) -> None:
    own = sorted(value for _, value in strip.values)
    axes.plot([own[0], own[-1]], [row, row], color=CALIBRATION, linewidth=1.1, alpha=0.6)
    axes.plot(own, [row] * len(own), "o", color=GOOD, markersize=6, alpha=0.75, markeredgewidth=0)
    axes.plot([strip.mean] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.8, solid_capstyle="butt")
    label, worst = min(strip.values, key=lambda item: (item[1], item[0]))
    if len(own) > 1:
        axes.annotate(label[:_LABEL], (worst, row), (-8, 0), textcoords="offset points", ha="right", va="center",
                      color=MUTED, fontsize=8)  # fmt: skip


# --- variants -------------------------------------------------------------------------------------------------------------


def _pairs(chart: Pairs, identifier: str) -> Drawing:
    labels, rows = _lines_of(chart)
    limits = _limits([v for line in chart.pairs for pair in line if pair for v in (pair.before, pair.after)])
    across = min(len(chart.variants), _PANELS)
    down = -(-len(chart.variants) // across)

    def make(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for k, axes in enumerate(grid.ravel()):
            if k >= len(chart.variants):
                axes.set_visible(False)
                continue
            axes.set_title(chart.variants[k], fontsize=9, color=INK, loc="left", fontweight="bold")
            for row, line in zip(rows, chart.pairs):
                _draw_pair(axes, line[k], row)
            _label_lines(axes, labels, any(label for _, label in chart.cases))
            axes.set(xlim=limits, ylim=(max(rows) + 0.7, -0.8))
            _number_axis(axes.xaxis, chart.what, 4)
        figure.supxlabel(phrase(chart.what), fontsize=9, color=MUTED)

    signs = [pair.sign for line in chart.pairs for pair in line if pair]
    baseline, by_category = chart.baseline or AS_IT_IS, any(label for _, label in chart.cases)
    return Drawing(
        draw_svg(make, (WIDTH, down * (0.85 + 0.19 * (max(rows) + 1))), identifier),
        f"{first_up(phrase(chart.what))} under each variant beside {quoted(baseline)}: {signs.count(1)} of {len(signs)} "
        f"significantly better, {signs.count(-1)} worse.",
        f"From {quoted(baseline)} to the variant, of each method"
        + (" in each category." if by_category else " over all categories."),
        (
            ("hollow", "○", baseline), ("good", "▶", "significantly better"), ("bad", "◀", "significantly worse"),
            ("neutral", "●", "no significant difference"),
        ),
    )  # fmt: skip


def _draw_pair(axes: Axes, pair: Pair | None, row: float) -> None:
    if pair is None:
        return
    marker, colour = _SIGNS[pair.sign]
    axes.plot([pair.before, pair.after], [row, row], color=colour, linewidth=1.4, zorder=2)
    axes.plot(pair.before, row, "o", color=PAPER, markeredgecolor=MUTED, markersize=5, zorder=3)
    axes.plot(pair.after, row, marker, color=colour, markersize=6, markeredgewidth=0, zorder=4)


def _label_lines(axes: Axes, labels: list[tuple[float, str, bool]], has_heads: bool) -> None:
    axes.set_yticks([row for row, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, is_head) in zip(axes.get_yticklabels(), labels):
        tick.set_color(INK if is_head else MUTED)
        tick.set_fontweight("bold" if is_head and has_heads else "normal")
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def _lines_of(chart: Pairs) -> tuple[list[tuple[float, str, bool]], list[float]]:
    """The labels of the y axis, (place, words, whether it heads a method), and the place of each case."""
    labels: list[tuple[float, str, bool]] = []
    rows: list[float] = []
    place, last = -1.0, ""
    for method, label in chart.cases:
        if method != last:
            place += 1.5 if last and label else 1.0
            labels.append((place, title_of(method), True))
            last = method
        if label:
            place += 1.0
            labels.append((place, label[:_LABEL], False))
        rows.append(place)
    return labels, rows


# --- how many images ------------------------------------------------------------------------------------------------------


def _curves(chart: Curves, identifier: str) -> Drawing:
    across = min(_PANELS, len(chart.learnings))
    down = -(-len(chart.learnings) // across)
    end, ticks, names = _images_axis(chart)
    drawn = {
        one.name: _points(one, end, 1.0 if chart.what.is_share else float("inf")) for one in chart.learnings
    }
    limits = _limits([edge for _, _, low, high in drawn.values() for edge in (*low, *high)])

    def make(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for k, axes in enumerate(grid.ravel()):
            if k >= len(chart.learnings):
                axes.set_visible(False)
                continue
            _draw_curve(axes, chart.learnings[k].name, drawn)
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(locator("NullLocator"))
            axes.set_xticks(ticks, names)
            axes.set_ylim(*limits)
            _number_axis(axes.yaxis, chart.what, 4)
            axes.tick_params(length=0, pad=4)
        figure.supxlabel("good images", fontsize=9, color=MUTED)
        figure.supylabel(phrase(chart.what), fontsize=9, color=MUTED)

    said = [
        f"{title_of(name)} " + ", ".join(f"{shown(y, chart.what)} at {x:.0f}" for x, y in zip(xs, means))
        for name, (xs, means, _, _) in drawn.items()
    ]
    has_bands = any(low < high for _, _, lows, highs in drawn.values() for low, high in zip(lows, highs))
    band = (
        "The band holds the mean of many more seeds with 95\u00a0% confidence."
        if has_bands
        else "Single runs have no band."
    )
    others = "; grey: the other methods" if len(chart.learnings) > 1 else ""
    return Drawing(
        draw_svg(make, (WIDTH if across > 1 else 5.0, 0.5 + 2.0 * down), identifier),
        f"{first_up(phrase(chart.what))} over the number of good images. {'; '.join(said)}.",
        f"Means over the categories{others}. {band}",
    )


def _draw_curve(axes: Axes, name: str, drawn: dict[str, Points]) -> None:
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_title(title_of(name), fontsize=9, color=INK, loc="left", fontweight="bold")
    for other, (x, y, _, _) in drawn.items():
        if other != name:
            axes.plot(x, y, color=CALIBRATION, linewidth=0.8, alpha=0.4)
    x, y, low, high = drawn[name]
    axes.fill_between(x, low, high, color=GOOD, alpha=0.22, linewidth=0)
    axes.plot(x, y, color=GOOD, linewidth=1.8, marker="o", markersize=4, markeredgewidth=0)


def _points(one: Learning, end: float, top: float) -> Points:
    """The points of a curve; without a band, low and high are the mean."""
    bands = [*one.steps, *([(end, one.whole)] if one.whole else [])]
    kept = [(x, band.mean, band) for x, band in bands if band.mean is not None]
    lows = [mean if band.low is None else max(band.low, 0.0) for _, mean, band in kept]
    highs = [mean if band.high is None else min(band.high, top) for _, mean, band in kept]
    return [x for x, _, _ in kept], [mean for _, mean, _ in kept], lows, highs


def _images_axis(chart: Curves) -> tuple[float, list[float], list[str]]:
    """Where all images stand on the axis, its ticks and their names."""
    steps = sorted({x for one in chart.learnings for x, _ in one.steps})
    end = max(chart.images or 0.0, 1.6 * (steps[-1] if steps else 1.0))
    kept = [x for x in steps[:: 2 if len(steps) > 5 else 1] if 1.5 * x < end]
    has_all = any(one.whole is not None for one in chart.learnings)
    return end, [*kept, *([end] if has_all else [])], [f"{x:g}" for x in kept] + (["all"] if has_all else [])
