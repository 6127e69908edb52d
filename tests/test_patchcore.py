"""PatchCore's own rules: the score of eq. 7, the bank's size, the bounded buffer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from andon.errors import ArtifactError, DataError, SettingsError
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, good_parts, plant_defects

PARTS = good_parts(6, seed=1)
PATCHES = 16 * 24  # an image of 64 x 96 at stride 4


def fitted(images: Tensor = PARTS, **settings: Any) -> PatchCore:
    detector = PatchCore(FakeBackbone(), **{"bank_limit": 50, **settings})
    for part in images.split(2):
        detector.observe(part)
    detector.close()
    return detector


def rows_of(detector: PatchCore, image: Tensor) -> Tensor:
    return detector.patches(image[None])[0].flatten(1).T.double()


@pytest.mark.parametrize("neighbours", [1, 2, 9, 500])
def test_image_score_is_equation_7_as_printed(neighbours: int) -> None:
    detector = fitted(neighbours=neighbours)
    bank = detector.memory_bank.double()
    images = torch.cat([good_parts(2, seed=7), plant_defects(good_parts(2, seed=8))[0]])
    for image, found in zip(images, detector(images).image_score, strict=True):
        distances = torch.cdist(rows_of(detector, image), bank)
        s_star, m_star = distances.min(1)[0].max(), int(distances.min(1)[1][distances.min(1)[0].argmax()])
        m_test = distances[distances.min(1)[0].argmax()]
        near = torch.cdist(bank[m_star : m_star + 1], bank)[0].argsort()[:neighbours]
        weight = 1 - math.exp(m_test[m_star]) / sum(math.exp(m_test[m]) for m in near)
        expected = float(s_star) * (weight if neighbours > 1 else 1)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_scores_far_from_the_bank_stay_finite_and_in_order() -> None:
    """exp of a distance above 88 overflows float32; the score must not."""
    detector = fitted()
    detector.memory_bank = detector.memory_bank * 1e4
    scores = detector(torch.cat([good_parts(1, seed=2), torch.ones(1, 3, 64, 96)])).image_score
    assert torch.isfinite(scores).all()
    assert (scores > 88).all()


def test_map_without_blur_is_the_distance_to_the_nearest_patch() -> None:
    detector = fitted(blur_sigma=0.0)
    image = good_parts(1, seed=3)
    distance = (
        torch.cdist(rows_of(detector, image[0]), detector.memory_bank.double()).amin(1).reshape(1, 1, 16, 24)
    )
    expected = torch.nn.functional.interpolate(distance, size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(detector(image).anomaly_map.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fraction", "limit", "rows"),
    [(0.01, 1000, math.ceil(0.01 * 6 * PATCHES)), (1.0, 100, 100), (1.0, 50_000, 6 * PATCHES)],
)
def test_the_bank_is_a_fraction_of_what_was_seen_up_to_its_limit(
    fraction: float, limit: int, rows: int
) -> None:
    detector = fitted(coreset_fraction=fraction, bank_limit=limit, buffer_limit=200_000)
    assert detector.memory_bank.shape == (rows, 40)
    assert detector.support.shape == (rows, 9)


def test_every_image_seen_scores_zero_against_a_whole_bank() -> None:
    detector = fitted(coreset_fraction=1.0, bank_limit=50_000, search="exact")
    assert float(detector(PARTS).anomaly_map.abs().max()) < 1e-5


def test_the_buffer_never_holds_more_than_its_limit() -> None:
    detector = PatchCore(FakeBackbone(), bank_limit=100, buffer_limit=700)
    for image in PARTS.split(1):
        detector.observe(image)
        state = detector.statistics()
        assert len(state["patches"]) < 700
    assert int(state["seen"]) == 6
    assert int(state["patches_seen"]) == 6 * PATCHES


def test_a_thinned_buffer_does_not_depend_on_the_batches() -> None:
    def bank(batch: int) -> Tensor:
        detector = PatchCore(FakeBackbone(), bank_limit=100, buffer_limit=700)
        for part in PARTS.split(batch):
            detector.observe(part)
        detector.close()
        return detector.memory_bank

    torch.testing.assert_close(bank(1), bank(6), rtol=1e-5, atol=1e-6)


def test_a_thinned_buffer_covers_the_good_parts_nearly_as_well() -> None:
    whole = fitted(bank_limit=100, buffer_limit=50_000, coreset_fraction=1.0)
    thinned = fitted(bank_limit=100, buffer_limit=700, coreset_fraction=1.0)
    rows = torch.cat([rows_of(whole, image) for image in PARTS])
    radius = [float(torch.cdist(rows, d.memory_bank.double()).amin(1).max()) for d in (whole, thinned)]
    assert radius[0] <= radius[1] * 1.2  # greedy is no optimum: either may be ahead
    assert radius[1] < 1.5 * radius[0]


def test_merged_states_beyond_the_limit_are_thinned_out() -> None:
    states = []
    for part in PARTS.split(3):
        detector = PatchCore(FakeBackbone(), bank_limit=400, buffer_limit=1500)
        detector.observe(part)
        states.append(detector.statistics())
    merged = PatchCore.merge(states, [1.0, 1.0])
    assert len(merged["patches"]) == 6 * PATCHES
    detector.load_statistics(merged)
    state = detector.statistics()
    assert len(state["patches"]) < 1500
    assert int(state["patches_seen"]) == 6 * PATCHES


def test_close_tells_its_progress() -> None:
    detector = PatchCore(FakeBackbone(), bank_limit=600)
    detector.observe(PARTS)
    told: list[float] = []
    detector.close(progress=told.append)
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coreset_fraction": 0.0}, r"^coreset_fraction must be a fraction above 0 and up to 1, got 0.0$"),
        ({"coreset_fraction": 10}, r"^coreset_fraction must be a fraction above 0 and up to 1, got 10$"),
        ({"bank_limit": 0}, r"^bank_limit must be a whole number of at least 1, got 0$"),
        ({"neighbours": "9"}, r"^neighbours must be a whole number of at least 1, got '9'$"),
        ({"neighbours": True}, r"^neighbours must be a whole number of at least 1, got True$"),
        ({"blur_sigma": -1}, r"^blur_sigma must be a number of at least 0.0, got -1$"),
        ({"buffer_limit": 3999}, r"^buffer_limit must be at least twice bank_limit \(2000\), got 3999$"),
        (
            {"layers": "fine"},
            r"^layers must be a list of names, got the single string 'fine'; write \['fine'\]$",
        ),
        ({"layers": ["finest"]}, r"'finest'"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PatchCore(FakeBackbone(), **settings)


def test_refuses_statistics_of_another_backbone() -> None:
    state = {"patches": torch.zeros(4, 7), "seen": torch.tensor(1), "patches_seen": torch.tensor(4)}
    with pytest.raises(
        DataError, match=r"^patches must be \(N, 40\) with this backbone and these layers, got \(4, 7\)\."
    ):
        PatchCore(FakeBackbone()).load_statistics(state)


def test_refuses_the_bank_of_another_backbone() -> None:
    state = {**fitted().fitted_state(), "memory_bank": torch.zeros(4, 7)}
    with pytest.raises(
        ArtifactError,
        match=r"^memory_bank must be \(M, 40\) with this backbone and these layers, got \(4, 7\)\.",
    ):
        PatchCore(FakeBackbone()).load_fitted_state(state)
