"""The benchmark on a real Ray cluster of one machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from andon.bench import run as driver
from andon.bench.grid import Cell, Grid, Source
from andon.bench.run import Resources, read_results, run
from andon.errors import SettingsError

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")
SOURCE = Source("set", "part", Path("/nowhere"), "0123")
CELL = """
import json, os, signal, sys
from pathlib import Path
task = json.loads(sys.stdin.readline())
cell = task["cell"]
once = Path(os.environ["ANDON_TEST_ONCE"], str(cell["seed"]))
if cell["method"] == "unlucky" and not once.exists():
    once.touch()
    os.kill(os.getppid(), signal.SIGKILL)  # the Ray worker that waits for this process
if cell["method"] == "broken":
    raise RuntimeError("no such luck")
with open(sys.argv[1], "w") as file:
    json.dump({"status": "done", "figures": {"image_auroc": cell["seed"] / 10}, "costs": {}}, file)
"""


def test_a_cluster_gives_the_same_file_and_outlives_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: Path
) -> None:
    script = tmp_path / "cell.py"
    script.write_text(CELL)
    monkeypatch.setattr(driver, "CELL", (str(script),))
    methods = ("lucky", "unlucky", "broken")
    cells = [Cell(SOURCE, method, seed, {}, {}) for method in methods for seed in range(2)]
    grid = Grid("test", "A test", methods, 2)
    path = run(grid, cells, tmp_path / "ray", Resources(jobs=2, threads=1, ray="local"))
    rows = read_results(path)["rows"]
    assert [row["status"] for row in rows] == ["done"] * 4 + ["failed"] * 2
    assert rows[-1]["error"] == "its process ended with status 1: RuntimeError: no such luck"
    assert {name.name for name in ray_cluster.iterdir()} == {"0", "1"}  # two workers were killed
    local = run(grid, cells, tmp_path / "local", Resources(jobs=2, threads=1))
    assert path.read_bytes() == local.read_bytes()


def test_no_cluster_at_that_address() -> None:
    from andon.bench.cluster import on_ray

    with pytest.raises(SettingsError, match="^there is no Ray cluster at '127.0.0.1:1'"):
        next(on_ray([], Path(os.devnull), Resources(ray="127.0.0.1:1"), None))
