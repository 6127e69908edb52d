"""Make an environment and install Andon into it, once.

    python3 tools/setup.py .venv            everything that developing needs (PyTorch's CPU build)
    python3 tools/setup.py .venv-line --line   what a line computer needs (no PyTorch)

PyTorch for Linux comes from the default registry with several gigabytes of CUDA packages. So this asks pip
first what it would install; where that includes CUDA, PyTorch's own index of CPU builds is used instead
(or the one that TORCH_INDEX names).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--line", action="store_true", help="only the runtime: no PyTorch, no development tools"
    )
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 (run before anything is installed)
        print(f"Andon needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    folder: Path = options.folder
    print(f"Setting up {folder} (once; a minute or two) ...", flush=True)
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    if options.line:
        subprocess.run([*pip, str(ROOT)], check=True)
    else:
        subprocess.run([*pip, *torch_arguments(python), pinned("torch")], check=True)
        subprocess.run([*pip, "-e", f"{ROOT}[dev]"], check=True)
    (folder / ".ready").touch()
    return 0


def pinned(package: str) -> str:
    """The line of constraints.txt that pins ``package``."""
    lines = CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def torch_arguments(python: str) -> list[str]:
    """Extra arguments for pip that keep PyTorch's CUDA packages away."""
    if os.environ.get("TORCH_INDEX"):
        return ["--index-url", os.environ["TORCH_INDEX"]]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        plan = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
                "--report", str(report), pinned("torch")]  # fmt: skip
        subprocess.run(plan, check=True)
        wanted = [item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]]
    cuda = [name for name in wanted if name.startswith(("nvidia-", "cuda-", "triton"))]
    return ["--index-url", CPU_INDEX] if cuda else []


if __name__ == "__main__":
    sys.exit(main())
