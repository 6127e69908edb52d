"""Patches compared along a few directions: nearly the same distances, never longer ones, the same in ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.export import to_onnx
from andon.features.neighbours import principal_axes
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


def fitted(**settings: int) -> PatchCore:
    detector = PatchCore(FakeBackbone(), bank_limit=200, **settings)
    detector.observe(good_parts(6, seed=1))
    detector.close()
    return detector


def test_patchcore_scores_nearly_as_along_all_directions() -> None:
    images = torch.cat([good_parts(2, seed=7), plant_defects(good_parts(2, seed=8))[0]])
    every, few = fitted()(images), fitted(dimensions=20)(images)
    assert (few.anomaly_map <= every.anomaly_map + 1e-5).all()
    assert (few.anomaly_map < every.anomaly_map - 1e-5).any()
    torch.testing.assert_close(few.image_score, every.image_score, rtol=0.05, atol=0)


def test_what_lies_across_the_directions_does_not_count() -> None:
    detector = fitted(dimensions=20)
    assert detector.axes is not None
    inside = detector.axes @ detector.axes.T
    images = good_parts(2, seed=7)
    before, plain = detector(images), detector.patches
    detector.patches = lambda x: torch.einsum("bdhw,de->behw", plain(x), inside)  # type: ignore[method-assign]
    torch.testing.assert_close(detector(images).anomaly_map, before.anomaly_map, rtol=1e-3, atol=1e-3)


def test_more_images_can_be_added_to_what_is_kept() -> None:
    detector, other = fitted(dimensions=20), PatchCore(FakeBackbone(), bank_limit=200, dimensions=20)
    other.load_statistics(detector.kept_statistics())
    other.observe(good_parts(2, seed=5))
    other.close()
    assert other(good_parts(1, seed=3)).anomaly_map.isfinite().all()


def test_the_graph_compares_as_torch_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    detector, images = fitted(dimensions=20), good_parts(2, seed=7)
    session = onnxruntime.InferenceSession(to_onnx(detector, (64, 96)), providers=["CPUExecutionProvider"])
    found = session.run(["anomaly_map"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, detector(images).anomaly_map.numpy(), rtol=1e-3, atol=1e-4)


def test_state_goes_round() -> None:
    detector, other = fitted(dimensions=20), PatchCore(FakeBackbone(), dimensions=20)
    other.load_fitted_state(detector.fitted_state())
    images = good_parts(1, seed=3)
    assert torch.equal(other(images).anomaly_map, detector(images).anomaly_map)
    other.reset()
    assert not other.is_fitted


@pytest.mark.parametrize("directions", [0, 40, 1000])
def test_none_or_as_many_as_there_are_is_all(directions: int) -> None:
    assert fitted(dimensions=directions).axes is None


def test_refuses_a_negative_number() -> None:
    with pytest.raises(SettingsError, match="^dimensions must be"):
        PatchCore(FakeBackbone(), dimensions=-1)
