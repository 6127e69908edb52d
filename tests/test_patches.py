"""Aggregation, joining and the map against slow or other people's versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from andon.features.patches import aggregate, gaussian_kernel, join, joined_channels, to_map
from fakes import FakeBackbone


def test_aggregate_is_the_mean_of_nine_neighbours_with_zeros_outside() -> None:
    features = torch.rand(2, 3, 5, 4)
    found = aggregate(features)
    for row in range(5):
        for column in range(4):
            window = features[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            torch.testing.assert_close(found[:, :, row, column], window.sum((2, 3)) / 9)


def test_aggregate_leaves_a_constant_constant_but_for_the_border() -> None:
    found = aggregate(torch.ones(1, 2, 4, 6))
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], torch.ones(1, 2, 2, 4))
    assert float(found[0, 0, 0, 0]) == pytest.approx(4 / 9)


def test_join_brings_layers_to_the_finest_grid_in_the_order_asked() -> None:
    backbone = FakeBackbone()
    features = backbone(torch.rand(2, 3, 64, 96))
    joined = join(features, ("coarse", "fine"))
    assert joined.shape == (2, joined_channels(backbone, ("coarse", "fine")), 16, 24)
    assert torch.equal(joined[:, 24:], features["fine"])
    raised = F.interpolate(features["coarse"], size=(16, 24), mode="bilinear", align_corners=False)
    assert torch.equal(joined[:, :24], raised)
    assert join(features, ("coarse",)).shape == (2, 24, 8, 12)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
@pytest.mark.parametrize("size", [(32, 48), (37, 50), (9, 200)])
def test_map_is_bilinear_then_scipys_gaussian(sigma: float, size: tuple[int, int]) -> None:
    grid = torch.rand(2, 1, 4, 6)
    raised = F.interpolate(grid, size=size, mode="bilinear", align_corners=False).numpy()
    expected = np.stack([gaussian_filter(image[0], sigma, mode="nearest", truncate=4.0) for image in raised])
    np.testing.assert_allclose(to_map(grid, size, sigma)[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_map_without_blur_is_bilinear() -> None:
    grid = torch.rand(3, 1, 5, 7)
    expected = F.interpolate(grid, size=(20, 21), mode="bilinear", align_corners=False)
    torch.testing.assert_close(to_map(grid, (20, 21), 0.0), expected)


def test_kernel_sums_to_one_and_reaches_four_sigma() -> None:
    kernel = gaussian_kernel(4.0)
    assert len(kernel) == 33
    assert sum(kernel) == pytest.approx(1.0, abs=1e-12)
    assert kernel == kernel[::-1]
