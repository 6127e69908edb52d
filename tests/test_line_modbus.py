"""The handshake with a PLC, and its registers read and written by a real Modbus client."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line import FilesSink, ModbusServer, PlcSink, UnavailableError
from andon.runtime.line.modbus import MAP, register_text, text_registers
from andon.runtime.line.plc import MOST_TRIGGERS, Handshake, Shown
from lines import Running, documents, line_of, put, until
from plcs import free_port, result, status


@pytest.fixture
def seen() -> list[Shown]:
    return []


@pytest.fixture
def handshake(seen: list[Shown]) -> Handshake:
    found = Handshake(seen.append)
    found.begin(0)
    return found


def test_a_trigger_is_taken_once_by_its_number(handshake: Handshake, seen: list[Shown]) -> None:
    assert handshake.ask(7, "A1") == handshake.ask(7, "A2") == 0
    assert handshake.waiting() == 1
    assert seen[-1].busy
    trigger = handshake.next_trigger()
    assert trigger is not None
    assert (trigger.number, trigger.part) == (7, "A1")
    assert handshake.ask(7) == 0  # again, while it is in hand
    assert handshake.next_trigger() is None
    handshake.finish()
    assert (seen[-1].busy, seen[-1].last_trigger) == (False, 7)
    handshake.ask(7)  # again, after it was inspected
    assert handshake.next_trigger() is None
    handshake.ask(6)
    assert handshake.next_trigger() is not None


def test_triggers_that_make_no_sense_are_faults(seen: list[Shown]) -> None:
    handshake = Handshake(seen.append)
    assert handshake.ask(1) == 4  # nobody takes triggers
    handshake.begin(3)
    assert seen[-1].last_trigger == 3
    assert handshake.ask(3) == 0
    assert handshake.ask(65536) == handshake.ask(-1) == 1
    assert seen[-1].fault == 1
    assert [handshake.ask(number) for number in range(10, 10 + MOST_TRIGGERS)] == [0] * MOST_TRIGGERS
    assert handshake.ask(5) == 3
    assert handshake.waiting() == MOST_TRIGGERS


def test_a_result_is_shown_until_its_number_is_acknowledged(handshake: Handshake, seen: list[Shown]) -> None:
    handshake.present(result(8, "fail", 0.97, trigger="7"))
    shown = seen[-1]
    assert (shown.valid, shown.sequence, shown.decision, shown.score, shown.trigger) == (True, 8, 3, 0.97, 7)
    assert handshake.acknowledge(7) == 2
    assert handshake.acknowledge(0) == 0
    assert not handshake.is_acknowledged(0.01)
    assert handshake.acknowledge(8) == handshake.acknowledge(8) == 0
    assert handshake.is_acknowledged(0.01)
    assert (seen[-1].valid, seen[-1].sequence, seen[-1].fault) == (False, 8, 0)
    changes = len(seen)
    handshake.present(result(9, "error", None))
    handshake.present(result(9, "error", None))
    assert len(seen) == changes + 1
    assert (seen[-1].decision, seen[-1].score) == (4, -1.0)


def test_the_heartbeat_stands_still_when_the_line_is_silent(handshake: Handshake, seen: list[Shown]) -> None:
    handshake.hear(status("halted", outbox=3), "plc")
    assert (seen[-1].state, seen[-1].waiting) == (2, 3)
    handshake.beat()
    handshake.beat()
    assert seen[-1].heartbeat == 2
    handshake.hear(status(heartbeat_s=1e-9), "plc")
    handshake.beat()
    assert seen[-1].heartbeat == 2


def test_the_sink_says_how_many_were_acknowledged(handshake: Handshake) -> None:
    class Nothing(ModbusServer):
        def show(self, shown: Shown) -> None:
            if shown.valid and shown.sequence < 3:  # a PLC that goes away at the third
                threading.Thread(target=sink.handshake.acknowledge, args=[shown.sequence]).start()

    sink = PlcSink("plc", Nothing("127.0.0.1:1"), patience=0.1)
    with pytest.raises(UnavailableError, match="has not acknowledged result 3 for 0.1 s") as caught:
        sink.deliver([result(1), result(2), result(3), result(4)])
    assert caught.value.delivered == 2
    assert sink.handshake.is_acknowledged(0) is False
    sink.deliver([])


# --- the registers ------------------------------------------------------------------------------------------------


class Plc:
    """A Modbus client with the map's names."""

    def __init__(self, port: int) -> None:
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
        until(self.client.connect, 60)

    def read(self, name: str) -> int | str:
        place = next(register for register in MAP if register.name == name)
        answer = self.client.read_holding_registers(place.address, count=place.count)
        assert not answer.isError(), answer
        if place.count == 16:
            return register_text(answer.registers) or ""
        return int.from_bytes(b"".join(value.to_bytes(2, "big") for value in answer.registers), "big")

    def write(self, address: int, *values: int) -> int:
        """The exception's code, 0 where the write was taken."""
        answer = self.client.write_registers(address, list(values))
        return answer.exception_code if answer.isError() else 0

    def acknowledge(self, number: int) -> int:
        return self.write(1, number >> 16, number & 0xFFFF)


