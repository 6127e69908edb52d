"""The steps themselves: phases in turn, each step's images, losses and optimisers; where it stands can be kept."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.models.base import Detector, Look, Phase, State, Turn
from andon.models.trained import seeded
from andon.training.frozen import FeatureCache
from andon.training.held_out import Best
from andon.training.images import Pick, Source
from andon.training.machine import Machine
from andon.training.order import batches_of, seed_of
from andon.training.packing import PREFIX, copies, pack, restore, unpack
from andon.training.plan import Plan, Record

Take = Callable[[Sequence[int]], Tensor]  # numbers of training images -> (B, 3, H, W)
Progress = Callable[[str, int, int], None]  # phase, done, total
OnLoss = Callable[[float], None]  # the mean of the latest losses
NO_HELD_OUT = (
    "early stopping measures the loss on held-out images, and there are none. "
    "Give more good images, or train without it."
)
SMOOTHED = 50  # losses in the mean that is shown
HELD_OUT_SEEDS = 1 << 40  # steps never reach it: held-out losses draw numbers of their own


def train(detector: Detector, take: Take, count: int, say: Progress) -> list[float]:
    """The losses of training ``detector`` on ``count`` images in memory, in an order drawn from its seed; all phases.

    Before every step the global generator is seeded with the detector's seed and the step's number.
    """
    trainer = Trainer(detector, _Taken(take, count), Plan(cache_gb=0), say=say)
    trainer.run()
    return trainer.losses


class Snapshot(NamedTuple):
    """All that is needed to go on: the detector's statistics, tensors named ``training:...``, and plain values."""

    statistics: State
    tensors: State
    plain: dict[str, Any]


@dataclass
class _Motion:
    """What one phase has in motion: an optimiser a turn with its first learning rates, and the best state so far."""

    optimisers: list[torch.optim.Optimizer]
    rates: list[list[float]]
    scaler: torch.amp.GradScaler | None
    best: Best
    began: float  # seconds used before it
    seconds: float | None  # that it may use; None: as many as it takes


