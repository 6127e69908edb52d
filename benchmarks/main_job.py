"""Fit, evaluate and time detectors on real sets, as the command line does it.

    python benchmarks/main_job.py ../shared/data/* [--method patchcore padim] [--seeds 0 1 2]
    python benchmarks/main_job.py ../shared/data/* --method all --minutes 3 --json methods.json

Each set is fitted in a process of its own (its peak memory is measured there), then answered by the torch-free
runtime in another one (milliseconds an image, decode to verdict, and resident memory). Prints a table in Markdown;
--json FILE keeps the figures. Needs a POSIX system: peak memory comes from wait4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COLUMNS = {
    "set": "set", "method": "method", "seed": "seed", "size": "input", "train": "good images", "image_auroc": "image AUROC",
    "image_ap": "AP", "aupro_30": "AUPRO", "auspro_5": "AUsPRO@5%", "fpr": "FPR", "fnr": "FNR", "fit_seconds": "fit s",
    "fit_peak_mb": "fit peak MB", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "runtime_mb": "runtime MB", "artifact_mb": "artefact MB",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--method", nargs="+", default=["patchcore", "padim"], help="'all' for every one")
    parser.add_argument("--backbone", help="of methods that have one; default: their own, andon-s")
    parser.add_argument("--size", help="for example 256x256; default: the photographs' own shape")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="training budget of methods that train")
    parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--json", type=Path, help="keeps the figures; cells that it has are not computed again"
    )
    options = parser.parse_args()
    methods = every_method() if options.method == ["all"] else options.method
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    known = {(row["set"], row["method"], row["seed"]): row for row in rows}
    print("| " + " | ".join(COLUMNS.values()) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for root in options.roots:
        for method in methods:
            for seed in options.seeds:
                row = known.get((root.name, method, seed)) or cell(root, method, seed, options)
                print("| " + " | ".join(shown(row.get(key)) for key in COLUMNS) + " |", flush=True)
                if (root.name, method, seed) not in known:
                    rows.append(row)
                    if options.json:
                        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def every_method() -> list[str]:
    from andon.models import DETECTORS

    return list(DETECTORS)


def shown(value: Any) -> str:
    return (
        f"{value:.3f}"
        if isinstance(value, float) and value < 10
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def cell(root: Path, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One set, one method, one seed: fitted, evaluated and timed, each in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        artifact, figures = Path(scratch, "part.andon"), Path(scratch, "figures.json")
        fit = [
            "fit",
            root,
            "-o",
            artifact,
            "--method",
            method,
            "--seed",
            seed,
            "-q",
        ]
        fit += ["--backbone", options.backbone] if options.backbone else []
        fit += ["--minutes", options.minutes] if options.minutes else []
        fit += ["--size", options.size] if options.size else []
        for assignment in options.assignments:
            fit += ["--set", assignment]
        seconds, peak = timed(fit)
        timed(["evaluate", artifact, root, "--json", figures, "--bootstrap", 0, "-q"])
        runtime = json.loads(subprocess.run(
            [sys.executable, "-m", "andon.bench.timing", str(artifact), str(root), "--threads", str(options.threads), "--json"],
            check=True, capture_output=True, text=True).stdout)  # fmt: skip
        found = {
            name: metric["value"] for name, metric in json.loads(figures.read_text())["groups"]["all"].items()
        }
        manifest = json.loads(subprocess.run([sys.executable, "-m", "andon", "show", str(artifact), "--json"],
                                             check=True, capture_output=True, text=True).stdout)  # fmt: skip
        return {
            **found, **runtime, "set": root.name, "method": method, "seed": seed, "train": manifest["data"]["train"],
            "size": "x".join(map(str, manifest["preprocessing"]["size"])), "fit_seconds": seconds, "fit_peak_mb": peak,
            "artifact_mb": artifact.stat().st_size / 1e6,
        }  # fmt: skip


def timed(arguments: list[Any]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one ``andon`` command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "andon", *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"andon {' '.join(map(str, arguments))} failed")
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return time.perf_counter() - start, usage.ru_maxrss / scale


if __name__ == "__main__":
    sys.exit(main())
