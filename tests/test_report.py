"""The report: what it says, that it is one safe file, and the rows beside it."""

from __future__ import annotations

import base64
import csv
import html
import io
import itertools
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon.errors import ImageError, MissingExtraError, SettingsError
from andon.report import (
    COLUMNS,
    accuracy,
    content,
    figures,
    gallery,
    tables,
    verdict_rows,
    write_csv,
    write_jsonl,
    write_report,
)
from andon.report.content import NBSP, Outcome
from andon.runtime.words import words_of
from andon.types import Calibration, Curve, Evaluation, Failure, Metric, Region, ScoreRow, Verdict

NOMINAL = tuple(float(x) for x in np.linspace(0.5, 2.0, 99))
CALIBRATION = Calibration(2.0, 1.8, 1.9, 0.01, 0.03, 0.95, NOMINAL, "conformal",
                          "at most 3 % false alarms, from 99 good images")  # fmt: skip
REGION = Region(box=(0, 70, 20, 100), area=300, area_fraction=0.03, peak=4.25, peak_position=(5, 90))
MANIFEST = {
    "andon_version": "0.1.0",
    "created": "2026-03-04T09:12:44+00:00",
    "detector": {"method": "patchcore", "title": "PatchCore", "settings": {"backbone": "andon-s", "seed": 7}},
    "preprocessing": {"size": [256, 320], "resize": "stretch"},
    "data": {"train": 1500, "held_out": 0, "calibration": 99, "skipped": [["a.png", "truncated"]]},
    "fit": {"seconds": 12.3},
    "calibration": {"nominal_scores": list(NOMINAL)},
    "history": [{"calibration": {}}],
    "members": {"model.onnx": {"sha256": "ab" * 32, "bytes": 3}},
}
NASTY = "test/good/<img src=http://evil.example/x onerror=alert(1)>&\"'.png"


def verdict(path: str, score: float, **changes: object) -> Verdict:
    decision = "fail" if score > 2.0 else "review" if score > 1.8 else "pass"
    regions = (REGION,) if decision == "fail" else ()
    made = Verdict(
        path, decision, 0.5, score, 2.0, regions, f"sentence of {path}", (100, 100), milliseconds=12.0
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def evaluation(good: dict[str, float], bad: dict[str, float], **changes: object) -> Evaluation:
    rows = [ScoreRow(path, "", "good", False, score) for path, score in good.items()]
    rows += [ScoreRow(path, "", path.split("/")[-2], True, score) for path, score in bad.items()]
    groups = {
        "all": {"image_auroc": Metric(0.9, 0.85, 0.95), "fpr": Metric(0.1, 0.0, 0.2), "fnr": Metric(0.2, 0.1, 0.3),
                "auspro_5": Metric(0.5), "aupro_30": Metric(None, note="no masks")},
        "defect:scratch": {"image_auroc": Metric(None, note="one class <only>"), "fpr": Metric(0.1)},
        "defect:dent": {"image_auroc": Metric(0.99996, 0.9, 1.0), "fpr": Metric(0.1, note="one class <only>")},
    }  # fmt: skip
    curves = {"roc": Curve("roc", (0.0, 0.1, 1.0), (0.0, 0.8, 1.0)), "spro": Curve("spro", (0.0, 0.5, 1.0), (0.0, 0.9, 1.0)),
              "roc:defect:dent": Curve("roc", (0.0, 1.0), (0.0, 1.0))}  # fmt: skip
    made = Evaluation(tuple(rows), groups, curves, 2.0, {"confidence": 0.9})
    return replace(made, **changes)  # type: ignore[arg-type]


GOOD = {f"test/good/{i:03}.png": 0.5 + i / 20 for i in range(20)} | {"test/good/alarm.png": 2.5}
BAD = {"test/scratch/escape.png": 1.0, "test/scratch/near.png": 1.7, "test/scratch/caught.png": 5.0,
       "test/dent/review.png": 1.9, "test/dent/caught.png": 9.0}  # fmt: skip


def picture(path: str) -> tuple[np.ndarray, np.ndarray]:
    photo = np.full((60, 90, 3), 128, np.uint8)
    overlay = photo.copy()
    overlay[10:30, 10:30] = (255, 200, 0)
    return photo, overlay


def written(tmp_path: Path, **given: object) -> str:
    settings = {"title": "Clips", "manifest": MANIFEST, "calibration": CALIBRATION} | given
    path = write_report(tmp_path / "report.html", **settings)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def full(tmp_path: Path, **given: object) -> str:
    shown = [verdict(path, score) for path, score in (GOOD | BAD).items()]
    settings = {"verdicts": shown, "failures": [(NASTY, "truncated")], "evaluation": evaluation(GOOD, BAD),
                "picture": picture} | given  # fmt: skip
    return written(tmp_path, **settings)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report with everything in it."""
    return full(tmp_path_factory.mktemp("page"))


def plain(text: str) -> str:
    """The words of a page, its tags and spaces made single blanks."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", text, flags=re.S)
    words = html.unescape(re.sub(r"<wbr>", "", body))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", words).replace(NBSP, " "))


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


