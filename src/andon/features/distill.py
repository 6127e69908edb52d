"""Distil a small backbone from larger ones: `python -m andon.features.distill --help`.

The student's features are the teachers', compressed, because a k-NN detector asks only for distances. Each
teacher's channels are standardised on the images and weighted by 1 / sqrt(C), so that every teacher has the
same say; all channels of a stride are projected together by PCA; components are scaled by their variance to
the power -`whiten` / 2 (0 keeps the teachers' distances, 1 whitens). The student regresses the result, mean
squared error. After Hinton et al. 2015 (arXiv:1503.02531) and the PDN of EfficientAD (arXiv:2303.14535).

A teacher's pass costs more than the student's, so crops and targets are kept and used about `reuse` times.
Letters: D the student's channels, K the teachers' channels together.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.backbones import load_backbone
from andon.features.crops import CropSource
from andon.features.student import LAYERS, StudentNet, folded_state
from andon.features.trunk import IMAGENET_MEAN, IMAGENET_STD, Backbone
from andon.files import atomic_write

log = logging.getLogger("andon.distill")
Features = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """All that decides the result, apart from the files' bytes. Either `minutes` or `steps` ends it."""

    images: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    minutes: float | None = None
    steps: int | None = None
    batch: int = 24
    crop: int = 160
    reuse: int = 12
    kept: int = 3072
    first: int = 768
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    whiten: float = 0.5
    drawn: float = 0.15
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


