"""PatchCore's search: in two stages or exact, rows of the memory bank, directions along which patches are compared.

    python benchmarks/search.py ../shared/data/mvtec_transistor [...] [--rows 500 1000 2000 4000] [--directions 96 64 48 32] \
        [--size 256] [--images 40] [--results benchmarks/results/search.json]

Each set is fitted once with the largest bank: the greedy choice takes its centres in order, so a smaller bank is the
beginning of a larger one. Curves, all exact: every number of rows along all directions, and every number of directions with
the default number of rows; beside them the two stages, with the default number. *variance*: share of the bank's variance that lies along the directions; *other row*: share of patches
for which another row than along all directions is the nearest. Accuracy on all test images, at
the network's size. What the searches cost: benchmarks/latency.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from andon.data import read_channels, read_samples
from andon.engine import Reader, fit
from andon.evaluate import evaluate
from andon.files import atomic_write
from andon.image import Preprocessing, prepare
from andon.models.patchcore import PatchCore
from andon.types import Sample

FIGURES = {"image_auroc": "image AUROC", "image_ap": "AP", "aupro_30": "AUPRO"}
DEFAULT_ROWS = 2000
SEARCHES = {"exact": "exact", "two_stage": "two stages"}
PAGE = """# PatchCore's search: two stages, rows of the bank, and directions

{date}, torch {torch}, made by

    python benchmarks/search.py SET ... --rows 500 1000 2000 4000 --directions 128 112 96 80 64 48 --results benchmarks/results/search.json

with andon-s at 256x256 and all images; what the columns mean is said there.

{table}
"""


def main() -> int:
    options = arguments()
    known = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    for root in options.roots:
        known |= {
            f"{root.name} {row['rows']} {row['directions']} {row['search']}": row | {"set": root.name}
            for row in study(root, options)
        }
        if options.results:
            keep(known, options.results)
    print(table(known))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path, help="folders in a known layout")
    parser.add_argument("--rows", nargs="+", type=int, default=[500, 1000, 2000, 4000, 8000])
    parser.add_argument("--directions", nargs="+", type=int, default=[96, 64, 48, 32, 16])
    parser.add_argument("--size", type=int, default=256, help="rows and columns; a multiple of 32")
    parser.add_argument(
        "--images", type=int, help="at most so many good ones for the fit, and of a kind for the test"
    )
    parser.add_argument("--results", type=Path, help="JSON file that is added to; the table goes to .md")
    return parser.parse_args()


def study(root: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of the table for one set."""
    samples = read_samples(root)

    def some(is_test: bool, is_anomalous: bool) -> list[Sample]:
        found = [s for s in samples if (s.split == "test") == is_test and s.is_anomalous == is_anomalous]
        return found[: options.images]

    train, test = some(False, False), some(True, False) + some(True, True)
    preprocessing = Preprocessing(size=(options.size, options.size))
    reader = Reader(lambda path: prepare(path, preprocessing)[1].images[0])
    rows = max(options.rows)
    largest = PatchCore(bank_limit=rows, coreset_fraction=1.0, buffer_limit=max(200_000, 2 * rows))
    fit(largest, [s.path for s in train], reader)
    cells = [(count, 0, "exact") for count in options.rows]
    cells += [(DEFAULT_ROWS, 0, "two_stage")]
    cells += [(DEFAULT_ROWS, count, "exact") for count in options.directions]
    detectors = {cell: shortened(largest, *cell) for cell in dict.fromkeys(cells)}
    answers = scored(detectors, [s.path for s in test], reader)
    exact = answers.get((DEFAULT_ROWS, 0, "exact"))
    for (count, directions, search), found in answers.items():
        known = {s.path: (found.scores[k], found.maps[k]) for k, s in enumerate(test)}
        judged = evaluate(test, lambda s, known=known: known[s.path], channels=read_channels, bootstrap=0,
                          size=(options.size, options.size))  # fmt: skip
        figures = {name: judged.groups["all"][name].value for name in FIGURES}
        apart = (
            compared(detectors[count, directions, search], found, exact)
            if exact and count == DEFAULT_ROWS
            else {}
        )
        yield {
            "rows": count,
            "directions": directions,
            "search": search,
            **figures,
            **apart,
            "train": len(train),
            "test": len(test),
        }


class Found:
    """What one detector answered for all images."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.maps: list[NDArray[np.float32]] = []
        self.indices: list[NDArray[np.int64]] = []


def shortened(largest: PatchCore, rows: int, directions: int, search: str) -> PatchCore:
    """``largest`` with the first ``rows`` of its bank, and a ``search`` along ``directions``."""
    detector = PatchCore(backbone=largest.backbone, bank_limit=rows, dimensions=directions, search=search)
    detector.load_statistics({
        "patches": largest.memory_bank[:rows], "seen": torch.tensor(1), "patches_seen": torch.tensor(10**9)
    })  # fmt: skip
    detector.close()
    return detector


@torch.no_grad()
def scored(detectors: dict[Any, PatchCore], paths: list[Path], reader: Reader) -> dict[Any, Found]:
    """The answers of every detector; the backbone runs once an image."""
    found = {cell: Found() for cell in detectors}
    extract = next(iter(detectors.values())).patches
    for images in reader.tensors(paths):
        patches = extract(images)
        for cell, detector in detectors.items():
            detector.patches = lambda _, patches=patches: patches  # type: ignore[method-assign]
            answer, one = detector(images), found[cell]
            one.scores += answer.image_score.tolist()
            one.maps += list(answer.anomaly_map[:, 0].numpy())
            assert answer.nearest is not None
            one.indices.append(answer.nearest.flatten().numpy())
    return found


def compared(detector: PatchCore, found: Found, exact: Found) -> dict[str, float]:
    """The variance along the directions, and how often they lead to another row, in percent."""
    rows = detector.memory_bank - detector.memory_bank.mean(0)
    along = rows if detector.axes is None else rows @ detector.axes
    other = np.concatenate(found.indices) != np.concatenate(exact.indices)
    return {
        "variance": 100 * float(along.square().sum() / rows.square().sum()),
        "other": 100 * float(other.mean()),
    }


# --- the table -------------------------------------------------------------------------------------------------


def keep(known: dict[str, dict[str, Any]], path: Path) -> None:
    """Write the figures to ``path``, the table beside it."""
    with atomic_write(path, "w") as file:
        json.dump(known, file, indent=1)
    with atomic_write(path.with_suffix(".md"), "w") as file:
        file.write(PAGE.format(date=time.strftime("%Y-%m-%d"), torch=torch.__version__, table=table(known)))


def table(known: dict[str, dict[str, Any]]) -> str:
    """In Markdown, a line a cell."""
    head = ["set", "search", "rows", "directions", *FIGURES.values(), "variance %", "other row %"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in known.values():
        apart = [f"{row[name]:.2f}" if name in row else "" for name in ("variance", "other")]
        figures = ["none" if row[name] is None else f"{row[name]:.4f}" for name in FIGURES]
        lines.append(
            "| "
            + " | ".join(
                [
                    row["set"],
                    SEARCHES[row["search"]],
                    str(row["rows"]),
                    str(row["directions"] or "all"),
                    *figures,
                    *apart,
                ]
            )
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
