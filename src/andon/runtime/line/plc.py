"""The handshake with a PLC, whatever carries it: trigger, busy, valid, acknowledge, heartbeat.

Andon serves; the PLC connects, reads what is shown to it and writes two numbers. Both are numbers and not bits, so that
writing one again after a lost connection, a kill or a restart is harmless:

- ``trigger``, 1 to 65535: take a picture now. The number inspected last (``last_trigger``, kept in the ledger) is no new trigger.
- ``acknowledge``: the sequence number of the result that the PLC has. Results are shown one at a time, in order; the
  next one is shown when that number comes.

:class:`Handshake` is the state, shared by the line's thread, the sink's and the server's. :class:`PlcSink` is the sink;
its :class:`Server` is OPC UA or Modbus.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from andon.runtime.line.contract import DECISIONS, Result, Sink, Status, UnavailableError

LAST_TRIGGER = 65535
MOST_TRIGGERS = 100  # that wait to be taken
ANSWER_S = 5.0  # how long the sink waits for an acknowledgement, before it says that there is none
BEAT_S = 1.0
QUIET_BEATS = 3  # of the line's own heartbeats; after so many missed, the one shown to the PLC stands still
STATES = ("stopped", "running", "halted")
FAULTS = {
    0: "",
    1: "the trigger's number is not in 1 to 65535",
    2: "the acknowledged number is not that of the result shown",
    3: "the trigger came while too many were waiting",
    4: "nothing takes triggers here",
}
Fault = Literal[0, 1, 2, 3, 4]
FIELD = "trigger"  # of a result's fields: the number that asked for it


@dataclass(frozen=True)
class Trigger:
    """A picture asked for. part: the part's number, "" where the PLC gives none. at: monotonic seconds of its coming."""

    number: int
    part: str
    at: float


@dataclass(frozen=True)
class Shown:
    """All that the PLC reads.

    state: index into :data:`STATES`. waiting: results not acknowledged, the shown one included. fault: what was wrong
    with the last thing the PLC wrote, see :data:`FAULTS`. The rest is the result, and holds while ``valid``: decision 1
    pass, 2 review, 3 fail, 4 error (0: none yet); score 0 to 1, -1 where there is none; trigger 0 where none asked for
    it; inspected in Unix seconds.
    """

    heartbeat: int = 0
    state: int = 0
    busy: bool = False
    valid: bool = False
    last_trigger: int = 0
    fault: Fault = 0
    waiting: int = 0
    sequence: int = 0
    decision: int = 0
    score: float = -1.0
    trigger: int = 0
    inspected: float = 0.0
    part: str = ""
    sentence: str = ""

    def with_result(self, result: Result) -> Shown:
        """This, with ``result`` shown as valid."""
        content = result.content
        score, asked = content.get("score"), str(content.get("fields", {}).get(FIELD, ""))
        return replace(
            self,
            valid=True,
            sequence=result.sequence,
            decision=DECISIONS.index(content["decision"]) + 1,
            score=-1.0 if score is None else float(score),
            trigger=int(asked) if asked.isdecimal() else 0,
            inspected=datetime.fromisoformat(content["inspected"]).timestamp(),
            part=str(content["part"]),
            sentence=str(content.get("sentence") or content.get("error") or ""),
        )


