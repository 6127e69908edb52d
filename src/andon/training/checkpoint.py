"""An unfinished fit as one file, and stopping where it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from andon.errors import DataError, SettingsError
from andon.files import atomic_write
from andon.models.base import State
from andon.training.packing import PREFIX

MOST_WRITING = 0.1  # share of the time that may go into writing checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """Where an interrupted fit is kept, whether to go on from it, and how often it is written."""

    path: Path
    resume: bool = False
    seconds: float = 20.0
    reading: str = ""  # how images are prepared, in words of the caller's: another way is another fit


@dataclass(frozen=True)
class Kept:
    """What a checkpoint holds: statistics; images seen; (path, reason) of those left out; where training stood."""

    statistics: State
    done: int
    skipped: list[tuple[str, str]]
    tensors: State
    training: dict[str, Any] | None  # None: not begun


class Keeper:
    """Writes the checkpoint of the fit with the fingerprint ``key``; does nothing without a ``checkpoint``."""

    def __init__(self, checkpoint: Checkpoint | None, key: str) -> None:
        self.checkpoint, self.key = checkpoint, key
        self._last, self._cost = time.monotonic(), 0.0

    def found(self) -> Kept | None:
        """What to go on from. Raises :class:`DataError` for a damaged file, :class:`SettingsError` for another fit's."""
        checkpoint = self.checkpoint
        if checkpoint is None or not checkpoint.resume or not checkpoint.path.exists():
            return None
        state, header = read_checkpoint(checkpoint.path)
        if header["fingerprint"] != self.key:
            raise SettingsError(
                f"{checkpoint.path} belongs to a fit with other settings or other images. "
                "Give the same ones to resume, or start over without --resume."
            )
        statistics = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
        tensors = {name: tensor for name, tensor in state.items() if name.startswith(PREFIX)}
        skipped = [(path, reason) for path, reason in header["skipped"]]
        return Kept(statistics, int(header["done"]), skipped, tensors, header.get("training"))

    @property
    def due(self) -> bool:
        """Whether it is time to write: every so many seconds, and seldom enough where writing takes long."""
        if self.checkpoint is None:
            return False
        wait = self.checkpoint.seconds and max(self.checkpoint.seconds, self._cost / MOST_WRITING)
        return time.monotonic() - self._last > wait

    def save(self, kept: Kept) -> None:
        """Write ``kept``, atomically."""
        if self.checkpoint is None or not kept.done:
            return
        start = time.monotonic()
        header = {"fingerprint": self.key, "done": kept.done, "skipped": kept.skipped}
        if kept.training is not None:
            header["training"] = kept.training
        write_checkpoint(self.checkpoint.path, {**kept.statistics, **kept.tensors}, header)
        self._last = time.monotonic()
        self._cost = self._last - start

    def discard(self) -> None:
        """Remove the file: going on from it would fail again."""
        if self.checkpoint is not None:
            self.checkpoint.path.unlink(missing_ok=True)


def write_checkpoint(path: Path, state: State, header: dict[str, Any]) -> None:
    """Write ``state`` with its JSON ``header`` to ``path``, atomically."""
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in state.items()}, {"andon": json.dumps(header)})
    with atomic_write(path) as file:
        file.write(data)


def read_checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """The state and header in ``path``. Raises :class:`DataError` when it is damaged or not a checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["andon"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(
            f"{path} is not a checkpoint of a fit ({error}). Start over without --resume."
        ) from error


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C and SIGTERM, so that no batch is counted by half; the function given lets them through.

    A second one is not held back. Outside the main thread, which signals do not reach, nothing is done.
    """
    waiting: list[int] = []
    before: dict[int, Any] = {}

    def hold(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            before[number](number, frame)

    def let_through() -> None:
        if waiting:
            before[waiting[0]](waiting[0], None)

    if threading.current_thread() is threading.main_thread():
        for which in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(which)):  # else the system's own way, which needs no holding back
                before[which] = signal.signal(which, hold)
    try:
        yield let_through
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    let_through()
