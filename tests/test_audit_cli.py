"""``andon audit`` on a folder with planted images: the page, the list, and the fit that leaves out what it lists."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from andon.cli import andon as program
from andon.errors import DataError
from andon.pipeline.auditing import audit
from andon.pipeline.options import FitOptions
from andon.pipeline.parts import parts_of
from andon.report.audit import conclusion, write_audit_report
from andon.report.content import NBSP

SIZE = (160, 224)
COUNT = 20


def part(number: int) -> NDArray[np.uint8]:
    """A striped part with a hole, a little noise, a little light."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    grey = 120 + 30 * np.sin((rows + 2 * columns) / 5) - 60 * (np.hypot(rows - 48, columns - 40) < 16)
    pixels = grey[..., None] * rng.normal(1, 0.01) + rng.normal(0, 4, (*SIZE, 3))
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty good parts, among them a scratched, a dark, a blurred and a copied one, and a file that is no image."""
    folder = tmp_path_factory.mktemp("good")
    for number in range(COUNT):
        Image.fromarray(part(number)).save(folder / f"{number:02}.png")
    scratched = part(3)
    scratched[60:64, 92:102] = (250, 30, 30)
    Image.fromarray(scratched).save(folder / "03.png")
    Image.fromarray((part(5) * 0.5).astype(np.uint8)).save(folder / "05.png")
    Image.fromarray(part(7)).filter(ImageFilter.GaussianBlur(2)).save(folder / "07.png")
    Image.fromarray(part(9)).save(folder / "again.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def audited(good: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("out")
    done = run(
        "audit",
        good,
        "-o",
        out / "a.html",
        "--csv",
        out / "a.csv",
        "--json",
        out / "a.json",
        "--size",
        "160x224",
    )
    return done, out


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "a.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_was_planted_is_at_the_top_with_its_kind(audited: tuple[Result, Path]) -> None:
    done, out = audited
    found = rows(out)
    assert [int(row["rank"]) for row in found] == list(range(1, COUNT + 2))
    top = {row["path"]: (row["kind"], row["action"]) for row in found[:3]}
    assert top["03.png"] == ("defect", "leave out")
    assert top["05.png"] == ("light", "leave out")
    assert top["07.png"] == ("blur", "leave out")
    assert done.return_value == 1, done.output
    assert "03.png" in done.output
    assert "page: " in done.output


def test_the_json_has_every_image_and_what_cannot_be_read(audited: tuple[Result, Path]) -> None:
    told = json.loads((audited[1] / "a.json").read_text())
    assert (told["images"], len(told["judged"]), told["folds"]) == (COUNT + 2, COUNT + 1, 10)
    assert list(told["unreadable"]) == ["broken.png"]
    assert set(told["judged"][0]["strengths"]) == {"defect", "light", "blur", "layout"}


def test_the_page_is_one_file_with_pictures_and_reasons(audited: tuple[Result, Path]) -> None:
    text = (audited[1] / "a.html").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)))
    assert text.count("data:image/jpeg") >= 8
    assert "darker than usual: brightness" in words
    assert "broken.png" in words
    assert re.search(r'(src|href)="(?!data:|#)', text) is None
    assert "No image was judged by a detector that saw it." in words


def test_the_same_images_give_the_same_files(
    good: Path, audited: tuple[Result, Path], tmp_path: Path
) -> None:
    found = audit(good, tmp_path / "a.html", csv_path=tmp_path / "a.csv", size=SIZE)
    for name in ("a.html", "a.csv"):
        assert (tmp_path / name).read_bytes() == (audited[1] / name).read_bytes()
    assert (
        conclusion(found)
        .replace(NBSP, " ")
        .startswith(f"{sum(one.action == 'leave out' for one in found.judged)} of 21 good")
    )


def test_names_cannot_run_in_the_page(good: Path, tmp_path: Path) -> None:
    """A picture that cannot be had is said in its place, and a name is text."""
    found = audit(good, size=SIZE)
    nasty = "<img src=x onerror=alert(1)>.png"
    renamed = [one if one.rank > 1 else type(one)(**{**vars(one), "path": nasty}) for one in found.judged]
    odd = type(found)(**{**vars(found), "judged": tuple(renamed)})

    def gone(path: str) -> NDArray[np.uint8]:
        raise OSError(f"{path} is gone")

    text = write_audit_report(tmp_path / "a.html", odd, picture=gone).read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "is gone" in text


def test_a_fit_leaves_out_what_the_list_says(good: Path, audited: tuple[Result, Path]) -> None:
    listed = {row["path"] for row in rows(audited[1]) if row["action"] == "leave out"}
    parts = parts_of(good, FitOptions(leave_out=audited[1] / "a.csv"), uses_held_out=False)
    used = {path.name for path in [*parts.train, *parts.calibration]}
    assert used == {path.name for path in good.iterdir()} - listed
    assert parts.described["left_out"] == len(listed) > 0


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    for number in range(7):
        Image.fromarray(part(number)).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match=r"has 7 good images that can be read, at least 8 are needed"):
        audit(tmp_path, size=SIZE)


def test_nothing_odd_is_said_and_exits_with_0(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(14):
        Image.fromarray(part(number)).save(folder / f"{number}.png")
    done = run("audit", folder, "-o", tmp_path / "a.html", "--size", "160x224")
    assert done.return_value == 0, done.output
