"""The handshake with a PLC as Modbus TCP registers, served with pymodbus, the extra ``modbus``.

One block of holding registers, which function 4 reads as input registers, too; every unit identifier answers. Numbers of
32 bits take two registers, the high word first; texts are ASCII, two characters a register, the first in the high byte,
zeros after the end. The map is :data:`MAP`, in docs/line.md as a table; a test compares them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from andon.errors import MissingExtraError, SettingsError
from andon.runtime.line.plc import Handshake, Server, Shown
from andon.runtime.line.serving import START_S, STOP_S, LoopThread, parse_address, require_free

PORT = 502
MAP_VERSION = 1
LETTERS = 32  # of a part's number
NO_SCORE = 0xFFFF
_WRITES = (6, 16, 23)  # functions


@dataclass(frozen=True)
class Register:
    """A place in the map: its first address, how many registers it takes, and what it means."""

    address: int
    count: int
    name: str
    meaning: str


MAP = (
    Register(0, 1, "trigger", "the PLC writes: 1 to 65535, another one than the last for each picture"),
    Register(1, 2, "acknowledge", "the PLC writes: the sequence of the result it has"),
    Register(3, 16, "part wanted", "the PLC writes, before or with the trigger: the part's number, or zeros"),
    Register(100, 1, "heartbeat", "counts on each second while the line is alive, 1 to 65535"),
    Register(101, 1, "state", "0 stopped, 1 running, 2 halted"),
    Register(102, 1, "busy", "1 from the trigger until its result is stored"),
    Register(103, 1, "valid", "1 while a result is shown and not acknowledged"),
    Register(104, 1, "last trigger", "the number of the trigger inspected last"),
    Register(
        105,
        1,
        "fault",
        "of the last thing written: 0 none, 1 trigger's number, 2 acknowledged number, 3 too many triggers, "
        "4 nothing takes triggers",
    ),
    Register(106, 2, "waiting", "results not acknowledged"),
    Register(108, 1, "map version", "1"),
    Register(110, 2, "sequence", "of the result"),
    Register(112, 1, "decision", "0 none yet, 1 pass, 2 review, 3 fail, 4 error"),
    Register(113, 1, "score", "0 to 1000, in thousandths; 65535 where there is none"),
    Register(114, 1, "trigger of result", "which trigger asked for it; 0 for none"),
    Register(115, 2, "inspected", "Unix seconds"),
    Register(120, 16, "part", "the part's number, up to 32 characters"),
)
TRIGGER, ACKNOWLEDGE, WANTED = MAP[0].address, MAP[1].address, MAP[2].address
_WRITTEN = WANTED + MAP[2].count  # registers from 0 that the PLC may write
_SIZE = MAP[-1].address + MAP[-1].count


def registers_of(shown: Shown) -> dict[int, int]:
    """Address -> value of all that is shown.

    >>> found = registers_of(Shown(sequence=65537, score=0.5, part="A1"))
    >>> found[110], found[111], found[113], hex(found[120]), found[121]
    (1, 1, 500, '0x4131', 0)
    """
    score = NO_SCORE if shown.score < 0 else round(1000 * min(shown.score, 1.0))
    single = {
        100: shown.heartbeat, 101: shown.state, 102: int(shown.busy), 103: int(shown.valid), 104: shown.last_trigger,
        105: shown.fault, 108: MAP_VERSION, 112: shown.decision, 113: score, 114: shown.trigger,
    }  # fmt: skip
    double = {106: shown.waiting, 110: shown.sequence, 115: int(shown.inspected)}
    words = {address + i: (value >> (16, 0)[i]) & 0xFFFF for address, value in double.items() for i in (0, 1)}
    return single | words | dict(enumerate(text_registers(shown.part), 120))


def text_registers(text: str) -> list[int]:
    """A text of up to 32 characters as 16 registers; what is not ASCII becomes a question mark."""
    data = text.encode("ascii", "replace")[:LETTERS].ljust(LETTERS, b"\0")
    return [data[i] << 8 | data[i + 1] for i in range(0, LETTERS, 2)]


def register_text(registers: list[int]) -> str | None:
    """The text in registers, up to its first zero; None where it is not printable ASCII.

    >>> register_text(text_registers("A-17")), register_text([0xFFFF])
    ('A-17', None)
    """
    data = b"".join(value.to_bytes(2, "big") for value in registers).partition(b"\0")[0].rstrip()
    text = data.decode("latin-1")
    return text if text.isascii() and text.isprintable() else None


class ModbusServer(Server):
    """Serves the registers at ``HOST:PORT``; Modbus knows neither users nor encryption."""

    def __init__(self, address: str) -> None:
        self.host, self.port = parse_address(address, "--modbus", PORT)
        self._image = [0] * _SIZE
        self._loop: LoopThread | None = None
        self._server: Any = None
        self._handshake: Handshake

    def start(self, handshake: Handshake) -> None:
        """See :meth:`Server.start`."""
        try:
            import pymodbus  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("pymodbus", extra="modbus", purpose="--modbus") from error
        self._handshake = handshake
        for address, value in registers_of(Shown()).items():
            self._image[address] = value
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what a PLC does wrong is told to the PLC
        self._loop = LoopThread("andon-modbus")
        try:
            require_free(self.host, self.port)  # pymodbus would only say that it could not
            self._loop.call(self._begin(), START_S)
        except (OSError, RuntimeError, OverflowError, TimeoutError) as error:
            self.stop()
            raise SettingsError(
                f"cannot serve Modbus at {self.host}:{self.port}: {error} Is the port free, and may this user take it? "
                "Ports below 1024 need a right of their own."
            ) from error

    def show(self, shown: Shown) -> None:
        """See :meth:`Server.show`."""
        if self._loop is not None:
            self._loop.soon(self._put, registers_of(shown))

    def stop(self) -> None:
        """See :meth:`Server.stop`."""
        if self._loop is None:
            return
        if self._server is not None:
            self._loop.call(self._server.shutdown(), STOP_S)
        self._loop.stop()
        self._loop = self._server = None

    async def _begin(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        block = SimData(0, values=[0] * _SIZE, datatype=DataType.REGISTERS)
        server = ModbusTcpServer(
            SimDevice(0, simdata=[block], action=self._access), address=(self.host, self.port)
        )
        await server.serve_forever(background=True)
        self._server = server

    def _put(self, values: dict[int, int]) -> None:
        for address, value in values.items():
            self._image[address] = value

    async def _access(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> Any:
        """Called by pymodbus at each request, before it reads or writes ``registers``; an exception code, or None."""
        from pymodbus.constants import ExcCodes

        if values:
            if function not in _WRITES:
                return ExcCodes.ILLEGAL_FUNCTION
            if address + count > _WRITTEN:
                return ExcCodes.ILLEGAL_ADDRESS
            if not self._write(address, list(values)):
                return ExcCodes.ILLEGAL_VALUE
        registers[: len(self._image)] = self._image
        return None

    def _write(self, address: int, values: list[int]) -> bool:
        """Take in what the PLC writes; whether it makes sense. What does not is refused and not kept."""
        after = self._image[:_WRITTEN]
        after[address : address + len(values)] = values
        part = register_text(after[WANTED:_WRITTEN])
        if part is None:
            return False
        written = range(address, address + len(values))
        words = {ACKNOWLEDGE, ACKNOWLEDGE + 1} & set(written)
        refused = False
        if words:  # a number that is written in two requests is wrong in between, and that is no fault
            fault = self._handshake.acknowledge(after[ACKNOWLEDGE] << 16 | after[ACKNOWLEDGE + 1])
            refused = bool(fault) and len(words) == 2
        if TRIGGER in written:
            refused |= bool(self._handshake.ask(after[TRIGGER], part))
        if not refused:
            self._image[:_WRITTEN] = after
        return not refused
