"""Milliseconds from a file to its verdict in the torch-free runtime, and the process' resident memory.

    python -m andon.bench.timing part.andon PHOTOS --threads 2 --images 200

PHOTOS: a folder (of a data set, its test images are taken), or a .txt file that lists photographs, one a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from andon.data import list_images
from andon.errors import DataError
from andon.runtime.predictor import Predictor
from andon.types import Verdict

WARM_UP = 10


def measure(
    artifact: Path, photos: Sequence[Path], threads: int = 2, images: int = 200
) -> dict[str, float | None]:
    """``p50_ms``, ``p99_ms``, ``images_per_second``, ``runtime_mb``: reading from disk, decoding, resizing, the graph, words.

    ``images`` of the ``photos``, again from the first where there are fewer; the first ten answers are not counted. Raises
    :class:`DataError` when there are none, or none can be read.
    """
    listed = [photos[number % len(photos)] for number in range(images + WARM_UP)] if photos else []
    predictor = Predictor.open(artifact, threads=threads)
    times = [answer.milliseconds for answer in predictor.inspect_many(listed) if isinstance(answer, Verdict)][
        WARM_UP:
    ]
    if not times:
        raise DataError(f"there is no readable photograph to time among {len(photos)}")
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "images_per_second": 1000 / float(np.mean(times)), "runtime_mb": resident_mb()}  # fmt: skip


def resident_mb() -> float | None:
    """Resident memory of this process now, in MB; None where the system does not say (Linux does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _listed(photos: Path) -> list[Path]:
    if photos.suffix == ".txt":
        return [Path(line) for line in photos.read_text().splitlines()]
    test = photos / "test"
    return list_images(test if test.is_dir() else photos)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--threads", default=2, show_default=True)
@click.option("--images", default=200, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(artifact: Path, photos: Path, threads: int, images: int, as_json: bool) -> None:
    """Print what :func:`measure` finds."""
    if "torch" in sys.modules:
        raise click.ClickException("torch is loaded: this would not be the line computer's memory")
    figures = measure(artifact, _listed(photos), threads, images)
    lines = "\n".join(f"{key} {value:.2f}" for key, value in figures.items() if value is not None)
    click.echo(json.dumps(figures) if as_json else lines)


if __name__ == "__main__":
    main()
