"""Dinomaly: its loss and attention against what they say, its groups, its optimiser against PyTorch's AdamW."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.attention import LinearAttention, Positions, as_grid, as_tokens
from andon.features.stable import StableAdamW
from andon.models.dinomaly import Dinomaly, in_groups, loose_loss
from andon.models.trained import seeded
from fakes import FakeBackbone, good_parts
from test_subspacead import Alike

PARTS = good_parts(4, (32, 48), seed=1)


def small(**settings: object) -> Dinomaly:
    return Dinomaly(**{"backbone": FakeBackbone(), "width": 8, "heads": 2, "depth": 2, **settings})


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_one_less_the_cosine_of_whole_maps() -> None:
    e, d = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    cosines = [float((a * b).sum() / (a.norm() * b.norm())) for a, b in zip(e, d, strict=True)]
    for p in (0.0, 0.5, 0.9):
        assert float(loose_loss(e, d, p)) == pytest.approx(1 - sum(cosines) / 2, rel=1e-5)


def test_what_is_given_back_best_takes_a_tenth_of_the_gradient() -> None:
    e, d = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1).requires_grad_()
    (plain,) = torch.autograd.grad(loose_loss(e, d, 0.0), d)
    (loose,) = torch.autograd.grad(loose_loss(e, d, 0.75), d)
    factor = (loose / plain)[:, 0]  # the same in all channels
    distance = 1 - F.cosine_similarity(e, d.detach(), dim=1)
    hard = distance >= distance.flatten().sort().values[-10]  # a quarter of 40 positions
    torch.testing.assert_close(factor[hard], torch.ones(10))
    torch.testing.assert_close(factor[~hard], torch.full((30,), 0.1))


def test_linear_attention_is_the_quotient_of_sums() -> None:
    attention = LinearAttention(6, 2)
    x = random(2, 5, 6)
    q, k, v = attention.query_key_value(x).chunk(3, dim=2)
    expected = torch.zeros(2, 5, 6)
    for head in (slice(0, 3), slice(3, 6)):
        weights = (F.elu(q[..., head]) + 1) @ (F.elu(k[..., head]) + 1).transpose(1, 2)  # (2, 5, 5)
        expected[..., head] = weights / weights.sum(2, keepdim=True) @ v[..., head]
    torch.testing.assert_close(attention(x), attention.project(expected))


def test_tokens_and_grid_are_two_views_of_one_thing() -> None:
    grid = random(2, 3, 4, 5)
    tokens = as_tokens(grid)
    assert torch.equal(tokens[0, 5 + 2], grid[0, :, 1, 2])
    assert torch.equal(as_grid(tokens, 4, 5), grid)


def test_positions_are_read_for_any_grid() -> None:
    positions = Positions(2, grid=4)
    torch.testing.assert_close(positions(4, 4), positions.vectors)
    assert positions(3, 9).shape == (1, 2, 3, 9)


def test_groups_of_blocks_mirror_those_of_layers() -> None:
    detector = small(depth=5)
    assert detector.layer_groups == [["fine"], ["coarse"]]
    assert detector.block_groups == [[2, 3, 4], [0, 1]]
    assert in_groups(range(8), 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(small(layers=["fine"]).layer_groups) == 1


def test_a_groups_features_are_those_of_its_layers_on_the_finest_grid() -> None:
    detector = small()
    features = detector.frozen(PARTS)
    fine, coarse = detector.given(features)
    assert torch.equal(fine, features["fine"])
    torch.testing.assert_close(coarse, F.interpolate(features["coarse"], size=(8, 12), mode="bilinear"))
    assert [back.shape for back in detector.given_back(features)] == [fine.shape, coarse.shape]


def test_layers_that_are_alike_are_averaged_and_need_no_layer_at_the_end() -> None:
    detector = Dinomaly(Alike(), groups=1, depth=1, heads=1)
    features = detector.frozen(PARTS)
    (given,) = detector.given(features)
    torch.testing.assert_close(given, (features["a"] + features["b"]) / 2)
    assert isinstance(detector.out[0], nn.Identity)


def test_features_from_the_cache_give_the_same_loss() -> None:
    detector = small()
    frozen = detector.frozen(PARTS)
    assert all(len(rows) == len(PARTS) for rows in frozen.values())
    with seeded(3):
        direct = detector.loss(PARTS)
    with seeded(3):
        cached = detector.loss(PARTS, frozen)
    with seeded(4):
        other_noise = detector.loss(PARTS, frozen)
    assert torch.equal(direct, cached)
    assert not torch.equal(direct, other_noise)


def test_the_loss_teaches_every_weight() -> None:
    detector = small()
    detector.loss(PARTS).backward()
    learnt = [parameter for network in detector.learnt for parameter in network.parameters()]
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in learnt)
    assert not any(parameter.requires_grad for parameter in detector.backbone.parameters())


def test_the_rate_rises_and_falls_and_the_loss_is_told() -> None:
    detector = small(steps=1000)
    (phase,) = detector.phases()
    assert phase.turns[0].clip == 0.1
    rates = [phase.rate(step / 1000) for step in range(1000)]
    assert rates[0] < 0.02
    assert max(range(1000), key=rates.__getitem__) in range(95, 105)
    assert rates[-1] == pytest.approx(0.1)
    assert detector._done == 0.999


def test_stable_adamw_is_adamw_where_gradients_are_as_expected() -> None:
    ours, theirs = nn.Parameter(random(5)), nn.Parameter(random(5))
    optimiser = StableAdamW([ours], lr=0.1, weight_decay=0.02)
    reference = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.02, amsgrad=True)
    for step in range(5):
        ours.grad = theirs.grad = random(5, seed=7) / (1 + step)  # smaller and smaller: nothing surprises
        optimiser.step()
        reference.step()
        torch.testing.assert_close(ours, theirs)


def test_stable_adamw_steps_less_far_when_surprised() -> None:
    moved = []
    for kind, extra in ((StableAdamW, {}), (torch.optim.AdamW, {"amsgrad": True})):
        parameter = nn.Parameter(torch.zeros(4))
        optimiser = kind([parameter], lr=0.1, weight_decay=0.0, **extra)
        for size in [1.0] * 20 + [100.0]:
            before = parameter.detach().clone()
            parameter.grad = torch.full((4,), size)
            optimiser.step()
        moved.append(float((parameter.detach() - before).abs().mean()))
    u = (1 - 0.999**20) * 0.999 + 100**2 * 0.001
    surprise = 100 / math.sqrt(u / (1 - 0.999**21))
    assert moved[0] == pytest.approx(moved[1] / surprise, rel=0.02)


def test_settings_that_make_no_sense_are_refused() -> None:
    text = r"^dropout must be below 1 and heads a divisor of the 8 channels of a token, got dropout={} and heads={}$"
    with pytest.raises(SettingsError, match=text.format("0.2", "3")):
        small(heads=3)
    with pytest.raises(SettingsError, match=text.format("1", "2")):
        small(dropout=1)
    with pytest.raises(SettingsError, match="depth must be a whole number of at least 1, got 0"):
        small(depth=0)
