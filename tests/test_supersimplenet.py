"""SuperSimpleNet: focal loss and whole loss by hand, where noise goes, what learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.noised import blobs, truncated
from andon.models.base import Phase
from andon.models.supersimplenet import SuperSimpleNet, focal
from andon.training import train
from fakes import FakeBackbone, good_parts

SIZE = (64, 96)


def new(**settings: object) -> SuperSimpleNet:
    small = {"hidden": 16, "channels": 6, "steps": 10, "batch_size": 4, "noise": 2.0, "learning_rate": 1e-2}
    return SuperSimpleNet(FakeBackbone(), **{**small, **settings})  # type: ignore[arg-type]


def observed(images: Tensor, **settings: object) -> SuperSimpleNet:
    detector = new(**settings)
    detector.observe(images)
    return detector


def test_focal_loss_by_hand() -> None:
    scores, truth = [-1.5, 0.2, 3.0], [1.0, 0.0, 1.0]
    expected = 0.0
    for x, y in zip(scores, truth, strict=True):
        p = 1 / (1 + math.exp(-x))
        p = p if y else 1 - p
        expected += -((1 - p) ** 4) * math.log(p) / 3
    assert float(focal(torch.tensor(scores), torch.tensor(truth))) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_finite_far_out() -> None:
    scores = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = focal(scores, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200)
    assert torch.isfinite(scores.grad).all()  # type: ignore[arg-type]


def test_the_loss_by_hand() -> None:
    images = good_parts(3, SIZE)
    detector = observed(images)
    torch.manual_seed(5)
    loss = float(detector.loss(images).detach())
    torch.manual_seed(5)
    a = detector.adapted(detector.frozen(images)).repeat(2, 1, 1, 1)
    m = blobs(6, (16, 24), 0.2, 0.5)
    p = a + 2.0 * torch.randn_like(a) * m
    detector.segmentation.train(True)
    detector.classification.train(True)
    grid, score = detector.heads(p)
    any_m = torch.tensor([float(mask.any()) for mask in m])
    assert 0 < float(any_m.sum()) < 6
    expected = truncated(grid, m, 0.5) + focal(grid, m) + focal(score, any_m)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_classification_head_does_not_teach_the_segmentation_head() -> None:
    images = good_parts(2, SIZE)
    detector = observed(images)
    _, score = detector.heads(detector.adapted(detector.frozen(images)))
    score.sum().backward()
    assert all(parameter.grad is None for parameter in detector.segmentation.parameters())
    assert detector.adaptor.weight.grad is not None


@pytest.mark.parametrize(("upscale", "grid"), [(1, (16, 24)), (2, (32, 48))])
def test_the_grid_is_the_finest_layers_times_upscale(upscale: int, grid: tuple[int, int]) -> None:
    images = good_parts(2, SIZE)
    detector = observed(images, upscale=upscale)
    assert detector.adapted(detector.frozen(images)).shape == (2, 40, *grid)


def test_what_is_far_from_everything_raises_the_score_before_training_too() -> None:
    assert (new().classification.score.weight > 0).all()


def test_kept_features_give_the_same_loss() -> None:
    images = good_parts(3, SIZE)
    detector = observed(images)
    losses = []
    for frozen in (None, detector.frozen(images)):
        torch.manual_seed(0)
        losses.append(float(detector.loss(images, frozen).detach()))
    assert losses[0] == losses[1]


def test_both_heads_and_the_adaptor_learn() -> None:
    images = good_parts(8, SIZE)
    detector = observed(images, steps=40, layers=["fine"])
    before = {name: tensor.clone() for name, tensor in detector.named_parameters()}
    losses = train(detector, lambda numbers: images[list(numbers)], 8, lambda phase, done, total: None)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(not torch.equal(tensor, before[name]) for name, tensor in detector.named_parameters())


def test_the_rates_are_the_adaptors_half_and_fall_twice() -> None:
    (phase,) = new().phases()
    assert isinstance(phase, Phase)
    turn = phase.turns[0]
    assert [group["lr"] for group in turn.optimiser(turn.parameters).param_groups] == [0.005, 0.01]
    assert [phase.rate(done) for done in (0.0, 0.85, 0.95)] == pytest.approx([1, 0.4, 0.16])


def test_refuses_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingsError, match="upscale must be a whole number of at least 1, got 0"):
        new(upscale=0)
    with pytest.raises(SettingsError, match="channels must be a whole number of at least 1, got 0"):
        new(channels=0)
