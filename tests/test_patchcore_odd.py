"""PatchCore that leaves out odd patches (SoftPatch), and the local outlier factor that finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from andon.errors import DataError, SettingsError
from andon.features.oddness import local_outlier_factor, oddness
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, export_onnx, good_parts, plant_defects, run_onnx

PARTS = good_parts(12, seed=1)
NOISY = torch.cat([PARTS, plant_defects(good_parts(2, seed=4), seed=5)[0]])
PATCHES = 16 * 24  # an image of 64 x 96 at stride 4


def fitted(images: Tensor = NOISY, batch: int = 4, **settings: Any) -> PatchCore:
    detector = PatchCore(FakeBackbone(), **{"bank_limit": 200, "odd_patches": 0.1, **settings})
    for part in images.split(batch):
        detector.observe(part)
    detector.close()
    return detector


# --- the local outlier factor ---------------------------------------------------------------------------------


def test_the_factor_is_scikit_learns() -> None:
    points = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    points[3] += 6
    expected = -LocalOutlierFactor(6).fit(points.numpy()).negative_outlier_factor_
    np.testing.assert_allclose(local_outlier_factor(points, 6).numpy(), expected, rtol=1e-4)


def test_the_factor_of_few_points_and_of_equal_ones_is_finite() -> None:
    assert local_outlier_factor(torch.zeros(1, 3)).tolist() == [1.0]
    assert local_outlier_factor(torch.tensor([[0.0], [1.0]])).tolist() == [1.0, 1.0]
    assert torch.isfinite(local_outlier_factor(torch.zeros(9, 3))).all()
    crowd = torch.cat([torch.zeros(20, 1), torch.ones(1, 1)])
    assert local_outlier_factor(crowd).argmax() == 20


def test_oddness_compares_at_each_place_by_itself() -> None:
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    places = torch.arange(40) % 2
    rows[places == 1] += 50  # another place looks altogether different
    rows[7] = rows[6]  # ... and what is usual at one is odd at the other
    found = oddness(rows, places)
    assert found.argmax() == 7
    torch.testing.assert_close(found[places == 0], local_outlier_factor(rows[places == 0]))


# --- the bank -------------------------------------------------------------------------------------------------


def test_the_share_with_the_largest_weights_is_discarded() -> None:
    detector = fitted(coreset_fraction=1.0, bank_limit=50_000, buffer_limit=200_000)
    state = detector.statistics()
    weights = oddness(state["patches"], state["places"])
    kept = weights <= torch.quantile(weights, 0.9)
    assert len(detector.memory_bank) == int(kept.sum())
    assert detector.bank_weights is not None
    assert float(detector.bank_weights.max()) <= float(weights[kept].max())


def test_a_planted_defect_is_not_in_the_bank() -> None:
    """The image that the defect is on scores, although the detector saw it; without the option it does not."""
    whole = {"coreset_fraction": 1.0, "bank_limit": 50_000, "buffer_limit": 200_000, "search": "exact"}
    scores = {share: fitted(odd_patches=share, **whole)(NOISY).image_score for share in (0.0, 0.1)}
    assert float(scores[0.0].max()) < 1e-4
    assert float(scores[0.1][-2:].min()) > float(scores[0.1][:-2].max())


def test_distances_count_as_often_as_their_row_weighs() -> None:
    detector = fitted(neighbours=1, blur_sigma=0.0)
    images = good_parts(2, seed=9)
    rows = detector.patches(images).permute(0, 2, 3, 1).flatten(1, 2)  # (2, P, D)
    distance, index = torch.cdist(rows, detector.memory_bank).min(2)
    assert detector.bank_weights is not None
    weighted = distance * detector.bank_weights[index]
    found = detector(images)
    torch.testing.assert_close(found.image_score, weighted.amax(1), rtol=1e-4, atol=1e-5)
    expected = torch.nn.functional.interpolate(weighted.reshape(2, 1, 16, 24), size=(64, 96), mode="bilinear")
    torch.testing.assert_close(found.anomaly_map, expected, rtol=1e-3, atol=1e-4)


def test_without_the_option_nothing_is_kept_of_it() -> None:
    plain = fitted(odd_patches=0.0)
    assert set(plain.fitted_state()) == {"memory_bank", "support"}
    assert set(plain.statistics()) == {"patches", "seen", "patches_seen"}


# --- state, merge, streams, export ----------------------------------------------------------------------------


def test_sites_merged_are_one() -> None:
    sites = []
    for part in NOISY.split(7):
        site = PatchCore(FakeBackbone(), bank_limit=200, odd_patches=0.1)
        site.observe(part)
        sites.append(site.statistics())
    merged = PatchCore(FakeBackbone(), bank_limit=200, odd_patches=0.1)
    merged.load_statistics(PatchCore.merge(sites, [1.0, 1.0]))
    merged.close()
    for name, tensor in fitted().fitted_state().items():
        torch.testing.assert_close(merged.fitted_state()[name], tensor)


def test_a_stream_is_thinned_out_alike_in_any_batches_and_loses_its_odd_patches() -> None:
    small = {"bank_limit": 100, "buffer_limit": 2000}
    one, other = fitted(batch=1, **small), fitted(batch=14, **small)
    torch.testing.assert_close(one.memory_bank, other.memory_bank, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.bank_weights, other.bank_weights, rtol=1e-3, atol=1e-4)
    state = one.statistics()
    assert len(state["patches"]) == len(state["places"]) == len(state["weights"]) < 2000
    weighed = state["weights"] > 0
    assert 0 < int(weighed.sum()) < len(weighed)
    assert float(one(NOISY).image_score[-1]) > float(one(PARTS).image_score.median())


def test_what_an_artefact_keeps_can_be_gone_on_with() -> None:
    first = fitted(NOISY[:7])
    second = PatchCore(FakeBackbone(), bank_limit=200, odd_patches=0.1)
    second.load_statistics(first.kept_statistics())
    second.observe(NOISY[7:])
    second.close()
    assert second.bank_weights is not None
    assert torch.isfinite(second.bank_weights).all()
    assert len(second.bank_weights) == len(second.memory_bank) == 200


def test_reset_forgets_the_weights() -> None:
    detector = fitted()
    detector.reset()
    assert detector.bank_weights is not None
    assert len(detector.bank_weights) == 0
    assert not detector.is_fitted


def test_onnx_answers_as_torch(tmp_path: Path) -> None:
    detector = fitted()
    images = torch.cat([good_parts(1, seed=7), NOISY[-1:]])
    expected = detector(images)
    export_onnx(detector, tmp_path / "odd.onnx", (64, 96))
    answer = run_onnx(tmp_path / "odd.onnx", images)
    np.testing.assert_allclose(answer[0], expected.anomaly_map.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(answer[1], expected.image_score.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.5, r"^odd_patches must be a share from 0 to 1, got 1\.5$"),
        (1.0, r"^odd_patches must be a share below 1: with 1 no patch is left for the bank$"),
    ],
)
def test_refuses_shares_that_make_no_sense(share: float, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PatchCore(FakeBackbone(), odd_patches=share)


def test_refuses_a_state_without_weights() -> None:
    state = fitted(odd_patches=0.0).statistics()
    with pytest.raises(DataError, match="^odd_patches needs the places and weights of the patches"):
        PatchCore(FakeBackbone(), bank_limit=200, odd_patches=0.1).load_statistics(state)
