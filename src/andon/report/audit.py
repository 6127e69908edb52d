"""The audit of the good images as one HTML file: the oddest first, each with its picture, its kind and the reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon.audit import KINDS, LEAVE_OUT, LOOK, Audit, Judged
from andon.errors import AndonError
from andon.files import atomic_write
from andon.heatmap import overlay
from andon.report.content import count
from andon.report.figures import PICTURE_BYTES, picture_uri
from andon.report.gallery import PICTURES_BYTES, Shot, split_path
from andon.report.page import open_template
from andon.report.survey_finding import is_, them

Pixels = NDArray[np.uint8]
Picture = Callable[[str], Pixels]  # path below the root -> (H, W, 3) uint8 RGB

_TEMPLATE = "audit.html.j2"
SHOWN = 40  # images with pictures
LISTED = 200  # further ones in a table
AT_LEAST = 6  # images shown where fewer are marked
_BADGE = {LEAVE_OUT: "fail", LOOK: "review"}
_LOW, _HIGH = 0.95, 0.999  # quantiles of all distances, between which the overlay's colours run
_LEAST_SPAN = 1e-6  # of the colours


@dataclass(frozen=True)
class Card:
    """One image with its map laid over it, or beside what it is a copy of; ``missing`` says why there is no picture."""

    one: Judged
    folder: str
    name: str
    badge: str
    kind: str
    shots: list[Shot]
    missing: str


def check_audit_extra() -> None:
    """Raise :class:`MissingExtraError` where jinja2 is missing: before the work, not after it."""
    open_template(_TEMPLATE)


def write_audit_report(
    path: str | os.PathLike[str],
    audit: Audit,
    *,
    picture: Picture | None = None,
    title: str | None = None,
    footer: str = "",
) -> Path:
    """The path of the page written: one HTML file that loads nothing, atomically. Same input, same bytes.

    ``picture``: path below the root -> photograph; called for each that is shown.

    Raises :class:`MissingExtraError` without jinja2.
    """
    marked = sum(one.is_marked for one in audit.judged)
    shown = audit.judged[: min(SHOWN, max(marked, AT_LEAST))]
    further = [one for one in audit.judged[len(shown) :] if one.is_marked]
    page = {
        "title": title or f"Audit: {Path(audit.root).resolve().name or audit.root}",
        "subtitle": f"{count(audit.images, 'good image')} · {audit.root}",
        "footer": footer,
        "conclusion": conclusion(audit),
        "counts": _counts(audit.judged),
        "cards": _cards(audit, shown, picture),
        "further": further[:LISTED],
        "further_left_out": max(0, len(further) - LISTED),
        "kinds": KINDS,
        "badges": _BADGE,
        "unreadable": [(*split_path(name), reason) for name, reason in audit.unreadable.items()],
        "facts_made": _made(audit),
    }
    text = open_template(_TEMPLATE).render(page)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def conclusion(audit: Audit) -> str:
    """The audit in one sentence."""
    actions = Counter(one.action for one in audit.judged)
    far, doubtful = actions[LEAVE_OUT], actions[LOOK]
    total = count(len(audit.judged), "good image")
    if not far and not doubtful:
        return f"None of {total} looks wrong beside the others."
    parts = (
        [f"{far:,} of {total} {is_(far)} far from the others: look at {them(far)} before fitting"]
        if far
        else []
    )
    if doubtful:
        parts.append(f"{doubtful:,}{'' if far else f' of {total}'} more or less doubtful")
    return "; ".join(parts) + "."


def _counts(judged: Sequence[Judged]) -> list[tuple[str, int, str]]:
    """For each kind: word, how many are marked, and how many of these are to be left out."""
    marked = [one for one in judged if one.is_marked]
    found = []
    for kind, words in KINDS.items():
        own = [one for one in marked if one.kind == kind]
        out = sum(one.action == LEAVE_OUT for one in own)
        found.append((words[0].upper() + words[1:], len(own), f"{out} to leave out" if out else ""))
    return found


def _cards(audit: Audit, shown: Sequence[Judged], picture: Picture | None) -> list[Card]:
    if picture is None or not shown:
        return [_card(one, [], "") for one in shown]
    limit = min(PICTURE_BYTES, PICTURES_BYTES // (2 * len(shown)))
    low, high = _colours(audit)
    found = []
    for one in shown:
        try:
            photo = picture(one.path)
            second = (
                picture(one.copy_of)
                if one.kind == "copy"
                else overlay(photo, audit.maps[one.path], low, high)
            )
            shots = [Shot(*picture_uri(pixels, limit)) for pixels in (photo, second)]
            found.append(_card(one, shots, ""))
        except (
            AndonError,
            OSError,
        ) as error:  # the photograph may have been moved since: the page says so in its place
            found.append(_card(one, [], str(error)))
    return found


def _card(one: Judged, shots: list[Shot], missing: str) -> Card:
    folder, name = split_path(one.path)
    return Card(one, folder, name, _BADGE.get(one.action, "none"), KINDS[one.kind], shots, missing)


def _colours(audit: Audit) -> tuple[float, float]:
    """The distances at which the overlay begins and has its lightest colour, the same for all pictures."""
    values = np.concatenate([distances.ravel() for distances in audit.maps.values()])
    low, high = (float(np.quantile(values, share)) for share in (_LOW, _HIGH))
    return low, max(high, low + _LEAST_SPAN)


def _made(audit: Audit) -> list[tuple[str, str]]:
    rows, columns = audit.size
    return [
        ("Folder", audit.root),
        ("Images", f"{len(audit.judged):,} of {audit.images:,}"),
        ("Features", f"andon-s at {rows} × {columns} pixels"),
        (
            "Judged by",
            f"the other {audit.folds - 1} of {audit.folds} folds; near copies are in the same fold",
        ),
        ("Seed", str(audit.seed)),
    ]
