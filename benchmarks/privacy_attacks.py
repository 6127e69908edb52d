"""The two attacks of benchmarks/privacy.py: who is in what a site sends, and what its patches look like."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from andon.errors import AndonError
from andon.federated import Contribution
from andon.federated.attacks import (
    bank_membership,
    inverted,
    likeness,
    mean_membership,
    membership,
    nearest_public,
    windows,
)
from andon.federated.privacy import PrivateBank, noise_for
from andon.federated.privacy.mechanism import COUNT
from andon.models import Detector
from andon.models.patchcore import PatchCore
from privacy_sets import CENTRES, DELTA, METHODS, SIDE, Loaded, Statistic, public_for, statistic_of, summed

WINDOW, MIDDLE = 64, 24  # pixels of a picture made of a row, and of its middle that is compared
ROWS = 12  # turned into pictures


# --- 3. membership -------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """Good images of one set: the site's, the attacker's, and those to be told from the site's."""

    site: Tensor
    known: Tensor
    others: Tensor


def parts_of(of: Loaded) -> Parts:
    """A half, a quarter and a quarter."""
    half, rest = len(of.good) // 2, len(of.good) // 4
    return Parts(of.good[:half], of.good[half : half + rest], of.good[half + rest :])


def attacks(of: Loaded, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a method and epsilon; None for what is sent without privacy."""
    parts, public = parts_of(of), public_for(of.name)
    for name, make in METHODS.items():
        statistic = statistic_of(make(), public)
        named = ["sums"] if isinstance(statistic, PrivateBank) else ["total", "second"]
        if statistic.positions * statistic.dimensions > 20_000:
            named = named[:1]  # a covariance a position of every image does not fit into memory
        for epsilon in (None, *options.epsilons):
            if isinstance(statistic, PrivateBank) and epsilon is None:
                scores = [on_rows(make(), statistic, parts, one) for one in (parts.site, parts.others)]
            else:
                scores = on_sums(statistic, parts, named, epsilon)
            found = membership(*scores, DELTA)
            row = {"method": name, "epsilon": epsilon, "images": len(parts.site), **vars(found)}
            print(of.name, json.dumps(row), flush=True)
            yield row


def on_rows(detector: Detector, statistic: Statistic, parts: Parts, images: Tensor) -> NDArray[np.float64]:
    """The attack on a bank as it is sent without privacy."""
    assert isinstance(detector, PatchCore)
    for part in parts.site.split(8):
        detector.observe(part)
    detector.close()
    return bank_membership(detector.memory_bank, torch.cat([statistic.features(part) for part in images.split(8)]))  # fmt: skip


def on_sums(statistic: Statistic, parts: Parts, named: Sequence[str], epsilon: float | None) -> list[NDArray[np.float64]]:  # fmt: skip
    """The tracing attack on sums, unclipped and without noise (None), or as they are released."""
    vectors = [vectors_of(statistic, images, named) for images in parts]
    sums = summed(statistic, parts.site)
    if epsilon is None:
        mean = vectors[0].mean(0)
    else:
        told = sums.released(1e-9 if math.isinf(epsilon) else noise_for(epsilon, DELTA), rng=np.random.default_rng(3))  # fmt: skip
        mean = torch.cat([told[name].flatten() for name in named]) / max(float(told[COUNT]), 1.0)
    return [mean_membership(mean, vectors[which], vectors[1]) for which in (0, 2)]


def vectors_of(statistic: Statistic, images: Tensor, named: Sequence[str]) -> Tensor:
    """(n, m): what each image contributes."""
    found = [statistic.blocks(statistic.features(part)) for part in images.split(4)]
    return torch.cat([torch.cat([one[name].flatten(1).float() for name in named], 1) for one in found])


# --- 4. inversion --------------------------------------------------------------------------------------------------------


def inversion(of: Loaded, options: argparse.Namespace, picture: Path | None) -> list[dict[str, Any]]:
    """Correlation with the site's own pictures, mean over the rows; also with private rows at epsilon 8."""
    parts, public = parts_of(of), public_for(of.name)
    detector = PatchCore()
    for part in parts.site.split(8):
        detector.observe(part)
    detector.close()
    statistic = PrivateBank(PatchCore(), public, CENTRES)
    told = summed(statistic, parts.site).released(noise_for(8.0, DELTA), rng=np.random.default_rng(3))
    try:
        private = statistic.merged([Contribution("site", statistic.state(told), 1)], noise_for(8.0, DELTA))["patches"]  # fmt: skip
    except AndonError:
        private = detector.memory_bank[:0]
    found = []
    for label, rows in (("rows of the site's coreset", detector.memory_bank), ("private rows, epsilon 8", private)):  # fmt: skip
        rows = rows[np.random.default_rng(0).permutation(len(rows))[:ROWS]]
        if len(rows):
            shown = pictures_of(detector, rows, parts, public, options.invert)
            truth = shown.pop("the site's own")
            found.append({"rows": label, **{way: float(likeness(of_way, truth, MIDDLE).mean()) for way, of_way in shown.items()}})  # fmt: skip
            print(of.name, json.dumps(found[-1]), flush=True)
            if picture and label.startswith("rows"):
                save_pictures(picture, [truth, *shown.values()])
    return found


def pictures_of(
    detector: PatchCore, rows: Tensor, parts: Parts, public: Tensor, steps: int
) -> dict[str, Tensor]:
    """(M, 3, S, S) by each way; "the site's own": the window of its images whose patch is most like the row."""
    own = nearest_public(detector, rows, parts.site, WINDOW)
    rng = np.random.default_rng(1)
    grid = (SIDE // 8, SIDE // 8)
    anywhere = torch.tensor([[rng.integers(len(parts.known)), rng.integers(grid[0]), rng.integers(grid[1])] for _ in rows])  # fmt: skip
    return {
        "the site's own": own,
        "by optimisation": inverted(detector, rows, WINDOW, steps=steps),
        "nearest public patch": nearest_public(detector, rows, public, WINDOW),
        "nearest patch of another site": nearest_public(detector, rows, parts.known, WINDOW),
        "any patch of another site (guessing)": windows(parts.known, anywhere, grid, WINDOW),
    }


def save_pictures(path: Path, lines: Sequence[Tensor]) -> None:
    """One line of pictures a way, the site's own first."""
    sheet = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1)
    Image.fromarray((sheet.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(path, optimize=True)
