"""FRE: its components, map and score against scikit-learn's PCA; what is observed adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

from andon.errors import DataError
from andon.features.patches import join
from andon.models import build
from andon.models.base import State
from andon.models.fre import FRE
from fakes import FakeBackbone, good_parts, plant_defects

TRAIN = good_parts(14, seed=1)
TEST = torch.cat([good_parts(2, seed=2), plant_defects(good_parts(2, seed=3), seed=4)[0]])


def observed(images: Tensor = TRAIN, **settings: Any) -> FRE:
    detector = build(
        "fre", backbone=FakeBackbone(), **{"grid": 4, "components": 5, "blur_sigma": 0.0, **settings}
    )
    assert isinstance(detector, FRE)
    for part in images.split(5):
        detector.observe(part)
    return detector


def descriptors(images: Tensor) -> Tensor:
    """(B, 40, 4, 4), pooled by PyTorch's own pooling."""
    return F.adaptive_avg_pool2d(join(FakeBackbone()(images), ("fine", "coarse")), 4)


def scatter(state: State) -> Tensor:
    rows = state["rows"].double()
    return rows.T @ rows


def test_the_score_is_the_largest_error_of_a_cell() -> None:
    detector = observed()
    detector.close()
    pca = PCA(5, svd_solver="full").fit(descriptors(TRAIN).flatten(1).double().numpy())
    flat = descriptors(TEST).flatten(1).double().numpy()
    error = (flat - pca.inverse_transform(pca.transform(flat))).reshape(len(TEST), 40, 16)
    cells = np.sqrt((error**2).sum(1))
    with torch.no_grad():
        answer = detector(TEST)
    np.testing.assert_allclose(answer.image_score, cells.max(1), rtol=1e-3)
    shown = F.interpolate(torch.from_numpy(cells).view(-1, 1, 4, 4).float(), size=(64, 96), mode="bilinear")
    torch.testing.assert_close(answer.anomaly_map, shown, rtol=1e-3, atol=1e-3)


def test_rows_add_up_to_the_scatter_and_the_mean_is_the_mean() -> None:
    state = observed().statistics()
    f = descriptors(TRAIN).flatten(1).double()
    assert int(state["images_seen"]) == len(TRAIN)
    torch.testing.assert_close(state["mean"], f.mean(0), rtol=1e-5, atol=1e-6)
    deviation = f - f.mean(0)
    torch.testing.assert_close(scatter(state), deviation.T @ deviation, rtol=1e-3, atol=1e-4)


def test_sites_merge_to_the_statistics_of_all_images() -> None:
    whole = observed().statistics()
    merged = FRE.merge(
        [observed(TRAIN[a:b]).statistics() for a, b in ((0, 3), (3, 4), (4, 14))], [1.0, 1.0, 1.0]
    )
    assert int(merged["images_seen"]) == len(TRAIN)
    torch.testing.assert_close(merged["mean"], whole["mean"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scatter(merged), scatter(whole), rtol=1e-3, atol=1e-4)


def test_a_site_without_images_changes_nothing() -> None:
    empty, full = observed(TRAIN[:0]).statistics(), observed().statistics()
    for states in ([empty, full], [full, empty]):
        merged = FRE.merge(states, [1.0, 1.0])
        assert all(torch.equal(merged[name], full[name]) for name in full)


def test_a_full_buffer_keeps_the_principal_rows() -> None:
    exact, bounded = observed(), observed(buffer_limit=12)
    assert len(bounded.statistics()["rows"]) < 12
    total = scatter(exact.statistics()).trace()
    lost = (scatter(exact.statistics()) - scatter(bounded.statistics())).trace()
    assert 0 <= lost < 0.2 * total
    for detector in (exact, bounded):
        detector.close()
    torch.testing.assert_close(bounded(TEST).image_score, exact(TEST).image_score, rtol=0.05, atol=0)


def test_one_image_has_no_components_and_is_the_mean() -> None:
    detector = observed(TRAIN[:1])
    detector.close()
    assert detector.directions.shape == (0, 640)
    assert float(detector(TRAIN[:1]).image_score) == pytest.approx(0, abs=1e-4)


def test_the_state_of_another_grid_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"^rows must be \(M, 640\) with this backbone, these layers and grid=4, got \(13, 160\)",
    ):
        observed().load_statistics(observed(grid=2).statistics())