@pytest.fixture
def served() -> Iterator[tuple[PlcSink, Plc]]:
    port = free_port()
    sink = PlcSink("modbus", ModbusServer(f"127.0.0.1:{port}"), patience=0.2)
    sink.open()
    plc = Plc(port)
    yield sink, plc
    plc.client.close()
    sink.close()


def test_the_registers_are_what_the_map_says(served: tuple[PlcSink, Plc]) -> None:
    sink, plc = served
    sink.report(status(outbox=70_000, sink="modbus"))
    sink.handshake.begin(9)
    sink.handshake.present(result(65_537, "review", 0.5, trigger="8", part="Gehäuse 17"))
    until(lambda: plc.read("valid") == 1)
    found = {register.name: plc.read(register.name) for register in MAP if register.address >= 100}
    assert found.pop("heartbeat") in range(10)
    assert found == {
        "state": 1, "busy": 0, "valid": 1, "last trigger": 9, "fault": 0, "waiting": 70_000, "map version": 1,
        "sequence": 65_537, "decision": 2, "score": 500, "trigger of result": 8, "inspected": 1769850000,
        "part": "Geh?use 17",
    }  # fmt: skip
    assert plc.client.read_input_registers(112, count=1).registers == [2]
    assert plc.acknowledge(65_537) == 0
    until(lambda: plc.read("valid") == 0)
    assert (plc.read("waiting"), plc.read("sequence")) == (69_999, 65_537)


def test_what_the_plc_writes_wrongly_is_refused(served: tuple[PlcSink, Plc]) -> None:
    sink, plc = served
    assert plc.write(0, 5) == 3  # a trigger that nothing takes: illegal value
    assert plc.read("fault") == 4
    sink.handshake.begin(0)
    assert plc.write(3, 0xFFFF) == 3  # no text
    assert plc.write(0, 1, 0, 0, 0x8001) == 3  # a float, where a trigger, a number and a text belong
    assert sink.handshake.waiting() == 0
    assert plc.write(100, 1) == plc.write(18, 0, 0) == 2  # not the PLC's to write: illegal address
    assert plc.write(2000, 1) == 2
    assert plc.client.write_coil(0, True).exception_code == 1  # illegal function
    assert plc.acknowledge(77) == 3
    assert plc.read("acknowledge") == 0
    assert plc.write(3, *text_registers("A-17")) == plc.write(0, 65535) == 0
    trigger = sink.handshake.next_trigger()
    assert trigger is not None
    assert (trigger.number, trigger.part) == (65535, "A-17")


def test_an_acknowledgement_in_two_halves(served: tuple[PlcSink, Plc]) -> None:
    sink, plc = served
    sink.handshake.present(result(65_537))
    assert plc.write(2, 1) == 0
    assert not sink.handshake.is_acknowledged(0)
    assert plc.write(1, 1) == 0
    assert sink.handshake.is_acknowledged(1)


def test_noise_on_the_port_disturbs_nobody(served: tuple[PlcSink, Plc]) -> None:
    sink, plc = served
    with socket.create_connection(("127.0.0.1", plc.client.comm_params.port)) as raw:
        raw.sendall(b"\x00\x01\x00\x00\x00\x06\x01\x63" + b"GET / HTTP/1.1\r\n\r\n" * 20)
        assert plc.read("map version") == 1


def test_a_plc_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    folder, out, said, port = tmp_path / "in", tmp_path / "out", [], free_port()
    folder.mkdir()
    put(folder, range(3))
    sink = PlcSink("modbus", ModbusServer(f"127.0.0.1:{port}"), patience=0.1)
    got = []

    def take(plc: Plc) -> None:
        until(lambda: plc.read("valid") == 1)
        got.append((plc.read("sequence"), plc.read("part")))
        assert plc.acknowledge(int(got[-1][0])) == 0

    with Running(line_of(folder, out, sinks=[FilesSink(out), sink], said=said)):
        first = Plc(port)
        take(first)
        first.client.close()
        until(lambda: len(documents(out)) == 3)
        until(lambda: any("the PLC has not acknowledged result 2" in text for text in said))
        second = Plc(port)
        take(second)
        take(second)
        until(lambda: second.read("waiting") == 0)
        second.client.close()
    assert got == [(1, "000"), (2, "001"), (3, "002")]


def test_a_port_that_is_taken(served: tuple[PlcSink, Plc]) -> None:
    _, plc = served
    other = ModbusServer(f"127.0.0.1:{plc.client.comm_params.port}")
    with pytest.raises(SettingsError, match="cannot serve Modbus at 127.0.0.1:[0-9]+: .*Is the port free"):
        other.start(Handshake(lambda shown: None))
    other.stop()


@pytest.mark.parametrize("text", ["", "host:port", "host:70000", "tcp://host:1", "user@host:502"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="--modbus takes HOST:PORT to serve at"):
        ModbusServer(text)


def test_without_pymodbus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "andon[modbus]"')):
        ModbusServer("127.0.0.1:1502").start(Handshake(lambda shown: None))


def test_the_documented_map_is_this_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "line.md").read_text()
    for register in MAP:
        addresses = str(register.address)
        if register.count > 1:
            addresses += f" to {register.address + register.count - 1}"
        assert f"| {addresses} | {register.name} | {register.meaning} |" in text
