"""The simulated GenICam camera that comes with genicam, one made up for what that cannot, and kill -9 by a PLC's side."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import genicam
import numpy as np
import pytest
from click.testing import CliRunner

from andon.cli.watch import command
from andon.errors import DataError, ImageError, MissingExtraError, SettingsError
from andon.runtime.line import CameraSource, FilesSink, GenicamCamera, Store, UnavailableError
from andon.runtime.line.camera import LATE_S, Frame
from andon.runtime.line.pixel_formats import to_rgb
from andon.runtime.line.plc import Handshake, Shown
from lines import Running, difference_detector, documents, line_of, until
from plcs import free_port
from test_line_modbus import Plc

SIMULATED = Path(genicam.__file__).with_name("viky.cti")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "line.sqlite")
    yield found
    found.close()


class Made:
    """A camera without one: gives ``frames``; ``away`` raises as a real one that is unplugged."""

    label = "made"

    def __init__(self, *frames: Frame) -> None:
        self.frames, self.away, self.opened = list(frames), False, 0

    def open(self, *, triggered: bool) -> None:
        self.opened += 1
        self._answer()

    def next_frame(self, seconds: float) -> Frame | None:
        self._answer()
        return self.frames.pop(0) if self.frames else None

    def shoot(self, seconds: float) -> Frame | None:
        return self.next_frame(seconds)

    def close(self) -> None: ...

    def _answer(self) -> None:
        if self.away:
            raise UnavailableError("the camera made is unplugged.")


def frame(value: int, lost: int = 0) -> Frame:
    return Frame(np.full((24, 32, 3), value, np.uint8), lost)


# --- the simulated camera -----------------------------------------------------------------------------------------


def test_frames_of_a_camera_that_runs_freely(tmp_path: Path) -> None:
    camera = GenicamCamera(
        "VikyTL_DEV_green", SIMULATED, {"PixelFormat": "Mono8", "Width": "200", "Height": "100"}
    )
    out = tmp_path / "out"
    with Running(line_of(tmp_path, out, sinks=[FilesSink(out)], source=CameraSource(camera))):  # type: ignore[arg-type]
        until(lambda: len(documents(out)) >= 3)
    found = documents(out)
    assert [one["sequence"] for one in found] == list(range(1, len(found) + 1))
    assert {one["decision"] for one in found} == {"pass"}


def test_a_picture_for_each_trigger_has_the_camera_s_pixels(store: Store) -> None:
    handshake = Handshake(lambda shown: None)
    source = CameraSource(GenicamCamera("0", SIMULATED), handshake)
    source.open(store)
    assert source.take() is None
    for number in (7, 8):
        handshake.ask(number, "A17" if number == 7 else "")
        part = source.take()
        assert part is not None
        assert part.problem == ""
        assert isinstance(part.image, np.ndarray)
        assert (part.image.shape, part.image.dtype) == ((400, 400, 3), np.uint8)
        assert part.image.std() > 0
        assert part.fields == {
            "camera": "0",
            "trigger": str(number),
            "part": "A17" if number == 7 else "trigger-8",
        }
        assert (part.name, part.stamp) == ("camera", str(number))
        source.settle(part, "pass")
    source.close()


@pytest.mark.parametrize(
    ("wanted", "settings", "kind", "text"),
    [
        ("0", {"Nonsense": "1"}, SettingsError, "does not take Nonsense=1: Node not existing"),
        ("0", {"Width": "wide"}, SettingsError, "does not take Width=wide: "),
        ("0", {"PixelFormat": "BayerRG8"}, SettingsError, "does not take PixelFormat=BayerRG8: "),
        ("Viky", {}, SettingsError, "3 cameras are called Viky; give one's serial number"),
        ("left", {}, UnavailableError, "there is no camera left. Those of the producer: VikyTL_DEV_red, "),
    ],
)
def test_wishes_that_a_camera_does_not_fulfil(
    wanted: str, settings: dict[str, str], kind: type[Exception], text: str
) -> None:
    camera = GenicamCamera(wanted, SIMULATED, settings)
    try:
        with pytest.raises(kind, match=re.escape(text)):
            camera.open(triggered=False)
    finally:
        camera.close()


def test_a_producer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a file. Give the GenTL producer"):
        GenicamCamera("0", tmp_path / "absent.cti").open(triggered=False)
    (tmp_path / "junk.cti").write_bytes(b"junk")
    camera = GenicamCamera("0", tmp_path / "junk.cti")
    with pytest.raises(DataError, match="not a GenTL producer for this computer"):
        camera.open(triggered=False)
    camera.close()


def test_without_harvesters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "andon[camera]"')):
        GenicamCamera("0", SIMULATED).open(triggered=False)


# --- what the simulated one cannot do -----------------------------------------------------------------------------


def test_a_camera_that_is_unplugged_halts_the_line_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("andon.runtime.line.camera.OPEN_AGAIN_S", 0.05)
    camera, said, out = Made(frame(1)), [], tmp_path / "out"
    source = CameraSource(camera, say=said.append)
    with Running(line_of(tmp_path, out, inspector=Pixel(), source=source, sinks=[FilesSink(out)], said=said)):  # type: ignore[arg-type]
        until(lambda: len(documents(out)) == 1)
        camera.away = True
        until(lambda: "The line halts, no parts are taken: the camera made is unplugged." in said)
        camera.frames, camera.away = [frame(2, lost=4)], False
        until(lambda: len(documents(out)) == 2)
    assert camera.opened >= 2
    assert "The camera made lost 4 frames: they come faster than they are inspected." in said


class Pixel:
    """Stands in for an inspector: every picture passes."""

    def inspect(self, part: object) -> object:
        from andon.runtime.line.inspecting import Inspection

        problem, fields = part.problem, part.fields  # type: ignore[attr-defined]
        decision = "error" if problem else "pass"
        return Inspection(decision, {"part": fields["part"], "fields": dict(fields), "decision": decision, "error": problem,
                                     "score": None, "sentence": "", "notes": [], "drift": []})  # fmt: skip

    def standing_drift(self) -> tuple[str, ...]:
        return ()

    def stored(self) -> str:
        return ""


def test_a_trigger_has_a_result_whatever_happens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Shown] = []
    handshake, camera = Handshake(shown.append), Made()
    source = CameraSource(camera, handshake, say=lambda text: None)
    source.open(store)
    handshake.ask(1)
    part = source.take()
    assert part is not None
    assert part.problem == "the camera made sent no picture within 2 s"
    source.settle(part, "error")
    camera.away = True
    handshake.ask(2)
    part = source.take()
    assert part is not None
    assert part.problem == "the camera made is unplugged."
    assert part.fields["trigger"] == "2"
    source.settle(part, "error")
    camera.away, now = False, time.monotonic()
    handshake.ask(3)
    assert source.waiting() == 1
    monkeypatch.setattr("andon.runtime.line.camera.time.monotonic", lambda: now + LATE_S + 1)
    part = source.take()
    assert part is not None
    assert "another part may lie before the camera by now" in part.problem
    source.settle(part, "error")
    assert (shown[-1].last_trigger, shown[-1].busy) == (3, False)
    source.close()


class Acquirer:
    """Harvesters' acquirer of a camera that knows software triggers: two old frames lie there, then one a trigger."""

    def __init__(self) -> None:
        self.old, self.new, self.set, self.queued = ["old", "old"], [], {}, 0
        self.remote_device = self.node_map = self.TriggerSoftware = self

    def get_node(self, name: str) -> Acquirer:
        self.name = name
        return self

    def from_string(self, value: str) -> None:
        self.set[self.name] = value

    def execute(self) -> None:
        self.new.append("new")

    def queue(self) -> None:
        self.queued += 1

    def try_fetch(self, timeout: float) -> object:
        return self if (self.old and self.old.pop()) or (self.new and self.new.pop()) else None

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def payload(self) -> Acquirer:
        return self

    components = property(lambda self: [self])
    data, height, width, data_format = np.arange(6, dtype=np.uint8), 1, 2, "RGB8"
    frame_id = 1
    module = property(lambda self: self)


