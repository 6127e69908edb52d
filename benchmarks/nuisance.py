"""Zones to ignore, measured: false alarms from prints, and defects that are still found.

    python benchmarks/nuisance.py [--sets line cookies transistor] [--methods patchcore padim autoencoder]
        [--prints new lot] [--size 128x128] [--train 40] [--test 30]

A drawn label (maker, lot, date, Code 128 barcode; ink, paper and which way up are drawn, too) is pasted at one place
of every image, good and bad alike. Prints
``new``: another one on every image. Prints ``lot``: all images to fit on and for the threshold carry one and the same,
as those of one lot do; those to test on are new. The synthetic line has such labels of its own.

Each detector is judged as it is (``none``), fitted with the zone (``fit``), fitted with random prints drawn into the zone of
every other image and the zone inspected (``prints``; methods without training see one such copy besides each image, or
four; one in three of these prints is a label of the pasted ones' kind, which flatters them), and with the zone given later: covered
(``cover``), or left out of the map with its measured halo (``halo``); a star marks which of the two Andon chooses,
``spots`` the share of planted spots by which it does.
Blots (dark, 1/10 of the shorter side across) are planted beside the print, half a blot from it, and in its middle. Writes
results/nuisance.json, and results/nuisance.md beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image

import andon
from andon.calibrate import calibrate
from andon.data import read_samples
from andon.data.synthetic import DEFECTS, draw
from andon.data.synthetic_label import label_picture, print_text
from andon.image import decode
from andon.metrics import auroc
from andon.models import DETECTORS
from andon.nuisance import Zone, ZonePlan
from andon.nuisance.plan import Treated
from andon.pipeline import raw_scores
from andon.pipeline.ignoring import REACH_PHOTOS, fit_plan, later_plan, reach_of
from andon.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TARGET_RATE = 0.05
SETTINGS: dict[str, dict[str, Any]] = {
    "patchcore": {},
    "padim": {},
    "autoencoder": {"width": 4, "latent": 16, "steps": 150, "score": "peak"},
}
ZONES = {  # top, left, bottom, right, fractions of the photograph
    "line": (0.54, 0.27, 0.83, 0.60),
    "cookies": (0.42, 0.38, 0.62, 0.62),
    "transistor": (0.22, 0.40, 0.45, 0.64),
}


@dataclass(frozen=True)
class Images:
    """What one detector is fitted on and judged by; ``good`` serves for the blots, too."""

    folder: Path  # of good images to fit on
    calibration: Path  # of good images for the threshold
    groups: dict[str, list[Pixels]]


def read(name: str, train: int, test: int) -> tuple[list[Pixels], list[Pixels], list[Pixels]]:
    """Good images to fit and calibrate on, good and defective ones to test on."""
    if name == "line":
        size = (192, 256)
        good = [draw((1, i), size=size).image for i in range(train + test)]
        kinds = [kind for kind in DEFECTS if "label" not in kind]
        bad = [draw((2, i), size=size, defect=kinds[i % len(kinds)]).image for i in range(test)]
        return good[:train], good[train:], bad
    samples = read_samples(SHARED / {"cookies": "aws_cookies", "transistor": "mvtec_transistor"}[name])
    parts: dict[str, list[Pixels]] = {"train": [], "good": [], "bad": []}
    for sample in samples:
        part = parts["train" if sample.split == "train" else "bad" if sample.is_anomalous else "good"]
        if len(part) < (train if sample.split == "train" else test):
            part.append(decode(sample.path).pixels)
    return parts["train"], parts["good"], parts["bad"]


def pasted(pixels: Pixels, zone: Zone, seed: int) -> Pixels:
    """The photograph with the label number ``seed`` in the zone."""
    rows, columns = (np.flatnonzero(zone.mask(pixels.shape[:2]).any(axis)) for axis in (1, 0))
    label = label_picture(print_text(np.random.default_rng(seed)), 4.0).resize((len(columns), len(rows)))
    rng = np.random.default_rng([seed, 1])
    ink, paper = rng.uniform(0, 80, 3), rng.uniform(120, 255, 3)
    turned = rng.choice([1, -1])
    picture = ink + np.asarray(label)[::turned, ::turned] / 255 * (paper - ink)
    changed = pixels.copy()
    changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = np.rint(picture)
    return changed


def blotted(pixels: Pixels, zone: Zone, *, inside: bool, seed: int) -> Pixels:
    """The photograph with a dark round blot in the middle of the zone, or half a blot beside one of its four sides."""
    rows, columns = (np.flatnonzero(zone.mask(pixels.shape[:2]).any(axis)) for axis in (1, 0))
    radius = min(pixels.shape[:2]) / 20
    row, column = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    if not inside:
        away = 2 * radius
        row, column = [(rows[0] - away, column), (rows[-1] + away, column), (row, columns[0] - away),
                       (row, columns[-1] + away)][seed % 4]  # fmt: skip
    y, x = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    changed = pixels.copy()
    changed[(y - row) ** 2 + (x - column) ** 2 <= radius**2] //= 4
    return changed


def prepare(name: str, prints: str, zone: Zone, folder: Path, train: int, test: int) -> Images:
    """The images of one set with prints of one kind, those to fit on as files in ``folder``."""
    fitted, good, bad = read(name, train, test)
    seeds = iter(range(10_000))
    if name != "line":
        fitted = [pasted(pixels, zone, 0 if prints == "lot" else next(seeds)) for pixels in fitted]
        good, bad = ([pasted(pixels, zone, 1000 + next(seeds)) for pixels in part] for part in (good, bad))
    cut = len(fitted) * 2 // 3
    for part, images in (("fit", fitted[:cut]), ("calibration", fitted[cut:])):
        (folder / part).mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(folder / part / f"{number:03}.png", compress_level=1)
    beside = [blotted(pixels, zone, inside=False, seed=i) for i, pixels in enumerate(good)]
    inside = [blotted(pixels, zone, inside=True, seed=i) for i, pixels in enumerate(good)]
    return Images(folder / "fit", folder / "calibration",
                  {"good": good, "defects": bad, "blots beside": beside, "blots inside": inside})  # fmt: skip


def judged(predictor: Predictor, images: Images) -> dict[str, Any]:
    """Shares that fail, and the AUROC against good images, of each group; the share not inspected."""
    scores: dict[str, list[float]] = {}
    failed: dict[str, int] = {}
    left_out = 0.0
    for group, photographs in images.groups.items():
        verdicts = [predictor.inspect(pixels) for pixels in photographs]
        scores[group] = [verdict.image_score for verdict in verdicts]
        failed[group] = sum(verdict.decision == "fail" for verdict in verdicts)
        left_out = verdicts[0].not_inspected
    figures: dict[str, Any] = {"not_inspected": round(left_out, 4)}
    for group, photographs in images.groups.items():
        figures[group] = {"failed": failed[group], "images": len(photographs)}
        if group != "good":
            labels = [False] * len(scores["good"]) + [True] * len(scores[group])
            figures[group]["auroc"] = round(
                auroc(np.array(scores["good"] + scores[group]), np.array(labels)), 4
            )
    return figures


def with_zones(predictor: Predictor, treated: Treated, calibration: Path) -> Predictor:
    """The predictor with one zone treated so, its threshold set anew."""
    plan = ZonePlan((treated,))
    trial = predictor.recalibrated(predictor.calibration, plan)
    scores, peaks, _ = raw_scores(trial, sorted(calibration.iterdir()))
    return predictor.recalibrated(calibrate(scores, target_rate=TARGET_RATE, map_peaks=peaks), plan)


def variants(
    method: str, images: Images, zone: Zone, size: tuple[int, int]
) -> Iterator[tuple[str, Predictor]]:
    """Every way to treat the zone, by name."""
    options = {"method": method, "size": size, "calibration": images.calibration, "target_rate": TARGET_RATE,
               "device": "cpu", "workers": 0, **SETTINGS[method]}  # fmt: skip
    plain = andon.fit(images.folder, **options)
    yield "none", plain
    yield "fit", andon.fit(images.folder, ignore=(zone,), **options)
    yield "prints", andon.fit(images.folder, print_into=(zone,), **options)
    if not DETECTORS[method].steps:
        yield "prints, 4 copies", andon.fit(images.folder, print_into=(zone,), copies=4, **options)
    calibration = sorted(images.calibration.iterdir())
    covering = fit_plan((zone,), calibration, 65535)
    assert covering is not None
    photographs = [decode(path).pixels for path in calibration[:REACH_PHOTOS]]
    reach = reach_of(plain, covering, photographs)
    try:
        chosen = later_plan(plain, (zone,), calibration).treated[0]
    except andon.SettingsError as error:
        print(f"  refused: {error}", flush=True)
        chosen = None
    covered = replace(covering.treated[0], given="later")
    star = "*" if chosen and chosen.colour else ""
    yield (
        f"later, cover{star} (spots {reach.found_covered:.0%})",
        with_zones(plain, covered, images.calibration),
    )
    if reach.halo is not None:
        left = replace(covered, colour=None, halo=reach.halo)
        star = "*" if chosen and not chosen.colour else ""
        yield (
            f"later, halo{star} ({reach.halo} px, spots {reach.found_left:.0%})",
            with_zones(plain, left, images.calibration),
        )


def table(rows: Sequence[dict[str, Any]], head: dict[str, str]) -> str:
    """The page, as Markdown."""
    text = ["# Zones to ignore", "", *(__doc__ or "").split("\n\n", 2)[2].splitlines(), ""]
    text += [f"`{head['command']}`, {head['date']}, {head['cpu']}, {head['versions']}. Threshold: target rate "
             f"{TARGET_RATE:.0%}, from a third of the images to fit on. Cells: share that fails (AUROC against the good).",
             "", "| set | prints | method | zone | not inspected | false alarms | defects | blots beside | blots inside |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        cells = [row["set"], row["prints"], row["method"], row["zone"], f"{row['not_inspected']:.1%}"]
        for group in ("good", "defects", "blots beside", "blots inside"):
            found = row[group]
            auroc = f" ({found['auroc']:.3f})" if "auroc" in found else ""
            cells.append(f"{found['failed']}/{found['images']}{auroc}")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def head_of(script: str) -> dict[str, str]:
    """What a page of results says of where they come from; one thread from here on."""
    torch.set_num_threads(1)
    return {"command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(), "cpu": platform.processor() or platform.machine(),
            "versions": f"andon {andon.__version__}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}  # fmt: skip


def main() -> None:
    """Measure, and write the table after every detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(ZONES), choices=list(ZONES))
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--prints", nargs="+", default=["lot", "new"], choices=["lot", "new"])
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--test", type=int, default=30)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "nuisance.json")
    options = parser.parse_args()
    size = tuple(map(int, options.size.split("x")))
    head = head_of("nuisance.py")
    rows: list[dict[str, Any]] = []
    for name in options.sets:
        zone = Zone.box("print", ZONES[name])
        for prints in options.prints if name != "line" else ["new"]:
            with tempfile.TemporaryDirectory() as folder:
                images = prepare(name, prints, zone, Path(folder), options.train, options.test)
                for method in options.methods:
                    print(name, prints, method, flush=True)
                    for treatment, predictor in variants(method, images, zone, (size[0], size[1])):
                        about = {"set": name, "prints": prints, "method": method, "zone": treatment}
                        rows.append(about | judged(predictor, images))
                        print(" ", json.dumps(rows[-1]), flush=True)
                    options.output.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
                    options.output.with_suffix(".md").write_text(table(rows, head))


if __name__ == "__main__":
    main()
