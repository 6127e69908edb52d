"""A module imports only from its own layer or a lower one, and the torch-free part never imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "andon"
LAYERS = {
    "errors": 0, "types": 0, "files": 0, "cells": 0, "path_pattern": 0,
    "components": 1, "outline": 1, "runs": 1, "image": 1, "artifact": 1, "heatmap": 1, "metrics": 1,
    "data": 2, "features": 2, "calibrate": 2, "nuisance": 2,
    "models": 3,
    "tracking": 2,
    "training": 4, "engine": 4, "evaluate": 4, "audit": 4,
    "quantise": 1, "export": 5, "report": 5,
    "runtime": 6, "records": 6,
    "pipeline": 7, "app": 7, "federated": 7, "distributed": 7, "bench": 7,
    "cli": 8,
}  # fmt: skip
TORCH_FREE = ["errors", "types", "files", "cells", "path_pattern", "image", "artifact", "components", "outline", "runs", "heatmap", "metrics", "data",
              "data.synthetic", "calibrate", "nuisance", "evaluate", "audit", "audit.kinds", "report", "runtime.predictor", "runtime.explain", "runtime.monitor", "runtime.line", "records", "runtime.server", "app", "app.settings", "app.station", "app.inspecting", "app.journal", "app.reviewing", "app.calibrating", "app.comparing", "app.saving", "app.taught", "app.teaching", "app.zoning", "tracking",
              "pipeline", "cli"]  # fmt: skip
FILES = sorted(SRC.rglob("*.py"))


def unit(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """The Andon units that ``path`` imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            names |= (
                {node.module or ""} if node.module != "andon" else {f"andon.{a.name}" for a in node.names}
            )
    return {name.split(".")[1] for name in names if name.startswith("andon.")}


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__main__.py" and p != SRC / "__init__.py"],
                         ids=lambda p: str(p.relative_to(SRC)))  # fmt: skip
def test_imports_only_lower_layers(path: Path) -> None:
    here = unit(path)
    assert here in LAYERS, f"{path.name} has no layer: add it to DESIGN's table and to this test"
    for other in imported(path) - {here, "__version__"}:
        assert LAYERS[other] <= LAYERS[here], (
            f"{here} (layer {LAYERS[here]}) imports {other} (layer {LAYERS[other]})"
        )


def test_runtime_imports_without_torch() -> None:
    """In a process where torch and every extra cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'safetensors', 'matplotlib', 'jinja2', 'scipy', 'sklearn',\n"
        "             'fastapi', 'uvicorn', 'prometheus_client', 'sqlalchemy', 'argon2', 'streamlit'):\n"
        "    sys.modules[name] = None\n"
        "import andon\n"
        f"import importlib\nfor name in {TORCH_FREE!r}:\n    importlib.import_module('andon.' + name)\n"
        "andon.load, andon.Predictor\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_andon_is_light() -> None:
    code = "import sys, andon; print([m for m in ('torch', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
