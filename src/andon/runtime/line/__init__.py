"""A production line: parts come from a source, verdicts go to sinks, none is lost and none comes twice.

``contract`` what a source and a sink are, ``store`` the durable memory between them, ``line`` the loop, ``courier`` the
delivery, ``inspecting`` a part to its result,
``in_hand`` what ended the program, ``folder`` a watched folder as a source, ``files``, ``mqtt`` and ``records`` the sinks,
``plc`` the handshake with a PLC, ``opcua`` and ``modbus`` what carries it (``serving`` their loop), ``camera`` a GenICam
camera as a source with its ``pixel_formats``, ``daily_log`` the table a day, ``codes`` part numbers from QR and bar codes, ``moving`` inspected files out of the way.
See docs/line.md.
"""

from andon.runtime.line.camera import CameraSource, GenicamCamera
from andon.runtime.line.contract import (
    DECISIONS,
    Entry,
    Ledger,
    Part,
    Result,
    Sink,
    Source,
    Status,
    UnavailableError,
)
from andon.runtime.line.files import FilesSink, require_unused
from andon.runtime.line.folder import FolderSource, Timing, require_apart
from andon.runtime.line.inspecting import Inspector
from andon.runtime.line.line import Line, LineSettings
from andon.runtime.line.modbus import ModbusServer
from andon.runtime.line.mqtt import Broker, MqttSink
from andon.runtime.line.opcua import OpcUaServer
from andon.runtime.line.plc import PlcSink
from andon.runtime.line.records import RecordsSink
from andon.runtime.line.store import Store

__all__ = [
    "DECISIONS",
    "Broker",
    "CameraSource",
    "Entry",
    "FilesSink",
    "FolderSource",
    "GenicamCamera",
    "Inspector",
    "Ledger",
    "Line",
    "LineSettings",
    "ModbusServer",
    "MqttSink",
    "OpcUaServer",
    "Part",
    "PlcSink",
    "RecordsSink",
    "Result",
    "Sink",
    "Source",
    "Status",
    "Store",
    "Timing",
    "UnavailableError",
    "require_apart",
    "require_unused",
]
