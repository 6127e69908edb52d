"""The report on a data set: what it says, that it is one safe file, and the command that writes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from andon.cli import andon
from andon.data.survey import Survey, small_pictures, survey
from andon.errors import ImageError, MissingExtraError
from andon.image import decode
from andon.pipeline import surveying
from andon.report import findings, survey_figures, write_survey_report
from andon.report.content import NBSP
from andon.report.survey_finding import NAMES, Finding, conclusion, listed
from test_survey import SIZE, line, photo, save

NASTY = "<img src=http:evil onerror=alert(1)>&'.png"  # (no slash: it is a file's name)


def report(root: Path, **how: object) -> tuple[Survey, str]:
    """The survey of a folder and the page about it."""
    found = survey(root, **how)  # type: ignore[arg-type]
    path = root.parent / f"{root.name}.html"
    write_survey_report(path, found, picture=lambda name: decode(root / name).pixels)
    return found, path.read_text(encoding="utf-8")


def plain(text: str) -> str:
    """The words of a page in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<wbr>|</?code>", "", text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body).replace(NBSP, " "))


def said(root: Path, **how: object) -> dict[str, Finding]:
    """The findings of a folder by their section, spaces made plain."""
    return {
        f.about: Finding(f.about, f.level, f.text.replace(NBSP, " ")) for f in findings(survey(root, **how))
    }  # type: ignore[arg-type]


class Elements(HTMLParser):
    """Tags in order with their attributes, and the nesting checked."""

    VOID = frozenset({"meta", "img", "wbr", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, str]:
    """A set with something wrong in every section, and its page."""
    root = line(tmp_path_factory.mktemp("page") / "clip", train=40, light=25)
    for i in range(12):
        shutil.copy(root / f"train/good/{i}.png", root / f"test/good/copy{i}.png")
    save(photo(4), root / "train/good/again.bmp")
    save(255 - photo(90), root / "train/good/odd.png")
    save(photo(93, blur=3), root / "train/good/soft.png")
    save(photo(91, size=(64, 48)), root / "train/good/upright.png")
    save(photo(92)[..., 0], root / f"test/good/{NASTY}")
    (root / "train/good/empty.png").write_bytes(b"")
    tiny = np.zeros(SIZE, np.uint8)
    tiny[3, 3] = 255
    for i in range(4):
        save(tiny, root / f"ground_truth/dent/{i}_mask.png")
    return report(root)


# --- one safe file ------------------------------------------------------------------------------------------


def test_page_is_well_formed_with_unique_ids(planted: tuple[Survey, str]) -> None:
    elements = Elements(planted[1])
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    links = [a["href"] for _, a in elements.found if a.get("href")]
    assert links
    assert all(str(link).startswith("#") and str(link)[1:] in ids for link in links)


def test_page_loads_nothing_and_is_small(planted: tuple[Survey, str]) -> None:
    text = planted[1]
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "link", "iframe", "object")
        assert str(attributes.get("src", "data:")).startswith("data:")
    assert "url(http" not in text
    assert "default-src 'none'" in text
    assert len(text) < 5_000_000


def test_file_names_are_escaped(planted: tuple[Survey, str]) -> None:
    assert any(s.path.endswith(NASTY) for s in planted[0].seen())
    assert "<img src=http" not in planted[1]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=10)
    odd = os.fsdecode(b"dent\xff")
    (root / "test/dent").rename(root / "test" / odd)
    (root / "ground_truth/dent").rename(root / "ground_truth" / odd)
    found, text = report(root)
    assert found.unreadable == {}
    assert "dent\\udcff" in text
    json.dumps(found.to_dict(), allow_nan=False).encode("ascii")


def test_colours_are_the_page_s_variables(planted: tuple[Survey, str]) -> None:
    figures = re.findall(r"<svg.*?</svg>", planted[1], flags=re.S)
    assert len(figures) == 5
    assert not re.search(r"#\wf\we\w\b", "".join(figures))
    assert all("var(--" in figure for figure in figures)


def test_pictures_and_figures_have_words(planted: tuple[Survey, str]) -> None:
    elements = Elements(planted[1])
    assert all(a.get("alt") for tag, a in elements.found if tag == "img")
    assert all(a.get("aria-label") for _, a in elements.found if a.get("role") == "img")


def test_same_survey_same_bytes(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=10)
    assert report(root)[1] == report(root)[1]


# --- what it says -------------------------------------------------------------------------------------------


def test_every_section_ends_in_its_finding(planted: tuple[Survey, str]) -> None:
    found, text = planted
    made = findings(found)
    assert [f.about for f in made] == list(NAMES)
    for section in re.findall(r"<section.*?</section>", text, flags=re.S):
        about = re.search(r'<h2 id="(\w+)"', section)
        if about is not None and about.group(1) in NAMES:
            assert re.search(r'<p class="finding \w+">[^§]*</p>\s*</section>$', section), about.group(1)


