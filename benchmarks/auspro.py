"""AUsPRO: time, peak memory and agreement of ours against the approach of the published evaluation code.

    python benchmarks/auspro.py [--images 25] [--size 750x1000] [--golden ../shared/data/golden]

The published approach (MVTec LOCO AD, AutoVI) is re-implemented here in short: binarise every map at a batch of
thresholds, look at the curve, put thresholds between points further apart than 0.001, at most ten times. Ours
takes every distinct score. Memory is what NumPy allocated at the peak (tracemalloc), maps included where they
are held; time is the processor's, without tracemalloc. Recorded in benchmarks/results/auspro.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.metrics import SproAccumulator, auspro
from andon.metrics.spro import area_under
from andon.types import DefectChannel

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
Channels = Sequence[Sequence[DefectChannel]]


def published_approach(maps: Sequence[NDArray], channels: Channels) -> tuple[dict[float, float], int]:
    """AUsPRO by refining thresholds, and how many were used."""
    scores = np.sort(
        np.concatenate([m.reshape(-1)[:: max(1, len(maps) * m.size // 10_000_000)] for m in maps])
    )
    thresholds = [
        float(scores[-1]) + 1e-6,
        *scores[np.linspace(0, len(scores) - 1, 50, dtype=int)[-2:0:-1]].tolist(),
    ]
    thresholds = list(dict.fromkeys([*thresholds, float(scores[0]) - 1e-6]))
    points = _curve_points(maps, channels, np.array(thresholds))
    for _ in range(10):
        queries = _between(np.array(thresholds), points)
        if not len(queries):
            break
        points = np.concatenate([points, _curve_points(maps, channels, queries)])
        thresholds = np.concatenate([thresholds, queries])
        order = np.argsort(thresholds)[::-1]
        thresholds, points = thresholds[order], points[order]
    return {limit: float(area_under(points[:, 0], points[:, 1], limit)) for limit in LIMITS}, len(thresholds)


def _between(thresholds: NDArray, points: NDArray) -> NDArray:
    """New thresholds where neighbouring points are far apart: at most 100, at least 20 if there is any."""
    steps = np.diff(points, axis=0)
    distance = np.linalg.norm(steps, axis=1)
    wide = np.flatnonzero((distance > 1e-3) & (0.5 * np.abs(steps.prod(1)) > 0.25e-6))
    wide = wide[np.argsort(-distance[wide])][:100]
    spare = max(20 - len(wide), 0)
    share = np.round(distance[wide] / max(distance[wide].sum(), 1e-12) * spare).astype(int) + 1
    inner = [np.linspace(thresholds[i], thresholds[i + 1], n + 2)[1:-1] for i, n in zip(wide, share)]
    return np.concatenate(inner) if inner else np.zeros(0)


def _curve_points(maps: Sequence[NDArray], channels: Channels, thresholds: NDArray) -> NDArray:
    false, good, spro = np.zeros(len(thresholds)), 0, []
    for anomaly_map, found in zip(maps, channels):
        called = anomaly_map[None] > thresholds[:, None, None].astype(
            anomaly_map.dtype if anomaly_map.dtype.kind == "f" else float
        )
        union = np.zeros(anomaly_map.shape, bool)
        for channel in found:
            union |= channel.anomaly_mask
            spro.append(np.minimum((called & channel.anomaly_mask).sum((1, 2)) / channel.saturation_area, 1))
        false += (called & ~union).sum((1, 2))
        good += int((~union).sum())
    return np.stack([false / good, np.mean(spro, axis=0)], axis=1)


class Files(Sequence):
    """Anomaly maps on disk, read each time one is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        return np.load(self.paths[index])


def ours_in_one_pass(maps: Sequence[NDArray], channels: Channels) -> dict[float, float]:
    """The accumulator: each map seen once."""
    accumulator = SproAccumulator()
    for index, found in enumerate(channels):
        accumulator.add(maps[index], found)
    curve = accumulator.curve()
    return {limit: float(area_under(curve.fpr, curve.spro, limit)) for limit in LIMITS}


def measured(run: Callable[[], object]) -> tuple[object, float, float]:
    """What ``run`` gives, its processor seconds, and its peak of memory in MiB, in two runs."""
    start = time.process_time()
    result = run()
    seconds = time.process_time() - start
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, seconds, peak / 2**20


