"""From the start of a process to its verdict: `andon inspect` on one image, and which imports that time goes to.

    python benchmarks/startup.py part.andon photo.png [--times 20] [--providers onnxruntime openvino] \
        [--results benchmarks/results/startup.json]

Wall and CPU seconds of whole processes, the disk's cache and Python's compiled files warm (two runs are not counted); the
same for a process that only starts Python, and for one that also imports what cannot be done without. Milliseconds by
module: ``python -X importtime``, the least of five runs, what a module imports counted with it. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from andon.files import atomic_write

NEEDED = "import numpy, PIL.Image, onnxruntime, click"
LEAST = 2.0  # milliseconds of a module that the table names
LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( *)(\S+)")
PAGE = """# From the start of a process to its verdict

`python benchmarks/startup.py {command}`

{date}; {processor}; Python {python}. {times} runs each, `--threads 2`.

| process | wall s: median | least | greatest | CPU s: median |
|---|---:|---:|---:|---:|
{processes}

Milliseconds of imports in `andon inspect`, each with what it imports itself, those of {least:g} ms and more:

{modules}
"""


def main() -> int:
    options = arguments()
    inspect = ["-m", "andon", "inspect", str(options.artifact), str(options.photo), "--threads", "2"]
    processes = {"python -c pass": ["-c", "pass"], NEEDED: ["-c", NEEDED]}
    processes |= {
        f"andon inspect, {provider}": [*inspect, "--provider", provider] for provider in options.providers
    }
    with tempfile.TemporaryDirectory() as compiled:
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
        } | {"PYTHONPYCACHEPREFIX": compiled}
        found = {name: timed(command, options.times, environment) for name, command in processes.items()}
        modules = imports(inspect, environment)
    page = written(found, modules, options.times)
    print(page)
    if options.results:
        with atomic_write(options.results, "w") as file:
            json.dump({"processes": found, "modules": modules}, file, indent=1)
        with atomic_write(options.results.with_suffix(".md"), "w") as file:
            file.write(page)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--providers", nargs="+", default=["onnxruntime"])
    parser.add_argument("--results", type=Path, help="JSON file to write; the page goes to .md")
    return parser.parse_args()


def timed(command: list[str], times: int, environment: dict[str, str]) -> dict[str, Any]:
    """Wall and CPU seconds of ``times`` runs of Python with ``command``, two before them not counted."""
    wall, cpu = [], []
    for _ in range(times + 2):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        wall.append(time.perf_counter() - start)
        if done.returncode not in (0, 1):  # 1: the photograph did not pass
            raise SystemExit(done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall": wall[2:], "cpu": cpu[2:]}


def imports(command: list[str], environment: dict[str, str]) -> dict[str, tuple[int, float]]:
    """Of each module in the order that imports end: depth, and the least milliseconds of five runs."""
    taken: dict[str, list[float]] = defaultdict(list)
    depth: dict[str, int] = {}
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command], env=environment, capture_output=True, text=True
        )
        for _, whole, indent, name in LINE.findall(done.stderr):
            depth[name] = len(indent) // 2
            taken[name].append(int(whole) / 1000)
    return {name: (depth[name], min(times)) for name, times in taken.items()}


def written(found: dict[str, Any], modules: dict[str, tuple[int, float]], times: int) -> str:
    rows = [
        f"| `{name}` | {np.median(run['wall']):.3f} | {min(run['wall']):.3f} | {max(run['wall']):.3f} | "
        f"{np.median(run['cpu']):.3f} |"
        for name, run in found.items()
    ]
    tops = [(name, ms) for name, (depth, ms) in modules.items() if depth <= 1 and ms >= LEAST]
    lines = [f"- {ms:.0f} {name}" for name, ms in sorted(tops, key=lambda item: -item[1])]
    about = Path("/proc/cpuinfo").read_text().splitlines()
    return PAGE.format(
        command=" ".join(sys.argv[1:]), date=time.strftime("%Y-%m-%d"), python=platform.python_version(), times=times,
        processor=next((line.partition(": ")[2] for line in about if line.startswith("model name")), "unknown"),
        processes="\n".join(rows), modules="\n".join(lines), least=LEAST,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