# --- one safe file ------------------------------------------------------------------------------------------


def test_page_is_well_formed_with_unique_ids(page: str) -> None:
    elements = Elements(page)
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    references = {a["href"] for tag, a in elements.found if tag == "use" and a.get("href")}
    assert references <= {f"#{name}" for name in ids}


def test_page_loads_nothing(page: str) -> None:
    for tag, attributes in Elements(page).found:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href", "srcset", "action", "data", "xlink:href"):
                assert (value or "").startswith(("data:image/jpeg;base64,", "#")), f"{tag} {name}={value}"
    outside = page.replace("http://evil.example", "")  # a file's name, as text
    assert "url(http" not in outside
    assert "@import" not in outside
    assert "<svg xmlns" not in outside
    assert "http://" not in outside
    assert "https://" not in outside
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    text = full(
        tmp_path,
        title=bad,
        footer=bad,
        manifest={"detector": {"title": bad}, bad: {bad: bad}},
        calibration=replace(CALIBRATION, statement=bad),
        failures=[(NASTY, bad)],
        verdicts=[verdict(NASTY + "1", 5.0, sentence=bad, notes=(bad,))],
        evaluation=evaluation({bad: 1.0}, {f"{bad}/{bad}/a": 1.0}, settings={"notes": [bad]}),
    )
    assert bad not in text
    assert "<script" not in text
    assert "<img src=http" not in text
    assert Elements(text).open == []
    assert plain(text).count("alert('x')") > 8


def test_undecodable_file_names_do_not_stop_the_report(tmp_path: Path) -> None:
    assert "caf\\udce9.png" in written(tmp_path, failures=[("caf\udce9.png", "x")])


def test_same_input_same_bytes(tmp_path: Path, page: str) -> None:
    assert full(tmp_path) == page
    undated = page.replace(str(MANIFEST["created"]), "")
    assert not re.search(r"\b20\d\d-\d\d-\d\d", undated)


def test_page_stays_small_with_many_large_noisy_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    shown = [verdict(f"{i}.png", 3.0 + i) for i in range(40)]
    text = written(tmp_path, verdicts=shown, picture=lambda path: (noise, noise), most=20)
    assert text.count("<img ") == 40
    assert len(text) < 5_000_000


def test_the_old_report_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(
        SettingsError, match=r"must be an array \(H, W, 3\) uint8 RGB; this one is float64 \(2, 2\)"
    ):
        written(
            tmp_path, verdicts=[verdict("a", 5.0)], picture=lambda path: (np.zeros((2, 2)), np.zeros((2, 2)))
        )
    assert (tmp_path / "report.html").read_text() == "old"


