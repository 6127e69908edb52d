"""The README's Python example runs as it stands, and names only commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon.cli import COMMANDS

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for path in [*(tmp_path / "photos" / "good" / f"{i}.png" for i in range(8)), tmp_path / "new.png"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(90, 120, (64, 64, 3), dtype=np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert re.match(r"(pass|review|fail) 0\.\d+\n", capsys.readouterr().out)
    assert (tmp_path / "clip.andon").exists()


def test_every_command_it_names_exists() -> None:
    named = {name for name in re.findall(r"^andon (\w+)", README, flags=re.MULTILINE)}
    assert named
    assert named <= set(COMMANDS)
