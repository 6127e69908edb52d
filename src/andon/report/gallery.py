"""The report's pictures: which images are shown, and the cards that show them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from andon.errors import AndonError
from andon.report.content import Outcome, number
from andon.report.figures import PICTURE_BYTES, picture_uri
from andon.types import Decision

Pixels = NDArray[np.uint8]
Picture = Callable[[str], tuple[Pixels, Pixels]]  # path -> photo and overlay, each (H, W, 3) uint8 RGB
PICTURES_BYTES = 2_800_000  # of all JPEGs together, before base64 adds a third


@dataclass(frozen=True)
class Shot:
    """One JPEG on the page."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """One image: its pictures and what was decided of it."""

    folder: str
    name: str
    decision: Decision | None
    truth: str
    score: str
    image_score: str
    sentence: str
    photo: Shot | None = None
    overlay: Shot | None = None
    missing: str = ""  # why there is no picture


@dataclass(frozen=True)
class Choice:
    """Images chosen for one gallery, under a heading, out of ``total`` of their kind."""

    title: str
    intro: str
    chosen: list[Outcome]
    total: int


@dataclass(frozen=True)
class Gallery:
    """A :class:`Choice` with its cards made."""

    title: str
    intro: str
    cards: list[Card]
    left_out: int


def choose(of: Sequence[Outcome], most: int) -> list[Choice]:
    """The galleries: false alarms, escapes and catches where the truth is known, else what deviates most."""
    ranked = sorted((o for o in of if o.inspected), key=lambda o: (-o.image_score, o.path))
    known = [o for o in ranked if o.is_anomalous is not None]
    if not known:
        choices = [_deviating(ranked, most)]
    else:
        good = [o for o in known if not o.is_anomalous]
        bad = [o for o in known if o.is_anomalous]
        choices = [_false_alarms(good, most), _escapes(bad, most), _catches(bad, most)]
    return [choice for choice in choices if choice.chosen or choice.intro]


def _false_alarms(good: list[Outcome], most: int) -> Choice:
    failed = [o for o in good if o.decision == "fail"]
    if failed:
        return Choice(
            "False alarms", "Good parts that failed, the highest score first.", failed[:most], len(failed)
        )
    nearest = good[: min(2, most)]
    if not any(o.decision for o in good):
        return Choice("Good parts that deviate most", "There is no threshold yet.", nearest, len(nearest))
    return Choice("No false alarm", "No good part failed; these came nearest to it.", nearest, len(nearest))


def _escapes(bad: list[Outcome], most: int) -> Choice:
    passed = [o for o in bad if o.decision == "pass"]
    if passed:
        return Choice("Escapes", "Defective parts that passed, the closest to the threshold first.",
                      passed[:most], len(passed))  # fmt: skip
    narrowest = bad[::-1][: min(2, most)]
    if not bad:
        return Choice("", "", [], 0)
    if not any(o.decision for o in bad):
        return Choice(
            "Defective parts that deviate least", "There is no threshold yet.", narrowest, len(narrowest)
        )
    return Choice(
        "No escape", "No defective part passed; these came nearest to it.", narrowest, len(narrowest)
    )


def _catches(bad: list[Outcome], most: int) -> Choice:
    failed = [o for o in bad if o.decision == "fail"]
    first: dict[str, Outcome] = {}
    for outcome in failed:
        first.setdefault(outcome.defect_type, outcome)
    chosen = list(first.values())[:most]
    intro = "The clearest of each kind of defect." if chosen else ""
    return Choice("Defects found", intro, chosen, len(chosen))


def _deviating(ranked: list[Outcome], most: int) -> Choice:
    stopped = [o for o in ranked if o.decision == "fail"] + [o for o in ranked if o.decision == "review"]
    if stopped:
        intro = "Images that failed or need a person, the highest score first."
        return Choice("What was stopped", intro, stopped[:most], len(stopped))
    chosen = ranked[: min(2, most)]
    intro = "No image failed or needs a person; these have the highest scores." if chosen else ""
    return Choice("Nothing was stopped", intro, chosen, len(chosen))


def galleries(choices: Sequence[Choice], picture: Picture | None, folder: str = "") -> list[Gallery]:
    """The galleries with their cards; pictures share one budget of bytes, so that the page stays small.

    ``folder``: the beginning of every path, not to be repeated on the cards.
    """
    pictures = max(1, 2 * sum(len(choice.chosen) for choice in choices))
    limit = min(PICTURE_BYTES, PICTURES_BYTES // pictures)
    return [
        Gallery(choice.title, choice.intro, [_card(outcome, picture, limit, folder) for outcome in choice.chosen],
                choice.total - len(choice.chosen))
        for choice in choices
    ]  # fmt: skip


def _card(outcome: Outcome, picture: Picture | None, limit: int, common: str) -> Card:
    photo, overlay, missing = _shots(outcome.path, picture, limit)
    folder, name = split_path(outcome.path.removeprefix(common))
    truth = {None: "", False: "good", True: outcome.defect_type or "defective"}[outcome.is_anomalous]
    return Card(
        folder=folder,
        name=name,
        decision=outcome.decision,
        truth=truth,
        score="" if outcome.score is None else f"{int(1000 * outcome.score) / 1000:.3f}",
        image_score=number(outcome.image_score),
        sentence=outcome.verdict.sentence if outcome.verdict else "",
        photo=photo,
        overlay=overlay,
        missing=missing,
    )


def _shots(path: str, picture: Picture | None, limit: int) -> tuple[Shot | None, Shot | None, str]:
    if picture is None:
        return None, None, ""
    try:
        photo, overlay = picture(path)
    except (
        AndonError,
        OSError,
    ) as error:  # the photograph may have been moved since: the page says so in its place
        return None, None, str(error)
    return Shot(*picture_uri(photo, limit)), Shot(*picture_uri(overlay, limit)), ""


def split_path(path: str) -> tuple[str, str]:
    """The folder (with its last separator) and the name of ``path``, in either system's spelling.

    >>> split_path("test/good/001.png")
    ('test/good/', '001.png')
    """
    name = re.split(r"[\\/]", path)[-1]
    return path[: len(path) - len(name)], name


def common_folder(paths: Sequence[str]) -> str:
    """The folders with which all ``paths`` begin, their last separator included; empty when there are none.

    >>> common_folder(["line3/test/good/1.png", "line3/test/dent/1.png"])
    'line3/test/'
    """
    folders = [re.findall(r"[^\\/]*[\\/]", path) for path in paths]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "".join(shared)
