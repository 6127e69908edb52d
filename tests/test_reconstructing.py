"""The image score of detectors that repaint: how unusual what they leave over is at its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.blocks import shrink
from andon.features.patches import blur_map
from andon.features.unusual import CELLS, SIGMA, Unusual
from andon.models import build
from andon.models.autoencoder import Autoencoder
from andon.models.base import Look
from andon.models.reconstructing import ReconstructingDetector
from andon.training import train
from fakes import good_parts, plant_defects

TINY: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 2, "latent": 4},
    "vae": {"width": 2, "latent": 4},
    "riad": {"width": 2, "levels": 2},
    "ganomaly": {"width": 2, "latent": 4},
    "fanogan": {"side": 16, "width": 2, "latent": 4, "encoder_steps": 2},
    "vit_inpainting": {"patch": 8, "width": 8, "depth": 2, "heads": 2},
    "draem": {"width": 2, "segment_width": 2, "levels": 2},
    "dsr": {"width": 8, "dimensions": 4, "codes": 8, "segment_width": 2, "levels": 1, "steps": 3},
}
PARTS = good_parts(6, (48, 64))


def tiny(method: str, **settings: Any) -> ReconstructingDetector:
    detector = build(method, **{"steps": 2, "batch_size": 2, **TINY[method], **settings})
    assert isinstance(detector, ReconstructingDetector)
    return detector


def trained(method: str, **settings: Any) -> ReconstructingDetector:
    detector = tiny(method, **settings)
    detector.observe(PARTS)
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda phase, done, total: None)
    detector.close()
    return detector


def residuals(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 40, 56, generator=torch.Generator().manual_seed(seed))


def measured(of: Tensor) -> Unusual:
    unusual = Unusual()
    unusual.add(of, before=0)
    return unusual


def test_the_score_is_the_formula() -> None:
    good, new = residuals(9), residuals(2, seed=1)
    r = blur_map(shrink(good, (CELLS, CELLS)), SIGMA).double()
    mean, sigma = r.mean(0), r.std(0, correction=0)
    scale = sigma + 0.2 * sigma.mean() + 0.01 * mean.abs().mean()
    expected = (blur_map(shrink(new, (CELLS, CELLS)), SIGMA) - mean) / scale
    torch.testing.assert_close(measured(good)(new), expected.flatten(1).amax(1).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [[9], [4, 5], [1, 2, 6]])
def test_it_is_the_same_however_the_images_come(sizes: list[int]) -> None:
    good, unusual, seen = residuals(9), Unusual(), 0
    for part in good.split(sizes):
        unusual.add(part, before=seen)
        seen += len(part)
    torch.testing.assert_close(unusual.mean, measured(good).mean)
    torch.testing.assert_close(unusual.square, measured(good).square)


def test_a_place_that_is_always_hard_hides_no_defect_elsewhere() -> None:
    good = 0.05 * residuals(20)
    good[..., 10:14, :] += 0.8  # an edge that is never repainted well
    broken = good[:1].clone()
    broken[..., 30:33, 20:23] += 0.4
    unusual = measured(good)
    assert broken.amax() < good.amax() + 0.05
    assert float(unusual(broken)) > 2 * float(unusual(good).max())


def test_images_that_are_all_the_same_are_no_division_by_nothing() -> None:
    same = torch.full((3, 1, 32, 48), 0.2)
    unusual = measured(same)
    assert float(unusual(same[:1])) == pytest.approx(0, abs=1e-3)
    assert float(unusual(same[:1] + 0.01)) == pytest.approx(5, rel=0.01)  # a twentieth more, in hundredths
    assert torch.isfinite(measured(torch.zeros(2, 1, 8, 8))(torch.ones(1, 1, 8, 8))).all()


@pytest.mark.parametrize("method", TINY)
def test_training_ends_with_a_look_at_what_is_usual_where_the_score_needs_one(method: str) -> None:
    assert isinstance(tiny(method).phases()[-1], Look)
    looks = [phase for phase in tiny(method, score="peak").phases() if isinstance(phase, Look)]
    assert len(looks) == (method == "vit_inpainting")  # its map needs one anyway


@pytest.mark.parametrize("method", TINY)
def test_the_score_is_how_unusual_the_residual_is(method: str) -> None:
    detector = trained(method)
    odd, _ = plant_defects(PARTS)
    with torch.no_grad():
        left_over = detector.left_over(odd)
        expected = measured(detector.left_over(PARTS))(left_over)
        torch.testing.assert_close(detector(odd).image_score, expected, rtol=1e-3, atol=1e-3)
    detector.reset()
    assert torch.equal(detector.unusual.mean, Unusual().mean)


@pytest.mark.parametrize("method", [name for name in TINY if name not in ("draem", "dsr")])
def test_the_score_can_be_the_maps_largest_value(method: str) -> None:
    detector = trained(method, score="peak")
    with torch.no_grad():
        answer = detector(PARTS)
    assert torch.equal(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("method", TINY)
def test_other_scores_are_refused(method: str) -> None:
    with pytest.raises(SettingsError, match=r"^score must be one of \['unusual', 'peak'.*\], got 'best'$"):
        tiny(method, score="best")


def test_sites_measure_together_what_all_their_images_say() -> None:
    """The mean of the sites' means, weighted by their images, is that over all images."""
    detector = trained("autoencoder")
    states = []
    for part in PARTS.split([2, 4]):
        detector.images_seen = len(part)
        look = detector.phases()[-1]
        assert isinstance(look, Look)
        with torch.no_grad():
            look.look(part)
        states.append(detector.statistics())
    merged = Autoencoder.merge(states, [2, 4])
    with torch.no_grad():
        together = measured(detector.left_over(PARTS))
    torch.testing.assert_close(merged["unusual.mean"], together.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(merged["unusual.square"], together.square, rtol=1e-5, atol=1e-6)
