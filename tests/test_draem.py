"""DRAEM: what is planted, how the losses are formed, and the blocks under them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from andon.errors import DataError, SettingsError
from andon.features.planting import plant, random_masks, turn
from andon.features.similarity import ssim
from andon.features.textures import OPERATIONS, TextureSource, disturbed
from andon.features.unet import UNet, expect_nothing, falling, focal_loss, smooth
from andon.models import build
from andon.models.draem import DRAEM
from andon.models.trained import seeded
from fakes import good_parts

SMALL = {"width": 2, "segment_width": 2, "levels": 1, "steps": 4}


def small(**settings: object) -> DRAEM:
    return DRAEM(**{**SMALL, **settings})  # type: ignore[arg-type]


# What is planted


def test_the_pixels_outside_the_mask_stay_and_half_of_the_images_are_spoiled() -> None:
    images = good_parts(40, (64, 96))
    with seeded(1):
        spoiled, masks = plant(images, TextureSource("drawn"))
    assert masks.shape == (40, 1, 64, 96)
    assert masks.dtype == torch.bool
    changed = (spoiled != images).any(1, keepdim=True)
    assert not (changed & ~masks).any()
    assert (changed & masks).sum() > 0.9 * masks.sum()
    assert 8 <= masks.flatten(1).any(1).sum() <= 32
    assert 0 <= float(spoiled.min()) <= float(spoiled.max()) <= 1


def test_a_colour_shows_through_with_one_opacity() -> None:
    """Without textures, I_a = (1 - beta) I + beta A with A one colour: then I_a - (1 - beta) I is the same everywhere."""
    images = good_parts(20, (48, 64))
    with seeded(0):
        spoiled, masks = plant(images, None)
    number = int(masks.flatten(1).sum(1).argmax())
    inside = masks[number, 0]
    before, after = images[number][:, inside], spoiled[number][:, inside]  # (3, N)
    one_less_beta = (
        (after - after.mean(1, keepdim=True)) * (before - before.mean(1, keepdim=True))
    ).sum() / (before - before.mean(1, keepdim=True)).square().sum()
    assert 0 <= one_less_beta <= 0.9 + 1e-4
    left = after - one_less_beta * before
    assert float(left.std(1).max()) < 1e-3


def test_planting_follows_the_global_generator() -> None:
    images = good_parts(4, (48, 64))
    source = TextureSource("drawn")
    answers = []
    for seed in (3, 3, 4):
        with seeded(seed):
            answers.append(plant(images, source)[0])
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_no_share_gives_no_mask() -> None:
    rng = np.random.default_rng(0)
    assert not random_masks(rng, good_parts(5, (32, 48)), 0.0).any()


def test_textures_come_from_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (120, 100), (200, 10, 30)).save(tmp_path / "red.png")
    texture = TextureSource(tmp_path).draw(np.random.default_rng(0), (40, 64))
    assert texture.shape == (40, 64, 3)
    assert (texture == (200, 10, 30)).all()


@pytest.mark.parametrize("size", [(40, 64), (64, 40)])
def test_drawn_textures_are_of_any_size_and_not_blank(size: tuple[int, int]) -> None:
    textures = [TextureSource("drawn").draw(np.random.default_rng(seed), size) for seed in range(5)]
    assert all(texture.shape == (*size, 3) and texture.dtype == np.uint8 for texture in textures)
    assert all(texture.std() > 0 for texture in textures)


def test_every_operation_keeps_the_form_and_three_change_the_picture() -> None:
    rng = np.random.default_rng(0)
    picture = TextureSource("drawn").draw(rng, (32, 48))
    assert len(OPERATIONS) == 10
    for operation in OPERATIONS:
        after = np.asarray(operation(rng, Image.fromarray(picture)))
        assert after.shape == picture.shape
        assert after.dtype == np.uint8
    assert sum((disturbed(rng, picture) != picture).any() for _ in range(10)) >= 9


def test_textures_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r'^textures must be "drawn" or a folder of pictures, got .*absent'
    ):
        small(textures=tmp_path / "absent")
    with pytest.raises(DataError, match="expected images"):
        small(textures=tmp_path)


def test_turning_by_no_degrees_or_none_of_them_changes_nothing() -> None:
    images = good_parts(3, (40, 64))
    assert turn(images, 0.0, 1.0) is images
    torch.testing.assert_close(turn(images, 90.0, 0.0), images, rtol=0, atol=1e-5)


def test_turning_keeps_shapes_round_whatever_the_sides() -> None:
    """A disc in the middle of a wide image stays where it is, whatever the angle."""
    rows, columns = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(96) - 47.5, indexing="ij")
    disc = ((rows**2 + columns**2).sqrt() < 15).float().expand(8, 3, -1, -1)
    with seeded(0):
        turned = turn(disc, 90.0, 1.0)
    assert float((turned - disc).abs().mean()) < 0.01
    line = (rows.abs() < 4).float().expand(8, 3, -1, -1)
    with seeded(0):
        assert float((turn(line, 90.0, 1.0) - line).abs().mean()) > 0.05


# The loss


def test_focal_loss_is_the_formula() -> None:
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    mask = torch.tensor([[[[True, True], [False, False]]]])
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0)] + [1 - 1 / (1 + math.exp(-x)) for x in (0.5, -3.0)]
    by_hand = sum(-((1 - q) ** 2) * math.log(q) for q in p) / 4
    assert float(focal_loss(logits, mask)) == pytest.approx(by_hand, rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, mask = torch.randn(2, 1, 5, 6), torch.rand(2, 1, 5, 6) > 0.5
    expected = nn.functional.binary_cross_entropy_with_logits(logits, mask.float())
    torch.testing.assert_close(focal_loss(logits, mask, gamma=0.0), expected)


def test_focal_loss_is_finite_where_it_is_sure() -> None:
    logits = torch.full((1, 1, 2, 2), 200.0, requires_grad=True)
    loss = focal_loss(logits, torch.zeros(1, 1, 2, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_loss_is_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, images = small(), good_parts(4, (32, 48))
    mask = torch.zeros(4, 1, 32, 48, dtype=torch.bool)
    mask[:, :, 4:12, 8:20] = True
    spoiled = torch.where(mask, 1 - images, images)
    monkeypatch.setattr("andon.models.draem.plant", lambda good, source: (spoiled, mask))
    detector.repaint.train(), detector.compare.train()
    painted = detector.repaint(spoiled - 0.5) + 0.5
    logits = detector.compare(torch.cat([painted, spoiled], 1) - 0.5)
    expected = (
        (painted - images).square().mean() + (1 - ssim(painted, images).mean()) + focal_loss(logits, mask)
    )
    torch.testing.assert_close(detector.eval().loss(images), expected)


def test_both_networks_learn() -> None:
    detector = small()
    with seeded(0):
        detector.loss(good_parts(4, (32, 48))).backward()
    for network in (detector.repaint, detector.compare):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_rate_falls_twice() -> None:
    assert [falling(done) for done in (0.0, 0.79, 0.8, 0.89, 0.9, 0.99)] == [1.0, 1.0, 0.2, 0.2, 0.04, 0.04]


# The networks


def outputs(size: tuple[int, int], **settings: object) -> Tensor:
    net = UNet(3, 2, [4, 6, 8], **{"skips": True, **settings})  # type: ignore[arg-type]
    answer: Tensor = net.eval()(torch.rand(2, 3, *size))
    return answer


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("size", [(32, 48), (37, 51), (4, 4)])
def test_a_unet_answers_at_the_size_of_any_image(size: tuple[int, int], skips: bool) -> None:
    assert outputs(size, skips=skips).shape == (2, 2, *size)


def test_a_network_that_expects_nothing_gives_one_per_cent() -> None:
    net = UNet(1, 1, [2], skips=True)
    expect_nothing(net)
    assert float(net.out.bias.detach().sigmoid()) == pytest.approx(0.01)


def test_a_map_is_smoothed_by_the_pixels_that_exist() -> None:
    anomaly_map = torch.rand(2, 1, 20, 30)
    means = [
        anomaly_map[0, 0, max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3].mean()
        for r in range(20)
        for c in range(30)
    ]
    torch.testing.assert_close(smooth(anomaly_map, 5)[0].flatten(), torch.stack(means))
    assert torch.equal(smooth(anomaly_map, 1), anomaly_map)


# Settings


def test_images_too_small_for_the_levels_are_refused() -> None:
    detector = small(levels=5)
    with pytest.raises(
        SettingsError, match=r"^the networks need images of at least 32 x 32 pixels, got 24 x 40\."
    ):
        detector.observe(torch.rand(1, 3, 24, 40))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("width", 0, "width must be a whole number of at least 1, got 0"),
        ("levels", 0, "levels must be a whole number of at least 1, got 0"),
        ("smoothing", 0, "smoothing must be a whole number of at least 1, got 0"),
        ("rotation", -1.0, "rotation must be a number of at least 0.0, got -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, value: object, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        build("draem", **{setting: value})
    assert str(error.value) == said
