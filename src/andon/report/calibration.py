"""What a threshold would have meant on the images that it was set on: a picture for people, PNG or HTML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError
from andon.files import atomic_write
from andon.report import figures
from andon.report.content import count
from andon.report.figures import Lane
from andon.report.page import open_template
from andon.report.png import draw_png
from andon.types import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".html")
_WIDTH, _HEIGHT = 9.4, 4.4  # inches, a part


@dataclass(frozen=True)
class CostTable:
    """What a part of the line is expected to cost: a row for each way to decide, its name first."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Part:
    """The images that one calibration decides on: all of them, or those of a group called ``name``."""

    name: str
    calibration: Calibration
    nominal: NDArray[np.float64]  # raw scores
    anomalous: NDArray[np.float64]
    rows: tuple[tuple[str, ...], ...] = ()  # of the table beneath: kind of image, passed, reviewed, failed
    costs: CostTable | None = None  # where costs set the threshold


def write_calibration_figure(path: str | os.PathLike[str], title: str, parts: Sequence[Part]) -> Path:
    """The path of the picture written: scores with thresholds, and what other thresholds would have meant.

    ``.png``: the drawings alone; ``.html``: with their tables and statements, one file that loads nothing.
    Raises :class:`SettingsError` for another ending, :class:`MissingExtraError` without the extra ``report``.
    """
    check_kind(path)
    parts = [part for part in parts if len(part.nominal) + len(part.anomalous)]
    if str(path).lower().endswith(".png"):
        content = draw_png(lambda figure: _draw(figure, parts, _span(parts)), (_WIDTH, _HEIGHT * len(parts)))
    else:
        template = open_template("calibration.html.j2")
        drawn = [(part, _svg(part, _span(parts), f"part{number}")) for number, part in enumerate(parts)]
        content = template.render(title=title, parts=drawn, alt=describe, legend=legend).encode()
    with atomic_write(path) as file:
        file.write(content)
    return Path(path)


def check_kind(path: str | os.PathLike[str]) -> None:
    """Raise :class:`SettingsError` unless ``path`` is named like a picture that can be written."""
    if not str(path).lower().endswith(KINDS):
        raise SettingsError(
            f"a picture of the calibration is written as {' or '.join(KINDS)}, got {os.fspath(path)}"
        )


def describe(part: Part) -> str:
    """The drawing in words, for those who cannot see it."""
    return "Histogram of the raw scores of " + " and ".join(
        f"{count(len(scores), kind + ' image')}, {scores.min():.4g} to {scores.max():.4g}"
        for kind, scores in (("good", part.nominal), ("defective", part.anomalous)) if len(scores)
    ) + "; below it false alarms and escapes at every threshold."  # fmt: skip


def legend(part: Part) -> list[tuple[str, str]]:
    """The drawing's legend: (CSS class of the swatch, words)."""
    found = [("good", "good; below: false alarms, good parts that fail")]
    if len(part.anomalous):
        found.append(("bad", "defective; below: escapes, defective parts that do not fail"))
    if np.isfinite(part.calibration.threshold):
        found.append(("fail", "threshold"))
    if part.calibration.review_threshold is not None:
        found.append(("review", "asks for a person"))
    return found


def _svg(part: Part, span: tuple[float, float], identifier: str) -> str:
    return figures.draw_svg(lambda figure: _draw(figure, [part], span), (_WIDTH, _HEIGHT), identifier)


def _span(parts: Sequence[Part]) -> tuple[float, float]:
    """The lowest and the highest raw score or threshold of all parts, so that their drawings share an axis."""
    values = np.concatenate([_values(part) for part in parts])
    return float(values.min()), float(values.max())


def _values(part: Part) -> NDArray[np.float64]:
    marks = [part.calibration.threshold, part.calibration.review_threshold or np.nan]
    return np.concatenate([part.nominal, part.anomalous, [mark for mark in marks if np.isfinite(mark)]])


def _draw(figure: Figure, parts: Sequence[Part], span: tuple[float, float]) -> None:
    axes = figure.subplots(2 * len(parts), 1, height_ratios=(1.35, 1) * len(parts))
    for part, top, low in zip(parts, axes[::2], axes[1::2], strict=True):
        _draw_part(top, low, part, span)
        if len(parts) > 1:
            top.set_title(part.name, loc="left", color=figures.INK, fontsize=10)


def _draw_part(top: Axes, low: Axes, part: Part, span: tuple[float, float]) -> None:
    """Histogram above, rates below, on one axis of raw scores over ``span``."""
    threshold = part.calibration.threshold if np.isfinite(part.calibration.threshold) else None
    log = span[0] > 0 and span[1] > 30 * span[0]
    edges = figures.bin_edges(np.append(_values(part), span), threshold, log)
    inside = 1e-9 * float(np.diff(edges).min())  # a score at the threshold passes: it is drawn left of it
    lanes = [
        Lane("good", part.nominal - inside, figures.GOOD),
        Lane("defective", part.anomalous - inside, figures.BAD),
    ]
    figures.draw_histogram(top, [lane for lane in lanes if len(lane.scores)], edges)
    _draw_rates(low, part, edges)
    for axes in (top, low):
        figures.mark_thresholds(axes, threshold, part.calibration.review_threshold, edges)
        if log:
            figures.log_axis(axes)
        axes.set_xlim(edges[0], edges[-1])
    top.tick_params(labelbottom=False)
    if threshold is not None:
        top.text(threshold, 1.02, f"threshold {threshold:.4g}", color=figures.FAIL, ha="center", va="bottom",
                 transform=top.get_xaxis_transform())  # fmt: skip
    low.set_xlabel("image score (raw; higher deviates more)")


def _draw_rates(axes: Axes, part: Part, edges: NDArray[np.float64]) -> None:
    """The shares of false alarms and of escapes at every threshold."""
    kinds = (
        ("good: false alarms", part.nominal, figures.GOOD),
        ("defective: escapes", part.anomalous, figures.BAD),
    )
    for place, (name, scores, colour) in enumerate(kinds):
        if not len(scores):
            continue
        above = 1 - np.arange(len(scores) + 1) / len(scores)
        share = above if colour == figures.GOOD else 1 - above
        x = np.concatenate([[edges[0]], np.sort(scores), [edges[-1]]])
        axes.step(x, np.append(share, share[-1]), where="post", color=colour, linewidth=1.5)
        axes.text(0.2 * place, 1.03, name, color=colour, va="bottom", transform=axes.transAxes)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_locator(figures.locator("FixedLocator", (0, 0.5, 1)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_ylabel("of the images")
    axes.grid(axis="y", color=figures.RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
