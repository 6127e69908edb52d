"""An event loop in a thread of its own, for the servers that a PLC connects to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from andon.errors import SettingsError

Answer = TypeVar("Answer")
START_S = 60.0  # a server on a slow computer may need some seconds
STOP_S = 5.0


class LoopThread:
    """An event loop that runs until :meth:`stop`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Answer], seconds: float) -> Answer:
        """What ``work`` returns, awaited in the loop; raises what it raises, and TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function`` in the loop; in the order of the calls, without waiting."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        """End the loop and what runs in it."""
        with contextlib.suppress(TimeoutError):  # the thread is a daemon: it does not keep the program alive
            self.call(self._cancel_all(), STOP_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def require_free(host: str, port: int) -> None:
    """Raise :class:`OSError` where nothing can be served at ``host`` and ``port``."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # elsewhere that option would take a port from its owner
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)


def parse_address(text: str, option: str, default_port: int) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``HOST`` or ``:PORT`` (every address). Raises :class:`SettingsError`.

    >>> parse_address("0.0.0.0:1502", "--modbus", 502), parse_address("[::1]", "--modbus", 502)
    (('0.0.0.0', 1502), ('::1', 502))
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "0.0.0.0", parts.port
    except ValueError as error:
        raise SettingsError(f"{option} takes HOST:PORT to serve at; got {text!r}: {error}") from None
    if not text or parts.path or parts.query or parts.username is not None:
        raise SettingsError(
            f"{option} takes HOST:PORT to serve at, such as 0.0.0.0:{default_port}; got {text!r}"
        )
    return host, default_port if port is None else port