def test_every_picture_has_words_and_every_table_headers(page: str) -> None:
    elements = Elements(page).found
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert images
    assert all(image["alt"] and image["width"] == "90" and image["height"] == "60" for image in images)
    assert all(a.get("scope") in ("col", "row") for tag, a in elements if tag == "th")
    assert page.count("<table") == page.count("<thead")
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    drawings = [a for tag, a in elements if a.get("class") == "drawing"]
    assert len(drawings) == 3
    assert all(a.get("role") == "img" and a.get("aria-label") for a in drawings)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_of_words_is_at_least_4_5(theme: int) -> None:
    css = (Path(content.__file__).parents[1] / "templates" / "report.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css.split(":root {")[theme + 1].split("}")[0]))
    pairs = [(ink, ground) for ink in ("ink", "muted", "fail") for ground in ("page", "paper")]
    pairs += [(kind, f"{kind}-tint") for kind in ("pass", "review", "fail", "none")] + [("paper", "fail")]
    pairs += [(kind, "paper") for kind in ("pass", "review", "none")]
    for ink, ground in pairs:
        a, b = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, (ink, ground)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}', which is not installed.*andon\[report\]"):
        written(tmp_path, verdicts=[verdict("a.png", 1.0)])
    assert not (tmp_path / "report.html").exists()


# --- what it says -------------------------------------------------------------------------------------------


def test_report_with_ground_truth_says_what_was_found(page: str) -> None:
    words = plain(page)
    assert "Of 21 good parts 1 failed (0.8–23 %); of 5 defective parts 2 were caught (12–77 %)." in words
    assert (
        "The false alarms agree with the promise of at most 3 %, but 21 good parts are too few to prove it."
        in words
    )
    assert "2 defective parts passed unnoticed (12–77 %); 1 more went to review." in words
    assert "1 image could not be inspected and is in none of these figures." in words
    assert "✓ Pass 22 2 escapes among them" in words
    assert "✕ Fail 3 1 false alarm among them" in words
    assert "At most 3 % false alarms, from 99 good images." in words
    assert "Image AUROC 0.900 0.850–0.950" in words
    assert "In small print the 90 % confidence interval" in words
    assert "AUPRO to 30 % – " in words
    assert "no masks" in words
    assert "truncated 1" in words
    assert "size (rows × columns) 256 × 320" in words
    assert "earlier thresholds 1" in words
    assert "ab" * 32 in words
    assert "learned from 1,500" in words


def test_galleries_show_the_false_alarms_the_closest_escapes_and_each_kind_found(tmp_path: Path) -> None:
    outcomes = content.outcomes([], [], evaluation(GOOD, BAD), CALIBRATION)
    alarms, escapes, found = gallery.choose(outcomes, 1)
    assert [o.path for o in alarms.chosen] == ["test/good/alarm.png"]
    assert [o.path for o in escapes.chosen] == ["test/scratch/near.png"]
    assert (escapes.title, escapes.total) == ("Escapes", 2)
    assert [o.path for o in found.chosen] == ["test/dent/caught.png"]
    assert [o.path for o in gallery.choose(outcomes, 6)[2].chosen] == [
        "test/dent/caught.png",
        "test/scratch/caught.png",
    ]
    text = plain(full(tmp_path, most=1))
    assert "the closest to the threshold first. 1 more is not shown." in text


def test_the_folder_that_all_share_is_said_once(tmp_path: Path) -> None:
    shown = [verdict("C:\\line\\a\\1.png", 5.0), verdict("C:\\line\\b\\1.png", 5.0)]
    words = plain(written(tmp_path, verdicts=shown))
    assert words.count("C:\\line\\") == 1 + 2  # the header, and the two sentences
    assert "PatchCore · in C:\\line\\" in words
    assert (
        gallery.common_folder(["a/1", "ab/1"])
        == gallery.common_folder(["1"])
        == gallery.common_folder([])
        == ""
    )
    assert gallery.common_folder(["/srv/x/1", "/srv/y"]) == "/srv/"


def test_galleries_without_a_mistake_show_what_came_nearest() -> None:
    clean = evaluation({"good/a": 1.0, "good/b": 1.5}, {"x/dent/a": 5.0, "x/dent/b": 4.0, "x/dent/c": 3.0})
    alarms, escapes, _ = gallery.choose(content.outcomes([], [], clean, CALIBRATION), 6)
    assert (alarms.title, [o.path for o in alarms.chosen]) == ("No false alarm", ["good/b", "good/a"])
    assert (escapes.title, [o.path for o in escapes.chosen]) == ("No escape", ["x/dent/c", "x/dent/b"])


