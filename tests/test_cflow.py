"""CFLOW-AD's own rules: the position's code, the fibre, the loss, the largest density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from andon.errors import SettingsError
from andon.features.flows import warm_cosine
from andon.models.base import Look, Phase
from andon.models.cflow import CFlow, position_code, take_fibre
from andon.models.trained import seeded
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, seed=1)


def observed(**settings: Any) -> CFlow:
    detector = CFlow(FakeBackbone(), **{"coupling_layers": 2, "position_channels": 8, **settings})
    detector.observe(PARTS)
    return detector


def test_position_code_is_sines_and_cosines_of_column_and_row() -> None:
    code = position_code(8, (3, 5), like=torch.zeros(1))
    assert code.shape == (1, 8, 3, 5)
    for row in range(3):
        for column in range(5):
            expected = [
                wave(place / 1e4 ** (k / 2))
                for place, wave in ((column, math.sin), (column, math.cos), (row, math.sin), (row, math.cos))
                for k in range(2)
            ]
            torch.testing.assert_close(code[0, :, row, column], torch.tensor(expected))


def test_no_two_positions_share_a_code() -> None:
    codes = position_code(16, (40, 60), like=torch.zeros(1))[0].flatten(1).T
    assert len(torch.unique(codes, dim=0)) == 2400


def test_a_fibre_keeps_each_positions_code() -> None:
    code = torch.arange(20.0).view(1, 1, 4, 5)
    features = torch.cat([code, code + 100, code + 200])  # (3, 1, 4, 5): three images
    with seeded(0):
        taken, codes = take_fibre(features, code, 30)
    assert taken.shape == codes.shape == (1, 1, 1, 30)
    assert torch.equal(taken % 100, codes)
    assert len(taken.unique()) == 30
    everything, _ = take_fibre(features, code, 1000)
    assert torch.equal(everything.flatten().sort().values, features.flatten().sort().values)


def test_loss_is_minus_the_log_sigmoid_of_the_log_density_a_channel() -> None:
    detector = observed(fibre=10_000)  # all positions
    expected = [-F.logsigmoid(log_p).mean() for log_p in detector.log_densities(detector.frozen(PARTS))]
    torch.testing.assert_close(detector.loss(PARTS), torch.stack(expected).mean())


def test_loss_of_kept_features_is_the_same() -> None:
    detector = observed(fibre=100)
    losses = []
    for images, frozen in ((PARTS, None), (torch.zeros(6, 3, 1, 1), detector.frozen(PARTS))):
        with seeded(4):
            losses.append(detector.loss(images, frozen))
    assert torch.equal(*losses)
    with seeded(5):
        assert not torch.equal(detector.loss(PARTS), losses[0])  # other positions


def test_the_density_depends_on_the_position() -> None:
    detector = observed(layers=["coarse"])
    (log_p,) = detector.log_densities({"coarse": torch.ones(1, 24, 5, 6)})
    assert len(log_p.unique()) == 30


def test_the_largest_density_is_that_of_the_training_images() -> None:
    detector = observed()
    assert torch.equal(detector.best, torch.full((2,), -torch.inf))
    _, look = detector.phases()
    assert isinstance(look, Look)
    with torch.no_grad():
        for images in PARTS.split(4):
            look.look(images)
        found = detector.log_densities(detector.frozen(PARTS))
    torch.testing.assert_close(detector.best, torch.stack([log_p.max() for log_p in found]))
    detector.loss(PARTS)
    assert torch.equal(detector.best, torch.full((2,), -torch.inf))  # other weights, other densities


def test_the_map_is_the_papers_in_another_scale() -> None:
    detector = observed(blur_sigma=0.0, layers=["fine"])
    detector.note_best(PARTS)
    detector.close()
    (log_p,) = detector.log_densities(detector.frozen(PARTS[:1]))
    rare = F.interpolate((detector.best[0] - log_p).log1p(), size=(64, 96), mode="bilinear")
    scores = detector(PARTS[:1])
    torch.testing.assert_close(scores.anomaly_map, rare, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.image_score, scores.anomaly_map.flatten(1).amax(1))


def test_all_flows_are_trained_and_nothing_else() -> None:
    detector = observed()
    phase, _ = detector.phases()
    assert isinstance(phase, Phase)
    (turn,) = phase.turns
    turn.loss(PARTS, detector.frozen(PARTS)).backward()
    assert {id(p) for p in turn.parameters} == {id(p) for p in detector.parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in turn.parameters)
    assert phase.rate is warm_cosine


def test_a_subnet_is_twice_as_wide_as_what_it_reads() -> None:
    subnet = observed(position_channels=128).flows[1].steps[0].coupling.subnet
    assert subnet.inner.weight.shape == (280, 12, 1, 1)
    assert subnet.given.weight.shape == (280, 128, 1, 1)
    assert subnet.outer.weight.shape == (24, 280, 1, 1)


def test_position_channels_must_be_a_multiple_of_four() -> None:
    with pytest.raises(SettingsError) as error:
        CFlow(FakeBackbone(), position_channels=6)
    assert str(error.value) == (
        "position_channels must be a multiple of 4 (sine and cosine of row and column), got 6"
    )


@pytest.mark.parametrize(
    "settings", [{"coupling_layers": 0}, {"fibre": 0}, {"steps": 0}, {"clamp": -1.0}, {"blur_sigma": "4"}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(SettingsError, match=f"^{name} must be a "):
        CFlow(FakeBackbone(), **settings)
