"""Flows: they can be inverted, their log-determinants are those of autograd's Jacobian, their densities integrate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from andon.features.flows import (
    ActNorm,
    Coupling,
    Flow,
    Permutation,
    Rotation,
    Step,
    Subnet,
    halves,
    log_density,
    rarity_map,
    warm_cosine,
)
from andon.features.patches import to_map
from andon.models.trained import redraw, seeded


def flow(channels: int, steps: int, kernel: int, condition: int = 0, mix: type = Permutation) -> Flow:
    """Float64, every parameter drawn, so that nothing is the identity."""
    read, changed = halves(channels)
    with seeded(3):
        made = Flow(
            Step(
                Coupling(channels, Subnet(read, 6, 2 * changed, kernel, condition), 1.9),
                ActNorm(channels),
                mix(channels),
            )
            for _ in range(steps)
        ).double()
        redraw(made)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.7)
    return made


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("mix", [Permutation, Rotation])
@pytest.mark.parametrize(("channels", "kernel", "condition"), [(4, 3, 0), (5, 1, 4), (5, 3, 4), (2, 1, 0)])
def test_a_flow_is_inverted(channels: int, kernel: int, condition: int, mix: type) -> None:
    made = flow(channels, 4, kernel, condition, mix)
    x = random(3, channels, 4, 5)
    code = random(1, condition, 4, 5) if condition else None
    z, _ = made(x, code)
    assert (z - x).abs().max() > 0.5
    torch.testing.assert_close(made.inverse(z, code), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mix", [Permutation, Rotation])
@pytest.mark.parametrize(("kernel", "condition"), [(3, 0), (1, 0), (3, 2)])
def test_the_log_determinant_is_that_of_the_jacobian(kernel: int, condition: int, mix: type) -> None:
    made = flow(3, 3, kernel, condition, mix)
    x = random(1, 3, 2, 4)
    code = random(1, condition, 2, 4) if condition else None
    jacobian = torch.autograd.functional.jacobian(lambda x: made(x, code)[0], x).reshape(24, 24)
    _, log_det = made(x, code)
    assert log_det.shape == (1, 1, 2, 4)
    torch.testing.assert_close(log_det.sum(), torch.linalg.slogdet(jacobian).logabsdet)


def test_with_1x1_convolutions_each_position_has_its_own_log_determinant() -> None:
    made, x = flow(4, 3, 1), random(1, 4, 2, 3)
    _, log_det = made(x)
    alone = torch.autograd.functional.jacobian(lambda x: made(x)[0], x[:, :, 1:, 2:]).reshape(4, 4)
    torch.testing.assert_close(log_det[0, 0, 1, 2], torch.linalg.slogdet(alone).logabsdet)


def test_a_condition_that_all_share_is_that_of_each() -> None:
    made, x, code = flow(4, 2, 3, 4), random(3, 4, 4, 5), random(1, 4, 4, 5)
    for shared, own in zip(made(x, code), made(x, code.expand(3, -1, -1, -1)), strict=True):
        torch.testing.assert_close(shared, own)
    assert not torch.allclose(made(x, code)[0], made(x, 2 * code)[0])


def test_a_log_scale_is_clamped_softly() -> None:
    coupling = Coupling(4, Subnet(2, 3, 4), alpha=1.9).double()
    nn.init.constant_(coupling.subnet.outer.bias, 1e6)
    _, log_det = coupling(random(2, 4, 3, 3))
    torch.testing.assert_close(log_det, torch.full_like(log_det, 2 * 1.9))  # two channels are changed


def test_channels_are_mixed_by_a_rotation_or_a_permutation_drawn_by_the_seed() -> None:
    rotation, permutation = Rotation(7), Permutation(7)
    drawn = []
    for seed in (0, 0, 1):
        with seeded(seed):
            redraw(rotation, permutation)
        drawn.append((rotation.matrix.clone(), permutation.order.clone()))
    matrix = rotation.matrix[:, :, 0, 0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(7), rtol=0, atol=1e-6)
    assert torch.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
    assert sorted(permutation.order.tolist()) == list(range(7))
    for first, again, other in zip(*drawn, strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_actnorm_starts_as_the_identity() -> None:
    x = random(2, 3, 2, 2)
    norm = ActNorm(3).double()
    nn.init.ones_(norm.g)
    redraw(norm)
    assert torch.equal(norm(x)[0], x)
    assert float(norm(x)[1].detach()) == 0


def test_log_density_is_the_normal_one_a_channel() -> None:
    z, log_det = random(2, 5, 3, 4), random(2, 1, 3, 4)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1, keepdim=True)
    torch.testing.assert_close(log_density(z, log_det), (normal + log_det) / 5)


def test_the_density_of_a_flow_integrates_to_one() -> None:
    made = flow(2, 3, 1)
    line = torch.linspace(-30, 30, 801, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    with torch.no_grad():
        density = (2 * log_density(*made(grid))).exp()
    assert float(density.sum() * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=5e-3)


def test_a_flow_learns_a_correlated_normal_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [1.5, 0.5]])
    x = (root @ torch.randn(2, 512, generator=generator))[None, :, None]
    with seeded(0):
        made = Flow(Step(Coupling(2, Subnet(1, 8, 2), 1.9), ActNorm(2), Rotation(2)) for _ in range(4))
        redraw(made)
    optimiser = torch.optim.Adam(made.parameters(), 0.02)
    for _ in range(100):
        loss = -log_density(*made(x)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    entropy = 0.5 * (1 + math.log(2 * math.pi) + math.log(0.5))  # nats a channel; det of root is 0.5
    assert float(loss.detach()) == pytest.approx(entropy, abs=0.05)


def test_a_rarity_map_has_the_order_of_the_mean_density() -> None:
    rarities = [random(2, 1, 6, 5).abs(), 3 * random(2, 1, 6, 5).flip(2).abs()]
    density = torch.stack([(-a).exp() for a in rarities]).mean(0)
    found = rarity_map(rarities, (6, 5), 0.0)
    torch.testing.assert_close(found, torch.log(1 - torch.log(density)))
    assert torch.equal(found.flatten().argsort(), (1 - density).flatten().argsort())


def test_a_rarity_map_keeps_apart_what_has_no_density_left() -> None:
    rare = torch.tensor([[[[200.0, 1e4, 1e8, 0.0]]]])
    found = rarity_map([rare, 2 * rare], (1, 4), 0.0)[0, 0, 0]
    torch.testing.assert_close(found, (rare[0, 0, 0] + math.log(2)).log1p() * (rare[0, 0, 0] > 0))
    assert float(rarity_map([torch.full((1, 1, 2, 2), -0.5)], (4, 4), 0.0).abs().max()) == 0


def test_a_rarity_map_of_one_layer_is_its_logarithm_raised_and_blurred() -> None:
    rare = random(1, 1, 4, 6).square()
    torch.testing.assert_close(rarity_map([rare], (16, 24), 2.0), to_map(rare.log1p(), (16, 24), 2.0))


def test_the_rate_warms_up_and_falls_without_a_jump() -> None:
    rates = [warm_cosine(step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(warm_cosine(0.08))
    assert rates[-1] == pytest.approx(1e-3)
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.012
