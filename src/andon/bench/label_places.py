"""Where the labels of a scatter of points stand, so that they do not lie on each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from andon.bench.charts import Point
from andon.bench.words import title_of

Place = tuple[float, float, str]  # points to the right of the dot and above it, and the text's alignment
Box = tuple[float, float, float, float]  # left, bottom, right, top; points
_LETTER, _LINE = 5.2, 12.0  # points that a letter and a line take
_BOLD = 1.12
_PLACES: tuple[Place, ...] = (  # beside the dot, above and below it, then ever farther
    (8.0, 0.0, "left"), (-8.0, 0.0, "right"),
    *(
        (dx, rows * _LINE, side)
        for rows in (1, -1, 2, -2, 3, -3, 4, -4)
        for dx, side in ((0.0, "center"), (8.0, "left"), (-8.0, "right"))
    ),
)  # fmt: skip


def label_places(
    points: Sequence[Point], across: tuple[float, float], up: tuple[float, float], size: tuple[float, float]
) -> list[Place]:
    """For each of ``points``, cheapest first, the first place where its label hits nothing; beside the dot where none is free.

    ``across``: the ends of the axis of costs, logarithmic; ``up``: of the axis of values; ``size``: of both, in points.
    """
    dots = [
        (
            math.log(one.cost / across[0]) / math.log(across[1] / across[0]) * size[0],
            (one.value - up[0]) / (up[1] - up[0]) * size[1],
        )
        for one in points
    ]
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    taken += _front([dot for dot, one in zip(dots, points) if one.on_front], size[0])
    found = []
    for dot, one in zip(dots, points):
        width = _LETTER * len(title_of(one.name)) * (_BOLD if one.on_front else 1.0)
        boxes = {place: _box(dot, place, width) for place in _PLACES}
        free = [place for place in _PLACES if _inside(boxes[place], size) and not _hits(boxes[place], taken)]
        found.append(free[0] if free else _PLACES[0])
        taken.append(boxes[found[-1]])
    return found


def _front(dots: Sequence[tuple[float, float]], end: float) -> list[Box]:
    """The pieces of the line along the front, which labels should not lie on."""
    if len(dots) < 2:
        return []
    flat = [(x + 6, y - 1, right, y + 1) for (x, y), right in zip(dots, [*(x for x, _ in dots[1:]), end])]
    steep = [(right - 1, y, right + 1, above - 6) for (_, y), (right, above) in pairwise(dots)]
    return flat + steep


def _box(dot: tuple[float, float], place: Place, width: float) -> Box:
    x, y = dot[0] + place[0], dot[1] + place[1]
    left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[place[2]] * width
    return left, y - _LINE / 2, left + width, y + _LINE / 2


def _inside(box: Box, size: tuple[float, float]) -> bool:
    return box[0] > 0 and box[1] > 0 and box[2] < size[0] and box[3] < size[1]


def _hits(box: Box, taken: Sequence[Box]) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )
