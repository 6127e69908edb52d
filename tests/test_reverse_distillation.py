"""Reverse distillation: loss and map against loops, shapes of any backbone, what learns and what does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from andon.errors import SettingsError
from andon.features.trunk import LayerInfo
from andon.models.base import Phase
from andon.models.reverse_distillation import Embedding, ReverseDistillation, Student, fit, ratio
from andon.training import train
from fakes import FakeBackbone, good_parts

SIZE = (64, 96)


def new(**settings: object) -> ReverseDistillation:
    return ReverseDistillation(FakeBackbone(), **{"blocks": 1, "steps": 5, "batch_size": 4, **settings})  # type: ignore[arg-type]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_the_loss_is_one_minus_the_cosine_of_each_flattened_map() -> None:
    detector, images = new(), good_parts(3, SIZE)
    f = detector.frozen(images)
    for network in (detector.embedding, detector.student):
        network.train(True)
    with torch.no_grad():
        g = detector.imitate(f)
    expected = [
        sum(1 - cosine(f[layer][i].numpy(), g[layer][i].numpy()) for layer in ("fine", "coarse"))
        for i in range(len(images))
    ]
    detector.eval()
    assert float(detector.loss(images).detach()) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_map_is_the_sum_over_layers_of_one_minus_the_cosine() -> None:
    detector, images = new(blur_sigma=0.0, layers=["fine"]), good_parts(2, SIZE)
    detector.observe(images)
    detector.close()
    with torch.no_grad():
        f, answer = detector.frozen(images)["fine"], detector(images)
        g = detector.imitate({"fine": f})["fine"]
    grid = np.array(
        [
            [[1 - cosine(f[b, :, i, j].numpy(), g[b, :, i, j].numpy()) for j in range(24)] for i in range(16)]
            for b in (0, 1)
        ]
    )
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[:, None].float(), size=SIZE, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(answer.anomaly_map, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("rectified", [True, False])
def test_the_student_goes_below_zero_where_its_teacher_may(rectified: bool) -> None:
    found = [LayerInfo(8, 4, rectified), LayerInfo(16, 8, rectified)]
    f = [torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8)]
    with torch.no_grad():
        g = Student(found, 1, 1.0)(Embedding(found, 1, 1.0)(f), f)
    assert all(bool((x < 0).any()) is not rectified for x in g)


def test_kept_features_give_the_same_loss() -> None:
    detector, images = new(), good_parts(4, SIZE)
    assert float(detector.loss(images).detach()) == float(
        detector.loss(images, detector.frozen(images)).detach()
    )


@pytest.mark.parametrize(
    "found",
    [
        [LayerInfo(6, 8)],
        [LayerInfo(6, 4), LayerInfo(8, 16)],
        [LayerInfo(6, 8), LayerInfo(8, 8)],
        [LayerInfo(4, 4), LayerInfo(6, 8), LayerInfo(10, 16)],
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (50, 120)])
def test_the_student_has_the_teachers_shapes(found: list[LayerInfo], size: tuple[int, int]) -> None:
    f = [torch.randn(2, info.channels, *(-(-side // info.stride) for side in size)) for info in found]
    embedding, student = Embedding(found, 2, 0.5).eval(), Student(found, 2, 0.5).eval()
    phi = embedding(f)
    assert phi.shape[1] == 2 * found[-1].channels
    assert phi.shape[2] == -(-f[-1].shape[2] // 2)
    assert [x.shape for x in student(phi, f)] == [x.shape for x in f]


def test_features_below_zero_can_be_met() -> None:
    info = [LayerInfo(8, 8)]
    torch.manual_seed(0)
    f = [torch.randn(4, 8, 8, 8)]
    g = Student(info, 1, 1.0)(Embedding(info, 1, 1.0)(f), f)[0]
    assert float(g.detach().min()) < -0.5


def test_layers_are_taken_from_fine_to_coarse_however_they_are_named() -> None:
    assert new(layers=["coarse", "fine"])._order == ["fine", "coarse"]


def test_only_student_and_embedding_learn_and_the_loss_falls() -> None:
    detector, images = new(steps=20), good_parts(8, SIZE)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    detector.observe(images)
    losses = train(detector, lambda numbers: images[list(numbers)], 8, lambda phase, done, total: None)
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    changed = {
        name for name, tensor in detector.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert not any(name.startswith("backbone.") for name in changed)
    learned = {name for name, _ in detector.named_parameters() if not name.startswith("backbone.")}
    assert learned <= changed
    assert not detector.embedding.training


def test_adam_has_the_papers_betas_and_the_rate_falls_for_the_last_fifth() -> None:
    (phase,) = new().phases()
    assert isinstance(phase, Phase)
    optimiser = phase.turns[0].optimiser(phase.turns[0].parameters)
    assert optimiser.param_groups[0]["betas"] == (0.5, 0.999)
    assert [phase.rate(done) for done in (0.0, 0.79, 0.81)] == [1.0, 1.0, 0.1]


def test_fit_crops_and_repeats() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert fit(x, torch.empty(1, 1, 2, 3)) is x
    assert fit(x, torch.empty(1, 1, 1, 2)).tolist() == [[[[0, 1]]]]
    assert fit(x, torch.empty(1, 1, 3, 2)).tolist() == [[[[0, 1], [3, 4], [3, 4]]]]


def test_refuses_layers_whose_strides_are_not_doubles() -> None:
    assert ratio(LayerInfo(1, 16), LayerInfo(1, 4)) == 4
    with pytest.raises(
        SettingsError, match=r"strides are each other's doubles, got 4 and 12; choose other layers"
    ):
        ratio(LayerInfo(1, 12), LayerInfo(1, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
        ({"width": 1.5}, "width must be a fraction above 0 and up to 1, got 1.5"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"learning_rate": -1}, r"learning_rate must be a number of at least 0.0, got -1"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        new(**settings)
