"""PaDiM's own rules: the Mahalanobis distance, the channels drawn, the fixed size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from andon.errors import DataError, SettingsError
from andon.models.padim import PaDiM
from fakes import FakeBackbone, good_parts, plant_defects

PARTS = good_parts(16, seed=1)


def fitted(**settings: Any) -> PaDiM:
    detector = PaDiM(FakeBackbone(), **{"dimensions": 12, **settings})
    for part in PARTS.split(5):
        detector.observe(part)
    detector.close()
    return detector


def mahalanobis(detector: PaDiM, image: torch.Tensor, covariance: str) -> np.ndarray:
    """(h, w), straight from eq. 1 and 2 in float64."""
    values = detector.embed(PARTS).flatten(2).double().numpy()  # (n, C, P)
    x = detector.embed(image)[0].flatten(1).double().numpy()  # (C, P)
    sigma = np.stack([np.cov(values[:, :, p], rowvar=False) for p in range(values.shape[2])])
    if covariance == "shared":
        sigma = np.broadcast_to(sigma.mean(0), sigma.shape)
    if covariance == "diagonal":
        sigma = sigma * np.eye(sigma.shape[1])
    inverse = np.linalg.inv(sigma + detector.ridge * np.eye(sigma.shape[1]))
    deviation = (x - values.mean(0)).T  # (P, C)
    return np.sqrt(np.einsum("pi,pij,pj->p", deviation, inverse, deviation)).reshape(16, 24)


@pytest.mark.parametrize("covariance", ["position", "shared", "diagonal"])
def test_map_is_the_mahalanobis_distance(covariance: str) -> None:
    detector = fitted(covariance=covariance, blur_sigma=0.0)
    image = plant_defects(good_parts(1, seed=5))[0]
    expected = torch.from_numpy(mahalanobis(detector, image, covariance))[None, None]
    expected = F.interpolate(expected, size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(detector(image).anomaly_map.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("covariance", ["position", "shared", "diagonal"])
def test_every_kind_of_covariance_finds_planted_defects(covariance: str) -> None:
    detector = fitted(covariance=covariance)
    bad = plant_defects(good_parts(4, seed=6))[0]
    assert detector(bad).image_score.min() > detector(good_parts(8, seed=7)).image_score.max()


def test_image_score_is_the_largest_value_of_the_blurred_map() -> None:
    scores = fitted()(PARTS[:3])
    assert torch.equal(scores.image_score, scores.anomaly_map.flatten(1).amax(1))


def test_any_split_gives_the_same_detector() -> None:
    sites = []
    for part in PARTS.split([3, 1, 12]):
        site = PaDiM(FakeBackbone(), dimensions=12)
        site.observe(part)
        sites.append(site.statistics())
    empty = PaDiM(FakeBackbone(), dimensions=12).statistics()
    merged = PaDiM(FakeBackbone(), dimensions=12)
    merged.load_statistics(PaDiM.merge([empty, *sites], [0, 3, 1, 12]))
    merged.close()
    for name, tensor in fitted().fitted_state().items():
        torch.testing.assert_close(merged.fitted_state()[name], tensor, rtol=1e-5, atol=1e-5)


def test_channels_come_from_the_seed() -> None:
    drawn = [PaDiM(FakeBackbone(), dimensions=12, seed=seed).channels for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len(set(drawn[0].tolist())) == 12


def test_more_dimensions_than_channels_takes_them_all() -> None:
    assert PaDiM(FakeBackbone(), dimensions=100).channels.tolist() == list(range(40))


def test_refuses_another_size() -> None:
    message = (
        r"^PaDiM looks at fixed positions: it was fitted on images of 64 x 96 \(rows x columns\), got 96 x 64\. "
        r"Resize the images, or reset\(\) and fit on the new size\.$"
    )
    detector = fitted()
    tall = good_parts(1, (96, 64))
    restored = PaDiM(FakeBackbone(), dimensions=12)
    restored.load_fitted_state(detector.fitted_state())
    for ask in (detector, detector.observe, restored):
        with pytest.raises(SettingsError, match=message):
            ask(tall)
    other = PaDiM(FakeBackbone(), dimensions=12)
    other.observe(tall)
    with pytest.raises(SettingsError, match=message):
        PaDiM.merge([detector.statistics(), other.statistics()], [1, 1])
    detector.reset()
    detector.observe(tall)


def test_one_image_is_not_enough() -> None:
    detector = PaDiM(FakeBackbone(), dimensions=12)
    detector.observe(PARTS[:1])
    with pytest.raises(
        DataError, match=r"^a covariance needs at least 2 good images, got 1; observe more of them$"
    ):
        detector.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 0}, r"^dimensions must be a whole number of at least 1, got 0$"),
        ({"ridge": -0.1}, r"^ridge must be a number of at least 0.0, got -0.1$"),
        (
            {"covariance": "full"},
            r"^covariance must be one of \['position', 'shared', 'diagonal'\], got 'full'$",
        ),
        ({"seed": -1}, r"^seed must be a whole number of at least 0, got -1$"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PaDiM(FakeBackbone(), **settings)
