"""The benchmark's tables: what a field says, what is bold or underlined, the rule's conclusions, published figures, text."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from andon.bench import stats
from andon.bench.published import FOLDER, MEAN, NOTHING, load
from andon.bench.rows import quantity, read_runs, seed_means
from andon.bench.tables import Significance, cost_table, method_table, variant_table
from andon.bench.ten_models import Standing, conclude, ten_models_table
from andon.bench.writers import WRITERS, Column, Entry, Table, to_csv, to_json, to_latex, to_markdown
from andon.errors import DataError, SettingsError

Row = dict[str, Any]
SEEDS = (0, 1, 2, 3)


def row(method: str, category: str = "clip", seed: int = 0, variant: str = "", **more: Any) -> Row:
    """One done cell: figures and costs by name; ``set``, ``status``, ``error``, ``settings``, ``groups`` as they are."""
    cell = {
        "set": more.pop("set", "parts"), "category": category, "method": method, "variant": variant,
        "settings": more.pop("settings", {}), "options": {"size": [256, 256]}, "seed": seed,
    }  # fmt: skip
    parts = {name: more.pop(name) for name in ("status", "error", "groups", "grid") if name in more}
    costs = {
        name: more.pop(name) for name in list(more) if name.endswith(("_seconds", "_mb", "_ms", "_second"))
    }
    return {"grid": "g", "cell": cell, "status": "done", "figures": more, "costs": costs, **parts}


def many(seed: int = 0) -> list[Row]:
    """Three methods, two categories, three variants, four seeds; one seed failed, one method failed on one category."""
    rng = random.Random(seed)
    rows = []
    for method, base in (("padim", 0.9), ("patchcore", 0.95), ("vae", 0.6)):
        for category in ("clip", "screw"):
            for variant in ("none", "2 images", "10 images"):
                for k in SEEDS:
                    figures = {
                        "image_auroc": base + rng.gauss(0, 0.01),
                        "fnr": rng.random(),
                        "aupro_30": rng.random(),
                    }
                    costs = {
                        "p50_ms": 10 * rng.random(),
                        "artifact_mb": rng.random(),
                        "fit_seconds": 100 * rng.random(),
                    }
                    made = row(method, category, k, variant, **figures, **costs)
                    if (method, k) == ("padim", 2):
                        made |= {
                            "status": "failed",
                            "error": "out of\n memory",
                            "figures": None,
                            "costs": None,
                        }
                    if (method, category) == ("vae", "screw"):
                        made |= {"status": "failed", "error": "killed", "figures": None}
                    rows.append(made)
    return rows


def plain(seed: int = 0) -> list[Row]:
    return [made for made in many(seed) if made["cell"]["variant"] == "none"]


def entry(table: Table, column: str, *labels: str) -> Entry:
    """The entry under ``column`` in the line that begins with ``labels``."""
    k = [head.title for head in table.columns].index(column)
    return next(line for line in table.rows if tuple(one.text for one in line[: len(labels)]) == labels)[k]


def of(rows: list[Row], method: str, category: str, name: str = "image_auroc") -> list[float]:
    return [
        r["figures"][name]
        for r in rows
        if (r["cell"]["method"], r["cell"]["category"]) == (method, category) and r["status"] == "done"
    ]


# what a field says


def test_means_spreads_and_numbers_of_runs() -> None:
    rows = plain()
    table = method_table(rows, "image_auroc")
    assert [head.title for head in table.columns] == ["category", "padim", "patchcore", "vae"]
    assert [line[0].text for line in table.rows] == ["clip", "screw", "mean"]
    found = entry(table, "patchcore", "screw")
    expected = stats.summarise(of(rows, "patchcore", "screw"))
    assert (found.mean, found.std, found.n) == (expected.mean, expected.std, 4)
    assert found.note == ""


def test_not_run_failed_and_failed_in_part() -> None:
    table = method_table(plain(), "image_auroc", methods=["padim", "draem", "vae"])
    assert entry(table, "draem", "clip") == Entry("not run")
    assert entry(table, "vae", "screw") == Entry("failed", note="4 failed: killed")
    padim = entry(table, "padim", "clip")
    assert (padim.n, padim.note) == (3, "3 of 4 runs; 1 failed: out of memory")
    assert entry(table, "draem", "mean") == Entry("not run")
    alone = method_table([row("vae", status="failed", error="no images")], "image_auroc")
    assert alone.rows[0][1] == Entry("failed", note="failed: no images")


def test_figures_that_do_not_exist() -> None:
    rows = [
        row("padim", seed=0, image_auroc=0.9, pixel_ap=None),
        row("padim", seed=1, image_auroc=float("nan")),
    ]
    assert method_table(rows, "pixel_ap").rows[0][1] == Entry("–", note="not defined on these images")
    found = method_table(rows, "image_auroc").rows[0][1]
    assert (found.mean, found.n, found.note) == (0.9, 1, "1 of 2 runs; 1 without a value")
    assert method_table(rows, "no_such_figure").rows[0][1].text == "–"


def test_recall_is_what_the_escapes_leave() -> None:
    runs = read_runs([row("padim", fnr=0.25), row("vae")])
    assert (runs[0].value("recall"), runs[1].value("recall")) == (0.75, None)


def test_one_kind_of_defect() -> None:
    rows = [
        row("padim", seed=k, image_auroc=0.9, groups={"logical": {"image_auroc": 0.7 + k / 100}})
        for k in (0, 1)
    ]
    table = method_table(rows, "image_auroc", group="logical")
    assert table.rows[0][1].mean == pytest.approx(0.705)
    assert table.title == "Image AUROC, logical"
    assert method_table(rows, "image_auroc", group="dent").rows[0][1].text == "–"


# bold, and the line of means


@pytest.mark.parametrize("holm", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_bold_is_the_best_and_what_does_not_differ(seed: int, holm: bool) -> None:
    rng = random.Random(seed)
    methods = [f"m{k}" for k in range(5)]
    rows = [row(m, seed=k, image_auroc=rng.gauss(0.9, 0.02)) for m in methods for k in SEEDS]
    table = method_table(rows, "image_auroc", test=Significance(holm=holm))
    expected = stats.best({m: of(rows, m, "clip") for m in methods}, holm=holm)
    assert {m for m in methods if entry(table, m, "clip").bold} == expected
    assert ("Holm" in table.caption) == holm


def test_less_is_better_for_false_alarms() -> None:
    rows = [row(m, seed=k, fpr=v + k / 1000) for m, v in (("a", 0.5), ("b", 0.1)) for k in SEEDS]
    table = method_table(rows, "fpr")
    assert (entry(table, "a", "clip").bold, entry(table, "b", "clip").bold) == (False, True)


def test_single_runs_are_said_to_be_untested() -> None:
    table = method_table([row("a", image_auroc=0.9), row("b", image_auroc=0.8)], "image_auroc")
    assert [one.bold for one in table.rows[0][1:]] == [True, False]
    assert table.rows[0][1].std is None
    assert "one run." in table.caption
    assert table.caption.endswith("A single run cannot be tested: it is bold only where it is the best.")
    assert "cannot be tested" not in method_table(plain(), "image_auroc").caption


def test_the_mean_is_taken_seed_by_seed() -> None:
    rows = plain()
    found = entry(method_table(rows, "image_auroc"), "patchcore", "mean")
    by_seed = [(a + b) / 2 for a, b in zip(of(rows, "patchcore", "clip"), of(rows, "patchcore", "screw"))]
    assert found.mean == pytest.approx(stats.summarise(by_seed).mean, rel=1e-14)
    assert found.std == pytest.approx(stats.summarise(by_seed).std, rel=1e-12)
    assert found.n == 4
    assert entry(method_table(rows, "image_auroc"), "padim", "mean").note == "3 of 4 runs"


def test_no_mean_over_some_of_the_categories() -> None:
    found = entry(method_table(plain(), "image_auroc"), "vae", "mean")
    assert found == Entry("–", note="1 of 2 categories")
    lost = [row("a", c, status="failed", error="killed") for c in ("clip", "screw")]
    assert entry(method_table(lost, "image_auroc"), "a", "mean") == Entry("failed", note="2 failed: killed")
    apart = [row("a", "clip", 0, image_auroc=0.9), row("a", "screw", 1, image_auroc=0.8)]
    assert (
        entry(method_table(apart, "image_auroc"), "a", "mean").note == "no seed has a value in every category"
    )
    assert seed_means(read_runs(apart), [], "image_auroc") == ([], 0)


def test_several_sets_are_named() -> None:
    rows = [row("a", "clip", image_auroc=0.9), row("a", "pcb1", set="visa", image_auroc=0.8)]
    table = method_table(rows, "image_auroc", published=NOTHING)
    assert [line[0].text for line in table.rows] == ["parts, clip", "visa, pcb1", "mean"]


# rows that are no samples


def test_a_variant_must_be_chosen() -> None:
    with pytest.raises(
        DataError, match=r"the rows have the variants '10 images', '2 images', 'none': say which"
    ):
        method_table(many(), "image_auroc")
    assert method_table(many(), "image_auroc", variant="none") == method_table(
        plain(), "image_auroc", variant="none"
    )


def test_runs_that_were_made_otherwise_are_refused() -> None:
    rows = [row("a", seed=0, image_auroc=0.9), row("a", seed=1, settings={"steps": 5}, image_auroc=0.9)]
    with pytest.raises(
        DataError, match=r"a on parts/clip has runs with .*they are no sample. Give them different"
    ):
        method_table(rows, "image_auroc")


def test_two_results_of_one_seed_are_refused_and_equal_ones_count_once() -> None:
    rows = [row("a", image_auroc=0.9), row("a", image_auroc=0.8)]
    with pytest.raises(
        DataError, match=r"a on parts/clip has runs with the same seed 0 and different results"
    ):
        method_table(rows, "image_auroc")
    twice = [row("a", image_auroc=0.9), row("a", image_auroc=0.9, grid="another")]
    assert method_table(twice, "image_auroc").rows[0][1].n == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"status": "done"}, "a row needs a status and a cell with set, category, method and seed"),
        ({"cell": {"set": "s"}, "status": "done"}, "a row needs a status and a cell"),
        (row("a", status="running"), "a row's status is done or failed, not 'running'"),
        (
            row("a", image_auroc="0.9"),
            "a on parts/clip: expected a number or null for image_auroc, got '0.9'",
        ),
        (row("a", groups={"dent": {"image_ap": True}}), "expected a number or null for image_ap, got True"),
    ],
)
def test_bad_rows_are_refused(bad: Row, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_runs([bad])


# variants


def test_better_than_the_baseline_is_underlined_and_a_difference_starred() -> None:
    values = {"none": 0.80, "good": 0.90, "bad": 0.70, "alike": 0.801}
    rows = [
        row("a", seed=k, variant=v, image_auroc=mean + k / 200) for v, mean in values.items() for k in SEEDS
    ]
    table = variant_table(rows, "image_auroc", baseline="none")
    assert [head.title for head in table.columns] == ["method", "category", "none", "alike", "bad", "good"]
    marks = {v: (entry(table, v, "a").underlined, entry(table, v, "a").significant) for v in values}
    assert marks == {
        "none": (False, False),
        "good": (True, True),
        "bad": (False, True),
        "alike": (True, False),
    }
    less = variant_table(
        [{**r, "figures": {"fpr": r["figures"]["image_auroc"]}} for r in rows], "fpr", baseline="none"
    )
    assert [entry(less, v, "a").underlined for v in ("good", "bad")] == [False, True]


def test_variants_go_up_by_number_and_have_their_line_of_means() -> None:
    table = variant_table(many(), "image_auroc", baseline="none")
    assert [head.title for head in table.columns[2:]] == ["none", "2 images", "10 images"]
    assert [tuple(one.text for one in line[:2]) for line in table.rows][:3] == [
        ("padim", "clip"), ("padim", "screw"), ("padim", "mean"),
    ]  # fmt: skip
    assert entry(table, "2 images", "vae", "screw").text == "failed"
    assert entry(table, "2 images", "vae", "mean").text == "–"
    chosen = variant_table(many(), "image_auroc", baseline="none", variants=["10 images", "none"])
    assert [head.title for head in chosen.columns[2:]] == ["10 images", "none"]


def test_holm_counts_the_variants_of_a_line() -> None:
    values = {"none": 0.80, "x": 0.815, "y": 0.815, "z": 0.815}
    rows = [row("a", seed=k, variant=v, image_auroc=m + k / 200) for v, m in values.items() for k in SEEDS]
    p = stats.welch_p([0.815 + k / 200 for k in SEEDS], [0.8 + k / 200 for k in SEEDS])
    assert p is not None
    assert 0.05 / 3 < p < 0.05
    starred = [
        entry(
            variant_table(rows, "image_auroc", baseline="none", test=Significance(holm=holm)), "x", "a"
        ).significant
        for holm in (False, True)
    ]
    assert starred == [True, False]


def test_a_baseline_must_be_among_the_variants() -> None:
    with pytest.raises(
        SettingsError, match=r"the baseline '' is not among the variants: '2 images', '10 images'|'none'"
    ):
        variant_table(many(), "image_auroc")
    with pytest.raises(SettingsError, match="the baseline '' is not among the variants: none"):
        variant_table([], "image_auroc")
    without = variant_table(
        [row("a", image_auroc=0.9), row("a", variant="b", image_auroc=0.8)], "image_auroc"
    )
    assert [head.title for head in without.columns[2:]] == ["as it is", "b"]


# costs


def test_costs_are_means_and_memory_the_largest() -> None:
    rows = [
        row("a", "clip", 0, p50_ms=10.0, artifact_mb=5.0, images_per_second=50.0),
        row("a", "clip", 1, p50_ms=20.0, artifact_mb=5.0, images_per_second=50.0),
        row("a", "screw", 0, p50_ms=45.0, artifact_mb=9.0, images_per_second=50.0),
        row("b", "clip", 0, p50_ms=10.0, artifact_mb=20.0, images_per_second=90.0),
        row("b", "screw", 0, p50_ms=12.0, artifact_mb=1.0, images_per_second=90.0),
        row("c", "clip", 0, p50_ms=1.0, artifact_mb=1.0),
        row("d", "clip", 0, status="failed", error="killed"),
    ]
    table = cost_table(
        rows, costs=("p50_ms", "artifact_mb", "images_per_second"), methods=["a", "b", "c", "d", "e"]
    )
    a, b = table.rows[0], table.rows[1]
    assert (a[1].mean, a[2].mean, b[1].mean, b[2].mean) == (30.0, 9.0, 11.0, 20.0)
    assert [one.bold for one in a[1:]] == [False, True, False]
    assert [one.bold for one in b[1:]] == [True, False, True]
    assert entry(table, "p50 (ms)", "c") == Entry("–", note="1 of 2 categories")
    assert entry(table, "p50 (ms)", "d") == Entry("failed", note="failed: killed")
    assert entry(table, "p50 (ms)", "e") == Entry("not run")


# conclusions


def test_each_conclusion_of_the_rule() -> None:
    said = conclude(
        {
            "exact": Standing(0.99, 100.0, 50.0, 0.9),
            "near": Standing(0.98, 20.0, 40.0, 0.8),  # exactly a point below
            "far": Standing(0.9799, 10.0, 30.0, 0.49),
            "slow": Standing(0.95, 50.0, 1.0, 0.5),
            "lost": Standing(0.97, 60.0, 99.0, None),
            "late": Standing(0.985, 90.0, 99.0, 0.9),
            "silent": Standing(None, 1.0, 0.1, 0.1),
            "timeless": Standing(0.5, None, 60.0, 0.9),
        }
    )
    assert said == {
        "exact": "best accuracy",
        "near": "fastest within 1 point of the best",
        "far": "fastest; misses most defects at its threshold",
        "slow": "smallest; dominated by near",
        "lost": "dominated by near",
        "late": "neither best nor beaten",
        "silent": "not compared: lacks a category",
        "timeless": "neither best nor beaten",
    }


def test_a_dominator_is_better_on_both_and_the_most_accurate_of_them() -> None:
    standings = {
        "a": Standing(0.9, 10.0),
        "b": Standing(0.9, 9.0),
        "c": Standing(0.91, 10.0),
        "d": Standing(0.8, 11.0),
    }
    said = conclude(standings)
    assert "dominated" not in said["a"]  # b is not more accurate, c is not faster
    assert said["d"] == "dominated by c"
    assert conclude(dict(reversed(standings.items()))) == said
    twins = conclude({"z": Standing(0.9, 5.0), "y": Standing(0.9, 5.0), "x": Standing(0.8, 6.0)})
    assert twins["x"] == "dominated by y"
    assert twins["y"] == twins["z"] == "best accuracy; fastest within 1 point of the best"
    assert conclude({}) == {}


def test_ten_models_side_by_side() -> None:
    rows = plain()
    table = ten_models_table(rows)
    assert [line[0].text for line in table.rows] == ["padim", "patchcore", "vae"]
    assert (table.columns[0].title, table.columns[-1].title) == ("method", "conclusion")
    found = entry(table, "image AUROC", "patchcore")
    assert found.mean == entry(method_table(rows, "image_auroc"), "patchcore", "mean").mean
    assert found.bold
    assert entry(table, "recall at the threshold", "patchcore").mean == pytest.approx(
        1
        - stats.summarise(
            [*of(rows, "patchcore", "clip", "fnr"), *of(rows, "patchcore", "screw", "fnr")]
        ).mean
    )
    assert "best accuracy" in entry(table, "conclusion", "patchcore").text
    assert entry(table, "conclusion", "vae").text == "not compared: lacks a category"
    assert entry(table, "pixel AP", "patchcore") == Entry("–", note="not defined on these images")
    assert "dominated where another has both a higher AUROC and a lower p50" in table.caption


def test_sets_without_masks_do_not_count_against_the_heatmaps() -> None:
    rows = [
        row("a", "clip", image_auroc=0.9, aupro_30=0.8),
        row("a", "screw", image_auroc=0.9, aupro_30=None),
    ]
    table = ten_models_table(rows)
    assert entry(table, "AUPRO, FPR to 30 %", "a").mean == 0.8


# text


TABLES = {
    "methods": lambda rows: method_table([r for r in rows if r["cell"]["variant"] == "none"], "image_auroc"),
    "variants": lambda rows: variant_table(rows, "image_auroc", baseline="none"),
    "costs": lambda rows: cost_table(rows, variant="none"),
    "ten": lambda rows: ten_models_table(rows, variant="none"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("form", WRITERS)
def test_rows_in_another_order_give_the_same_bytes(name: str, form: str) -> None:
    rows = many()
    expected = WRITERS[form](TABLES[name](rows))
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert WRITERS[form](TABLES[name](rows)) == expected


@pytest.mark.parametrize("name", TABLES)
def test_every_form_has_every_field(name: str) -> None:
    table = TABLES[name](many())
    assert all(len(line) == len(table.columns) for line in table.rows)
    body = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(body) == len(table.rows) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {len(table.columns) + 1}
    inner = to_latex(table).split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)&", line)) for line in inner} == {len(table.columns) - 1}
    latex = re.sub(r"\\[{}]", "", to_latex(table))
    assert latex.count("{") == latex.count("}")
    read = list(csv.reader(io.StringIO(to_csv(table))))
    assert len(read) == len(table.rows) + 1
    assert len({len(line) for line in read}) == 1
    said = json.loads(to_json(table), parse_constant=pytest.fail)
    assert len(said["rows"]) == len(table.rows)


EXAMPLE = Table(
    "x",
    "T",
    "C.",
    (Column("category", is_text=True), Column("a")),
    (
        (
            Entry("k"),
            Entry(mean=0.97312, std=0.00449, n=8, bold=True, published=0.991, source="S 1", note="N"),
        ),
        (Entry("l"), Entry(mean=0.5, n=1, underlined=True, significant=True, published=0.5, source="S 2")),
        (Entry("m"), Entry("not run", published=0.25, source="S 1")),
    ),
)


def test_markdown_to_the_letter() -> None:
    assert to_markdown(EXAMPLE).splitlines() == [
        "### T", "", "C.", "",
        "| category | a |", "| --- | ---: |",
        "| k | **97.3 ± 0.4** [99.1<sup>a</sup>]<sup>1</sup> |",
        "| l | <u>50.0</u>\\* [50.0<sup>b</sup>] |",
        "| m | not run [25.0<sup>a</sup>] |",
        "", "<sup>1</sup> N  ", "<sup>a</sup> S 1  ", "<sup>b</sup> S 2",
    ]  # fmt: skip


def test_latex_to_the_letter() -> None:
    text = to_latex(EXAMPLE)
    assert r"k & \textbf{97.3 $\pm$ 0.4} [99.1\textsuperscript{a}]\textsuperscript{1} \\" in text
    assert r"l & \underline{50.0}$^{*}$ [50.0\textsuperscript{b}] \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"\par\footnotesize \textsuperscript{b} S 2" in text


def test_csv_and_json_hold_the_figures_as_they_are() -> None:
    assert to_csv(EXAMPLE).splitlines() == [
        "category,a,a std,a runs,a marks,a published,a source,a note",
        "k,0.97312,0.00449,8,bold,0.991,S 1,N",
        "l,0.5,,1,underlined significant,0.5,S 2,",
        "m,not run,,,,0.25,S 1,",
    ]
    said = json.loads(to_json(EXAMPLE))
    assert said["rows"][0][1] == {
        "mean": 0.97312, "std": 0.00449, "n": 8, "bold": True, "published": 0.991, "source": "S 1", "note": "N",
    }  # fmt: skip
    assert said["columns"] == [{"title": "category", "kind": "text"}, {"title": "a", "kind": "share"}]
    assert (said["sources"], said["notes"]) == (["S 1", "S 2"], ["N"])


def test_names_can_do_no_harm() -> None:
    name = "=1+1|<b>*x*_y_&%#${}~^\\[z]"
    table = method_table([row(name, name, image_auroc=0.9, error="")], "image_auroc")
    line = to_markdown(table).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<b>" not in line
    assert "*x*" not in line.replace("\\*", "")
    assert next(csv.reader(io.StringIO(to_csv(table))))[1] == f"'{name}"
    latex = to_latex(table)
    assert "{[}z{]}" in latex
    assert not re.search(r"(?<!\\)[%#]", latex)
    assert json.loads(to_json(table))["rows"][0][0]["text"] == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (0.1234, "0.123"), (1.0, "1.00"), (9.996, "10.0"), (12.34, "12.3"), (99.97, "100"), (12345.6, "12346")],
)  # fmt: skip
def test_costs_show_three_digits(value: float, shown: str) -> None:
    assert Column("ms", False, None).number(value) == shown


def test_unknown_figures_have_a_name_and_more_of_them_is_better() -> None:
    assert quantity("auspro_1").title == "AUsPRO, FPR to 1 %"
    assert (quantity("sharpness").title, quantity("sharpness").is_share) == ("sharpness", False)
    assert quantity("entropy_outside").higher_is_better is None


# published figures

AUTOVI = load().places("autovi")
STUDY = ("cflow", "draem", "dsr", "efficientad", "padim", "patchcore")


def test_the_study_stands_beside_what_was_not_run() -> None:
    table = method_table([], "image_auroc", places=AUTOVI, methods=STUDY)
    assert len(table.rows) == 7
    assert all(one.text == "not run" for line in table.rows for one in line[1:])
    assert [one.published for one in table.rows[-1][1:]] == [0.514, 0.786, 0.797, 0.809, 0.712, 0.884]
    assert all(one.published is None for line in table.rows[:-1] for one in line[1:])
    (source,) = table.sources
    assert "Table 6, https://doi.org/10.1016/j.compind.2024.104151" in source
    assert "not run [88.4<sup>a</sup>]" in to_markdown(table)
    assert "In brackets" in table.caption
    assert "nothing was run" in table.caption


@pytest.mark.parametrize(
    ("metric", "expected"), [("image_ap", 0.728), ("auspro_5", 0.689), ("image_auroc", 0.884)]
)
def test_the_study_s_means_of_patchcore(metric: str, expected: float) -> None:
    found = load().find_mean(AUTOVI, "patchcore", metric)
    assert found is not None
    assert found.value == expected
    assert found.std_over == "categories"


def test_published_means_stand_beside_all_categories_alone() -> None:
    known, places = load(), load().places("mvtec_ad")
    found = known.find_mean(places, "patchcore", "image_auroc")
    assert found is not None
    assert found.value == pytest.approx(0.992, abs=5e-4)
    assert known.find_mean(places[:-1], "patchcore", "image_auroc") is None
    assert known.find_mean([*places[:-1], places[0]], "patchcore", "image_auroc") is None
    assert known.find_mean([*places, AUTOVI[0]], "patchcore", "image_auroc") is None
    assert (
        known.find_mean([("mvtec", category) for _, category in places], "patchcore", "image_auroc") == found
    )
    assert known.find_mean([], "patchcore", "image_auroc") is None


def test_the_authors_figure_comes_before_a_re_run() -> None:
    known = load()
    found = known.find(("mvtec_ad", "transistor"), "patchcore", "image_auroc")
    assert found is not None
    assert (found.value, found.source.name) == (0.9987, "patchcore")  # 0.99875 in the file
    stfpm = known.find(("mvtec_ad", "transistor"), "stfpm", "image_auroc")
    assert stfpm is not None
    assert (stfpm.value, stfpm.source.name) == (0.875, "anomalib")
    juice = known.find(("parts", "mvtec_loco_juice_bottle"), "efficientad", "image_auroc")
    assert juice is not None
    assert juice.value == 0.9692


def test_what_is_not_published_is_none() -> None:
    known = load()
    assert known.find(("autovi", "engine_wiring"), "patchcore", "image_auroc") is None
    assert known.find(("autovi", "pipe_clip"), "vae", "image_auroc") is None
    assert known.find(("parts", "clip"), "patchcore", "image_auroc") is None
    assert known.find(("mvtec_ad", "bottle"), "patchcore", "image_auroc", variant="noise") is None
    assert NOTHING.find(("mvtec_ad", "bottle"), "patchcore", "image_auroc") is None
    with pytest.raises(DataError, match="no public set is called 'autovy'; known are autovi, mvtec_ad"):
        known.places("autovy")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("mvtec", "bottle"), ("mvtec_ad", "bottle")),
        (("MVTec-AD", "Bottle"), ("mvtec_ad", "bottle")),
        (("mvtec_transistor", "mvtec_transistor"), ("mvtec_ad", "transistor")),
        (("mvtec_loco_juice_bottle", "mvtec_loco_juice_bottle"), ("mvtec_loco", "juice_bottle")),
        (("visa", "bottle"), None),
        (("parts", "bottle"), None),
    ],
)
def test_public_sets_go_by_their_folders_names(
    place: tuple[str, str], expected: tuple[str, str] | None
) -> None:
    assert load().identify(place) == expected


def test_variants_and_groups_have_their_own_figures() -> None:
    known, places = load(), load().places("mvtec_loco")
    logical = known.find_mean(places, "draem", "image_auroc", group="logical_anomalies")
    assert logical is not None
    assert logical.value == 0.728
    shot = known.find_mean(known.places("visa"), "subspacead", "image_auroc", variant="1 images")
    assert shot is not None
    assert shot.value == 0.933
    rows = [
        row("subspacead", category, set="visa", variant=v, image_auroc=0.9)
        for _, category in known.places("visa") for v in ("all images", "1 images")
    ]  # fmt: skip
    table = variant_table(rows, "image_auroc", baseline="all images")
    assert entry(table, "1 images", "subspacead", "mean").published == 0.933
    assert entry(table, "all images", "subspacead", "mean").published is None


def test_the_baseline_is_the_method_as_it_was_published() -> None:
    rows = [row("patchcore", "bottle", set="mvtec", variant=v, image_auroc=0.9) for v in ("none", "noise")]
    table = variant_table(rows, "image_auroc", baseline="none")
    assert (table.rows[0][2].published, table.rows[0][3].published) == (1.0, None)


FILES = sorted(path for path in FOLDER.glob("*.json") if path.name != "sets.json")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_source_says_where_it_is_from_and_agrees_with_itself(path: Path) -> None:
    said, sets = json.loads(path.read_text()), json.loads((FOLDER / "sets.json").read_text())
    assert said["url"].startswith("https://")
    assert said["read_in"]
    assert said["rank"] in range(1, 6)
    slack = 0.0006 if said["unit"] == "share" else 0.06
    for table in said["tables"]:
        assert "table" in table, "its number or name, null where it is not known"
        values = table["values"]
        if MEAN not in values or set(values) - {MEAN} != set(sets[table["set"]]["categories"]):
            continue
        for method, mean in values[MEAN].items():
            first = [
                given[0] if isinstance(given, list) else given
                for given in (v[method] for c, v in values.items() if c != MEAN)
            ]
            expected = mean[0] if isinstance(mean, list) else mean
            assert sum(first) / len(first) == pytest.approx(expected, abs=slack), (table["metric"], method)


def write_source(folder: Path, **changed: Any) -> None:
    said = {
        "title": "t", "authors": "a", "year": 2024, "url": "https://x", "rank": 1, "read_in": "r", "settings": "", "unit": "share",
        "tables": [{"table": None, "set": "s", "metric": "image_auroc", "values": {"c": {"padim": 0.5}}}],
    }  # fmt: skip
    said = {name: value for name, value in (said | changed).items() if value != "absent"}
    (folder / "sets.json").write_text('{"s": {"title": "S", "aliases": ["s"], "categories": ["c"]}}')
    (folder / "one.json").write_text(json.dumps(said))


def test_damaged_sources_are_refused(tmp_path: Path) -> None:
    tables = [{"table": None, "set": "s", "metric": "image_auroc", "values": {"d": {"padim": 0.5}}}]
    cases = [
        ({"url": "absent"}, "one.json does not say its url"),
        ({"unit": "points"}, "expected the unit percent or share, got 'points'"),
        ({"tables": tables}, "one.json: s has no category 'd' in sets.json"),
        (
            {"tables": [{**tables[0], "values": {"c": {"padim": 50}}}]},
            "image_auroc 50 is not between 0 and 1",
        ),
    ]
    for k, (changed, words) in enumerate(cases):
        folder = tmp_path / str(k)
        folder.mkdir()
        write_source(folder, **changed)
        with pytest.raises(DataError, match=re.escape(words)):
            load(folder)
    with pytest.raises(DataError, match="cannot read the published figures in"):
        load(tmp_path)


def test_the_lower_rank_is_shown(tmp_path: Path) -> None:
    write_source(tmp_path, rank=3)
    better = json.loads((tmp_path / "one.json").read_text()) | {"rank": 1, "unit": "percent"}
    better["tables"][0]["values"]["c"]["padim"] = [70.0, 2.0]
    (tmp_path / "two.json").write_text(json.dumps(better))
    found = load(tmp_path).find(("s", "c"), "padim", "image_auroc")
    assert found is not None
    assert (found.value, found.std, found.source.name) == (0.7, 0.02, "two")


def test_the_data_files_are_packaged() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())
    assert "bench/published/*" in project["tool"]["setuptools"]["package-data"]["andon"]


def test_tables_need_no_extra() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'jinja2', 'scipy', 'sklearn'):\n    sys.modules[name] = None\n"
        "import andon.bench.tables, andon.bench.ten_models\n"
        "print(andon.bench.tables.method_table([], 'image_auroc').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "methods-image_auroc", done.stderr
