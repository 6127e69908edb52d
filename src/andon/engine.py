"""The only loop: ``observe* -> loss* -> close``.

Stops cleanly, and goes on where it stopped: what was observed and learnt so far is kept in one checkpoint file,
written atomically, bound to the settings and the images by a fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.data import batches
from andon.data.augment import Augmentation
from andon.errors import AndonError, DataError, SettingsError
from andon.image import Tiles
from andon.models.base import Detector
from andon.training import NO_HELD_OUT, Images, Machine, Plan, Record, Trainer
from andon.training.checkpoint import Checkpoint, Keeper, Kept, held_back, read_checkpoint, write_checkpoint
from andon.training.frozen import CacheReport
from andon.types import Sample

__all__ = [
    "Checkpoint",
    "FitReport",
    "Reader",
    "fingerprint",
    "fit",
    "read_checkpoint",
    "require_readable",
    "write_checkpoint",
]

# path -> (3, H, W) float32 in [0, 1]; or n tiles of a photograph, (n, 3, H, W), or made when asked for
Load = Callable[[Path], NDArray[np.float32] | Tiles]
Progress = Callable[[str, int, int], None]  # phase, done, total
OnLoss = Callable[[float], None]  # the mean of the latest losses


@dataclass
class FitReport:
    """What a fit did."""

    images: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    seconds: float = 0.0
    resumed_at: int = 0  # images that a checkpoint had already seen
    resumed_steps: int = 0  # training steps that it had already taken
    losses: list[float] = field(default_factory=list)  # of all phases, one after the other
    phases: list[Record] = field(default_factory=list)
    cache: CacheReport = field(default_factory=CacheReport)  # of what frozen networks make of the images
    device: str = "cpu"
    notes: list[str] = field(default_factory=list)  # what was not done as asked, and why

    def described(self) -> dict[str, Any]:
        """What a manifest keeps of the training, the loss curve thinned; {} for a method that does not train."""
        described: dict[str, Any] = {"notes": self.notes} if self.notes else {}
        if not self.phases:
            return described
        described |= {"device": self.device, "resumed_steps": self.resumed_steps,
                      "curve": [record.described() for record in self.phases]}  # fmt: skip
        return described | ({"feature_cache": self.cache.described()} if self.cache.computed else {})


class Batch(NamedTuple):
    """Images read together, and what reading them used up."""

    images: Tensor | None  # (B, 3, H, W)
    used: int  # paths, the broken ones included; of a photograph in several batches, with the last one
    skipped: list[tuple[str, str]]  # (path, reason)
    whole: bool = True  # no photograph has some tiles in this batch and further ones in the next


@dataclass(frozen=True)
class Reader:
    """How images come from disk: ``load`` each, ``batch_size`` together, by ``workers`` threads.

    ``ahead``: photographs decoded ahead at most; None: ``batch_size`` + ``workers``.
    """

    load: Load
    batch_size: int = 8
    workers: int = 2
    ahead: int | None = None

    def batches(self, paths: Iterable[Path]) -> Iterator[Batch]:
        """The images in order; the last batch has none where the last files cannot be read."""
        skipped: list[tuple[str, str]] = []

        def skip(sample: Sample, error: AndonError) -> None:
            skipped.append((str(sample.path), str(error)))

        found = batches(
            paths,
            self.load,
            self.batch_size,
            workers=self.workers,
            ahead=self.ahead,
            on_error="skip",
            on_skip=skip,
        )
        for images, samples in found:
            yield Batch(
                torch.from_numpy(images), len(samples) + len(skipped), list(skipped), whole=bool(samples)
            )
            skipped.clear()
        if skipped:
            yield Batch(None, len(skipped), skipped)

    def tensors(self, paths: Iterable[Path]) -> Iterator[Tensor]:
        """The images alone, (B, 3, H, W)."""
        yield from (batch.images for batch in self.batches(paths) if batch.images is not None)


# The pass over the images: shows them all to the detector, tells the report what could not be read, keeps the end of it.
Observe = Callable[[Detector, Sequence[Path], Reader, Keeper, Progress, FitReport, Machine], None]


def fit(
    detector: Detector,
    paths: Sequence[Path],
    reader: Reader,
    *,
    held_out: Sequence[Path] = (),
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    plan: Plan | None = None,
    on_loss: OnLoss | None = None,
    observe: Observe | None = None,
) -> FitReport:
    """What fitting ``detector`` on the nominal images ``paths`` did; the detector is closed, and on the CPU, afterwards.

    A broken image is skipped and reported. ``held_out``: nominal images for ``close`` and early stopping alone.
    ``on_loss`` is told the mean of the latest losses after every training step, before ``progress`` is. ``observe``: the
    pass over the images where it is not to be made here (:class:`andon.distributed.RayObserver`).
    Raises :class:`DataError` when no image can be read, :class:`SettingsError` when the checkpoint to resume
    belongs to another fit, when ``plan`` asks for what this machine cannot do, and when training diverges.
    """
    start = time.perf_counter()
    plan = plan or Plan()
    machine = Machine.choose(plan.device, plan.precision)
    if plan.early_stop and detector.steps and not held_out:
        raise SettingsError(NO_HELD_OUT)
    report = FitReport(device=str(machine.device), notes=_not_heeded(detector, plan))
    say = progress or _silent
    keeper = Keeper(checkpoint, _key(detector, paths, held_out, plan, machine, checkpoint))
    detector.reset()  # before the device: weights are drawn on the CPU, the same for any device
    detector.to(machine.device)
    try:
        kept = _begin(detector, keeper, report)
        if kept is None or kept.training is None:
            go = observe or _observe
            go(detector, paths, _varied(reader, detector, paths, plan), keeper, say, report, machine)
        report.images = len(paths) - len(report.skipped)
        if detector.steps:
            job = _Job(detector, paths, held_out, reader, plan, machine, keeper, say, on_loss, report)
            job.train(kept)
        images = (images.to(machine.device) for images in reader.tensors(held_out))
        detector.close(images, progress=lambda share: say("close", round(100 * share), 100))
    finally:
        detector.to("cpu")
    report.seconds = time.perf_counter() - start
    return report


def _silent(phase: str, done: int, total: int) -> None:
    """Say nothing."""


def _not_heeded(detector: Detector, plan: Plan) -> list[str]:
    asked = {"minutes": plan.minutes, "early_stop": plan.early_stop, "precision": plan.precision != "float32"}
    names = [name for name, value in asked.items() if value]
    if detector.steps or not names:
        return []
    name = detector.title or type(detector).__name__
    return [f"{name} does not train: {' and '.join(names)} changed nothing"]


def _key(detector: Detector, paths: Sequence[Path], held_out: Sequence[Path], plan: Plan, machine: Machine,
         checkpoint: Checkpoint | None) -> str:  # fmt: skip
    if checkpoint is None:
        return ""
    measured = [path.name for path in held_out] if plan.early_stop else []
    return fingerprint(detector, paths, f"{checkpoint.reading} {plan.key()} {machine.device.type} {measured}")


def _varied(reader: Reader, detector: Detector, paths: Sequence[Path], plan: Plan) -> Reader:
    """``reader``; for a closed-form method, with each image followed by its varied copies, as if they were tiles."""
    varied = plan.augment
    if varied is None or detector.steps or not plan.copies:
        return reader
    numbers = {path: number for number, path in enumerate(paths)}

    def load(path: Path) -> NDArray[np.float32] | Tiles:
        image = reader.load(path)
        if isinstance(image, Tiles):
            return _with_copies(image, varied, plan.copies, detector.seed, numbers[path])
        tiles = image if image.ndim == 4 else image[None]
        copies = [
            varied.tiles(tiles, seed=detector.seed, epoch=copy, number=numbers[path])
            for copy in range(plan.copies)
        ]
        return np.concatenate([tiles, *copies])

    return replace(reader, load=load)


def _with_copies(tiles: Tiles, varied: Augmentation, copies: int, seed: int, number: int) -> Tiles:
    """The tiles, followed by ``copies`` varied versions of them."""

    def make(index: int) -> NDArray[np.float32]:
        copy, tile = divmod(index, tiles.count)
        image = tiles.make(tile)
        return image if copy == 0 else varied(image, seed=seed, epoch=copy - 1, number=number, tile=tile)

    return Tiles(tiles.count * (1 + copies), make)


def _begin(detector: Detector, keeper: Keeper, report: FitReport) -> Kept | None:
    """The detector as the checkpoint kept it, and what else that holds; as new without one."""
    kept = keeper.found()
    if kept is not None:
        detector.load_statistics(kept.statistics)
        report.skipped, report.resumed_at = kept.skipped, kept.done
    return kept


def _observe(detector: Detector, paths: Sequence[Path], reader: Reader, keeper: Keeper, say: Progress,
             report: FitReport, machine: Machine) -> None:  # fmt: skip
    """One pass over the images, keeping a checkpoint every so often and when stopped."""
    done = report.resumed_at
    whole = True  # the statistics hold the first `done` images, no more and no less

    def save() -> None:
        keeper.save(Kept(detector.statistics(), done, report.skipped, {}, None))

    try:
        with held_back() as let_stop:
            for images, used, skipped, complete in reader.batches(paths[done:]):
                whole = False
                if images is not None:
                    detector.observe(images.to(machine.device))
                done += used
                report.skipped += skipped
                whole = complete
                if not whole:
                    continue
                say("observe", done, len(paths))
                if keeper.due:
                    save()
                let_stop()
    except KeyboardInterrupt:
        if whole:
            save()
        raise
    require_readable(report, paths)
    save()


def require_readable(report: FitReport, paths: Sequence[Path]) -> None:
    """Raise :class:`DataError` where none of ``paths`` could be read."""
    if len(report.skipped) == len(paths):
        reasons = "; ".join(reason for _, reason in report.skipped[:3])
        raise DataError(f"none of the {len(paths)} images could be read. {reasons}")


@dataclass
class _Job:
    """The training part of a fit."""

    detector: Detector
    paths: Sequence[Path]
    held_out: Sequence[Path]
    reader: Reader
    plan: Plan
    machine: Machine
    keeper: Keeper
    say: Progress
    on_loss: OnLoss | None
    report: FitReport

    def train(self, kept: Kept | None) -> None:
        """All phases, or what is left of them; kept now and then, and when stopped."""
        trainer = self._trainer()
        if kept is not None and kept.training is not None:
            trainer.resume(kept.tensors, kept.training)
            self.report.resumed_steps = len(trainer.losses)
        try:
            with held_back() as let_stop:

                def between() -> None:
                    if self.keeper.due:
                        self._save(trainer)
                    let_stop()

                trainer.between = between
                trainer.run()
        except (KeyboardInterrupt, AndonError, OSError) as error:
            if trainer.whole:
                self._save(trainer)
            elif isinstance(error, AndonError):
                self.keeper.discard()  # to go on would end the same way
            raise
        self._save(trainer)
        self.report.losses, self.report.phases = trainer.losses, trainer.records
        self.report.cache = trainer.cache.report
        self.report.notes += trainer.cache.notes

    def _trainer(self) -> Trainer:
        broken = {path for path, _ in self.report.skipped}
        readable = [path for path in self.paths if str(path) not in broken]
        measured = self._measured()
        share = self.plan.image_gb * 1e9 / max(1, len(readable) + len(measured))
        load, workers = self.reader.load, self.reader.workers
        images = Images(readable, load, workers=workers, limit=share * len(readable), varied=self.plan.augment,
                        seed=self.detector.seed)  # fmt: skip
        return Trainer(
            self.detector,
            images,
            self.plan,
            self.machine,
            held_out=Images(measured, load, workers=workers, limit=share * len(measured)),
            say=self.say,
            on_loss=self.on_loss or (lambda loss: None),
        )

    def _measured(self) -> list[Path]:
        """The held-out images for early stopping that can be read; none where it is off."""
        if not self.plan.early_stop:
            return []
        broken = {path for batch in self.reader.batches(self.held_out) for path, _ in batch.skipped}
        if broken:
            self.report.notes.append(f"{len(broken)} held-out images could not be read")
        return [path for path in self.held_out if str(path) not in broken]

    def _save(self, trainer: Trainer) -> None:
        statistics, tensors, plain = trainer.snapshot()
        self.keeper.save(Kept(statistics, len(self.paths), self.report.skipped, tensors, plain))


def fingerprint(detector: Detector, paths: Sequence[Path], reading: str = "") -> str:
    """A hash of the detector's settings, of the images' names, sizes and times, and of how they are read."""
    images = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    text = json.dumps(
        [type(detector).__name__, detector.settings(), images, reading], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()
