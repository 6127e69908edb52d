"""A GenICam camera as a source of parts, with harvesters, the extra ``camera``.

Any camera whose maker ships a GenTL producer (a ``.cti`` file): GigE Vision, USB3 Vision, CoaXPress. Two ways:

- *free*: each frame that the camera sends is a part. The camera is triggered by a wire (a light barrier), or by nothing.
- *by a PLC*: a trigger of the handshake (``plc``) makes one picture. A camera that knows software triggers is triggered
  so; for one that does not, acquisition is started anew for each picture, so that it is none from before.

What a camera does not keep is lost with a kill: a frame in hand, in the first way. In the second the PLC asks again by the
same number, and gets one result. A trigger whose picture cannot be had has a result, too: ``error``, with the reason.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from andon.errors import AndonError, DataError, ImageError, MissingExtraError, SettingsError
from andon.runtime.line.contract import Ledger, Part, Source, UnavailableError
from andon.runtime.line.pixel_formats import require_format, to_rgb
from andon.runtime.line.plc import FIELD, Handshake, Trigger

NAME = "camera"  # of the source, and of all its parts: the last one's stamp is the number of the last trigger
FRAME_S = 2.0  # within which a triggered picture must come
LATE_S = 2.0  # a trigger that waited longer has no picture: another part lies before the camera by then
LOOK_S = 0.001  # for a frame that may be there, in the free way
OPEN_AGAIN_S = 1.0
_SOFTWARE_TRIGGER = {"TriggerSelector": "FrameStart", "TriggerMode": "On", "TriggerSource": "Software"}


@dataclass(frozen=True)
class Frame:
    """A picture: pixels (H, W, 3) uint8 RGB, and how many frames before it were lost."""

    pixels: NDArray[np.uint8]
    lost: int = 0


class Camera(Protocol):
    """What :class:`CameraSource` needs of a camera. Each method raises :class:`UnavailableError` while it is away."""

    label: str

    def open(self, *, triggered: bool) -> None:
        """Connect. Raises :class:`SettingsError` where a setting is not one of this camera's."""

    def next_frame(self, seconds: float) -> Frame | None:
        """The oldest frame not taken yet; None where none came within ``seconds``."""

    def shoot(self, seconds: float) -> Frame | None:
        """A picture whose exposure begins now; None where none came within ``seconds``."""

    def close(self) -> None:
        """Disconnect; harmless where it is not connected."""


