"""The image score of methods that repaint: how unusual the residual is at its place, or the map's largest value.

    andon data draw line --train 80 --test-good 30 --per-defect 5
    python benchmarks/repainting_score.py line ../shared/data/magnetic_tile [--methods autoencoder vae] [--minutes 1]

Each method is fitted once a set, on all good training images at 128x128, and its images are then scored in each way with the
same weights: image AUROC on all test images. "paper" is the paper's own score where it is neither of the two.
Writes results/repainting_score.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from andon.data import read_samples
from andon.engine import Reader, fit
from andon.files import atomic_write
from andon.image import Preprocessing, prepare
from andon.metrics import auroc
from andon.models import DETECTORS, build
from andon.models.reconstructing import PAPER, PEAK, UNUSUAL, ReconstructingDetector
from andon.training import Plan

METHODS = [name for name, of in DETECTORS.items() if issubclass(of, ReconstructingDetector)]
RESULTS = Path(__file__).parent / "results"
SIZE = (128, 128)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, each")
    parser.add_argument("--out", type=Path, default=RESULTS / "repainting_score.md")
    options = parser.parse_args()
    lines = [
        "# How methods that repaint take the image score",
        "",
        "Image AUROC of each way with the same weights, on all test images at 128x128. Trained for "
        f"{options.minutes:g} min each, seed 0, one run.",
        "",
        f"    python benchmarks/repainting_score.py {' '.join(root.name for root in options.roots)}",
        "",
        "| set | method | steps | unusual | peak | paper |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for root in options.roots:
        for line in rows(root, options.methods, options.minutes):
            print(line, flush=True)
            lines.append(line)
    with atomic_write(options.out, "w") as file:
        file.write("\n".join(lines) + "\n")
    return 0


def rows(root: Path, methods: list[str], minutes: float) -> Iterator[str]:
    """One line of the table for each method."""
    preprocessing = Preprocessing(size=SIZE)
    reader = Reader(lambda path: prepare(path, preprocessing)[1].images[0])
    samples = read_samples(root)
    good = [sample.path for sample in samples if sample.split != "test" and not sample.is_anomalous]
    test = [sample for sample in samples if sample.split == "test"]
    truth = np.array([sample.is_anomalous for sample in test])
    for method in methods:
        detector = build(method)
        assert isinstance(detector, ReconstructingDetector)
        report = fit(detector, good, reader, plan=Plan(minutes=minutes))
        figures = []
        for score in (UNUSUAL, PEAK, *([PAPER] if detector.has_paper_score else [])):
            detector.score = score
            with torch.no_grad():
                scores = [detector(images).image_score for images in reader.tensors([s.path for s in test])]
            figures.append(f"{auroc(torch.cat(scores).numpy(), truth):.3f}")
        cells = [root.name, method, str(len(report.losses)), *figures, *[""] * (3 - len(figures))]
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
