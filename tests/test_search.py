"""The search along a few directions: the same rows nearly always, never a distance that is too small, the same in ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.export import to_onnx
from andon.features.neighbours import nearest, principal_axes
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, good_parts, plant_defects


def sheet(count: int, seed: int) -> Tensor:
    """Points (count, 40) that vary in 10 directions, and a little in all; far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(10, 40, generator=torch.Generator().manual_seed(99))
    spread = torch.randn(count, 10, generator=generator) @ directions
    return 20 + spread + 0.05 * torch.randn(count, 40, generator=generator)


def test_axes_are_orthonormal_and_hold_most_of_the_variance() -> None:
    rows = sheet(300, seed=0)
    axes = principal_axes(rows, 10)
    torch.testing.assert_close(axes.T @ axes, torch.eye(10), atol=1e-5, rtol=0)
    centred = rows - rows.mean(0)
    assert (centred @ axes).square().sum() > 0.999 * centred.square().sum()


@pytest.mark.parametrize("rows", [1, 3, 17, 300])
def test_finds_the_nearest_row(rows: int) -> None:
    query, bank = sheet(200, seed=1), sheet(rows, seed=2)
    exact, expected = nearest(query, bank)
    distance, index = nearest(query, bank, axes=principal_axes(sheet(100, seed=3), 10))
    assert (index == expected).float().mean() > 0.98
    assert (distance >= exact - 1e-4).all()
    torch.testing.assert_close(distance, (query - bank[index[:, 0]]).norm(dim=1, keepdim=True))


def test_all_directions_are_the_exact_search() -> None:
    query, bank = sheet(50, seed=1), sheet(80, seed=2)
    assert torch.equal(nearest(query, bank, axes=torch.eye(40))[1], nearest(query, bank)[1])


def fitted(**settings: int) -> PatchCore:
    detector = PatchCore(FakeBackbone(), bank_limit=200, **settings)
    detector.observe(good_parts(6, seed=1))
    detector.close()
    return detector


def test_patchcore_scores_nearly_as_with_the_exact_search() -> None:
    images = torch.cat([good_parts(2, seed=7), plant_defects(good_parts(2, seed=8))[0]])
    exact, quick = fitted()(images), fitted(search_dimensions=20)(images)
    assert (quick.anomaly_map >= exact.anomaly_map - 1e-5).all()
    torch.testing.assert_close(quick.image_score, exact.image_score, rtol=0.01, atol=0)


def test_the_graph_searches_as_torch_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    detector, images = fitted(search_dimensions=20), good_parts(2, seed=7)
    session = onnxruntime.InferenceSession(to_onnx(detector, (64, 96)), providers=["CPUExecutionProvider"])
    found = session.run(["anomaly_map"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, detector(images).anomaly_map.numpy(), rtol=1e-3, atol=1e-4)


def test_state_goes_round() -> None:
    detector, other = fitted(search_dimensions=20), PatchCore(FakeBackbone(), search_dimensions=20)
    other.load_fitted_state(detector.fitted_state())
    images = good_parts(1, seed=3)
    assert torch.equal(other(images).anomaly_map, detector(images).anomaly_map)
    other.reset()
    assert not other.is_fitted


@pytest.mark.parametrize("directions", [0, 40, 1000])
def test_none_or_as_many_as_there_are_is_exact(directions: int) -> None:
    assert fitted(search_dimensions=directions).search_axes is None


def test_refuses_a_negative_number() -> None:
    with pytest.raises(SettingsError, match="^search_dimensions must be"):
        PatchCore(FakeBackbone(), search_dimensions=-1)
