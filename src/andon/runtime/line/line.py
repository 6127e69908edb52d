"""The line's loop: take a part, inspect it, store the result, let the sinks have it; halt where that cannot be.

One thread takes and inspects. Each sink has a thread of its own that delivers from the store. What happens between two
parts is a kill's worst case, so every step is one that can be done again: the store's transaction is what counts.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from andon.errors import AndonError
from andon.files import atomic_write
from andon.runtime.line.contract import DECISIONS, Part, Result, Sink, Source, Status, UnavailableError
from andon.runtime.line.courier import Courier
from andon.runtime.line.files import overlay_name, remove_unfinished, save_overlay, stem_of
from andon.runtime.line.in_hand import MOST_STARTS, InHand
from andon.runtime.line.inspecting import Inspection, Inspector, iso
from andon.runtime.line.store import Store

WhenFull = Literal["stop", "drop"]
IDLE_S = 0.02  # between two questions to a source that has nothing
HALTED_S = 0.5  # between two tries while nothing can be done
FAREWELL_S = 10.0  # for what is left to deliver, at the end
FORGET_EVERY = 1000  # parts
STATUS_FILE = "status.json"


@dataclass(frozen=True)
class LineSettings:
    """How a line is run.

    outbox: results that a sink may be behind. when_full: what happens then: "stop" taking parts, or "drop" the sink's
    oldest results (never those of a sink that halts the line). heartbeat: seconds between two status reports. remember:
    parts that the ledger keeps in mind beyond those that the source still holds. once: end when nothing is left.
    """

    outbox: int = 100_000
    when_full: WhenFull = "stop"
    heartbeat: float = 5.0
    remember: int = 1_000_000
    once: bool = False


class Line:
    """Inspects what ``source`` gives and hands the results to ``sinks``, by way of ``store``.

    folder: of results; overlays and the status file lie there. artifact: name and SHA-256 of the detector's file. say:
    told what people should know; show: shown each result. Neither may raise.
    """

    def __init__(
        self, source: Source, inspector: Inspector, sinks: Sequence[Sink], store: Store, folder: Path, *,
        artifact: tuple[str, str], settings: LineSettings | None = None,
        say: Callable[[str], None] = print, show: Callable[[Result], None] = lambda result: None,
    ) -> None:  # fmt: skip
        self.source, self.inspector, self.store, self.folder = source, inspector, store, folder
        self.artifact, self.settings = artifact, settings or LineSettings()
        self.say, self.show = say, show
        self.couriers = [Courier(sink, store.path, say) for sink in sinks]
        self._halted = ""
        self._in_hand: tuple[Part, Inspection] | None = None  # inspected, and not stored yet
        self._began: InHand
        self._is_idle = False  # the source gave nothing when it was asked last
        self._started = iso(time.time())
        self._beat_at = 0.0
        self._status_unwritten = False

    def run(self, stop: threading.Event) -> None:
        """Go on until ``stop`` is set, or with ``once`` until nothing is left to inspect.

        Raises an :class:`AndonError` where the line cannot begin, and whatever a fault in a sink raises.
        """
        with ExitStack() as stack:
            self.source.open(self.store)
            stack.callback(self.source.close)
            for courier in self.couriers:
                courier.sink.open()
                stack.callback(courier.sink.close)
            self.store.begin()
            remove_unfinished(self.folder, self.store.sequence)
            self._began = InHand(self.store.path.with_name(f"{self.store.path.name}.in-hand"))
            self._beat(now=True)
            for courier in self.couriers:
                courier.start()
            stack.callback(self._end)
            while not stop.is_set() and not self._is_done():
                stop.wait(self._step())
            self._began.close()

    def _step(self) -> float:
        """Do one part, if there is one and nothing stands against it; the seconds to wait before the next."""
        self._is_idle = False
        try:
            reason = self._obstacle()
            if reason:
                raise UnavailableError(reason)
            if self._in_hand is None:
                self._in_hand = self._next()
            self._is_idle = self._in_hand is None
            if self._in_hand is not None:
                self._store(*self._in_hand)
                self._in_hand = None
        except UnavailableError as error:
            self._halt(str(error))
            return HALTED_S
        if self._halted:
            self.say(f"The line goes on at {time.strftime('%H:%M:%S')}.")
            self._halted = ""
            self._beat(now=True)
        self._beat()
        return IDLE_S if self._is_idle else 0.0

    def _next(self) -> tuple[Part, Inspection] | None:
        """The next part and what is found of it; None where there is none, or where it may be half-written."""
        part = self.source.take()
        if part is None:
            return None
        found = self.inspector.inspect(self._unless_fatal(part))
        if found.is_unreadable and self.source.may_change(part):
            return None
        return part, found

    def _unless_fatal(self, part: Part) -> Part:
        """``part`` as one that cannot be inspected, if it has ended the program again and again."""
        starts = self._began.begin(part)
        if starts < MOST_STARTS or part.problem:
            return part
        return replace(part, problem=f"the program has ended {starts} times while it was inspected")

    def _store(self, part: Part, found: Inspection) -> None:
        """Store the result, with its overlay, and let everybody know. Raises :class:`UnavailableError`."""
        result = self._result(part, found)
        if found.overlay is not None:
            try:
                save_overlay(self.folder, result, found.overlay)
            except AndonError as error:
                raise UnavailableError(str(error)) from error
        bounds: dict[str, int] = {}
        if self.settings.when_full == "drop":
            bounds = {c.sink.name: self.settings.outbox for c in self.couriers if not c.sink.halts_line}
        self.store.record(part, found.decision, result, [c.sink.name for c in self.couriers], bounds)
        for courier in self.couriers:
            courier.wake()
        self.source.settle(part, found.decision)
        if problem := self.inspector.stored():
            self.say(f"monitor: {problem}")
        if result.sequence % FORGET_EVERY == 0:
            self.store.forget(self.source.name, self.settings.remember, self.source.holds)
        for message in found.document["drift"]:
            self.say(f"Drift: {message}")
        if found.document["drift"]:
            self._beat(now=True)
        self.show(result)

    def _result(self, part: Part, found: Inspection) -> Result:
        sequence, inspected = self.store.sequence + 1, iso(time.time())
        stem = stem_of(sequence, inspected, found.document["part"])
        document: dict[str, Any] = {
            "sequence": sequence,
            "line": self.store.line,
            **found.document,
            "arrived": iso(part.arrived),
            "inspected": inspected,
            "sha256": part.sha256,
            "artifact": self.artifact[0],
            "artifact_sha256": self.artifact[1],
            "overlay": overlay_name(stem) if found.overlay is not None else "",
        }
        return Result(sequence, json.dumps(document, allow_nan=False))

    def _obstacle(self) -> str:
        """Why no part may be taken now; "" where nothing stands against it. Raises what ended a sink's thread."""
        for courier in self.couriers:
            sink = courier.sink
            if courier.failure is not None:
                raise courier.failure
            if sink.halts_line and courier.problem:
                return f"{sink.name}: {courier.problem}"
            bounded = sink.halts_line or self.settings.when_full == "stop"
            if bounded and self.store.is_behind(sink.name, self.settings.outbox):
                return f"{sink.name}: {self.settings.outbox:,} results wait to be delivered, as many as may. {courier.problem}"
        return ""

    def _is_done(self) -> bool:
        """With ``once``: whether the source was asked, gave nothing, and knows of nothing that is to come."""
        return self.settings.once and self._is_idle and not self.source.waiting()

    def _halt(self, reason: str) -> None:
        if not self._halted:
            self.say(f"The line halts, no parts are taken: {reason}")
        changed, self._halted = reason != self._halted, reason
        self._beat(now=changed)

    def _end(self) -> None:
        """Deliver what can be delivered, and say goodbye."""
        deadline = time.monotonic() + FAREWELL_S
        for courier in self.couriers:
            courier.finish(max(0.1, deadline - time.monotonic()))
        self._beat(now=True, stopped=True)
        for sink, left in self.store.outboxes().items():
            if left:
                self.say(f"{sink}: {left:,} results are not delivered yet; they are with the next start.")

    def _beat(self, *, now: bool = False, stopped: bool = False) -> None:
        """Report the status, if it is time; never raises for want of room."""
        if not now and time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + self.settings.heartbeat
        try:
            status = self.status(stopped=stopped)
        except UnavailableError:
            return
        for courier in self.couriers:
            courier.sink.report(status)
        try:
            with atomic_write(self.folder / STATUS_FILE, "w") as file:
                json.dump(status.to_dict(), file, indent=1)
        except AndonError as error:
            if not self._status_unwritten:
                self.say(f"The status file is not up to date: {error}")
            self._status_unwritten = True
        else:
            self._status_unwritten = False

    def status(self, *, stopped: bool = False) -> Status:
        """How the line is now. Raises :class:`UnavailableError` where the store cannot be read."""
        return Status(
            state="stopped" if stopped else "halted" if self._halted else "running",
            line=self.store.line,
            sequence=self.store.sequence,
            reason="" if stopped else self._halted,
            artifact=self.artifact[0],
            artifact_sha256=self.artifact[1],
            counts=dict.fromkeys(DECISIONS, 0) | self.store.counts(),
            waiting=self.source.waiting(),
            outbox={courier.sink.name: 0 for courier in self.couriers} | self.store.outboxes(),
            dropped=self.store.counts("dropped"),
            drift=self.inspector.standing_drift(),
            started=self._started,
            updated=iso(time.time()),
            heartbeat_s=self.settings.heartbeat,
            pid=os.getpid(),
        )
