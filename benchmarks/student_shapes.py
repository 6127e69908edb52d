"""What widths and depths of a student cost: milliseconds in ONNX Runtime, beside MobileNetV2 in the same run.

    python benchmarks/student_shapes.py --peer ../shared/weights/mobilenet_v2.pt

Networks with random weights take turns, several sessions each, 256x256, fp32, one image; the least time counts, so that other
work on the machine matters little. Recorded in docs/LOG.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from andon.features.backbones import load_backbone
from andon.features.student import Shape, StudentNet, folded_state, student_from_state
from backbones import SIZE, gmac, graph, timed

SHAPES = [
    Shape((32, 32, 64, 128), (1, 2, 2)),
    Shape((16, 32, 64, 128), (1, 2, 2)),
    Shape((16, 24, 48, 96), (1, 2, 2)),
    Shape((16, 32, 64, 160), (1, 1, 2)),
    Shape((32, 32, 64, 160), (0, 2, 2)),
    Shape((32, 32, 80, 160), (1, 2, 2)),
    Shape((32, 64, 128, 256), (2, 2, 2)),
    Shape((64, 64, 128, 256), (1, 2, 2)),
]
ROUNDS, RUNS = 6, 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="a backbone's file to compare with")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    networks = {str(options.peer.stem): load_backbone(options.peer)}
    for shape in SHAPES:
        name = f"{', '.join(map(str, shape.widths))}; {', '.join(map(str, shape.blocks))}"
        networks[name] = student_from_state(folded_state(StudentNet(True, shape=shape)))
    graphs = {name: graph(network) for name, network in networks.items()}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    images = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
    least = dict.fromkeys(graphs, np.inf)
    for _ in range(ROUNDS):
        for name, content in graphs.items():
            session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
            least[name] = min(least[name], *(timed(session, images) for _ in range(RUNS)))
            del session
    print("| widths; blocks | GMAC | ms | GFLOP/s |\n|---|---|---|---|")
    for name, network in networks.items():
        cost = gmac(network)
        print(f"| {name} | {cost:.2f} | {least[name]:.1f} | {2 * cost / least[name] * 1000:.0f} |")


if __name__ == "__main__":
    main()
