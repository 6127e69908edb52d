"""Results and status as MQTT messages (3.1.1), with paho-mqtt 2, the extra ``line``.

``PREFIX/result``: one message a part, QoS 1, not retained, the result's document. ``PREFIX/status``: retained, QoS 1; the
broker itself says ``"online": false`` there when the line is gone without a word (last will).

A connection that is lost is thrown away with all that paho holds; the next attempt begins with the first result that the
broker has not acknowledged. So the order is kept whatever happens, and what is sent twice has the same sequence number.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line.contract import Result, Sink, Status, UnavailableError

PORTS = {"mqtt": 1883, "mqtts": 8883}
ANSWER_S = 5.0  # how long the broker may take to answer
KEEP_ALIVE_S = 15  # after one and a half of these the broker takes a silent line for gone
_EXAMPLE = "such as mqtt://broker.plant:1883/line3, or mqtts:// for TLS"


@dataclass(frozen=True)
class Broker:
    """Where to, and as whom. prefix: of the topics. authority: file of the certificates to trust (PEM), for TLS."""

    host: str
    port: int
    prefix: str
    tls: bool = False
    user: str = ""
    password: str = ""
    authority: Path | None = None

    @classmethod
    def parse(cls, url: str) -> Broker:
        """The broker of ``mqtt://host:port/topic/prefix``. Raises :class:`SettingsError`.

        >>> Broker.parse("mqtts://broker.plant/hall2/line3")
        Broker(host='broker.plant', port=8883, prefix='hall2/line3', tls=True, user='', password='', authority=None)
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SettingsError(f"expected the URL of a broker {_EXAMPLE}; got {url!r}: {error}") from None
        if parts.username is not None:
            raise SettingsError(
                "a user and a password do not belong into a broker's URL, which every user of this computer can see. "
                "Give them in a file: --mqtt-login FILE"
            )
        prefix = unquote(parts.path).strip("/")
        if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment:
            raise SettingsError(f"expected the URL of a broker {_EXAMPLE}; got {url!r}")
        if not prefix or set(prefix) & set("+#\0"):
            raise SettingsError(
                f"expected a topic without + and # after the broker's name, {_EXAMPLE}; got {url!r}"
            )
        return cls(parts.hostname, port or PORTS[parts.scheme], prefix, parts.scheme == "mqtts")

    def with_login(self, login: str) -> Broker:
        """This broker with ``user:password``. Raises :class:`SettingsError` where that is something else."""
        user, colon, password = login.strip().partition(":")
        if not user or not colon:
            raise SettingsError("expected user:password for the broker, in one line")
        return replace(self, user=user, password=password)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class MqttSink(Sink):
    """Publishes results and status below the broker's prefix. ``line``: the store's name, for the client's."""

    name = "mqtt"

    def __init__(self, broker: Broker, line: str) -> None:
        self.broker, self.line = broker, line
        self._client: Any = None
        self._lost = threading.Event()
        self._lock = threading.Lock()  # of the next two
        self._status = Status("running", line, 0)
        self._online: Any = None  # the client, once the broker has taken it

    def open(self) -> None:
        """Raises :class:`MissingExtraError` without paho-mqtt, :class:`SettingsError` where TLS cannot be set up."""
        self._new_client()

    def deliver(self, results: Sequence[Result]) -> None:
        """Publish ``results`` and wait for the broker's acknowledgement of each; connects where need be."""
        if self._client is None or self._lost.is_set():
            self._connect()
        topic = f"{self.broker.prefix}/result"
        sent = [self._client.publish(topic, result.document, qos=1) for result in results]
        deadline = time.monotonic() + ANSWER_S
        for done, info in enumerate(sent):
            while info.rc or not info.is_published():
                if info.rc or self._lost.is_set() or time.monotonic() > deadline:
                    self._drop_client()
                    raise UnavailableError(f"the broker {self.broker} does not answer.", delivered=done)
                time.sleep(0.002)

    def report(self, status: Status) -> None:
        """Publish the status where there is a connection; else with the next one."""
        with self._lock:
            self._status = status
            if self._online is not None:
                self._publish_status(self._online)

    def close(self) -> None:
        """Say goodbye, so that the broker does not take the line for lost."""
        if self._client is None or self._lost.is_set():
            return
        with self._lock:
            info = self._publish_status(self._client)
        deadline = time.monotonic() + 2.0
        while not info.rc and not info.is_published() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._client.disconnect()
        self._drop_client()

    def _connect(self) -> None:
        """A new client that the broker has taken. Raises :class:`UnavailableError`."""
        self._drop_client()
        self._lost = threading.Event()
        client, answered, refused = self._new_client(), threading.Event(), []

        def connected(client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                refused.append(str(reason))
            answered.set()

        def disconnected(*_: Any, lost: threading.Event = self._lost) -> None:
            lost.set()
            answered.set()

        client.on_connect, client.on_disconnect = connected, disconnected
        try:
            client.connect(self.broker.host, self.broker.port, keepalive=KEEP_ALIVE_S)
        except (OSError, ValueError) as error:  # ValueError: the host's name is none
            raise UnavailableError(
                f"the broker {self.broker} cannot be reached: {getattr(error, 'strerror', None) or error}."
            ) from error
        client.loop_start()
        self._client = client
        if not answered.wait(ANSWER_S) or refused or self._lost.is_set():
            self._drop_client()
            raise UnavailableError(
                f"the broker {self.broker} does not take this line: {(refused or ['no answer'])[0]}."
            )
        with self._lock:
            self._online = client
            self._publish_status(client)

    def _new_client(self) -> Any:
        try:
            import paho.mqtt.client as paho
        except ModuleNotFoundError as error:
            raise MissingExtraError("paho-mqtt", extra="line", purpose="--mqtt") from error
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"andon-{self.line}", reconnect_on_failure=False
        )
        client.connect_timeout = ANSWER_S
        client.max_inflight_messages_set(0)  # a batch at once
        if self.broker.user:
            client.username_pw_set(self.broker.user, self.broker.password)
        if self.broker.tls:
            try:
                client.tls_set(ca_certs=str(self.broker.authority) if self.broker.authority else None)
            except OSError as error:
                raise SettingsError(
                    f"cannot use the certificates in {self.broker.authority}: {error}"
                ) from error
        gone = {"online": False, "state": "lost", "line": self.line}
        client.will_set(self._status_topic, json.dumps(gone), qos=1, retain=True)
        return client

    @property
    def _status_topic(self) -> str:
        return f"{self.broker.prefix}/status"

    def _publish_status(self, client: Any) -> Any:
        return client.publish(self._status_topic, json.dumps(self._status.to_dict()), qos=1, retain=True)

    def _drop_client(self) -> None:
        """Forget the connection and all that was under way on it."""
        with self._lock:
            self._online = None
        if self._client is not None:
            self._client.on_disconnect = self._client.on_connect = None
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
