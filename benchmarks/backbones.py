"""Backbones side by side: PatchCore's image AUROC on real sets, and milliseconds of the network alone.

    python benchmarks/backbones.py ../shared/data/mvtec_transistor ../shared/data/magnetic_tile \
        --backbones random andon-s ../shared/weights/mobilenet_v2.pt ../shared/weights/resnet18_l3.pt

Fits on all good training images at 256x256 (stretched), nothing kept back, nothing tuned. ``random`` is andon-s'
architecture with random weights. The times are ONNX Runtime's, fp32, one image, median.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from andon.data import read_samples
from andon.engine import Reader, fit
from andon.features.backbones import Backbone, load_backbone
from andon.features.student import StudentNet, folded_state, student_from_state
from andon.image import Preprocessing, prepare
from andon.metrics import auroc, average_precision
from andon.models import build

SIZE = (256, 256)
ROUNDS, RUNS = 4, 30


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["random", "andon-s"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    networks = {
        Path(name).stem: random_student() if name == "random" else load_backbone(name)
        for name in options.backbones
    }
    times = milliseconds(networks, options.threads)
    sets = " | ".join(f"{root.name} AUROC | AP" for root in options.roots)
    print(f"| backbone | channels | ms | {sets} |\n|" + "---|" * (3 + 2 * len(options.roots)))
    for name, network in networks.items():
        channels = sum(network.layers[layer].channels for layer in network.default_layers)
        figures = [figure for root in options.roots for figure in accuracy(network, root)]
        print(
            f"| {name} | {channels} | {times[name]:.1f} | "
            + " | ".join(f"{figure:.3f}" for figure in figures)
            + " |",
            flush=True,
        )
    return 0


def random_student() -> Backbone:
    """andon-s with random weights, its BatchNorm statistics settled on noise."""
    torch.manual_seed(0)
    student = StudentNet(True).train()
    for _ in range(30):
        student(torch.randn(8, 3, 128, 128))
    return student_from_state(folded_state(student))


def accuracy(network: Backbone, root: Path) -> tuple[float, float]:
    """Image AUROC and average precision of PatchCore on the test images of ``root``."""
    preprocessing = Preprocessing(size=SIZE)
    samples = read_samples(root)
    train = [sample.path for sample in samples if sample.split != "test" and not sample.is_anomalous]
    test = [sample for sample in samples if sample.split == "test"]
    reader = Reader(lambda path: prepare(path, preprocessing)[1].images[0])
    detector = build("patchcore", backbone=network)
    fit(detector, train, reader)
    with torch.no_grad():
        scores = np.concatenate(
            [detector(images).image_score.numpy() for images in reader.tensors([s.path for s in test])]
        )
    truth = np.array([sample.is_anomalous for sample in test])
    return auroc(scores, truth), average_precision(scores, truth)


def milliseconds(networks: dict[str, Backbone], threads: int) -> dict[str, float]:
    """Median milliseconds of each network in ONNX Runtime on one image; a few rounds over the networks.

    One session at a time: the idle threads of a second one spin, and would slow the first.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graphs = {name: graph(network) for name, network in networks.items()}
    images = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(ROUNDS):
        for name, content in graphs.items():
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            times[name] += [_timed(session, images) for _ in range(RUNS)][RUNS // 3 :]
            del session
    return {name: float(np.median(values)) for name, values in times.items()}


def _timed(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
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


if __name__ == "__main__":
    sys.exit(main())
