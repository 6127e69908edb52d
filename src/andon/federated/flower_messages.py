"""Questions and replies as Flower's messages, both ways: plain values as JSON, states as the chunks of a parcel."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from andon.errors import DataError, MissingExtraError
from andon.federated.telling import plan_from
from andon.federated.types import Question, Reply
from andon.federated.wire import CHUNK_BYTES, Inbox, pack
from andon.models.base import State

if TYPE_CHECKING:
    from flwr.app import RecordDict

SETTINGS = "site"  # a node's own setting that holds the path of the file that says what the site is
JOB = "job"  # a run's own setting that holds the path of the file that says what to do
ACTION = "ask"
QUERY = f"query.{ACTION}"  # Flower's name for messages that ask
OURS = {  # nothing is downloaded, and nothing is told to anybody
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def require_flower(purpose: str) -> None:
    """Raise MissingExtraError where Flower is not installed; else see to it that it calls nobody."""
    os.environ.update(OURS)
    try:
        import flwr  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("flwr", extra="federated", purpose=purpose) from error


def question_content(question: Question) -> RecordDict:
    """``question`` as the content of a message."""
    plain = {
        "kind": question.kind,
        "plan": asdict(question.plan),
        "plain": dict(question.plain),
        "number": question.number,
    }
    return _content(plain, question.state)[0]


def read_question(content: RecordDict) -> Question:
    """The question that :func:`question_content` made ``content`` of. Raises :class:`DataError`."""
    plain, state, _ = _read(content, "the server", None)
    return Question(plain["kind"], plan_from(plain["plan"]), state, plain["plain"], int(plain["number"]))


def reply_content(reply: Reply) -> RecordDict:
    """``reply`` as the content of a message."""
    plain = {"site": reply.site, "images": reply.images, "plain": dict(reply.plain), "error": reply.error}
    return _content(plain, reply.state)[0]


def read_reply(content: RecordDict, file: Path | None, bytes_down: int) -> Reply:
    """The reply that :func:`reply_content` made ``content`` of, its state mapped from ``file``. Raises :class:`DataError`."""
    plain, state, size = _read(content, "a site", file)
    return Reply(
        str(plain["site"]), state, int(plain["images"]), plain["plain"], str(plain["error"]), size, bytes_down
    )


def _content(plain: Mapping[str, Any], state: State) -> tuple[RecordDict, int]:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    parcel = pack(state, CHUNK_BYTES)
    said = ConfigRecord({"json": json.dumps({**plain, "parcel": parcel.header()})})
    chunks = ArrayRecord({str(number): Array(chunk) for number, chunk in enumerate(parcel.chunks())})
    return RecordDict({"said": said, "state": chunks}), parcel.size


def _read(content: RecordDict, sender: str, file: Path | None) -> tuple[dict[str, Any], State, int]:
    """Plain values, state and the state's bytes."""
    try:
        plain = json.loads(str(content.config_records["said"]["json"]))
        chunks = content.array_records["state"]
        sender = str(plain.get("site", sender))
        inbox = Inbox(plain["parcel"], sender, file)
        for name in chunks:
            inbox.add(int(name), chunks[name].numpy())
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{sender}: the message makes no sense ({error}). Is the same version of Andon there?"
        ) from error
    return plain, inbox.state(), inbox.size
