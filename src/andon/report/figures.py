"""The report's figures as inline SVG, and its photographs as data URIs.

Colours are written as stand-ins and replaced by the page's CSS variables, so that one drawing serves light,
dark and print. Same input, same text: no dates, no random identifiers. matplotlib is imported where used.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import MissingExtraError, SettingsError
from andon.types import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, GOOD, BAD, FAIL, REVIEW, CALIBRATION, PAPER = (
    f"#{i:02x}f{i:x}e{i:x}" for i in range(1, 10)
)
VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--rule", GOOD: "--good", BAD: "--bad", FAIL: "--fail",
    REVIEW: "--review", CALIBRATION: "--neutral", PAPER: "--paper",
}  # fmt: skip
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "andon",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
LANE_TICKS = 800  # distinct positions drawn in a lane; finer differences cannot be seen
CURVE_STEPS = 400  # distinct positions drawn along each axis of a curve
PICTURE_WIDTH, PICTURE_HEIGHT = 480, 640  # pixels, at most
PICTURE_BYTES = 80_000  # one JPEG, at most, where a lower quality can reach it


@dataclass(frozen=True)
class Lane:
    """One kind of image in the score figure: its ``name``, raw ``scores`` and a colour of this module."""

    name: str
    scores: NDArray[np.float64]
    colour: str


def score_figure(lanes: Sequence[Lane], threshold: float | None, review_threshold: float | None) -> str:
    """The scores of each lane as SVG: a histogram per colour, and below it one row of ticks per lane.

    Both share the axis of the raw image score, logarithmic when the scores span more than a factor of 30.
    """
    lanes = [lane for lane in lanes if lane.scores.size]
    marks = [value for value in (threshold, review_threshold) if value is not None]
    values = np.concatenate([lane.scores for lane in lanes] + [np.array(marks, dtype=np.float64)])
    log = bool(values.min() > 0 and values.max() > 30 * values.min())
    edges = bin_edges(values, threshold, log)

    def draw(figure: Figure) -> None:
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 0.24 * len(lanes) + 0.06))
        for axes in (top, low):
            mark_thresholds(axes, threshold, review_threshold, edges)
        if threshold is not None:
            top.text(threshold, 1.02, "threshold", color=FAIL, ha="center", va="bottom",
                     transform=top.get_xaxis_transform())  # fmt: skip
        draw_histogram(top, lanes, edges)
        _draw_lanes(low, lanes, edges, log)
        if log:
            log_axis(low)
        low.set_xlim(edges[0], edges[-1])
        low.set_xlabel("image score (raw; higher deviates more)")

    return draw_svg(draw, (9.4, 3.2 + 0.24 * len(lanes)), "scores")


def bin_edges(values: NDArray[np.float64], threshold: float | None, log: bool) -> NDArray[np.float64]:
    """The histogram's edges, upwards, around all ``values``; ``threshold`` is one of them, so no bar straddles it."""
    scale = np.log(values) if log else values
    low, high = float(scale.min()), float(scale.max())
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - max(abs(low), 1.0) * 0.05, high + max(abs(high), 1.0) * 0.05
    step = (high - low) / int(np.clip(2 * np.sqrt(values.size), 16, 56))
    anchor = low if threshold is None else float(np.log(threshold)) if log else threshold
    first = int(np.floor((low - anchor) / step - 0.5))
    last = int(np.ceil((high - anchor) / step + 0.5))
    edges = anchor + step * np.arange(first, last + 1)
    return np.asarray(np.exp(edges) if log else edges, dtype=np.float64)


def mark_thresholds(
    axes: Axes, threshold: float | None, review: float | None, edges: NDArray[np.float64]
) -> None:
    if threshold is None:
        return
    if review is not None and review < threshold:
        axes.axvspan(max(review, edges[0]), threshold, color=REVIEW, alpha=0.16, linewidth=0)
    axes.axvline(threshold, color=FAIL, linewidth=1.3)