class Handshake:
    """The state between the PLC and the line. ``show`` is told each change, in order, and must not wait.

    takes_triggers: whether somebody asks for :meth:`next_trigger`.
    """

    def __init__(self, show: Callable[[Shown], None]) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._has = 0  # the highest number acknowledged since the start
        self._shown = Shown()
        self._triggers: deque[Trigger] = deque()
        self._in_hand = 0
        self._heard_at, self._quiet_s = time.monotonic(), 0.0
        self.takes_triggers = False

    # --- what the PLC does ---------------------------------------------------------------------------------------

    def ask(self, number: int, part: str = "") -> Fault:
        """A trigger; what was wrong with it. A number that waits, is in hand or was the last inspected is none, and 0 is none."""
        with self._lock:
            fault = self._take_in(number, part)
            self._change(fault=fault, busy=self._is_busy())
            return fault

    def _take_in(self, number: int, part: str) -> Fault:
        known = {self._shown.last_trigger, self._in_hand, *(each.number for each in self._triggers)}
        if number in known or number == 0:
            return 0
        if not 0 < number <= LAST_TRIGGER:
            return 1
        if not self.takes_triggers:
            return 4
        if len(self._triggers) >= MOST_TRIGGERS:
            return 3
        self._triggers.append(Trigger(number, part, time.monotonic()))
        return 0

    def acknowledge(self, sequence: int) -> Fault:
        """The PLC has the result of that number; what was wrong with it. The last one again is harmless, and 0 says nothing."""
        with self._lock:
            if sequence not in (0, self._shown.sequence):
                self._change(fault=2)
                return 2
            if sequence and self._shown.valid:
                self._has = sequence
                self._change(valid=False, waiting=max(0, self._shown.waiting - 1), fault=0)
                self._changed.notify_all()
            return 0

    # --- what the line does --------------------------------------------------------------------------------------

    def begin(self, last_trigger: int) -> None:
        """Somebody takes triggers from now on; the last inspected before was ``last_trigger``, 0 for none."""
        with self._lock:
            self.takes_triggers = True
            self._change(last_trigger=last_trigger)

    def next_trigger(self) -> Trigger | None:
        """The oldest trigger not taken yet; it is in hand until :meth:`finish`."""
        with self._lock:
            if not self._triggers:
                return None
            trigger = self._triggers.popleft()
            self._in_hand = trigger.number
            return trigger

    def finish(self) -> None:
        """The result of the trigger in hand is stored."""
        with self._lock:
            number, self._in_hand = self._in_hand, 0
            self._change(last_trigger=number or self._shown.last_trigger, busy=self._is_busy())

    def waiting(self) -> int:
        """Triggers not taken yet."""
        return len(self._triggers)

    def hear(self, status: Status, sink: str) -> None:
        """How the line is; ``sink`` is whose outbox counts."""
        with self._lock:
            self._heard_at, self._quiet_s = time.monotonic(), QUIET_BEATS * status.heartbeat_s
            self._change(state=STATES.index(status.state), waiting=status.outbox.get(sink, 0))

    # --- what the sink does --------------------------------------------------------------------------------------

    def present(self, result: Result) -> None:
        """Show ``result`` as valid; one that is shown already stays as it is, one that is acknowledged is not shown again."""
        with self._lock:
            is_shown = self._shown.valid and self._shown.sequence == result.sequence
            if not is_shown and result.sequence > self._has:
                self._change(shown=self._shown.with_result(result))

    def is_acknowledged(self, seconds: float) -> bool:
        """Whether the result shown is acknowledged within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._shown.valid, seconds)

    def beat(self) -> None:
        """Count the heartbeat on, unless the line has been silent for too long."""
        with self._lock:
            if not self._quiet_s or time.monotonic() - self._heard_at < self._quiet_s:
                self._change(heartbeat=self._shown.heartbeat % LAST_TRIGGER + 1)

    def _is_busy(self) -> bool:
        return bool(self._triggers or self._in_hand)

    def _change(self, shown: Shown | None = None, **values: object) -> None:
        """(with the lock) Show the change, if it is one."""
        after = replace(shown or self._shown, **values)  # type: ignore[arg-type]
        if after != self._shown:
            self._shown = after
            self._show(after)


class Server(ABC):
    """What carries the handshake: OPC UA or Modbus."""

    @abstractmethod
    def start(self, handshake: Handshake) -> None:
        """Serve. Raises :class:`MissingExtraError`, or :class:`SettingsError` where the address cannot be served."""

    @abstractmethod
    def show(self, shown: Shown) -> None:
        """Let the PLC read ``shown``; any thread, must not wait, keeps the order of its calls."""

    @abstractmethod
    def stop(self) -> None:
        """End; the connections break."""


class PlcSink(Sink):
    """Shows results to a PLC, one at a time, each until it is acknowledged. ``name``: "opcua" or "modbus".

    patience: seconds to wait for an acknowledgement before the PLC is said to be away; the result stays shown.
    """

    def __init__(self, name: str, server: Server, patience: float = ANSWER_S) -> None:
        self.name, self.server, self.patience = name, server, patience
        self.handshake = Handshake(server.show)
        self._end = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name=f"andon-{name}-heartbeat", daemon=True)

    def open(self) -> None:
        """Serve, from now on; see :meth:`Server.start`."""
        self.server.start(self.handshake)
        self._pulse.start()

    def deliver(self, results: Sequence[Result]) -> None:
        """Show each result until the PLC acknowledges it; see :meth:`Sink.deliver`."""
        for done, result in enumerate(results):
            self.handshake.present(result)
            if not self.handshake.is_acknowledged(self.patience):
                raise UnavailableError(
                    f"the PLC has not acknowledged result {result.sequence} for {self.patience:g} s; it stays shown.",
                    delivered=done,
                )

    def report(self, status: Status) -> None:
        """Show how the line is."""
        self.handshake.hear(status, self.name)

    def close(self) -> None:
        """End; the connections break."""
        self._end.set()
        if self._pulse.is_alive():
            self._pulse.join()
        self.server.stop()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            self.handshake.beat()
