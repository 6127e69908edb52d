"""Thresholds by group: the pattern of a path, who gets a threshold, who decides, and whether groups differ."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from andon.calibrate import (
    PathPattern,
    calibrate,
    calibration_for,
    calibration_from_dict,
    calibration_to_dict,
    decide,
    group_differences,
    group_images_needed,
    group_paths,
    images_needed,
    refused_group,
    too_few,
    with_groups,
)
from andon.errors import CalibrationError, DataError, MetricError, SettingsError
from andon.metrics.kruskal import chi_squared_tail, kruskal_wallis
from andon.types import Calibration

# The pattern


@pytest.mark.parametrize(("pattern", "path", "group"), [
    ("{shift}/{lot}_*.png", "/a/b/night/B12_007_x.png", "shift=night, lot=B12"),
    ("{shift}/{lot}_*.png", "night/B12_007.png", "shift=night, lot=B12"),
    ("{shift}/{lot}_*.png", "night/B12_007.jpg", None),
    ("{shift}/{lot}_*.png", "B12_007.png", None),
    ("{shift}/*", "/line/night/a.png", "shift=night"),
    ("{shift}/*", "/line/night/deep/a.png", "shift=deep"),
    ("{line}/*/*", "/line/night/deep/a.png", "line=night"),
    ("lot_{lot}.png", "/x/lot_7.png", "lot=7"),
    ("lot_{lot}.png", "/x/my_lot_7.png", None),
    ("*_{lot}.???", "/x/a_b_7.png", "lot=7"),
    ("{a}.b+c/*", "/x/1.b+c/k.png", "a=1"),
    ("{a}.b+c/*", "/x/1xbbc/k.png", None),
    (r"{shift}\{lot}_*", "day/3_1.png", "shift=day, lot=3"),
])  # fmt: skip
def test_the_group_is_read_from_the_end_of_the_path(pattern: str, path: str, group: str | None) -> None:
    assert PathPattern.parse(pattern).group_of(path) == group


@pytest.mark.parametrize(("pattern", "reason"), [
    ("*/*.png", "it has no {name}"),
    ("", "it has no {name}"),
    (r"lot_(\d{2})", "'{' belongs to no {name}"),
    ("{a}/{a}", "{a} stands in it twice"),
    ("{a}{b}.png", "nothing stands between '{b}' and what is before it"),
    ("*{b}.png", "nothing stands between '{b}' and what is before it"),
])  # fmt: skip
def test_patterns_that_make_no_sense(pattern: str, reason: str) -> None:
    with pytest.raises(SettingsError) as told:
        PathPattern.parse(pattern)
    assert str(told.value).endswith(f"got {pattern!r}: {reason}")
    assert "such as {shift}/{lot}_*.png" in str(told.value)


@given(st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_folder_name_is_a_group(name: str) -> None:
    if name not in (".", ".."):
        assert PathPattern.parse("{lot}/*.png").group_of(f"/photos/{name}/1.png") == f"lot={name}"


def test_paths_are_sorted_into_groups_or_named() -> None:
    paths = [Path(f"/p/{shift}/{number}.png") for shift in ("night", "day") for number in range(2)]
    assert group_paths("{shift}/*.png", paths) == {"shift=day": paths[2:], "shift=night": paths[:2]}
    with pytest.raises(DataError, match=r"does not fit /p/night/0.png; every image needs a group"):
        group_paths("{shift}/*.jpg", paths)


# Who gets a threshold, and who decides


def test_how_many_images_a_group_needs() -> None:
    for rate in (0.1, 0.05, 0.01, 0.001):
        n = group_images_needed(rate, 0.95)
        assert calibrate(range(n), target_rate=rate).method == "conformal"
        assert calibrate(range(n - 1), target_rate=rate).method == "max"
    assert too_few(40, 0.01, 0.95) == (
        "40 good images; for 1.0 % are needed 99 on average over calibration sets, 299 with 95 % confidence"
    )
    assert (
        too_few(1, 0.01, 0.95, strict=True) == "1 good image; for 1.0 % are needed 299 with 95 % confidence"
    )


def by_shift(*, fall_back: bool) -> Calibration:
    pooled = calibrate(range(200))
    groups = {
        "shift=day": calibrate(range(100)),
        "shift=night": refused_group(pooled, [5.0, 3.0], "2 good images"),
    }
    return with_groups(pooled, "{shift}/*.png", groups, fall_back=fall_back)


def test_a_group_decides_by_its_own_threshold() -> None:
    calibration = by_shift(fall_back=False)
    own, note = calibration_for(calibration, "/line/day/1.png")
    assert (own.threshold, note) == (99.0, "threshold of the group shift=day")
    assert decide(150.0, own) == "fail"
    assert decide(150.0, calibration) != "fail"


@pytest.mark.parametrize(("path", "which"), [
    ("/line/night/1.png", "the group shift=night has no threshold of its own"),
    ("/line/late/1.png", "the group shift=late was not there when the thresholds were set"),
    ("/line/day/1.jpg", "the path names no group"),
    (None, "the path names no group"),
])  # fmt: skip
def test_images_of_no_threshold_are_for_review_unless_asked_otherwise(path: str | None, which: str) -> None:
    own, note = calibration_for(by_shift(fall_back=False), path)
    assert math.isnan(own.threshold)
    assert {decide(score, own) for score in (-1e9, 1e9)} == {"review"}
    assert note == f"{which}: a person should look"
    pooled, note = calibration_for(by_shift(fall_back=True), path)
    assert pooled == calibrate(range(200))
    assert note == f"{which}: decided by the threshold of all groups"


def test_without_groups_nothing_changes() -> None:
    calibration = calibrate(range(40))
    assert calibration_for(calibration, "/line/day/1.png") == (calibration, "")


def test_the_promise_is_held_within_each_group() -> None:
    """A group of wider scores, one tenth of all: its own threshold keeps the rate, the pooled one does not."""
    rng = np.random.default_rng(0)
    broken = {"own": 0, "pooled": 0}
    for _ in range(60):
        narrow, wide = rng.uniform(0, 1, 900), rng.uniform(0, 1.2, 100)
        thresholds = {
            "own": calibrate(wide, target_rate=0.05).threshold,
            "pooled": calibrate([*narrow, *wide], target_rate=0.05).threshold,
        }
        for name, threshold in thresholds.items():
            broken[name] += 1 - threshold / 1.2 > 0.05
    assert broken["own"] <= 8
    assert broken["pooled"] == 60


def test_json_keeps_the_groups() -> None:
    for fall_back in (False, True):
        calibration = by_shift(fall_back=fall_back)
        back = calibration_from_dict(
            json.loads(json.dumps(calibration_to_dict(calibration), allow_nan=False))
        )
        assert repr(back) == repr(calibration)


@pytest.mark.parametrize(("entry", "value", "expected"), [
    ("group_by", 3, "entry 'group_by': expected a pattern of paths"),
    ("group_by", "*.png", "group_by: expected a pattern of paths such as"),
    ("groups", {}, "entry 'groups': expected calibrations by the names of groups"),
    ("groups", {"a": 1}, "calibration: expected the entries"),
    ("groups", {"a": calibration_to_dict(by_shift(fall_back=True))}, "groups without groups of their own"),
    ("fall_back", 1, "entry 'fall_back': expected true or false"),
])  # fmt: skip
def test_damaged_groups_are_named(entry: str, value: object, expected: str) -> None:
    with pytest.raises(CalibrationError) as told:
        calibration_from_dict(calibration_to_dict(by_shift(fall_back=False)) | {entry: value})
    assert expected in str(told.value)
    assert str(told.value).endswith("calibrate again.")


# Whether groups differ


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("x", [0.0, 0.3, 4.0, 50.0])
def test_the_chi_squared_tail(x: float, degrees: int) -> None:
    assert chi_squared_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_kruskal_wallis_as_in_scipy(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.normal(0.2 * seed * k, 1, 6 + 9 * k).round(decimals) for k in range(2 + seed % 3)]
    assert kruskal_wallis(groups) == pytest.approx(tuple(stats.kruskal(*groups)), rel=1e-9)


def test_kruskal_wallis_of_what_cannot_be_compared() -> None:
    assert kruskal_wallis([[1.0, 1.0], [1.0]]) == (0.0, 1.0)
    for wrong in ([[1.0]], [[1.0], []], [[1.0], [math.nan]]):
        with pytest.raises(MetricError, match="expected"):
            kruskal_wallis(wrong)


def test_differences_in_words() -> None:
    rng = np.random.default_rng(1)
    alike = {name: rng.normal(size=30).tolist() for name in "abc"}
    assert group_differences(alike).statement.startswith(
        "no sign that the good images of the 3 groups score differ"
    )
    shifted = group_differences({**alike, "d": rng.normal(3, 1, 30).tolist(), "e": [1.0]})
    assert shifted.left_out == ("e",)
    assert len(shifted.pairs) == 6
    assert "d;" in shifted.statement
    assert shifted.statement.endswith("3 of 6 pairs (Holm's correction)")
    assert group_differences({"a": [1.0] * 9, "b": [2.0]}).statement == (
        "whether the groups differ cannot be tested: two groups of at least 5 images are needed"
    )


def test_the_numbers_in_the_docs() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "thresholds.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) % \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    assert len(rows) == 7
    for percent, *counts in rows:
        rate = float(percent) / 100
        needed = [group_images_needed(rate, 0.95), *(images_needed(rate, c) for c in (0.9, 0.95, 0.99))]
        assert [int(count.replace(",", "")) for count in counts] == needed
    patterns = re.findall(r"^\| `(\{.+?)` \| `(.+?)` \| `(.+?)` \|$", text, re.M)
    assert len(patterns) == 3
    for pattern, path, group in patterns:
        assert PathPattern.parse(pattern).group_of(path) == group