def test_a_software_trigger_takes_no_old_frame() -> None:
    camera, acquirer = GenicamCamera("0", SIMULATED), Acquirer()
    camera._acquirer, camera._triggers_itself = acquirer, True
    found = camera.shoot(0.1)
    assert found is not None
    assert found.pixels.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert (acquirer.queued, acquirer.old, acquirer.new) == (2, [], [])


def test_lost_frames_are_counted() -> None:
    camera, acquirer = GenicamCamera("0", SIMULATED), Acquirer()
    camera._acquirer, acquirer.old = acquirer, ["old"] * 3
    lost = []
    for acquirer.frame_id in (5, 6, 9):
        found = camera.next_frame(0.1)
        assert found is not None
        lost.append(found.lost)
    assert lost == [0, 0, 2]


def test_pixel_formats() -> None:
    data = np.array([0, 256, 1023, 4], np.uint16)
    assert to_rgb(data, 2, 2, "Mono10")[..., 0].tolist() == [[0, 64], [255, 1]]
    assert to_rgb(np.arange(8, dtype=np.uint8), 1, 2, "BGRa8").tolist() == [[[2, 1, 0], [6, 5, 4]]]
    with pytest.raises(ImageError, match="expected 2 x 2 x 3 numbers of the camera for RGB8, got 4"):
        to_rgb(data, 2, 2, "RGB8")
    with pytest.raises(
        SettingsError, match="the camera sends BayerRG8; Mono8, .* --camera-set PixelFormat=RGB8"
    ):
        to_rgb(data, 2, 2, "BayerRG8")


