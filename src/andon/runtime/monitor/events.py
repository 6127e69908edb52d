"""What the monitor noticed, as data and in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

MEASURES = {  # in the order in which they are tested; name -> what a table calls it
    "scores": "scores of good parts",
    "rejects": "share of high scores",
    "brightness": "brightness",
    "contrast": "contrast",
    "sharpness": "sharpness",
    "red_green": "red-green colour",
    "blue_yellow": "blue-yellow colour",
    "down": "position, vertical",
    "right": "position, horizontal",
}
_CHANGES = {  # (when it rises, when it falls)
    "brightness": ("the photographs are brighter by {:.1f} %", "the photographs are darker by {:.1f} %"),
    "contrast": ("the contrast is higher by {:.1f} %", "the contrast is lower by {:.1f} %"),
    "sharpness": (
        "the photographs are sharper or noisier, edges by {:.1f} %",
        "the photographs are less sharp, edges by {:.1f} %",
    ),
    "red_green": (
        "the colours are redder by {:.1f} % of the brightness",
        "the colours are greener by {:.1f} % of the brightness",
    ),
    "blue_yellow": (
        "the colours are bluer by {:.1f} % of the brightness",
        "the colours are yellower by {:.1f} % of the brightness",
    ),
    "down": (
        "the parts lie lower by {:.1f} % of the picture's height",
        "the parts lie higher by {:.1f} % of the picture's height",
    ),
    "right": (
        "the parts lie farther right by {:.1f} % of the picture's width",
        "the parts lie farther left by {:.1f} % of the picture's width",
    ),
}
LOGARITHMIC = ("brightness", "contrast", "sharpness")


@dataclass(frozen=True)
class DriftEvent:
    """One thing that changed on the line.

    measure: a key of MEASURES. image: number of the photograph, from 1, at which it was noticed; path: its file.
    since: number of the photograph at which it began, as far as can be told. before, now: the usual and the present
    level, in the measure's unit: raw scores; shares; natural logarithms for brightness, contrast and sharpness.
    p_value: of "nothing has changed", corrected for all measures and valid at any moment. message: all this in words.
    """

    measure: str
    image: int
    path: str
    since: int
    upwards: bool
    before: float
    now: float
    p_value: float
    message: str

    def to_dict(self) -> dict[str, Any]:
        """The event for JSON."""
        return asdict(self)


def describe(measure: str, since: int, upwards: bool, before: float, now: float) -> str:
    """What changed, by how much and since when.

    >>> describe("brightness", 4310, False, math.log(120), math.log(105.6))
    'the photographs are darker by 12.0 % since image 4,310'
    """
    return f"{_change(measure, upwards, before, now)} since image {since:,}"


def _change(measure: str, upwards: bool, before: float, now: float) -> str:
    if measure == "scores":
        return (
            f"the scores of good parts have {'risen' if upwards else 'fallen'} from {before:.4g} to {now:.4g}"
        )
    if measure == "rejects":
        return (f"{now:.0%} of the parts score high, where at most {before:.0%} should: many defects, or a change that makes "
                "good parts look defective")  # fmt: skip
    change = now - before
    if (change >= 0) != upwards:  # it has turned back since it was noticed
        return f"{MEASURES[measure]} changed, and is back to usual; it changed"
    share = abs(math.expm1(change) if measure in LOGARITHMIC else change)
    return _CHANGES[measure][0 if upwards else 1].format(100 * share)
