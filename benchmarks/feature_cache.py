"""What it saves to keep the answers of frozen networks between epochs: CPU seconds of a training step, with and without.

    OMP_NUM_THREADS=1 python benchmarks/feature_cache.py [--method stfpm ...] [--backbone andon-s] [--epochs 4]

Drawn noise of 256x256 pixels, as many epochs over it each way; the median over the steps after the first epoch, which
pays for the frozen network either way, and the whole of the training. The losses of both ways are compared, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon.engine import FitReport, Reader, fit
from andon.models import build
from andon.training import Plan

HEADER = ["method", "first epoch", "later, without", "later, with", "ratio", "all, without", "all, with", "cache",
          "losses apart"]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", nargs="+", default=["stfpm", "reverse_distillation", "fastflow"])
    parser.add_argument("--backbone", default="andon-s")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for method in options.method:
        print(f"| {method} | " + " | ".join(row(method, options)) + " |", flush=True)
    return 0


def row(method: str, options: argparse.Namespace) -> list[str]:
    """The figures of one method: CPU seconds a step, and of the whole training."""
    (plain, slow, _), (cached, quick, first) = (train(method, options, gigabytes) for gigabytes in (0.0, 4.0))
    later = [statistics.median(times[first:]) for times in (slow, quick)]
    apart = max(abs(a - b) / abs(a) for a, b in zip(plain.losses, cached.losses, strict=True))
    seconds = [statistics.mean(quick[:first]), *later, later[0] / later[1], sum(slow), sum(quick)]
    return [f"{value:.3g}" for value in seconds] + [f"{1000 * cached.cache.gigabytes:.0f} MB", f"{apart:.1e}"]


def train(method: str, options: argparse.Namespace, gigabytes: float) -> tuple[FitReport, list[float], int]:
    """What a fit did, the CPU seconds of each of its steps, and how many steps are an epoch."""
    epoch = options.images // 8
    detector = build(method, backbone=options.backbone, steps=epoch * options.epochs, batch_size=8)
    times: list[float] = []
    reader = Reader(lambda path: picture(path, options.size), workers=0)
    paths = [Path(f"{number}.png") for number in range(options.images)]

    report = fit(
        detector,
        paths,
        reader,
        held_out=paths[:2],
        plan=Plan(cache_gb=gigabytes),
        on_loss=lambda loss: times.append(time.process_time()),
    )
    return report, list(np.diff(times)), epoch - 1


def picture(path: Path, size: int) -> NDArray[np.float32]:
    """The drawn picture of that name."""
    coarse = np.random.default_rng(int(path.stem)).random((3, size // 8, size // 8), dtype=np.float32)
    return np.kron(coarse, np.ones((1, 8, 8), np.float32))


if __name__ == "__main__":
    sys.exit(main())
