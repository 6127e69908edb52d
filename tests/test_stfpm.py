"""STFPM and its student, against the paper's formulas written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from andon.errors import SettingsError
from andon.features.pyramid import PyramidStudent, on_grids
from andon.features.trunk import LayerInfo
from andon.models import build
from andon.models.stfpm import STFPM, apart
from andon.training import train
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, (64, 96), seed=1)


def small(**settings: Any) -> STFPM:
    settings = {"width": 4, "blocks": 1, "steps": 2, "batch_size": 2, **settings}
    detector = build("stfpm", backbone=FakeBackbone(), **settings)
    assert isinstance(detector, STFPM)
    detector.observe(PARTS)
    return detector


def half_squared_distance(t: Tensor, s: Tensor) -> Tensor:
    """Eq. 1 and 2, position by position, (h, w), from (C, h, w)."""
    rows = [
        [
            0.5 * ((t[:, i, j] / t[:, i, j].norm() - s[:, i, j] / s[:, i, j].norm()) ** 2).sum()
            for j in range(t.shape[2])
        ]
        for i in range(t.shape[1])
    ]
    return torch.tensor(rows)


def test_distance_is_the_papers_and_one_less_the_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    t, s = torch.randn(1, 5, 3, 4, generator=generator), torch.randn(1, 5, 3, 4, generator=generator)
    torch.testing.assert_close(apart(t, s)[0, 0], half_squared_distance(t[0], s[0]))
    torch.testing.assert_close(apart(t, s)[:, 0], 1 - torch.cosine_similarity(t, s, dim=1))
    assert apart(t, 3 * t).abs().max() < 1e-6  # lengths do not matter
    assert torch.isfinite(apart(torch.zeros_like(t), s)).all()


def test_the_loss_is_the_sum_over_layers_of_the_mean_over_positions() -> None:
    detector = small()
    teacher = detector.backbone(PARTS[:2])
    detector.student.train(True)  # the loss sees the batch's own statistics
    student = detector.student(PARTS[:2])
    detector.student.train(False)
    expected = sum(
        (1 - torch.cosine_similarity(teacher[name], student[name], dim=1)).mean() for name in teacher
    )
    torch.testing.assert_close(detector.loss(PARTS[:2]), expected)


def test_frozen_features_give_the_same_loss() -> None:
    detector, again = small(), small()
    frozen = {name: tensor.clone() for name, tensor in detector.frozen(PARTS[:2]).items()}
    assert set(frozen) == {"fine", "coarse"}
    assert torch.equal(detector.loss(PARTS[:2], frozen), again.loss(PARTS[:2]))


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_the_map_combines_the_layers_maps_brought_up(combine: str) -> None:
    detector = small(combine=combine)
    detector.close()
    with torch.no_grad():
        teacher, student = detector.backbone(PARTS[:2]), detector.student(PARTS[:2])
        maps = [
            torch.nn.functional.interpolate(
                apart(teacher[name], student[name]), size=(64, 96), mode="bilinear"
            )
            for name in ("fine", "coarse")
        ]
        answer = detector(PARTS[:2])
    expected = maps[0] * maps[1] if combine == "product" else maps[0] + maps[1]
    torch.testing.assert_close(answer.anomaly_map, expected)
    assert torch.equal(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


def test_training_moves_the_student_alone() -> None:
    detector = small()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    losses = train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda *told: None)
    after = detector.state_dict()
    assert {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])} == {
        "student"
    }
    assert len(losses) == 2
    assert not detector.student.training


def test_optimiser_is_the_papers() -> None:
    turn = small().phases()[0].turns[0]
    group = turn.optimiser(turn.parameters).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.9, 1e-4)


@pytest.mark.parametrize(
    "strides", [(4, 8), (8, 16), (2, 4, 8, 16), (8, 8), (16, 16, 16), (14, 14), (1, 2), (4, 32)]
)
def test_a_student_gives_each_layers_channels_on_its_grid(strides: tuple[int, ...]) -> None:
    layers = {f"layer{n}": LayerInfo(5 + n, stride) for n, stride in enumerate(strides)}
    student = PyramidStudent(layers, width=2, blocks=1).eval()
    images = torch.rand(1, 3, 70, 112)
    like = {name: torch.zeros(1, info.channels, -(-70 // info.stride), -(-112 // info.stride)) for name, info in layers.items()}  # fmt: skip
    features = student(images)
    for name in layers:
        assert on_grids(features, like)[name].shape == like[name].shape
        if layers[name].stride != 14:
            assert features[name].shape == like[name].shape


def test_one_layer_of_several_is_enough() -> None:
    detector = small(layers=["coarse"])
    assert detector.student.names == ("coarse",)
    assert detector.loss(PARTS[:2]).shape == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "mean"}, "combine must be one of ['product', 'sum'], got 'mean'"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"blocks": -1}, "blocks must be a whole number of at least 0, got -1"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0.0, got nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        small(**settings)
    assert str(error.value) == message
