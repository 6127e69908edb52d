"""What is odd about an image, by a rule on its map and its statistics, and the evidence in words.

Four strengths, each in usual spreads away from the others (``signals``):

- *light*: the largest deviation of brightness, contrast, the two colours, or shade. Global, low frequency. Shade counts
  only where hardly any patch has risen (LOCAL): what has moved changes it, too.
- *blur*: sharpness, which blur lowers and noise raises, against contrast.
- *defect*: the peak of the map, where few patches have risen. Local.
- *layout*: the peak of the map where many patches have risen (BROAD of the picture), or how much farther patches are from
  those at their own place than from those anywhere: a shift, a turn, another part, an empty fixture.

The strongest names the kind; but where many patches have risen, and light or blur explain that (CLEAR), the stronger of
these two does, since they move every patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.audit.signals import Signals

Kind = Literal["defect", "light", "blur", "layout", "copy"]
KINDS: dict[Kind, str] = {
    "defect": "like a defect",
    "light": "other light",
    "blur": "other sharpness",
    "layout": "other layout",
    "copy": "a copy",
}
LIGHT = ("brightness", "contrast", "red_green", "blue_yellow", "shade")
BROAD = 0.25  # share of the patches from which a change is of the picture, not of a place in it
LOCAL = 0.1  # share up to which light from one side is believed
CLEAR = 3.0  # spreads from which light or sharpness explain such a change
_SIDES = {"brightness": ("darker", "brighter"), "contrast": ("less contrast", "more contrast"),
          "red_green": ("greener", "redder"), "blue_yellow": ("yellower", "bluer")}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The kind of one image, its strengths by kind in usual spreads, and why in words."""

    kind: Kind
    strengths: Mapping[Kind, float]
    reason: str

    @property
    def oddness(self) -> float:
        """The largest strength."""
        return max(self.strengths.values())


def evidence(signals: Signals, image: int) -> Evidence:
    """What ``signals`` say of one image by number."""
    extent = float(signals.risen[image].mean())
    strengths = _strengths(_deviations(signals, image), extent)
    kind = kind_of(strengths, extent)
    words = {"defect": _defect, "light": _light, "blur": _blur, "layout": _layout}[kind]
    return Evidence(kind, strengths, words(signals, image))


def kind_of(strengths: Mapping[Kind, float], extent: float) -> Kind:
    """The kind by the rule above, ``extent`` being the share of the patches that have risen.

    >>> kind_of({"defect": 0.0, "light": 6.0, "blur": 1.0, "layout": 9.0}, extent=0.8)
    'light'
    """
    explains: Kind = "light" if strengths["light"] >= strengths["blur"] else "blur"
    if extent >= BROAD and strengths[explains] >= CLEAR:
        return explains
    return max(strengths, key=lambda kind: strengths[kind])


def _deviations(signals: Signals, image: int) -> dict[str, float]:
    return {name: float(of[image]) for name, of in signals.deviations.items()}


def _strengths(deviations: Mapping[str, float], extent: float) -> dict[Kind, float]:
    peak, place = max(0.0, deviations["peak"]), max(0.0, deviations["place"])
    broad = extent >= BROAD
    return {
        "defect": 0.0 if broad else peak,
        "light": max(_of_light(deviations, extent).values()),
        "blur": abs(deviations["sharpness"]),
        "layout": max(place, peak) if broad else place,
    }


def _of_light(deviations: Mapping[str, float], extent: float) -> dict[str, float]:
    """How odd the light is by each signal; shade only where there is more of it than usual and nothing has moved."""
    shade = max(0.0, deviations["shade"]) if extent < LOCAL else 0.0
    return {name: shade if name == "shade" else abs(deviations[name]) for name in LIGHT}


def _defect(signals: Signals, image: int) -> str:
    risen = signals.risen[image]
    factor = _factor(signals.values["peak"], image)
    share = f"{100 * risen.mean():.0f} % of the picture" if risen.any() else "a small spot"
    return (
        f"{share} stands out, {whereabouts(risen)}: {factor:.1f} times as far from the other images as usual"
    )


def _light(signals: Signals, image: int) -> str:
    strengths = _of_light(_deviations(signals, image), float(signals.risen[image].mean()))
    name = max(LIGHT, key=lambda name: strengths[name])
    value, usual = signals.values[name][image], float(np.median(signals.values[name]))
    if name == "shade":
        return f"lit from one side: it falls off by {value:.0f} grey levels more than usual"
    side = _SIDES[name][int(signals.deviations[name][image] > 0)]
    what = "colour" if name in ("red_green", "blue_yellow") else name
    return f"{side} than usual: {what} {value:.0f}, usual {usual:.0f}"


def _blur(signals: Signals, image: int) -> str:
    factor = _factor(signals.values["sharpness"], image)
    if factor < 1:
        return f"blurred: fine detail is {100 * factor:.0f} % of the usual"
    return f"sharper or noisier: fine detail is {factor:.1f} times the usual"


def _layout(signals: Signals, image: int) -> str:
    risen = float(signals.risen[image].mean())
    if risen >= BROAD:
        return f"{100 * risen:.0f} % of the picture is unlike the others: another part, an empty fixture or another view"
    factor = _factor(signals.values["place"], image)
    return (
        f"its pieces are known but lie elsewhere, {factor:.1f} times as far from those at their place as usual: "
        "shifted or turned"
    )


def _factor(values: NDArray[np.float64], image: int) -> float:
    return float(values[image] / max(float(np.median(values)), 1e-12))


def whereabouts(risen: NDArray[np.bool_]) -> str:
    """Where in the picture the set patches of a map (h, w) lie, by their middle.

    >>> whereabouts(np.eye(4, dtype=bool)), whereabouts(np.arange(16).reshape(4, 4) == 3)
    ('in the middle', 'upper right')
    """
    if not risen.any():
        return "in one place"
    rows, columns = np.nonzero(risen)
    down, across = (rows.mean() + 0.5) / risen.shape[0], (columns.mean() + 0.5) / risen.shape[1]
    vertical = "upper" if down < 1 / 3 else "lower" if down > 2 / 3 else ""
    horizontal = "left" if across < 1 / 3 else "right" if across > 2 / 3 else ""
    return f"{vertical} {horizontal}".strip() or "in the middle"
