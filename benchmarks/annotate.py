"""How good pseudo-annotations are: the regions that ``andon annotate`` writes against masks that people drew.

    python benchmarks/annotate.py ../shared/data/mvtec_transistor ../shared/data/magnetic_tile \
        [--methods patchcore padim] [--size 128x128] [--artifacts FOLDER] [--out benchmarks/results]

Each method is fitted on the good training images with the command's own defaults (a quarter of them kept for the
threshold); every test image is then annotated as the command does it, and compared at the photograph's own size:

- images: by the command's default (those that fail or are for review), and by the map alone (``--verdict all``) at a few
  levels (``--level``);
- marked: share of the defective (and of the good) images with a region;
- defects hit: share of the true masks' connected areas that a region touches;
- IoU: intersection over union of all regions of an image and its true mask, the mean over the defective images that
  have a mask, and over those of them that have a region; and the best mean that any one threshold of the map could
  have had, chosen in hindsight, by the map alone;
- confidence: of all regions, by the map alone, the share that touches a defect at a confidence below one half and from
  there on, and how well confidence tells those that do from those that do not (AUROC);
- corners: of the polygons an image at the default tolerance and at 0, and the IoU of polygons with their regions.

Nothing was tuned to these sets. ``--artifacts`` keeps the fitted detectors, and takes those that are there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from andon import __version__
from andon.calibrate import decide
from andon.components import label
from andon.data import anomaly_mask, read_samples
from andon.files import atomic_write
from andon.image import resize_map
from andon.metrics import auroc
from andon.outline import fill
from andon.pipeline import FitOptions, fit
from andon.runtime.annotate import TOLERANCE, AnnotatedImage, Mark, find_marks, image_mask
from andon.runtime.predictor import Predictor
from andon.types import Sample

Mask = NDArray[np.bool_]
THRESHOLDS = 60  # tried in hindsight
LEVELS = (1.0, 0.8, 0.6)
PAGE = """# Pseudo-annotations against masks that people drew

`{command}`, {date}, {cores} cores ({machine}), one thread, andon {andon}, ONNX Runtime {onnxruntime}, NumPy {numpy}.

{tables}

*Default*: images that fail or are for review; *map*: all images, by the map alone (`--verdict all`), at a `--level`. IoU: of all regions of an image with
its true mask, the mean over the defective images with a mask; *of marked*: over those with a region. *In hindsight*:
the best mean IoU of any one threshold of the map.

{confidence}

Regions of all test images, by the map alone. *AUROC*: how well confidence tells regions that touch a defect from those
that do not.

{corners}

Corners of all polygons of an image that has some, the median; the IoU of a polygon with its region, the mean and the
lowest.
"""


@dataclass(frozen=True)
class Looked:
    """One test image: what the detector found by the map alone, and the truth."""

    size: tuple[int, int]
    is_anomalous: bool
    passed: bool
    anomaly_map: NDArray[np.float32]
    true: Mask | None  # None where nobody drew it
    at_level: dict[float, tuple[Mark, ...]]
    exact: tuple[Mark, ...]  # at level 1, with a tolerance of 0

    @property
    def marks(self) -> tuple[Mark, ...]:
        return self.at_level[1.0]

    def found(self, level: float) -> Mask:
        return image_mask(AnnotatedImage("", "", self.size, "fail", 1.0, self.at_level[level])) > 0


def look(predictor: Predictor, sample: Sample) -> Looked:
    """The detector's marks on one image, and the mask that people drew."""
    measured = predictor.measure(sample.path)
    size = (measured.photo.pixels.shape[0], measured.photo.pixels.shape[1])
    true = np.zeros(size, bool) if not sample.is_anomalous else None
    if sample.masks:
        true = anomaly_mask(sample, size)
    threshold = predictor.calibration.map_threshold
    passed = decide(measured.image_score, predictor.calibration) == "pass"
    levels = {level: find_marks(measured.anomaly_map, threshold, size, level=level) for level in LEVELS}
    exact = find_marks(measured.anomaly_map, threshold, size, tolerance=0.0)
    return Looked(size, sample.is_anomalous, passed, measured.anomaly_map, true, levels, exact)


