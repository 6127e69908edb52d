"""Single values as strict JSON and spreadsheets can hold them."""

from __future__ import annotations

import math

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def finite(value: float) -> float | None:
    """``value`` as float; None where it is nan or infinite, which strict JSON cannot hold.

    >>> finite(2), finite(float("nan"))
    (2.0, None)
    """
    return float(value) if math.isfinite(value) else None


def csv_cell(value: object) -> object:
    """``value`` for one field of a CSV table: text is made valid UTF-8, and nothing that a spreadsheet would run.

    A text that begins like a formula (= + - @, tab or carriage return) gets an apostrophe before it; file names
    that are no valid text keep their bytes as escapes. Anything but text is left as it is.

    >>> csv_cell("=1+1"), csv_cell("part-7.png"), csv_cell(-1.5)
    ("'=1+1", 'part-7.png', -1.5)
    """
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text.startswith(_FORMULA) else text
