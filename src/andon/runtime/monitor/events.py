"""What the monitor noticed, as data and in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from andon.runtime.words import DEFAULT, Words, decimal, percent, whole, words_of

ENGLISH = words_of(DEFAULT)
MEASURES = {  # in the order in which they are tested; name -> what a table calls it
    name: ENGLISH[f"measure.{name}"]
    for name in (
        "scores", "rejects", "brightness", "contrast", "sharpness", "red_green", "blue_yellow", "down", "right",
    )
}  # fmt: skip
LOGARITHMIC = ("brightness", "contrast", "sharpness")


@dataclass(frozen=True)
class DriftEvent:
    """One thing that changed on the line.

    measure: a key of MEASURES. image: number of the photograph, from 1, at which it was noticed; path: its file.
    since: number of the photograph at which it began, as far as can be told. before, now: the usual and the present
    level, in the measure's unit: raw scores; shares; natural logarithms for brightness, contrast and sharpness.
    p_value: of "nothing has changed", corrected for all measures and valid at any moment. message: all this in words, English
    unless it was retold.
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


def describe(
    measure: str, since: int, upwards: bool, before: float, now: float, words: Words = ENGLISH
) -> str:
    """What changed, by how much and since when, in the language of ``words``.

    >>> describe("brightness", 4310, False, math.log(120), math.log(105.6))
    'the photographs are darker by 12.0 % since image 4,310'
    """
    change = _change(measure, upwards, before, now, words)
    return words["drift.since"].format(change=change, image=whole(words, since))


def retell(event: DriftEvent, words: Words) -> DriftEvent:
    """``event`` with its message in the language of ``words``."""
    told = describe(event.measure, event.since, event.upwards, event.before, event.now, words)
    return replace(event, message=told)


def advice(event: DriftEvent, words: Words = ENGLISH) -> str:
    """What to look at on the line, in the language of ``words``."""
    return words[f"advice.{event.measure}"]


def _change(measure: str, upwards: bool, before: float, now: float, words: Words) -> str:
    direction = "up" if upwards or measure == "rejects" else "down"
    text = words[f"drift.{measure}_{direction}"]
    if measure == "scores":
        return text.format(before=decimal(words, f"{before:.4g}"), now=decimal(words, f"{now:.4g}"))
    if measure == "rejects":
        return text.format(before=percent(words, before), now=percent(words, now))
    change = now - before
    if (change >= 0) != upwards:  # it has turned back since it was noticed
        return words["drift.back"].format(measure=words[f"measure.{measure}"])
    return text.format(change=percent(words, abs(math.expm1(change) if measure in LOGARITHMIC else change)))
