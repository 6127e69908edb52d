"""The only loop: ``observe* -> loss* -> close``.

Stops cleanly, and goes on where it stopped: the statistics observed so far are kept in one checkpoint file,
written atomically, bound to the settings and the images by a fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.data import batches
from andon.errors import AndonError, DataError, SettingsError
from andon.files import atomic_write
from andon.models.base import Detector, State
from andon.training import train
from andon.types import Sample

Load = Callable[[Path], NDArray[np.float32]]  # path -> (3, H, W) float32 in [0, 1], or (n, 3, H, W): n tiles
Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass
class FitReport:
    """What a fit did."""

    images: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    seconds: float = 0.0
    resumed_at: int = 0  # images that a checkpoint had already seen
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """Where an interrupted fit is kept, whether to go on from it, and how often it is written."""

    path: Path
    resume: bool = False
    seconds: float = 20.0
    reading: str = ""  # how images are prepared, in words of the caller's: another way is another fit


class Batch(NamedTuple):
    """Images read together, and what reading them used up."""

    images: Tensor | None  # (B, 3, H, W)
    used: int  # paths, the broken ones included
    skipped: list[tuple[str, str]]  # (path, reason)


@dataclass(frozen=True)
class Reader:
    """How images come from disk: ``load`` each, ``batch_size`` together, by ``workers`` threads."""

    load: Load
    batch_size: int = 8
    workers: int = 2

    def batches(self, paths: Iterable[Path]) -> Iterator[Batch]:
        """The images in order; the last batch has none where the last files cannot be read."""
        skipped: list[tuple[str, str]] = []

        def skip(sample: Sample, error: AndonError) -> None:
            skipped.append((str(sample.path), str(error)))

        found = batches(
            paths, self.load, self.batch_size, workers=self.workers, on_error="skip", on_skip=skip
        )
        for images, samples in found:
            yield Batch(torch.from_numpy(images), len(samples) + len(skipped), list(skipped))
            skipped.clear()
        if skipped:
            yield Batch(None, len(skipped), skipped)

    def tensors(self, paths: Iterable[Path]) -> Iterator[Tensor]:
        """The images alone, (B, 3, H, W)."""
        yield from (batch.images for batch in self.batches(paths) if batch.images is not None)


def fit(
    detector: Detector,
    paths: Sequence[Path],
    reader: Reader,
    *,
    held_out: Sequence[Path] = (),
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """What fitting ``detector`` on the nominal images ``paths`` did; the detector is closed afterwards.

    A broken image is skipped and reported. ``held_out``: nominal images for ``close`` alone.
    Raises :class:`DataError` when no image can be read, :class:`SettingsError` when the checkpoint to resume
    belongs to another fit.
    """
    start = time.perf_counter()
    report = FitReport()
    say = progress or _silent
    _observe(detector, paths, reader, checkpoint, say, report)
    _train(detector, paths, reader, say, report)
    detector.close(
        reader.tensors(held_out),
        progress=lambda share: say("close", round(100 * share), 100),
    )
    report.seconds = time.perf_counter() - start
    return report


def _silent(phase: str, done: int, total: int) -> None:
    """Say nothing."""


def _observe(detector: Detector, paths: Sequence[Path], reader: Reader, checkpoint: Checkpoint | None,
             say: Progress, report: FitReport) -> None:  # fmt: skip
    """One pass over the images, keeping a checkpoint every so often and when stopped."""
    key = fingerprint(detector, paths, checkpoint.reading if checkpoint else "")
    done = report.resumed_at = _begin(detector, checkpoint, key, report)
    saved = time.monotonic()
    whole = True  # the statistics hold the first `done` images, no more and no less
    try:
        with _held_back() as let_stop:
            for images, used, skipped in reader.batches(paths[done:]):
                whole = False
                if images is not None:
                    detector.observe(images)
                done += used
                report.skipped += skipped
                whole = True
                say("observe", done, len(paths))
                if checkpoint and time.monotonic() - saved > checkpoint.seconds:
                    _save(detector, checkpoint, key, done, report)
                    saved = time.monotonic()
                let_stop()
    except KeyboardInterrupt:
        if whole:
            _save(detector, checkpoint, key, done, report)
        raise
    report.images = len(paths) - len(report.skipped)
    if report.images == 0:
        reasons = "; ".join(reason for _, reason in report.skipped[:3])
        raise DataError(f"none of the {len(paths)} images could be read. {reasons}")
    _save(detector, checkpoint, key, len(paths), report)


@contextlib.contextmanager
def _held_back() -> Iterator[Callable[[], None]]:
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


def _begin(detector: Detector, checkpoint: Checkpoint | None, key: str, report: FitReport) -> int:
    """How many images the checkpoint has seen already: 0 without one."""
    detector.reset()
    if checkpoint is None or not checkpoint.resume or not checkpoint.path.exists():
        return 0
    state, header = read_checkpoint(checkpoint.path)
    if header["fingerprint"] != key:
        raise SettingsError(
            f"{checkpoint.path} belongs to a fit with other settings or other images. "
            "Give the same ones to resume, or start over without --resume."
        )
    detector.load_statistics(state)
    report.skipped = [(path, reason) for path, reason in header["skipped"]]
    return int(header["done"])


def _save(detector: Detector, checkpoint: Checkpoint | None, key: str, done: int, report: FitReport) -> None:
    if checkpoint is not None and done:
        header = {"fingerprint": key, "done": done, "skipped": report.skipped}
        write_checkpoint(checkpoint.path, detector.statistics(), header)


def fingerprint(detector: Detector, paths: Sequence[Path], reading: str = "") -> str:
    """A hash of the detector's settings, of the images' names, sizes and times, and of how they are read."""
    images = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    text = json.dumps(
        [type(detector).__name__, detector.settings(), images, reading], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()


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


def _train(
    detector: Detector, paths: Sequence[Path], reader: Reader, say: Progress, report: FitReport
) -> None:
    """The detector's phases of training over the readable images."""
    broken = {path for path, _ in report.skipped}
    readable = [path for path in paths if str(path) not in broken]

    def take(numbers: Sequence[int]) -> Tensor:
        return torch.cat(list(reader.tensors([readable[number] for number in numbers])))

    report.losses = train(detector, take, len(readable), say)
