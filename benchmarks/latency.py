"""Milliseconds from a file to its verdict in the torch-free runtime, and the process' resident memory.

    python benchmarks/latency.py part.andon PHOTOS [--threads 2] [--images 200]

Reads each photograph from disk, decodes, resizes, runs the graph, finds regions and words. The first ten answers
are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

from andon.data import list_images
from andon.runtime.predictor import Predictor
from andon.types import Verdict

WARM_UP = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    assert "torch" not in sys.modules
    test = options.photos / "test"
    photos = list_images(test if test.is_dir() else options.photos)
    photos = (photos * (1 + (options.images + WARM_UP) // len(photos)))[: options.images + WARM_UP]
    predictor = Predictor.open(options.artifact, threads=options.threads)
    times = [answer.milliseconds for answer in predictor.inspect_many(photos) if isinstance(answer, Verdict)][
        WARM_UP:
    ]
    figures = {"p50_ms": float(np.percentile(times, 50)), "p99_ms": float(np.percentile(times, 99)),
               "mean_ms": float(np.mean(times)), "runtime_mb": resident_mb()}  # fmt: skip
    print(
        json.dumps(figures)
        if options.json
        else "\n".join(f"{key} {value:.2f}" for key, value in figures.items())
    )
    return 0


def resident_mb() -> float:
    """Resident memory of this process now, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
