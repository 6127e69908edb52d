"""FastFlow's own rules: the loss, the reach of its convolutions, the map."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from andon.errors import SettingsError
from andon.models.fastflow import FastFlow
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, seed=1)


def observed(**settings: Any) -> FastFlow:
    detector = FastFlow(FakeBackbone(), **{"flow_steps": 2, **settings})
    detector.observe(PARTS)
    return detector


def test_loss_is_the_negative_log_likelihood_a_number() -> None:
    detector = observed()
    expected = []
    for z, log_det in detector.latent(detector.frozen(PARTS)):
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2, 3)) + log_det.sum((1, 2, 3))
        constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
        expected.append((-log_p / z[0].numel()).mean() - constant)
    torch.testing.assert_close(detector.loss(PARTS), torch.stack(expected).mean())


def test_loss_of_kept_features_is_the_same() -> None:
    detector = observed()
    assert torch.equal(detector.loss(PARTS), detector.loss(torch.zeros(6, 3, 1, 1), detector.frozen(PARTS)))


def test_features_come_to_the_flow_standardised() -> None:
    detector = observed(clamp=0.0)  # nothing is scaled
    for step in detector.flows[0].steps:
        torch.nn.init.zeros_(step.coupling.subnet.outer.weight)
        torch.nn.init.zeros_(step.coupling.subnet.outer.bias)
    with torch.no_grad():
        z, log_det = detector.latent(detector.frozen(PARTS))[0]
    variances = z.square().mean((0, 2, 3))
    assert float(z.mean((0, 2, 3)).abs().max()) < 1e-4
    assert float(variances.max()) == pytest.approx(1, abs=1e-3)
    assert int((variances > 0.99).sum()) >= 12  # of 16; the fake backbone has dead channels
    assert float(log_det.abs().max()) == 0


@pytest.mark.parametrize(("kernels", "reach"), [([3], 4), ([3, 1], 2), ([1], 0), ([1, 5], 4)])
def test_kernels_come_in_turn(kernels: list[int], reach: int) -> None:
    """Two steps of two convolutions each: how far a position's features reach in z."""
    detector = observed(kernels=kernels, layers=["coarse"])
    features = torch.zeros(1, 24, 15, 15)
    spot = features.clone()
    spot[:, :, 7, 7] = 3.0
    changed = detector.latent({"coarse": spot})[0][0] != detector.latent({"coarse": features})[0][0]
    rows = changed.any(1)[0].any(1).nonzero()
    assert int(rows.max() - rows.min()) == 2 * reach


def test_hidden_ratio_is_a_subnets_width_over_what_it_reads() -> None:
    subnet = observed(hidden_ratio=0.5).flows[0].steps[0].coupling.subnet
    assert subnet.inner.weight.shape == (4, 8, 3, 3)  # of 16 channels 8 are read
    assert subnet.outer.weight.shape == (16, 4, 3, 3)


def test_the_map_has_the_order_of_the_papers() -> None:
    detector = observed(blur_sigma=0.0, layers=["fine"])
    detector.close()
    scores = detector(PARTS[:2])
    z = detector.latent(detector.frozen(PARTS[:2]))[0][0]
    papers = 1 - (-0.5 * z.square().mean(1)).exp()
    ours = torch.nn.functional.avg_pool2d(scores.anomaly_map, 4)[:, 0]  # about the value in the cell's middle
    assert torch.corrcoef(torch.stack([ours.flatten(), papers.flatten()]))[0, 1] > 0.9
    assert torch.equal(scores.image_score, scores.anomaly_map.flatten(1).amax(1))


def test_all_of_the_flow_is_trained_and_nothing_else() -> None:
    detector = observed()
    (phase,) = detector.phases()
    (turn,) = phase.turns
    turn.loss(PARTS, detector.frozen(PARTS)).backward()
    assert {id(p) for p in turn.parameters} == {id(p) for p in detector.parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in turn.parameters)
    assert phase.rate(0.5) == 1.0
    assert phase.rate(0.9) == 0.1


@pytest.mark.parametrize("kernels", [[], [2], [3, -1], [True], "33", 3, [3.0]])
def test_kernels_must_be_odd(kernels: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"^kernels must be odd whole numbers such as \[3, 1\], got "
    ) as error:
        FastFlow(FakeBackbone(), kernels=kernels)
    assert str(error.value).endswith(repr(kernels))
