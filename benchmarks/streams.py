"""Ways to take a coreset from a stream of patches in bounded memory, beside the one from all patches at once.

    python benchmarks/streams.py [--patches 200000] [--banks 100 500] [--buffers 1000 10000]

- *all at once*: the greedy k-centres of all patches;
- *once a buffer*: a full buffer is reduced to its greedy k-centres, twice as many as the bank has rows, and filled again;
- *tree*: each bufferful is reduced so; two results of a level are put together and reduced, and go one level up
  (merge-and-reduce, as for mergeable summaries and composable coresets);
- *uncovered*: as once a buffer, but a patch that lies no farther from the centres than the last of them lay from the
  others is not held (what andon.models.patchcore does).

Patches are those of good images as benchmarks/scale.py makes them. CPU seconds of one thread; how often something was
reduced; the radius, the farthest that a patch lies from the bank, and the quantiles 0.999 and 0.5 of that distance.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from andon import __version__
from andon.features.neighbours import greedy_k_centre, nearest
from andon.models.patchcore import PatchCore
from scale import RESULTS, Images, cpu_name, paths

STEP = 2048  # patches that arrive together


class Reducer:
    """Greedy k-centres, counted."""

    def __init__(self, count: int) -> None:
        self.count, self.times = count, 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.times += 1
        return rows[greedy_k_centre(rows, min(self.count, len(rows)))]


def once_a_buffer(rows: Tensor, buffer: int, reduce: Reducer) -> Tensor:
    """What is held at the end of ``rows``."""
    held, at = rows[:0], 0
    while at < len(rows):
        room = buffer - len(held)
        held, at = torch.cat([held, rows[at : at + room]]), at + room
        if len(held) == buffer:
            held = reduce(held)
    return held


def tree(rows: Tensor, buffer: int, reduce: Reducer) -> Tensor:
    """What is held at the end of ``rows``."""
    levels: dict[int, Tensor] = {}
    whole = len(rows) // buffer * buffer
    for part in rows[:whole].split(buffer):
        summary, level = reduce(part), 0
        while level in levels:
            summary, level = reduce(torch.cat([levels.pop(level), summary])), level + 1
        levels[level] = summary
    return torch.cat([*(levels[level] for level in sorted(levels, reverse=True)), rows[whole:]])


def uncovered(rows: Tensor, buffer: int, reduce: Reducer) -> Tensor:
    """What is held at the end of ``rows``."""
    centres, reach, held = rows[:0], 0.0, rows[:0]
    for part in rows.split(STEP):
        new = part[nearest(part, centres)[0][:, 0] > reach] if len(centres) else part
        held = torch.cat([held, new])
        if len(held) >= buffer:
            centres = held = reduce(held)
            reach = float(nearest(centres[-1:], centres[:-1])[0])
    return held


def line(name: str, make: Callable[[], tuple[Tensor, int]], rows: Tensor) -> str:
    """One row of the table."""
    start = time.process_time()
    bank, times = make()
    seconds = time.process_time() - start
    distance = nearest(rows, bank)[0][:, 0].numpy()
    most, median = np.quantile(distance, [0.999, 0.5])
    return f"| {name} | {seconds:.1f} | {times} | {distance.max():.3f} | {most:.3f} | {median:.3f} |"


@torch.no_grad()
def patches(images: Images, count: int) -> Tensor:
    """So many patches (count, D) of good images."""
    detector = PatchCore()
    each = int(np.prod(detector.patches(torch.from_numpy(images.good[0])[None]).shape[2:]))
    found = []
    for at in range(0, -(-count // each), 8):
        batch = np.stack([images(path) for path in paths(at + 8)[at:]])
        found.append(detector.patches(torch.from_numpy(batch)).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(found)[:count]


def main() -> None:
    """Measure, print, and write streams.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patches", type=int, default=200_000)
    parser.add_argument("--banks", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--buffers", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mvtec_transistor"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = patches(Images(options.data, options.size), options.patches)
    lines = ["# Coresets of a stream", "",
             f"`python benchmarks/streams.py --patches {options.patches}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {cpu_name()}, "
             f"one thread, Python {platform.python_version()}, PyTorch {torch.__version__}, andon {__version__}. {options.data.name} at "
             f"{options.size}x{options.size}, andon-s: {len(rows):,} patches of {rows.shape[1]} numbers."]  # fmt: skip
    for bank, buffer in zip(options.banks, options.buffers, strict=True):
        lines += ["", f"Bank {bank:,}, buffer {buffer:,}:", "", "| | CPU s | reduced | radius | 0.999 | median |",
                  "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
        lines.append(line("all at once", lambda bank=bank: (Reducer(bank)(rows), 1), rows))  # type: ignore[misc]
        for way in (once_a_buffer, tree, uncovered):

            def make(way=way, bank=bank, buffer=buffer) -> tuple[Tensor, int]:  # type: ignore[no-untyped-def]
                reduce = Reducer(min(buffer // 2, 2 * bank))
                return Reducer(bank)(way(rows, buffer, reduce)), reduce.times

            lines.append(line(way.__name__.replace("_", " "), make, rows))
            print(lines[-1], flush=True)
    (options.out / "streams.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
