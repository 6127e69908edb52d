"""One side of benchmarks/peer.py, in a process of its own: fits a method, scores the test images, says what it cost.

    python benchmarks/peer_side.py JOB.json

The peer's side runs in anomalib's environment and never imports andon.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peer_models import THEIRS, load, normalised, stand_ins

Answer = tuple[float, Any]  # image score; map (H, W), or None


class Side(NamedTuple):
    fit: Callable[[], object]
    score: Callable[[Tensor], Any]  # (1, 3, H, W) in [0, 1] -> what `answers` reads
    answers: Callable[[list[Any]], list[Answer]]


def work(job: SimpleNamespace) -> int:
    """Fit, then score every test image by itself."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    side = theirs(job) if job.side == "theirs" else ours(job)
    torch.optim.SGD([torch.zeros(1)])  # the first one imports much, which is no part of a fit
    costs, start = {"start_mb": memory("VmRSS")}, time.perf_counter()
    side.fit()
    costs |= {"fit_seconds": time.perf_counter() - start, "peak_mb": memory("VmHWM")}
    times, found = [], []
    with torch.no_grad():
        side.score(load(job.test[:1]))
        for path in job.test:
            images, start = load([path]), time.perf_counter()
            found.append(side.score(images))
            times.append(1000 * (time.perf_counter() - start))
        scores, maps = zip(*side.answers(found), strict=True)
    there = {"maps": np.stack(maps)} if maps[0] is not None else {}
    np.savez(job.answers, scores=np.array(scores), **there)
    Path(job.costs).write_text(json.dumps(costs | {"ms": statistics.median(times)}))
    return 0


def memory(line: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(text for text in status if text.startswith(line)).split()[1]) / 1000


def plain(found: list[Any]) -> list[Answer]:
    """Image scores (1,) and maps (1, 1, H, W) or (1, H, W), or None, as one number and (H, W)."""
    return [(float(score), None if grid is None else grid.numpy().squeeze()) for score, grid in found]


def ours(job: SimpleNamespace) -> Side:
    from andon.engine import Reader, fit
    from andon.models import build
    from andon.training import Plan

    detector = build(job.method, **job.settings)
    paths, reader = [Path(path) for path in job.train], Reader(np.load, job.batch_size)

    def score(images: Tensor) -> tuple[Tensor, Tensor]:
        found = detector(images)
        return found.image_score, found.anomaly_map

    return Side(lambda: fit(detector, paths, reader, plan=Plan(device="cpu")), score, plain)


def theirs(job: SimpleNamespace) -> Side:
    stand_ins(job)
    model, fit = THEIRS[job.method](job)
    shown = partial(normalised, job)

    def score(images: Tensor) -> tuple[Tensor, Tensor | None]:
        found = model.eval()(shown(images))
        return found.pred_score, found.anomaly_map

    if job.method == "supersimplenet":
        return Side(fit, lambda images: before_sigmoid(model.eval(), shown(images)), plain)
    if job.method == "cflow":
        densities = Densities(model.anomaly_map_generator)
        model.anomaly_map_generator = densities
        return Side(fit, score, lambda found: densities.answers()[-len(found) :])
    return Side(fit, score, plain)


def before_sigmoid(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """SuperSimpleNet's image score (1,) and map (1, 1, H, W) as log-odds."""
    features = model.feature_extractor(images)
    grid, score = model.segdec(seg_features=model.adaptor(features), cls_features=features)
    return score, model.anomaly_map_generator(grid, final_size=images.shape[-2:])


class Densities(nn.Module):
    """In place of CFlow's map generator: keeps log p(x) / C by layer, of each image."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator, self.kept = generator, []

    def forward(self, *, distribution: Any, height: Any, width: Any, image_size: Any) -> Tensor:
        shapes = zip(distribution, height, width, strict=True)
        self.kept.append([rows.reshape(1, 1, h, w) for rows, h, w in shapes])
        self.size = tuple(image_size)
        return self.generator(distribution=distribution, height=height, width=width, image_size=image_size)

    def answers(self) -> list[Answer]:
        """Minus the sum over layers of p(x)^(1/C), divided by its largest value over all images."""
        best = [torch.cat(layer).max() for layer in zip(*self.kept, strict=True)]
        found = []
        for layers in self.kept:
            raised = [F.interpolate((grid - top).exp(), self.size, mode="bilinear", align_corners=True)
                      for grid, top in zip(layers, best, strict=True)]  # fmt: skip
            found.append(-torch.stack(raised).sum(0))
        return plain([(grid.max(), grid) for grid in found])


if __name__ == "__main__":
    sys.exit(work(SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text()))))
