"""Distil a small backbone from larger ones: what `andon backbone train` runs.

The student's features are the teachers', compressed (:mod:`andon.features.targets`), because a k-NN detector asks
only for distances; it regresses them, mean squared error. After Hinton et al. 2015 (arXiv:1503.02531) and the PDN of
EfficientAD (arXiv:2303.14535).

A teacher's pass costs several times the student's, so crops and targets are made once and kept on disk
(:mod:`andon.features.crop_store`); students of any shape are then trained on them. Everything is a function of the
recipe: a run that was stopped and resumed ends at the same bytes as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.backbones import load_backbone
from andon.features.crop_store import IMAGES, CropStore
from andon.features.crops import CropSource
from andon.features.student import ANDON_S, LAYERS, Shape, StudentNet, folded_state
from andon.features.targets import Targets, channels_last, unit
from andon.features.trunk import IMAGENET_MEAN, IMAGENET_STD
from andon.files import atomic_write

Progress = Callable[[str, int, int], None]  # phase, done, total
SMOOTHING = 0.98  # of the errors that are shown


@dataclass(frozen=True)
class Recipe:
    """All that decides the result, apart from the files' bytes. Either `minutes` or `steps` ends the training."""

    images: tuple[str, ...] = ()  # folders of photographs
    teachers: tuple[str, ...] = ()  # names or files
    shape: Shape = ANDON_S
    crops: int = 16384
    crop: int = 160  # pixels, a side
    first: int = 768  # crops that the projection is taken from
    whiten: float = 0.5
    drawn: float = 0.25  # share of crops drawn by code
    minutes: float | None = None
    steps: int | None = None
    batch: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.teachers:
            raise SettingsError("distillation needs at least one teacher; give a backbone's name or file")
        if (self.minutes is None) == (self.steps is None):
            raise SettingsError(
                f"give either minutes or steps, got minutes={self.minutes} and steps={self.steps}"
            )
        if self.crop % 32:
            raise SettingsError(f"crop must be a multiple of 32 pixels, got {self.crop}")
        if self.crops < max(self.batch, self.first):
            raise SettingsError(
                f"crops must be at least batch ({self.batch}) and first ({self.first}), got {self.crops}"
            )

    def named(self) -> dict[str, Any]:
        """The recipe as JSON can hold it, with names for paths."""
        return {**asdict(self), "images": _names(self.images), "teachers": _names(self.teachers),
                "shape": self.shape._asdict()}  # fmt: skip

    def crops_key(self) -> dict[str, Any]:
        """What decides the crops and their targets."""
        wanted = ("images", "teachers", "crop", "first", "whiten", "drawn", "seed")
        return {name: value for name, value in self.named().items() if name in wanted}


def _names(paths: Sequence[str]) -> list[str]:
    return [Path(path).name for path in paths]


def _silent(phase: str, done: int, total: int) -> None:
    """Say nothing."""


def make_store(recipe: Recipe, folder: Path, say: Progress = _silent, device: str = "cpu") -> CropStore:
    """The crops of ``recipe`` with their targets in ``folder``: made, or as far as missing, or as they are there."""
    store = CropStore(folder, LAYERS, recipe.crops_key())
    source = CropSource(recipe.images, recipe.crop, recipe.drawn)
    teachers: list[Targets] = []  # opened only when a crop is missing

    def draw(numbers: range) -> Tensor:
        return torch.from_numpy(np.concatenate([
            source.batch(np.random.default_rng([recipe.seed, n]), 1) for n in numbers
        ]))  # fmt: skip

    def make(numbers: range) -> dict[str, Tensor]:
        if not teachers:
            teachers.append(_targets(recipe, folder, draw, device))
        parts: list[dict[str, Tensor]] = []
        for start in range(numbers.start, numbers.stop, recipe.batch):
            images = draw(range(start, min(start + recipe.batch, numbers.stop)))
            features = teachers[0](unit(images).to(device))
            parts.append({IMAGES: images, **{layer: f.cpu().contiguous() for layer, f in features.items()}})
            say("crops", start + len(images), recipe.crops)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    store.fill(recipe.crops, make, lambda done: say("crops", done, recipe.crops))
    return store


def _targets(recipe: Recipe, folder: Path, draw: Callable[[range], Tensor], device: str) -> Targets:
    """The teachers, with the projection that the folder keeps or that is taken from the first crops now."""
    from safetensors.torch import load_file, save

    targets = Targets([load_backbone(name).to(device) for name in recipe.teachers], LAYERS, recipe.whiten)
    kept = folder / "projection.safetensors"
    if kept.exists():
        targets.load(load_file(kept))
        return targets
    starts = range(0, recipe.first, recipe.batch)
    targets.fit([unit(draw(range(n, min(n + recipe.batch, recipe.first)))).to(device) for n in starts])
    with atomic_write(kept) as file:
        file.write(save(targets.state()))
    return targets


