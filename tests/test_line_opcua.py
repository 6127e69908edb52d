"""The handshake with a PLC as OPC UA variables and events, by a real client on a real server."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.sync import Client

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line import FilesSink, OpcUaServer, PlcSink
from andon.runtime.line.opcua import NAMESPACE, VARIABLES, WRITTEN
from andon.runtime.line.plc import Handshake
from lines import Running, documents, line_of, put, until
from plcs import free_port, result, status


class Plc:
    """An OPC UA client with the variables' names."""

    def __init__(self, port: int, user: str = "") -> None:
        self.client = Client(f"opc.tcp://127.0.0.1:{port}/andon", timeout=10)
        if user:
            self.client.set_user(user)
        self.client.connect()
        self.space = self.client.get_namespace_index(NAMESPACE)
        self.events: list[Any] = []

    def node(self, name: str) -> Any:
        return self.client.get_node(f"ns={self.space};s=Andon.{name}")

    def read(self, name: str) -> Any:
        return self.node(name).read_value()

    def write(self, name: str, value: object, kind: str = "") -> None:
        variant = ua.Variant(value, ua.VariantType[kind or VARIABLES[name]])
        self.node(name).write_value(ua.DataValue(variant))

    def event_notification(self, event: Any) -> None:
        self.events.append(event)

    def listen(self) -> None:
        root = self.client.get_node(f"ns={self.space};s=Andon")
        kind = self.client.nodes.base_event_type.get_child(f"{self.space}:AndonResult")
        self.client.create_subscription(20, self).subscribe_events(root, kind)

    def close(self) -> None:
        self.client.disconnect()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def sink(port: int) -> Iterator[PlcSink]:
    found = PlcSink("opcua", OpcUaServer(f"opc.tcp://127.0.0.1:{port}/andon"), patience=0.2)
    found.open()
    yield found
    found.close()


@pytest.fixture
def plc(sink: PlcSink, port: int) -> Iterator[Plc]:
    found = Plc(port)
    yield found
    found.close()


def test_a_plc_that_goes_away_and_comes_back(sink: PlcSink, port: int, tmp_path: Path) -> None:
    """Nobody acknowledges; the line goes on; the next PLC gets all of it, in order."""
    folder, out, said = tmp_path / "in", tmp_path / "out", []
    folder.mkdir()
    put(folder, range(3))

    class Borrowed(PlcSink):  # (the module's server serves on)
        def __init__(self) -> None:
            self.name, self.patience, self.handshake = "opcua", 0.1, sink.handshake

        def open(self) -> None: ...

        def close(self) -> None: ...

    with Running(line_of(folder, out, sinks=[FilesSink(out), Borrowed()], said=said)):
        until(lambda: len(documents(out)) == 3)
        until(lambda: any("the PLC has not acknowledged result 1" in text for text in said))
        plc, got = Plc(port), []
        for _ in range(3):
            until(lambda: plc.read("Valid"))
            got.append((plc.read("Sequence"), plc.read("Part")))
            plc.write("Acknowledge", got[-1][0])
        until(lambda: plc.read("Waiting") == 0)
        plc.close()
    assert got == [(1, "000"), (2, "001"), (3, "002")]


