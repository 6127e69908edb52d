"""The benchmark: cells and grids, the driver under kills, windows, the entropy of a map."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from andon.bench import run as driver
from andon.bench.grid import GRIDS, Cell, Grid, Source, Variant, expand, find_grid, find_sources, narrowed
from andon.bench.run import Resources, known_rows, read_results, run
from andon.bench.window import cut_windows, middle_box
from andon.cli.bench import Board
from andon.data import read_channels, read_samples
from andon.errors import BusyError, DataError, MetricError, SettingsError
from andon.metrics.entropy import entropy_outside

SOURCE = Source("set", "part", Path("/nowhere"), "0123")
# A cell's process that does what its method's name says.
FAKE = """
import json, os, sys, time
task = json.loads(sys.stdin.readline())
cell = task["cell"]
print("computing", cell["method"], flush=True)
if cell["method"] == "count":
    with open(os.environ["ANDON_TEST_COUNT"], "a") as file:
        file.write(f"{cell['seed']}\\n")
if cell["method"] == "crash":
    raise RuntimeError("no such luck")
if cell["method"] == "slow":
    time.sleep(60)
if cell["method"] == "killed":
    os.kill(os.getpid(), 9)
with open(sys.argv[1], "w") as file:
    json.dump({"status": "done", "figures": {"image_auroc": cell["seed"] / 10}, "costs": {"fit_seconds": time.time()}}, file)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cells that cost nothing; the file that says which seeds were computed."""
    script, count = tmp_path / "cell.py", tmp_path / "count.txt"
    script.write_text(FAKE)
    count.write_text("")
    monkeypatch.setattr(driver, "CELL", (str(script),))
    monkeypatch.setenv("ANDON_TEST_COUNT", str(count))
    return count


def cells(method: str = "count", seeds: int = 3) -> list[Cell]:
    return [Cell(SOURCE, method, seed, {}, {}) for seed in range(seeds)]


def grid(method: str = "count", seeds: int = 3) -> Grid:
    return Grid("test", "A test", (method,), seeds)


def without_costs(path: Path) -> str:
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row.pop("costs", None)
    return json.dumps(content)


# Cells and grids


def test_a_cells_key_tells_what_is_computed_and_not_what_it_is_called() -> None:
    cell = Cell(SOURCE, "padim", 0, {"dimensions": 20}, {"size": [64, 64]})
    same = Cell(SOURCE, "padim", 0, {"dimensions": 20}, {"size": [64, 64]}, variant="of 64")
    assert cell.key == same.key
    others = [
        Cell(SOURCE, "padim", 1, {"dimensions": 20}, {"size": [64, 64]}),
        Cell(SOURCE, "padim", 0, {"dimensions": 21}, {"size": [64, 64]}),
        Cell(SOURCE, "padim", 0, {"dimensions": 20}, {}),
        Cell(SOURCE, "patchcore", 0, {"dimensions": 20}, {"size": [64, 64]}),
        Cell(
            Source("set", "part", Path("/nowhere"), "4567"),
            "padim",
            0,
            {"dimensions": 20},
            {"size": [64, 64]},
        ),
    ]
    assert len({cell.key, *(other.key for other in others)}) == 6
    moved = Source("set", "part", Path("/elsewhere"), "0123")
    assert Cell(moved, "padim", 0, {"dimensions": 20}, {"size": [64, 64]}).key == cell.key


def test_the_studys_grids_are_the_studys() -> None:
    main = GRIDS["autovi-main"]
    assert main.seeds == 8
    assert set(main.methods) == {"patchcore", "padim", "efficientad", "draem", "dsr", "cflow"}
    assert set(main.metrics) == {
        "image_auroc",
        "image_ap",
        "tpr_at_tnr_99",
        "tpr_at_tnr_95",
        "tpr_at_tnr_90",
        "auspro_5",
    }
    assert [v.options.get("augment", "") for v in GRIDS["autovi-augmentation"].variants] == [
        "",
        "rotation",
        "noise",
        "study",
    ]
    assert [v.options.get("window") for v in GRIDS["autovi-window"].variants] == [None, 200, 400, 600]
    assert [v.settings["normalise_on"] for v in GRIDS["autovi-efficientad-normalisation"].variants] == [
        "held_out",
        "train",
    ]
    assert len(GRIDS["ten-models"].methods) == len(set(GRIDS["ten-models"].methods)) == 10


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_expands(name: str) -> None:
    made = GRIDS[name]
    found = expand(made, [SOURCE], {"minutes": 1.0}, {})
    assert len(found) == len(made.methods) * len(made.variants) * made.seeds
    assert len({cell.key for cell in found}) == len(found)
    assert made.baseline in ("", *(variant.name for variant in made.variants))


def test_settings_go_to_the_methods_that_have_them() -> None:
    made = expand(
        Grid("g", "", ("patchcore", "autoencoder"), 1), [SOURCE], {}, {"backbone": "resnet18", "steps": 5}
    )
    assert [dict(cell.settings) for cell in made] == [{"backbone": "resnet18"}, {"steps": 5}]
    with pytest.raises(SettingsError, match="^none of patchcore has a setting 'steps'"):
        expand(Grid("g", "", ("patchcore",), 1), [SOURCE], {}, {"steps": 5})
    with pytest.raises(SettingsError, match="^there is no method 'patchcor'. Did you mean 'patchcore'"):
        expand(Grid("g", "", ("patchcor",), 1), [SOURCE], {}, {})
    with pytest.raises(SettingsError, match="^the grid g is empty"):
        expand(Grid("g", "", (), 1), [SOURCE], {}, {})


def test_what_a_variant_says_comes_first() -> None:
    varied = Grid("g", "", ("patchcore",), 1, (Variant("a", {"seed_": 1}, {"limit": 3}),))
    (cell,) = expand(varied, [SOURCE], {"limit": 9, "minutes": 2}, {})
    assert cell.options == {"limit": 3, "minutes": 2}
    assert cell.settings == {"seed_": 1}


def test_narrowing_a_grid() -> None:
    from andon.models import DETECTORS

    study = find_grid("autovi-augmentation")
    assert narrowed(study, ["padim"], 2, ["noise"]).methods == ("padim",)
    assert [variant.name for variant in narrowed(study, (), None, ["noise", "none"]).variants] == [
        "noise",
        "none",
    ]
    assert narrowed(study, ["all"]).methods == tuple(DETECTORS)
    assert narrowed(study) == study
    (window,) = narrowed(find_grid("autovi-window"), variants=["300 px"]).variants
    assert window.options == {"window": 300}
    (few,) = narrowed(find_grid("autovi-fewshot"), variants=["5 images"]).variants
    assert few.options == {"limit": 5}
    (longer,) = narrowed(find_grid("folder"), variants=["10 minutes"]).variants
    assert longer.options == {"minutes": 10.0}
    with pytest.raises(SettingsError, match="has no variant 'blur'; it has: none, rotation, noise, study"):
        narrowed(study, variants=["blur"])
    with pytest.raises(SettingsError, match="Did you mean 'autovi-main'"):
        find_grid("autovi-mian")


# Sources


def draw_set(root: Path, categories: tuple[str, ...] = ("clip", "screw")) -> Path:
    rng = np.random.default_rng(0)
    for category in categories:
        for folder, count in (("train/good", 3), ("test/good", 2), ("test/scratch", 2)):
            for number in range(count):
                path = root / category / folder / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(path)
        for number in range(2):
            mask = np.zeros((60, 80), np.uint8)
            mask[2 * number : 30, 40:50] = 255
            path = root / category / "ground_truth/scratch" / f"{number}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


def test_sources_are_the_categories_with_test_images(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "parts")
    assert [(s.set, s.category) for s in find_sources([root])] == [("parts", "clip"), ("parts", "screw")]
    assert [s.category for s in find_sources([root], ["screw"])] == ["screw"]
    with pytest.raises(DataError, match="^there is no category nut in"):
        find_sources([root], ["nut"])
    with pytest.raises(DataError, match="are both called parts"):
        find_sources([root, draw_set(tmp_path / "other" / "parts")])


def test_other_images_are_another_source(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "parts", ("clip",))
    before = find_sources([root])[0].images
    assert find_sources([root])[0].images == before
    Image.new("RGB", (80, 60)).save(root / "clip/train/good/9.png")
    assert find_sources([root])[0].images != before


# The driver


def test_every_cell_is_computed_once(fake: Path, tmp_path: Path) -> None:
    first = run(grid(), cells(), tmp_path / "out", Resources()).read_bytes()
    assert fake.read_text().split() == ["0", "1", "2"]
    again = run(grid(), cells(), tmp_path / "out", Resources())
    assert fake.read_text().split() == ["0", "1", "2"]
    assert again.read_bytes() == first
    run(Grid("other", "", ("count",), 4), cells(seeds=4), tmp_path / "out", Resources())
    assert fake.read_text().split() == ["0", "1", "2", "3"]


def test_side_by_side_gives_the_same_file(fake: Path, tmp_path: Path) -> None:
    one = run(grid(), cells(seeds=5), tmp_path / "one", Resources())
    two = run(grid(), cells(seeds=5), tmp_path / "two", Resources(jobs=3, threads=1))
    assert without_costs(one) == without_costs(two)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("crash", r"^its process ended with status 1: RuntimeError: no such luck$"),
        ("killed", r"^killed by SIGKILL \(out of memory\?\): computing killed$"),
        ("slow", r"^given up after 0\.02 minutes: computing slow$"),
    ],
)
def test_a_cell_that_dies_has_failed_and_the_others_go_on(
    fake: Path, tmp_path: Path, method: str, error: str
) -> None:
    made = [*cells(method, 1), *cells(seeds=2)]
    rows = read_results(run(grid(), made, tmp_path / "out", Resources(timeout=0.02)))["rows"]
    assert [row["status"] for row in rows] == ["failed", "done", "done"]
    assert __import__("re").search(error, rows[0]["error"])


def test_a_failed_cell_is_tried_again(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = cells("crash", 1)
    run(grid(), failing, tmp_path / "out", Resources())
    assert not known_rows(failing, tmp_path / "out")
    healed = tmp_path / "healed.py"
    healed.write_text(FAKE.replace('raise RuntimeError("no such luck")', "pass"))
    monkeypatch.setattr(driver, "CELL", (str(healed),))
    rows = read_results(run(grid(), failing, tmp_path / "out", Resources()))["rows"]
    assert [row["status"] for row in rows] == ["done"]


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from andon.bench import run as driver
import test_bench as t
driver.CELL = ({script!r},)
made = [*t.cells(seeds=2), *t.cells("slow", 1), *t.cells(seeds=4)[2:]]
driver.run(t.grid(), made, Path({out!r}), driver.Resources())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_loses_only_what_was_running(fake: Path, tmp_path: Path, how: signal.Signals) -> None:
    out, script = tmp_path / "out", str(tmp_path / "cell.py")
    code = DRIVER.format(tests=str(Path(__file__).parent), script=script, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(
        path.stat().st_size and "slow" in path.read_text() for path in (out / "logs").glob("*.txt")
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    process.wait(30)
    (tmp_path / "cell.py").write_text(FAKE.replace("time.sleep(60)", "pass"))
    made = [*cells(seeds=2), *cells("slow", 1), *cells(seeds=4)[2:]]
    resumed = run(grid(), made, out, Resources())
    assert fake.read_text().split() == ["0", "1", "2", "3"]
    assert without_costs(resumed) == without_costs(run(grid(), made, tmp_path / "fresh", Resources()))


def test_a_cells_process_ends_with_whoever_asked(tmp_path: Path) -> None:
    """The real cell's process, not the test's: it waits on its standard input."""
    task = {
        "cell": {"options": {}, "settings": {}, "method": "patchcore", "category": "", "seed": 0},
        "root": "/nowhere",
    }
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import andon.bench.cell as c, time; c.compute = lambda *_: time.sleep(60); c.main()",
            "x",
        ],
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(task).encode() + b"\n")
    process.stdin.close()
    assert process.wait(30) == 4


def test_two_drivers_do_not_write_one_folder(fake: Path, tmp_path: Path) -> None:
    from andon.files import single_writer

    (tmp_path / "out").mkdir()
    with single_writer(tmp_path / "out" / "bench"), pytest.raises(BusyError):
        run(grid(), cells(), tmp_path / "out", Resources())
    assert not fake.read_text()


def test_damaged_results_are_told(fake: Path, tmp_path: Path) -> None:
    path = run(grid(), cells(), tmp_path / "out", Resources())
    path.write_text(path.read_text()[:50])
    with pytest.raises(DataError, match="holds no results of andon bench"):
        read_results(path)
    path.write_text('{"format": 9, "rows": []}')
    with pytest.raises(DataError, match="is of format 9; this Andon reads 1"):
        read_results(path)
    cell = tmp_path / "out" / "cells" / f"{cells()[0].key}.json"
    cell.write_text("{")
    with pytest.raises(DataError, match="is damaged .* remove it, and its cell is computed again"):
        run(grid(), cells(), tmp_path / "out", Resources())


@pytest.mark.parametrize("wrong", [{"jobs": 0}, {"threads": -1}, {"timeout": 0.0}, {"timed_images": 0}])
def test_resources_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Resources(**wrong)


def test_threads_are_shared_among_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [Resources(jobs=n).threads_each for n in (1, 3, 20)] == [8, 2, 1]
    assert Resources(jobs=3, threads=5).threads_each == 5


def test_the_board_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    made = cells(seeds=3)
    board = Board()
    board.live = False
    board.planned(made, {made[0].key: {}})
    board.started(made[1])
    assert board.table().splitlines()[0] == "count  █▸·"
    done = {
        "figures": {"image_auroc": 0.5},
        "costs": {"fit_seconds": 3.0, "fit_peak_mb": None, "p50_ms": 2.0},
    }
    board.ended(made[1], {"status": "done", **done})
    board.ended(made[2], {"status": "failed", "error": "no luck"})
    assert board.table().splitlines()[0] == "count  ██✗"
    said = capsys.readouterr().err
    assert "[2/3] set/part count, seed 1: image AUROC 0.500, fit 3.0 s, 2.0 ms an image" in said
    assert "[3/3] set/part count, seed 2: failed: no luck" in said


# Windows


def test_the_middle_of_an_image() -> None:
    assert middle_box((60, 80), 20) == (20, 30, 40, 50)
    assert middle_box((60, 80), 100) == (0, 0, 60, 80)
    assert middle_box((61, 81), 20) == (20, 30, 40, 50)


def test_windows_cut_photographs_and_masks_alike(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "parts")
    cut = cut_windows(root, "clip", 40, tmp_path / "cut")
    whole, small = read_samples(root, category="clip"), read_samples(cut, category="clip")
    assert [(s.path.relative_to(root), s.split, s.is_anomalous) for s in whole] == [
        (s.path.relative_to(cut), s.split, s.is_anomalous) for s in small
    ]
    assert {sample.category for sample in read_samples(cut)} == {"clip"}
    for big, little in zip(whole, small, strict=True):
        pixels = np.asarray(Image.open(big.path))[10:50, 20:60]
        assert np.array_equal(np.asarray(Image.open(little.path)), pixels)
        if big.is_anomalous:
            (mask,), (cut_mask,) = read_channels(big, (60, 80)), read_channels(little, (40, 40))
            assert np.array_equal(mask.anomaly_mask[10:50, 20:60], cut_mask.anomaly_mask)
    with pytest.raises(SettingsError, match="at least 16 pixels, got 8"):
        cut_windows(root, "clip", 8, tmp_path / "tiny")


def test_windows_keep_saturation_areas(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "mvtec_loco_juice_bottle"
    category = read_samples(root)[0].category
    source = next(s for s in read_samples(root, category=category) if s.masks)
    cut = cut_windows(root, category, 400, tmp_path / "cut")
    same = next(
        s for s in read_samples(cut, category=category) if s.path.name == source.path.name and s.masks
    )
    assert [mask.saturation for mask in same.masks] == [mask.saturation for mask in source.masks]


# The entropy of a map


def test_the_entropy_of_noise_and_of_one_pixel() -> None:
    mask = np.zeros((8, 8), bool)
    assert entropy_outside(np.ones((8, 8)), mask) == 1
    one = np.zeros((8, 8))
    one[3, 4] = 5
    assert entropy_outside(one, mask) == 0
    mask[3, 4] = True
    assert entropy_outside(one, mask) == 1
    assert entropy_outside(one, np.ones((8, 8), bool)) is None
    two = np.zeros((4, 4))
    two[0, :2] = 1
    assert entropy_outside(two, np.zeros((4, 4), bool)) == pytest.approx(math.log(2) / math.log(16))
    assert entropy_outside(7 * two - 3, np.zeros((4, 4), bool)) == pytest.approx(math.log(2) / math.log(16))


def test_the_entropy_refuses_what_is_no_map() -> None:
    with pytest.raises(MetricError, match="expected the same shape"):
        entropy_outside(np.ones((2, 2)), np.zeros((2, 3), bool))
    with pytest.raises(MetricError, match="not finite"):
        entropy_outside(np.array([[1.0, np.nan]]), np.zeros((1, 2), bool))


# The whole of it


@pytest.fixture(scope="module")
def drawn_autovi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories of the synthetic line, in AutoVI's layout, small."""
    from andon.data.synthetic import write_line

    root = tmp_path_factory.mktemp("autovi")
    for number, category in enumerate(("engine_wiring", "tank_screw")):
        write_line(
            root,
            train=8,
            test_good=3,
            per_defect=2,
            size=(96, 128),
            seed=number,
            defects=["scratch"],
            category=category,
        )
    return root


