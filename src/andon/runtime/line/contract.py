"""What a line is made of: a source of parts, sinks for results, and what passes between them.

Whoever adds a source (a camera, a trigger of a PLC) or a sink (OPC UA, Modbus) implements one of the two classes here;
nothing else knows about it. See docs/line.md for the promises on both sides.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from andon.errors import AndonError

ERROR = "error"  # the decision on a part that could not be inspected; beside pass, review and fail
DECISIONS = ("pass", "review", "fail", ERROR)


class UnavailableError(AndonError):
    """Something outside cannot be used now (a full disk, a broker that is away) and is tried again later.

    ``delivered``: how many results of the batch, from its first, the receiver has for good all the same.
    """

    def __init__(self, reason: str, *, delivered: int = 0) -> None:
        super().__init__(reason)
        self.delivered = delivered


@dataclass(frozen=True, eq=False)
class Part:
    """One part to inspect, as its source hands it over.

    source: the source's name. name: what the picture is called, in that source; a name may come again with another
    content, which is then another part. image: the bytes of an image file, or pixels (H, W, 3) uint8 RGB. sha256: of
    ``image``, in hex; a name that comes again with the same one is no new part. arrived: Unix seconds. path: where the
    picture lies, "" for a camera. stamp: what its source knows it again by without looking inside; "" where it need
    not. problem: why there is no image, where there is none. fields: what its source knows of it, for the result's
    ``fields``; ``part`` among them is the part's number.
    """

    source: str
    name: str
    image: bytes | NDArray[np.uint8]
    sha256: str
    arrived: float
    path: str = ""
    stamp: str = ""
    problem: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One inspected part. sequence: from 1, without gaps, in the order of inspection, unique in its store.

    document: the JSON text (ASCII, one line) that was stored with it; every delivery of it is the same bytes.
    """

    sequence: int
    document: str

    @cached_property
    def content(self) -> dict[str, Any]:
        """The document, read."""
        content: dict[str, Any] = json.loads(self.document)
        return content


@dataclass(frozen=True)
class Status:
    """How the line is, for supervisors and receivers.

    state: "running"; "halted", no parts are taken for ``reason``; "stopped". sequence: of the last result. counts:
    decision -> parts since the store began. waiting: parts that the source knows of and that are not inspected. outbox
    and dropped: sink -> results not delivered yet, and given up for want of room. drift: what the monitor has noticed.
    """

    state: Literal["running", "halted", "stopped"]
    line: str
    sequence: int
    reason: str = ""
    artifact: str = ""
    artifact_sha256: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    outbox: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    drift: tuple[str, ...] = ()
    started: str = ""  # ISO 8601, with the offset from UTC
    updated: str = ""
    heartbeat_s: float = (
        0.0  # a status that is older than three of these is of a process that hangs or is gone
    )
    pid: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The status for JSON; ``online`` is whether somebody is there."""
        return {"online": self.state != "stopped", **asdict(self)}


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of the last part of a name."""

    stamp: str
    sha256: str
    decision: str


class Ledger(Protocol):
    """What a source may ask of the store: which parts have been inspected already."""

    @property
    def is_new(self) -> bool:
        """Whether the line has never run on this store."""

    def known(self, source: str, name: str) -> Entry | None:
        """The last part inspected under ``name``, or None."""

    def touch(self, source: str, name: str, stamp: str) -> None:
        """Remember a new stamp for a part that is the same still."""

    def skip(self, source: str, stamps: Mapping[str, str]) -> None:
        """Take these parts (name -> stamp) for known, without a result, all or none."""


class Source(ABC):
    """Where parts come from. All methods are called by the line's one thread.

    A part that :meth:`take` gave is the line's until :meth:`settle` is called with it. After a kill in between, the
    source gives it again if it still can: a source that keeps its parts (a folder) loses none, one that does not (a
    camera) loses at most the one in hand, and should say so to whoever triggered it.
    """

    name: str

    def open(self, ledger: Ledger) -> None:  # noqa: B027
        """Begin. Raises an :class:`AndonError` where that makes no sense."""

    @abstractmethod
    def take(self) -> Part | None:
        """The next part that is whole and not in the ledger, in order; None where none is ready. Does not wait.

        Raises :class:`UnavailableError` while the source cannot be reached; the line halts and asks again.
        """

    def may_change(self, part: Part) -> bool:
        """Whether ``part``, which cannot be read, may become readable; True puts it back, with no result yet."""
        return False

    def settle(self, part: Part, decision: str) -> None:  # noqa: B027
        """The result is stored for good: move the file, acknowledge the trigger. May come twice after a kill."""

    def waiting(self) -> int:
        """Parts known of and not taken yet."""
        return 0

    def holds(self, name: str) -> bool:
        """Whether the source could give ``name`` again, so that the ledger must not forget it."""
        return False

    def close(self) -> None:  # noqa: B027
        """End."""


class Sink(ABC):
    """Who gets the results. ``name`` is the key of its results in the store: once given, keep it.

    ``halts_line``: while results cannot be delivered here, no parts are taken. The others have an outbox in the store.
    """

    name: str
    halts_line: bool = False

    def open(self) -> None:  # noqa: B027
        """Begin, without waiting for anybody. Called before any result; raises where the settings make no sense."""

    @abstractmethod
    def deliver(self, results: Sequence[Result]) -> None:
        """Hand over ``results``, in order; return when the receiver has them all for good. In a thread of the sink's.

        At least once: a batch, or some of it, comes again after a failure or a kill, with the same sequence numbers and
        the same bytes, so delivering twice must be harmless or visible by the number. It may wait some seconds. Raises
        :class:`UnavailableError` (or any :class:`AndonError` or OSError) where it cannot now; it is asked again, with a
        pause that grows to some seconds.
        """

    def report(self, status: Status) -> None:  # noqa: B027
        """How the line is: at each change and each heartbeat. In the line's thread: must neither wait nor raise."""

    def close(self) -> None:  # noqa: B027
        """End; after the last :meth:`deliver`. A status "stopped" was reported before."""
