"""The command line: statuses, messages, files; on a detector fitted once on a drawn line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(
    *arguments: object, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "andon", *map(str, arguments)], capture_output=True, text=True,
                          input=stdin, cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn line and a detector fitted on it by the command."""
    folder = tmp_path_factory.mktemp("line")
    done = run(
        "data",
        "draw",
        folder / "line",
        "--train",
        16,
        "--test-good",
        3,
        "--per-defect",
        1,
        "--size",
        "192x256",
        "-q",
    )
    assert done.returncode == 0, done.stderr
    done = run("fit", folder / "line" / "bracket_line", "-o", folder / "part.andon")
    assert done.returncode == 0, done.stderr
    assert "good images: 12 to fit, 4 for the threshold" in done.stdout
    assert "can be promised" in done.stdout
    assert not (folder / "part.andon.partial").exists()
    assert not (folder / "part.andon.lock").exists()
    return folder


def test_inspect_a_folder(line: Path, tmp_path: Path) -> None:
    images = line / "line" / "bracket_line" / "test"
    done = run("inspect", line / "part.andon", images, "--csv", tmp_path / "v.csv", "--jsonl", tmp_path / "v.jsonl",
               "--save-maps", tmp_path / "maps", "--save-raw", tmp_path / "raw")  # fmt: skip
    count = len(list(images.rglob("*.png")))
    assert done.returncode == 1, done.stderr
    assert f"{count} images:" in done.stdout
    rows = list(csv.DictReader((tmp_path / "v.csv").open()))
    records = [json.loads(text) for text in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert len(rows) == len(records) == count
    assert {record["decision"] for record in records} <= {"pass", "review", "fail"}
    assert all(0 <= record["score"] < 1 for record in records)
    assert len(list((tmp_path / "maps").glob("*.png"))) == count
    raw = np.load(next((tmp_path / "raw").glob("*.npy")))
    assert raw.shape == (192, 256)
    assert raw.dtype == np.float32


def test_a_broken_image_is_reported_and_the_rest_go_on(line: Path, tmp_path: Path) -> None:
    good = next((line / "line" / "bracket_line" / "test" / "good").glob("*.png"))
    (tmp_path / "a.png").write_bytes(good.read_bytes()[:500])
    (tmp_path / "b.png").write_bytes(good.read_bytes())
    done = run("inspect", line / "part.andon", tmp_path, "--jsonl", "-")
    assert done.returncode == 2
    first, second = (json.loads(text) for text in done.stdout.splitlines())
    assert first["error"]
    assert first["decision"] == ""
    assert second["decision"]
    assert not second["error"]


def test_a_table_on_standard_output(line: Path) -> None:
    images = line / "line" / "bracket_line" / "test" / "good"
    done = run("inspect", line / "part.andon", images, "--csv", "-")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [Path(row["path"]).name for row in rows] == [path.name for path in sorted(images.glob("*.png"))]
    assert not Path("-").exists()
    done = run("inspect", line / "part.andon", images, "--csv", "-", "--jsonl", "-")
    assert done.returncode == 2
    assert "only one of --csv and --jsonl can be printed" in done.stderr


def test_status_0_when_all_passed(line: Path) -> None:
    """The image with the lowest score of those the detector was fitted on passes."""
    done = run("inspect", line / "part.andon", line / "line" / "bracket_line" / "train", "--jsonl", "-")
    best = min(
        (json.loads(text) for text in done.stdout.splitlines()), key=lambda record: record["image_score"]
    )
    done = run("inspect", line / "part.andon", best["path"])
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("PASS")


def test_list_on_standard_input_and_glob(line: Path) -> None:
    images = sorted((line / "line" / "bracket_line" / "test" / "good").glob("*.png"))
    done = run("inspect", line / "part.andon", "-", stdin="\n".join(map(str, images)))
    assert len(done.stdout.splitlines()) == len(images) + 1
    done = run("inspect", line / "part.andon", str(images[0].parent / "*.png"))
    assert len(done.stdout.splitlines()) == len(images) + 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["inspect", "nothing.andon", "x.png"], "there is no file nothing.andon"),
        (["inspect", "{part}", "{empty}"], "no image"),
        (["inspect", "{part}", "nothing*.png"], "no file matches nothing*.png"),
        (["fit", "{empty}", "-o", "x.andon"], "no image"),
        (["fit", "nowhere", "-o", "x.andon"], "nowhere"),
        (["fit", "{line}", "-o", "x.andon", "--method", "patchcor"], "patchcore"),
        (["fit", "{line}", "-o", "x.andon", "--set", "coreset=1"], "coreset_fraction"),
        (["fit", "{line}", "-o", "x.andon", "--set", "coreset_fraction=3"], "coreset_fraction"),
        (["fit", "{line}", "-o", "x.andon", "--size", "abc"], "expected rows x columns"),
        (["fit", "{line}", "-o", "x.andon", "--config", "nothing.toml"], "cannot read the settings"),
        (["fit", "{line}", "-o", "x.andon", "--target-rate", "2"], "target_rate"),
        (["evaluate", "{part}"], "expected ROOT with --maps DIR, or ARTIFACT and ROOT"),
        (["evaluate", "{part}", "{empty}"], "no image"),
        (["report", "{part}", "{empty}", "-o", "r.html"], "no image"),
        (["insepct"], "Did you mean 'inspect'?"),
    ],
)
def test_mistakes_are_said_in_words(line: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {
        "part": line / "part.andon",
        "line": line / "line" / "bracket_line",
        "empty": tmp_path / "empty",
    }
    done = run(*(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert text.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.andon*"))


def test_evaluate_writes_what_it_is_asked_for(line: Path, tmp_path: Path) -> None:
    root = line / "line" / "bracket_line"
    done = run("evaluate", line / "part.andon", root, "--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv",
               "--scores", tmp_path / "s.csv", "--html", tmp_path / "r.html", "--bootstrap", 50)  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["groups"]["all"]["image_auroc"]["value"] > 0.5
    assert figures["groups"]["all"]["auspro_5"]["value"] > 0
    assert len(list(csv.DictReader((tmp_path / "s.csv").open()))) == len(list((root / "test").rglob("*.png")))
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")


def test_evaluate_goes_on_past_a_broken_image_and_says_so(line: Path, tmp_path: Path) -> None:
    tested = line / "line" / "bracket_line" / "test"
    for kind, folder in (("good", "good"), ("bad", "rust")):
        shutil.copytree(tested / folder, tmp_path / "set" / kind)
    (tmp_path / "set" / "bad" / "broken.png").write_bytes(b"nothing")
    done = run("evaluate", line / "part.andon", tmp_path / "set", "--bootstrap", 0)
    assert done.returncode == 2
    assert "could not be scored" in done.stderr
    assert "image AUROC" in done.stdout


def test_maps_of_another_tool_are_scored_like_ours(line: Path, tmp_path: Path) -> None:
    """Raw maps saved by inspect and read back give the detector's own pixel figures."""
    root = line / "line" / "bracket_line"
    for folder in sorted((root / "test").iterdir()):
        run("inspect", line / "part.andon", folder, "--save-raw", tmp_path / "maps" / folder.name, "-q")
    run("evaluate", line / "part.andon", root, "--json", tmp_path / "own.json", "--bootstrap", 0)
    done = run(
        "evaluate", "--maps", tmp_path / "maps", root, "--json", tmp_path / "maps.json", "--bootstrap", 0
    )
    assert done.returncode == 0, done.stderr
    own, maps = (
        json.loads((tmp_path / name).read_text())["groups"]["all"] for name in ("own.json", "maps.json")
    )
    for name in ("pixel_auroc", "aupro_30", "auspro_5"):
        assert maps[name]["value"] == pytest.approx(own[name]["value"], abs=1e-6)


def test_calibrate_anew_keeps_the_history(line: Path, tmp_path: Path) -> None:
    root = line / "line" / "bracket_line"
    done = run("calibrate", line / "part.andon", "--good", root / "test" / "good", "--bad", root / "test" / "scratch",
               "--criterion", "f1", "-o", tmp_path / "new.andon")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of the defects and" in done.stdout
    shown = json.loads(run("show", tmp_path / "new.andon", "--json").stdout)
    assert shown["calibration"]["method"] == "f1"
    assert [entry["calibration"]["method"] for entry in shown["history"]] == ["max"]


def test_report_on_images_without_answers(line: Path, tmp_path: Path) -> None:
    done = run(
        "report",
        line / "part.andon",
        line / "line" / "bracket_line" / "test" / "good",
        "-o",
        tmp_path / "r.html",
    )
    assert done.returncode == 0, done.stderr
    assert "<!DOCTYPE html>" in (tmp_path / "r.html").read_text()


def test_one_good_image_gives_review_not_a_guess(line: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        photos / "1.png"
    )
    done = run("fit", photos, "-o", tmp_path / "one.andon")
    assert done.returncode == 0, done.stderr
    assert "no threshold: calibrate with good images" in done.stdout
    done = run("inspect", tmp_path / "one.andon", photos)
    assert done.returncode == 1
    assert done.stdout.startswith("REVIEW")


def test_doctor_and_methods_and_backbones() -> None:
    done = run("doctor", "--seconds", "0.1")
    assert done.returncode == 0
    assert "GFLOP/s" in done.stdout
    assert "patchcore" in run("methods").stdout
    assert "coreset_fraction = 0.1" in run("methods", "patchcore").stdout
    assert "andon-s" in run("backbones").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_ANDON_COMPLETE" in run("completion", shell).stdout
