"""One line of benchmarks/footprint.py, in a process of its own: verdicts on photographs, and what the process then holds.

    python benchmarks/footprint_side.py JOB.json

``andon``: the runtime. ``plain``: a graph in ONNX Runtime or OpenVINO with Pillow and NumPy, no more. ``anomalib``: the peer's torch
model in the peer's environment, which never imports andon, and ``export`` writes it as a graph; its memory bank is drawn at
random, for what it costs does not depend on what is in it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

START = time.perf_counter()
WARM_UP = 5


def andon(job: SimpleNamespace) -> Callable[[str], object]:
    from andon.runtime.predictor import Predictor

    predictor = Predictor.open(job.artifact, threads=job.threads, provider=job.provider)
    return predictor.inspect


def plain(job: SimpleNamespace) -> Callable[[str], object]:
    import numpy as np

    run = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}[job.provider](job)

    def answer(photo: str) -> object:
        pixels = np.asarray(opened(photo, job.size), np.float32) / 255
        return run({"images": np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]})

    return answer


def in_onnxruntime(job: SimpleNamespace) -> Callable[[Any], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, images)


def in_openvino(job: SimpleNamespace) -> Callable[[Any], object]:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(job.threads),
    }
    compiled = openvino.Core().compile_model(job.model, "CPU", settings)
    return lambda images: compiled(images)


def anomalib(job: SimpleNamespace) -> Callable[[str], object]:
    import numpy as np
    import torch

    import peer_models

    torch.set_num_threads(job.threads)
    model = their_patchcore(job)

    @torch.no_grad()
    def answer(photo: str) -> object:
        pixels = torch.from_numpy(np.asarray(opened(photo, job.size), np.float32) / 255)
        return model(peer_models.normalised(job, pixels.permute(2, 0, 1)[None]))

    return answer


def their_patchcore(job: SimpleNamespace) -> Any:
    import torch

    import peer_models

    peer_models.stand_ins(job)
    model, _ = peer_models.THEIRS["patchcore"](job)
    model.memory_bank = torch.rand(job.rows, job.columns)
    return model.eval()


def export(job: SimpleNamespace) -> int:
    """Write the peer's model as ONNX to ``job.model``, as its own export does: by PyTorch's exporter, one image."""
    import torch

    class Answers(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any) -> tuple[Any, Any]:
            found = self.model(images)
            return found.pred_score, found.anomaly_map

    model = Answers(their_patchcore(job)).eval()
    example = (torch.rand(1, 3, job.size, job.size),)
    torch.onnx.export(model, example, job.model, input_names=["images"], dynamo=False)
    return 0


def opened(photo: str, size: int) -> Any:
    """The photograph at (size, size), RGB."""
    from PIL import Image

    return Image.open(photo).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


def work(job: SimpleNamespace) -> int:
    """Print milliseconds, resident MB and threads."""
    if job.side == "export":
        return export(job)
    answer = {"andon": andon, "plain": plain, "anomalib": anomalib}[job.side](job)
    answer(job.photos[0])
    first = time.perf_counter() - START
    times = []
    processor = time.process_time(), time.perf_counter()
    for number in range(WARM_UP + job.images):
        start = time.perf_counter()
        answer(job.photos[number % len(job.photos)])
        times.append(1000 * (time.perf_counter() - start))
    busy = (time.process_time() - processor[0]) / (time.perf_counter() - processor[1])
    times = sorted(times[WARM_UP:])
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print(json.dumps({
        "first_s": first, "p50_ms": times[len(times) // 2], "p99_ms": times[int(0.99 * (len(times) - 1))],
        "resident_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "threads_held": len(os.listdir("/proc/self/task")),
        "cores_busy": busy,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(work(SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text()))))
