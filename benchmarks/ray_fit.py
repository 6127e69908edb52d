"""A pass over good images on Ray, one worker against two: images a second, and their ratio.

    python benchmarks/ray_fit.py [--images 2000] [--size 256] [--data ../shared/data/mvtec_transistor] [--workers 1 2]

The images are files, written once: those of the data set, linked under as many names as needed. Each number of workers has a
cluster of its own on this machine, of so many processors; its workers are started and have imported everything before the
clock runs. Each worker computes in one thread. The states that come out must be the same to the bit. The last row is one
process without Ray that decodes in the same thread. Wants as many idle cores as there are workers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from andon import __version__
from andon.data import list_images
from andon.distributed import RayObserver, cluster
from andon.engine import FitReport, Reader, fit
from andon.image import Preprocessing, prepare
from andon.models import build
from andon.models.base import Detector

RESULTS = Path(__file__).parent / "results"
BATCH = 8


class Passed(Exception):
    """The pass over the images is over; its statistics are not closed."""


def observing(
    observe: Any, detector: Detector, paths: list[Path], size: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Wall seconds of the pass alone, and the statistics."""
    preprocessing = Preprocessing((size, size))

    def load(path: Path) -> NDArray[np.float32]:
        return prepare(path, preprocessing)[1].images[0]

    taken = []

    def timed(*given: Any) -> None:
        start = time.perf_counter()
        observe(*given)
        taken.append(time.perf_counter() - start)
        raise Passed

    try:
        fit(detector, paths, Reader(load, BATCH, 0), observe=timed)
    except Passed:
        return taken[0], detector.statistics()
    raise RuntimeError("the pass did not end")


def alone(
    detector: Detector, paths: Any, reader: Reader, keeper: Any, say: Any, report: FitReport, machine: Any
) -> None:
    """The pass in this process, decoding in its thread."""
    for images in reader.tensors(paths):
        detector.observe(images)


def warm(ray: Any, workers: int) -> None:
    """Have every worker import what it needs."""

    def wake() -> int:
        import andon.engine
        import andon.models  # noqa: F401

        time.sleep(3)  # so that no worker takes two
        return os.getpid()

    woken = ray.remote(num_cpus=1)(wake)
    assert len(set(ray.get([woken.remote() for _ in range(workers)]))) == workers


def on_cluster(
    workers: int, detector: Detector, paths: list[Path], options: argparse.Namespace
) -> tuple[float, Any]:
    """The pass on a cluster of its own."""
    with cluster("local", workers) as ray:
        warm(ray, workers)
        return observing(RayObserver("local", options.shards), detector, paths, options.size)


def files(folder: Path, data: Path, count: int) -> list[Path]:
    """So many good images in ``folder``: those of ``data``, linked again and again."""
    good = list_images(data / "train" / "good")
    paths = [folder / f"{number:06}{good[number % len(good)].suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        path.symlink_to(good[number % len(good)].resolve())
    return paths


def page(rows: list[dict[str, Any]], made: str) -> str:
    """The table as Markdown."""
    lines = ["# Ray: one worker against two", "", made, "", "| workers | seconds | images a second | against one |",
             "|---|---:|---:|---:|"]  # fmt: skip
    first = next(row for row in rows if row["workers"] == 1)
    for row in rows:
        name = row["workers"] or "no Ray, one process"
        ratio = row["images_a_second"] / first["images_a_second"]
        lines.append(f"| {name} | {row['seconds']:.1f} | {row['images_a_second']:.1f} | {ratio:.2f} |")
    same = "the same bits" if all(row["same"] for row in rows if row["workers"]) else "DIFFERENT BITS"
    return "\n".join([*lines, "", f"The states of all clusters: {same}.", ""])


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def main() -> None:
    """Measure, print, and write ray_fit.md and .json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mvtec_transistor"))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--method", default="patchcore")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    first: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = files(Path(folder), options.data, options.images)
        for workers in [*options.workers, 0]:
            detector = build(options.method)
            seconds, state = (
                on_cluster(workers, detector, paths, options)
                if workers
                else observing(alone, detector, paths, options.size)
            )
            first = first or state
            same = first.keys() == state.keys() and all(
                torch.equal(first[name], state[name]) for name in first
            )
            rows.append(
                {
                    "workers": workers,
                    "seconds": seconds,
                    "images_a_second": options.images / seconds,
                    "same": same,
                }
            )
            print(rows[-1], flush=True)
    made = (
        f"`python benchmarks/ray_fit.py --images {options.images} --size {options.size}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {cpu_name()}, {os.cpu_count()} cores, andon {__version__}, PyTorch "
        f"{torch.__version__}. {options.method}, {options.shards} shards, {options.size}x{options.size}."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ray_fit.json").write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n")
    (options.out / "ray_fit.md").write_text(page(rows, made))


if __name__ == "__main__":
    main()
