"""Greedy k-centre: the blocked search beside the plain one, on the same points.

    python benchmarks/coreset.py [--points 2000 8000 16000] [--dimensions 384] [--fraction 0.1] [--threads 1]

Plain: one centre at a time, the distances of all points to it, the farthest point next. Its time is that of
float32; the indices that the blocked search must give are those of float64, ties to the lowest index. The points are
drawn like patch features: clusters of unequal spread on a low-dimensional sheet.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from andon.features.neighbours import TIE, greedy_k_centre


def draw(count: int, dimensions: int, seed: int = 0) -> Tensor:
    """Points (count, dimensions) float32: 30 clusters that vary in 12 directions, and noise in all."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(30, dimensions, generator=generator)
    spread = torch.rand(30, 1, generator=generator) + 0.2
    directions = torch.randn(12, dimensions, generator=generator) / 3
    cluster = torch.randint(30, (count,), generator=generator)
    sheet = torch.randn(count, 12, generator=generator) @ directions
    noise = torch.randn(count, dimensions, generator=generator) * 0.1
    return centres[cluster] + spread[cluster] * (sheet + noise)


def plain(points: Tensor, count: int, start: int) -> Tensor:
    """The greedy k-centres one at a time, in the points' own precision."""
    points = points - points.mean(0)
    squares = points.square().sum(1)
    tie = TIE * float(squares.max())
    nearest = torch.full_like(squares, torch.inf)
    chosen = [start]
    while len(chosen) < count:
        centre = points[chosen[-1]]
        torch.minimum(nearest, squares - 2 * (points @ centre) + squares[chosen[-1]], out=nearest)
        nearest[chosen[-1]] = -torch.inf
        chosen.append(int((nearest >= nearest.max() - tie).int().argmax()))
    return torch.tensor(chosen)


def timed(function: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """(wall seconds, CPU seconds, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=[2000, 4000, 8000, 16000])
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--no-plain", action="store_true", help="time the blocked search alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"D = {options.dimensions}, fraction = {options.fraction}, threads = {options.threads}; CPU seconds (wall)"
    )
    print(
        f"{'points':>8} {'centres':>8} {'blocked':>16} {'plain float32':>16} {'ratio':>7}  same indices (float64 / 32)"
    )
    for count in options.points:
        row(
            draw(count, options.dimensions),
            max(1, round(options.fraction * count)),
            options.block,
            options.no_plain,
        )


def row(points: Tensor, centres: int, block: int, blocked_only: bool) -> None:
    """Print one line of the table."""
    wall, cpu, found = timed(lambda: greedy_k_centre(points, centres, start=0, block=block))
    line = f"{len(points):8d} {centres:8d} {cpu:8.2f} ({wall:5.2f})"
    if not blocked_only:
        plain_wall, plain_cpu, single = timed(lambda: plain(points, centres, 0))
        same = bool(torch.equal(plain(points.double(), centres, 0), found))
        share = float((single == found).float().mean())
        line += f" {plain_cpu:8.2f} ({plain_wall:5.2f}) {plain_cpu / cpu:7.1f}  {'yes' if same else 'NO'} / {share:.1%}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
