"""The process: a socket, a server on it, and its end."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from andon.errors import AndonError, MissingExtraError
from andon.runtime.server.backing import Backing
from andon.runtime.server.keys import KeyFile
from andon.runtime.server.limits import Limits
from andon.runtime.server.shelf import Shelf

if TYPE_CHECKING:
    import uvicorn

LOG = logging.getLogger("andon.serve")
_IDLE_SECONDS = 30  # that a connection without a request is kept


@dataclass(frozen=True)
class Address:
    """Where a server listens, and how: with a certificate, over TLS."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    certificate: Path | None = None
    certificate_key: Path | None = None

    def url(self, port: int) -> str:
        """What clients call, once it is known on which ``port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}"


def serve(
    shelf: Shelf,
    address: Address,
    *,
    limits: Limits,
    keys: KeyFile | None = None,
    check_every: float = 2.0,
    backing: Backing | None = None,
    announce: Callable[[str], None] = print,
) -> int:
    """Answer until SIGTERM or SIGINT, then finish what is in flight; how many requests were cut off nonetheless.

    ``announce`` is told the address once connections are taken. Raises :class:`AndonError` where it cannot be listened on,
    :class:`MissingExtraError` without FastAPI or uvicorn.
    """
    try:
        import uvicorn

        from andon.runtime.server.app import make_app, watched
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", extra="serve", purpose="serving") from error
    app = watched(make_app(shelf, limits=limits, keys=keys, check_every=check_every, backing=backing))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=limits.stop_seconds,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.certificate_key,
    )
    _check_certificate(config, address)
    server = uvicorn.Server(config)
    with listening(address) as sock, _stopped_by_signals(server):
        announce(address.url(sock.getsockname()[1]))
        server.run(sockets=[sock])
    LOG.info("stopped; requests cut off: %d", app.cut_off)
    return app.cut_off


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach ``host``.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises :class:`AndonError` where the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AndonError(
            f"cannot listen on {address.host} port {address.port}: {reason}. Is another server running there? Choose "
            "another --port, or 0 for any that is free."
        ) from error
    with sock:
        yield sock


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGTERM and SIGINT end ``server``, and nothing but it: it raises them again once it has ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_certificate(config: uvicorn.Config, address: Address) -> None:
    """Raise :class:`AndonError` where the certificate cannot be used."""
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise AndonError(
            f"cannot use the certificate {address.certificate}: {error.strerror or error}. Expected PEM files: "
            "--tls-certificate with the chain, --tls-key with its key."
        ) from error
