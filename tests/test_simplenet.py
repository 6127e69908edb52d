"""SimpleNet: the loss by hand, what is kept, what learns."""

from __future__ import annotations

import pytest
import torch

from andon.errors import SettingsError
from andon.features.patches import aggregate, join
from andon.models.simplenet import SimpleNet
from andon.training import train
from fakes import FakeBackbone, good_parts

SIZE = (64, 96)


def new(**settings: object) -> SimpleNet:
    small = {"hidden": 16, "steps": 10, "batch_size": 4, "noise": 0.5, "learning_rate": 1e-2}
    return SimpleNet(FakeBackbone(), **{**small, **settings})  # type: ignore[arg-type]


def observed(images: torch.Tensor, **settings: object) -> SimpleNet:
    detector = new(**settings)
    for part in images.split(3):
        detector.observe(part)
    return detector


def test_adapted_features_are_standardised_averaged_joined_and_projected() -> None:
    images = good_parts(6, SIZE)
    detector = observed(images)
    f = detector.frozen(images)
    scaled = {}
    for layer, x in f.items():
        centred = x - x.mean((0, 2, 3), keepdim=True)
        scaled[layer] = aggregate(centred / centred.square().mean().sqrt())
    joined = join(scaled, ("fine", "coarse"))
    weight, bias = detector.adaptor.state_dict().values()
    expected = torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], joined) + bias[None, :, None, None]
    torch.testing.assert_close(detector.adapted(f), expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_truncated_one_of_good_and_noised_features() -> None:
    images = good_parts(4, SIZE)
    detector = observed(images, noise=0.3, margin=0.5)
    torch.manual_seed(3)
    loss = float(detector.loss(images).detach())
    torch.manual_seed(3)
    q = detector.adapted(detector.frozen(images))
    both = torch.cat([q, q + 0.3 * torch.randn_like(q)])
    detector.judge.train(True)
    good, noised = detector.judge(both).split(4)
    detector.judge.train(False)
    expected = (good + 0.5).clamp(min=0).mean() + (0.5 - noised).clamp(min=0).mean()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_kept_features_give_the_same_loss() -> None:
    images = good_parts(4, SIZE)
    detector = observed(images)
    losses = []
    for frozen in (None, detector.frozen(images)):
        torch.manual_seed(0)
        losses.append(float(detector.loss(images, frozen).detach()))
    assert losses[0] == losses[1]


def test_learns_to_tell_noised_features_and_changes_all_its_weights() -> None:
    images = good_parts(8, SIZE)
    detector = observed(images, steps=40)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    losses = train(detector, lambda numbers: images[list(numbers)], 8, lambda phase, done, total: None)
    assert losses[0] > 0.8
    assert losses[-1] < 0.3
    learned = [name for name, _ in detector.named_parameters()]
    assert all(not torch.equal(detector.state_dict()[name], before[name]) for name in learned)
    assert torch.equal(detector.scale.each[0].mean, before["scale.each.0.mean"])  # type: ignore[arg-type]


def test_the_image_score_is_the_highest_score_of_a_position() -> None:
    images = good_parts(3, SIZE)
    detector = observed(images)
    detector.close()
    grid = detector.judge(detector.adapted(detector.frozen(images)))
    torch.testing.assert_close(detector(images).image_score, grid.flatten(1).amax(1))


def test_two_sites_see_the_spread_of_their_union() -> None:
    images = good_parts(8, SIZE)
    sites = [observed(part) for part in (images[:6], images[6:])]
    merged = SimpleNet.merge([site.statistics() for site in sites], [6.0, 2.0])
    whole = observed(images).statistics()
    torch.testing.assert_close(merged["scale.each.1.square"], whole["scale.each.1.square"])
    assert int(merged["images_seen"]) == 8


def test_refuses_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingsError, match="hidden must be a whole number of at least 1, got 0"):
        new(hidden=0)
    with pytest.raises(SettingsError, match="noise must be a number of at least 0.0, got -0.1"):
        new(noise=-0.1)
