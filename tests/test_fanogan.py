"""f-AnoGAN's own rules: the critic's penalty, the noise of each turn, who learns in which, the scores, the settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.patches import to_map
from andon.models.base import Look, Phase
from andon.models.fanogan import FAnoGAN
from andon.models.trained import learning
from andon.training import train
from fakes import good_parts

PARTS = good_parts(4, (24, 40), seed=1)
TINY: dict[str, Any] = {"side": 16, "width": 3, "latent": 5, "critic_turns": 2, "steps": 2, "encoder_steps": 2,
                        "batch_size": 2}  # fmt: skip


def tiny(**settings: Any) -> FAnoGAN:
    return FAnoGAN(**{**TINY, **settings})


def closed(**settings: Any) -> FAnoGAN:
    detector = tiny(**settings)
    detector.observe(PARTS)
    detector.close()
    return detector


def networks(detector: FAnoGAN) -> dict[str, nn.Module]:
    critic = nn.ModuleList([detector.features, detector.judge])
    return {"generator": detector.generator, "critic": critic, "encoder": detector.encoder}


def reached(detector: FAnoGAN) -> set[str]:
    """The networks to whose weights a gradient has come; all of their weights or none."""
    found = set()
    for name, network in networks(detector).items():
        come = [parameter.grad is not None for parameter in network.parameters()]
        assert len(set(come)) == 1
        found |= {name} if come[0] else set()
    return found


def linear_critic(detector: FAnoGAN, steepness: float) -> Tensor:
    """Make the critic a plane of that ``steepness``; its direction (values,)."""
    values = 3 * detector.side**2
    direction = torch.nn.functional.normalize(torch.randn(values), dim=0)
    plane = nn.Linear(values, 1)
    with torch.no_grad():
        plane.weight.copy_(steepness * direction)
    detector.features, detector.judge = nn.Sequential(nn.Identity()), nn.Sequential(nn.Flatten(), plane)
    return direction


@pytest.mark.parametrize(("steepness", "penalty"), [(1.0, 0.0), (3.0, 40.0), (0.5, 2.5)])
def test_the_critic_pays_for_a_steepness_other_than_one(steepness: float, penalty: float) -> None:
    detector = tiny()
    direction = linear_critic(detector, steepness)
    torch.manual_seed(3)
    loss = detector.critic_loss(PARTS)
    torch.manual_seed(3)
    with learning(detector.generator), torch.no_grad():
        made = detector.generator(detector._noise(len(PARTS), 0))
    fooled = steepness * ((made - detector.cells(PARTS)).flatten(1) @ direction).mean()
    torch.testing.assert_close(loss.detach(), fooled + penalty, rtol=1e-4, atol=1e-4)


def test_the_penalty_teaches_the_critic() -> None:
    detector = tiny()
    detector.critic_loss(PARTS).backward()
    first = detector.features[0][0].weight.grad.clone()
    detector.zero_grad()
    detector.penalty = 0.0
    detector.critic_loss(PARTS).backward()
    assert not torch.allclose(first, detector.features[0][0].weight.grad)


def test_each_turn_has_noise_of_its_own_and_a_seed_gives_it_again() -> None:
    detector = tiny()
    noises = []
    for turn in (0, 1, 2, 0):
        torch.manual_seed(4)
        noises.append(detector._noise(6, turn))
    assert torch.equal(noises[0], noises[3])
    assert not torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[1], noises[2])
    assert noises[0].shape == (6, 5)


def test_each_turn_reaches_its_own_weights_alone() -> None:
    for loss, name in (("critic_loss", "critic"), ("generator_loss", "generator"), ("loss", "encoder")):
        detector = tiny()
        getattr(detector, loss)(PARTS).backward()
        assert reached(detector) == {name}


def test_five_turns_of_the_critic_then_one_of_the_generator_then_the_encoder() -> None:
    gan, encoding, look = FAnoGAN(width=2).phases()
    assert isinstance(gan, Phase)
    assert isinstance(encoding, Phase)
    assert isinstance(look, Look)
    assert (len(gan.turns), len(encoding.turns)) == (6, 1)
    fewer = tiny().phases()[0]
    assert isinstance(fewer, Phase)
    assert len(fewer.turns) == 3


def test_training_moves_all_networks_and_the_second_phase_the_encoder_alone() -> None:
    detector = tiny()
    detector.observe(PARTS)
    states: list[dict[str, Tensor]] = []

    def keep(phase: str, done: int, total: int) -> None:
        if done == total:
            states.append({name: tensor.clone() for name, tensor in detector.state_dict().items()})

    keep("before", 1, 1)
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), keep)
    before, gan, after, looked = states
    moved = [{name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
             for old, new in ((before, gan), (gan, after), (after, looked))]  # fmt: skip
    assert moved == [{"generator", "features", "judge"}, {"encoder"}, {"unusual"}]


def test_the_papers_score_is_the_residual_of_image_and_features() -> None:
    detector = closed(kappa=0.7, score="paper")
    with torch.no_grad():
        answer = detector(PARTS)
        for i in range(len(PARTS)):
            x = detector.cells(PARTS[i : i + 1])
            y = detector.generator(detector.encoder(x))
            f_x, f_y = detector.features(x), detector.features(y)
            expected = (x - y).pow(2).mean() + 0.7 * (f_x - f_y).pow(2).mean()
            torch.testing.assert_close(answer.image_score[i], expected)
            apart = to_map((x - y).abs().mean(1, keepdim=True) / 2, (24, 40), detector.blur_sigma)
            torch.testing.assert_close(answer.anomaly_map[i], apart[0])


def test_the_image_score_can_be_the_maps_largest_value() -> None:
    answer = closed(score="peak")(PARTS)
    assert torch.equal(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


def test_a_step_without_slope_leaves_no_hole() -> None:
    detector = tiny()
    for parameter in detector.judge.parameters():
        nn.init.zeros_(parameter)
    loss = detector.critic_loss(PARTS)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.features.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 48}, "side must be 4 times a power of 2 (32, 64, 128 ...), got 48"),
        ({"side": 4}, "side must be a whole number of at least 8, got 4"),
        ({"critic_turns": 0}, "critic_turns must be a whole number of at least 1, got 0"),
        ({"score": "z"}, "score must be one of ['unusual', 'peak', 'paper'], got 'z'"),
        ({"kappa": -0.1}, "kappa must be a number of at least 0.0, got -0.1"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        tiny(**settings)
    assert str(error.value) == message