def random_case(folder: Path, images: int, size: tuple[int, int]) -> tuple[Files, Channels]:
    """Smooth noise with brighter defects: half the images good, one to three defects in the others."""
    rng = np.random.default_rng(0)
    paths, channels = [], []
    for number in range(images):
        coarse = rng.normal(size=(size[0] // 10 + 1, size[1] // 10 + 1)).astype(np.float32)
        smooth = np.array(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        found = []
        for _ in range(rng.integers(1, 4) if number % 2 else 0):
            h, w = rng.integers(10, size[0] // 8, 2)
            top, left = rng.integers(0, size[0] - h), rng.integers(0, size[1] - w)
            mask = np.zeros(size, bool)
            mask[top : top + h, left : left + w] = True
            smooth[mask] += rng.normal(1.5, 0.7)
            found.append(DefectChannel(mask, float(min(h * w, rng.choice([h * w, 500])))))
        paths.append(folder / f"{number:04}.npy")
        np.save(paths[-1], smooth + 5)
        channels.append(found)
    return Files(paths), channels


def golden_case(folder: Path, name: str, size: tuple[int, int]) -> tuple[list[NDArray], Channels]:
    """A golden case, its maps resized as the published code does."""
    config = {
        c["pixel_value"]: c
        for c in json.loads((folder / "dataset" / name / "defects_config.json").read_text())
    }
    maps, channels = [], []
    for path in sorted((folder / "maps" / name).glob("*/*.png")):
        image = Image.open(path)
        maps.append(np.asarray(image if image.size == size[::-1] else image.resize(size[::-1])))
        masks = sorted(
            (folder / "dataset" / name / "ground_truth" / path.parent.name / path.stem).glob("*.png")
        )
        channels.append([_channel(np.asarray(Image.open(mask))[..., 0], config) for mask in masks])
    return maps, channels


def _channel(values: NDArray, config: dict[int, dict]) -> DefectChannel:
    entry, area = config[int(values.max())], int((values > 0).sum())
    saturation = entry["saturation_threshold"]
    saturation = int(saturation * area) if entry["relative_saturation"] else min(saturation, area)
    return DefectChannel(values > 0, saturation, entry["defect_name"])


def compare(name: str, maps: Sequence[NDArray], channels: Channels) -> float:
    """Print one table row for each approach; the published one's CPU seconds."""
    (theirs, number), slow, heavy = measured(lambda: published_approach(list(maps), channels))  # type: ignore[misc]
    for title, run in (
        ("ours, maps read twice", lambda: auspro(maps, channels, LIMITS)),
        ("ours, one pass", lambda: ours_in_one_pass(maps, channels)),
    ):
        exact, fast, light = measured(run)
        apart = max(abs(exact[limit] - theirs[limit]) for limit in LIMITS)  # type: ignore[index]
        print(
            f"| {name} | {title} | {fast:.2f} | {light:.0f} | {slow / fast:.0f} x | {heavy / light:.0f} x | {apart:.1e} |"
        )
    print(
        f"| {name} | published approach, {number} thresholds | {slow:.2f} | {heavy:.0f} | | | |", flush=True
    )
    return slow


def alone(name: str, maps: Sequence[NDArray], channels: Channels, slow: float) -> None:
    """Print one table row for each of our approaches; ``slow``: what the published one would take, in seconds."""
    for title, run in (
        ("ours, maps read twice", lambda: auspro(maps, channels, LIMITS)),
        ("ours, one pass", lambda: ours_in_one_pass(maps, channels)),
    ):
        _, fast, light = measured(run)
        print(f"| {name} | {title} | {fast:.2f} | {light:.0f} | {slow / fast:.0f} x | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument(
        "--many", type=int, default=0, help="ours alone on so many images, against the other's time an image"
    )
    parser.add_argument("--size", default="750x1000", help="rows x columns")
    parser.add_argument("--golden", type=Path, default=Path(__file__).parents[2] / "shared/data/golden")
    options = parser.parse_args()
    rows, columns = map(int, options.size.split("x"))
    print("| case | approach | CPU seconds | peak MiB | faster | smaller | furthest apart |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    if options.golden.is_dir():
        for name, size in (("transistor", (256, 256)), ("pipe_clip", (400, 400))):
            compare(f"golden {name}", *golden_case(options.golden, name, size))
    with tempfile.TemporaryDirectory() as folder:
        maps, channels = random_case(Path(folder), options.images, (rows, columns))
        slow = compare(f"{options.images} random maps {rows}x{columns}", maps, channels)
    if options.many:
        with tempfile.TemporaryDirectory() as folder:
            maps, channels = random_case(Path(folder), options.many, (rows, columns))
            alone(
                f"{options.many} random maps {rows}x{columns}",
                maps,
                channels,
                slow * options.many / options.images,
            )


if __name__ == "__main__":
    main()
