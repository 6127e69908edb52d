"""How the image score is taken from the patch distances: the largest, or a mean of the largest ones.

    python benchmarks/image_score.py ../shared/data/magnetic_tile ../shared/data/mvtec_transistor [--backbone FILE]

PatchCore, 256x256 stretched, default settings, fitted on all good training images; image AUROC on all test images.
The first column is the paper's score (eq. 7).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from andon.data import read_samples
from andon.engine import Reader, fit
from andon.features.neighbours import nearest
from andon.image import Preprocessing, prepare
from andon.metrics import auroc
from andon.models.patchcore import PatchCore

LARGEST = (1, 10, 50)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--backbone", default="andon-s")
    options = parser.parse_args()
    columns = ["eq. 7", *(f"mean of {k} largest" for k in LARGEST), "mean of all"]
    print("| set | " + " | ".join(columns) + " |\n|" + "---|" * (1 + len(columns)))
    for root in options.roots:
        figures = compare(root, PatchCore(backbone=options.backbone))
        print(f"| {root.name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |", flush=True)
    return 0


def compare(root: Path, detector: PatchCore) -> list[float]:
    """Image AUROC of each way to take the score."""
    preprocessing = Preprocessing(size=(256, 256))
    samples = read_samples(root)
    reader = Reader(lambda path: prepare(path, preprocessing)[1].images[0])
    fit(detector, [s.path for s in samples if s.split != "test" and not s.is_anomalous], reader)
    test = [sample for sample in samples if sample.split == "test"]
    scores = [row for images in reader.tensors([s.path for s in test]) for row in rows(detector, images)]
    truth = np.array([sample.is_anomalous for sample in test])
    return [auroc(np.array(column), truth) for column in zip(*scores, strict=True)]


@torch.no_grad()
def rows(detector: PatchCore, images: torch.Tensor) -> list[list[float]]:
    """For each image its score by eq. 7, the means of its largest patch distances, and the mean of all."""
    found = []
    for image_score, patches in zip(detector(images).image_score, detector.patches(images), strict=True):
        distances = (
            nearest(patches.flatten(1).T, detector.memory_bank)[0].flatten().sort(descending=True).values
        )
        found.append(
            [float(image_score), *(float(distances[:k].mean()) for k in LARGEST), float(distances.mean())]
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