@dataclass
class Distillation:
    """One run of training a student on a store: `step()` until `progress()` is 1."""

    recipe: Recipe
    store: CropStore
    device: str = "cpu"
    done: int = 0
    seconds: float = 0.0
    errors: dict[str, float] = field(default_factory=dict)  # layer -> 1 - R^2, smoothed
    curve: list[tuple[int, float]] = field(default_factory=list)  # step, mean error

    def __post_init__(self) -> None:
        torch.manual_seed(self.recipe.seed)
        self.net = StudentNet(norm=True, shape=self.recipe.shape).to(self.device)
        channels_last(self.net)
        decay = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [
            {"params": decay, "weight_decay": self.recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.recipe.learning_rate)

    def progress(self) -> float:
        """The part of the run that is done, 0 to 1."""
        if self.recipe.steps is not None:
            return min(1.0, self.done / self.recipe.steps)
        return min(1.0, self.seconds / 60 / (self.recipe.minutes or 1.0))

    def step(self) -> float:
        """One step of the optimiser; returns the loss, 1 - R^2 averaged over the layers."""
        start = time.monotonic()
        images, wanted = self.store.take(self._batch())
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * schedule(self.progress())
        self.net.train()
        given = self.net(normalised(unit(images.to(self.device))))
        losses = {layer: (given[layer] - wanted[layer].to(self.device)).square().mean() for layer in LAYERS}
        loss = torch.stack(list(losses.values())).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.done += 1
        self._note({layer: float(value.detach()) for layer, value in losses.items()})
        self.seconds += time.monotonic() - start
        return float(loss.detach())

    def _batch(self) -> np.ndarray:
        """The numbers of the step's crops; every epoch is a permutation of its own."""
        count, batch = self.recipe.crops, self.recipe.batch
        epoch, at = divmod(self.done, count // batch)
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(count)
        return order[at * batch : (at + 1) * batch]

    def _note(self, losses: dict[str, float]) -> None:
        for layer, value in losses.items():
            self.errors[layer] = SMOOTHING * self.errors.get(layer, value) + (1 - SMOOTHING) * value
        if self.done % 50 == 0:
            self.curve.append((self.done, sum(self.errors.values()) / len(self.errors)))

    def checkpoint(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(),
                "recipe": json.dumps(self.recipe.named()), "done": self.done, "seconds": self.seconds,
                "errors": dict(self.errors), "curve": list(self.curve)}  # fmt: skip

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises :class:`SettingsError` for one of another recipe."""
        if saved["recipe"] != json.dumps(self.recipe.named()):
            raise SettingsError(
                f"the checkpoint was made by another recipe ({saved['recipe']}), not {json.dumps(self.recipe.named())}. "
                "Give the same options to resume, or start over without --resume."
            )
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.done, self.seconds = saved["done"], saved["seconds"]
        self.errors, self.curve = dict(saved["errors"]), list(saved["curve"])

    def notes(self) -> dict[str, Any]:
        """What the student's file says about its making."""
        return {"architecture": "andon student", "steps": self.done, "recipe": self.recipe.named(),
                "errors": {layer: round(value, 4) for layer, value in self.errors.items()}}  # fmt: skip


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> what `StudentNet` takes."""
    mean, std = (
        torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean) / std


def schedule(progress: float, warm_up: float = 0.02) -> float:
    """The learning rate's factor: linear up over `warm_up`, then half a cosine down to 0.

    >>> [round(schedule(p), 2) for p in (0.01, 0.02, 0.51, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warm_up:
        return max(progress, 1e-3) / warm_up
    return float(0.5 * (1 + np.cos(np.pi * (progress - warm_up) / (1 - warm_up))))


def write_student(net: StudentNet, path: str | Path, notes: dict[str, Any]) -> None:
    """Write the folded network as 16-bit floats, safetensors; `notes` go into its metadata as one JSON text."""
    from safetensors.torch import save

    state = {key: value.cpu().half().contiguous() for key, value in folded_state(net).items()}
    with atomic_write(path) as file:
        file.write(save(state, metadata={"andon": json.dumps(notes)}))


def distill(
    recipe: Recipe,
    out: str | Path,
    *,
    crops: str | Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    save_every: float = 120.0,
    say: Progress | None = None,
) -> Distillation:
    """Run the recipe and write the student to `out`, its checkpoint beside it as `<out>.checkpoint`.

    `crops`: the folder that keeps crops and targets, `<out>.crops` when None; another student may use them again.
    Every `save_every` seconds both files are replaced, so that a run that is killed leaves a usable student and can
    `resume`. Raises :class:`SettingsError` for a recipe that makes no sense, or another than the one resumed.
    """
    say = say or _silent
    store = make_store(recipe, Path(crops or f"{out}.crops"), say, device)
    run, kept = Distillation(recipe, store, device), Path(f"{out}.checkpoint")
    if resume and kept.exists():
        run.restore(torch.load(kept, weights_only=True))
    last = time.monotonic()
    while run.progress() < 1:
        run.step()
        say(
            "train",
            *(round(1000 * run.progress()), 1000) if recipe.steps is None else (run.done, recipe.steps),
        )
        if time.monotonic() - last > save_every:
            _save(run, out, kept)
            last = time.monotonic()
    _save(run, out, kept)
    return run


def _save(run: Distillation, out: str | Path, checkpoint: Path) -> None:
    write_student(run.net, out, run.notes())
    with atomic_write(checkpoint) as file:
        torch.save(run.checkpoint(), file)
