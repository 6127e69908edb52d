"""What the tests of the line share: drawn photographs, a detector made without fitting, a sink that can fail."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import AndonError, ImageError
from andon.image import decode
from andon.runtime.line import FilesSink, FolderSource, Line, LineSettings, Part, Result, Sink, Store, Timing
from andon.runtime.line.inspecting import Inspection

Pixels = NDArray[np.uint8]
QUICK = Timing(poll=0.01, settle=0.02, patience=0.15)


def photo(seed: int, size: tuple[int, int] = (24, 32)) -> bytes:
    """A PNG of noise: another one for each seed."""
    return png(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, numbers: Iterable[int], start: float = 1e9) -> list[str]:
    """Whole photographs 000.png, 001.png, ... renamed into place, each a second younger than the one before."""
    import os

    names = []
    for number in numbers:
        names.append(f"{number:03}.png")
        hidden = folder / f".{names[-1]}"
        hidden.write_bytes(photo(number))
        os.utime(hidden, (start + number, start + number))
        hidden.rename(folder / names[-1])
    return names


def striped(seed: int, light: float = 1.0) -> Pixels:
    """(64, 96, 3) uint8: a striped part with noise, under more or less light."""
    rng = np.random.default_rng(seed)
    pixels = 120 + 40 * np.sin(np.arange(96) / 4)[None, :, None] + rng.normal(0, 6, (64, 96, 3))
    return (pixels * light * rng.normal(1, 0.01)).clip(0, 255).astype(np.uint8)


def difference_detector(path: Path) -> Path:
    """An artefact of five ONNX nodes, for :func:`striped`: how far a place is from the mean good part, on average."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from andon.artifact import GOLDEN_INPUT, GOLDEN_MAP, MODEL, Artifact
    from andon.calibrate import calibrate, calibration_to_dict
    from andon.image import Preprocessing, prepare

    preprocessing = Preprocessing((64, 96))
    good = [prepare(striped(seed), preprocessing)[1].images for seed in range(40)]
    mean = np.mean(np.concatenate(good[:20]), axis=(0, 1), dtype=np.float64)[None, None].astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["grey"], axes=[1]),
        helper.make_node("Sub", ["grey", "mean"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["far"]),
        helper.make_node("AveragePool", ["far"], ["anomaly_map"], kernel_shape=[9, 9], pads=[4, 4, 4, 4]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["image_score"], axes=[1, 2, 3], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 64, 96])
    answers = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", 1, 64, 96]),
        helper.make_tensor_value_info("image_score", TensorProto.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(nodes, "difference", [images], answers, [numpy_helper.from_array(mean, "mean")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    golden, buffer = png(striped(0)), io.BytesIO()
    np.save(buffer, session.run(None, {"images": prepare(golden, preprocessing)[1].images})[0][0, 0])
    scores = [float(session.run(None, {"images": one})[1][0]) for one in good[20:]]
    manifest = {
        "preprocessing": preprocessing.to_dict(),
        "calibration": calibration_to_dict(calibrate(scores, map_peaks=scores)),
        "detector": {"method": "difference", "settings": {}},
    }
    members = {MODEL: data, GOLDEN_INPUT: golden, GOLDEN_MAP: buffer.getvalue()}
    return Artifact(manifest, members).save(path)


class Echo:
    """Stands in for an inspector: an image that can be decoded passes; ``pause`` seconds a part."""

    def __init__(self, pause: float = 0.0, overlay: bytes | None = None) -> None:
        self.pause, self.overlay = pause, overlay
        self.seen: list[str] = []

    def inspect(self, part: Part) -> Inspection:
        time.sleep(self.pause)
        self.seen.append(part.name)
        decision, error = "pass", part.problem
        try:
            decode(part.image)
        except ImageError as broken:
            error = error or str(broken)
        if error:
            decision = "error"
        document = {"part": Path(part.name).stem, "name": part.name, "decision": decision, "error": error,
                    "score": 0.5, "sentence": "", "notes": [], "drift": []}  # fmt: skip
        return Inspection(decision, document, self.overlay if not error else None)

    def standing_drift(self) -> tuple[str, ...]:
        return ()

    def stored(self) -> str:
        return ""


class Memory(Sink):
    """Keeps what it gets; ``fail`` may raise before."""

    def __init__(
        self, name: str = "memory", fail: Callable[[], None] = lambda: None, halts_line: bool = False
    ) -> None:
        self.name, self.fail, self.halts_line = name, fail, halts_line  # fmt: skip
        self.got: list[int] = []
        self.states: list[str] = []

    def deliver(self, results: Sequence[Result]) -> None:
        self.fail()
        self.got += [result.sequence for result in results]

    def report(self, status: object) -> None:
        self.states.append(status.state)  # type: ignore[attr-defined]


def line_of(
    folder: Path, out: Path, *, inspector: Echo | None = None, sinks: Sequence[Sink] | None = None,
    source: FolderSource | None = None, store: Store | None = None, said: list[str] | None = None, **settings: object,
) -> Line:  # fmt: skip
    """A line over ``folder``; with files as its one sink unless there are others."""
    say = (said if said is not None else []).append
    return Line(
        source or FolderSource(folder, timing=QUICK, say=say),
        inspector or Echo(),  # type: ignore[arg-type]
        [FilesSink(out)] if sinks is None else sinks,
        store or Store(out / "line.sqlite"),
        out,
        artifact=("part.andon", "0" * 64),
        settings=LineSettings(**{"heartbeat": 0.05, **settings}),  # type: ignore[arg-type]
        say=say,
    )


class Running:
    """A line that runs in a thread inside the block; what it raised is raised at the end."""

    def __init__(self, line: Line) -> None:
        self.line, self.stop, self.error = line, threading.Event(), None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        store = self.line.store
        self.line.store = Store(store.path)  # SQLite's connections belong to their threads
        try:
            self.line.run(self.stop)
        except (AndonError, ValueError, KeyError, AssertionError) as error:
            self.error = error
        finally:
            self.line.store.close()

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(15)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for ``condition``; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def documents(out: Path) -> list[dict[str, object]]:
    """All results below ``out``, by their numbers."""
    return [json.loads(path.read_text()) for path in sorted((out / "parts").rglob("*.json"))]


def logged(out: Path) -> list[str]:
    """The lines of all days' CSV, without heads."""
    lines = []
    for path in sorted((out / "log").glob("*.csv")):
        text = path.read_text()
        assert text.endswith("\n")
        lines += text.splitlines()[1:]
    return lines
