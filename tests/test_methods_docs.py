"""Every method has its page, and the overview's table is what the program says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from andon.models import DETECTORS, defaults

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "methods"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_table", ROOT / "tools" / "methods_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", list(DETECTORS))
def test_every_method_has_a_page_that_shows_how_to_fit_it(method: str) -> None:
    page = PAGES / f"{method}.md"
    assert page.exists(), f"docs/methods/{method}.md is missing: write it"
    text = page.read_text(encoding="utf-8")
    assert re.search(rf"^ *andon fit .*--method {method}\b", text, flags=re.MULTILINE)


@pytest.mark.parametrize("method", list(DETECTORS))
def test_a_page_sets_only_settings_that_there_are(method: str) -> None:
    page = PAGES / f"{method}.md"
    if not page.exists():
        pytest.skip("it has no page, which another test says")
    set_there = re.findall(r"--set\s+(\w+)=", page.read_text(encoding="utf-8"))
    assert set(set_there) <= set(defaults(method))


def test_every_page_is_of_a_method() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"README", "fusion"} <= set(DETECTORS)


def test_nothing_is_stale(tool: ModuleType) -> None:
    for path, text in tool.wanted():
        assert path.read_text(encoding="utf-8") == text, "run python tools/methods_table.py"


def test_a_row_says_how_a_method_learns_and_what_it_gives(tool: ModuleType) -> None:
    costs = {"artifact_mb": 6.04, "p50_ms": 12.0}
    assert tool.row("patchcore", costs)[2:] == ["one pass, closed form", "yes", "", "6.0", "12.0"]
    assert tool.row("autoencoder", {})[2:] == ["training", "", "yes", "", ""]
    assert tool.row("gcad", {})[3:5] == ["yes", ""]
    assert tool.row("riad", {})[3:5] == ["", "yes"]


def test_stale_parts_are_replaced_and_the_rest_kept(tool: ModuleType) -> None:
    old = f"before\n{tool.START}\n| old |\n{tool.END}\nafter\n"
    new = tool.between(old, tool.START, tool.END, "| new |\n")
    assert new == f"before\n{tool.START}\n| new |\n{tool.END}\nafter\n"
    with pytest.raises(SystemExit, match="are missing"):
        tool.between("no marks", tool.START, tool.END, "")


def test_a_methods_figures_say_what_they_were_measured_with(tool: ModuleType) -> None:
    row = {
        "cell": {"set": "clip", "method": "vae", "options": {"size": [192, 192], "minutes": 1.5}},
        "figures": {"image_auroc": 0.91234, "image_ap": 0.9, "aupro_30": None},
        "data": {"train": 12, "steps": [80, 600]},
    }
    text = tool.figures([row])
    assert "One seed, at 192x192 pixels, training ended after 1.5 min;" in text
    assert text.endswith("| clip | 12 | 0.912 | 0.900 |  | 80 of 600 |\n")
    assert tool.figures([]) == ""


def test_the_readmes_table_has_a_field_for_every_column(tool: ModuleType) -> None:
    shares = {"image_auroc": 0.9, "aupro_30": 0.8, "auspro_5": 0.7, "fpr": 0.0123}
    costs = {
        "fit_seconds": 9.6,
        "fit_peak_mb": 700.2,
        "p50_ms": 12.34,
        "p99_ms": 20.0,
        "runtime_mb": 120.0,
        "artifact_mb": 8.6,
    }
    row = {
        "cell": {"set": "clip", "method": "padim"},
        "data": {"size": [256, 192], "train": 12},
        "figures": shares,
        "costs": costs,
    }
    head, rule, line = tool.main_figures([row]).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert (
        line
        == "| clip | padim | 256x192 | 12 | 0.900 | 0.800 | 0.700 | 0.012 | 10 | 700 | 12.3 | 20.0 | 120 | 8.6 |"
    )
