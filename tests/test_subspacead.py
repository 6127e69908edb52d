"""SubspaceAD: its residual against scikit-learn's PCA, its moments pooled over sites, its rotated copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from andon.errors import DataError, SettingsError
from andon.features.patches import to_map
from andon.features.tokens import fuse, fused_channels, top_mean
from andon.features.trunk import LayerInfo
from andon.models.subspacead import SubspaceAD, principal_components, rotated
from fakes import FakeBackbone, good_parts

GOOD = good_parts(6, seed=1)
TEST = good_parts(2, seed=2)


class Alike(nn.Module):
    """A backbone whose layers have the same channels and stride, as a ViT's."""

    name = "alike"

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"a": LayerInfo(3, 8), "b": LayerInfo(3, 8)}
        self.default_layers = ("a", "b")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        small = nn.functional.avg_pool2d(images, 8)
        return {"a": small, "b": small**2}


def fitted(**settings: object) -> SubspaceAD:
    detector = SubspaceAD(**{"backbone": FakeBackbone(), **settings})
    for part in GOOD.split(4):
        detector.observe(part)
    detector.close()
    return detector


def rows_of(detector: SubspaceAD, images: Tensor) -> np.ndarray:
    return detector.patches(images).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


@pytest.mark.parametrize("variance", [0.8, 0.95, 0.99])
def test_the_map_is_the_squared_residual_of_scikit_learns_pca(variance: float) -> None:
    detector = fitted(variance=variance, blur_sigma=0.0)
    pca = PCA(variance, svd_solver="full").fit(rows_of(detector, GOOD))
    assert int(detector.rank) == pca.n_components_
    rows = rows_of(detector, TEST)
    residual = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(1)
    grid = torch.from_numpy(residual).float().reshape(2, 1, 16, 24)
    torch.testing.assert_close(detector(TEST).anomaly_map, to_map(grid, (64, 96), 0.0), rtol=1e-3, atol=1e-6)


def test_the_image_score_is_the_mean_of_the_largest_hundredth() -> None:
    detector = fitted()
    answer = detector(TEST)
    for values, score in zip(answer.anomaly_map.flatten(1), answer.image_score, strict=True):
        assert float(score) == pytest.approx(np.sort(values.numpy())[-61:].mean(), rel=1e-5)  # of 6,144


def test_one_value_is_the_least_that_a_score_is_the_mean_of() -> None:
    assert top_mean(torch.tensor([[[[1.0, 5.0]]]]), 0.01).tolist() == [5.0]


def test_sites_merged_are_one_that_saw_all_images() -> None:
    sites = [SubspaceAD(FakeBackbone()) for _ in range(2)]
    sites[0].observe(GOOD[:1])
    sites[1].observe(GOOD[1:])
    pooled = SubspaceAD(FakeBackbone())
    pooled.observe(GOOD)
    merged = SubspaceAD.merge([site.statistics() for site in sites], [1.0, 5.0])
    for name, tensor in pooled.statistics().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-6)


def test_sites_that_look_differently_do_not_merge() -> None:
    states = [SubspaceAD(FakeBackbone(), layers=layers).statistics() for layers in (["fine"], ["coarse"])]
    with pytest.raises(DataError, match="they were taken with other settings"):
        SubspaceAD.merge(states, [1.0, 1.0])
    with pytest.raises(
        DataError,
        match="^patches have 24 dimensions with this backbone and these layers, the state's have 16",
    ):
        SubspaceAD(FakeBackbone(), layers=["coarse"]).load_statistics(states[0])


def test_one_image_is_enough() -> None:
    detector = SubspaceAD(FakeBackbone())
    detector.observe(GOOD[:1])
    detector.close()
    assert 0 < int(detector.rank) < 40
    assert torch.isfinite(detector(TEST).image_score).all()


def test_layers_that_are_alike_are_averaged_others_joined() -> None:
    features = Alike()(TEST)
    torch.testing.assert_close(fuse(Alike(), features, ["a", "b"]), (features["a"] + features["b"]) / 2)
    assert (fused_channels(Alike(), ["a", "b"]), fused_channels(FakeBackbone(), ["fine", "coarse"])) == (
        3,
        40,
    )
    assert SubspaceAD(Alike()).patches(TEST).shape == (2, 3, 8, 12)
    assert SubspaceAD(FakeBackbone()).patches(TEST).shape == (2, 40, 16, 24)


def test_turned_copies_are_observed_too() -> None:
    counts = []
    for rotations in (0, 3):
        detector = SubspaceAD(FakeBackbone(), rotations=rotations)
        detector.observe(GOOD)
        counts.append(float(detector.statistics()["count"]))
    assert counts[1] == 4 * counts[0]


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    same, quarter, half, _ = rotated(image, 3)
    assert same is image
    torch.testing.assert_close(quarter, torch.rot90(image, 1, (2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(half, torch.rot90(image, 2, (2, 3)), rtol=0, atol=1e-4)


def test_a_turn_keeps_distances_where_the_image_is_not_square() -> None:
    rows, columns = torch.meshgrid(torch.arange(60) - 29.5, torch.arange(100) - 49.5, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    rings = (0.5 + 0.5 * torch.cos(radius / 4)).expand(1, 3, -1, -1)
    for turned in rotated(rings, 4):
        inside = (turned - rings)[..., radius < 29]  # further out, what comes in from outside is mirrored
        assert float(inside.abs().max()) < 0.02


def test_no_variance_is_no_subspace() -> None:
    assert principal_components(torch.zeros(3, 3), 0.99).shape == (3, 0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^variance must be below 1, got 1: nothing would lie outside"):
        SubspaceAD(variance=1)
    with pytest.raises(SettingsError, match="rotations must be a whole number of at least 0, got -1"):
        SubspaceAD(rotations=-1)
    with pytest.raises(SettingsError, match="top_share must be a fraction above 0"):
        SubspaceAD(top_share=0)
