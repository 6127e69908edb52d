"""From a photograph on disk to its verdict: milliseconds, memory, where the time goes, and what 8 bits and bf16 cost.

    python benchmarks/latency.py ../shared/data/mvtec_transistor [--methods patchcore padim] [--size 256] [--threads 2] \
        [--images 200] [--steps 20] [--artifacts FOLDER] [--set patchcore.dimensions=96] [--results benchmarks/results/latency.json]

Each method is fitted once in 32-bit floats and once with its convolutions in 8 bits (kept in --artifacts, and used again).
Time does not depend on training, so methods that train take ``--steps`` steps, and their AUROC says nothing about them: it
is there for the difference that a provider or a precision makes. Each line of the table is a process of its own, without
PyTorch. *open*: the artefact read, the graph made ready, the golden input answered; *first*: the first verdict after that;
p50, p99: the verdicts after ten more; *graph*: the network alone, median; *8 at once*: the same for eight images in one run,
an image; *MB*: resident memory after all that. GFLOP/s: two operations a multiply-add of the graph as exported, over its median time. bf16 is measured
where the processor has it. *Where each millisecond goes*: medians of the steps of a verdict, and the nodes of the graph as ONNX Runtime's
profiler times them. Measure on a quiet machine. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from andon.artifact import MODEL, read_artifact
from andon.bench.timing import WARM_UP, resident_mb
from andon.data import list_images
from andon.files import atomic_write
from andon.image import decode
from andon.runtime.explain import find_regions
from andon.runtime.predictor import Predictor

METHODS = ("patchcore", "padim", "efficientad", "reverse_distillation")
TRAINED = ("efficientad", "reverse_distillation")
TOGETHER = 8  # images in one run
PRODUCTS = ("Gemm", "MatMul", "MatMulIntegerToFloat")
COLUMNS = {
    "open_ms": "open ms", "first_ms": "first", "p50_ms": "p50", "p99_ms": "p99", "graph_ms": "graph", "together_ms": f"{TOGETHER} at once",
    "resident_mb": "MB", "artifact_mb": "artefact MB", "gmac": "GMAC", "gflops": "GFLOP/s", "image_auroc": "AUROC", "aupro_30": "AUPRO",
}  # fmt: skip
STEPS = ("decode", "prepare", "floats", "graph", "thresholds", "regions", "words")
Row = dict[str, Any]


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--job":
        return work(json.loads(sys.argv[2]))
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.artifacts or Path(scratch)
        rows = [row for method in options.methods for row in cells(method, folder, options)]
    page = PAGE.format(
        command=" ".join(sys.argv[1:]), machine=machine(), table=table(rows), spent=spent(rows)
    )
    print(page)
    if options.results:
        with atomic_write(options.results, "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)
        with atomic_write(options.results.with_suffix(".md"), "w") as file:
            file.write(page)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a folder in a known layout")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--providers", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--size", type=int, default=256, help="rows and columns; a multiple of 32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=200, help="verdicts to time")
    parser.add_argument("--steps", type=int, default=20, help="of methods that train")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="METHOD.NAME=VALUE", help="settings of methods"
    )
    parser.add_argument("--artifacts", type=Path, help="folder for the fitted detectors")
    parser.add_argument("--no-accuracy", action="store_true", help="leave out AUROC and AUPRO")
    parser.add_argument("--results", type=Path, help="JSON file to write; the page goes to .md")
    return parser.parse_args()


def cells(method: str, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the table for one method."""
    for convolutions in ("float32", "int8"):
        artifact = fitted(method, convolutions, folder, options)
        macs = multiply_adds(read_artifact(artifact).members[MODEL])
        for provider in options.providers:
            for precision in (
                ("f32", "bf16") if provider == "openvino" and convolutions == "float32" else ("f32",)
            ):
                job = {
                    "method": method, "convolutions": convolutions, "provider": provider, "precision": precision,
                    "artifact": str(artifact), "root": str(options.root), "threads": options.threads,
                    "images": options.images, "accuracy": not options.no_accuracy,
                }  # fmt: skip
                done = subprocess.run(
                    [sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True
                )
                row = job | (
                    json.loads(done.stdout) if done.returncode == 0 else {"error": reason(done.stderr)}
                )
                if "graph_ms" in row:
                    row |= {"gmac": macs / 1e9, "gflops": 2e-6 * macs / row["graph_ms"]}
                print(
                    {name: value for name, value in row.items() if name != "nodes"},
                    file=sys.stderr,
                    flush=True,
                )
                yield row


def reason(errors: str) -> str:
    """The last line of what a process said."""
    last = (errors.strip().splitlines() or ["nothing was said"])[-1]
    return last.partition(": ")[2].partition(" (")[0][:100]


def fitted(method: str, convolutions: str, folder: Path, options: argparse.Namespace) -> Path:
    """The artefact of ``method``, fitted where it is not there yet."""
    own = [given.partition(".")[2] for given in options.set if given.partition(".")[0] == method]
    own += [f"steps={options.steps}"] if method in TRAINED else []
    name = "-".join([method, convolutions, options.root.name, str(options.size), *own])
    artifact = folder / f"{name}.andon"
    if not artifact.exists():
        command = [sys.executable, "-m", "andon", "fit", str(options.root), "-o", str(artifact), "--quiet"]
        command += ["--method", method, "--size", f"{options.size}x{options.size}"]
        command += [word for setting in own for word in ("--set", setting)]
        subprocess.run(command + ["--int8"] * (convolutions == "int8"), check=True)
    return artifact


def multiply_adds(model: bytes) -> int:
    """Of one image, in the convolutions and matrix products of an ONNX graph."""
    import onnx

    alone = onnx.load_from_string(model)
    alone.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del alone.graph.value_info[:]  # for any number of images; inferred anew for one
    graph = onnx.shape_inference.infer_shapes(alone, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        shapes[value.name] = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in shapes:
            total += int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in PRODUCTS and node.input[0] in shapes and node.output[0] in shapes:
            total += int(np.prod(shapes[node.output[0]]) * inner(node, shapes[node.input[0]]))
    return total


def inner(node: Any, shape: list[int]) -> int:
    """The length that a matrix product sums over."""
    turned = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return shape[-2] if turned else shape[-1]


# --- one line, in a process of its own -------------------------------------------------------------------------


def work(job: Row) -> int:
    """Print the figures of one line as JSON."""
    photos = list_images(Path(job["root"]) / "test")
    listed = [photos[number % len(photos)] for number in range(job["images"] + WARM_UP)]
    start = time.perf_counter()
    predictor = Predictor.open(
        job["artifact"], threads=job["threads"], provider=job["provider"], precision=job["precision"]
    )
    figures: Row = {"open_ms": since(start)}
    start = time.perf_counter()
    predictor.inspect(listed[0])
    figures["first_ms"] = since(start)
    times = [timed(predictor.inspect, photo) for photo in listed][WARM_UP:]
    figures |= {"p50_ms": float(np.percentile(times, 50)), "p99_ms": float(np.percentile(times, 99))}
    figures["resident_mb"] = resident_mb()  # before eight at once, which no line asks for
    steps = [step_times(predictor, photo) for photo in listed[: max(40, WARM_UP + 1)]][WARM_UP:]
    figures["steps"] = {name: float(np.median([step[name] for step in steps])) for name in STEPS}
    images = next(predictor.preprocessing.apply(decode(listed[0]).pixels).batches())
    runs = max(20, job["images"] // 4)
    figures["graph_ms"] = repeated(lambda: predictor._graph.run(images), runs)
    figures["together_ms"] = (
        repeated(lambda: predictor._graph.run(images.repeat(TOGETHER, 0)), runs // 4) / TOGETHER
    )
    figures["artifact_mb"] = Path(job["artifact"]).stat().st_size / 1e6
    if job["provider"] == "onnxruntime":
        figures["nodes"] = nodes(predictor.artifact.members[MODEL], images, job["threads"])
    if job["accuracy"]:
        figures |= accuracy(predictor, Path(job["root"]))
    if "torch" in sys.modules:
        raise SystemExit("torch is loaded: this would not be the line computer's memory")
    print(json.dumps(figures))
    return 0


def since(start: float) -> float:
    return 1000 * (time.perf_counter() - start)


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    function(*arguments)
    return since(start)


def repeated(function: Callable[[], object], times: int) -> float:
    """The median of so many calls, in milliseconds."""
    return float(np.median([timed(function) for _ in range(3 + times)][3:]))


def step_times(predictor: Predictor, photo: Path) -> dict[str, float]:
    """Milliseconds of each step of one verdict; *words* is the rest of :meth:`Predictor.inspect`."""
    found: dict[str, float] = {}

    def step(name: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = function()
        found[name] = since(start)
        return value

    pixels = step("decode", lambda: decode(photo, white_level=predictor.preprocessing.white_level).pixels)
    prepared = step("prepare", lambda: predictor.preprocessing.apply(pixels))
    images = step("floats", lambda: next(prepared.batches()))
    step("graph", lambda: predictor._graph.run(images))
    measured = predictor.measure(photo)
    judged = step("thresholds", lambda: predictor.judge(measured, str(photo)))
    step("regions", lambda: find_regions(measured.anomaly_map, judged.map_thresholds, pixels.shape[:2]))
    return found | {"words": max(0.0, timed(predictor.inspect, photo) - sum(found.values()))}


def nodes(model: bytes, images: Any, threads: int) -> list[Row]:
    """Each node of the graph in order: name, kind, rank of its first input, median milliseconds."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = threads, 3
        settings.enable_profiling, settings.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        for _ in range(60):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[str, list[float]] = defaultdict(list)
    found: dict[str, Row] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, about = event["name"].removesuffix("_kernel_time"), event["args"]
            first = next(iter((about.get("input_type_shape") or [{}])[0].values()), [])
            found.setdefault(name, {"name": name, "kind": about["op_name"], "rank": len(first)})
            taken[name].append(event["dur"] / 1000)
    return [row | {"ms": float(np.median(taken[name][10:]))} for name, row in found.items()]


def accuracy(predictor: Predictor, root: Path) -> Row:
    """Image AUROC and AUPRO on the test images."""
    from andon.pipeline import judge

    figures = judge(predictor, root, bootstrap=0).evaluation.groups["all"]
    return {name: figures[name].value for name in ("image_auroc", "aupro_30")}


# --- the page --------------------------------------------------------------------------------------------------

PAGE = """# From photograph to verdict

`python benchmarks/latency.py {command}`

{machine}

{table}

## Where each millisecond goes

ONNX Runtime, 32-bit floats; medians.

{spent}
"""


def machine() -> str:
    """Date, processor and versions, in one line."""
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    units = [
        name
        for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
        if name in flags
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "numpy", "pillow"))
    cores = sum(line.startswith("processor") for line in lines)
    return f"{time.strftime('%Y-%m-%d')}; {model}, {cores} cores, {' '.join(units)}; Python {platform.python_version()}, {packages}."


def table(rows: list[Row]) -> str:
    """In Markdown, a line a cell."""
    head = ["method", "convolutions", "provider", "precision", *COLUMNS.values()]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 4 + "---:|" * len(COLUMNS)]
    for row in rows:
        start = [row[name] for name in ("method", "convolutions", "provider", "precision")]
        if "error" in row:
            lines.append(
                "| " + " | ".join([*start, f"not run: {row['error']}", *[""] * (len(COLUMNS) - 1)]) + " |"
            )
        else:
            lines.append("| " + " | ".join([*start, *(number(row.get(name)) for name in COLUMNS)]) + " |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4f}"
        if value <= 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


def spent(rows: list[Row]) -> str:
    """The steps of a verdict, the parts of PatchCore's graph, and the kinds of nodes that cost most."""
    found = [row for row in rows if "nodes" in row and row["convolutions"] == "float32"]
    lines = ["| method | " + " | ".join(STEPS) + " |", "|---|" + "---:|" * len(STEPS)]
    lines += [
        f"| {row['method']} | " + " | ".join(f"{row['steps'][name]:.2f}" for name in STEPS) + " |"
        for row in found
    ]
    lines += ["", "The graph, by kinds of nodes:", ""]
    for row in found:
        lines.append(
            f"- {row['method']}: {', '.join(f'{kind} {ms:.2f}' for kind, ms in by_kind(row['nodes'])[:8])}."
        )
    for row in found:
        if row["method"] == "patchcore":
            cost = parts(row["nodes"])
            shares = ", ".join(
                f"{name} {ms:.2f} ms ({100 * ms / sum(cost.values()):.0f} %)" for name, ms in cost.items()
            )
            lines += ["", f"PatchCore's graph, by parts: {shares}."]
    return "\n".join(lines)


def by_kind(found: list[Row]) -> list[tuple[str, float]]:
    """Milliseconds of each kind of node, most first."""
    total: dict[str, float] = defaultdict(float)
    for node in found:
        total[node["kind"]] += node["ms"]
    return sorted(total.items(), key=lambda item: -item[1])


def parts(found: list[Row]) -> dict[str, float]:
    """Milliseconds of PatchCore's backbone (with its patches), of the search with the image score, and of the map.

    The search begins with the first product of matrices, or with what makes bytes for it; the map's two products alone
    have four dimensions.
    """
    products = [
        k for k, node in enumerate(found) if node["kind"] in (*PRODUCTS, "FusedMatMul") and node["rank"] == 2
    ]
    start = products[0]
    while found[start - 1]["kind"] in ("Sub", "QuantizeLinear", "Expand", "Concat"):
        start -= 1
    cost = {"backbone": 0.0, "search": 0.0, "map": 0.0}
    for k, node in enumerate(found):
        is_map = "MatMul" in node["kind"] and node["rank"] == 4
        cost["map" if is_map else "search" if k >= start else "backbone"] += node["ms"]
    return cost


if __name__ == "__main__":
    sys.exit(main())
