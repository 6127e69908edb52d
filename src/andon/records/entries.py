"""What records are made of: frozen dataclasses, no database.

Times are aware ``datetime`` in UTC. Hashes are SHA-256 in hexadecimal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Literal

from andon.errors import ArtifactError
from andon.types import Decision, Region, Verdict

Role = Literal["operator", "engineer", "line"]  # line: a programme that inspects, without a person
Proof = Literal["password", "nobody", "console", "line"]  # how a session came about
Answer = Literal["agree", "disagree", "pass", "fail", "review"]  # what a person says of a verdict
ROLES: tuple[Role, ...] = ("operator", "engineer")  # those that an account can have
ANSWERS: tuple[Answer, ...] = ("agree", "disagree", "pass", "fail", "review")


@dataclass(frozen=True)
class Session:
    """Who writes: one browser, one run of a command, one line. Made by :class:`Records` alone.

    ``token`` names the session in what it wrote; it opens nothing.
    """

    token: str
    who: str
    role: Role
    proof: Proof
    at: datetime
    account: int | None = None  # the state of the account that the password was checked against


@dataclass(frozen=True)
class User:
    """An account as it is now."""

    name: str
    role: Role
    since: datetime  # of its last change
    by: str  # who made that change


@dataclass(frozen=True)
class ArtifactName:
    """Which detector it was: its name for people, and the hash of its file."""

    name: str
    hash: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> ArtifactName:
        """That of an artefact's file: its name without the ending. Raises :class:`ArtifactError`."""
        try:
            with open(path, "rb") as file:
                return cls(Path(path).stem, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise ArtifactError(f"cannot read {os.fspath(path)}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class Decided:
    """What a person said of one verdict. Later ones are added, never put in the place of earlier ones."""

    id: int
    inspection: int
    at: datetime
    who: str
    answer: Answer
    verdict: Decision  # what the part is by this person's word
    note: str = ""


@dataclass(frozen=True)
class Inspection:
    """One verdict as it was recorded, and the last word of a person on it."""

    id: int
    at: datetime
    who: str
    session: str  # token
    artifact: ArtifactName
    image_name: str
    image_hash: str | None  # of the file's bytes; None where they were not given
    overlay_hash: str | None  # of the heatmap's picture (PNG)
    size: tuple[int, int]  # (H, W) of the original image
    decision: Decision
    score: float | None  # 0 to 1
    image_score: float | None  # raw
    threshold: float | None  # raw; None where there was none
    group: str
    regions: tuple[Region, ...]
    sentence: str
    notes: tuple[str, ...]
    not_inspected: float  # share of the image, 0 to 1
    milliseconds: float
    decided: Decided | None = None  # the last one
    line: str | None = None  # that inspected, by its store's name; None where a person did
    sequence: int | None = None  # of that line's result
    part: str | None = None  # the part's number, as the line read it

    @property
    def verdict(self) -> Decision:
        """What counts: the person's word where there is one, else the machine's."""
        return self.decided.verdict if self.decided else self.decision


@dataclass(frozen=True)
class LineResult:
    """A verdict that a line brings. ``line`` and ``sequence`` name it for ever, so that it is recorded once."""

    line: str  # the store that gave the number
    sequence: int
    part: str  # its number
    at: datetime  # of the inspection
    verdict: Verdict
    artifact: ArtifactName
    image_name: str
    image_hash: str | None  # of the file's bytes; None where there was no file
    group: str = ""
    image: bytes | None = field(default=None, repr=False)  # the file's, to be kept
    overlay: bytes | None = field(default=None, repr=False)  # the heatmap's picture (PNG)


@dataclass(frozen=True)
class Change:
    """One change of a threshold or of zones."""

    id: int
    at: datetime
    who: str
    kind: Literal["threshold", "zones"]
    artifact: ArtifactName  # before
    artifact_hash_after: str | None
    before: Mapping[str, object]
    after: Mapping[str, object]
    why: str


@dataclass(frozen=True)
class Filters:
    """Which inspections; what is left as it is does not choose.

    ``decisions`` are the machine's, ``verdicts`` the persons' last words; ``since`` is included, ``until`` is not.
    """

    artifact: str | None = None  # by name
    artifact_hash: str | None = None
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Decision, ...] = ()
    decided: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    who: str | None = None
    session: str | None = None  # token; only what this browser has inspected


@dataclass(frozen=True)
class Page:
    """Some of the inspections that were asked for, newest first."""

    rows: tuple[Inspection, ...]
    total: int  # of all pages
    number: int  # 0 is the first
    size: int  # rows a page at most

    @property
    def pages(self) -> int:
        """How many pages there are; at least one."""
        return max(1, -(-self.total // self.size))


@dataclass(frozen=True)
class Shifts:
    """When shifts begin, by the clock on the wall of ``zone`` (IANA name; None: this computer's)."""

    starts: tuple[time, ...] = (time(6), time(14), time(22))
    zone: str | None = None


@dataclass(frozen=True)
class Tally:
    """What was inspected from ``since`` to ``until``. Counts are of inspections."""

    since: datetime
    until: datetime
    passed: int
    review: int
    failed: int
    decided: int  # by a person
    false_alarms: int  # failed, and a person says pass
    escapes: int  # passed, and a person says fail
    milliseconds: Mapping[int, float] = field(
        default_factory=dict
    )  # percentile (50, 95, 99) -> decode to verdict

    @property
    def inspected(self) -> int:
        """All of them."""
        return self.passed + self.review + self.failed


@dataclass(frozen=True)
class Limits:
    """What is kept of pictures; what is oldest goes first. None: no limit. Rows and the trail always stay."""

    total_bytes: int | None = 20 * 10**9  # of all pictures
    count: int | None = None  # pictures
    days: float | None = None
    largest_bytes: int = 64 * 2**20  # of one picture; a larger one is not kept, its hash is


@dataclass(frozen=True)
class Pruned:
    """How many pictures were removed, and how many bytes of files."""

    pictures: int
    bytes: int


@dataclass(frozen=True)
class TrailEntry:
    """One line of the audit trail."""

    seq: int  # 1 is the first
    at: datetime
    who: str
    kind: str  # "begin", "verdict", "decision", "threshold", "zones", "login", "user", "prune", ...
    thing: str | None  # the table of what it tells of; None where ``details`` is all
    thing_id: int | None
    artifact_hash: str | None
    details: Mapping[str, object]
    payload_hash: str
    previous: str
    hash: str


@dataclass(frozen=True)
class Anchor:
    """The end of a trail at one moment, to be kept where those who write the records cannot write."""

    database: str  # identity, of the trail's first entry
    entries: int
    hash: str
    at: datetime


@dataclass(frozen=True)
class Misfit:
    """The first thing that does not fit; ``seq`` is the trail's entry, None where no entry is to blame."""

    seq: int | None
    message: str


@dataclass(frozen=True)
class Verification:
    """What :meth:`Records.verify` found. ``anchor`` is the end of the trail as far as it fits."""

    anchor: Anchor
    rows: int  # rows that the entries name, looked at
    pictures: int  # pictures whose bytes were hashed
    misfit: Misfit | None

    @property
    def fits(self) -> bool:
        """Whether everything does."""
        return self.misfit is None
