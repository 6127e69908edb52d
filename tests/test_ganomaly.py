"""GANomaly's own rules: its losses, who learns in which turn, what the scores are, the settings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.patches import blur_map
from andon.models.ganomaly import GANomaly
from andon.training import train
from fakes import good_parts

PARTS = good_parts(4, (32, 48), seed=1)
TINY: dict[str, Any] = {"width": 4, "latent": 3, "levels": 2, "steps": 2, "batch_size": 2}


def tiny(**settings: Any) -> GANomaly:
    return GANomaly(**{**TINY, **settings})


def closed(**settings: Any) -> GANomaly:
    detector = tiny(**settings)
    detector.observe(PARTS)
    detector.close()
    return detector


def passes(detector: GANomaly) -> dict[str, Tensor]:
    """What goes through the networks while they learn; a copy's, so that nothing is learnt of it."""
    net = copy.deepcopy(detector)
    for part in (*net.makers, *net.judges):
        part.train(True)
    with torch.no_grad():
        z, y = net.make(PARTS)
        real, made = net.features(PARTS - 0.5), net.features(y - 0.5)
        return {"z": z, "y": y, "again": net.code_again(y), "f(x)": real, "f(y)": made,
                "D(x)": net.judge(real), "D(y)": net.judge(made)}  # fmt: skip


def weights(*networks: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for network in networks for parameter in network.parameters()]


def reached(*networks: nn.Module) -> list[bool]:
    return [parameter.grad is not None for network in networks for parameter in network.parameters()]


def test_the_generators_loss_is_the_weighted_sum_of_three() -> None:
    detector = tiny(adversarial_weight=2.0, contextual_weight=30.0, code_weight=5.0)
    p = passes(detector)
    expected = (
        2 * (p["f(x)"] - p["f(y)"]).pow(2).mean()
        + 30 * (PARTS - p["y"]).abs().mean()
        + 5 * (p["z"] - p["again"]).pow(2).mean()
    )
    torch.testing.assert_close(detector.loss(PARTS).detach(), expected)


def test_the_defaults_are_the_papers_weights() -> None:
    detector = tiny()
    assert (detector.adversarial_weight, detector.contextual_weight, detector.code_weight) == (1, 50, 1)


def test_the_discriminators_loss_is_binary_cross_entropy() -> None:
    detector = tiny()
    p = passes(detector)
    expected = [F.binary_cross_entropy(torch.sigmoid(p[name]), torch.full_like(p[name], truth))
                for name, truth in (("D(x)", 1.0), ("D(y)", 0.0))]  # fmt: skip
    torch.testing.assert_close(detector.judges_loss(PARTS).detach(), sum(expected) / 2)


def test_each_turn_reaches_its_own_weights_alone() -> None:
    detector = tiny()
    detector.judges_loss(PARTS).backward()
    assert all(reached(*detector.judges))
    assert not any(reached(*detector.makers))
    detector.zero_grad()
    detector.loss(PARTS).backward()
    assert all(reached(*detector.makers))
    assert not any(reached(*detector.judges))


def test_training_moves_both_sides() -> None:
    detector = tiny()
    detector.observe(PARTS)
    before = weights(*detector.makers), weights(*detector.judges)
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda phase, done, total: None)
    for old, networks in zip(before, (detector.makers, detector.judges), strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(old, weights(*networks), strict=True))


def test_the_map_is_the_blurred_difference_and_the_image_score_that_of_the_codes() -> None:
    detector = closed(score="paper")
    with torch.no_grad():
        answer = detector(PARTS)
        z, y = detector.make(PARTS)
        apart = (z - detector.encoder_again(y - 0.5)).abs()
    difference = (PARTS - y).abs().mean(1, keepdim=True)
    torch.testing.assert_close(answer.anomaly_map, blur_map(difference, detector.blur_sigma))
    torch.testing.assert_close(answer.image_score, apart.mean((1, 2, 3)))
    assert answer.reconstruction is not None
    assert torch.equal(answer.reconstruction, y)


def test_the_image_score_can_be_the_maps_largest_value() -> None:
    answer = closed(score="peak")(PARTS)
    assert torch.equal(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "both"}, "score must be one of ['unusual', 'peak', 'paper'], got 'both'"),
        ({"contextual_weight": -1}, "contextual_weight must be a number of at least 0.0, got -1"),
        ({"levels": 0}, "levels must be a whole number of at least 1, got 0"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        tiny(**settings)
    assert str(error.value) == message
