"""What SimpleNet and SuperSimpleNet share: the truncated loss by hand, the blobs' share and size."""

from __future__ import annotations

import pytest
import torch

from andon.features.noised import adamw, blobs, discriminator, pointwise, truncated, xavier


def test_truncated_is_the_two_means_by_hand() -> None:
    scores = torch.tensor([-2.0, -0.4, 0.3, 2.0, 0.1])
    anomalous = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    assert float(truncated(scores, anomalous, 0.5)) == pytest.approx((0 + 0.1 + 0.8) / 3 + (0 + 0.4) / 2)


def test_truncated_without_one_of_the_two_kinds() -> None:
    scores = torch.tensor([0.5, -1.0])
    assert float(truncated(scores, torch.zeros(2), 0.5)) == pytest.approx(0.5)
    assert float(truncated(scores, torch.ones(2), 0.5)) == pytest.approx(0.75)


def test_blobs_are_empty_as_often_as_asked() -> None:
    torch.manual_seed(0)
    masks = blobs(400, (20, 31), 0.2, 0.5)
    assert masks.shape == (400, 1, 20, 31)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    filled = masks.flatten(1).amax(1)
    assert 0.4 < float(filled.mean()) < 0.55
    assert 0.1 < float(masks[filled > 0].mean()) < 0.4
    assert float(blobs(9, (8, 8), 0.2, 1.0).sum()) == 0


def test_blobs_follow_torchs_generator_on_any_grid() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(blobs(4, (16, 16), 0.2, 0.0))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    for size in ((1, 1), (2, 3), (3, 50)):
        assert blobs(2, size, 0.2, 0.0).shape == (2, 1, *size)


def test_a_discriminator_scores_positions_by_themselves() -> None:
    torch.manual_seed(0)
    judge = discriminator(6, 10).eval()
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(judge(x)[:, :, 2:4, 1:6], judge(x[:, :, 2:4, 1:6]))


def test_xavier_draws_by_what_goes_in_and_out() -> None:
    torch.manual_seed(0)
    layer = pointwise(200, 400)
    xavier(layer)
    assert float(layer.weight.detach().std()) == pytest.approx((2 / 600) ** 0.5, rel=0.02)


def test_the_adaptor_learns_at_half_the_rate() -> None:
    adaptor, judge = pointwise(3, 3), discriminator(3, 4)
    parameters, make = adamw(0.01, adaptor, judge)
    groups = make(parameters).param_groups
    assert [group["lr"] for group in groups] == [0.005, 0.01]
    assert [group["weight_decay"] for group in groups] == [0.01, 1e-5]
    assert sum(len(group["params"]) for group in groups) == len(parameters) == 7
