"""EfficientAD, its networks and the quantiles of its maps, against the paper's formulas written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from andon.errors import DataError, SettingsError
from andon.features.patches import join
from andon.features.pdn import halvings, is_pdn, on_grid, pdn, strided_pdn
from andon.features.running import ChannelMoments, MapQuantiles
from andon.models import build
from andon.models.efficientad import EfficientAD, hardest, other_light
from andon.training import train
from fakes import FakeBackbone, good_parts

PARTS = good_parts(6, (64, 96), seed=1)


def small(**settings: Any) -> EfficientAD:
    settings = {"width": 4, "autoencoder_width": 2, "steps": 2, "penalty": "none", **settings}
    detector = build("efficientad", **{"backbone": FakeBackbone(), **settings})
    assert isinstance(detector, EfficientAD)
    detector.observe(PARTS)
    return detector


def take(numbers: Any) -> torch.Tensor:
    return PARTS[list(numbers)]


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9, 0.999])
def test_the_hardest_errors_are_those_at_or_above_the_quantile(fraction: float) -> None:
    errors = torch.rand(2, 5, 13, 7, generator=torch.Generator().manual_seed(0))
    above = errors[errors >= torch.quantile(errors, fraction)]
    torch.testing.assert_close(hardest(errors, fraction), above.mean())


def test_all_but_the_hardest_errors_take_no_gradient() -> None:
    errors = torch.arange(100.0, requires_grad=True)
    hardest(errors, 0.9).backward()
    assert errors.grad is not None
    assert errors.grad.nonzero()[:, 0].tolist() == list(range(90, 100))


def test_the_teacher_is_normalised_by_its_mean_and_deviation_over_all_images() -> None:
    detector = small()
    backbone = FakeBackbone()
    features = join(backbone(PARTS), ("fine", "coarse")).double()
    torch.testing.assert_close(detector.features.mean, features.mean((0, 2, 3)))
    std = features.std((0, 2, 3), correction=0)
    floor = 0.05 * std.clamp(min=1e-6).mean()
    torch.testing.assert_close(detector.features.deviation(), std.clamp(min=1e-6).maximum(floor))


@pytest.mark.parametrize("penalty", ["none", "drawn"])
def test_the_loss_is_the_papers_four_terms(penalty: str) -> None:
    detector = small(hard_fraction=0.98, penalty=penalty)
    detector.autoencoder.dropout.p = 0.0
    torch.manual_seed(5)
    loss = detector.loss(PARTS[:3])
    torch.manual_seed(5)
    lit, others = other_light(PARTS[:3]), detector.others(PARTS[:3])
    assert others.shape == (int(penalty == "drawn"), 3, 64, 96)
    mean, std = (x.float()[:, None, None] for x in (detector.features.mean, detector.features.deviation()))
    t, t_lit = ((detector.taught(x) - mean) / std for x in (PARTS[:3], lit))
    s, s_lit = (detector.student(4 * x - 2) for x in (PARTS[:3], lit))
    a = detector.autoencoder(lit, (t.shape[2], t.shape[3]))
    d = (t - s[:, :40]) ** 2
    expected = d[d >= torch.quantile(d, 0.98)].mean() + ((t_lit - a) ** 2).mean()
    expected = expected + ((a - s_lit[:, 40:]) ** 2).mean()
    if penalty == "drawn":
        assert 0 <= float(others.min()) < float(others.max()) <= 1
        expected = expected + (detector.student(4 * others - 2)[:, :40] ** 2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_frozen_features_give_the_same_loss() -> None:
    detector = small()
    frozen = {name: tensor.clone() for name, tensor in detector.frozen(PARTS[:3]).items()}
    torch.manual_seed(1)
    given = detector.loss(PARTS[:3], frozen)
    torch.manual_seed(1)
    assert torch.equal(given, detector.loss(PARTS[:3]))


def test_training_moves_student_and_autoencoder_but_not_the_teacher() -> None:
    detector = small()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    train(detector, take, len(PARTS), lambda phase, done, total: None)
    after = detector.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"student", "autoencoder", "maps"}


def test_other_light_changes_brightness_contrast_or_saturation_by_a_fifth_at_most() -> None:
    torch.manual_seed(0)
    images = 0.3 + 0.3 * torch.rand(40, 3, 8, 8)
    lit = other_light(images)
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    bases = [
        torch.zeros_like(images),
        grey.mean((2, 3), keepdim=True).expand_as(images),
        grey.expand_as(images),
    ]
    found = set()
    for i in range(len(images)):
        for kind, base in enumerate(bases):
            ratio = (lit[i] - base[i]) / (images[i] - base[i])
            if (ratio - ratio.median()).abs().median() < 1e-4:
                assert 0.8 - 1e-4 <= float(ratio.median()) <= 1.2 + 1e-4
                found.add(kind)
    assert found == {0, 1, 2}


def test_ranges_are_quantiles_of_the_training_images_maps() -> None:
    detector = small()
    train(detector, take, len(PARTS), lambda phase, done, total: None)
    detector.close()
    with torch.no_grad():
        maps = detector.parts(PARTS).transpose(0, 1).flatten(1)
    expected = torch.quantile(maps, torch.tensor([0.9, 0.995]), dim=1).T
    torch.testing.assert_close(detector.ranges, expected, rtol=0.01, atol=0)


def test_ranges_of_held_out_images_if_asked_for() -> None:
    detector = small(normalise_on="held_out")
    assert detector.uses_held_out
    assert not small().uses_held_out
    assert len(detector.phases()) == 1
    detector.close(PARTS[:4].split(2))
    with torch.no_grad():
        maps = detector.parts(PARTS[:4]).transpose(0, 1).flatten(1)
    expected = torch.quantile(maps, torch.tensor([0.9, 0.995]), dim=1).T
    torch.testing.assert_close(detector.ranges, expected, rtol=0.01, atol=0)


def test_the_map_is_the_mean_of_both_normalised_maps() -> None:
    detector = small(normalise_on="held_out")
    detector.close(PARTS[:4].split(2))
    with torch.no_grad():
        parts = detector.parts(PARTS[:1])
        answer = detector(PARTS[:1])
    (a_st, b_st), (a_ae, b_ae) = detector.ranges.tolist()
    grid = 0.5 * 0.1 * ((parts[0, 0] - a_st) / (b_st - a_st) + (parts[0, 1] - a_ae) / (b_ae - a_ae))
    expected = torch.nn.functional.interpolate(grid[None, None], size=(64, 96), mode="bilinear")
    torch.testing.assert_close(answer.anomaly_map, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(answer.image_score, answer.anomaly_map.flatten(1).amax(1))


def test_networks_have_the_papers_shapes() -> None:
    """At 256 pixels, an output every 4; PDN-S has convolutions of 4, 4, 3 and 4 pixels and 128, 256, 256, 384 channels."""
    sizes = {variant: sum(p.numel() for p in pdn(variant, 384).parameters()) for variant in ("s", "m")}
    assert (
        sizes["s"] == 3 * 128 * 16 + 128 * 256 * 16 + 256 * 256 * 9 + 256 * 384 * 16 + 128 + 256 + 256 + 384
    )
    assert sizes["m"] > 2 * sizes["s"]
    for variant in ("s", "m"):
        assert pdn(variant, 6, 4)(torch.zeros(1, 3, 256, 256)).shape == (1, 6, 64, 64)


@pytest.mark.parametrize(("variant", "seen"), [("s", 33), ("m", 33)])
def test_a_pdn_sees_a_patch_of_33_pixels(variant: str, seen: int) -> None:
    net = pdn(variant, 2, 2).double()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    images = torch.ones(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    net(images)[0, 0, 16, 16].backward()
    assert images.grad is not None
    touched = images.grad[0, 0].nonzero()
    assert (touched.amax(0) - touched.amin(0) + 1).tolist() == [seen, seen]


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_a_strided_pdn_is_on_the_teachers_grid(stride: int) -> None:
    net = strided_pdn("s", 5, stride, 2)
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64 // stride, 96 // stride)
    assert halvings(stride) == int(np.log2(stride))


def test_a_file_of_pdn_weights_is_the_teacher(tmp_path: Path) -> None:
    teacher = pdn("s", 6, 4)
    torch.save(teacher.state_dict(), tmp_path / "teacher_small.pth")
    assert is_pdn(teacher.state_dict())
    detector = small(backbone=str(tmp_path / "teacher_small.pth"), layers=None)
    assert detector.settings()["backbone"] == str(tmp_path / "teacher_small.pth")
    assert detector.layers == ("pdn",)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = teacher((PARTS - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(detector.taught(PARTS), expected)
    assert len(detector.autoencoder.raises) == 6
    assert detector.student[0].weight.shape == (4, 3, 4, 4)
    assert detector.loss(PARTS[:1]).shape == ()
    with pytest.raises(SettingsError, match=r"^a PDN has one layer, \['pdn'\], got \['layer2'\]$"):
        small(backbone=str(tmp_path / "teacher_small.pth"), layers=["layer2"])


def test_a_medium_teacher_is_recognised(tmp_path: Path) -> None:
    torch.save(pdn("m", 6, 4).state_dict(), tmp_path / "teacher_medium.pth")
    detector = small(backbone=tmp_path / "teacher_medium.pth", variant="m", width=3)
    assert detector.backbone.layers["pdn"].channels == 6
    assert detector.taught(PARTS).shape == (6, 6, 16, 24)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "teacher.pth").write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be read as a file of weights"):
        small(backbone=tmp_path / "teacher.pth")


def test_penalty_pictures_from_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (200, 150), (255, 0, 0)).save(tmp_path / "red.png")
    detector = small(penalty=tmp_path)
    assert detector.settings()["penalty"] == str(tmp_path)
    torch.manual_seed(2)
    first = detector.others(PARTS)
    torch.manual_seed(2)
    assert torch.equal(detector.others(PARTS), first)
    assert first.shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "l"}, "variant must be one of ['s', 'm'], got 'l'"),
        ({"normalise_on": "test"}, "normalise_on must be one of ['train', 'held_out'], got 'test'"),
        ({"penalty": "nowhere/at/all"}, "penalty must be 'none', 'drawn' or a folder of pictures, got 'nowhere/at/all'"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"hard_fraction": 1.5}, "hard_fraction must be a share from 0 to 1, got 1.5"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        small(**settings)
    assert str(error.value) == message


def test_map_quantiles_are_good_to_one_percent() -> None:
    values = torch.rand(5, 2, 30, 40, generator=torch.Generator().manual_seed(0)) ** 3 * torch.tensor([1.0, 50.0])[:, None, None]  # fmt: skip
    quantiles = MapQuantiles(2)
    quantiles.add(values[:2], before=0)
    quantiles.add(values[2:], before=2)
    for q in (0.1, 0.5, 0.9, 0.995):
        expected = torch.quantile(values.transpose(0, 1).flatten(1), q, dim=1).double()
        torch.testing.assert_close(quantiles.quantile(q), expected, rtol=0.01, atol=0)


def test_map_quantiles_of_values_out_of_range_are_finite() -> None:
    quantiles = MapQuantiles(1)
    assert quantiles.quantile(0.9).tolist() == [1.0]
    quantiles.add(torch.tensor([[[[0.0, 1e-20, 1e30]]]]), before=0)
    assert torch.isfinite(quantiles.quantile(0.9)).all()


def test_quantiles_of_two_sites_merge_by_their_weighted_mean() -> None:
    values = torch.rand(7, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    one, two, whole = MapQuantiles(1), MapQuantiles(1), MapQuantiles(1)
    one.add(values[:5], 0)
    two.add(values[5:], 0)
    whole.add(values, 0)
    torch.testing.assert_close((5 * one.histogram + 2 * two.histogram) / 7, whole.histogram)


def test_channel_moments_are_those_of_all_images_in_any_batches() -> None:
    values = torch.randn(7, 3, 5, 4, generator=torch.Generator().manual_seed(1)) + 2
    moments, before = ChannelMoments(3, floor=0.0), 0
    for part in values.split((1, 4, 2)):
        moments.add(part, before)
        before += len(part)
    torch.testing.assert_close(moments.mean, values.double().mean((0, 2, 3)))
    torch.testing.assert_close(moments.deviation(), values.double().std((0, 2, 3), correction=0))
    ready = moments.standardise(values)
    torch.testing.assert_close(ready.std((0, 2, 3), correction=0), torch.ones(3))


def test_on_grid_leaves_what_is_there_already() -> None:
    x = torch.rand(1, 2, 5, 6)
    assert on_grid(x, (5, 6)) is x
    assert on_grid(x, (10, 3)).shape == (1, 2, 10, 3)
