"""CS-Flow's own rules: the coupling across scales, the loss, the scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.models.base import Phase
from andon.models.csflow import CrossStep, CrossSubnet, CSFlow
from andon.models.trained import redraw, seeded
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, seed=1)
GRIDS = ((4, 6), (2, 3), (1, 2))  # the last one is not half of the one before


def observed(**settings: Any) -> CSFlow:
    detector = CSFlow(FakeBackbone(), **{"blocks": 2, "width": 6, **settings})
    detector.observe(PARTS)
    return detector


def step(channels: int, kernel: int = 3, alpha: float = 3.0) -> CrossStep:
    """Float64, every parameter drawn, so that nothing is the identity."""
    with seeded(3):
        made = CrossStep(channels, 5, kernel, alpha).double()
        redraw(made)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.4)
    return made


def pyramid(batch: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(batch, channels, *grid, dtype=torch.float64, generator=generator) for grid in GRIDS]


@pytest.mark.parametrize(("channels", "kernel"), [(4, 3), (5, 5)])
def test_a_step_is_inverted(channels: int, kernel: int) -> None:
    made, x = step(channels, kernel), pyramid(2, channels)
    y, _ = made(x)
    assert all((a - b).abs().max() > 0.5 for a, b in zip(x, y, strict=True))
    for back, x_i in zip(made.inverse(y), x, strict=True):
        torch.testing.assert_close(back, x_i, rtol=1e-9, atol=1e-9)


def test_the_log_determinant_is_that_of_the_jacobian() -> None:
    made, x = step(3), pyramid(1, 3)
    flat = torch.cat([x_i.flatten() for x_i in x])

    def run(values: Tensor) -> Tensor:
        parts = values.split([x_i.numel() for x_i in x])
        y, _ = made([part.view_as(x_i) for part, x_i in zip(parts, x, strict=True)])
        return torch.cat([y_i.flatten() for y_i in y])

    jacobian = torch.autograd.functional.jacobian(run, flat)
    torch.testing.assert_close(made(x)[1][0], torch.linalg.slogdet(jacobian).logabsdet)


def test_a_step_starts_as_a_permutation() -> None:
    made = CrossStep(4, 5, 3, 3.0).double()
    with seeded(1):
        redraw(made)
    x = pyramid(1, 4)
    y, log_det = made(x)
    assert float(log_det.detach()) == 0
    for x_i, y_i in zip(x, y, strict=True):
        assert torch.equal(x_i.sort(1).values, y_i.sort(1).values)


def test_a_log_scale_is_clamped_softly() -> None:
    made = step(4, alpha=3.0)
    nn.init.zeros_(made.read_first.gamma)
    nn.init.ones_(made.read_second.gamma)
    for conv in made.read_second.same:
        nn.init.constant_(conv.bias, 1e7)
    _, log_det = made(pyramid(1, 4))
    changed = sum(2 * h * w for h, w in GRIDS)
    assert float(log_det.detach()) == pytest.approx(3.0 * changed, rel=1e-4)


def test_every_size_reads_itself_and_its_neighbours() -> None:
    with seeded(0):
        subnet = CrossSubnet(3, 4, 2, 3).double()
    nn.init.ones_(subnet.gamma)
    x = pyramid(1, 3)
    before = subnet(x)
    for i in range(3):
        after = subnet([2 * x_j if j == i else x_j for j, x_j in enumerate(x)])
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [abs(i - j) <= 1 for j in range(3)]


def test_features_are_those_of_the_image_its_half_and_its_quarter() -> None:
    detector = observed()
    features = detector.frozen(PARTS)
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "scale0": (6, 24, 8, 12),
        "scale1": (6, 24, 4, 6),
        "scale2": (6, 24, 2, 3),
    }
    small = PARTS.view(6, 3, 32, 2, 48, 2).mean((3, 5))
    torch.testing.assert_close(features["scale1"], detector.backbone(small)["coarse"])


def test_loss_is_the_negative_log_likelihood_a_number() -> None:
    detector = observed()
    with seeded(2):
        for parameter in detector.flow.parameters():
            nn.init.normal_(parameter, std=0.1)
    z, log_det = detector.latent(detector.frozen(PARTS))
    assert float(log_det.detach().abs().min()) > 0.1
    normal = torch.distributions.Normal(0.0, 1.0)
    log_p = sum(normal.log_prob(z_i).sum((1, 2, 3)) for z_i in z) + log_det
    numbers = 24 * (8 * 12 + 4 * 6 + 2 * 3)
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(detector.loss(PARTS), -log_p.mean() / numbers - constant)


def test_loss_of_kept_features_is_the_same() -> None:
    detector = observed()
    assert torch.equal(detector.loss(PARTS), detector.loss(torch.zeros(6, 3, 1, 1), detector.frozen(PARTS)))


def test_scores_are_the_mean_energies() -> None:
    detector = observed(blur_sigma=0.0)
    detector.close()
    scores = detector(PARTS[:2])
    z, _ = detector.latent(detector.frozen(PARTS[:2]))
    total = sum(z_i.square().sum((1, 2, 3)) for z_i in z) / 2 / sum(z_i[0].numel() for z_i in z)
    torch.testing.assert_close(scores.image_score, total.log1p())
    finest = (0.5 * z[0].square().mean(1, keepdim=True)).log1p()
    raised = nn.functional.interpolate(finest, size=(64, 96), mode="bilinear")
    torch.testing.assert_close(scores.anomaly_map, raised, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(50, 70), (33, 64), (100, 47)])
def test_grids_need_not_halve(size: tuple[int, int]) -> None:
    parts = good_parts(2, size)
    detector = CSFlow(FakeBackbone(), blocks=1, width=4)
    detector.observe(parts)
    detector.close()
    assert detector(parts).anomaly_map.shape == (2, 1, *size)


def test_all_of_the_flow_is_trained_with_its_gradient_cut() -> None:
    detector = observed()
    (phase,) = detector.phases()
    assert isinstance(phase, Phase)
    (turn,) = phase.turns
    assert turn.clip == 1.0
    assert {id(p) for p in turn.parameters} == {id(p) for p in detector.parameters() if p.requires_grad}
    for made in detector.flow:
        nn.init.constant_(made.read_first.gamma, 0.1)
        nn.init.constant_(made.read_second.gamma, 0.1)
    turn.loss(PARTS, detector.frozen(PARTS)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in turn.parameters)


def test_one_layer_is_read_the_deepest_one_by_default() -> None:
    assert observed().layers == ("coarse",)
    assert observed(layers=["fine"]).layers == ("fine",)
    with pytest.raises(SettingsError) as error:
        CSFlow(FakeBackbone(), layers=["fine", "coarse"])
    assert str(error.value) == "CS-Flow reads one layer, got ['fine', 'coarse']; give one of them"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clamp": 0.0}, "clamp must be above 0: it is the largest log-scale of a coupling"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        CSFlow(FakeBackbone(), **settings)
    assert str(error.value) == said
