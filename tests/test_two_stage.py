"""The search in two stages: what it may get wrong, by how much, and that the graph does the same with bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.neighbours import nearest
from andon.features.two_stage import LEAST, TwoStageSearch
from andon.models.base import Detector
from andon.models.patchcore import PatchCore
from fakes import export_onnx, good_parts, plant_defects, run_onnx


def drawn(count: int, dimensions: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Rows as features are: correlated, some dimensions far larger than others, away from 0."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99)) / dimensions**0.5
    sizes = torch.logspace(0, -1.5, dimensions)
    return 3 + scale * (torch.randn(count, dimensions, generator=random) * sizes) @ mix


def prepared(bank: Tensor) -> TwoStageSearch:
    search = TwoStageSearch()
    search.prepare(bank)
    assert search.ready
    return search


@pytest.mark.parametrize("dimensions", [32, 48, 160])
@pytest.mark.parametrize("rows", [LEAST[0], 1000, 2000])
def test_what_is_found_is_a_row_and_nearly_always_the_nearest(rows: int, dimensions: int) -> None:
    bank, query = drawn(rows, dimensions), drawn(500, dimensions, seed=1)
    least, _ = nearest(query, bank)
    distance, index = prepared(bank)(query, bank)
    torch.testing.assert_close(distance[:, 0], torch.linalg.vector_norm(query - bank[index[:, 0]], dim=1))
    excess = distance - least
    assert float(excess.min()) > -1e-5
    assert float((excess > 1e-4 * least).float().mean()) < 0.02
    assert float((excess / least.mean()).max()) < 0.1


def test_queries_beyond_the_range_of_the_bank_still_get_a_row_that_is_near() -> None:
    bank, query = drawn(600, 40), drawn(100, 40, seed=2, scale=20.0)
    least, _ = nearest(query, bank)
    distance, _ = prepared(bank)(query, bank)
    assert float((distance / least).max()) < 1.1


@pytest.mark.parametrize("bank", [torch.full((300, 40), 0.7), torch.zeros(300, 32), torch.cat([torch.zeros(299, 32), torch.full((1, 32), 1e6)])])  # fmt: skip
def test_banks_without_spread_or_with_an_outlier(bank: Tensor) -> None:
    distance, index = prepared(bank)(bank, bank)
    assert float(distance.max()) < 1e-3
    assert 0 <= int(index.min()) <= int(index.max()) < len(bank)


def test_long_queries_in_parts_are_answered_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, query = drawn(400, 32), drawn(50, 32, seed=3)
    at_once = prepared(bank)(query, bank)
    monkeypatch.setattr("andon.features.two_stage.CHUNK", 3 * 400)
    in_parts = prepared(bank)(query, bank)
    torch.testing.assert_close(in_parts[0], at_once[0])
    assert torch.equal(in_parts[1], at_once[1])


def test_rows_that_only_fill_up_the_last_group_are_never_answered() -> None:
    bank = drawn(LEAST[0] + 1, 36)
    query = bank[-1:] + 0.001
    assert int(prepared(bank)(query, bank)[1]) == LEAST[0]


def test_a_small_bank_is_compared_exactly() -> None:
    search = TwoStageSearch()
    for rows, dimensions in ((LEAST[0] - 1, LEAST[1]), (LEAST[0], LEAST[1] - 1)):
        search.prepare(drawn(rows, dimensions))
        assert not search.ready


def patchcore(parts: Tensor, **settings: Any) -> PatchCore:
    detector = PatchCore(**{"coreset_fraction": 1.0, "bank_limit": 600, **settings})
    detector.observe(parts)
    detector.close()
    return detector


def operators(folder: Path) -> set[str]:
    return {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}


def run_by(folder: Path) -> set[str]:
    """The operators that ONNX Runtime makes of the graph here."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node}


def answers(detector: Detector, images: Tensor, folder: Path) -> tuple[Any, Any]:
    export_onnx(detector, folder / "model.onnx", (int(images.shape[2]), int(images.shape[3])))
    return run_onnx(folder / "model.onnx", images)


def test_the_graph_multiplies_bytes_and_answers_as_pytorch(tmp_path: Path) -> None:
    parts = good_parts(8)
    odd, _ = plant_defects(good_parts(3, seed=5))
    detector = patchcore(parts)
    assert detector.two_stage.ready
    anomaly_map, image_score = answers(detector, odd, tmp_path)
    assert operators(tmp_path) >= {"QuantizeLinear", "DequantizeLinear"}
    assert "MatMulIntegerToFloat" in run_by(tmp_path)
    with torch.no_grad():
        expected, exact = detector(odd), patchcore(parts, search="exact")(odd)
    scale = float(expected.anomaly_map.max())
    assert np.abs(anomaly_map - expected.anomaly_map.numpy()).max() < 1e-3 * scale
    assert np.abs(image_score - expected.image_score.numpy()).max() < 1e-3 * scale
    torch.testing.assert_close(expected.anomaly_map, exact.anomaly_map, rtol=0, atol=0.02 * scale)


def test_the_exact_search_stays_an_option(tmp_path: Path) -> None:
    parts = good_parts(8)
    detector = patchcore(parts, search="exact")
    assert not detector.two_stage.ready
    answers(detector, parts[:2], tmp_path)
    assert "QuantizeLinear" not in operators(tmp_path)
    with pytest.raises(SettingsError, match=r"^search must be one of \['two_stage', 'exact'\], got 'fast'$"):
        PatchCore(search="fast")


def test_a_loaded_detector_searches_as_the_one_that_was_fitted() -> None:
    parts = good_parts(8)
    fitted = patchcore(parts)
    loaded = PatchCore(coreset_fraction=1.0, bank_limit=600)
    loaded.load_fitted_state(fitted.fitted_state())
    with torch.no_grad():
        assert torch.equal(loaded(parts).anomaly_map, fitted(parts).anomaly_map)
    loaded.reset()
    assert not loaded.two_stage.ready
