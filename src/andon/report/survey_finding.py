"""What a section of a survey's report comes to, and the grammar of saying it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from andon.data.survey import Survey
from andon.report.content import count

Level = Literal["fail", "review", "pass", "none"]  # put right, look at, nothing to do, cannot be said

NAMES = {
    "contents": "What is in it",
    "areas": "How large the defects are",
    "files": "Files",
    "order": "Light and sharpness as they were taken",
    "map": "How the images lie to each other",
    "copies": "Copies",
    "drift": "Training against good test images",
    "odd": "Odd training images",
}


@dataclass(frozen=True)
class Finding:
    """What a section (``about``, a key of NAMES) says, how urgent it is, and what to do."""

    about: str
    level: Level
    text: str


def conclusion(found: Sequence[Finding]) -> str:
    """The survey in one sentence.

    >>> conclusion([Finding("odd", "pass", "")])
    'Nothing stands in the way of fitting a detector.'
    """
    right, look = (sum(f.level == level for f in found) for level in ("fail", "review"))
    parts = [f"{count(right, 'thing')} to put right"] if right else []
    parts += [f"{count(look, 'thing')} to look at"] if look else []
    if not parts:
        return "Nothing stands in the way of fitting a detector."
    return f"{' and '.join(parts)} before a detector is fitted."


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names in a sentence, cut after ``most``.

    >>> listed(["a", "b", "c", "d"]), listed(["a", "b"])
    ('a, b, c and 1 more', 'a and b')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(survey: Survey, categories: Iterable[str], text: str) -> str:
    """``text`` with a capital, after ``In a and b: `` where the survey has several categories."""
    names = list(dict.fromkeys(categories))
    where = f"In {listed(names)}: " if len(survey.parts) > 1 and names else ""
    return capital(where + text)


def capital(text: str) -> str:
    """``text`` beginning with a capital."""
    return text[:1].upper() + text[1:]


def is_(amount: int) -> str:
    """``is`` for one, ``are`` for more."""
    return "is" if amount == 1 else "are"


def them(amount: int) -> str:
    """``it`` for one, ``them`` for more."""
    return "it" if amount == 1 else "them"
