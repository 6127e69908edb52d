"""The report's drawings as PNG files: the same drawing as the SVG, in the page's light colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

from andon.errors import MissingExtraError
from andon.report.figures import STYLE, VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 130  # an inch
_COLOURED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def light_colours() -> dict[str, str]:
    """What each stand-in colour of the drawings is on the page in light: "#rrggbb" -> "#rrggbb", from its style sheet."""
    style = files("andon").joinpath("templates", "report.css").read_text(encoding="utf-8")
    root = style[: style.index("}")]
    defined = dict(re.findall(r"(--[a-z-]+):\s*(#[0-9a-f]{6})", root))
    return {stand_in: defined[variable] for stand_in, variable in VARIABLES.items()}


def draw_png(draw: Callable[[Figure], None], inches: tuple[float, float]) -> bytes:
    """What ``draw`` puts on a figure, as a PNG file. Raises :class:`MissingExtraError` without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="report", purpose="drawing a picture") from error
    colours = light_colours()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=inches, layout="constrained", dpi=DOTS)
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        canvas.draw()  # makes the ticks, so that they can be coloured, too
        _recolour(figure, colours)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _recolour(figure: Figure, colours: dict[str, str]) -> None:
    """Give everything on ``figure`` that has a stand-in colour the colour that it stands for."""
    from matplotlib.colors import to_hex, to_rgba

    for artist in figure.findobj():
        for name in _COLOURED:
            get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or put is None:
                continue
            now = get()
            if isinstance(now, str) and now in ("none", "auto"):
                continue
            red, green, blue, alpha = to_rgba(now)
            meant = colours.get(to_hex((red, green, blue)))
            if meant is not None:
                put(to_rgba(meant, alpha))
