"""GCAD: its loss, its phases and its map, against the paper's equations written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.patches import join, to_map
from andon.models import build
from andon.models.base import Look, Phase
from andon.models.gcad import GCAD, GlobalEncoder, Regressor
from andon.training import train
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, (64, 96), seed=1)


def small(**settings: Any) -> GCAD:
    settings = {
        "bottleneck": 3,
        "global_channels": 4,
        "width": 4,
        "levels": 2,
        "steps": 10,
        "batch_size": 2,
        **settings,
    }
    detector = build("gcad", backbone=FakeBackbone(), **settings)
    assert isinstance(detector, GCAD)
    detector.observe(PARTS[:2])
    detector.observe(PARTS[2:])
    return detector


@torch.no_grad()
def networks(detector: GCAD, images: Tensor) -> dict[str, Tensor]:
    """E_loc, R_loc, E_glo, R_glo, U(E_glo) on the finest grid, 16 x 24, as they are in training."""
    detector.local_regressor.train(True)
    detector.global_regressor.train(True)
    e_glo = torch.nn.functional.interpolate(detector.global_encoder(images), size=(16, 24), mode="bilinear")
    answers = {
        "E_loc": detector.local(detector.backbone(images)),
        "R_loc": detector.local_regressor(images),
        "E_glo": e_glo,
        "R_glo": detector.global_regressor(images),
        "U": detector.upsampling(e_glo),
    }
    detector.local_regressor.train(False)
    detector.global_regressor.train(False)
    return answers


def test_loss_is_eq_5() -> None:
    detector = small()
    net = networks(detector, PARTS[:3])
    d_loc, d_glo = 16 + 24, 4
    at_each = (
        (net["E_loc"] - net["U"]).square().sum(1) / d_loc
        + (net["E_glo"] - net["R_glo"]).square().sum(1) / d_glo
        + (net["E_loc"] - net["R_loc"]).square().sum(1) / d_loc
    )
    torch.testing.assert_close(detector.loss(PARTS[:3]), at_each.mean())


def test_kept_features_give_the_same_loss() -> None:
    detector = small()
    kept = detector.frozen(PARTS[:3])
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == {
        "fine": (3, 16, 16, 24),
        "coarse": (3, 24, 8, 12),
    }
    assert torch.equal(detector.loss(PARTS[:3], kept), detector.loss(PARTS[:3]))


def test_descriptors_have_mean_0_and_deviation_1_on_the_training_images() -> None:
    detector = small()
    raw = join(detector.backbone(PARTS), detector.layers)
    deviation = raw.double().std((0, 2, 3), correction=0)
    local = detector.local(detector.frozen(PARTS)).double()
    lively = deviation > 0.3 * deviation.mean()
    assert 5 < lively.sum() < len(lively)
    torch.testing.assert_close(local.mean((0, 2, 3)), torch.zeros(40).double(), atol=1e-5, rtol=0)
    expected = torch.where(lively, 1.0, deviation / (0.3 * deviation.mean()))  # the dull are not blown up
    torch.testing.assert_close(local.std((0, 2, 3), correction=0), expected, atol=1e-4, rtol=1e-4)


def test_the_local_networks_learn_first_and_then_all() -> None:
    detector = small()
    local, every, look = detector.phases()
    assert isinstance(local, Phase)
    assert isinstance(every, Phase)
    assert isinstance(look, Look)
    assert (local.steps, every.steps) == (1, 9)
    named = dict(detector.named_parameters())
    own = {name for name, parameter in named.items() if parameter.requires_grad}
    early = {name for name in own if any(named[name] is p for p in local.turns[0].parameters)}
    assert early == {name for name in own if not name.startswith("global_regressor.")}
    assert own == {name for name in own if any(named[name] is p for p in every.turns[0].parameters)}
    before = {name: parameter.clone() for name, parameter in named.items()}
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda phase, done, total: None)
    moved = {name for name in named if not torch.equal(before[name], dict(detector.named_parameters())[name])}
    assert moved == own


def test_the_early_loss_lacks_the_second_term() -> None:
    detector = small()
    net = networks(detector, PARTS[:2])
    phase = detector.phases()[0]
    assert isinstance(phase, Phase)
    missing = (net["E_glo"] - net["R_glo"]).square().mean()
    torch.testing.assert_close(
        phase.turns[0].loss(PARTS[:2], {**detector.frozen(PARTS[:2])}) + missing, detector.loss(PARTS[:2])
    )


def fitted(held_out: Tensor | None = None) -> GCAD:
    detector = small()
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda phase, done, total: None)
    detector.close(() if held_out is None else held_out.split(4))
    return detector


def test_mu_and_sigma_are_those_of_held_out_images_else_of_the_training_images() -> None:
    held_out = good_parts(5, (64, 96), seed=2)
    for detector, images in ((fitted(held_out), held_out), (fitted(), PARTS)):
        with torch.no_grad():
            branches = detector.branches(images).double()
        torch.testing.assert_close(detector.maps.mean, branches.mean((0, 2, 3)), rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(
            detector.maps.deviation(), branches.std((0, 2, 3), correction=0), rtol=1e-4, atol=1e-8
        )
    kept = detector.maps.mean.clone()
    detector.close()  # nothing held out: what is there stays
    assert torch.equal(detector.maps.mean, kept)


def test_the_map_is_the_sum_of_both_branches_in_deviations() -> None:
    detector = fitted()
    with torch.no_grad():
        images = good_parts(2, (64, 96), seed=3)
        e_loc, size = detector.local(detector.frozen(images)), (16, 24)
        e_glo = torch.nn.functional.interpolate(detector.global_encoder(images), size=size, mode="bilinear")
        a_loc = (e_loc - detector.local_regressor(images)).square().sum(1).sqrt()
        a_glo = (e_glo - detector.global_regressor(images)).square().sum(1).sqrt()
        (mu_loc, mu_glo), (sigma_loc, sigma_glo) = detector.maps.mean, detector.maps.deviation()
        a = (a_loc - mu_loc) / sigma_loc + (a_glo - mu_glo) / sigma_glo
        expected = to_map(a[:, None].float(), (64, 96), detector.blur_sigma)
        torch.testing.assert_close(detector(images).anomaly_map, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            detector(images).image_score, detector(images).anomaly_map.flatten(1).amax(1)
        )


def test_the_global_encoder_answers_through_g_numbers() -> None:
    """However the image changes, a little, its answers lie in g dimensions: the rank of the Jacobian."""
    torch.manual_seed(0)
    encoder = GlobalEncoder(4, bottleneck=3, outputs=2).double()
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: encoder(x)[0, :, ::8, ::8].flatten(), image)
    assert torch.linalg.matrix_rank(jacobian.reshape(32, -1), rtol=1e-9) == 3


@pytest.mark.parametrize("size", [(64, 96), (53, 71), (256, 40)])
def test_networks_take_images_of_any_size(size: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *size)
    assert GlobalEncoder(2, 3, 5).eval()(images).shape == (1, 5, 32, 32)
    for stride in (1, 4, 8):
        answer = Regressor(4, levels=2, stride=stride, outputs=5).eval()(images)
        assert answer.shape == (1, 5, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(
    "setting", ["bottleneck", "global_channels", "width", "levels", "steps", "batch_size"]
)
def test_refuses_settings_that_make_no_sense(setting: str) -> None:
    with pytest.raises(SettingsError, match=f"^{setting} must be a whole number of at least 1, got 0$"):
        build("gcad", backbone=FakeBackbone(), **{setting: 0})