class CameraSource(Source):
    """Parts from ``camera``: each frame, or one for each trigger of ``handshake`` where that is given."""

    name = NAME

    def __init__(
        self, camera: Camera, handshake: Handshake | None = None, say: Callable[[str], None] = print
    ) -> None:
        self.camera, self.handshake, self.say = camera, handshake, say
        self._is_open = False
        self._open_at = 0.0

    def open(self, ledger: Ledger) -> None:
        """Connect; a camera that is away now may come later. Raises :class:`SettingsError`, MissingExtraError, DataError."""
        if self.handshake is not None:
            last = ledger.known(NAME, NAME)
            self.handshake.begin(int(last.stamp) if last and last.stamp.isdecimal() else 0)
        try:
            self._connect()
        except UnavailableError as error:
            self.say(f"{error} It is asked again until it answers.")

    def take(self) -> Part | None:
        """The next frame, or the picture for the next trigger; see :meth:`Source.take`."""
        if self.handshake is not None:
            trigger = self.handshake.next_trigger()
            return None if trigger is None else self._triggered(trigger)
        self._connect()
        try:
            frame = self.camera.next_frame(LOOK_S)
        except UnavailableError:
            self._disconnect()
            raise
        except ImageError as error:
            return self._without_picture(str(error), self._named_now())
        return None if frame is None else self._part(frame, self._named_now())

    def settle(self, part: Part, decision: str) -> None:
        """The trigger in hand has its result."""
        if self.handshake is not None:
            self.handshake.finish()

    def waiting(self) -> int:
        """Triggers without a picture."""
        return 0 if self.handshake is None else self.handshake.waiting()

    def close(self) -> None:
        """Disconnect."""
        self._disconnect()

    def _triggered(self, trigger: Trigger) -> Part:
        """The part of a trigger: a picture, or why there is none."""
        number = str(trigger.number)
        fields = {NAME: self.camera.label, FIELD: number, "part": trigger.part or f"trigger-{number}"}
        late = time.monotonic() - trigger.at
        if late > LATE_S:
            waited = f"the trigger had waited for {late:.1f} s; another part may lie before the camera by now"
            return self._without_picture(waited, fields, number)
        try:
            self._connect()
            frame = self.camera.shoot(FRAME_S)
        except AndonError as error:
            self._disconnect()
            return self._without_picture(str(error), fields, number)
        if frame is None:
            silent = f"the camera {self.camera.label} sent no picture within {FRAME_S:g} s"
            return self._without_picture(silent, fields, number)
        return self._part(frame, fields, number)

    def _part(self, frame: Frame, fields: Mapping[str, str], stamp: str = "") -> Part:
        if frame.lost:
            self.say(
                f"The camera {self.camera.label} lost {frame.lost} frames: they come faster than they are inspected."
            )
        digest = hashlib.sha256(frame.pixels.tobytes()).hexdigest()
        return Part(NAME, NAME, frame.pixels, digest, time.time(), stamp=stamp, fields=fields)

    def _without_picture(self, problem: str, fields: Mapping[str, str], stamp: str = "") -> Part:
        return Part(NAME, NAME, b"", "", time.time(), stamp=stamp, problem=problem, fields=fields)

    def _named_now(self) -> dict[str, str]:
        """A frame that nobody asked for has its time for a number."""
        return {NAME: self.camera.label, "part": datetime.now().strftime("%Y%m%dT%H%M%S.%f")[:-3]}

    def _connect(self) -> None:
        if self._is_open:
            return
        if time.monotonic() < self._open_at:
            raise UnavailableError(f"the camera {self.camera.label} is away.")
        self._open_at = time.monotonic() + OPEN_AGAIN_S
        try:
            self.camera.open(triggered=self.handshake is not None)
        except AndonError:
            self.camera.close()
            raise
        self._is_open = True

    def _disconnect(self) -> None:
        self._is_open = False
        self.camera.close()