def draw_histogram(axes: Axes, lanes: Sequence[Lane], edges: NDArray[np.float64]) -> None:
    peak = 1
    for colour in dict.fromkeys(lane.colour for lane in lanes):
        scores = np.concatenate([lane.scores for lane in lanes if lane.colour == colour])
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), bins=edges)
        peak = max(peak, int(counts.max()))
        if colour == CALIBRATION:
            axes.stairs(counts, edges, color=colour, linewidth=1.1, zorder=3)
        else:
            axes.stairs(
                counts, edges, fill=True, color=colour, alpha=0.35 if colour == INK else 0.6, linewidth=0
            )
            axes.stairs(counts, edges, color=colour, linewidth=1.1)
    if peak > 40:
        axes.set_yscale("symlog", linthresh=1)
        axes.set_yticks([10**power for power in range(int(np.log10(peak)) + 1)])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(locator("NullLocator"))
    else:
        axes.yaxis.set_major_locator(locator("MaxNLocator", 4, integer=True, steps=(1, 2, 5, 10)))
    axes.set_ylim(0, None)
    axes.set_ylabel("images")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def _draw_lanes(axes: Axes, lanes: Sequence[Lane], edges: NDArray[np.float64], log: bool) -> None:
    for row, lane in enumerate(lanes):
        scores = _distinct(lane.scores, edges, log)
        x = np.repeat(scores, 3)
        y = np.tile([row - 0.32, row + 0.32, np.nan], scores.size)
        axes.plot(x, y, color=lane.colour, linewidth=1.1, alpha=0.75, solid_capstyle="butt")
    names = [lane.name if len(lane.name) <= 24 else lane.name[:23] + "…" for lane in lanes]
    axes.set_yticks(range(len(lanes)), names)
    axes.set_ylim(len(lanes) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _distinct(scores: NDArray[np.float64], edges: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """Those of ``scores`` that can be told apart in the drawing."""
    scale, low, high = (np.log(v) if log else v for v in (scores, edges[0], edges[-1]))
    _, first = np.unique(np.round((scale - low) / (high - low) * LANE_TICKS), return_index=True)
    return scores[first]


def log_axis(axes: Axes) -> None:
    """Make the x axis logarithmic, with ticks at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(locator("LogLocator", subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(locator("NullLocator"))


def curve_figure(
    curves: Sequence[Curve],
    *,
    x_limit: float,
    x_label: str,
    y_label: str,
    area_to: float | None = None,
    point: tuple[float, float] | None = None,
    identifier: str = "curve",
) -> str:
    """``curves`` as SVG, the first one thick and the others thin and grey, x from 0 to ``x_limit``.

    ``area_to``: shade under the first curve up to this x; ``point``: mark the (x, y) of the threshold in use.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(color=RULE, linewidth=0.6)
        for curve in reversed(curves[1:]):
            axes.plot(*thinned(until(curve, x_limit)), color=MUTED, linewidth=0.8, alpha=0.6)
        x, y = thinned(until(curves[0], x_limit))
        if area_to is not None:
            inside = np.append(x[x < area_to], area_to)
            axes.fill_between(inside, np.interp(inside, x, y), color=GOOD, alpha=0.14, linewidth=0)
        axes.plot(x, y, color=GOOD, linewidth=1.9, solid_joinstyle="round", clip_on=False)
        if point is not None:
            axes.plot(*point, "o", color=FAIL, markeredgecolor=PAPER, markersize=7, clip_on=False, zorder=5)
        axes.set(xlim=(0, x_limit), ylim=(0, 1.005), xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_locator(locator("MaxNLocator", 5, steps=(1, 2, 5, 10)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.tick_params(length=0, pad=5)

    return draw_svg(draw, (3.4, 2.8), identifier)


@dataclass(frozen=True)
class Trained:
    """One phase of training: its ``name``, and (after how many steps, loss) of its curve and of held-out images."""

    name: str
    curve: list[tuple[float, float]]
    held_out: list[tuple[float, float]]


def loss_figure(phases: Sequence[Trained], *, identifier: str = "loss") -> str:
    """The loss of each phase of training as SVG, one phase after the other; dots are losses on held-out images.

    Logarithmic when the losses are positive and span more than a factor of 30.
    """
    values = [loss for phase in phases for _, loss in phase.curve + phase.held_out]
    log = bool(values and min(values) > 0 and max(values) > 30 * min(values))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        start = 0.0
        for phase in phases:
            steps, losses = zip(*phase.curve, strict=True)
            axes.plot([start + step for step in steps], losses, color=GOOD, linewidth=1.5)
            if phase.held_out:
                steps, held_out = zip(*phase.held_out, strict=True)
                axes.plot([start + step for step in steps], held_out, "o", color=INK, markersize=3.5)
            if len(phases) > 1:
                axes.axvline(start, color=RULE, linewidth=0.8)
                axes.text(start, 1.02, f" {phase.name}", color=MUTED, transform=axes.get_xaxis_transform())
            start += phase.curve[-1][0]
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(locator("NullLocator"))
        axes.set(xlim=(0, start), xlabel="training step", ylabel="loss")
        axes.tick_params(length=0, pad=5)

    return draw_svg(draw, (9.4, 2.8), identifier)


def until(curve: Curve, limit: float) -> Curve:
    """``curve`` from its begin to x = ``limit``, where it is interpolated.

    >>> until(Curve("roc", (0.0, 1.0), (0.0, 0.5)), 0.5).y
    (0.0, 0.25)
    """
    if curve.x[-1] <= limit:
        return curve
    inside = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if x < limit]
    inside.append((limit, float(np.interp(limit, curve.x, curve.y))))
    return Curve(curve.name, tuple(x for x, _ in inside), tuple(y for _, y in inside))


def thinned(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x and y of ``curve`` without the points that lie on their predecessor in a drawing; ends are kept."""
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    if x.size <= 2:
        return x, y
    extent = max(float(x[-1] - x[0]), 1e-12)
    cells = np.stack([np.round(x / extent * 8 * CURVE_STEPS), np.round(y * CURVE_STEPS)])
    moved = np.any(np.diff(cells, axis=1) != 0, axis=0)
    keep = np.concatenate([[True], moved]) | np.concatenate([moved, [True]])
    return x[keep], y[keep]


def locator(name: str, *arguments: Any, **keywords: Any) -> Any:
    """A tick locator of matplotlib by its name."""
    from matplotlib import ticker

    return getattr(ticker, name)(*arguments, **keywords)


def draw_svg(draw: Callable[[Figure], None], inches: tuple[float, float], identifier: str) -> str:
    """What ``draw`` puts on a figure, as an ``<svg>`` element to stand inside HTML; ids begin with ``identifier``."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib", extra="report", purpose="drawing the report's figures"
        ) from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # the browser's fonts draw the text, not matplotlib's
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(buffer.getvalue(), identifier)


def inline_svg(text: str, identifier: str) -> str:
    """matplotlib's SVG file ``text`` as an element for HTML: CSS colours and fonts, no size, unique ids."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    box = re.search(r'viewBox="([^"]+)"', text)
    opening = f'<svg viewBox="{box.group(1) if box else "0 0 1 1"}" aria-hidden="true" focusable="false">'
    text = re.sub(r"<svg\b[^>]*>", opening, text, count=1)
    text = text.replace('id="', f'id="{identifier}-').replace('"#', f'"#{identifier}-')
    text = text.replace("url(#", f"url(#{identifier}-").replace("xlink:href", "href")
    text = re.sub(r"(font: [^;\"']*?px )[^;\"]*", r"\1var(--sans)", text)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return text.strip()


def picture_uri(pixels: NDArray[np.uint8], limit: int = PICTURE_BYTES) -> tuple[str, int, int]:
    """A JPEG data URI of ``pixels`` (H, W, 3) uint8 RGB, with its width and height, reduced to the page's size.

    The quality falls until the JPEG has at most ``limit`` bytes. Raises :class:`SettingsError` on another array.
    """
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
    ):
        what = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise SettingsError(
            f"a picture for the report must be an array (H, W, 3) uint8 RGB; this one is {what}."
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    factor = min(1.0, PICTURE_WIDTH / image.width, PICTURE_HEIGHT / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = b""
    for quality in (85, 70, 50, 30, 10):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        data = buffer.getvalue()
        if len(data) <= limit:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}", *size
