"""One cell, in a process of its own: fit, evaluate, time, write what was found.

    python -m andon.bench.cell RESULT < task.json

The first line of standard input is the task; when the input ends, whoever asked is gone, and so is this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.cells import finite
from andon.data import read_channels
from andon.errors import AndonError
from andon.files import atomic_write
from andon.metrics.entropy import entropy_outside
from andon.pipeline import fit, judge
from andon.runtime.predictor import Predictor
from andon.types import Evaluation, Sample

REFUSED = 3  # exit status: the cell cannot be computed, and its result says why
Row = dict[str, Any]


def compute(task: Row, scratch: Path) -> Row:
    """The figures of one task (:func:`andon.bench.run.task_of`). Raises :class:`AndonError`."""
    cell, threads, options = task["cell"], task["threads"], dict(task["cell"]["options"])
    root = Path(task["root"])
    if window := options.pop("window", None):
        from andon.bench.window import cut_windows

        root = cut_windows(root, cell["category"], window, scratch / "windows")
    if "size" in options:
        options["size"] = tuple(options["size"])
    _limit_threads(threads)
    artifact, start = scratch / "part.andon", time.perf_counter()
    fitted = fit(
        root,
        artifact,
        method=cell["method"],
        category=cell["category"],
        seed=cell["seed"],
        **options,
        **cell["settings"],
    )
    seconds, peak = time.perf_counter() - start, peak_mb()
    spread: list[float] = []
    judged = judge(
        Predictor.open(artifact, threads=threads),
        root,
        category=cell["category"],
        bootstrap=0,
        watch=_entropies(spread),
    )
    costs = {
        "threads": threads, "fit_seconds": seconds, "train_seconds": fitted.manifest["fit"]["seconds"], "fit_peak_mb": peak,
        "artifact_mb": artifact.stat().st_size / 1e6, **_timed(artifact, judged.evaluation, task, scratch),
    }  # fmt: skip
    data = {name: fitted.manifest["data"][name] for name in ("train", "held_out", "calibration")}
    phases = fitted.manifest["fit"].get("curve", [])
    data["steps"] = [sum(phase[name] for phase in phases) for name in ("done", "planned")]
    return {
        **_figures(judged.evaluation, float(np.mean(spread)) if spread else None), "costs": costs,
        "data": {**data, "test": len(judged.evaluation.rows), "size": fitted.manifest["preprocessing"]["size"]},
    }  # fmt: skip


def peak_mb() -> float | None:
    """The most memory that this process has held, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _entropies(found: list[float]) -> Callable[[Sample, NDArray[np.float32]], None]:
    """What notes, of every anomalous image with a mask, how evenly the rest of its map is lit."""

    def watch(sample: Sample, anomaly_map: NDArray[np.float32]) -> None:
        if not sample.is_anomalous or not sample.masks:
            return
        size = (int(anomaly_map.shape[0]), int(anomaly_map.shape[1]))
        masks = [channel.anomaly_mask for channel in read_channels(sample, size)]
        value = entropy_outside(anomaly_map, np.any(masks, axis=0)) if masks else None
        found.extend([] if value is None else [value])

    return watch


def _figures(evaluation: Evaluation, spread: float | None) -> Row:
    groups = {
        name: {
            metric: None if found.value is None else finite(found.value) for metric, found in metrics.items()
        }
        for name, metrics in evaluation.groups.items()
    }
    return {"figures": {**groups.pop("all"), "entropy_outside": spread}, "groups": groups}


def _timed(artifact: Path, evaluation: Evaluation, task: Row, scratch: Path) -> Row:
    """Milliseconds and memory of the torch-free runtime, measured in another process."""
    photos = scratch / "photos.txt"
    photos.write_text("\n".join(row.path for row in evaluation.rows if not row.error))
    command = [sys.executable, "-m", "andon.bench.timing", str(artifact), str(photos)]
    command += ["--threads", str(task["threads"]), "--images", str(task["timed_images"]), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise AndonError(f"the runtime could not be timed: {answer.stderr.strip()[-500:]}")
    found: Row = json.loads(answer.stdout)
    return found


def _end_with_whoever_asked() -> None:
    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(4)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Compute the task on standard input, write its result to the path that is the first argument."""
    task = json.loads(sys.stdin.buffer.readline())
    _end_with_whoever_asked()
    try:
        with tempfile.TemporaryDirectory(prefix="andon-cell-") as scratch:
            row, status = {"status": "done", **compute(task, Path(scratch))}, 0
    except AndonError as error:
        row, status = {"status": "failed", "error": " ".join(str(error).split())}, REFUSED
    with atomic_write(sys.argv[1], "w") as file:
        json.dump(row, file, indent=1, sort_keys=True)
    os._exit(status)  # not past the thread that still reads


if __name__ == "__main__":
    main()