def test_every_trouble_is_named(planted: tuple[Survey, str]) -> None:
    made = {f.about: f for f in findings(planted[0])}
    levels = {about: f.level for about, f in made.items()}
    assert levels == {"contents": "review", "areas": "review", "files": "fail", "order": "review", "map": "review",
                      "copies": "fail", "drift": "review", "odd": "review"}  # fmt: skip
    texts = {about: f.text.replace(NBSP, " ") for about, f in made.items()}
    assert texts["copies"].startswith(
        "12 of 29 test images are copies of training images: figures on them are flattered. Take them out of one of the two. "
        "1 training image is a copy of another: the set is smaller than it looks."
    )
    assert texts["files"].startswith("1 of 74 images cannot be read: replace or remove it")
    assert "differ in their proportions" in texts["files"]
    assert "1 image is grey and 72 in colour" in texts["files"]
    assert "One defective image in ten has less than 0.033 % marked, 21 pixels" in texts["areas"]
    assert "brightness" in texts["drift"]
    assert "`andon calibrate --good`" in texts["drift"]
    assert texts["odd"].startswith("1 training image lies far from the others. Look at it: what is defective")
    words = plain(planted[1])
    assert "2 things to put right and 6 things to look at before a detector is fitted." in words
    for text in texts.values():
        assert text.replace("`", "") in words.replace("&#39;", "'")


def test_leaks_are_shown_as_pairs(planted: tuple[Survey, str]) -> None:
    words = plain(planted[1])
    assert (
        "Pairs in test and training Left the test image, right its closest training image. 4 more are not shown."
        in words
    )
    assert "test/good/ copy0.png train/good/ 0.png the same file" in words
    assert planted[1].count('<div class="pair">') == 8 + 1
    assert "train/good/ odd.png" in words


def test_a_clean_set_says_nothing_stands_in_the_way(tmp_path: Path) -> None:
    found, text = report(line(tmp_path / "clip", train=40, test=20, bad=0))
    levels = {f.about: f.level for f in findings(found)}
    assert levels == {"contents": "review", "files": "pass", "order": "pass", "map": "pass", "copies": "pass",
                      "drift": "pass", "odd": "pass"}  # fmt: skip
    words = plain(text)
    assert "1 thing to look at before a detector is fitted." in words
    assert "No test image is a copy of a training image, and no training image of another." in words
    assert "All 60 images can be read, and all are 48 × 64 pixels, RGB." in words
    assert "How large the defects are" not in words


def test_promise_of_the_threshold(tmp_path: Path) -> None:
    text = said(line(tmp_path / "clip", train=20, test=2, bad=0))["contents"].text
    assert text == ("20 good training images: if 5 are kept for the threshold, the best that can be promised is 45 % false alarms "
                    "(95 % confidence). To promise 1 % takes 299 kept for it: take more good photographs.")  # fmt: skip
    assert pytest.approx(0.45, abs=0.005) == 1 - 0.05 ** (1 / 5)


def test_grammar() -> None:
    assert conclusion([Finding("files", "fail", ""), Finding("odd", "review", "")]).replace(NBSP, " ") == (
        "1 thing to put right and 1 thing to look at before a detector is fitted."
    )
    assert listed([]) == ""
    assert listed(["a"]) == "a"


def test_too_few_images_to_say(tmp_path: Path) -> None:
    save(photo(0), tmp_path / "set" / "only.png")
    _, text = report(tmp_path / "set")
    words = plain(text)
    assert "1 good training image, too few to keep some for the threshold: take more." in words
    assert "The image can be read: 48 × 64 pixels, RGB." in words
    assert "Too few training images to tell whether light or sharpness change." in words
    assert "Too few training images to tell which is odd." in words
    assert "There are too few good test images to compare with the training images." in words


def test_set_that_cannot_be_fitted(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=1, test=10)
    (root / "train/good/0.png").unlink()
    made = said(root)
    assert (made["contents"].level, made["contents"].text) == (
        "fail", "There are no good training images, so this set can test a detector, not fit one.")  # fmt: skip


def test_unknown_layout_is_said(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=3, test=3, bad=1)
    save(photo(0), root / "train/dent/0.png")
    found, text = report(root)
    assert found.layout == "unknown"
    assert "The folders follow no layout that Andon knows" in plain(text)