def test_report_without_ground_truth(tmp_path: Path) -> None:
    shown = [verdict(f"{i}.png", 1.0) for i in range(150)] + [verdict("r.png", 1.9), verdict("f.png", 5.0)]
    text = written(tmp_path, verdicts=shown, picture=picture)
    words = plain(text)
    assert "Of 152 parts 150 passed, 1 needs a person and 1 failed (0.1–3.6 %)." in words
    assert "If all of them were good, at most about 5 false alarms would be expected." in words
    assert "What was stopped" in words
    assert words.index("f.png ✕ Fail") < words.index("r.png ? Review")
    assert "upper right 20 × 30 3 % 5, 90 4.250" in words
    assert "12 ms from file to verdict" in words
    assert "Accuracy" not in words
    assert "really:" not in words
    assert "Every image could be inspected." in words
    assert text.count("<img ") == 4


def test_more_than_half_failing_says_to_check_the_camera() -> None:
    of = [Outcome(str(i), "fail" if i < 8 else "pass", 1.0) for i in range(12)]
    assert content.conclusion(of, CALIBRATION)[1].startswith(
        "More than half failed: check that part, camera and light"
    )


def outcome(decision: str, amount: int, bad: bool) -> list[Outcome]:
    return [Outcome(f"{decision}{bad}{i}", decision, 1.0, is_anomalous=bad) for i in range(amount)]  # type: ignore[arg-type]


def test_conclusion_judges_the_promise_by_the_interval() -> None:
    kept = content.conclusion(outcome("pass", 300, False), CALIBRATION)
    broken = content.conclusion(outcome("pass", 80, False) + outcome("fail", 20, False), CALIBRATION)
    assert kept[1].replace(NBSP, " ") == "The false alarms keep the promise of at most 3 %."
    assert broken[0].replace(NBSP, " ") == "Of 100 good parts 20 failed (13–29 %)."
    assert broken[1].replace(NBSP, " ") == (
        "That is more than the promised 3 % of false alarms: these good parts differ from those of the "
        "calibration (light, camera, lot). Calibrate again with good parts of today."
    )


def test_conclusion_without_escapes_counts_the_reviews() -> None:
    said = content.conclusion(outcome("fail", 29, True) + outcome("review", 1, True), CALIBRATION)
    assert [s.replace(NBSP, " ") for s in said] == [
        "Of 30 defective parts 29 were caught (83–99.4 %).",
        "No defective part passed unnoticed: the other went to review.",
    ]


def test_the_decisions_in_another_language(tmp_path: Path) -> None:
    told = written(
        tmp_path,
        verdicts=[verdict("f.png", 5.0), verdict("g.png", 1.0)],
        picture=picture,
        words=words_of("de"),
    )
    said = plain(told)
    assert "f.png ✕ NIO" in said
    assert "✓ IO 1" in said
    assert "– NICHT GEPRÜFT 0" in said
    assert '<p lang="de">' in told


def test_thresholds_by_group_are_listed(tmp_path: Path) -> None:
    groups = {
        "shift=day": CALIBRATION,
        "shift=late": replace(CALIBRATION, threshold=math.nan, method="none", statement="none"),
    }
    calibration = replace(CALIBRATION, group_by="{shift}/*", groups=groups)
    said = plain(written(tmp_path, verdicts=[verdict("f.png", 5.0)], calibration=calibration))
    assert f"shift=day {content.number(CALIBRATION.threshold)} {CALIBRATION.statement}" in said
    assert "shift=late – none" in said
    assert "all others – for review" in said


def test_nothing_and_nothing_readable(tmp_path: Path) -> None:
    assert "No image was inspected." in plain(written(tmp_path))
    words = plain(written(tmp_path, failures=[("a", "empty file"), ("b", "empty file")]))
    assert "None of the 2 images could be inspected." in words
    assert "2 images (100 %) could not be inspected and are neither pass nor fail." in words


def test_without_a_threshold_everything_is_review(tmp_path: Path) -> None:
    bare = Calibration(math.nan, None, math.nan, 0.01, 1.0, 0.95, (), "none", "no threshold yet")
    words = plain(written(tmp_path, calibration=bare, verdicts=[verdict("a", 1.0, decision="review")]))
    assert "There is no threshold yet: all 1 part ask" not in words
    assert "There is no threshold yet: 1 part asks for a person." in words
    assert "nan" not in words
    scored = plain(
        written(tmp_path, calibration=bare, evaluation=evaluation({"g/a": 1.0}, {"x/dent/b": 2.0}))
    )
    assert "There is no threshold yet, so no image passed or failed" in scored
    assert "Good parts that deviate most" in scored


