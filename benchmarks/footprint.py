"""What the runtime takes on a line computer: disk, memory, threads; beside plain ONNX Runtime and anomalib.

    python benchmarks/footprint.py ../shared/data/mvtec_transistor --weights ../shared/weights/resnet18_l3.pt \
        --peer-python ../peer/bin/python [--extras "" openvino fit all] [--images 100] [--results benchmarks/results/footprint.json]

Installed size: of everything in a fresh environment's site-packages after ``pip install .[EXTRA] -c constraints.txt``, without pip
and setuptools, compiled files not counted; ``all`` is every extra but ``dev``, and ``federated``,
which wants an environment of its own. Memory and threads: PatchCore with a ResNet18 of the given weights
and a bank of 2,000 rows, and with andon-s; each line a fresh process, resident memory after the last verdict. *first*: from the process's first
line of Python to the first verdict. *anomalib* in ONNX Runtime and OpenVINO: its model exported by PyTorch as its own export does. *cores busy*: CPU time over wall time. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from andon.artifact import MODEL, read_artifact
from andon.data import list_images
from andon.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("footprint_side.py")
COLUMNS = {"resident_mb": "MB", "threads_held": "threads", "cores_busy": "cores busy", "first_s": "first s",
           "p50_ms": "p50 ms", "p99_ms": "p99 ms"}  # fmt: skip
ROWS, COLUMNS_R18 = 2000, 384  # of the memory bank; ResNet18's second and third stages
NAMED = 6  # largest packages of an environment that the table names
PAGE = """# What the runtime takes

`python benchmarks/footprint.py {command}`

{date}; {processor}; Python {python}.

## Disk

{disk}

## Memory and threads

{memory}
"""
Row = dict[str, Any]


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        disk = [installed(extra, Path(scratch)) for extra in options.extras]
        if options.peer_python:
            disk.append(peer_installed(options.peer_python))
        memory = list(held(options, Path(scratch)))
    page = written(disk, memory)
    print(page)
    if options.results:
        with atomic_write(options.results, "w") as file:
            json.dump({"disk": disk, "memory": memory}, file, indent=1)
        with atomic_write(options.results.with_suffix(".md"), "w") as file:
            file.write(page)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a folder in a known layout")
    parser.add_argument("--weights", type=Path, help="of a ResNet18, norms folded; without: andon-s alone")
    parser.add_argument("--peer-python", help="of the environment with anomalib, and onnx for its export")
    parser.add_argument(
        "--extras", nargs="*", default=["", "openvino", "fit", "all"], help="environments to install"
    )
    parser.add_argument("--size", type=int, default=256, help="rows and columns; a multiple of 32")
    parser.add_argument("--images", type=int, default=100, help="verdicts a line")
    parser.add_argument("--fit-images", type=int, help="at most so many good ones for the fit; default: all")
    parser.add_argument("--results", type=Path, help="JSON file to write; the page goes to .md")
    return parser.parse_args()


# --- disk ------------------------------------------------------------------------------------------------------


def installed(extra: str, scratch: Path) -> Row:
    """MB of a fresh environment with Andon and ``extra``."""
    folder = scratch / f"venv-{extra or 'bare'}"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    names = extra if extra != "all" else ",".join(sorted(extras() - {"dev", "federated"}))
    source = copied(scratch / "source")
    wanted = f"{source}[{names}]" if names else str(source)
    print(f"pip install {wanted}", file=sys.stderr, flush=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", wanted, "-c", ROOT / "constraints.txt"], check=True
    )
    return {
        "name": f"andon[{names}]" if names else "andon",
        **sizes(next(folder.glob("lib/python*/site-packages"))),
    }


def copied(folder: Path) -> Path:
    """A copy of what the package is built from, so that building leaves nothing in the repository."""
    if not folder.exists():
        shutil.copytree(
            ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
        )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder / name)
    return folder


def extras() -> set[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def peer_installed(python: str) -> Row:
    """MB of the peer's environment."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return {"name": "anomalib 2.7 with its CPU torch", **sizes(Path(done.stdout.strip()))}


def sizes(folder: Path) -> Row:
    """MB of the packages in ``folder``, together and the largest."""
    packages: dict[str, float] = {}
    for path in folder.iterdir():
        name = path.name.partition("-")[0].removesuffix(".libs").removesuffix(".py")
        if name not in ("pip", "setuptools", "_distutils_hack", "pkg_resources", "__pycache__"):
            packages[name] = packages.get(name, 0.0) + bytes_of(path) / 1e6
    largest = sorted(packages.items(), key=lambda item: -item[1])[:NAMED]
    return {"mb": sum(packages.values()), "largest": largest}


