"""Backbones side by side: PatchCore and PaDiM on real sets, several seeds, and what each costs.

    python benchmarks/backbones.py ../shared/data/mvtec_transistor ../shared/data/magnetic_tile \
        --backbones random andon-s ../shared/weights/mobilenet_v2.pt ../shared/weights/resnet18_l3.pt \
        --results benchmarks/results/backbones.json

Each detector is fitted on all good training images at 256x256 (stretched), nothing kept back, nothing tuned, and
scores all test images; a seed is the method's own (the coreset's first patch, the channels drawn). Pixel metrics are
taken at 256x256. ``random`` is andon-s' architecture with random weights. Cells already in the results file are not
computed again.

Costs: the network alone in ONNX Runtime (fp32, one image, the median of the quietest session), and the detector with it in the torch-free
runtime, from file to verdict, with its resident memory (andon.bench.timing), on the first set. Measure these on
a quiet machine; ``--no-costs`` leaves them out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from andon.data import read_channels, read_samples
from andon.engine import Reader, fit
from andon.evaluate import evaluate
from andon.features.backbones import Backbone, load_backbone
from andon.features.student import StudentNet, folded_state, student_from_state
from andon.files import atomic_write
from andon.image import Preprocessing, prepare
from andon.models import build
from andon.types import Sample

SIZE = (256, 256)
ROUNDS, RUNS = 4, 30
FIGURES = ("image_auroc", "image_ap", "aupro_30")
PAGE = """# Backbones side by side

{tables}

