"""``andon doctor``: what is installed, what is missing for what, and how fast this machine is."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

import click

from andon import __version__

NEEDED = {  # what for -> packages
    "inspecting (andon)": ["numpy", "pillow", "onnxruntime", "click", "tqdm"],
    "fitting (andon[fit])": ["torch", "onnx", "onnxscript", "safetensors"],
    "reports (andon[report])": ["matplotlib", "jinja2"],
}
OPTIONAL = {
    "timm": "backbones named timm:...",
    "openvino": "--provider openvino",
    "opencv-python-headless": "--align, andon nuisance: andon[nuisance]",
    "zxing-cpp": "zones of codes, --read-code: andon[nuisance]",
    "paho-mqtt": "andon watch --mqtt: andon[line]",
    "asyncua": "andon watch --opcua: andon[opcua]",
    "pymodbus": "andon watch --modbus: andon[modbus]",
    "harvesters": "andon watch --camera: andon[camera]",
    "mlflow-skinny": "andon fit --mlflow at a server: andon[mlflow]",
    "fastapi": "andon serve: andon[serve]",
    "sqlalchemy": "andon records, andon users, watch --records: andon[records]",
    "ray": "--ray: andon[ray]",
}
FLAGS = ["sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve"]


@click.command("doctor", short_help="Say what is installed, what is missing, and how fast it is.")
@click.option("--seconds", default=2.0, show_default=True, help="How long the speed check may take.")
def command(seconds: float) -> int:
    """Say what is installed, what is missing for what, and how fast this machine is.

    Exit status: 0 when images can be inspected here, 2 when not.
    """
    click.echo(
        f"andon {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    click.echo(f"processor: {cores()} cores usable, {', '.join(cpu_flags()) or 'features unknown'}")
    click.echo(f"memory: {memory()}")
    broken = False
    for purpose, packages in NEEDED.items():
        click.echo(f"\n{purpose}")
        for package in packages:
            version = version_of(package)
            broken |= version is None and purpose.startswith("inspecting")
            mark = click.style("ok     ", fg="green") if version else click.style("missing", fg="yellow")
            click.echo(f"  {mark} {package} {version or ''}".rstrip())
    missing = [package for package in NEEDED["fitting (andon[fit])"] if version_of(package) is None]
    if missing:
        click.echo('\nTo fit detectors here: pip install "andon[fit]"  (inspecting needs none of it)')
    click.echo("\noptional")
    for package, purpose in OPTIONAL.items():
        click.echo(f"  {package} {version_of(package) or 'is not installed'} ({purpose})")
    if broken:
        return 2
    click.echo(f"\nspeed: {speed(seconds)}")
    return 0


def version_of(package: str) -> str | None:
    """The installed version of ``package``, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_flags() -> list[str]:
    """The features of the processor that matter here, where the system tells them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines() if line.lower().startswith(("flags", "features"))]
    present = set(lines[0].split()) if lines else set()
    return [flag for flag in FLAGS if flag in present]


def memory() -> str:
    """Total memory in words."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"


def speed(seconds: float) -> str:
    """What a matrix product of NumPy reaches here, in GFLOP/s, single precision, all cores."""
    import numpy as np

    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    a @ a
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return f"{2 * 1024**3 / best / 1e9:.0f} GFLOP/s (matrix product, float32; {sys.platform})"