def test_an_unreadable_picture_is_said_in_its_place(tmp_path: Path) -> None:
    def gone(path: str) -> tuple[np.ndarray, np.ndarray]:
        raise ImageError(f"{path}: no such file")

    assert "No picture: f.png: no such file" in plain(
        written(tmp_path, verdicts=[verdict("f.png", 5.0)], picture=gone)
    )


def test_rows_that_failed_in_the_evaluation_are_not_inspected(tmp_path: Path) -> None:
    rows = (
        *evaluation(GOOD, BAD).rows,
        ScoreRow("x.png", "", "dent", True, math.nan, error="x.png: truncated"),
    )
    words = plain(written(tmp_path, evaluation=evaluation({}, {}, rows=rows), failures=[("x.png", "again")]))
    assert "– Not inspected 1 0 good, 1 defective" in words
    assert "of 5 defective parts" in words
    assert "truncated 1 x.png" in words


def test_partly_inspected_images_and_notes_are_counted(tmp_path: Path) -> None:
    shown = [
        verdict("a", 1.0, not_inspected=0.25, notes=("16-bit",)),
        verdict("b", 1.0, notes=("16-bit", "CMYK")),
    ]
    words = plain(written(tmp_path, verdicts=shown))
    assert (
        "Of 1 image a part was not looked at (zones to ignore, or outside the part that is inspected): up to 25 %."
        in words
    )
    assert "16-bit (2 images)" in words
    assert "CMYK (1 image)" in words


def test_long_tables_say_what_they_leave_out(tmp_path: Path) -> None:
    shown = [verdict(f"{i:03}.png", 5.0, regions=(REGION,) * 5) for i in range(35)]
    words = plain(written(tmp_path, verdicts=shown, failures=[(f"x{i}", "empty") for i in range(20)]))
    assert "5 more images are not listed." in words
    assert "and 2 more" in words
    assert "and 8 more" in words


def test_group_table_marks_notes_once() -> None:
    table = accuracy.group_table(evaluation(GOOD, BAD).groups, {"defect:dent": {"good": 3, "anomalous": 2}})
    assert table is not None
    assert table.columns == ["Image AUROC", "False alarms"]
    assert table.notes == [("1", "one class <only>")]
    assert table.rows[0] == ("scratch", "", [("–", "", "1"), (f"10{NBSP}%", "", "")])
    assert table.rows[1][1:] == (
        "3 good, 2 defective",
        [(">0.999", "0.900–1.000", ""), (f"10{NBSP}%", "", "1")],
    )


def test_negative_most_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="most must be 0 or more pictures a gallery, got -1"):
        written(tmp_path, most=-1)
    assert "<img" not in full(tmp_path, most=0)


# --- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("threshold", [None, 2.0, 50.0])
def test_bins_hold_every_score_and_break_at_the_threshold(log: bool, threshold: float | None) -> None:
    values = np.random.default_rng(1).lognormal(0, 1.5, 300)
    values = np.append(values, [] if threshold is None else [threshold])
    edges = figures.bin_edges(values, threshold, log)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] < values.min()
    assert edges[-1] > values.max()
    assert threshold is None or np.abs(edges - threshold).min() < 1e-9 * threshold
    assert np.histogram(values, edges)[0].sum() == values.size


@pytest.mark.parametrize("scores", [[3.0], [0.0, 0.0], [-5.0, 2.0], [1e-3, 1e5], [2.0] * 5000])
def test_score_figure_takes_any_scores(scores: list[float]) -> None:
    svg = figures.score_figure([figures.Lane("a $b_1$ <&>", np.array(scores), figures.GOOD)], 2.0, 1.0)
    assert svg.startswith("<svg viewBox=")
    assert "a $b_1$ &lt;&amp;&gt;" in svg
    assert "var(--good)" in svg
    assert "nan" not in svg
    assert len(svg) < 200_000