All good training images, 256x256 stretched, all test images, the methods' default settings; AUROC and AP of images, AUPRO to a
false-positive rate of 0.3. p50, p99: a photograph on disk to its verdict, two threads, without PyTorch; the network alone: in ONNX
Runtime, fp32, one image. Times of one graph differ by up to a third from run to run here (`random` is the same network as andon-s).
Nothing was tuned to these sets. Written by

    python benchmarks/backbones.py {command}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["random", "andon-s"])
    parser.add_argument("--methods", nargs="+", default=["patchcore", "padim"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, help="JSON file that is gone on with")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--page", type=Path, help="Markdown file to write the tables into, with the command")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = Results(options.results)
    for name in options.backbones:
        network = open_network(name)
        if not options.no_costs:
            costs(results, network, options)
        for root in options.roots:
            accuracy(results, network, root, options)
    tables = table(results, [open_network(name).name for name in options.backbones], options)
    print(tables)
    if options.page:
        with atomic_write(options.page, "w") as file:
            file.write(PAGE.format(command=" ".join(sys.argv[1:]), tables=tables))
    return 0


class Results:
    """Figures by cell, in a JSON file that is replaced whole after each."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.cells: dict[str, dict[str, float]] = (
            json.loads(path.read_text()) if path and path.exists() else {}
        )

    def put(self, key: str, figures: dict[str, float]) -> None:
        self.cells[key] = figures
        print(key, {name: round(value, 4) for name, value in figures.items()}, file=sys.stderr, flush=True)
        if self.path:
            with atomic_write(self.path, "w") as file:
                json.dump(self.cells, file, indent=1, sort_keys=True)


def open_network(name: str) -> Backbone:
    network = random_student() if name == "random" else load_backbone(name)
    network.name = Path(name).stem
    return network


def random_student() -> Backbone:
    """andon-s with random weights, its BatchNorm statistics settled on noise."""
    torch.manual_seed(0)
    student = StudentNet(True).train()
    for _ in range(30):
        student(torch.randn(8, 3, 128, 128))
    return student_from_state(folded_state(student))


class Remembered(nn.Module):
    """A backbone that looks at each image once, whatever the method or the seed."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.name, self.layers, self.default_layers = network.name, network.layers, network.default_layers
        self._network = [network]  # in a list: its weights are not this module's
        self._known: dict[bytes, dict[str, Tensor]] = {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = [self._one(image[None]) for image in images]
        return {layer: torch.cat([one[layer] for one in found]) for layer in self.layers}

    def _one(self, image: Tensor) -> dict[str, Tensor]:
        key = hashlib.blake2b(image.numpy().tobytes()).digest()
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = self._network[0](image)
        return self._known[key]


def accuracy(results: Results, network: Backbone, root: Path, options: argparse.Namespace) -> None:
    """The cells of one backbone on one set."""
    samples = read_samples(root)
    remembered = Remembered(network)
    for method in options.methods:
        for seed in options.seeds:
            key = f"{network.name} {method} {root.name} {seed}"
            if key not in results.cells:
                results.put(key, cell(remembered, method, seed, samples))


def cell(network: nn.Module, method: str, seed: int, samples: list[Sample]) -> dict[str, float]:
    """Image AUROC, AP and AUPRO of one detector."""
    reader = reader_at(SIZE)
    detector = build(method, backbone=network, seed=seed)
    fit(detector, [s.path for s in samples if s.split != "test" and not s.is_anomalous], reader)

    def score(sample: Sample) -> tuple[float, Any]:
        with torch.no_grad():
            answer = detector(next(iter(reader.tensors([sample.path]))))
        return float(answer.image_score), answer.anomaly_map[0, 0].numpy()

    test = [sample for sample in samples if sample.split == "test"]
    found = evaluate(test, score, channels=read_channels, bootstrap=0, size=SIZE).groups["all"]
    return {name: float(found[name].value) for name in FIGURES}


def reader_at(size: tuple[int, int]) -> Reader:
    preprocessing = Preprocessing(size=size)
    return Reader(lambda path: prepare(path, preprocessing)[1].images[0])


def costs(results: Results, network: Backbone, options: argparse.Namespace) -> None:
    """Milliseconds and memory of the network alone and in each method."""
    if f"{network.name} alone" not in results.cells:
        ms = milliseconds(graph(network), options.threads)
        results.put(f"{network.name} alone", {"ms": ms, "gmac": gmac(network)})
    for method in options.methods:
        if f"{network.name} {method} runtime" not in results.cells:
            results.put(f"{network.name} {method} runtime", runtime(network, method, options))


def runtime(network: Backbone, method: str, options: argparse.Namespace) -> dict[str, float]:
    """p50, p99 and resident memory of the fitted detector in a process of its own, and its size."""
    from andon.calibrate import calibration_to_dict, uncalibrated
    from andon.export import to_artifact

    root = options.roots[0]
    train = [s.path for s in read_samples(root) if s.split != "test" and not s.is_anomalous]
    detector = build(method, backbone=network)
    fit(detector, train, reader_at(SIZE))
    manifest = {"calibration": calibration_to_dict(uncalibrated())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.andon")
        to_artifact(detector, Preprocessing(size=SIZE), manifest).save(path)
        command = [sys.executable, "-m", "andon.bench.timing", str(path), str(root), "--json"]
        answer = subprocess.run(
            [*command, "--threads", str(options.threads)], check=True, capture_output=True
        )
        return {**json.loads(answer.stdout), "artefact_mb": path.stat().st_size / 1e6}


def milliseconds(content: bytes, threads: int) -> float:
    """Milliseconds of a graph in ONNX Runtime on one image: the median of the quietest of a few sessions."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    images = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
    medians: list[float] = []
    for _ in range(ROUNDS):
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        medians.append(float(np.median([timed(session, images) for _ in range(RUNS)][RUNS // 3 :])))
        del session  # the idle threads of a second one would spin, and slow the next
    return min(medians)


def timed(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
    """Milliseconds of one answer."""
    start = time.perf_counter()
    session.run(None, {"images": images})
    return 1000 * (time.perf_counter() - start)


def graph(network: Backbone) -> bytes:
    """The network alone as an ONNX graph."""
    program = torch.onnx.export(network, (torch.rand(1, 3, *SIZE),), input_names=["images"], dynamo=True,
                                opset_version=20, verbose=False)  # fmt: skip
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def gmac(network: Backbone) -> float:
    """Multiplications and additions of one image, in thousand millions of pairs."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, *SIZE))
    return float(counter.get_total_flops() / 2e9)


def table(results: Results, names: Iterable[str], options: argparse.Namespace) -> str:
    """Two Markdown tables a method: each figure as mean and spread over seeds, and the costs."""
    lines = []
    for method in options.methods:
        sets = " | ".join(root.name for root in options.roots)
        lines += [f"\n{method}: image AUROC / AP / AUPRO, mean over seeds {options.seeds} (spread of the AUROC)\n",
                  f"| backbone | mean AUROC | {sets} | p50 ms | p99 ms | runtime MB | artefact MB |",
                  "|" + "---|" * (6 + len(options.roots))]  # fmt: skip
        for name in names:
            lines.append(_row(results, name, method, options))
    lines += ["\nThe network alone\n", "| backbone | GMAC | ms |", "|---|---|---|"]
    alone = {name: results.cells.get(f"{name} alone") for name in names}
    lines += [f"| {name} | {cost['gmac']:.2f} | {cost['ms']:.1f} |" for name, cost in alone.items() if cost]
    return "\n".join(lines)


def _row(results: Results, name: str, method: str, options: argparse.Namespace) -> str:
    shown, means = [], []
    for root in options.roots:
        cells = [results.cells[f"{name} {method} {root.name} {seed}"] for seed in options.seeds]
        auroc = [cell[FIGURES[0]] for cell in cells]
        means.append(np.mean(auroc))
        others = " / ".join(f"{np.mean([cell[figure] for cell in cells]):.3f}" for figure in FIGURES[1:])
        shown.append(f"{np.mean(auroc):.3f} ({np.ptp(auroc):.3f}) / {others}")
    cost = results.cells.get(f"{name} {method} runtime", {})
    costs_ = [
        f"{cost[key]:.1f}" if key in cost else "" for key in ("p50_ms", "p99_ms", "runtime_mb", "artefact_mb")
    ]
    return f"| {name} | {np.mean(means):.3f} | " + " | ".join(shown + costs_) + " |"


if __name__ == "__main__":
    sys.exit(main())
