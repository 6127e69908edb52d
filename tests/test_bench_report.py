"""The benchmark's page: what is joined, what the sentences say, that it is one safe file, the files beside it."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import itertools
import json
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats as reference

from andon.bench import answers, charts, findings
from andon.bench.account import command_of
from andon.bench.bundle import BUNDLES
from andon.bench.charts import Curves, Learning, Point
from andon.bench.grid import GRIDS
from andon.bench.joined import Results, join_results, result_files
from andon.bench.label_places import _PLACES, _box, label_places
from andon.bench.page import write_page
from andon.bench.published import NOTHING, load
from andon.bench.report import GridReport, report_of
from andon.bench.rows import quantity, read_runs
from andon.bench.special import defect_table
from andon.bench.stats import Band
from andon.bench.tables import WELCH, Significance, variant_table
from andon.bench.words import NBSP, TITLES, title_of
from andon.cli.bench import command
from andon.errors import DataError, MissingExtraError, SettingsError

Row = dict[str, Any]
AUTOVI = load().sets["autovi"].categories
FIGURES = ("image_auroc", "image_ap", "tpr_at_tnr_99", "tpr_at_tnr_95", "tpr_at_tnr_90", "auspro_5", "aupro_30", "pixel_ap",
           "fnr", "entropy_outside")  # fmt: skip
COSTS = (
    "fit_seconds",
    "train_seconds",
    "fit_peak_mb",
    "p50_ms",
    "p99_ms",
    "images_per_second",
    "runtime_mb",
    "artifact_mb",
)
NASTY = '<script>alert("x")</script>&*_|'


def draw(*key: object) -> random.Random:
    return random.Random(zlib.crc32(repr(key).encode()))


def row(grid: str, place: tuple[str, str], method: str, variant: str = "", seed: int = 0, **more: Any) -> Row:
    """One done cell with figures drawn by its names; ``figures``, ``costs``, ``options`` and others replace what they name."""
    base = draw(method, place).uniform(0.7, 0.95) + draw(method, variant).uniform(-0.03, 0.03)
    figures = {name: base + draw(grid, place, method, variant, seed, name).gauss(0, 0.01) for name in FIGURES}
    costs = {name: draw(method, name, seed).uniform(5, 90) for name in COSTS}
    cell = {
        "set": place[0], "category": place[1], "method": method, "variant": variant, "settings": {},
        "options": more.pop("options", {"size": [256, 256]}), "seed": seed,
    }  # fmt: skip
    made = {
        "grid": grid, "cell": cell, "status": "done", "figures": figures, "groups": {}, "costs": costs,
        "data": {"train": 100, "held_out": 0, "calibration": 30, "test": 60, "size": [256, 256], "steps": [0, 0]},
    }  # fmt: skip
    made["figures"] = figures | more.pop("figures", {})
    return made | more


def failed(one: Row, why: str = "killed by SIGKILL") -> Row:
    return {"grid": one["grid"], "cell": one["cell"], "status": "failed", "error": why}


def rows_of(
    name: str, places: Iterable[tuple[str, str]], methods: Iterable[str] | None = None, seeds: int = 3
) -> list[Row]:
    grid = GRIDS[name]
    return [
        row(name, place, method, variant.name, seed, options={"size": [256, 256], **variant.options})
        for place in places
        for method in methods or grid.methods
        for variant in grid.variants
        for seed in range(seeds)
    ]


def write(path: Path, name: str, rows: list[Row], **changes: Any) -> Path:
    """A file of results as the driver writes it."""
    grid = GRIDS[name]
    said = {
        "name": name, "title": grid.title, "methods": list(grid.methods), "seeds": 3,
        "variants": [variant.name for variant in grid.variants], "metrics": list(grid.metrics), "baseline": grid.baseline,
    } | changes.pop("grid", {})  # fmt: skip
    made = {"andon": "0.1.0", "python": "3.11.7", "machine": "x86_64"}
    content = {"format": 1, "grid": said, "cells": len(rows), "rows": rows, "made": made} | changes
    path.write_text(json.dumps(content))
    return path


def results(tmp_path: Path, name: str, rows: list[Row], **changes: Any) -> Results:
    (found,) = join_results([write(tmp_path / f"{name}.json", name, rows, **changes)])
    return found


def report(
    tmp_path: Path, name: str, rows: list[Row], test: Significance = WELCH, **changes: Any
) -> GridReport:
    return report_of(results(tmp_path, name, rows, **changes), test)


def words(report: GridReport, part: int = 0) -> list[str]:
    return [said.replace(NBSP, " ") for said in report.parts[part].answer]


def page_of(tmp_path: Path, *reports: GridReport) -> str:
    return write_page(tmp_path / "page.html", reports).read_text(encoding="utf-8")


def plain(text: str) -> str:
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>|<svg.*?</svg>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)).replace(NBSP, " "))


class Elements(HTMLParser):
    """Tags in order with their attributes, and the nesting checked."""

    VOID = frozenset({"meta", "wbr", "br"})

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


CLIP, SCREW = ("parts", "clip"), ("parts", "screw")


# --- files become results ---------------------------------------------------------------------------------------------


def test_halves_of_a_grid_are_the_whole(tmp_path: Path) -> None:
    rows = rows_of("folder", [CLIP, SCREW])
    whole = write(tmp_path / "whole.json", "folder", rows)
    one = write(tmp_path / "one.json", "folder", rows[::2])
    two = write(tmp_path / "two.json", "folder", rows[1::2])
    texts = {
        bundle([report_of(found) for found in join_results(paths)])
        for paths in ([whole], [one, two], [two, one], [whole, one])
        for bundle in (BUNDLES["csv"],)
    }
    assert len(texts) == 1
    assert join_results([whole, one])[0].doubled == len(rows[::2])
    assert join_results([whole, one])[0].cells == len(rows)


def test_a_result_comes_before_a_failure(tmp_path: Path) -> None:
    rows = rows_of("folder", [CLIP], seeds=1)
    done = write(tmp_path / "done.json", "folder", rows)
    lost = write(tmp_path / "lost.json", "folder", [failed(one) for one in rows])
    for paths in ([done, lost], [lost, done]):
        (found,) = join_results(paths)
        assert [one["status"] for one in found.rows] == ["done"] * 3
    (both,) = join_results([lost, lost])
    assert len(both.rows) == 3


def test_two_results_of_one_cell_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", "folder", [row("folder", CLIP, "padim")])
    two = write(tmp_path / "two.json", "folder", [row("folder", CLIP, "padim", figures={"image_auroc": 0.1})])
    with pytest.raises(
        DataError,
        match=r"one\.json, .*two\.json cannot be joined: padim on parts/clip has runs with the same seed 0",
    ):
        join_results([one, two])


def test_other_times_of_the_same_figures_count_once(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", "folder", [row("folder", CLIP, "padim")])
    two = write(tmp_path / "two.json", "folder", [row("folder", CLIP, "padim", costs={"p50_ms": 1.0})])
    (found,) = join_results([one, two])
    assert (len(found.rows), found.doubled, found.cells) == (1, 1, 1)
    assert found.rows[0]["costs"]["p50_ms"] != 1.0
    assert (
        "1 cell came more than once, with the same figures, and counts once." not in report_of(found).cautions
    )
    assert any("came more than once" in said for said in report_of(found).cautions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "holds no results of andon bench"), ("[]", "holds no results of andon bench"),
        ('{"format": 1, "rows": []}', r"does not say what its grid is \('grid'\)"),
        ('{"format": 9, "rows": []}', "is of format 9"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_results(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        join_results([path])


def test_a_row_that_is_none_names_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", "folder", [{"status": "done"}])
    with pytest.raises(DataError, match=r"x\.json: a row needs a status and a cell"):
        join_results([path])


def test_a_folder_stands_for_the_results_in_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="holds no results of andon bench: give GRID.json, or the folder of --out"
    ):
        result_files([tmp_path])
    path = write(tmp_path / "folder.json", "folder", [])
    (tmp_path / "report.json").write_text("[]")  # what --json wrote
    assert result_files([tmp_path, path]) == [path, path]


def test_places_get_their_public_names(tmp_path: Path) -> None:
    rows = rows_of("mvtec", [("mvtec_transistor", "mvtec_transistor"), CLIP], ["padim"], 1)
    found = results(tmp_path, "mvtec", rows)
    assert {(one["cell"]["set"], one["cell"]["category"]) for one in found.rows} == {
        ("mvtec_ad", "transistor"),
        CLIP,
    }
    assert found.folders == ("mvtec_transistor", "parts")
    rows += rows_of("mvtec", [("mvtec", "transistor")], ["padim"], 1)  # another folder of the same category
    assert ("mvtec", "transistor") in {
        (one["cell"]["set"], one["cell"]["category"]) for one in results(tmp_path, "mvtec", rows).rows
    }


def test_titles_are_those_of_the_methods() -> None:
    from andon.models import DETECTORS

    assert {name: detector.title for name, detector in DETECTORS.items()} == TITLES
    assert title_of("mine") == "mine"


# --- which method is best -----------------------------------------------------------------------------------------------


def fixed(values: dict[str, list[float]], place: tuple[str, str] = CLIP, grid: str = "folder") -> list[Row]:
    return [
        row(grid, place, method, seed=seed, figures={"image_auroc": value})
        for method, own in values.items()
        for seed, value in enumerate(own)
    ]


def test_the_best_and_who_is_not_significantly_worse(tmp_path: Path) -> None:
    rows = fixed(
        {"patchcore": [0.95, 0.97, 0.96], "padim": [0.94, 0.97, 0.95], "subspacead": [0.7, 0.71, 0.72]}
    )
    assert words(report(tmp_path, "folder", rows))[0] == (
        "PatchCore has the best image AUROC, 96.0 %; PaDiM is not significantly worse, SubspaceAD is significantly worse."
    )
    rows = fixed(
        {"patchcore": [0.95, 0.97, 0.96], "padim": [0.8, 0.81, 0.8], "subspacead": [0.7, 0.71, 0.72]}
    )
    assert words(report(tmp_path, "folder", rows))[0].endswith("96.0 %; all others are significantly worse.")
    assert words(report(tmp_path, "folder", fixed({"padim": [0.9, 0.8]})))[0] == (
        "PaDiM reaches 85.0 % (image AUROC); there is no other method to set it against."
    )
    same = fixed({"patchcore": [0.95, 0.97], "padim": [0.97, 0.95]})
    assert (
        words(report(tmp_path, "folder", same))[0]
        == "PaDiM has the best image AUROC, 96.0 %; PatchCore is exactly as good."
    )


def test_single_runs_cannot_say_who_is_worse(tmp_path: Path) -> None:
    said = words(report(tmp_path, "folder", fixed({"patchcore": [0.9], "padim": [0.8]})))[0]
    assert (
        said
        == "PatchCore has the best image AUROC, 90.0 %; single runs cannot say whether the others are really worse."
    )


def test_who_lacks_a_category_is_not_compared(tmp_path: Path) -> None:
    rows = fixed({"patchcore": [0.8, 0.81], "padim": [0.9, 0.91]})
    rows += fixed({"patchcore": [0.8, 0.82], "subspacead": [0.99, 0.98]}, SCREW)
    said = words(report(tmp_path, "folder", rows))
    assert (
        said[0]
        == "PatchCore reaches 80.8 % (mean image AUROC over 2 categories); there is no other method to set it against."
    )
    assert said[1] == "Not compared, for want of a figure in every category: PaDiM and SubspaceAD."
    alone = fixed({"padim": [0.9]}) + fixed({"patchcore": [0.8]}, SCREW)
    assert words(report(tmp_path, "folder", alone)) == [
        "There is no answer: no method has a figure in every one of the 2 categories."
    ]


def test_there_is_no_answer_without_figures(tmp_path: Path) -> None:
    rows = rows_of("folder", [CLIP])
    assert words(report(tmp_path, "folder", [failed(one) for one in rows])) == [
        "There is no answer: all 9 runs failed."
    ]
    assert words(report(tmp_path, "folder", [])) == ["Nothing was run yet, so nothing can be said."]
    for one in rows:
        one["figures"] = dict.fromkeys(one["figures"])
    assert words(report(tmp_path, "folder", rows)) == [
        "There is no answer: image AUROC is not defined on these images."
    ]


def test_categories_are_counted_as_a_brute_force_does(tmp_path: Path) -> None:
    rows = rows_of("autovi-main", [("AutoVI", name) for name in AUTOVI], seeds=8)
    values = {
        (one["cell"]["method"], one["cell"]["category"]): [] for one in rows
    }  # fmt: skip
    for one in rows:
        values[one["cell"]["method"], one["cell"]["category"]].append(one["figures"]["image_auroc"])
    methods = GRIDS["autovi-main"].methods
    best = max(methods, key=lambda method: np.mean([values[method, name] for name in AUTOVI]))
    marked = 0
    for name in AUTOVI:
        top = max(methods, key=lambda method: np.mean(values[method, name]))
        p = (
            reference.ttest_ind(values[best, name], values[top, name], equal_var=False).pvalue
            if best != top
            else 1.0
        )
        marked += p >= 0.05
    said = words(report(tmp_path, "autovi-main", rows))
    assert said[0].startswith(f"{title_of(best)} has the best mean image AUROC over 6 categories, ")
    assert said[1].startswith(f"By category, it is the best or not significantly worse in {marked} of 6.")
    assert said[2].startswith("By other figures the best are: image AP ")
    assert said[-1] == (
        "In the published figures, made with other settings, PatchCore has the best mean image AUROC, 88.4 %."
    )


def test_a_category_in_which_another_is_hardly_better_counts(tmp_path: Path) -> None:
    rows = fixed(
        {"patchcore": [0.9, 0.92, 0.91], "padim": [0.7, 0.71, 0.72], "subspacead": [0.5, 0.51, 0.52]}
    )
    rows += fixed(
        {"patchcore": [0.9, 0.92, 0.91], "padim": [0.9, 0.93, 0.91], "subspacead": [0.5, 0.51, 0.52]}, SCREW
    )
    rows += fixed(
        {"patchcore": [0.9, 0.92, 0.91], "padim": [0.7, 0.71, 0.72], "subspacead": [0.99, 0.98, 0.99]},
        ("parts", "nut"),
    )
    assert words(report(tmp_path, "folder", rows))[1] == (
        "By category, it is the best or not significantly worse in 2 of 3. The best of a category is also PaDiM in 1 and "
        "SubspaceAD in 1."
    )


def test_the_baseline_alone_is_the_method_as_it_was_published(tmp_path: Path) -> None:
    places = [("AutoVI", name) for name in AUTOVI]
    rows = [
        one for one in rows_of("autovi-augmentation", places, seeds=2) if one["cell"]["variant"] == "none"
    ]
    table = report(tmp_path, "autovi-augmentation", rows, grid={"variants": ["none"]}).parts[0].tables[0]
    assert table.name == "methods-image_auroc"
    assert table.rows[-1][1].published == 0.884
    assert table.rows[-1][1].n == 2


def test_locos_two_kinds_have_their_own_answers(tmp_path: Path) -> None:
    rows = rows_of("loco", [("loco", "juice_bottle")], ["padim", "patchcore"], 2)
    for one in rows:
        better = 0.9 if one["cell"]["method"] == "padim" else 0.6
        seed = one["cell"]["seed"] / 100
        one["groups"] = {
            "defect:structural_anomalies": {"image_auroc": better + seed},
            "defect:logical_anomalies": {"image_auroc": 1.5 - better + seed},
        }
    found = report(tmp_path, "loco", rows)
    assert (
        words(found)[0]
        == "On structural defects PaDiM is best (90.5 %), on logical defects PatchCore is best (90.5 %), by image AUROC."
    )
    names = [table.title for table in found.parts[0].tables]
    assert names[0] == "Image AUROC: structural defects"
    assert names[-1] == "AUsPRO, FPR to 5 %"
    draem = (
        found.parts[0].tables[0].rows[-1][[c.title for c in found.parts[0].tables[0].columns].index("draem")]
    )
    assert (draem.text, draem.published) == ("not run", 0.744)  # beside the method that was not run, too
    for one in rows:
        del one["groups"]["defect:structural_anomalies"]
    assert (
        words(report(tmp_path, "loco", rows))[0]
        == "Structural defects: there are none among the images that were run."
    )


# --- variants, few images, evenness, cost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("holm", [False, True])
def test_cases_that_help_are_those_that_scipy_finds(tmp_path: Path, holm: bool) -> None:
    rows = rows_of("autovi-augmentation", [("AutoVI", name) for name in AUTOVI[:4]], seeds=4)
    better = worse = 0
    names = ["none", "rotation", "noise", "study"]
    for method in GRIDS["autovi-augmentation"].methods:
        for place in AUTOVI[:4]:
            own = {
                name: [r["figures"]["image_auroc"] for r in rows
                       if (r["cell"]["method"], r["cell"]["category"], r["cell"]["variant"]) == (method, place, name)]
                for name in names
            }  # fmt: skip
            p = [reference.ttest_ind(own[name], own["none"], equal_var=False).pvalue for name in names[1:]]
            if holm:
                order, top = sorted(p), 0.0
                steps = {}
                for k, value in enumerate(order):
                    top = max(top, min(1.0, (3 - k) * value))
                    steps[value] = top
                p = [steps[value] for value in p]
            gains = [np.mean(own[name]) - np.mean(own["none"]) for name in names[1:]]
            better += sum(value < 0.05 and gain > 0 for value, gain in zip(p, gains))
            worse += sum(value < 0.05 and gain < 0 for value, gain in zip(p, gains))
    assert better
    assert worse
    found = report(tmp_path, "autovi-augmentation", rows, Significance(holm=holm), grid={"seeds": 4})
    assert words(found)[0] == (
        f"Augmentation helps significantly in {better} of 72 cases (method, category and variant), harms in {worse}; in "
        f"{72 - better - worse} the difference is not significant."
    )
    assert (
        "Where nothing differs, about 4 of 72 would come out as significant all the same." in words(found)
    ) is not holm
    (chart,) = found.parts[0].charts
    assert isinstance(chart, charts.Pairs)
    signs = [pair.sign for line in chart.pairs for pair in line if pair]
    assert (signs.count(1), signs.count(-1), len(signs)) == (better, worse, 72)


def test_variants_that_were_run_once_or_without_their_baseline(tmp_path: Path) -> None:
    rows = rows_of("autovi-augmentation", [("AutoVI", "tank_screw")], ["padim"], 1)
    said = words(report(tmp_path, "autovi-augmentation", rows))
    assert (
        said[0]
        == "Augmentation may help or not: of 3 cases (method, category and variant) none was run often enough to test it."
    )
    without = [one for one in rows if one["cell"]["variant"] != "none"]
    said = words(
        report(tmp_path, "autovi-augmentation", without, grid={"variants": ["rotation", "noise", "study"]})
    )
    assert said[0] == "There is no answer: no case was run both with “none” and with another variant."


def test_effects_count_what_the_table_marks() -> None:
    rows = [
        row("autovi-window", CLIP, "padim", variant, seed, figures={"image_auroc": value + seed / 1000})
        for variant, value in (("whole", 0.8), ("200 px", 0.9), ("400 px", 0.7))
        for seed in range(3)
    ]
    table = variant_table(rows, "image_auroc", baseline="whole")
    two, four = findings.effects(table, "whole")
    assert (two.variant, two.cases, two.tested, two.better, two.worse) == ("200 px", 1, 1, 1, 0)
    assert (four.better, four.worse) == (0, 1)
    assert two.change == pytest.approx(0.1)


def learning(values: dict[int, float], whole: float | None) -> Learning:
    steps = tuple((float(n), Band(value, None, None, 1)) for n, value in values.items())
    return Learning("padim", steps, None if whole is None else Band(whole, None, None, 1))


def test_needed_is_where_it_stays_above() -> None:
    one = learning({1: 0.6, 2: 0.87, 4: 0.7, 8: 0.86, 16: 0.89}, 0.9)
    assert findings.needed(one, "image_auroc", 0.9) == 8  # 2 reaches it, too, but 4 does not
    assert findings.needed(one, "image_auroc", 0.999) is None
    assert findings.needed(one, "image_ap", 0.9) == 8  # from 0, not from 50 %
    assert findings.needed(one, "image_ap", 0.7) == 2
    assert findings.needed(learning({1: 0.6}, 0.5), "image_auroc", 0.9) is None
    assert findings.needed(learning({1: 0.6}, None), "image_auroc", 0.9) is None


def test_few_images_in_words() -> None:
    what = quantity("image_auroc")
    one, two = (
        learning({1: 0.6, 4: 0.87}, 0.9),
        Learning("vae", ((1.0, Band(0.5, None, None, 1)),), Band(0.7, None, None, 1)),
    )
    said = findings.few_are_enough(Curves(what, (two, one), 100.0), "image_auroc")
    assert [text.replace(NBSP, " ") for text in said] == [
        "With 4 images PaDiM, the best with all images (90.0 %), reaches 90 % of the accuracy of all images (image AUROC above "
        "the 50.0 % of guessing).",
        "Not with any number that was tried: VAE.",
    ]
    assert (
        "no number that was tried, to 1 "
        in findings.few_are_enough(Curves(what, (two,), None), "image_auroc")[0]
    )
    assert findings.few_are_enough(Curves(what, (learning({1: 0.6}, None),), None), "image_auroc") == [
        "There is no answer: no method was run both on all images and on fewer."
    ]


def test_curves_are_means_with_students_band(tmp_path: Path) -> None:
    rows = rows_of("autovi-fewshot", [("AutoVI", "tank_screw"), ("AutoVI", "pipe_clip")], ["padim"], 4)
    found = report(tmp_path, "autovi-fewshot", rows)
    (chart,) = found.parts[0].charts
    assert isinstance(chart, Curves)
    images, band = chart.learnings[0].steps[3]
    own = [
        np.mean(
            [
                r["figures"]["image_auroc"]
                for r in rows
                if (r["cell"]["variant"], r["cell"]["seed"]) == ("8 images", seed)
            ]
        )
        for seed in range(4)
    ]
    low, high = reference.t.interval(0.95, 3, loc=np.mean(own), scale=reference.sem(own))
    assert (images, band.n) == (8.0, 4)
    assert (band.mean, band.low, band.high) == pytest.approx((np.mean(own), low, high))
    assert chart.images == 100


def test_evenness_is_what_numpy_says(tmp_path: Path) -> None:
    values = {"padim": [0.7, 0.8, 0.9], "patchcore": [0.84, 0.85, 0.86]}
    rows = [
        row("folder", ("parts", f"p{k}"), method, figures={"image_auroc": value})
        for method, own in values.items()
        for k, value in enumerate(own)
    ]
    found = report(tmp_path, "folder", rows)
    part = next(
        part for part in found.parts if part.question == "Does a method do as well on every category?"
    )
    within = np.mean([np.std(own, ddof=1) for own in values.values()])
    between = np.mean(np.std(np.array(list(values.values())), axis=0, ddof=1))
    assert within > between - 1
    said = [text.replace(NBSP, " ") for text in part.answer]
    assert said[0] == (
        f"The category matters more than the method: image AUROC has a standard deviation of {100 * within:.1f} points from "
        f"category to category, of {100 * between:.1f} points from method to method."
    )
    assert said[1] == (
        "The most even is PatchCore (84.0 % on p0 to 86.0 % on p2), the most uneven PaDiM (70.0 % on p0 to 90.0 % on p2)."
    )
    assert said[2] == "The hardest category is p0: no method exceeds 84.0 % there."


def test_the_front_is_that_of_a_brute_force() -> None:
    generator = draw("front")
    for _ in range(50):
        found = {f"m{k}": (generator.randint(1, 9), generator.randint(1, 9) / 10) for k in range(7)}
        runs = read_runs(
            row("folder", CLIP, name, costs={"p50_ms": float(ms)}, figures={"image_auroc": value})
            for name, (ms, value) in found.items()
        )
        chart = charts.trade_off(
            {name: value for name, (_, value) in found.items()}, runs, [CLIP], "image_auroc", "p50_ms"
        )
        for point in chart.points:
            ms, value = found[point.name]
            beaten = any(m <= ms and v >= value and (m, v) != (ms, value) for m, v in found.values())
            assert point.on_front is not beaten


def test_kinds_of_defect_stand_by_category(tmp_path: Path) -> None:
    rows = rows_of("folder", [CLIP, SCREW], seeds=2)
    for one in rows:
        lift = 0.0 if one["cell"]["category"] == "clip" else 0.1
        one["groups"] = {"defect:dent": {"image_auroc": 0.6 + lift}, "defect:empty": {"image_auroc": None}}
    found = results(tmp_path, "folder", rows)
    table = defect_table(read_runs(found.rows), ["padim"], [CLIP, SCREW], "image_auroc", WELCH)
    assert table is not None
    assert [line[0].text for line in table.rows] == ["clip, dent", "screw, dent"]
    assert findings.hardest_kind(table, quantity("image_auroc"))[0].startswith(
        "The hardest is clip, dent: no method does better than 60.0"
    )
    assert defect_table(read_runs(found.rows), ["padim"], [CLIP], "image_auroc", WELCH) is None  # one kind


# --- what was run and what was not ----------------------------------------------------------------------------------------


def test_what_is_missing_and_why_is_said(tmp_path: Path) -> None:
    rows = rows_of("folder", [CLIP], seeds=2)
    rows = [failed(one, "no good images") if one["cell"]["method"] == "padim" else one for one in rows]
    rows[0]["data"]["steps"] = [312, 70_000]
    found = report(tmp_path, "folder", rows[:-1], cells=9)
    account = found.account
    assert (account.cells, account.done, account.failed, account.missing) == (9, 3, 2, 4)
    assert [one.text for one in account.coverage.rows[0]] == ["patchcore", "2 of 3"]
    assert [one.text for one in account.coverage.rows[1]] == ["padim", "0 of 3, 2 failed"]
    (failure,) = account.failures
    assert (failure.reason, failure.cells) == (
        "no good images",
        ("parts/clip PaDiM, seed 0", "parts/clip PaDiM, seed 1"),
    )
    assert found.cautions == (
        "4 of 9 cells have no result yet.", "2 cells failed; the reasons are below.",
        "Training ended before its planned steps, for a budget of minutes or an early stop, in 1 of 1 run of PatchCore (from "
        "312 of 70,000 steps): these figures are those of the budget, not of the method.",
    )  # fmt: skip


def test_the_command_asks_for_the_same_cells(tmp_path: Path) -> None:
    rows = rows_of("autovi-fewshot", [("AutoVI", "tank_screw")], ["padim"], 2)
    for one in rows:
        one["cell"]["settings"] = {"backbone": "resnet18"}
        one["cell"]["options"] |= {"size": [256, 320], "minutes": 2.0}
    found = results(tmp_path, "autovi-fewshot", rows, grid={"methods": ["padim"], "seeds": 2})
    assert command_of(found) == (
        "andon bench run autovi-fewshot --data AutoVI --method padim --seeds 2 --set backbone=resnet18 --minutes 2.0 --size 256x320"
    )
    assert command_of(results(tmp_path, "autovi-main", [])).startswith(
        "andon bench run autovi-main --data DATA --seeds 3"
    )


def test_autovi_that_was_not_run_shows_what_was_published(tmp_path: Path) -> None:
    empty = report(tmp_path, "autovi-main", [])
    assert words(empty)[0] == "AutoVI was not run here."
    text = plain(page_of(tmp_path, empty))
    assert text.count("not run") > 30
    assert "[88.4 a ]" in text
    other = report(tmp_path, "autovi-main", rows_of("autovi-main", [("line", "bracket")]))
    assert words(other)[0].startswith("AutoVI was not run. On other images (line): ")
    assert other.parts[1].question == "What was published of AutoVI?"
    assert "[88.4 a ]" in plain(page_of(tmp_path, other))
    without = report_of(results(tmp_path, "autovi-main", []), published=NOTHING)
    assert without.parts[0].answer == ("AutoVI was not run here.",)
    assert "88.4" not in page_of(tmp_path, without)


def test_a_part_of_autovi_stands_in_the_whole_table(tmp_path: Path) -> None:
    found = report(tmp_path, "autovi-main", rows_of("autovi-main", [("AutoVI", "tank_screw")]))
    table = found.parts[0].tables[0]
    assert [line[0].text for line in table.rows] == [*AUTOVI, "mean"]
    assert [line[1].text for line in table.rows][:3] == ["not run"] * 3
    assert "Of the 6 categories of AutoVI, tank_screw was run." in words(found)


# --- one safe file --------------------------------------------------------------------------------------------------------


def edge_none() -> list[Row]:
    rows = rows_of("folder", [CLIP, SCREW])
    for one in rows:
        one["figures"], one["costs"] = dict.fromkeys(one["figures"]), dict.fromkeys(one["costs"])
    return rows


EDGES: dict[str, tuple[str, Callable[[], list[Row]], dict[str, Any]]] = {
    "nothing": ("folder", list, {}),
    "nothing of AutoVI": ("autovi-fewshot", list, {"cells": 7}),
    "all failed": ("folder", lambda: [failed(one) for one in rows_of("folder", [CLIP])], {}),
    "all failed variants": ("autovi-window", lambda: [failed(one) for one in rows_of("autovi-window", [CLIP], ["padim"])], {}),
    "no figures": ("folder", edge_none, {}),
    "no figures, variants": ("autovi-fewshot", lambda: [{**one, "figures": {}, "costs": {}} for one in rows_of("autovi-fewshot", [CLIP], ["vae"])], {}),
    "one of each": ("folder", lambda: rows_of("folder", [CLIP], ["padim"], 1), {}),
    "one seed": ("autovi-augmentation", lambda: rows_of("autovi-augmentation", [CLIP], seeds=1), {}),
    "one variant": ("autovi-fewshot", lambda: [one for one in rows_of("autovi-fewshot", [CLIP], ["padim"]) if one["cell"]["variant"] == "4 images"], {"grid": {"variants": ["4 images"]}}),
    "no baseline": ("autovi-fewshot", lambda: [one for one in rows_of("autovi-fewshot", [CLIP], ["padim"]) if one["cell"]["variant"] != "all images"], {"grid": {"variants": ["1 images", "2 images"]}}),
    "odd variants": ("autovi-window", lambda: [row("autovi-window", CLIP, "padim", name, seed) for name in ("whole", "300 px", "²", "") for seed in (0, 1)], {"grid": {"variants": ["whole", "300 px"]}}),
    "no metrics": ("folder", lambda: rows_of("folder", [CLIP]), {"grid": {"metrics": []}}),
    "unknown grid": ("folder", lambda: rows_of("folder", [CLIP]), {"grid": {"name": "mine", "title": "", "metrics": ["wonder"]}}),
    "equal values": ("folder", lambda: [{**one, "figures": {"image_auroc": 1.0}, "costs": {"p50_ms": 5.0}} for one in rows_of("folder", [CLIP, SCREW])], {}),
    "infinite": ("folder", lambda: [{**one, "figures": {"image_auroc": float("inf")}} for one in rows_of("folder", [CLIP])], {}),
    "bare rows": ("folder", lambda: [{"cell": {"set": "s", "category": "c", "method": "padim", "seed": 0}, "status": "done"}], {}),
    "ten": ("ten-models", lambda: rows_of("ten-models", [CLIP, SCREW], seeds=2), {}),
}  # fmt: skip


@pytest.mark.parametrize("edge", EDGES)
def test_odd_results_give_a_page_and_every_text(tmp_path: Path, edge: str) -> None:
    name, make, changes = EDGES[edge]
    found = report(tmp_path, name, make(), **changes)
    assert found.parts[0].answer[0].endswith(".")
    text = page_of(tmp_path, found)
    assert Elements(text).open == []
    assert "nan" not in plain(text).lower().split()
    assert "None" not in plain(text)
    for kind, bundle in BUNDLES.items():
        assert bundle([found]) or kind == "latex"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[GridReport], list[Path]]:
    """A page of four grids, one with every method in twelve categories."""
    folder = tmp_path_factory.mktemp("many")
    places = [("plant", f"part_{k:02}") for k in range(12)]
    paths = [
        write(folder / "a.json", "folder", rows_of("folder", places, list(TITLES), 2), grid={"methods": list(TITLES)}),
        write(folder / "b.json", "autovi-augmentation", rows_of("autovi-augmentation", [("AutoVI", name) for name in AUTOVI], seeds=2)),
        write(folder / "c.json", "autovi-fewshot", rows_of("autovi-fewshot", [("AutoVI", "tank_screw")], seeds=2)),
        write(folder / "d.json", "visa", []),
    ]  # fmt: skip
    reports = [report_of(found) for found in join_results(paths)]
    return page_of(folder, *reports), reports, paths


def test_grids_stand_in_their_order_with_their_answers(
    many: tuple[str, list[GridReport], list[Path]],
) -> None:
    text, reports, _ = many
    assert [one.name for one in reports] == ["autovi-augmentation", "autovi-fewshot", "visa", "folder"]
    questions = re.findall(r"<h2 id=[^>]*>([^<]*)</h2>", text)
    assert questions[:3] == [
        "Does augmentation help?",
        "How few good images are enough?",
        "Which method is best on VisA?",
    ]
    answers_ = re.findall(r'<p class="conclusion">([^<]*)</p>', text)
    assert html.unescape(answers_[0]) == reports[0].parts[0].answer[0]
    assert "Reverse Distillation" in text
    assert "The methods side by side" in text  # with seven methods or more


def test_page_is_well_formed_with_unique_ids(many: tuple[str, list[GridReport], list[Path]]) -> None:
    elements = Elements(many[0])
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    inner = [
        a["href"]
        for tag, a in elements.found
        if tag in ("use", "a") and (a.get("href") or "").startswith("#")
    ]
    assert {str(name)[1:] for name in inner} <= set(ids)
    assert all(a.get("scope") in ("col", "row") for tag, a in elements.found if tag == "th")
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    drawings = [a for tag, a in elements.found if a.get("class") == "drawing"]
    assert len(drawings) == 7
    assert all(a.get("role") == "img" and a.get("aria-label") for a in drawings)


def test_page_loads_nothing_and_runs_only_its_own_script(
    many: tuple[str, list[GridReport], list[Path]],
) -> None:
    text = many[0]
    for tag, attributes in Elements(text).found:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert len(scripts) == text.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert "@import" not in text
    assert "url(http" not in text


def test_drawings_have_no_colours_of_their_own(many: tuple[str, list[GridReport], list[Path]]) -> None:
    drawings = re.findall(r"<svg.*?</svg>", many[0], flags=re.S)
    assert len(drawings) == 7
    assert {colour for svg in drawings for colour in re.findall(r"#[0-9a-f]{6}\b", svg)} <= {"#000000"}
    assert all("var(--" in svg for svg in drawings)


def test_same_results_same_bytes(many: tuple[str, list[GridReport], list[Path]], tmp_path: Path) -> None:
    text, _, paths = many
    shuffled = []
    for path in reversed(paths):
        content = json.loads(path.read_text())
        draw(path.name).shuffle(content["rows"])
        shuffled.append(tmp_path / path.name)
        shuffled[-1].write_text(json.dumps(content))
    assert page_of(tmp_path, *[report_of(found) for found in join_results(shuffled)]) == text
    assert not re.search(r"\b20\d\d-\d\d-\d\d", text)


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    rows = rows_of("autovi-augmentation", [(NASTY, NASTY)], [NASTY], 2)
    rows += [failed(row("autovi-augmentation", (NASTY, "b"), NASTY, NASTY), NASTY)]
    for one in rows[:-1]:
        one["groups"] = {f"defect:{NASTY}": {"image_auroc": 0.5}, "defect:b": {"image_auroc": 0.6}}
        one["cell"]["settings"] = {NASTY: NASTY}
    changes = {
        "grid": {
            "title": NASTY,
            "methods": [NASTY],
            "variants": ["none", "rotation", "noise", "study", NASTY],
        },
        "made": {"andon": NASTY},
    }
    found = report(tmp_path, "autovi-augmentation", rows, **changes)
    text = page_of(tmp_path, found)
    assert text.count("<script") == 1
    assert NASTY not in text
    assert Elements(text).open == []
    assert plain(text).count("alert(") > 10
    written = BUNDLES["markdown"]([found]).splitlines()
    assert [line[:13] for line in written if "<script>" in line] == ["    andon ben"]  # a block of code


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = report(tmp_path, "folder", rows_of("folder", [CLIP]))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}', which is not installed.*andon\[report\]"):
        page_of(tmp_path, found)
    assert not (tmp_path / "page.html").exists()


def test_reports_need_no_extra_until_they_are_drawn() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'jinja2', 'scipy', 'ray'):\n    sys.modules[name] = None\n"
        "import andon.bench.page, andon.bench.bundle, andon.bench.report, andon.bench.joined, andon.cli.bench\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_labels_do_not_lie_on_each_other() -> None:
    size, across, up = (600.0, 250.0), (3.0, 200.0), (0.5, 1.0)
    for trial in range(20):
        generator = draw("labels", trial)
        points = [
            Point(name, generator.uniform(5, 90), generator.uniform(0.6, 0.95), False)
            for name in list(TITLES)[:12]
        ]
        places = label_places(points, across, up, size)
        boxes = []
        for one, place in zip(points, places):
            x = np.log(one.cost / 3) / np.log(200 / 3) * 600
            y = (one.value - 0.5) / 0.5 * 250
            boxes.append(_box((float(x), y), place, 5.2 * len(title_of(one.name))))
        hits = [
            (a, b)
            for a, b in itertools.combinations(boxes, 2)
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]
        assert not hits
    crowd = [Point("x" * 40, 10.0, 0.7, True)] * 60
    assert set(label_places(crowd, across, up, size)) <= set(_PLACES)


# --- the files beside it --------------------------------------------------------------------------------------------------


def test_csv_holds_every_figure(many: tuple[str, list[GridReport], list[Path]]) -> None:
    reports = many[1]
    lines = list(csv.DictReader(io.StringIO(BUNDLES["csv"](reports))))
    (line,) = [
        one for one in lines
        if (one["grid"], one["table"], one["line"], one["column"]) == ("folder", "methods-image_auroc", "stfpm", "part_03")
    ]  # fmt: skip
    own = [draw_value(seed) for seed in range(2)]
    assert float(line["value"]) == pytest.approx(np.mean(own), abs=1e-12)
    assert float(line["std"]) == pytest.approx(np.std(own, ddof=1), abs=1e-12)
    (varied,) = [
        one for one in lines
        if (one["grid"], one["table"], one["line"], one["column"])
        == ("autovi-augmentation", "variants-image_auroc", "padim / tank_screw", "noise")
    ]  # fmt: skip
    assert varied["runs"] == "2"


def draw_value(seed: int) -> float:
    return row("folder", ("plant", "part_03"), "stfpm", "", seed)["figures"]["image_auroc"]


def test_json_is_strict_and_holds_the_answers(many: tuple[str, list[GridReport], list[Path]]) -> None:
    reports = many[1]
    found = json.loads(BUNDLES["json"](reports), parse_constant=lambda name: pytest.fail(name))
    assert [one["grid"] for one in found] == [one.name for one in reports]
    assert found[0]["parts"][0]["answer"][0] == reports[0].parts[0].answer[0]
    assert found[0]["command"].startswith("andon bench run autovi-augmentation --data AutoVI")


def test_latex_labels_are_distinct(many: tuple[str, list[GridReport], list[Path]]) -> None:
    text = BUNDLES["latex"](many[1])
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels)) > 10
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(labels)


def test_markdown_says_questions_and_answers(many: tuple[str, list[GridReport], list[Path]]) -> None:
    text = BUNDLES["markdown"](many[1])
    assert "## Does augmentation help?\n\n**Augmentation helps significantly in " in text
    assert "    andon bench run autovi-fewshot --data AutoVI" in text
    assert "| PatchCore |" in text


# --- the command ----------------------------------------------------------------------------------------------------------


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(command, ["report", *map(str, arguments)])


def test_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "folder.json", "folder", rows_of("folder", [CLIP]))
    made = [tmp_path / name for name in ("o.html", "o.md", "o.tex", "o.csv", "o.json")]
    done = invoke(
        source, "-o", made[0], "--markdown", made[1], "--latex", made[2], "--csv", made[3], "--json", made[4]
    )
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Which method is best on these images?\n  ")
    assert [line.split(": ")[1] for line in done.output.splitlines() if line.startswith("written")] == [
        str(p) for p in made
    ]
    assert all(path.stat().st_size > 100 for path in made)
    assert "Welch's t-test, 5 %)" in plain(made[0].read_text())
    assert (
        invoke(tmp_path, "-o", made[0], "--holm").exit_code == 0
    )  # the folder: what --json wrote is no results
    assert "Holm's correction" in plain(made[0].read_text())


def test_command_writes_no_page_where_only_a_text_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "autovi-main.json", "autovi-main", [])
    monkeypatch.chdir(tmp_path)
    assert invoke(source, "--markdown", "o.md", "--no-published").exit_code == 0
    assert "88.4" not in (tmp_path / "o.md").read_text()
    assert not (tmp_path / "bench-report.html").exists()
    assert invoke(source).exit_code == 0
    assert "88.4" in (tmp_path / "bench-report.html").read_text()


def test_command_does_not_write_over_the_results(tmp_path: Path) -> None:
    source = write(tmp_path / "folder.json", "folder", [])
    before = source.read_text()
    done = invoke(source, "--json", source)
    assert isinstance(done.exception, SettingsError)
    assert str(done.exception) == f"{source} holds results: give another file to write"
    assert source.read_text() == before


def test_answers_know_every_published_method() -> None:
    figures = load().figures
    said = answers.published_best(load(), [("autovi", name) for name in AUTOVI], "image_auroc")
    top = max(
        value.value
        for key, value in figures.items()
        if key[:2] == ("autovi", "mean") and key[3] == "image_auroc"
    )
    assert f"{100 * top:.1f}" in said[0]
    assert answers.published_best(NOTHING, [("autovi", name) for name in AUTOVI], "image_auroc") == []
