"""What ``andon watch`` builds of its options for cameras and PLCs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from andon.errors import SettingsError

if TYPE_CHECKING:
    from andon.runtime.line import CameraSource, PlcSink


def plc_sinks(opcua: str | None, modbus: str | None) -> list[PlcSink]:
    """A sink for each address to serve at."""
    from andon.runtime.line import ModbusServer, OpcUaServer, PlcSink

    sinks = [PlcSink("opcua", OpcUaServer(opcua))] if opcua is not None else []
    return sinks + ([PlcSink("modbus", ModbusServer(modbus))] if modbus is not None else [])


def camera_source(
    camera: str | None, producer: Path | None, assignments: tuple[str, ...], trigger: str, plcs: Sequence[PlcSink],
    say: Callable[[str], None],
) -> CameraSource:  # fmt: skip
    """The camera as a source, triggered by the one PLC where that is asked for."""
    from andon.runtime.line import CameraSource, GenicamCamera

    if camera is None:
        raise click.UsageError("give a folder, or --camera NAME --camera-producer FILE.cti")
    if producer is None:
        raise click.UsageError(
            "--camera needs --camera-producer FILE.cti, the GenTL producer of the camera's maker"
        )
    if trigger == "plc" and len(plcs) != 1:
        raise click.UsageError(
            "--trigger plc needs --opcua or --modbus, and one of them: two PLCs cannot share the triggers"
        )
    handshake = plcs[0].handshake if trigger == "plc" else None
    return CameraSource(GenicamCamera(camera, producer, _features(assignments)), handshake, say)


def require_no_folder(moves: tuple[str, ...], pattern: str | None, folder_only: bool) -> None:
    """Raise where an option for folders is given without one."""
    if moves or pattern or folder_only:
        raise click.UsageError(
            "--move-to, --name-pattern, --once, --only-new and --recursive are for a folder; give DIR"
        )


def require_folder_alone(
    camera: str | None, producer: Path | None, assignments: tuple[str, ...], trigger: str
) -> None:
    """Raise where a camera is given beside a folder."""
    if camera is not None or producer is not None or assignments or trigger != "camera":
        raise click.UsageError(
            "--camera, --camera-producer, --camera-set and --trigger are for a camera; leave out DIR"
        )


def _features(assignments: tuple[str, ...]) -> dict[str, str]:
    found = dict(assignment.partition("=")[::2] for assignment in assignments)
    if "" in found or "" in found.values():
        raise SettingsError("--camera-set takes FEATURE=VALUE, such as ExposureTime=5000")
    return found
