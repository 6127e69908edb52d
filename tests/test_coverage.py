"""The coverage benchmark's own arithmetic."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats

from andon.calibrate import calibrate


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("benchmark_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_coverage"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("n", "k", "m", "rate"), [(299, 299, 61, 0.01), (106, 104, 107, 0.05), (77, 77, 77, 0.1), (9, 8, 1000, 0.2)])  # fmt: skip
def test_the_expected_coverage_is_the_beta_binomial(
    coverage: ModuleType, n: int, k: int, m: int, rate: float
) -> None:
    expected = stats.betabinom.cdf(int(rate * m + 1e-9), m, n + 1 - k, k)
    assert coverage.expected_coverage(n, k, m, rate) == pytest.approx(expected, rel=1e-9)


def test_scores_left_over_are_covered_as_expected(coverage: ModuleType) -> None:
    rng = np.random.default_rng(0)
    kept = [(rng.random(50) > np.sort(rng.random(60))[58]).mean() <= 0.05 for _ in range(2000)]
    assert np.mean(kept) == pytest.approx(coverage.expected_coverage(60, 59, 50, 0.05), abs=0.04)


@pytest.mark.parametrize("n", [77, 170, 299])
def test_the_rules_are_those_of_the_program(coverage: ModuleType, n: int) -> None:
    scores = np.arange(n, dtype=float)
    for rule, k, rate, _ in coverage.orders(n):
        made = calibrate(scores, target_rate=rate)
        if rule == "conditional":
            assert made.threshold == scores[k - 1]
        elif rule == "largest":
            assert made.promised_rate == pytest.approx(rate)
            assert k == n


def test_remembered_patches_score_as_photographs_do(coverage: ModuleType) -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 32, 32)
    detector = coverage.Remembered()
    with torch.no_grad():
        patches = detector.patches(images).flatten(2).permute(0, 2, 1)
    detector.fit(patches[:4])
    with torch.no_grad():
        expected = detector(images[4:]).image_score
    np.testing.assert_allclose(detector.scores(patches[4:]), expected.numpy(), rtol=1e-4)