def test_names_in_any_script_are_drawn_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    assert "傷" in figures.score_figure([figures.Lane("傷", np.array([1.0, 2.0]), figures.BAD)], 1.5, None)
    assert not recwarn.list


def test_figures_leave_the_callers_matplotlib_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.curve_figure([Curve("roc", (0.0, 1.0), (0.0, 1.0))], x_limit=0.5, x_label="x", y_label="y")
    assert dict(matplotlib.rcParams) == before


def test_thinned_curve_lies_on_the_whole_one() -> None:
    x = np.sort(np.random.default_rng(2).random(50_000))
    curve = Curve("roc", tuple(x), tuple(np.sqrt(x)))
    few_x, few_y = figures.thinned(curve)
    assert few_x.size < 8000
    assert (few_x[0], few_x[-1]) == (x[0], x[-1])
    assert np.abs(np.interp(x, few_x, few_y) - np.sqrt(x)).max() < 1 / figures.CURVE_STEPS


def test_picture_is_reduced_and_keeps_its_shape() -> None:
    uri, width, height = figures.picture_uri(np.zeros((3000, 1500, 3), np.uint8))
    assert (width, height) == (320, 640)
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (320, 640)
    assert figures.picture_uri(np.zeros((20, 4000, 3), np.uint8))[1:] == (480, 2)


def test_place_words_cover_the_grid() -> None:
    words = {
        tables.place(replace(REGION, box=(r, c, r + 2, c + 2)), (90, 90))
        for r in (5, 44, 80)
        for c in (5, 44, 80)
    }
    assert words == {"upper left", "upper middle", "upper right", "left", "centre", "right",
                     "lower left", "lower middle", "lower right"}  # fmt: skip


# --- rows ---------------------------------------------------------------------------------------------------


def test_jsonl_is_strict_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    write_jsonl(
        [verdict("ü.png", 5.0, threshold=math.nan, image_score=math.inf), Failure("b.png", "empty")], path
    )
    lines = path.read_text(encoding="ascii").splitlines()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert tuple(first) == tuple(second) == COLUMNS
    assert first["path"] == "ü.png"
    assert (first["threshold"], first["image_score"], first["decision"]) == (None, None, "fail")
    assert first["regions"] == [{"box": [0, 70, 20, 100], "area": 300, "area_fraction": 0.03, "peak": 4.25,
                                 "peak_position": [5, 90]}]  # fmt: skip
    assert (second["decision"], second["score"], second["error"]) == ("", None, "empty")


def test_jsonl_takes_numpy_numbers() -> None:
    out = io.StringIO()
    write_jsonl([verdict("a", 5.0, image_score=np.float32(1.5), size=(np.int64(3), np.int64(4)))], out)  # type: ignore[arg-type]
    assert json.loads(out.getvalue())["height"] == 3


def test_csv_reads_back_and_runs_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    shown = [verdict('a,"b".png', 5.0, notes=("x", "y")), verdict("=HYPERLINK(1).png", -1.0)]
    write_csv([*shown, Failure("c\nd.png", "@empty"), Failure("caf\udce9.png", "x")], path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == ['a,"b".png', "'=HYPERLINK(1).png", "c\nd.png", "caf\\udce9.png"]
    assert rows[0]["notes"] == "x; y"
    assert json.loads(rows[0]["regions"])[0]["peak"] == 4.25
    assert float(rows[1]["image_score"]) == -1.0
    assert (rows[2]["score"], rows[2]["error"]) == ("", "'@empty")


def test_csv_of_nothing_has_its_header() -> None:
    out = io.StringIO()
    write_csv([], out)
    assert out.getvalue() == ",".join(COLUMNS) + "\n"
    assert verdict_rows([]) == []


def test_report_on_real_photographs(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "mvtec_transistor" / "test" / "misplaced").glob("*.png"))[:3]

    def real(path: str) -> tuple[np.ndarray, np.ndarray]:
        photo = np.asarray(Image.open(path).convert("RGB"))
        return photo, photo[::-1]

    text = written(tmp_path, verdicts=[verdict(str(path), 5.0) for path in paths], picture=real)
    assert text.count("data:image/jpeg;base64,") == 6
    assert 'width="256" height="256"' in text
