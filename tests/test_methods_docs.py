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
    assert {page.stem for page in PAGES.glob("*.md")} - {"README"} <= set(DETECTORS)


def test_the_table_is_not_stale(tool: ModuleType) -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    assert tool.with_table(text) == text, "run python tools/methods_table.py"


def test_a_row_says_how_a_method_learns_and_what_it_gives(tool: ModuleType) -> None:
    assert tool.row("patchcore")[2:] == ["one pass, closed form", "yes", ""]
    assert tool.row("autoencoder")[2:] == ["training", "", "yes"]
    assert tool.row("gcad")[3:] == ["yes", ""]
    assert tool.row("riad")[3:] == ["", "yes"]


def test_a_stale_table_is_replaced_and_the_rest_kept(tool: ModuleType) -> None:
    old = f"before\n{tool.START}\n| old |\n{tool.END}\nafter\n"
    new = tool.with_table(old)
    assert new == f"before\n{tool.START}\n{tool.table()}{tool.END}\nafter\n"
    assert tool.with_table(new) == new
