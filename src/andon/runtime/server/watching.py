"""Around every request: its id, its time, and one line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from andon.runtime.server.meters import Meters
from andon.runtime.server.problems import UNEXPECTED

LOG = logging.getLogger("andon.serve")
REQUEST_ID = "x-request-id"
GONE = 499  # in the log: the client hung up before its answer
DRAIN_SECONDS = 5.0
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Watching:
    """ASGI middleware that gives each request an id, logs and measures it.

    A body that was not read, because the request was refused, is read and thrown away before the answer, up to
    ``drain_bytes``: a client that is still sending would else see a broken connection in place of the answer.
    """

    def __init__(self, app: ASGIApp, *, meters: Meters, drain_bytes: int) -> None:
        self.app = app
        self.meters = meters
        self.drain_bytes = drain_bytes
        self.cut_off = 0  # requests that a stop did not wait for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = _Call(scope, receive, send, self.drain_bytes)
        try:
            await self.app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        except Exception:
            LOG.exception("request %s went wrong", call.id)
            if call.status == GONE:  # nothing has been answered, as the application does first
                raise
        finally:
            self._note(scope, call)

    def _note(self, scope: Scope, call: _Call) -> None:
        seconds = time.perf_counter() - call.start
        route = getattr(scope.get("route"), "path", "other")
        self.meters.answered.labels(route, str(call.status)).inc()
        self.meters.request.labels(route).observe(seconds)
        said = scope["state"].get("said", {})
        client = (scope.get("client") or ("-",))[0]
        entry = {"request_id": call.id, "client": client, "method": scope["method"], "route": route,
                 "status": call.status, "ms": round(1000 * seconds, 1), **said}  # fmt: skip
        LOG.log(logging.WARNING if call.status == UNEXPECTED else logging.INFO, "%s", json.dumps(entry))


class _Call:
    """One request on its way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drain_bytes: int) -> None:
        headers = Headers(scope=scope)
        sent = headers.get(REQUEST_ID, "")
        self.id = sent if _ID.fullmatch(sent) else uuid.uuid4().hex
        self.start = time.perf_counter()
        self.status = GONE
        scope.setdefault("state", {})["request_id"] = self.id
        self._receive, self._send = receive, send
        self._body_left = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._waits_for_leave = headers.get("expect", "").lower() == "100-continue"
        self._drain_bytes = drain_bytes

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        self._waits_for_leave = False
        self._body_left = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message to the client, with the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.id
            if self._body_left and not self._waits_for_leave:
                await self._drain()
        await self._send(message)

    async def _drain(self) -> None:
        left = self._drain_bytes
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._body_left and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return  # the client has had its chance
