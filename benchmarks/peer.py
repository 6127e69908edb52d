"""Andon beside anomalib 2.7, method by method: the same backbone weights, images, batches and number of steps.

    python benchmarks/peer.py --sets ../shared/data/mvtec_transistor --weights ../shared/weights/resnet18_l3.pt \
        --peer-python ../peer/bin/python [--methods patchcore stfpm] [--size 256] [--steps 200] [--results peer.json]

The peer lives in an environment of its own: pip install anomalib torch torchvision. Sides: ``theirs``, its torch
models and its settings, in a plain loop that does what its Lightning modules do; ``ours``, our default settings;
``alike``, ours as wide and at the same learning rate as theirs, where that differs. Both have the same images (decoded
and resized once, by us), layers, share of patches (PatchCore, no limit on the bank), channels (PaDiM), images in each
training step, teacher (EfficientAD: a PDN-S with random weights), penalty pictures and textures (drawn by code). A step
is one batch of images; CFlow's peer makes many updates with each, so it gets as many positions as ours, not as many
batches. Scores are raw: theirs are taken before sigmoid (SuperSimpleNet), and before each image is divided by its own
largest density (CFlow; here by the largest of the test set, as the paper's authors do).

Each side fits and scores in a process of its own. `fit s`: from the first image read to the fitted detector; `peak MB`:
the process's largest resident memory until then, and `start MB` what it was before the first image; `ms`: one image's
forward pass in PyTorch, median. Metrics are ours, at the input's size. Cells that the results file has are not computed
again, failed ones are; the table is written beside it. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

TWO, THREE = ("layer2", "layer3"), ("layer1", "layer2", "layer3")
SIDES = ("theirs", "ours", "alike")
WORKER = Path(__file__).with_name("peer_side.py")
PICTURES = 100  # drawn for EfficientAD's penalty and DRAEM's textures
FIGURES = {"image_auroc": "image AUROC", "image_ap": "AP", "aupro_30": "AUPRO"}
COLUMNS = {**FIGURES, "fit_seconds": "fit s", "ms": "ms", "peak_mb": "peak MB", "start_mb": "start MB"}
COSTS = ("fit_seconds", "ms", "peak_mb")
SHARED = ("steps", "batch_size", "coreset_fraction", "buffer_limit", "dimensions")
NOT_COMPARED = {
    "Dinomaly": "needs the weights of a DINOv2 transformer",
    "CS-Flow": "theirs reads an EfficientNet-B5, whose weights it downloads",
    "DSR": "theirs starts from a quantised autoencoder that it downloads",
}


@dataclass(frozen=True)
class Method:
    """What both sides of a method share, and what makes ours like theirs."""

    layers: tuple[str, ...] = ()  # of the backbone; (): there is none
    steps: bool = True
    batch_size: int | None = None  # None: as asked for
    alike: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "patchcore": Method(TWO, steps=False),
    "padim": Method(THREE, steps=False),
    "stfpm": Method(THREE, alike={"width": 64}),
    "reverse_distillation": Method(THREE),
    "fastflow": Method(THREE, alike={"blur_sigma": 0.0}),
    "cflow": Method(TWO, alike={"learning_rate": 1e-4}),
    "efficientad": Method(batch_size=1, alike={"hard_fraction": 0.999, "learning_rate": 1e-4}),
    "draem": Method(alike={"width": 128, "segment_width": 64, "learning_rate": 1e-4}),
    "ganomaly": Method(alike={"width": 64, "latent": 100, "learning_rate": 2e-4}),
    "supersimplenet": Method(
        TWO, alike={"upscale": 2, "hidden": 1024, "channels": 128, "learning_rate": 2e-4}
    ),
}


def main() -> int:
    options = arguments()
    known = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        shared = {"pdn": random_pdn(Path(scratch)), "pictures": draw_pictures(Path(scratch), options.size)}
        for root in options.sets:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                data = None
                for key, row in cells(root, options):
                    if "error" in known.get(key, {"error": ""}):
                        data = data or Data(root, Path(folder), options)
                        known[key] = row | cell(row, data, shared, options)
                        keep(known, options.results)
    print(table(known))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", type=Path, required=True, help="folders in a known layout")
    parser.add_argument("--weights", type=Path, required=True, help="of a ResNet18, norms folded")
    parser.add_argument("--peer-python", required=True, help="of the environment with anomalib")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--size", type=int, default=256, help="rows and columns; a multiple of 32")
    parser.add_argument("--steps", type=int, default=200, help="of methods that train")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--coreset-fraction", type=float, default=0.1)
    parser.add_argument(
        "--buffer-limit", type=int, help="patches that our PatchCore holds while it observes; default: all"
    )
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, help="at most so many for training, good and anomalous ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=120, help="that one cell may take")
    parser.add_argument("--results", type=Path, help="JSON file that is gone on with; the table goes to .md")
    return parser.parse_args()


# --- what both sides get ---------------------------------------------------------------------------------------


def cells(root: Path, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cells of one set: their key in the results, and what they are."""
    for name in options.methods:
        method = METHODS[name]
        for side in options.sides:
            if side == "alike" and not method.alike:
                continue
            batch_size = method.batch_size or options.batch_size
            row = {
                "set": root.name, "size": options.size, "images": options.images, "seed": options.seed,
                "threads": options.threads, "method": name, "side": side,
            }  # fmt: skip
            row |= {"steps": options.steps, "batch_size": batch_size} if method.steps else {}
            row |= {"coreset_fraction": options.coreset_fraction} if name == "patchcore" else {}
            if name == "patchcore" and side == "ours" and options.buffer_limit:
                row |= {"buffer_limit": options.buffer_limit}
            row |= {"dimensions": options.dimensions} if name == "padim" else {}
            yield " ".join(f"{key}={value}" for key, value in row.items()), row


