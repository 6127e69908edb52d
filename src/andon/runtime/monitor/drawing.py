"""A monitor's measures over time as one picture: evidence, charts, levels. Needs the extra ``report``."""

from __future__ import annotations

import io
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from andon.errors import MissingExtraError, SettingsError
from andon.files import atomic_write
from andon.runtime.monitor.charts import ewma_limit
from andon.runtime.monitor.events import ENGLISH, LOGARITHMIC, MEASURES
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.watch import Counted, Ranked
from andon.runtime.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
_UNITS = {"scores": "raw", "rejects": "share", "brightness": "luma", "contrast": "contrast", "sharpness": "edges",
          "red_green": "of_luma", "blue_yellow": "of_luma", "down": "of_height", "right": "of_width"}  # fmt: skip
_NOTICED, _QUIET, _LIMIT = "#c0392b", "#2c5f8a", "#888888"
_STYLE: Any = {"svg.hashsalt": "andon", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}


def save_drawing(monitor: Monitor, path: Path, words: Words = ENGLISH) -> None:
    """Write the picture of ``monitor`` to ``path``, PNG or SVG by its ending, atomically.

    Raises :class:`SettingsError` on another ending, :class:`MissingExtraError` without matplotlib.
    """
    if path.suffix.lower() not in KINDS:
        raise SettingsError(f"{path}: a name that ends in {' or '.join(KINDS)} expected")
    figure = draw(monitor, words)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=110, metadata={})
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def draw(monitor: Monitor, words: Words = ENGLISH) -> Figure:
    """A row for each measure: the capital of the bets, the EWMA, and the level. What was noticed is red.

    ``words``: the language of its labels.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib", extra="report", purpose="drawing what a monitor has seen"
        ) from error
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.25 * len(monitor.watches) + 0.8), layout="constrained")
        axes = figure.subplots(len(monitor.watches), 3, sharex=True, squeeze=False)
        for row, (name, watch) in zip(axes, monitor.watches.items()):
            _draw_row(row, name, watch, len(MEASURES) / monitor.false_alarm, words)
        for place, title in zip(axes[0], ("evidence", "ewma", "level")):
            place.set_title(words[f"drawing.{title}"], fontsize=9, loc="left")
        for place in axes[-1]:
            place.set_xlabel(words["drawing.image"])
    return figure


def _draw_row(axes: np.ndarray, name: str, watch: Ranked | Counted, alarm: float, words: Words) -> None:
    colour = _NOTICED if watch.noticed else _QUIET
    rows = np.array(watch.history.rows, np.float64).reshape(-1, 4)
    image, capital, ewma, level = rows.T
    evidence, chart, levels = axes
    evidence.set_ylabel(fill(words[f"measure.{name}"], 14, break_on_hyphens=False), fontsize=7)
    evidence.plot(image, capital, color=colour, linewidth=1)
    _rule(evidence, np.log10(alarm))
    chart.plot(image, ewma, color=colour, linewidth=1)
    if isinstance(watch, Ranked):
        _rule(chart, ewma_limit())
        _rule(chart, -ewma_limit())
    scale = np.exp if name in LOGARITHMIC else np.asarray
    levels.plot(image, scale(level), color=colour, linewidth=1)
    _rule(levels, float(scale(watch.usual)))
    levels.set_ylabel(fill(words[f"drawing.{_UNITS[name]}"], 18, break_on_hyphens=False), fontsize=7)
    if watch.noticed:
        for place in axes:
            place.axvline(watch.chart.since(watch.upwards), color=_NOTICED, linewidth=0.6, linestyle=":")


def _rule(axes: Axes, height: float) -> None:
    axes.axhline(height, color=_LIMIT, linewidth=0.7, linestyle="--")