def iou(found: Mask, true: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    return float((found & true).sum() / max(1, (found | true).sum()))


def figures(images: Sequence[Looked], threshold: float) -> dict[str, Any]:
    """Every figure of one detector on one set, JSON-ready."""
    good = [image for image in images if not image.is_anomalous]
    masked = [image for image in images if image.is_anomalous and image.true is not None]
    return {
        "good": len(good), "defective": len(masked), "map_threshold": threshold,
        "default": agreement(masked, good, 1.0, judged=True),
        "map": {str(level): agreement(masked, good, level) for level in LEVELS}, "hindsight": hindsight(masked),
        "confidence": by_confidence([*good, *masked]),
        "corners": corners([*good, *masked]),
    }  # fmt: skip


def agreement(
    masked: Sequence[Looked], good: Sequence[Looked], level: float, *, judged: bool = False
) -> dict[str, Any]:
    """Shares and IoU; ``judged``: images that pass have no regions."""
    shown = [image.found(level) & np.bool_(not (judged and image.passed)) for image in masked]
    false = [0 if judged and image.passed else len(image.at_level[level]) for image in good]
    overlaps = [iou(found, image.true) for found, image in zip(shown, masked) if image.true is not None]
    hits = [
        hit
        for found, image in zip(shown, masked)
        if image.true is not None
        for hit in defects_hit(found, image.true)
    ]
    return {
        "defective_marked": mean(found.any() for found in shown), "defects": len(hits), "defects_hit": mean(hits),
        "iou": mean(overlaps), "iou_of_marked": mean(o for o, found in zip(overlaps, shown) if found.any()),
        "good_marked": mean(count > 0 for count in false), "regions_a_good_image": mean(false),
    }  # fmt: skip


def defects_hit(found: Mask, true: Mask) -> list[bool]:
    """For each connected area of the true mask whether a region touches it."""
    labels, count = label(true)
    touched = set(np.unique(labels[found]).tolist())
    return [number in touched for number in range(1, count + 1)]


def hindsight(masked: Sequence[Looked]) -> float:
    """The best mean IoU of any one threshold of the map."""
    pairs = [
        (resize_map(i.anomaly_map, (i.true.shape[0], i.true.shape[1])), i.true)
        for i in masked
        if i.true is not None
    ]
    values = np.concatenate([found[::4, ::4].ravel() for found, _ in pairs])
    tried = np.quantile(values, np.linspace(0.5, 0.9995, THRESHOLDS))
    return max(mean(iou(found > threshold, true) for found, true in pairs) for threshold in tried)


def by_confidence(images: Sequence[Looked]) -> dict[str, Any]:
    """Whether regions touch a defect, by their confidence."""
    rows = [(mark.confidence, touches(mark, image.true))
            for image in images if image.true is not None for mark in image.marks]  # fmt: skip
    sure, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return {
        "regions": len(rows), "below": int((sure < 0.5).sum()), "below_right": mean(right[sure < 0.5]),
        "above": int((sure >= 0.5).sum()), "above_right": mean(right[sure >= 0.5]),
        "auroc": auroc(sure, right) if 0 < right.sum() < len(rows) else None,
    }  # fmt: skip


def touches(mark: Mark, true: Mask) -> bool:
    top, left, bottom, right = mark.box
    return bool((mark.mask & true[top:bottom, left:right]).any())


def corners(images: Sequence[Looked]) -> dict[str, Any]:
    """How many corners polygons have, and how true they are to their regions."""
    drawn = [image for image in images if image.marks]
    overlaps = []
    for mark in (mark for image in drawn for mark in image.marks):
        top, left, bottom, right = mark.box
        ring = mark.polygon - np.array([left, top])
        overlaps.append(iou(fill([ring], (bottom - top, right - left)), mark.mask))
    return {
        "default": float(np.median([sum(len(m.polygon) for m in image.marks) for image in drawn])),
        "exact": float(np.median([sum(len(m.polygon) for m in image.exact) for image in drawn])),
        "iou": mean(overlaps), "lowest_iou": min(overlaps),
    }  # fmt: skip


def mean(values: Iterable[float]) -> float:
    """nan of nothing."""
    listed = [float(value) for value in values]
    return sum(listed) / len(listed) if listed else float("nan")


def detector(root: Path, method: str, size: tuple[int, int], folder: Path) -> Predictor:
    """The detector in ``folder``, fitted and put there if it is not."""
    path = folder / f"{root.name}-{method}.andon"
    if not path.exists():
        fit(root, method=method, options=FitOptions(size=size)).save(path)
    return Predictor.open(path, threads=1)


def page(results: dict[str, dict[str, Any]], command: str) -> str:
    """The results as Markdown."""
    rows, sure, corner = [], [], []
    for name, found in results.items():
        shown = {
            "default": found["default"],
            **{f"map, {level}": part for level, part in found["map"].items()},
        }
        for which, part in shown.items():
            rows.append(
                f"| {name} | {which} | {percent(part['defective_marked'])} of {found['defective']} | "
                f"{percent(part['defects_hit'])} of {part['defects']} | {part['iou']:.2f} | {part['iou_of_marked']:.2f} | "
                f"{found['hindsight']:.2f} | {percent(part['good_marked'])} of {found['good']} | "
                f"{part['regions_a_good_image']:.2f} |"
            )
        part = found["confidence"]
        area = "" if part["auroc"] is None else f"{part['auroc']:.2f}"
        sure.append(f"| {name} | {part['regions']} | {percent(part['below_right'])} of {part['below']} | "
                    f"{percent(part['above_right'])} of {part['above']} | {area} |")  # fmt: skip
        part = found["corners"]
        corner.append(
            f"| {name} | {part['default']:.0f} | {part['exact']:.0f} | {part['iou']:.3f} | {part['lowest_iou']:.2f} |"
        )
    return PAGE.format(
        command=command, date=datetime.date.today(), cores=os.cpu_count(), machine=platform.machine(), andon=__version__,
        onnxruntime=onnxruntime.__version__, numpy=np.__version__,
        tables=table("set, method | images | defective marked | defects hit | IoU | of marked | in hindsight | good marked | "
                     "regions a good image", rows),
        confidence=table("set, method | regions | right below 0.5 | right from 0.5 on | AUROC", sure),
        corners=table(f"set, method | corners at {TOLERANCE:g} pixel | at 0 | IoU | lowest", corner),
    )  # fmt: skip


def table(head: str, rows: Sequence[str]) -> str:
    return "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows])


def percent(share: float) -> str:
    return "none" if np.isnan(share) else f"{100 * share:.0f} %"


def main() -> None:
    """Fit, annotate, compare, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--methods", nargs="+", default=["patchcore", "padim"])
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--artifacts", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rows, columns = map(int, options.size.split("x"))
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as spare:
        for root in options.roots:
            for method in options.methods:
                predictor = detector(root, method, (rows, columns), options.artifacts or Path(spare))
                images = [look(predictor, sample) for sample in read_samples(root) if sample.split == "test"]
                results[f"{root.name}, {method}"] = figures(images, predictor.calibration.map_threshold)
                print(root.name, method, results[f"{root.name}, {method}"], flush=True)
    names = " ".join(root.name for root in options.roots)
    command = (
        f"python benchmarks/annotate.py {names} --methods {' '.join(options.methods)} --size {options.size}"
    )
    for name, text in (
        ("annotate.md", page(results, command)),
        ("annotate.json", json.dumps(results, indent=1)),
    ):
        with atomic_write(options.out / name, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
