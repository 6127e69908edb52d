"""Photographs that are copies of each other: of the same bytes, of the same pixels, or nearly (see ``nearest``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.data.survey.nearest import FEW, FeatureSide, Side, Thumbs, ThumbSide, nearest

Kind = Literal["file", "pixels", "near"]
Key = tuple[int, str | int]

SPLITS = ("train", "calibration", "test")
_KINDS = ("file", "pixels", "near")
_BACK = {  # what undoes a turn, where that is not the turn itself
    "turned by 90° to the left": "turned by 90° to the right",
    "turned by 90° to the right": "turned by 90° to the left",
}


@dataclass(frozen=True)
class Item:
    """What is compared of one photograph."""

    path: str
    category: str
    split: str
    file_digest: str
    pixel_digest: str


@dataclass(frozen=True)
class Copy:
    """A photograph and its closest copy ``of`` in the same split or an earlier one (train, calibration, test)."""

    path: str
    split: str
    of: str
    of_split: str
    kind: Kind  # the same bytes, the same pixels, or near
    similarity: float  # 1 for the same
    by: str = ""  # what says that it is near: "thumbnail", "features"
    turn: str = ""  # what was done to ``of`` to get ``path``


def find_copies(
    items: Sequence[Item], thumbs: Thumbs, features: NDArray[np.float32] | None = None
) -> tuple[Copy, ...]:
    """The copies among ``items``; their ``thumbs`` (n, 32, 32) and ``features`` (n, D) lie in the same order.

    Across splits first, the test before the rest, then the same before the near and the most similar first. For each
    earlier split that holds copies of a photograph, its closest one there. Within a split each pair appears once, the
    later photograph as the copy. Same bytes or pixels are found across categories, near copies within one.
    """
    found: dict[Key, Copy] = {}
    for kind in ("file", "pixels"):
        for key, copy in _same(items, kind):
            found.setdefault(key, copy)
    categories: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        categories.setdefault(item.category, []).append(index)
    for listed in categories.values():
        members = np.array(listed)
        sides: dict[str, Side] = {"thumbnail": ThumbSide(thumbs, members)}
        if features is not None and len(members) >= FEW:
            sides["features"] = FeatureSide(features, members)
        for by, side in sides.items():
            for key, copy in _near(items, side, members, by):
                found.setdefault(key, copy)
    return tuple(sorted(found.values(), key=_rank))


def _rank(copy: Copy) -> tuple[object, ...]:
    across = copy.split != copy.of_split
    return (not across, -SPLITS.index(copy.split), SPLITS.index(copy.of_split), _KINDS.index(copy.kind),
            -copy.similarity, copy.path, copy.of)  # fmt: skip


def surplus(copies: Iterable[Copy]) -> int:
    """How many photographs one could take away and still have one of each: copies less their groups.

    >>> a_b, b_c = (Copy(x, "train", y, "train", "near", 0.9) for x, y in ("ba", "cb"))
    >>> surplus([a_b, b_c])
    2
    """
    leader = leaders(copies)
    return len(leader) - len(set(leader.values()))


def leaders(copies: Iterable[Copy]) -> dict[str, str]:
    """For each photograph that is or has a copy, one of its group that stands for all of them.

    >>> leaders([Copy("b", "train", "a", "train", "near", 0.9)]) == {"a": "a", "b": "a"}
    True
    """
    leader: dict[str, str] = {}

    def lead(path: str) -> str:
        while leader.setdefault(path, path) != path:
            leader[path] = leader[leader[path]]
            path = leader[path]
        return path

    for copy in copies:
        leader[lead(copy.path)] = lead(copy.of)
    return {path: lead(path) for path in leader}


def _same(items: Sequence[Item], kind: Literal["file", "pixels"]) -> Iterator[tuple[Key, Copy]]:
    """Copies by hash with their keys; the original is the first of its split."""
    first: dict[tuple[str, str], int] = {}
    digests = [item.file_digest if kind == "file" else item.pixel_digest for item in items]
    for index, (item, digest) in enumerate(zip(items, digests, strict=True)):
        first.setdefault((digest, item.split), index)
    for index, (item, digest) in enumerate(zip(items, digests, strict=True)):
        for split in SPLITS[: SPLITS.index(item.split) + 1]:
            of = first.get((digest, split), index)
            if of != index:
                original = items[of]
                yield (
                    _key(items, index, of),
                    Copy(item.path, item.split, original.path, split, kind, 1.0),
                )


def _near(
    items: Sequence[Item], side: Side, members: NDArray[np.intp], by: str
) -> Iterator[tuple[Key, Copy]]:
    """Near copies among the ``members`` of one category, with their keys."""
    splits = np.array([SPLITS.index(items[index].split) for index in members])
    for later in range(len(SPLITS)):
        for earlier in range(later + 1):
            rows, columns = members[splits == later], members[splits == earlier]
            for index, of, value, turn in zip(rows, *nearest(side, rows, columns), strict=True):
                if of < 0:
                    continue
                if later == earlier and index < of:
                    index, of, turn = of, index, _BACK.get(turn, turn)
                one, other = items[index], items[of]
                similarity = round(float(value), 4)
                copy = Copy(one.path, one.split, other.path, other.split, "near", similarity, by, turn)
                yield _key(items, int(index), int(of)), copy


def _key(items: Sequence[Item], index: int, of: int) -> Key:
    """What a copy is listed once for: the photograph and the other split, or the pair within a split."""
    split = items[of].split
    return (index, split) if split != items[index].split else (index, of)
