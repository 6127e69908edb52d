"""The order in which photographs were taken: by their EXIF time where all have one, else by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

Key = tuple[tuple[int, int, str], ...]


def natural_key(text: str) -> Key:
    """A key that sorts numbers in names by their value, and letters whatever their case.

    >>> sorted(["part10.png", "part9.png", "Part1.png"], key=natural_key)
    ['Part1.png', 'part9.png', 'part10.png']
    """
    parts = re.split(r"([0-9]+)", text.lower())
    return (*((1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts), (0, 0, text))


def shooting_order(paths: Sequence[str], taken: Sequence[str]) -> tuple[list[int], bool]:
    """The indices of the photographs in the order in which they were taken, and whether EXIF times gave it.

    ``taken``: ISO 8601, or "" for a photograph that does not say; one such, and the names decide for all.

    >>> shooting_order(["2.png", "10.png"], ["", ""])
    ([0, 1], False)
    >>> shooting_order(["1.jpg", "2.jpg"], ["2024-05-01T12:00:00", "2024-05-01T11:59:59"])
    ([1, 0], True)
    """
    timed = bool(paths) and all(taken)
    keys = [(taken[i] if timed else "", natural_key(path)) for i, path in enumerate(paths)]
    return sorted(range(len(paths)), key=keys.__getitem__), timed
