"""What the benchmarks of privacy and of wrong sites share: sets at 128x128 in memory, detectors on states, figures."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.data import read_samples
from andon.data.masks import anomaly_mask
from andon.data.synthetic import write_line
from andon.federated.privacy import ClippedSum, PrivateBank, PrivateMoments
from andon.federated.privacy.public import SCENE_EVERY, public_images
from andon.image import Preprocessing, prepare
from andon.metrics import aupro, auroc
from andon.models import Detector
from andon.models.base import State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD
from andon.types import Sample

RESULTS = Path(__file__).parent / "results"
LINE, LINE_FOLDER, SIDE, DELTA = "line", "bracket_line", 128, 1e-5
SIZE = Preprocessing(size=(SIDE, SIDE))
CENTRES = 512
PUBLIC = 32
Statistic = PrivateMoments | PrivateBank
METHODS: dict[str, Callable[[], Detector]] = {
    "padim, a covariance a position": PaDiM,
    "padim, shared": lambda: PaDiM(covariance="shared"),
    "padim, diagonal": lambda: PaDiM(covariance="diagonal"),
    "subspacead": SubspaceAD,
    "patchcore, public centres": PatchCore,
}


class Loaded(NamedTuple):
    """One set at 128x128."""

    name: str
    good: Tensor  # (n, 3, H, W)
    test: Tensor
    truth: NDArray[np.bool_]
    masks: list[NDArray[np.bool_] | None]


def public_for(name: str) -> Tensor:
    """What anybody may see: for the synthetic line no pictures of that line itself."""
    images = public_images(SIZE.size, PUBLIC)
    drawn_ones = [number for number in range(PUBLIC) if number % SCENE_EVERY or name != LINE_FOLDER]
    return images[drawn_ones]


def load(name: str, good: int, test: int, seed: int = 0) -> Loaded:
    """The set: at most ``good`` good images, and ``test`` good and ``test`` defective test images, drawn by ``seed``."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(name)
        if name == LINE:
            root = write_line(Path(folder), train=min(good, 120), test_good=min(test, 40), per_defect=math.ceil(min(test, 60) / 10), size=(SIDE, SIDE))  # fmt: skip
        samples = read_samples(root)
        rng = np.random.default_rng(seed)
        fit = drawn([s for s in samples if s.split != "test" and not s.is_anomalous], good, rng)
        tested = [s for kind in (False, True) for s in drawn([s for s in samples if s.split == "test" and s.is_anomalous == kind], test, rng)]  # fmt: skip
        masks = [mask_of(one) for one in tested]
        truth = np.array([one.is_anomalous for one in tested])
        order = torch.from_numpy(rng.permutation(len(fit)))  # on disk they follow the day's light
        return Loaded(root.name, read(fit)[order], read(tested), truth, masks)


def drawn(samples: Sequence[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """At most ``count`` of them."""
    return [samples[i] for i in sorted(rng.permutation(len(samples))[:count])]


def read(samples: Sequence[Sample]) -> Tensor:
    """(n, 3, H, W)."""
    return torch.from_numpy(np.concatenate([prepare(one.path, SIZE)[1].images for one in samples]))


def mask_of(sample: Sample) -> NDArray[np.bool_] | None:
    """Where the defect is, at 128x128; None where nothing is wrong or nobody marked it."""
    return anomaly_mask(sample, SIZE.size) if sample.is_anomalous and sample.masks else None


def figures(detector: Detector, of: Loaded) -> dict[str, float]:
    """Image AUROC and AUPRO on the test images; AUPRO leaves out defects that nobody marked."""
    with torch.inference_mode():
        scores = [detector(part) for part in of.test.split(16)]
    image_score = torch.cat([one.image_score for one in scores]).numpy()
    maps = torch.cat([one.anomaly_map for one in scores])[:, 0].numpy()
    marked = [i for i, bad in enumerate(of.truth) if not bad or of.masks[i] is not None]
    return {
        "auroc": auroc(image_score, of.truth),
        "aupro": aupro(maps[marked], [of.masks[i] for i in marked]),
    }


def statistic_of(detector: Detector, public: Tensor, *, worst_case: bool = False) -> Statistic:
    """The private statistic, as `andon.federated.privacy` takes it."""
    if isinstance(detector, PatchCore):
        return PrivateBank(detector, public, CENTRES)
    assert isinstance(detector, PaDiM | SubspaceAD)
    return PrivateMoments(detector, public, worst_case=worst_case)


def summed(statistic: Statistic, images: Tensor) -> ClippedSum:
    """The clipped sums over ``images``; a moment's are taken once."""
    known = getattr(statistic, "known_sums", {})
    if images.data_ptr() not in known:
        sums = statistic.gather()
        for part in images.split(8):
            sums.add(statistic.blocks(statistic.features(part)))
        if isinstance(statistic, PrivateBank):  # other centres, other sums
            return sums
        known[images.data_ptr()] = sums
    return known[images.data_ptr()]


def closed(detector: Detector, state: State) -> Detector:
    """``detector`` on ``state``."""
    detector.reset()
    detector.load_statistics(state)
    detector.close()
    return detector


def table_head(names: Sequence[str]) -> list[str]:
    """Two lines."""
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
