"""What the tests of the handshakes share: a line that shows to a PLC, and results made by hand."""

from __future__ import annotations

import json
import socket

from andon.runtime.line import Result, Status

WHEN = "2026-01-31T10:00:00.000+01:00"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def result(
    sequence: int, decision: str = "pass", score: float | None = 0.25, trigger: str = "", part: str = "A1"
) -> Result:
    fields = {"trigger": trigger} if trigger else {}
    content = {"sequence": sequence, "decision": decision, "score": score, "part": part, "fields": fields,
               "inspected": WHEN, "sentence": "fine", "error": ""}  # fmt: skip
    return Result(sequence, json.dumps(content))


def status(state: str = "running", outbox: int = 0, heartbeat_s: float = 5.0, sink: str = "plc") -> Status:
    return Status(state, "abc", 0, outbox={sink: outbox}, heartbeat_s=heartbeat_s)  # type: ignore[arg-type]