class Data:
    """A set's images as .npy files, (3, H, W) float32 in [0, 1], and which of them test."""

    def __init__(self, root: Path, folder: Path, options: argparse.Namespace) -> None:
        from andon.data import read_samples
        from andon.image import Preprocessing, prepare

        samples, self.folder = read_samples(root), folder
        train = [s for s in samples if s.split != "test" and not s.is_anomalous]
        groups = [
            [s for s in samples if s.split == "test" and s.is_anomalous == bad] for bad in (False, True)
        ]
        self.test = [sample for group in groups for sample in spread(group, options.images)]
        preprocessing = Preprocessing(size=(options.size, options.size))

        def kept(name: str, found: Iterable[Any]) -> list[str]:
            paths = []
            for number, sample in enumerate(found):
                paths.append(str(folder / f"{name}{number}.npy"))
                np.save(paths[-1], prepare(sample.path, preprocessing)[1].images[0])
            return paths

        self.train_paths = kept("train", spread(train, options.images))
        self.test_paths = kept("test", self.test)


def spread(items: list[Any], count: int | None) -> list[Any]:
    """``count`` of the items, evenly spaced; all where there are not more."""
    if count is None or count >= len(items):
        return items
    return [items[number * len(items) // count] for number in range(count)]


def random_pdn(folder: Path) -> str:
    """A file of a PDN-S with random weights, as published ones are laid out."""
    from andon.features.pdn import pdn

    torch.manual_seed(0)
    torch.save(pdn("s", 384).state_dict(), folder / "pdn.pt")
    return str(folder / "pdn.pt")


def draw_pictures(folder: Path, size: int) -> str:
    """A folder of drawn pictures, twice as large as the images."""
    from PIL import Image

    from andon.features.drawn import draw_texture

    pictures, rng = folder / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for number in range(PICTURES):
        Image.fromarray(draw_texture(rng, 2 * size)).save(pictures / f"{number:03}.png")
    return str(pictures)


def cell(
    row: dict[str, Any], data: Data, shared: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Figures and costs of one side of one method; ``error`` where there are none."""
    from andon.training.order import batches_of

    steps, batch_size = row.get("steps", 0), row.get("batch_size", options.batch_size)
    order = batches_of(options.seed, 0, len(data.train_paths), batch_size, 0, steps)
    job, answers, costs = (data.folder / name for name in ("job.json", "answers.npz", "costs.json"))
    job.write_text(json.dumps({
        **row, **shared, "batch_size": batch_size, "layers": METHODS[row["method"]].layers,
        "settings": our_settings(row, data, shared, options), "weights": str(options.weights.resolve()),
        "train": data.train_paths, "test": data.test_paths, "answers": str(answers), "costs": str(costs),
        "order": [[pick.number for pick in picks] for picks in order],
    }))  # fmt: skip
    python = options.peer_python if row["side"] == "theirs" else sys.executable
    print(" ".join(map(str, row.values())), end=" ... ", file=sys.stderr, flush=True)
    try:
        done = subprocess.run([python, WORKER, str(job)], capture_output=True, text=True,
                              timeout=60 * options.minutes, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})  # fmt: skip
    except subprocess.TimeoutExpired:
        return told({"error": f"not done after {options.minutes:g} minutes"})
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line] or ["nothing was said"]
        return told({"error": f"exit status {done.returncode}: {said[-1][:200]}"})
    figures = judged(data.test, np.load(answers), options.size)
    return told({**json.loads(costs.read_text()), **figures, "train": len(data.train_paths)})


def told(found: dict[str, Any]) -> dict[str, Any]:
    print(
        {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}, file=sys.stderr, flush=True
    )
    return found


def our_settings(
    row: dict[str, Any], data: Data, shared: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """The keywords of our detector."""
    method, name = METHODS[row["method"]], row["method"]
    settings: dict[str, Any] = {"seed": options.seed}
    if method.layers:
        settings |= {"backbone": str(options.weights), "layers": method.layers}
    if method.steps:
        settings |= {"steps": row["steps"], "batch_size": row["batch_size"]}
    if name == "patchcore":
        patches = len(data.train_paths) * (options.size // 8) ** 2
        bank = math.ceil(options.coreset_fraction * patches)
        held = options.buffer_limit or patches + 1
        limits = {"bank_limit": bank, "buffer_limit": max(held, 2 * bank)}
        settings |= {"coreset_fraction": options.coreset_fraction, **limits}
    own = {
        "padim": {"dimensions": options.dimensions},
        "efficientad": {"backbone": shared["pdn"], "penalty": shared["pictures"]},
        "draem": {"textures": shared["pictures"]},
    }
    return settings | own.get(name, {}) | (method.alike if row["side"] == "alike" else {})


def judged(samples: list[Any], answers: Any, size: int) -> dict[str, float | None]:
    """Our metrics of raw scores and maps."""
    from andon.data import read_channels
    from andon.evaluate import evaluate

    maps = list(answers["maps"]) if "maps" in answers else [None] * len(samples)
    known = {
        sample.path: (float(score), found)
        for sample, score, found in zip(samples, answers["scores"], maps, strict=True)
    }
    found = evaluate(samples, lambda s: known[s.path], channels=read_channels, bootstrap=0, size=(size, size))
    return {name: found.groups["all"][name].value for name in FIGURES}


# --- the table -------------------------------------------------------------------------------------------------


def keep(known: dict[str, dict[str, Any]], path: Path | None) -> None:
    """Write the figures to ``path``, the table beside it."""
    from andon.files import atomic_write

    if path:
        with atomic_write(path, "w") as file:
            json.dump(known, file, indent=1)
        with atomic_write(path.with_suffix(".md"), "w") as file:
            file.write(
                f"# Andon beside anomalib 2.7\n\n`{Path(__file__).name}` says how.\n\n{table(known)}\n"
            )


def table(known: dict[str, dict[str, Any]]) -> str:
    """In Markdown, for each set a line a cell; the last column has the costs of ours over theirs."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in known.values():
        few = f", at most {row['images']} images of a kind" if row["images"] else ""
        title = (
            f"{row['set']}, {row['size']}x{row['size']}, seed {row['seed']}, {row['threads']} threads{few}"
        )
        groups.setdefault(title, []).append(row)
    head = ["method", "side", "good images", "settings", *COLUMNS.values(), "ours / theirs: fit, ms, peak"]
    lines = [f"- {name} is not compared: {reason}." for name, reason in NOT_COMPARED.items()]
    for title, rows in groups.items():
        lines += ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        order = sorted(rows, key=lambda row: (list(METHODS).index(row["method"]), SIDES.index(row["side"])))
        lines += ["| " + " | ".join(line(row, order)) + " |" for row in order]
    return "\n".join(lines)


def line(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """One cell's columns."""
    shared = {key: row.get(key) for key in ("method", *SHARED)}
    own = [f"{name}={row[name]}" for name in SHARED if name in row]
    start = [row["method"], row["side"], str(row.get("train", "")), " ".join(own)]
    if "error" in row:
        return [*start, *[""] * len(COLUMNS), f"not run: {row['error']}"]
    figures = [number(row[name]) for name in COLUMNS]
    beside = [r for r in rows if r["side"] == "theirs" and {key: r.get(key) for key in shared} == shared]
    if row["side"] == "theirs" or not beside or "error" in beside[0]:
        return [*start, *figures, ""]
    return [*start, *figures, ", ".join(f"{row[cost] / beside[0][cost]:.2f}" for cost in COSTS)]


def number(value: float | None) -> str:
    if value is None:
        return "no map"
    return f"{value:.3f}" if value <= 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