class GenicamCamera:
    """A camera found by its GenTL ``producer``.

    wanted: serial number, user-defined name, identifier or model, or a number from 0 in the producer's order. settings:
    features that are set in this order, such as ``{"PixelFormat": "Mono8", "ExposureTime": "5000"}``.
    """

    def __init__(self, wanted: str, producer: Path, settings: Mapping[str, str] | None = None) -> None:
        self.label, self.producer, self.settings = wanted, producer, dict(settings or {})
        self._harvester: Any = None
        self._acquirer: Any = None
        self._triggers_itself = False  # the camera knows software triggers
        self._last_id: int | None = None

    def open(self, *, triggered: bool) -> None:
        """See :meth:`Camera.open`."""
        harvester_class = _harvester_class()
        if not self.producer.is_file():
            raise DataError(
                f"{self.producer} is not a file. Give the GenTL producer (.cti) that the camera's maker ships: --camera-producer"
            )
        self._last_id = None
        self._harvester = harvester_class()
        try:
            self._harvester.add_file(str(self.producer), check_validity=True)
        except _errors() as error:
            raise DataError(f"{self.producer} is not a GenTL producer for this computer: {error}") from error
        with self._answering("looked for"):
            self._harvester.update()
        device = self._device()
        with self._answering("opened"), _own_interrupt():
            self._acquirer = self._harvester.create(device)
        for feature, value in self.settings.items():
            self._set(feature, value)
        with self._answering("asked for its pixel format"):
            require_format(str(self._acquirer.remote_device.node_map.PixelFormat.value))
        self._triggers_itself = triggered and self._features_has("TriggerSoftware")
        if self._triggers_itself:
            for feature, value in _SOFTWARE_TRIGGER.items():
                self._set(feature, value)
        if self._triggers_itself or not triggered:
            with self._answering("started"):
                self._acquirer.start()

    def next_frame(self, seconds: float) -> Frame | None:
        """See :meth:`Camera.next_frame`."""
        with self._answering("asked for a frame"):
            buffer = self._acquirer.try_fetch(timeout=seconds)
            if buffer is None:
                return None
            with buffer:
                image = buffer.payload.components[0]
                pixels = to_rgb(np.array(image.data), image.height, image.width, image.data_format)
                return Frame(pixels, self._lost_before(buffer))

    def shoot(self, seconds: float) -> Frame | None:
        """See :meth:`Camera.shoot`."""
        if self._triggers_itself:
            with self._answering("triggered"):
                while (old := self._acquirer.try_fetch(timeout=LOOK_S)) is not None:
                    old.queue()
                self._acquirer.remote_device.node_map.TriggerSoftware.execute()
            return self.next_frame(seconds)
        with self._answering("started"):
            self._acquirer.start()
        self._last_id = None
        try:
            return self.next_frame(seconds)
        finally:
            with self._answering("stopped"):
                self._acquirer.stop()

    def close(self) -> None:
        """See :meth:`Camera.close`."""
        if self._acquirer is not None:
            with suppress(*_errors()):  # it is away; the producer is to be let go all the same
                self._acquirer.destroy()
        if self._harvester is not None:
            with suppress(*_errors()):
                self._harvester.reset()
        self._acquirer = self._harvester = None

    def _device(self) -> Any:
        """The one device that is wanted. Raises :class:`UnavailableError`, SettingsError where several fit."""
        devices = self._harvester.device_info_list
        if self.label.isdecimal() and len(self.label) < 3 and int(self.label) < len(devices):
            return devices[int(self.label)]
        names = ("serial_number", "user_defined_name", "id_", "model")
        found = [device for device in devices if self.label in {_text(device, name) for name in names} - {""}]
        if len(found) > 1:
            raise SettingsError(f"{len(found)} cameras are called {self.label}; give one's serial number")
        if not found:
            there = ", ".join(_text(device, "id_") for device in devices) or "none"
            raise UnavailableError(f"there is no camera {self.label}. Those of the producer: {there}.")
        return found[0]

    def _features_has(self, name: str) -> bool:
        return hasattr(self._acquirer.remote_device.node_map, name)

    def _set(self, feature: str, value: str) -> None:
        try:
            self._acquirer.remote_device.node_map.get_node(feature).from_string(value)
        except _errors() as error:
            raise SettingsError(
                f"the camera {self.label} does not take {feature}={value}: {error}"
            ) from error

    def _lost_before(self, buffer: Any) -> int:
        """Frames between the last one and this, by the numbers that the camera gives; 0 where it gives none."""
        try:
            number = int(buffer.module.frame_id)
        except _errors():
            return 0
        last, self._last_id = self._last_id, number
        return max(0, number - last - 1) if last is not None else 0

    def _answering(self, what: str) -> AbstractContextManager[None]:
        return _answering(f"the camera {self.label} cannot be {what}")


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """A block in which the camera's faults become :class:`UnavailableError`, with ``what`` before the reason."""
    try:
        yield
    except _errors() as error:
        raise UnavailableError(f"{what}: {error or type(error).__name__}.") from error


def _text(device: Any, name: str) -> str:
    try:
        return str(getattr(device, name) or "")
    except _errors():
        return ""


def _errors() -> tuple[type[Exception], ...]:
    """What GenTL and GenApi raise."""
    from genicam.genapi import GenericException as FeatureFault
    from genicam.gentl import GenericException as TransportFault

    return FeatureFault, TransportFault, TimeoutError, OSError


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Ctrl-C stays the program's: an acquirer of harvesters takes it for itself, and a line would not stop any more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _harvester_class() -> Any:
    try:
        from harvesters.core import Harvester
    except ModuleNotFoundError as error:
        raise MissingExtraError("harvesters", extra="camera", purpose="--camera") from error
    logging.getLogger("harvesters").setLevel(logging.CRITICAL)  # its faults are raised, too
    return Harvester