class Trainer:
    """Trains ``detector`` on ``images`` by ``plan``: all its phases, from the start or from where :meth:`resume` says.

    ``held_out``: for early stopping. ``say(phase, done, total)`` and ``on_loss(loss)`` are told after every step;
    ``between()`` is called between steps, when :meth:`snapshot` may be taken, and stops training by raising.
    """

    def __init__(self, detector: Detector, images: Source, plan: Plan | None = None, machine: Machine | None = None,
                 *, held_out: Source | None = None, say: Progress = lambda phase, done, total: None,
                 on_loss: OnLoss = lambda loss: None, between: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.perf_counter) -> None:  # fmt: skip
        self.detector, self.images, self.held_out = detector, images, held_out
        self.plan, self.machine = plan or Plan(), machine or Machine()
        self.say, self.on_loss, self.between, self.clock = say, on_loss, between, clock
        self.phases: list[Phase | Look] = list(detector.phases())
        self.records = [Record(p.name, p.steps if isinstance(p, Phase) else 0) for p in self.phases]
        self.number = 0  # of the phase that is next, or under way
        self.whole = True  # whether a snapshot taken now would hold whole steps only
        self._used, self._since = 0.0, clock()
        self._motion: _Motion | None = None
        self._before: Snapshot | None = None  # of a look: it is repeated from its start
        total = images.count + (held_out.count if held_out else 0)
        self.cache = FeatureCache(detector, total, self.plan.cache_gb, self.plan.cache_folder)
        if self.plan.early_stop and not (held_out and held_out.count):
            raise SettingsError(NO_HELD_OUT)

    @property
    def losses(self) -> list[float]:
        """Of all phases, one after the other."""
        return [loss for record in self.records for loss in record.losses]

    @property
    def used(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._used + self.clock() - self._since

    def run(self) -> None:
        """Train to the end. Raises :class:`SettingsError` when a loss is not finite."""
        self._since = self.clock()
        try:
            while self.number < len(self.phases):
                phase = self.phases[self.number]
                if isinstance(phase, Look):
                    self._look(phase)
                else:
                    self._train(phase)
                self.number += 1
        finally:
            self.cache.close()

    # --- one pass without gradients ---------------------------------------------------------------------

    def _look(self, phase: Look) -> None:
        self._before, began = self.snapshot(), self.used
        count, size = self.images.count, self.detector.batch_size
        starts = range(0, count, size)
        wanted = ([Pick(n) for n in range(start, min(start + size, count))] for start in starts)
        with contextlib.closing(self.images.batches(wanted)) as batches:
            for start, images in zip(starts, batches, strict=True):
                with torch.no_grad():
                    phase.look(torch.cat(images).to(self.machine.device))
                self.say(phase.name, min(start + size, count), count)
                self.between()
        self._before = None
        self.records[self.number].seconds = self.used - began

    # --- steps ------------------------------------------------------------------------------------------

    def _train(self, phase: Phase) -> None:
        self._motion = motion = self._motion or self._start(phase)
        record = self.records[self.number]
        self.cache.forget()
        wanted, of_step = itertools.tee(self._wanted(phase, len(record.losses)))
        with contextlib.closing(self.images.batches(wanted)) as batches:
            while not record.ended and self._share(phase, record) < 1:
                images = next(batches)
                self.whole = False
                self._step(phase, record, motion, [pick.number for pick in next(of_step)], images)
                self._weigh(phase, record, motion.best)
                self.whole = True
                self._tell(phase, record)
                self.between()
        self.whole = False
        self._finish(phase, record, motion)
        self.whole = True

    def _start(self, phase: Phase) -> _Motion:
        optimisers = [turn.optimiser(turn.parameters) for turn in phase.turns]
        rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        return _Motion(optimisers, rates, self.machine.scaler(), Best(), self.used, self._seconds_for(phase))

    def _seconds_for(self, phase: Phase) -> float | None:
        """Its part, by its steps, of the time that is left."""
        if self.plan.minutes is None:
            return None
        left = sum(p.steps for p in self.phases[self.number :] if isinstance(p, Phase))
        return max(60 * self.plan.minutes - self.used, 0.0) * phase.steps / max(left, 1)

    def _share(self, phase: Phase, record: Record) -> float:
        """How much of the phase is done, by steps or by time, whichever is further; 0 before the first step."""
        done = len(record.losses)
        if not done:
            return 0.0 if phase.steps else 1.0
        return max(done / phase.steps, self._time_share())

    def _time_share(self) -> float:
        motion = self._motion
        if motion is None or motion.seconds is None:
            return 0.0
        return (self.used - motion.began) / max(motion.seconds, 1e-9)

    def _wanted(self, phase: Phase, done: int) -> Iterator[list[Pick]]:
        detector = self.detector
        return batches_of(
            detector.seed, self.number, self.images.count, detector.batch_size, done, phase.steps
        )

    def _step(self, phase: Phase, record: Record, motion: _Motion, numbers: Sequence[int],
              images: Sequence[Tensor]) -> None:  # fmt: skip
        share, step, total = min(self._share(phase, record), 1.0), len(record.losses), 0.0
        batch, frozen = self._batch(phase, numbers, images)
        for turn, optimiser, rates in zip(phase.turns, motion.optimisers, motion.rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * phase.rate(share)
            with seeded(seed_of(self.detector.seed, self.number, step)), self.machine.autocast():
                loss = turn.loss(batch, frozen)
            total += self._finite(float(loss.detach()), phase, step)
            _descend(loss, turn, optimiser, motion.scaler)
        if motion.scaler is not None:
            motion.scaler.update()
        record.losses.append(total)

    def _batch(self, phase: Phase, numbers: Sequence[int], images: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The images on the device, and what is frozen of them."""
        moved = [image.to(self.machine.device, non_blocking=True) for image in images]
        again = phase.steps * self.detector.batch_size > self.images.count  # else nothing is asked for twice
        if self.plan.caches and again and not self.images.drawn:
            return torch.cat(moved), self.cache.rows(numbers, moved)
        batch = torch.cat(moved)
        with torch.no_grad():
            return batch, self.detector.frozen(batch)

    def _finite(self, loss: float, phase: Phase, step: int) -> float:
        if not math.isfinite(loss):
            raise SettingsError(
                f"training diverged: the loss is {loss} at step {step + 1} of {phase.steps} ({phase.name}). Nothing was "
                "saved. Lower the learning rate (such as --set learning_rate=1e-4; see andon methods NAME)"
                + (", or train in float32." if self.machine.precision != "float32" else ".")
            )
        return loss

    def _tell(self, phase: Phase, record: Record) -> None:
        done, share = len(record.losses), self._share(phase, record)
        total = done if record.ended or share >= 1 else max(done + 1, round(done / share))
        self.on_loss(float(np.mean(record.losses[-SMOOTHED:])))
        self.say(phase.name, done, total)

    def _finish(self, phase: Phase, record: Record, motion: _Motion) -> None:
        """Take the best state where early stopping looks for one; refuse parameters that are not finite."""
        if not record.ended and len(record.losses) < phase.steps:
            record.ended = "its share of the minutes was used up"
        motion.best.give_back(self.detector)
        record.seconds = self.used - motion.began
        self._motion = None
        for turn in phase.turns:
            if not all(bool(torch.isfinite(parameter).all()) for parameter in turn.parameters):
                self._finite(math.nan, phase, len(record.losses) - 1)

    # --- early stopping ---------------------------------------------------------------------------------

    def _weigh(self, phase: Phase, record: Record, best: Best) -> None:
        """Every 1/20 of the phase: measure the held-out loss, keep the best state, and see whether to stop."""
        done = len(record.losses)
        if not self.plan.early_stop or phase.adversarial or not best.due(self._share(phase, record)):
            return
        loss = self._held_out_loss(phase, done)
        record.held_out.append((done, loss))
        best.weigh(loss, done, self.detector)
        if best.waited >= self.plan.early_stop and done < phase.steps:
            record.ended = f"the held-out loss was lowest after {best.step} steps"

    def _held_out_loss(self, phase: Phase, done: int) -> float:
        """The mean over whole batches of held-out images, the last filled up from the first; changes nothing."""
        source, size = self.held_out, self.detector.batch_size
        if source is None:
            return math.nan
        starts = range(0, source.count, size)
        picks = [[Pick((start + i) % source.count) for i in range(size)] for start in starts]
        before, total = copies(self.detector), 0.0
        with contextlib.closing(source.batches(picks)) as batches:
            for index, (chosen, images) in enumerate(zip(picks, batches, strict=True)):
                numbers = [self.images.count + pick.number for pick in chosen]
                total += self._loss_of(phase, numbers, images, HELD_OUT_SEEDS + index)
        restore(self.detector, before)
        return self._finite(total / len(picks), phase, done - 1)

    def _loss_of(self, phase: Phase, numbers: Sequence[int], images: Sequence[Tensor], seed: int) -> float:
        """The sum over the turns. With gradients on, as some losses take gradients themselves, but none is kept."""
        batch, frozen = self._batch(phase, numbers, images)
        total = 0.0
        for turn in phase.turns:
            with seeded(seed_of(self.detector.seed, self.number, seed)), self.machine.autocast():
                total += float(turn.loss(batch, frozen).detach())
        return total

    # --- where it stands --------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Where training stands, after whole steps: what :meth:`resume` goes on from."""
        if self._before is not None:
            return self._before
        tensors: State = {}
        for number, record in enumerate(self.records):
            if record.losses:
                tensors[f"{PREFIX}losses/{number}"] = torch.tensor(record.losses, dtype=torch.float64)
        records = [{"held_out": r.held_out, "seconds": r.seconds, "ended": r.ended} for r in self.records]
        plain = {
            "number": self.number,
            "used": self.used,
            "records": records,
            "motion": self._packed(tensors),
        }
        return Snapshot(self.detector.statistics(), tensors, plain)

    def _packed(self, tensors: State) -> Any:
        motion = self._motion
        if motion is None:
            return None
        value = {
            "optimisers": [optimiser.state_dict() for optimiser in motion.optimisers],
            "scaler": motion.scaler.state_dict() if motion.scaler else None,
            "best": vars(motion.best),
            "began": motion.began,
            "seconds": motion.seconds,
        }
        return pack(value, f"{PREFIX}motion", tensors)

    def resume(self, tensors: State, plain: dict[str, Any]) -> None:
        """Stand where :meth:`snapshot` was taken; the detector has loaded its statistics already."""
        self.number, self._used = plain["number"], plain["used"]
        for number, (record, kept) in enumerate(zip(self.records, plain["records"], strict=True)):
            record.held_out = [(int(step), float(loss)) for step, loss in kept["held_out"]]
            record.seconds, record.ended = kept["seconds"], kept["ended"]
            losses = tensors.get(f"{PREFIX}losses/{number}")
            record.losses = [] if losses is None else losses.tolist()
        phase = self.phases[self.number] if self.number < len(self.phases) else None
        if plain["motion"] is not None and isinstance(phase, Phase):
            self._motion = self._start(phase)
            self._load(self._motion, unpack(plain["motion"], tensors))

    def _load(self, motion: _Motion, value: dict[str, Any]) -> None:
        for optimiser, state in zip(motion.optimisers, value["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        if motion.scaler is not None:
            motion.scaler.load_state_dict(value["scaler"])
        motion.best = Best(**value["best"])
        motion.began, motion.seconds = value["began"], value["seconds"]


def _descend(
    loss: Tensor, turn: Turn, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None
) -> None:
    """One step of ``optimiser`` down the gradient of ``loss``, clipped where the turn says so."""
    optimiser.zero_grad()
    (loss if scaler is None else scaler.scale(loss)).backward()
    if turn.clip is not None:
        if scaler is not None:
            scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(turn.parameters, turn.clip)
    if scaler is None:
        optimiser.step()
    else:
        scaler.step(optimiser)


class _Taken:
    """Images that a function gives by their numbers."""

    drawn = False

    def __init__(self, take: Take, count: int) -> None:
        self.take, self.count = take, count

    def batches(self, wanted: Iterable[Sequence[Pick]]) -> Generator[list[Tensor]]:
        for picks in wanted:
            yield [self.take([pick.number for pick in picks])]