def test_a_twelve_bit_camera_is_guessed(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(photo(i)[..., 0].astype(np.uint16) * 16).save(tmp_path / f"{i}.png")
    assert "is the camera a 12-bit one? Then fit with `--white-level 4095`." in said(tmp_path)["files"].text


def test_trend_in_a_folder_names_the_halves(tmp_path: Path) -> None:
    for i in range(30):
        save(photo(i, light=i), tmp_path / "set" / f"part{i}.png")
    found, text = report(tmp_path / "set")
    made = {f.about: f.text.replace(NBSP, " ") for f in findings(found)}
    assert made["order"].startswith(
        "Brightness of the training images changes from the first to the last by file name (median"
    )
    assert made["drift"].startswith("The second half differs from the first half in brightness")
    assert "First half of the images against the second" in plain(text)
    assert made["map"].startswith("There is no test to compare with.")


def test_categories_are_named(tmp_path: Path) -> None:
    line(tmp_path / "set" / "clip")
    line(tmp_path / "set" / "hose", light=40)
    found, text = report(tmp_path / "set")
    made = {f.about: f.text for f in findings(found)}
    assert made["drift"].startswith("In hose: the good test images differ")
    assert made["contents"].startswith("In clip: 24")
    assert plain(text).count("hose") > 5


def test_limit_is_said(tmp_path: Path) -> None:
    found, text = report(line(tmp_path / "clip"), limit=20, seed=3)
    words = plain(text)
    assert "Looked at 20 of 40 images, drawn by chance (seed 3) from each kind in proportion." in words
    assert found.looked_at == 20


def test_fallback_is_said(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=10)
    _, text = report(root, embedder=small_pictures("there is no PyTorch here"))
    assert "A coarse description: there is no PyTorch here" in plain(text)
    assert "A coarse description" not in plain(report(root)[1])


def test_picture_that_has_gone_is_said(tmp_path: Path) -> None:
    def gone(path: str) -> np.ndarray:
        raise ImageError(f"cannot read {path}: no such file")

    write_survey_report(tmp_path / "r.html", survey(line(tmp_path / "clip")), picture=gone)
    assert "no such file" in (tmp_path / "r.html").read_text()


def test_large_groups_are_drawn_as_a_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = survey(line(tmp_path / "clip", train=40, bad=0)).parts
    dots = survey_figures.order_figure(part, "x")
    monkeypatch.setattr(survey_figures, "MOST_DOTS", 10)
    band = survey_figures.order_figure(part, "x")
    assert dots.count("stroke-linecap: round") > band.count("stroke-linecap: round")
    assert len(band) < len(dots)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Said before the work."""
    looked: list[object] = []
    monkeypatch.setattr(surveying, "survey", lambda *a, **k: looked.append(a))
    for package in ("jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=re.escape('pip install "andon[report]"')):
            surveying.report_on_data(tmp_path, tmp_path / "r.html")
        monkeypatch.undo()
        monkeypatch.setattr(surveying, "survey", lambda *a, **k: looked.append(a))
    assert looked == []


# --- the command --------------------------------------------------------------------------------------------


def command(*arguments: object) -> Result:
    return CliRunner().invoke(andon, ["data", "report", *map(str, arguments)])


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("andon.features")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("no_torch")
def test_the_command_without_torch(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=24)
    shutil.copy(root / "train/good/0.png", root / "test/good/leak.png")
    done = command(
        root, "-o", tmp_path / "r.html", "--json", tmp_path / "r.json", "--title", "Line <3>", "-q"
    )
    assert done.exit_code == 0, done.output
    assert "✕ 1 of 17 test images is a copy of training images" in done.output
    assert f"report: {tmp_path / 'r.html'}" in done.output
    text = (tmp_path / "r.html").read_text()
    assert "<h1>Line &lt;3&gt;</h1>" in text
    assert "A coarse description" in plain(text)
    assert "pip install" in plain(text)
    saved = json.loads((tmp_path / "r.json").read_text())
    assert [f["about"] for f in saved["findings"]] == list(NAMES)
    assert saved["descriptor"] == "the photograph reduced to 16 × 16 pixels"
    assert len(saved["categories"][0]["images"]) == 41


def test_the_command_with_the_backbone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = command(
        line(tmp_path / "clip", train=12), "-o", tmp_path / "r.html", "--json", tmp_path / "r.json", "-q"
    )
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved["descriptor"].startswith("the features of andon-s at 256 × 256 pixels")
    assert saved["fallback"] == ""
    assert "A coarse description" not in (tmp_path / "r.html").read_text()


@pytest.mark.usefixtures("no_torch")
def test_what_the_command_refuses(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = command(tmp_path / "empty", "-o", tmp_path / "r.html")
    assert "the folder is empty" in str(refused.exception)
    assert not (tmp_path / "r.html").exists()
    save(photo(0), tmp_path / "one" / "a.png")
    assert "named like a photograph" in str(command(tmp_path / "one", "-o", tmp_path / "a.png").exception)
    assert command(tmp_path / "one", "--limit", "0").exit_code == 2
    (tmp_path / "one" / "a.png").write_bytes(b"broken")
    done = command(tmp_path / "one", "-o", tmp_path / "r.html", "-q")
    assert done.exit_code == 0 or done.return_value == 2
    assert "1 of 1 image cannot be read" in done.output


def test_real_cookies(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "aws_cookies"
    found = survey(root)
    write_survey_report(tmp_path / "r.html", found, picture=lambda name: decode(root / name).pixels)
    words = plain((tmp_path / "r.html").read_text())
    assert "1 training image is a near copy of another" in words
    assert "8 of 40 defective images have no mask" in words
    assert "train/good/ normal-31.png" in words
