"""A local and a global detector alone and as one, by each rule: image AUROC on logical and on structural defects.

    python benchmarks/fusion.py ../shared/data/mvtec_loco_juice_bottle ../shared/data/mvtec_transistor
    python benchmarks/fusion.py line --methods patchcore fre gcad --steps 150   # "line": the synthetic inspection line
    python benchmarks/fusion.py ../shared/data/mvtec_loco_juice_bottle line --methods patchcore fre gcad --steps 1000 --seeds 3
    python benchmarks/fusion.py line --methods patchcore gcad --steps 2 --limit 24 --out /tmp/fusion.json   # to try it out

Each method is fitted on the good training images but the held-out ones, all scores are taken through the detectors, and the
fusions are andon.models.fusion's own arithmetic (Tails, RULES) on these scores: exactly what `--method a+b` answers.
Also, closed-form methods on 20 good images. Rows of sets that are not named again are kept in the results.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from andon.data import read_samples
from andon.data.synthetic import DEFECTS, write_line
from andon.files import atomic_write
from andon.image import Preprocessing, prepare
from andon.metrics import auroc
from andon.models import Detector, accepts, build
from andon.models.fusion import JOINT, RULES, Tails
from andon.training import train
from andon.types import Sample

RESULTS = Path(__file__).parent / "results"
LINE, FEW, HELD_OUT = "line", 20, 15
SIZES = {"mvtec_loco_juice_bottle": (256, 128), LINE: (192, 256)}  # the others: SQUARE
SQUARE = (160, 160)
LOGICAL = {
    "logical_anomalies",
    "misplaced",
    *(name for name, kind in DEFECTS.items() if kind.kind == "logical"),
}
KINDS = ("logical", "structural", "all")


class Images(NamedTuple):
    """What one comparison is on; (n, 3, H, W) each."""

    train: Tensor
    held_out: Tensor
    test: Tensor


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", help="folders, or line")
    parser.add_argument("--methods", nargs="+", default=["patchcore", "fre"])
    parser.add_argument(
        "--steps", type=int, default=150, help="of methods that train, such as gcad (its own default: 1000)"
    )
    parser.add_argument(
        "--limit", type=int, help="good images to fit on, and tests of each kind: to try it out"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "fusion.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        found = compared(name, options)
        kept = json.loads(options.out.read_text()) if options.out.exists() else {"sets": {}}
        kept["sets"][Path(name).name] = found
        with atomic_write(options.out) as file:
            file.write((json.dumps(kept, indent=1) + "\n").encode())
        with atomic_write(options.out.with_suffix(".md")) as file:
            file.write(page(kept["sets"]).encode())
    return 0


def compared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The rows of one set, and how they were measured."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(name)
        if name == LINE:
            root = write_line(Path(folder), train=120, test_good=40, per_defect=6, size=SIZES[LINE])
        samples = read_samples(root)
        size = SIZES.get(Path(name).name, SQUARE)
        good = read([s for s in samples if s.split != "test" and not s.is_anomalous][: options.limit], size)
        tested = some_of_each([s for s in samples if s.split == "test"], options.limit)
        test = read(tested, size)
    rows: dict[str, list[list[float | None]]] = {}
    seconds: dict[str, float] = {}
    for seed in range(options.seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(good)))
        held_out, rest = good[order[:HELD_OUT]], good[order[HELD_OUT:]]
        for few in (False, True):
            images = Images(rest[:FEW] if few else rest, held_out, test)
            scores = {}
            for method in options.methods:
                detector = made(method, seed, options.steps)
                if few and detector.steps:
                    continue
                start = time.process_time()
                scores[method] = scored(detector, images)
                seconds[method] = round(time.process_time() - start, 1)
                print(
                    f"{name} seed {seed}{' few' if few else ''}: {method} {seconds[method]} CPU s", flush=True
                )
            for label, values in [*alone(scores), *fused(scores)]:
                rows.setdefault(f"{label}{f', {FEW} images' if few else ''}", []).append(
                    by_kind(values, tested)
                )
    return {"size": size, "train": len(good) - HELD_OUT, "held_out": HELD_OUT, "test": len(tested),
            "rows": rows, **how(options)}  # fmt: skip


def some_of_each(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most ``limit`` good samples, and as many of each type of defect; None: all."""
    seen: Counter[str] = Counter()
    chosen = []
    for sample in samples:
        seen[sample.defect_type] += 1
        if limit is None or seen[sample.defect_type] <= limit:
            chosen.append(sample)
    return chosen