# --- andon watch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give a folder, or --camera NAME"),
        (["--camera", "0"], "--camera needs --camera-producer"),
        (
            ["--camera", "0", "--camera-producer", "x.cti", "--trigger", "plc"],
            "--trigger plc needs --opcua or --modbus",
        ),
        (["--camera", "0", "--camera-producer", "x.cti", "--once"], "are for a folder; give DIR"),
        ([".", "--camera", "0"], "are for a camera; leave out DIR"),
        (["--camera", "0", "--camera-producer", "x.cti", "--camera-set", "Width"], "takes FEATURE=VALUE"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], text: str, tmp_path: Path) -> None:
    given = [*arguments, "--artifact", str(tmp_path / "part.andon"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(command, given, standalone_mode=False)
    assert isinstance(done.exception, click.UsageError | SettingsError)
    assert text in str(done.exception)


def test_kill_9_between_a_result_and_its_acknowledgement(tmp_path: Path) -> None:
    """A real program, the simulated camera, a PLC over Modbus: each trigger has one result, before and after the kill."""
    artifact, out, port = difference_detector(tmp_path / "part.andon"), tmp_path / "out", free_port()
    arguments = [sys.executable, "-m", "andon", "watch", "--camera", "1", "--camera-producer", str(SIMULATED), "--trigger", "plc",
                 "--modbus", f"127.0.0.1:{port}", "--artifact", str(artifact), "-o", str(out), "--threads", "1"]  # fmt: skip

    def begin() -> tuple[subprocess.Popen[bytes], Plc]:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return process, Plc(port)

    process, plc = begin()
    until(lambda: plc.read("state") == 1, 60)
    assert plc.write(0, 1, 0, 0, 0x4131) == 0  # trigger 1, part A1
    until(lambda: plc.read("valid") == 1, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    plc.client.close()

    process, plc = begin()
    until(lambda: plc.read("valid") == 1, 60)
    assert plc.write(0, 1) == 0  # the PLC is not sure, and asks again
    assert (plc.read("sequence"), plc.read("trigger of result"), plc.read("part")) == (1, 1, "A1")
    assert plc.read("busy") == 0
    assert plc.acknowledge(1) == plc.write(0, 2) == 0
    until(lambda: plc.read("sequence") == 2, 60)
    assert plc.acknowledge(2) == 0
    assert plc.read("last trigger") == 2
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1].decode()
    plc.client.close()
    assert process.returncode == 0, said
    found = documents(out)
    assert [(one["sequence"], one["part"], one["fields"]["trigger"]) for one in found] == [
        (1, "A1", "1"),
        (2, "trigger-2", "2"),
    ]  # type: ignore[index]
    assert {one["decision"] for one in found} <= {"pass", "review", "fail"}
