"""Uninformed Students against the paper's formulas written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from andon.errors import SettingsError
from andon.features.patches import join
from andon.models import build
from andon.models.uninformed_students import UninformedStudents, error_and_variance
from andon.training import train
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, (64, 96), seed=1)


def small(**settings: Any) -> UninformedStudents:
    settings = {"width": 4, "students": 3, "steps": 2, "batch_size": 2, "blur_sigma": 0.0, **settings}
    detector = build("uninformed_students", backbone=FakeBackbone(), **settings)
    assert isinstance(detector, UninformedStudents)
    detector.observe(PARTS)
    return detector


def test_error_and_variance_are_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, y = torch.randn(3, 2, 5, 4, 6, generator=generator), torch.randn(2, 5, 4, 6, generator=generator)
    both = error_and_variance(mu, y)
    for b in range(2):
        for i in range(4):
            for j in range(6):
                mean = sum(mu[m, b, :, i, j] for m in range(3)) / 3
                e = (mean - y[b, :, i, j]).norm() ** 2 / 5
                v = (sum(mu[m, b, :, i, j].norm() ** 2 for m in range(3)) / 3 - mean.norm() ** 2) / 5
                torch.testing.assert_close(both[b, :, i, j], torch.stack([e, v]))


@pytest.mark.parametrize("scales", ["joined", "layers"])
def test_the_loss_is_the_sum_of_the_students_mean_squares(scales: str) -> None:
    detector = small(scales=scales)
    features = FakeBackbone()(PARTS)
    groups = [("fine", "coarse")] if scales == "joined" else [("fine",), ("coarse",)]
    expected = torch.zeros(())
    for group, ensemble in zip(groups, detector.ensembles, strict=True):
        y = join(features, group)
        std = y.std((0, 2, 3), correction=0).clamp(min=1e-6)
        std = std.maximum(0.05 * std.mean())
        y = (y - y.mean((0, 2, 3))[:, None, None]) / std[:, None, None]
        assert len(ensemble) == 3
        for student in ensemble:
            expected = expected + ((student(4 * PARTS[:2] - 2) - y[:2]) ** 2).mean()
    torch.testing.assert_close(detector.loss(PARTS[:2]), expected, rtol=1e-4, atol=1e-4)


def test_students_start_apart() -> None:
    first, second, third = (student[0].weight for student in small().ensembles[0])
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_frozen_features_give_the_same_loss() -> None:
    detector = small(scales="layers")
    frozen = {name: tensor.clone() for name, tensor in detector.frozen(PARTS[:2]).items()}
    assert torch.equal(detector.loss(PARTS[:2], frozen), detector.loss(PARTS[:2]))


@pytest.mark.parametrize("normalise_on", ["train", "held_out"])
def test_error_and_variance_are_normalised_on_good_images(normalise_on: str) -> None:
    detector = small(scales="layers", normalise_on=normalise_on)
    assert detector.uses_held_out == (normalise_on == "held_out")
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda *told: None)
    good = PARTS if normalise_on == "train" else PARTS[:3]
    detector.close(() if normalise_on == "train" else PARTS[:3].split(2))
    with torch.no_grad():
        parts, maps = detector.parts(good), detector(good).anomaly_map
    centre, spread = parts.mean((0, 2, 3)), parts.std((0, 2, 3), correction=0)
    expected = ((parts - centre[:, None, None]) / spread[:, None, None]).sum(1, keepdim=True) / 2
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-3)
    assert abs(float(maps.mean())) < 1e-3


def test_closing_again_without_held_out_images_leaves_the_normalisation() -> None:
    detector = small(normalise_on="held_out")
    detector.close(PARTS[:3].split(2))
    before = detector.maps.mean.clone()
    detector.close()
    assert torch.equal(detector.maps.mean, before)


def test_training_moves_every_student() -> None:
    detector = small(normalise_on="held_out")
    before = [parameter.detach().clone() for parameter in detector.ensembles.parameters()]
    train(detector, lambda numbers: PARTS[list(numbers)], len(PARTS), lambda *told: None)
    after = list(detector.ensembles.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_one_student_has_no_variance() -> None:
    detector = small(students=1)
    detector.close()
    with torch.no_grad():
        assert float(detector.parts(PARTS)[:, 1].abs().max()) == 0
        assert torch.isfinite(detector(PARTS).anomaly_map).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": "both"}, "scales must be one of ['layers', 'joined'], got 'both'"),
        ({"normalise_on": "test"}, "normalise_on must be one of ['train', 'held_out'], got 'test'"),
        ({"students": 0}, "students must be a whole number of at least 1, got 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        small(**settings)
    assert str(error.value) == message
