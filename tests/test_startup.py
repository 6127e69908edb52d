"""`andon inspect` on one image starts quickly because it imports little."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import andon
from andon.data.synthetic import write_line
from fakes import FakeBackbone

EXTRAS = (
    "torch", "onnx", "onnxscript", "safetensors", "matplotlib", "jinja2", "cv2", "scipy", "sklearn", "skimage", "pandas", "ray",
    "openvino", "fastapi", "sqlalchemy",
)  # fmt: skip
NEEDLESS = (
    "tqdm", "asyncio", "multiprocessing", "http.client", "urllib.request", "ssl", "sqlite3", "email", "importlib.metadata",
    "andon.report", "andon.evaluate", "andon.models", "andon.pipeline", "andon.data.survey", "andon.runtime.monitor",
    "andon.runtime.server", "andon.runtime.line",
)  # fmt: skip
LISTED = """
import sys
from andon.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("status", end.code)
print(*sys.modules, sep="\\n")
"""


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a process prints that inspects one image: a verdict, its status, and all modules that it imported."""
    folder = tmp_path_factory.mktemp("startup")
    line = write_line(folder, train=10, test_good=1, per_defect=1, size=(64, 96), seed=0)
    artifact = folder / "part.andon"
    andon.fit(line, artifact, backbone=FakeBackbone(), size=(64, 96), bank_limit=50, buffer_limit=2000)
    photo = next((line / "test" / "good").iterdir())
    command = [sys.executable, "-c", LISTED, "inspect", str(artifact), str(photo)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout.splitlines()


def test_it_answers(inspected: list[str]) -> None:
    assert inspected[0].split()[0] in ("PASS", "REVIEW", "FAIL")
    assert inspected[1] in ("status 0", "status 1")


@pytest.mark.parametrize("name", EXTRAS)
def test_no_extra_is_imported(inspected: list[str], name: str) -> None:
    assert name not in inspected


@pytest.mark.parametrize("name", NEEDLESS)
def test_nothing_needless_is_imported(inspected: list[str], name: str) -> None:
    assert name not in inspected
