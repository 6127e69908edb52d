"""The check of a data set: what it counts, what it finds, and that one broken file does not stop it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon.data.check import check, format_check
from andon.errors import DataError


def draw(path: Path, seed: int, size: tuple[int, int] = (6, 8), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def draw_mask(path: Path, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[1:3, 1:3] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bottle"
    for i in range(4):
        draw(folder / f"train/good/{i}.png", i)
    for i in range(2):
        draw(folder / f"test/good/{i}.png", 10 + i)
        draw(folder / f"test/crack/{i}.png", 20 + i)
        draw_mask(folder / f"ground_truth/crack/{i}_mask.png")
    return folder


def test_nothing_wrong(root: Path) -> None:
    report = check(root)
    assert (report.layout, report.images, report.problems) == ("mvtec_ad", 8, ())
    assert [(c.split, c.defect_type, c.images, c.with_mask) for c in report.counts] == [
        ("train", "good", 4, 0),
        ("test", "good", 2, 0),
        ("test", "crack", 2, 2),
    ]
    assert (report.sizes, report.modes, report.bit_depths, report.formats) == (
        {"6 x 8": 8},
        {"RGB": 8},
        {"8": 8},
        {"PNG": 8},
    )
    assert not report.has_problems
    assert "nothing wrong was found" in format_check(report)


def test_progress_is_told(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    check(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 8) for i in range(1, 9)]


def test_everything_wrong_at_once(root: Path) -> None:
    (root / "train/good/0.png").write_bytes(b"")
    (root / "train/good/1.png").write_bytes((root / "train/good/1.png").read_bytes()[:-60])
    shutil.copy(root / "train/good/2.png", root / "test/good/7.png")
    shutil.copy(root / "train/good/3.png", root / "train/good/4.png")
    draw_mask(root / "ground_truth/crack/0_mask.png", (8, 6))
    (root / "ground_truth/crack/1_mask.png").unlink()
    report = check(root)
    assert report.images == 10
    assert list(report.unreadable) == ["train/good/0.png", "train/good/1.png"]
    assert "empty" in report.unreadable["train/good/0.png"]
    assert report.duplicates == (("test/good/7.png", "train/good/2.png"),)
    assert report.repeated == 1
    assert list(report.masks_wrong) == ["test/crack/0.png"]
    assert "is 8 x 6 pixels" in report.masks_wrong["test/crack/0.png"]
    assert report.masks_missing == ("test/crack/1.png",)
    text = format_check(report)
    assert [line for line in text.splitlines() if line.startswith("  ! ")] == [
        f"  ! {p}" for p in report.problems
    ]
    assert [problem.split(" ", 1)[1][:20] for problem in report.problems] == [
        "cannot be read: trai",
        "images lie in more t",
        "masks are wrong: tes",
        "anomalous images hav",
        "images are copies of",
    ]


def test_report_is_json(root: Path) -> None:
    report = check(root)
    again = json.loads(json.dumps(report.to_dict()))
    assert again["sizes"] == {"6 x 8": 8}
    assert again["counts"][0]["images"] == 4


def test_sizes_modes_and_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "a.jpg", 0, exif=exif)
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000).save(tmp_path / "b.png")
    report = check(tmp_path)
    assert report.layout == "folder"
    assert report.sizes == {"6 x 8": 1, "8 x 6": 1}  # upright
    assert report.modes == {"I;16": 1, "RGB": 1}
    assert report.bit_depths == {"16": 1, "8": 1}
    assert report.exif_rotated == 1
    assert "turned by EXIF: 1" in format_check(report)


def test_layout_that_cannot_be_read_is_checked_all_the_same(root: Path) -> None:
    draw(root / "train/crack/0.png", 30)
    report = check(root)
    assert (report.layout, report.images) == ("unknown", 11)  # the masks are images, too
    assert report.problems[0].startswith("the layout could not be read: ")
    assert "may be trained" in report.problems[0]


def test_set_without_good_images(tmp_path: Path) -> None:
    draw(tmp_path / "set/test/crack/0.png", 0)
    draw(tmp_path / "set/test/good/0.png", 1)
    assert "this set can test a detector, not fit one" in check(tmp_path / "set").problems[0]


def test_many_problems_are_cut_in_the_text(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    report = check(tmp_path)
    assert len(report.unreadable) == 9
    assert report.problems[0].startswith("9 cannot be read: 0.png")
    assert report.problems[0].endswith(", and 4 more")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        check(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        check(tmp_path / "none")


def test_real_set(shared_data: Path) -> None:
    report = check(shared_data / "aws_cookies")
    assert report.images == 85
    assert len(report.masks_missing) == 8
    assert not report.unreadable
    assert not report.masks_wrong
