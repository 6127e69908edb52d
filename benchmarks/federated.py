"""Federated fitting beside local and centralised fitting, on the synthetic line and on real sets.

    OMP_NUM_THREADS=1 python benchmarks/federated.py ../shared/data [--size 128x128] [--seeds 3] [--results benchmarks/results]

1. Curve: the synthetic line dealt to four sites in mixtures of its looks, alpha from 0.1 to 100, a partition a seed.
2. Lines: the synthetic line, and real sets (folders in MVTec's layout), each made by lines with lamps, cameras and prints
   of their own; and dealt in shares of unequal size.
3. Categories: the real sets themselves, one a site.

PaDiM and PatchCore in one round, on andon-s. The work is `andon federate compare`'s: what was computed is kept in ``--out``,
and the same command goes on where it stopped. The page is ``OUT/report.html``; its Markdown and figures go to ``--results``.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from andon import __version__
from andon.data.synthetic import write_line
from andon.federated import Plan
from andon.federated.comparing import Cell, cells_of, compare
from andon.federated.page import write_comparison
from andon.federated.partition_files import write_partition
from andon.federated.partitions import Partition, Recipe, draw_partition

ALPHAS = (0.1, 1.0, 10.0, 100.0)
LINES = ("mvtec_transistor", "mvtec_loco_juice_bottle")  # made by several lines
CATEGORIES = ("aws_cookies", "magnetic_tile", "mvtec_loco_juice_bottle", "mvtec_transistor")
SITES = 4
MODES = 6
DRAWN = {
    "train": 240,
    "test_good": 96,
    "per_defect": 6,
    "size": (192, 256),
    "seed": 7,
}  # of the synthetic line


def main() -> None:
    """Compute what is missing, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="?", type=Path, help="folder of the real sets; without it the synthetic line alone"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("federated"), help="folder for the page and what is computed"
    )
    parser.add_argument("--methods", nargs="+", default=["padim", "patchcore"])
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="folder for federated.md and federated.json")
    options = parser.parse_args()
    rows, columns = (int(side) for side in options.size.split("x"))
    plans = [Plan(method, size=(rows, columns), target_rate=0.05) for method in options.methods]
    partitions, cells = asked(options.data, options.out, plans, options.seeds)
    found = compare(cells, options.out, say=tell(len(cells)))
    pages = write_comparison(options.out, found, partitions)
    print("\n".join(map(str, pages)))
    if options.results:
        text = f"{header()}\n\n{pages[1].read_text(encoding='utf-8')}"
        (options.results / "federated.md").write_text(text, encoding="utf-8")
        (options.results / "federated.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def asked(
    data: Path | None, out: Path, plans: Sequence[Plan], seeds: int
) -> tuple[list[Partition], list[Cell]]:
    """All partitions, stored in ``out``, and all cells."""
    line = out / "line" / "bracket_line"
    if not line.exists():
        write_line(line.parent, **DRAWN)  # type: ignore[arg-type]
    once = list(curve(line, seeds))
    repeated = [draw_partition([line], Recipe(by, SITES)) for by in ("line", "size")]
    if data is not None:
        repeated += [draw_partition([data / name], Recipe("line", SITES)) for name in LINES]
        repeated.append(draw_partition([data / name for name in CATEGORIES], Recipe("category")))
    for number, partition in enumerate([*once, *repeated]):
        write_partition(out / f"partition-{number:02}.json", partition)
    return [*once, *repeated], [*cells_of(once, plans, 1), *cells_of(repeated, plans, seeds)]


def curve(line: Path, seeds: int) -> Iterator[Partition]:
    """For each alpha a partition a seed."""
    for alpha in ALPHAS:
        for seed in range(seeds):
            yield draw_partition([line], Recipe("dirichlet", SITES, seed, alpha, MODES))


def tell(total: int):  # type: ignore[no-untyped-def]
    """What prints a line a cell."""
    began, done = time.monotonic(), 0

    def say(cell: Cell, row: dict[str, object]) -> None:
        nonlocal done
        done += 1
        print(
            f"{done}/{total} {time.monotonic() - began:6.0f} s  {cell.key}  {row.get('error', '')}",
            flush=True,
        )

    return say


def header() -> str:
    """What was run, when and where."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return (
        "# Federated, local and centralised fitting\n\n"
        f"`OMP_NUM_THREADS=1 python benchmarks/federated.py {shlex.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}, {cpu}, {torch.get_num_threads()} thread, Python {platform.python_version()}, "
        f"andon {__version__}, torch {torch.__version__}, NumPy {np.__version__}."
    )


if __name__ == "__main__":
    main()