def how(options: argparse.Namespace) -> dict[str, Any]:
    """The date, the machine and the command."""
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "seeds": options.seeds, "steps": options.steps,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}",
            "command": f"python benchmarks/fusion.py {' '.join(sys.argv[1:])}"}  # fmt: skip


def read(samples: Sequence[Sample], size: tuple[int, int]) -> Tensor:
    """(n, 3, H, W)."""
    preprocessing = Preprocessing(size=size)
    return torch.from_numpy(np.concatenate([prepare(s.path, preprocessing)[1].images for s in samples]))


def made(method: str, seed: int, steps: int) -> Detector:
    given = {"seed": seed, "steps": steps}
    return build(method, **{name: value for name, value in given.items() if accepts(method, name)})


@torch.no_grad()
def scored(detector: Detector, images: Images) -> tuple[Tensor, Tensor]:
    """The image scores of the held-out and of the test images, by ``detector`` fitted on the training ones."""
    for batch in images.train.split(8):
        detector.observe(batch)
    with torch.enable_grad():
        train(
            detector,
            lambda numbers: images.train[list(numbers)],
            len(images.train),
            lambda phase, done, total: None,
        )
    detector.close(images.held_out.split(8))
    held_out, test = (
        torch.cat([detector(batch).image_score for batch in part.split(8)])
        for part in (images.held_out, images.test)
    )
    return held_out, test


def alone(scores: dict[str, tuple[Tensor, Tensor]]) -> list[tuple[str, Tensor]]:
    return [(method, test) for method, (_, test) in scores.items()]


def fused(scores: dict[str, tuple[Tensor, Tensor]]) -> list[tuple[str, Tensor]]:
    """Every pair of methods by every rule."""
    found = []
    for pair in itertools.combinations(scores, 2):
        tails = Tails(2)
        tails.fit(torch.stack([scores[method][0] for method in pair], 1))
        logs = tails(torch.stack([scores[method][1] for method in pair], 1))
        found += [(f"{JOINT.join(pair)}, {name}", rule(logs)) for name, rule in RULES.items()]
    return found


def by_kind(values: Tensor, tested: Sequence[Sample]) -> list[float | None]:
    """Image AUROC against the good images of the logical defects, of the structural ones, of all; None where there are none."""
    bad = np.array([sample.is_anomalous for sample in tested])
    logical = np.array([sample.defect_type in LOGICAL for sample in tested])
    answers: list[float | None] = []
    for kind in (bad & logical, bad & ~logical, bad):
        chosen = ~bad | kind
        answers.append(round(auroc(values.numpy()[chosen], bad[chosen]), 4) if kind.any() else None)
    return answers


def page(sets: dict[str, Any]) -> str:
    lines = ["# A local and a global detector, alone and as one", "",
             "Image AUROC, `benchmarks/fusion.py`. *, 20 images*: fitted on 20 good images. The set of juice bottles holds "
             "logical defects alone; of the transistors, *misplaced* counts as logical. The mean over the seeds.", ""]  # fmt: skip
    for name, found in sets.items():
        rows, columns = found["size"]
        lines += [f"## {name}", "",
                  f"{rows}x{columns}; {found['train']} good images to fit, {found['held_out']} held out, {found['test']} to test; "
                  f"seeds: {found['seeds']}; methods that train: {found['steps']} steps. {found['date']}, {found['machine']}.",
                  "", f"    {found['command']}", "", f"| detector | {' | '.join(KINDS)} |", "|---|" + "---|" * len(KINDS)]  # fmt: skip
        lines += [f"| {label} | {' | '.join(mean(column) for column in zip(*values, strict=True))} |"
                  for label, values in found["rows"].items()]  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else ""


if __name__ == "__main__":
    sys.exit(main())