@pytest.mark.xdist_group("bench")
def test_cells_of_the_studys_grid_from_photographs_to_figures(drawn_autovi: Path, tmp_path: Path) -> None:
    """The command on the AutoVI layout; a second grid finds its cells there, among them one of few images; a window too small fails alone."""
    command = [sys.executable, "-m", "andon", "bench", "run"]
    chosen = [
        "--data",
        str(drawn_autovi),
        "--out",
        str(tmp_path),
        "--method",
        "patchcore",
        "--seeds",
        "1",
        "--size",
        "64",
        "--jobs",
        "2",
    ]
    first = subprocess.run([*command, "autovi-main", *chosen], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    rows = read_results(tmp_path / "autovi-main.json")["rows"]
    assert [row["cell"]["category"] for row in rows] == ["engine_wiring", "tank_screw"]
    for row in rows:
        assert all(0 <= row["figures"][name] <= 1 for name in GRIDS["autovi-main"].metrics)
        assert 0 < row["figures"]["entropy_outside"] <= 1
        assert row["data"] == {
            "train": 6,
            "held_out": 0,
            "calibration": 2,
            "test": 5,
            "size": [64, 64],
            "steps": [0, 0],
        }
        assert all(
            row["costs"][name] > 0
            for name in ("fit_seconds", "p50_ms", "p99_ms", "images_per_second", "artifact_mb")
        )
    again = subprocess.run([*command, "autovi-main", *chosen, "--dry-run"], capture_output=True, text=True)
    assert "2 cells, 2 of them there already" in again.stdout
    few = ["--variant", "3 images", "--variant", "all images", "--category", "tank_screw"]
    second = subprocess.run([*command, "autovi-fewshot", *chosen, *few], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "1 of 2 cells are there already" in second.stderr
    shots = read_results(tmp_path / "autovi-fewshot.json")["rows"]
    assert [row["data"]["train"] for row in shots] == [3, 6]
    narrow = [*chosen, "--variant", "8 px", "--category", "tank_screw"]
    third = subprocess.run([*command, "autovi-window", *narrow], capture_output=True, text=True)
    assert third.returncode == 2
    assert "failed: " in third.stderr
    assert "a window needs at least 16 pixels, got 8" in third.stderr
    assert [row["status"] for row in read_results(tmp_path / "autovi-window.json")["rows"]] == ["failed"]
