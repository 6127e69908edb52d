"""All images of an audit in one list, the oddest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from andon.audit.kinds import Evidence, Kind, evidence
from andon.audit.left_out import KEEP, LEAVE_OUT, LOOK
from andon.audit.signals import Signals
from andon.data.survey import Copy

FAR_OUT = 5.0  # usual spreads away from the crowd, from which an image is suggested to be left out
DOUBTFUL = 2.5  # from which it is worth a look


@dataclass(frozen=True)
class Judged:
    """One image: how odd it is, in what way, why, and what to do: leave out, look, keep."""

    path: str  # relative to the folder, with forward slashes
    rank: int  # from 1
    kind: Kind
    oddness: float  # usual spreads away from the others, of the strongest signal
    reason: str
    action: str
    copy_of: str = ""
    strengths: dict[Kind, float] = field(default_factory=dict)  # kind -> spreads

    @property
    def is_marked(self) -> bool:
        """Whether something is suggested."""
        return self.action != KEEP


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found of all images that could be read. ``maps``: path -> (h, w) distances, raw."""

    root: str
    images: int  # in all, those that cannot be read included
    judged: tuple[Judged, ...]  # the oddest first
    unreadable: dict[str, str]  # path -> reason
    folds: int
    size: tuple[int, int]  # (H, W) that the backbone saw
    seed: int
    maps: dict[str, NDArray[np.float32]] = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        """The audit without its maps, for JSON."""
        own = {
            name: getattr(self, name) for name in ("root", "images", "folds", "size", "seed", "unreadable")
        }
        return {**own, "judged": [asdict(one) for one in self.judged]}


def rank(paths: Sequence[str], signals: Signals, copies: Iterable[Copy]) -> tuple[Judged, ...]:
    """One entry an image: first what is far out or doubtful, then copies, then the rest, each the oddest first.

    An image that is odd and a copy is listed as what it is besides a copy. Of copies, the ones listed are those that
    could go; the first of each group is an image like any other.
    """
    of = {copy.path: copy for copy in reversed(list(copies))}  # the most alike last, so that it stays
    found = [_judged(path, evidence(signals, index), of.get(path)) for index, path in enumerate(paths)]
    order = sorted(found, key=lambda one: (_tier(one), -one.oddness, one.path))
    return tuple(replace(one, rank=number) for number, one in enumerate(order, 1))


def _judged(path: str, found: Evidence, copy: Copy | None) -> Judged:
    strengths = {kind: round(value, 2) for kind, value in found.strengths.items()}
    oddness = round(found.oddness, 2)
    if copy is not None and found.oddness < DOUBTFUL:
        action = LEAVE_OUT if copy.kind != "near" else LOOK
        return Judged(path, 0, "copy", oddness, _how_alike(copy), action, copy.of, strengths)
    action = LEAVE_OUT if found.oddness >= FAR_OUT else LOOK if found.oddness >= DOUBTFUL else KEEP
    reason = found.reason if action != KEEP else ""
    return Judged(path, 0, found.kind, oddness, reason, action, copy.of if copy else "", strengths)


def _tier(one: Judged) -> int:
    return 0 if one.oddness >= DOUBTFUL else 1 if one.kind == "copy" else 2


def _how_alike(copy: Copy) -> str:
    if copy.kind == "file":
        return f"the same file as {copy.of}"
    if copy.kind == "pixels":
        return f"the same pixels as {copy.of}"
    turn = f", {copy.turn}" if copy.turn else ""
    return f"nearly the same as {copy.of}{turn}: similarity {copy.similarity:.2f} by {copy.by}"