def test_a_result_is_variables_and_an_event_until_it_is_acknowledged(sink: PlcSink, plc: Plc) -> None:
    plc.listen()
    sink.report(status(outbox=3, sink="opcua"))
    waiting = threading.Thread(
        target=sink.deliver, args=[[result(11, "fail", 0.97, trigger="4", part="Gehäuse 17")]]
    )
    sink.patience = 10
    waiting.start()
    until(lambda: plc.read("Valid"))
    found = {name: plc.read(name) for name in VARIABLES if name not in WRITTEN and name != "Heartbeat"}
    assert found == {
        "State": 1, "Busy": False, "LastTrigger": 0, "Fault": 0, "FaultText": "", "Waiting": 3, "Sequence": 11,
        "Decision": 3, "Score": 0.97, "ResultTrigger": 4, "Part": "Gehäuse 17", "Sentence": "fine", "Valid": True,
        "Inspected": datetime(2026, 1, 31, 9, tzinfo=UTC),
    }  # fmt: skip
    plc.write("Acknowledge", 10)
    until(lambda: plc.read("Fault") == 2)
    assert waiting.is_alive()
    plc.write("Acknowledge", 11)
    waiting.join(5)
    assert not waiting.is_alive()
    until(lambda: not plc.read("Valid"))
    assert (plc.read("Fault"), plc.read("Waiting")) == (0, 2)
    sink.deliver([result(11)])  # again, because the store was full: the PLC has it
    assert not plc.read("Valid")
    until(lambda: plc.events)
    (event,) = plc.events
    assert (event.Sequence, event.Decision, event.Part, event.Severity) == (11, 3, "Gehäuse 17", 700)
    assert event.Message.Text == "Gehäuse 17: fine"


def test_triggers_and_what_is_written_wrongly(sink: PlcSink, plc: Plc) -> None:
    sink.handshake.begin(3)
    for name, value, kind in (("Trigger", "4", "String"), ("Trigger", 4.0, "Double"), ("Trigger", 4, "UInt32"),
                              ("Acknowledge", True, "Boolean"), ("PartWanted", 17, "UInt16"),
                              ("Trigger", None, "Null")):  # fmt: skip
        with pytest.raises(ua.UaStatusCodeError, match="BadTypeMismatch"):
            plc.write(name, value, kind)
    with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied|BadNotWritable"):
        plc.write("Decision", 1)
    plc.write("Trigger", 3)  # the last one inspected
    plc.write("Trigger", 0)
    assert sink.handshake.waiting() == 0
    plc.write("PartWanted", " A-17 ")
    plc.write("Trigger", 4)
    plc.write("Trigger", 4)
    plc.write("Trigger", 5)
    until(lambda: plc.read("Busy"))
    first, second = sink.handshake.next_trigger(), sink.handshake.next_trigger()
    assert first is not None
    assert second is not None
    assert (first.number, first.part, second.number) == (4, "A-17", 5)
    sink.handshake.finish()
    until(lambda: plc.read("LastTrigger") == 5)


def test_whoever_calls_himself_admin_may_not_write_more(sink: PlcSink, port: int) -> None:
    plc = Plc(port, user="admin")
    with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied|BadNotWritable"):
        plc.write("Decision", 1)
    with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
        plc.client.delete_nodes([plc.node("Decision")])
    plc.close()


def test_a_value_marked_as_bad_is_no_trigger(sink: PlcSink, plc: Plc) -> None:
    plc.node("Trigger").write_value(
        ua.DataValue(ua.Variant(6, ua.VariantType.UInt16), ua.StatusCode(ua.StatusCodes.Bad))
    )
    assert sink.handshake.waiting() == 0
    plc.write("Trigger", 0)


def test_an_endpoint_that_is_taken(sink: PlcSink, port: int) -> None:
    other = OpcUaServer(f"opc.tcp://127.0.0.1:{port}/andon")
    with pytest.raises(
        SettingsError, match="cannot serve OPC UA at opc.tcp://127.0.0.1:[0-9]+/andon: .*Is the port free"
    ):
        other.start(Handshake(lambda shown: None))


@pytest.mark.parametrize(
    "text", ["", "0.0.0.0:4840", "opc.tcp://host", "opc.tcp://:4840", "opc.tcp://a:b", "http://a:1"]
)
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(
        SettingsError, match="--opcua takes the address to serve at, such as opc.tcp://0.0.0.0:4840/andon"
    ):
        OpcUaServer(text)


def test_without_asyncua(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncua", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "andon[opcua]"')):
        OpcUaServer("opc.tcp://127.0.0.1:4841/andon").start(Handshake(lambda shown: None))


def test_the_documented_variables_are_these() -> None:
    text = (Path(__file__).parents[1] / "docs" / "line.md").read_text()
    for name, kind in VARIABLES.items():
        assert f"| `{name}` | {kind} |" in text
