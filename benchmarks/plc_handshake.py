"""What the handshake with a PLC adds to an inspection: from a trigger to its valid result, over OPC UA and Modbus.

    python benchmarks/plc_handshake.py [--triggers 500] [--result benchmarks/results/plc_handshake.md]

A line as andon watch makes it, with the files' sink and a store on the disk, but with a camera that has its picture at
once and an inspector that says pass at once: what is left is the handshake, the store and the line's own waiting. The
client runs in the same process and asks again and again, as a PLC's cycle does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from andon.runtime.line import (
    CameraSource,
    FilesSink,
    Line,
    LineSettings,
    ModbusServer,
    OpcUaServer,
    Part,
    PlcSink,
    Store,
)
from andon.runtime.line.camera import Frame
from andon.runtime.line.inspecting import Inspection
from andon.runtime.line.opcua import NAMESPACE


class Instant:
    """A camera whose picture is there at once, and an inspector that passes it."""

    label = "none"

    def open(self, *, triggered: bool) -> None: ...

    def next_frame(self, seconds: float) -> Frame | None:
        return self.shoot(seconds)

    def shoot(self, seconds: float) -> Frame | None:
        return Frame(np.zeros((64, 64, 3), np.uint8))

    def close(self) -> None: ...

    def inspect(self, part: Part) -> Inspection:
        return Inspection("pass", {"part": part.fields["part"], "fields": dict(part.fields), "decision": "pass", "score": 0.5,
                                   "sentence": "", "error": "", "notes": [], "drift": []})  # fmt: skip

    def standing_drift(self) -> tuple[str, ...]:
        return ()

    def stored(self) -> str:
        return ""


def free_port() -> int:
    """A port that nobody serves at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def modbus_round(port: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    """One trigger, its result and its acknowledgement, by number; connects first. And what disconnects."""
    from pymodbus.client import ModbusTcpClient

    client: Any = ModbusTcpClient("127.0.0.1", port=port)
    while not client.connect():
        time.sleep(0.05)

    def ask(number: int) -> None:
        client.write_register(0, number)
        while True:
            found = client.read_holding_registers(103, count=12).registers
            if found[0] and found[11] == number:
                break
        client.write_registers(1, found[7:9])

    return ask, client.close


def opcua_round(port: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    """As :func:`modbus_round`."""
    from asyncua import ua
    from asyncua.sync import Client

    client: Any = Client(f"opc.tcp://127.0.0.1:{port}/andon")
    client.connect()
    space = client.get_namespace_index(NAMESPACE)
    trigger, valid, number_of, sequence, acknowledge = (
        client.get_node(f"ns={space};s=Andon.{name}")
        for name in ("Trigger", "Valid", "ResultTrigger", "Sequence", "Acknowledge")
    )

    def ask(number: int) -> None:
        trigger.write_value(ua.DataValue(ua.Variant(number, ua.VariantType.UInt16)))
        while True:
            is_valid, asked, found = client.read_values([valid, number_of, sequence])
            if is_valid and asked == number:
                break
        acknowledge.write_value(ua.DataValue(ua.Variant(found, ua.VariantType.UInt32)))

    return ask, client.disconnect


def measure(name: str, triggers: int, folder: Path) -> dict[str, float]:
    """Milliseconds from a trigger to the acknowledgement of its result: median, 99th percentile, largest."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    sink = PlcSink(
        name, ModbusServer(address) if name == "modbus" else OpcUaServer(f"opc.tcp://{address}/andon")
    )
    instant, stop = Instant(), threading.Event()

    def run() -> None:
        line = Line(CameraSource(instant, sink.handshake), instant, [FilesSink(folder), sink], Store(folder / "line.sqlite"),  # type: ignore[arg-type]
                    folder, artifact=("none", "0" * 64), settings=LineSettings(), say=lambda text: None)  # fmt: skip
        line.run(stop)

    thread = threading.Thread(target=run)
    thread.start()
    while not (folder / "status.json").exists():
        time.sleep(0.05)
    ask, leave = modbus_round(port) if name == "modbus" else opcua_round(port)
    took = []
    for number in range(1, triggers + 1):
        start = time.perf_counter()
        ask(number)
        took.append(1000 * (time.perf_counter() - start))
    leave()
    stop.set()
    thread.join()
    return {
        "median ms": statistics.median(took),
        "p99 ms": float(np.percentile(took, 99)),
        "largest ms": max(took),
    }


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--triggers", type=int, default=500)
    parser.add_argument(
        "--result", type=Path, help="write the table here, and the figures beside it as .json"
    )
    options = parser.parse_args()
    found = {}
    for name in ("modbus", "opcua"):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, options.triggers, Path(folder))
    head = (
        f"# From a trigger to its acknowledged result\n\n{datetime.now(UTC):%Y-%m-%d}, pymodbus {version('pymodbus')}, asyncua "
        f"{version('asyncua')}, Python {platform.python_version()}, {os.cpu_count()} cores ({platform.machine()}), client in the same "
        f"process. `python benchmarks/plc_handshake.py --triggers {options.triggers}`\n"
    )
    rows = [
        f"| {name} | {' | '.join(f'{value:.1f}' for value in figures.values())} |"
        for name, figures in found.items()
    ]
    table = "\n".join(["| | median ms | p99 ms | largest ms |", "|---|---|---|---|", *rows])
    print(f"{head}\n{table}")
    if options.result:
        options.result.write_text(f"{head}\n{table}\n")
        options.result.with_suffix(".json").write_text(f"{json.dumps(found, indent=1)}\n")


if __name__ == "__main__":
    main()
