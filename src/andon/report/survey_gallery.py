"""The pictures of a survey's report: pairs of copies, odd images, and what is unusually dark or blurred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from andon.data.survey import Copy, Survey
from andon.errors import AndonError
from andon.report.content import number
from andon.report.figures import PICTURE_BYTES, picture_uri
from andon.report.gallery import PICTURES_BYTES, Shot, split_path
from andon.report.survey_words import leaks

Pixels = NDArray[np.uint8]
Picture = Callable[[str], Pixels]  # path below the root -> (H, W, 3) uint8 RGB
Rows = list[tuple[list[str], str]]  # paths of a card's photographs, and its line
Chosen = tuple[str, str, Rows, int]  # title, intro, cards, and how many are left out

PAIRS_ACROSS, PAIRS_WITHIN = 8, 4  # pairs of copies shown
ODD_SHOWN, STRAY_SHOWN = 10, 5


@dataclass(frozen=True)
class Photo:
    """One photograph on a card; ``missing`` says why there is none."""

    folder: str
    name: str
    shot: Shot | None
    missing: str


@dataclass(frozen=True)
class Card:
    """One or two photographs with a line on them."""

    photos: list[Photo]
    line: str


@dataclass(frozen=True)
class Cards:
    """Cards under a heading; ``left_out`` more are not shown."""

    title: str
    intro: str
    cards: list[Card]
    left_out: int
    pairs: bool


def galleries(survey: Survey, picture: Picture | None) -> dict[str, list[Cards]]:
    """The pictures of each section; they share one budget of bytes, so that the page stays small."""
    chosen = {"copies": _pairs(survey), "order": _strays(survey), "odd": _odd(survey)}
    amount = sum(len(paths) for sets in chosen.values() for *_, rows, _ in sets for paths, _ in rows)
    limit = min(PICTURE_BYTES, PICTURES_BYTES // max(1, amount))
    return {
        about: [
            Cards(title, intro, [Card([_photo(path, picture, limit) for path in paths], line) for paths, line in rows],
                  left_out, about == "copies")
            for title, intro, rows, left_out in sets
        ]
        for about, sets in chosen.items()
    }  # fmt: skip


def _pairs(survey: Survey) -> list[Chosen]:
    found: list[Chosen] = []
    words = {"train": "training", "calibration": "threshold", "test": "test"}
    for split, of_split in (
        ("test", "train"),
        ("test", "calibration"),
        ("calibration", "train"),
        ("train", "train"),
        ("test", "test"),
    ):
        copies = leaks(survey.copies, split, of_split)
        if not copies:
            continue
        most = PAIRS_ACROSS if split != of_split else PAIRS_WITHIN
        where = f"{words[split]} and {words[of_split]}" if split != of_split else f"the {words[split]}"
        intro = (f"Left the {words[split]} image, right its closest {words[of_split]} image." if split != of_split
                 else "Both are in the same split.")  # fmt: skip
        shown = _spread(copies, most)
        found.append(
            (
                f"Pairs in {where}",
                intro,
                [([c.path, c.of], _how_alike(c)) for c in shown],
                len(copies) - len(shown),
            )
        )
    return found


def _spread(copies: Sequence[Copy], most: int) -> list[Copy]:
    """The first half of what can be shown from the most alike, the rest evenly from all others down to the least."""
    if len(copies) <= most:
        return list(copies)
    first = most // 2
    rest = np.linspace(first, len(copies) - 1, most - first).astype(int)
    return [*copies[:first], *(copies[i] for i in rest)]


def _how_alike(copy: Copy) -> str:
    if copy.kind == "file":
        return "the same file"
    if copy.kind == "pixels":
        return "the same pixels in another file"
    turn = f", {copy.turn}" if copy.turn else ""
    return f"near, similarity {copy.similarity:.2f} ({copy.by}){turn}"


def _strays(survey: Survey) -> list[Chosen]:
    strays = [o for part in survey.parts for o in part.outliers]
    if not strays:
        return []
    said: dict[str, list[str]] = {}
    for o in strays:
        said.setdefault(o.path, []).append(f"{o.measure} {number(o.value)}, usual {number(o.usual)}")
    rows = [([path], "; ".join(lines)) for path, lines in said.items()]
    return [("Far from what is usual", "", rows[:STRAY_SHOWN], max(0, len(rows) - STRAY_SHOWN))]


def _odd(survey: Survey) -> list[Chosen]:
    odd = sorted(
        (o for part in survey.parts for o in part.odd), key=lambda o: (not o.far_out, -o.distance, o.path)
    )
    if not odd:
        return []
    far = sum(o.far_out for o in odd)
    rows = [
        ([o.path], f"{o.distance:.1f} times the usual distance{', far out' if o.far_out else ''}")
        for o in odd[:ODD_SHOWN]
    ]
    return [("", "", rows, max(0, far - ODD_SHOWN))]


def _photo(path: str, picture: Picture | None, limit: int) -> Photo:
    folder, name = split_path(path)
    if picture is None:
        return Photo(folder, name, None, "")
    try:
        return Photo(folder, name, Shot(*picture_uri(picture(path), limit)), "")
    except (
        AndonError,
        OSError,
    ) as error:  # the photograph may have been moved since: the page says so in its place
        return Photo(folder, name, None, str(error))