def bytes_of(path: Path) -> int:
    """Of a file, or of all files below a folder, compiled ones left out."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")


# --- memory and threads ----------------------------------------------------------------------------------------


def held(options: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    """The rows of the second table."""
    backbones = {"andon-s": "andon-s"} | (
        {"ResNet18": str(options.weights.resolve())} if options.weights else {}
    )
    for name, backbone in backbones.items():
        artifact, model = fitted(backbone, options, scratch / f"{name}.andon"), scratch / f"{name}.onnx"
        model.write_bytes(read_artifact(artifact).members[MODEL])
        files = {"artifact": str(artifact), "model": str(model)}
        for side, provider in (("andon", "onnxruntime"), ("andon", "openvino"), ("plain", "onnxruntime")):
            for threads in (1, 2):
                what = {"backbone": name, "side": side, "provider": provider, "threads": threads}
                yield what | measured(sys.executable, what | files, options, scratch)
    if options.peer_python and options.weights:
        yield from peer_held(options, scratch)


def peer_held(options: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    """The peer's rows: its torch model, and what its export becomes in either provider."""
    model = {"backbone": "ResNet18", "model": str(scratch / "peer.onnx")}
    measured(options.peer_python, model | {"side": "export", "threads": 1}, options, scratch)
    for provider in ("torch", "onnxruntime", "openvino"):
        for threads in (1, 2):
            what = {"backbone": "ResNet18", "side": "anomalib", "provider": provider, "threads": threads}
            side = {} if provider == "torch" else {"side": "plain"}
            python = options.peer_python if provider == "torch" else sys.executable
            yield what | measured(python, model | what | side, options, scratch)


def fitted(backbone: str, options: argparse.Namespace, artifact: Path) -> Path:
    """A PatchCore of the options' size, its bank :data:`ROWS` rows."""
    command = [sys.executable, "-m", "andon", "fit", str(options.root), "-o", str(artifact), "--quiet"]
    command += [
        "--backbone",
        backbone,
        "--size",
        f"{options.size}x{options.size}",
        "--set",
        f"bank_limit={ROWS}",
    ]
    command += ["--limit", str(options.fit_images)] if options.fit_images else []
    subprocess.run(command, check=True)
    return artifact


def measured(python: str, what: Row, options: argparse.Namespace, scratch: Path) -> Row:
    """What a process of its own found, or why it found nothing."""
    job = scratch / "job.json"
    about = {
        "photos": [str(path) for path in list_images(options.root / "test")], "images": options.images, "size": options.size,
        "method": "patchcore", "layers": ["layer2", "layer3"], "weights": str(options.weights and options.weights.resolve()),
        "rows": ROWS, "columns": COLUMNS_R18, "train": [],
    }  # fmt: skip
    job.write_text(json.dumps(about | what))
    environment = {**os.environ, "OMP_NUM_THREADS": str(what["threads"])}
    done = subprocess.run([python, str(WORKER), str(job)], capture_output=True, text=True, env=environment)
    said = done.stderr.strip().splitlines() or ["nothing was said"]
    found = json.loads(done.stdout or "{}") if done.returncode == 0 else {"error": said[-1][:200]}
    print(what | found, file=sys.stderr, flush=True)
    return found


# --- the page --------------------------------------------------------------------------------------------------


def written(disk: list[Row], memory: list[Row]) -> str:
    sizes = ["| environment | MB | of that |", "|---|---:|---|"]
    sizes += [
        f"| {row['name']} | {row['mb']:.0f} | {', '.join(f'{name} {mb:.0f}' for name, mb in row['largest'])} |"
        for row in disk
    ]
    lines = [
        "| backbone | runs in | asked threads | " + " | ".join(COLUMNS.values()) + " |",
        "|" + "---|" * 3 + "---:|" * len(COLUMNS),
    ]
    for row in memory:
        start = [row["backbone"], f"{row['side']}, {row['provider']}", str(row["threads"])]
        figures = (
            [f"{row[name]:.3g}" for name in COLUMNS]
            if "error" not in row
            else [f"not run: {row['error']}", *[""] * (len(COLUMNS) - 1)]
        )
        lines.append("| " + " | ".join([*start, *figures]) + " |")
    about = Path("/proc/cpuinfo").read_text().splitlines()
    return PAGE.format(
        command=" ".join(sys.argv[1:]), date=time.strftime("%Y-%m-%d"), python=platform.python_version(),
        processor=next((line.partition(": ")[2] for line in about if line.startswith("model name")), "unknown"),
        disk="\n".join(sizes), memory="\n".join(lines),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
