"""Results and status over real brokers (amqtt, Mosquitto): order, numbers, last will, a broker that goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.client as paho
import pytest

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line import Broker, FilesSink, MqttSink, Result, Status, UnavailableError
from lines import Running, documents, line_of, put, until

RealBroker: TypeAlias = "Amqtt | Mosquitto"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Amqtt:
    """A broker on this computer, in a thread, that can be stopped and started again."""

    def __init__(self, passwords: Path | None = None) -> None:
        self.port = free_port()
        self.plugins: dict[str, dict[str, object]] = (
            {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}}
            if passwords
            else {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        )

    def start(self) -> Amqtt:
        from amqtt.broker import Broker as Serving

        self.loop, begun = asyncio.new_event_loop(), threading.Event()
        listener = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}

        async def begin() -> None:
            self.broker = Serving({"listeners": {"default": listener}, "plugins": self.plugins})
            await self.broker.start()
            begun.set()

        def run() -> None:
            self.loop.run_until_complete(begin())
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert begun.wait(10)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.broker.shutdown(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """The same with Mosquitto, in a process of its own. ``settings``: further lines of its configuration."""

    def __init__(self, folder: Path, *settings: str) -> None:
        if MOSQUITTO is None:
            pytest.skip("Mosquitto is not installed")
        self.port, self.settings = free_port(), folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if settings else 'true'}",
            *settings,
        ]
        self.settings.write_text("\n".join([*lines, "user root", ""]))

    def start(self) -> Mosquitto:
        self.process = subprocess.Popen([str(MOSQUITTO), "-c", self.settings], stderr=subprocess.DEVNULL)
        until(self.answers)
        return self

    def answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class Listener:
    """Subscribes to everything below ``line3`` and keeps what comes, as (topic, retained, content)."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bool, dict[str, Any]]] = []
        ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("line3/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda client, data, message: self.heard.append(
            (message.topic, message.retain, json.loads(message.payload))
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(5)

    def numbers(self) -> list[int]:
        return [content["sequence"] for topic, _, content in self.heard if topic == "line3/result"]

    def states(self) -> list[str]:
        return [content["state"] for topic, _, content in self.heard if topic == "line3/status"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(params=["amqtt", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealBroker]:
    found = (Amqtt() if request.param == "amqtt" else Mosquitto(tmp_path)).start()
    yield found
    found.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def sink_to(port: int, line: str = "abc", **login: str) -> MqttSink:
    return MqttSink(Broker("127.0.0.1", port, "line3", **login), line)  # type: ignore[arg-type]


def test_results_and_status_are_published(broker: RealBroker, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(folder, range(5))
    listener = Listener(broker.port)
    with Running(line_of(folder, out, sinks=[FilesSink(out), sink_to(broker.port)])):
        until(lambda: listener.numbers() == [1, 2, 3, 4, 5])
        until(lambda: "running" in listener.states())
        results = [content for topic, _, content in listener.heard if topic == "line3/result"]
        until(lambda: results == documents(out))
        late = Listener(broker.port)
        until(lambda: late.heard)
        assert late.heard[0][:2] == ("line3/status", True)
        assert late.heard[0][2]["artifact_sha256"] == "0" * 64
        assert late.numbers() == []  # results are not retained
        late.close()
    until(lambda: listener.states()[-1] == "stopped")
    assert listener.heard[-1][2]["counts"]["pass"] == 5
    listener.close()


def test_a_broker_that_goes_away_and_comes_back(broker: RealBroker, folder: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    put(folder, range(3))
    first = Listener(broker.port)
    with Running(line_of(folder, out, sinks=[FilesSink(out), sink_to(broker.port)], said=said)):
        until(lambda: first.numbers() == [1, 2, 3])
        first.close()
        broker.stop()
        put(folder, range(3, 8))
        until(lambda: len(documents(out)) == 8)
        until(lambda: any(text.startswith("mqtt: the broker 127.0.0.1:") for text in said))
        broker.start()
        second = Listener(broker.port)
        until(lambda: second.numbers() and second.numbers()[-1] == 8, 8)
    assert second.numbers() == [4, 5, 6, 7, 8]
    second.close()


def test_what_the_broker_did_not_acknowledge_comes_again_with_its_number(broker: RealBroker) -> None:
    """The connection breaks between the messages and their acknowledgement: duplicates, known by their numbers."""
    listener, sink = Listener(broker.port), sink_to(broker.port)
    results = [Result(number, json.dumps({"sequence": number})) for number in range(1, 4)]
    sink.deliver([])
    sink._client._handle_pubackcomp = lambda kind: 0  # the acknowledgements are lost
    threading.Timer(0.2, sink._lost.set).start()
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        sink.deliver(results)
    assert caught.value.delivered == 0
    sink.deliver(results)
    sink.close()
    until(lambda: len(listener.numbers()) == 6)
    assert listener.numbers() == [1, 2, 3, 1, 2, 3]
    listener.close()


def test_the_last_will(broker: RealBroker) -> None:
    sink = sink_to(broker.port)
    sink.report(Status("running", "abc", 7))
    sink.deliver([])
    listener = Listener(broker.port)
    until(lambda: listener.states() == ["running"])
    assert listener.heard[0][2]["online"] is True
    sink._client.socket().shutdown(socket.SHUT_RDWR)
    until(lambda: listener.states() == ["running", "lost"])
    assert listener.heard[-1][2] == {"online": False, "state": "lost", "line": "abc"}
    sink.deliver([])
    until(lambda: listener.states()[-1] == "running")
    sink.report(Status("stopped", "abc", 7))
    sink.close()
    until(lambda: listener.states()[-1] == "stopped")
    time.sleep(0.1)
    assert listener.states()[-1] == "stopped"  # who says goodbye leaves no will
    listener.close()


def test_nobody_answers(tmp_path: Path) -> None:
    sink = sink_to(free_port())
    sink.open()
    with pytest.raises(
        UnavailableError, match="the broker 127.0.0.1:.* cannot be reached: Connection refused"
    ):
        sink.deliver([])
    sink.report(Status("running", "abc", 0))
    sink.close()


def test_a_login_is_needed(tmp_path: Path) -> None:
    from pwdlib.hashers.argon2 import Argon2Hasher  # as the broker keeps passwords

    quick = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
    (tmp_path / "passwords").write_text(f"andon:{quick.hash('secret')}\n")
    real = Amqtt(tmp_path / "passwords").start()
    try:
        with pytest.raises(UnavailableError, match="does not take this line: Not authorized."):
            sink_to(real.port, user="andon", password="wrong").deliver([])
        sink = sink_to(real.port, user="andon", password="secret")
        sink.deliver([])
        sink.close()
    finally:
        real.stop()


def test_a_login_and_a_certificate(tmp_path: Path) -> None:
    """Mosquitto over TLS with a password: as a plant runs it."""
    authority, certificate, key = certificates(tmp_path)
    passwords = tmp_path / "passwords"
    real = Mosquitto(tmp_path, f"certfile {certificate}", f"keyfile {key}", f"password_file {passwords}")
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", passwords, "andon", "secret"], check=True, capture_output=True
    )
    real.start()

    def sink(password: str, trusted: Path | None) -> MqttSink:
        broker = Broker("localhost", real.port, "line3", True, "andon", password, authority=trusted)
        return MqttSink(broker, "abc")

    try:
        with pytest.raises(UnavailableError, match="does not take this line: Not authorized"):
            sink("wrong", authority).deliver([])
        with pytest.raises(UnavailableError, match="certificate"):
            sink("secret", None).deliver([])
        good = sink("secret", authority)
        good.deliver([Result(1, json.dumps({"sequence": 1}))])
        good.close()
    finally:
        real.stop()


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """The files of an authority, and of a certificate for localhost with its key."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("plant", "localhost")
    ]
    now = datetime.now(UTC)
    paths = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        made = x509.CertificateBuilder(
            names[0], name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        made = made.add_extension(x509.BasicConstraints(number == 0, None), True)
        if number:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        paths.append(folder / f"{number}.pem")
        paths[-1].write_bytes(made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(keys[1].private_bytes(*plain))
    return paths[0], paths[1], folder / "key.pem"


def test_urls() -> None:
    assert Broker.parse("mqtt://b/x") == Broker("b", 1883, "x")
    assert Broker.parse("mqtts://b:99/x/y/").with_login("me:a:b\n") == Broker(
        "b", 99, "x/y", True, "me", "a:b"
    )
    for url in ("http://b/x", "mqtt:///x", "b", "mqtt://b:x/y", "mqtt://b/x?y=1"):
        with pytest.raises(SettingsError, match="expected the URL of a broker such as mqtt://"):
            Broker.parse(url)
    for url in ("mqtt://b", "mqtt://b/x/+", "mqtt://b/%23"):
        with pytest.raises(SettingsError, match=r"expected a topic without \+ and #"):
            Broker.parse(url)
    with pytest.raises(SettingsError, match="do not belong into a broker's URL"):
        Broker.parse("mqtt://me:secret@b/x")
    with pytest.raises(SettingsError, match="expected user:password for the broker"):
        Broker.parse("mqtt://b/x").with_login("secret")


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    sink = MqttSink(Broker("b", 8883, "x", tls=True, authority=tmp_path / "none.pem"), "abc")
    with pytest.raises(SettingsError, match="cannot use the certificates in .*none.pem"):
        sink.open()


def test_without_paho(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtraError, match=r"--mqtt needs the package 'paho-mqtt'.*andon\[line\]"):
        sink_to(1).open()
