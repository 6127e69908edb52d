"""Zones drawn with the mouse on a photograph, or by numbers: boxes. No Streamlit.

The photograph is a Vega-Lite drawing in which a box can be dragged: part of Streamlit itself, no further component.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.nuisance import Zone, ZonePlan, check_zones, draw_zones
from andon.nuisance.zones import Treatment
from andon.runtime.predictor import Predictor

LONGEST = 560  # pixels of the drawing's longer side
LEAST = 0.005  # of the photograph's side: a box that is smaller was a click
SELECTION = "box"  # the drawing's parameter that holds what was dragged
Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Box = tuple[float, float, float, float]  # top, left, bottom, right; fractions of the photograph


def zones_of_fit(predictor: Predictor) -> tuple[Zone, ...]:
    """The zones that the detector was fitted with; they stay."""
    return _given(predictor.zone_plan, "fit")


def zones_since(predictor: Predictor) -> tuple[Zone, ...]:
    """The zones that it was given afterwards; others can take their place."""
    return _given(predictor.zone_plan, "later")


def _given(plan: ZonePlan | None, given: str) -> tuple[Zone, ...]:
    return () if plan is None else tuple(entry.zone for entry in plan.treated if entry.given == given)


def with_box(
    zones: Sequence[Zone],
    name: str,
    box: Box,
    treatment: Treatment,
    rate: float | None,
    size: tuple[int, int],
) -> tuple[Zone, ...]:
    """``zones`` and one more, inside ``box``; one of the same name is replaced. ``size``: (H, W) of the photograph.

    Raises :class:`SettingsError` for a zone that makes no sense, :class:`DataError` where too little is left to inspect.
    """
    own = Zone.box(name.strip(), box, treatment=treatment, rate=rate if treatment == "looser" else None)
    found = (*(zone for zone in zones if zone.name != own.name), own)
    check_zones(found, size)
    return found


def free_name(zones: Sequence[Zone], stem: str) -> str:
    """``stem`` with the first number that no zone has.

    >>> free_name([Zone.box("zone 1", (0, 0, 0.5, 0.5))], "zone")
    'zone 2'
    """
    taken = {zone.name for zone in zones}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem} {number}") not in taken)


def picture(pixels: Pixels, zones: Sequence[Zone], box: Box | None = None, name: str = "?") -> Pixels:
    """The photograph with its zones drawn over it, its longer side brought to ``LONGEST``.

    ``box``: one more zone, called ``name``, unless it is one of them.
    """
    scale = LONGEST / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    shown = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    drawn = list(zones)
    if box is not None and all(zone.corners != Zone.box(name, box).corners for zone in zones):
        drawn.append(Zone.box(name, box))
    return draw_zones(shown, drawn) if drawn else shown


def canvas(shown: Pixels) -> dict[str, Any]:
    """A Vega-Lite drawing of the photograph ``shown`` (H, W, 3) in which a box can be dragged; places in fractions of it."""
    height, width = shown.shape[:2]
    return {
        "width": width,
        "height": height,
        "padding": 0,
        "autosize": {"type": "none"},
        "view": {"stroke": None},
        "data": {"values": [{"column": 0.5, "row": 0.5, "picture": _data_uri(shown)}]},
        "params": [{"name": SELECTION, "select": {"type": "interval", "zoom": False}}],
        "mark": {"type": "image", "width": width, "height": height, "align": "center", "baseline": "middle"},
        "encoding": {
            "x": {"field": "column", **_axis(reverse=False)},
            "y": {"field": "row", **_axis(reverse=True)},
            "url": {"field": "picture", "type": "nominal"},
        },
    }


def _axis(*, reverse: bool) -> dict[str, Any]:
    return {
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, 1], "nice": False, "zero": False, "reverse": reverse},
    }


def _data_uri(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def dragged(selection: Mapping[str, Any] | None) -> Box | None:
    """The box that was dragged in the :func:`canvas`, inside the photograph; None where there is none, or a mere click."""
    part = (selection or {}).get(SELECTION) or {}
    if not (part.get("row") and part.get("column")):
        return None
    (top, bottom), (left, right) = (
        sorted(min(1.0, max(0.0, float(v))) for v in part[axis]) for axis in ("row", "column")
    )
    return (top, left, bottom, right) if min(bottom - top, right - left) >= LEAST else None


def described(zone: Zone) -> str:
    """Where a zone lies, in per cent of the photograph: from its top and left to its bottom and right.

    >>> described(Zone.box("label", (0.1, 0.2, 0.3, 0.6)))
    '10–30 % × 20–60 %'
    """
    size = (200, 200)
    rows, columns = (np.flatnonzero(zone.mask(size).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return "–"
    spans = ((found[0] / 2, (found[-1] + 1) / 2) for found in (rows, columns))
    return " × ".join(f"{low:.0f}–{high:.0f} %" for low, high in spans)
