"""The page Compare: several detectors on one photograph, the tables of the benchmark, and both as a browser gets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from andon.app import comparing
from andon.errors import DataError
from andon.runtime.predictor import Predictor
from browsing import bad, browser, settings_of
from lines import difference_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return difference_detector(tmp_path_factory.mktemp("made") / "part.andon").read_bytes()


@pytest.fixture
def models(tmp_path: Path, detector: bytes) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("one", "other"):
        (folder / f"{name}.andon").write_bytes(detector)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What andon bench writes of two methods with two seeds."""
    grid = {"name": "folder", "title": "Your own <b>images</b>", "methods": ["padim", "patchcore"], "variants": [""],
            "metrics": ["image_auroc"], "seeds": 2, "baseline": ""}  # fmt: skip
    rows = [
        {"status": "done", "figures": {"image_auroc": value + seed / 100}, "groups": {}, "costs": {"p50_ms": 9.0},
         "cell": {"set": "parts", "category": "clip", "method": method, "variant": "", "seed": seed}}
        for method, value in (("padim", 0.9), ("patchcore", 0.97)) for seed in (0, 1)
    ]  # fmt: skip
    path = tmp_path / "folder.json"
    path.write_text(json.dumps({"format": 1, "grid": grid, "cells": 4, "rows": rows, "made": {}}))
    return path


def test_an_answer_has_its_picture_or_a_reason(models: Path) -> None:
    predictor = Predictor.open(models / "one.andon")
    found = comparing.answer("one", predictor, bad(7)[1], "7.png")
    assert found.verdict is not None
    assert found.verdict.decision == "fail"
    strong, none = found.heatmap(0.9), found.heatmap(0.0)
    assert strong is not None
    assert none is not None
    assert strong.shape == none.shape == (64, 96, 3)
    assert np.abs(strong[20:34, 40:54].astype(int) - none[20:34, 40:54]).mean() > 20
    broken = comparing.answer("one", predictor, b"no image", "7.png")
    assert (broken.verdict, broken.heatmap(0.5)) == (None, None)
    assert "cannot read" in broken.reason or "not" in broken.reason


def test_tables_are_markdown_that_harms_nobody(results: Path) -> None:
    (report,) = comparing.reports([results])
    table = report.parts[0].tables[0]
    text = comparing.table_text(table)
    assert "| PatchCore |" in text or "| PatchCore" in text
    assert "###" not in text
    assert comparing.stamps([results]) == comparing.stamps([results.parent])
    with pytest.raises(DataError, match="the results cannot be read"):
        comparing.stamps([results.parent / "nothing.json"])


@pytest.mark.usefixtures("quick_records")
def test_the_page_puts_detectors_side_by_side(models: Path, results: Path) -> None:
    page = browser(settings_of(models), "compare")
    assert page.multiselect(key="compare.detectors").value == ["one", "other"]
    page.file_uploader(key="compare.photo").set_value(("7.png", bad(7)[1], "image/png")).run()
    assert not page.exception
    (table,) = page.dataframe
    assert table.value["Detector"].tolist() == ["one", "other"]
    assert table.value["Verdict"].tolist() == ["✕ FAIL", "✕ FAIL"]
    page.slider(key="compare.opacity").set_value(0).run()
    assert not page.exception
    page.text_input(key="compare.bench").set_value(str(results)).run()
    assert any("<b>" not in title.value and "Your own" in title.value for title in page.subheader)
    assert any("PatchCore" in text.value for text in page.markdown)
    page.text_input(key="compare.bench").set_value(str(results.parent / "nothing.json")).run()
    assert any("cannot be read" in error.value for error in page.error)


@pytest.mark.usefixtures("quick_records")
def test_an_empty_folder_and_a_broken_photograph(tmp_path: Path, models: Path) -> None:
    (tmp_path / "empty").mkdir()
    page = browser(settings_of(tmp_path / "empty", language="fr"), "compare")
    assert any("pas encore de détecteur" in info.value for info in page.info)
    page = browser(settings_of(models), "compare")
    page.file_uploader(key="compare.photo").set_value(("7.png", b"no image", "image/png")).run()
    assert any("7\\.png" in error.value for error in page.error)
    assert not page.exception