class Targets:
    """The teachers' features, standardised, weighted, projected: `targets(images)` -> {layer: map}."""

    def __init__(self, teachers: Sequence[Backbone], whiten: float = 0.5) -> None:
        self.teachers, self.whiten = list(teachers), whiten
        strides = {info.stride for teacher in teachers for info in teacher.layers.values()}
        for layer, info in LAYERS.items():
            if info.stride not in strides:
                raise SettingsError(
                    f"{layer} needs a teacher with a layer of stride {info.stride}; got {strides}"
                )
        for teacher in teachers:
            channels_last(teacher)
        self.projections: dict[str, tuple[Tensor, Tensor]] = {}  # layer -> offset (K,), matrix (K, D)
        self.explained: dict[str, float] = {}

    @torch.inference_mode()
    def raw(self, images: Tensor) -> Features:
        """{layer: (B, K, h, w)}: at each stride, the features of all teachers side by side."""
        found: dict[int, list[Tensor]] = {}
        for teacher in self.teachers:
            features = teacher(images)
            for layer, info in teacher.layers.items():
                found.setdefault(info.stride, []).append(features[layer])
        return {layer: torch.cat(found[info.stride], 1) for layer, info in LAYERS.items()}

    def weights(self, layer: str) -> Tensor:
        """(K,): 1 / sqrt(C) for each channel of a teacher's map with C channels."""
        infos = [info for teacher in self.teachers for info in teacher.layers.values()]
        counts = [info.channels for info in infos if info.stride == LAYERS[layer].stride]
        return torch.cat([torch.full((c,), c**-0.5) for c in counts])

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Take mean, scale and principal components from images (B, 3, H, W)."""
        moments: dict[str, Moments] = {}
        for images in batches:
            for layer, f in self.raw(images).items():
                moments.setdefault(layer, Moments(f.shape[1])).add(f.movedim(1, -1).flatten(0, 2))
        for layer, moment in moments.items():
            self._project(layer, *moment.close())

    def _project(self, layer: str, mean: Tensor, covariance: Tensor) -> None:
        """PCA of the standardised, weighted features; the D kept components have a mean variance of 1."""
        d = LAYERS[layer].channels
        scale = self.weights(layer).double() / covariance.diagonal().clamp_min(1e-12).sqrt()
        variances, vectors = torch.linalg.eigh(scale[:, None] * covariance * scale)
        kept, basis = variances[-d:].flip(0), vectors[:, -d:].flip(1)
        gain = kept ** (-self.whiten / 2)
        gain = gain / (kept * gain**2).mean().sqrt()
        self.projections[layer] = (mean.float(), (scale[:, None] * basis * gain).float())
        self.explained[layer] = float(kept.sum() / variances.sum())

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """{layer: (B, D, h, w)}."""
        out = {}
        for layer, f in self.raw(images).items():
            offset, matrix = self.projections[layer]
            out[layer] = ((f.movedim(1, -1) - offset) @ matrix).movedim(-1, 1)
        return out


class Moments:
    """Running sums for the mean (K,) and covariance (K, K) of rows, in float64."""

    def __init__(self, k: int) -> None:
        self.count = 0
        self.total = torch.zeros(k, dtype=torch.float64)
        self.outer = torch.zeros(k, k, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """rows (N, K)."""
        self.count += len(rows)
        self.total += rows.double().sum(0)
        self.outer += (rows.T @ rows).double()

    def close(self) -> tuple[Tensor, Tensor]:
        """mean (K,), covariance (K, K)."""
        mean = self.total / self.count
        return mean, self.outer / self.count - mean.outer(mean)


@dataclass
class Store:
    """Crops and their targets, the oldest replaced first. images (N, 3, S, S) uint8; targets float16."""

    limit: int
    images: list[Tensor] = field(default_factory=list)
    targets: list[Features] = field(default_factory=list)
    at: int = 0

    def put(self, images: Tensor, targets: Features) -> None:
        """Add a batch; once `limit` crops are kept, in the place of the oldest."""
        for n in range(len(images)):
            item = {layer: target[n].half() for layer, target in targets.items()}
            if len(self.images) < self.limit:
                self.images.append(images[n])
                self.targets.append(item)
            else:
                self.images[self.at], self.targets[self.at] = images[n], item
                self.at = (self.at + 1) % self.limit

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Features]:
        """(count, 3, S, S) uint8 and {layer: (count, D, h, w)} float32, without repetition."""
        chosen = rng.choice(len(self.images), size=min(count, len(self.images)), replace=False)
        images = torch.stack([self.images[n] for n in chosen])
        targets = [self.targets[n] for n in chosen]
        return images, {layer: torch.stack([target[layer] for target in targets]).float() for layer in LAYERS}


class Distillation:
    """One run: `prepare()`, then `step()` until `progress()` is 1."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.rng = np.random.default_rng(recipe.seed)
        self.source = CropSource(recipe.images, recipe.crop, recipe.drawn)
        self.targets = Targets([load_backbone(teacher) for teacher in recipe.teachers], recipe.whiten)
        self.net = StudentNet(norm=True)
        channels_last(self.net)
        decay = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [
            {"params": decay, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        self.store = Store(recipe.kept)
        self.done, self.seconds = 0, 0.0
        self.recent: dict[str, float] = {}

    def prepare(self) -> None:
        """Draw the first crops, fit the projection on them unless a checkpoint had it, keep their targets."""
        first = [self._draw() for _ in range(max(1, self.recipe.first // self.recipe.batch))]
        if not self.targets.projections:
            self.targets.fit([unit(images) for images in first])
        for images in first:
            self.store.put(images, self.targets(unit(images)))

    def _draw(self) -> Tensor:
        return torch.from_numpy(self.source.batch(self.rng, self.recipe.batch))

    def progress(self) -> float:
        """The part of the run that is done, 0 to 1."""
        if self.recipe.steps is not None:
            return min(1.0, self.done / self.recipe.steps)
        return min(1.0, self.seconds / 60 / (self.recipe.minutes or 1.0))

    def step(self) -> float:
        """One step of the optimiser; returns the loss, 1 - R^2 averaged over the layers."""
        if self.done % self.recipe.reuse == 0:
            fresh = self._draw()
            self.store.put(fresh, self.targets(unit(fresh)))
        images, wanted = self.store.sample(self.rng, self.recipe.batch)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * schedule(self.progress())
        self.net.train()
        given = self.net(normalised(unit(images)))
        losses = {layer: (given[layer] - wanted[layer]).square().mean() for layer in LAYERS}
        loss = torch.stack(list(losses.values())).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.done += 1
        for layer, value in losses.items():
            self.recent[layer] = 0.98 * self.recent.get(layer, value.item()) + 0.02 * value.item()
        return loss.item()

    def checkpoint(self) -> dict[str, Any]:
        """All that `restore` needs; the stored crops are drawn anew."""
        return {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "projections": self.targets.projections,
            "explained": self.targets.explained,
            "done": self.done,
            "seconds": self.seconds,
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def notes(self) -> dict[str, Any]:
        """What the student's file says about its making: the recipe, with names for paths, and the steps taken."""
        recipe = asdict(self.recipe)
        for part in ("images", "teachers"):
            recipe[part] = [Path(name).name for name in recipe[part]]
        return {"architecture": "andon-s", "steps": self.done, "recipe": recipe}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.targets.projections, self.targets.explained = saved["projections"], saved["explained"]
        self.done, self.seconds = saved["done"], saved["seconds"]
        self.rng.bit_generator.state = json.loads(saved["rng"])


def channels_last(module: nn.Module) -> None:
    """Lay the weights of the module's convolutions out channels last, which is faster on processors."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def unit(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 in [0, 1], channels last, which is faster on processors."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> what `StudentNet` takes."""
    return (images - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        1, 3, 1, 1
    )


def schedule(progress: float, warm_up: float = 0.02) -> float:
    """The learning rate's factor: linear up over `warm_up`, then half a cosine down to 0.

    >>> [round(schedule(p), 2) for p in (0.01, 0.02, 0.51, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warm_up:
        return progress / warm_up
    return float(0.5 * (1 + np.cos(np.pi * (progress - warm_up) / (1 - warm_up))))


def write_student(net: StudentNet, path: str | Path, notes: dict[str, Any]) -> None:
    """Write the folded network as 16-bit floats, safetensors; `notes` go into its metadata as one JSON text."""
    from safetensors.torch import save

    state = {key: value.half().contiguous() for key, value in folded_state(net).items()}
    with atomic_write(path) as file:
        file.write(save(state, metadata={"andon": json.dumps(notes)}))


def distill(
    recipe: Recipe, out: str | Path, *, resume: bool = False, save_every: float = 120.0
) -> Distillation:
    """Run the recipe and write the student to `out`, its checkpoint beside it as `<out>.checkpoint`.

    Every `save_every` seconds both are replaced, so a run that is killed leaves a usable file and can
    `resume`; the crops are then drawn anew, so a resumed run ends as well, not at the same bytes.
    """
    run = Distillation(recipe)
    checkpoint = Path(f"{out}.checkpoint")
    if resume and checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True))
        log.info("resumed at step %d", run.done)
    begun = time.monotonic() - run.seconds
    run.prepare()
    log.info("variance kept by the projection: %s", run.targets.explained)
    last = time.monotonic()
    while run.progress() < 1:
        run.step()
        run.seconds = time.monotonic() - begun
        if run.done % 50 == 0:
            errors = {layer: round(value, 4) for layer, value in run.recent.items()}
            log.info("step %d  %.0f s  1-R2 %s", run.done, run.seconds, errors)
        if time.monotonic() - last > save_every:
            _save(run, out, checkpoint)
            last = time.monotonic()
    _save(run, out, checkpoint)
    return run


def _save(run: Distillation, out: str | Path, checkpoint: Path) -> None:
    write_student(run.net, out, run.notes())
    with atomic_write(checkpoint) as file:
        torch.save(run.checkpoint(), file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m andon.features.distill", description=__doc__)
    add = parser.add_argument
    add("--images", nargs="*", default=(), metavar="DIR", help="folders of photographs, searched downwards")
    add("--teachers", nargs="+", required=True, metavar="BACKBONE", help="names or files of the teachers")
    add("--out", required=True, metavar="FILE", help="the student, safetensors")
    add("--minutes", type=float, help="end after so many minutes; the learning rate falls accordingly")
    add("--steps", type=int, help="end after so many steps; repeatable on one machine")
    add("--resume", action="store_true", help="continue from FILE.checkpoint")
    add("--threads", type=int, help="processor threads")
    for name in ("batch", "crop", "reuse", "kept", "first", "seed"):
        add(f"--{name}", type=int, default=getattr(Recipe, name))
    for name in ("learning_rate", "weight_decay", "whiten", "drawn"):
        add(f"--{name.replace('_', '-')}", type=float, default=getattr(Recipe, name))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = vars(_parser().parse_args(arguments))
    out, resume, threads = options.pop("out"), options.pop("resume"), options.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    options["images"], options["teachers"] = tuple(options["images"]), tuple(options["teachers"])
    distill(Recipe(**options), out, resume=resume)


if __name__ == "__main__":
    main()
