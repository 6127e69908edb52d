"""DSR: the codebooks, the anomalies made of codes, and the three phases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from andon.errors import SettingsError
from andon.features.unet import focal_loss
from andon.features.vqvae import DECAY, Codebook, QuantisedAutoencoder
from andon.models import dsr
from andon.models.base import Phase
from andon.models.dsr import DSR, on_grid, random_codes
from andon.models.trained import seeded
from andon.training import train
from fakes import good_parts

SMALL = {
    "width": 4,
    "dimensions": 3,
    "codes": 20,
    "residuals": 1,
    "segment_width": 2,
    "levels": 1,
    "steps": 5,
}


def small(**settings: object) -> DSR:
    with seeded(0):
        return DSR(**{**SMALL, **settings})  # type: ignore[arg-type]


def book(count: int = 20, dimensions: int = 3) -> Codebook:
    made = Codebook(count, dimensions)
    made.codes = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(0))
    return made


# The codebook


def test_every_feature_becomes_its_nearest_code() -> None:
    made, z = book(), torch.randn(2, 3, 4, 5)
    q = made(z)
    for image in range(2):
        for row in range(4):
            for column in range(5):
                feature = z[image, :, row, column]
                nearest = min(made.codes, key=lambda code: float((code - feature).square().sum()))
                assert torch.equal(q[image, :, row, column], nearest)


def test_gradients_pass_straight_through() -> None:
    made, z = book(), torch.randn(1, 3, 2, 2, requires_grad=True)
    weight = torch.randn(1, 3, 2, 2)
    (made(z) * weight).sum().backward()
    assert torch.equal(z.grad, weight)  # type: ignore[arg-type]


def test_codes_become_the_running_means_of_their_features() -> None:
    made, z = book(2, 1), torch.tensor([1.0, 1.2, 9.0, 9.5]).view(1, 1, 2, 2)
    made.codes = torch.tensor([[0.0], [10.0]])
    made.counts, made.sums = torch.tensor([4.0, 4.0]), torch.tensor([[0.0], [40.0]])
    made.follow(z)
    counts = DECAY * 4 + (1 - DECAY) * 2
    sums = [(1 - DECAY) * 2.2, DECAY * 40 + (1 - DECAY) * 18.5]
    torch.testing.assert_close(made.codes[:, 0], torch.tensor(sums) / counts)


def test_codes_that_nothing_is_near_to_are_put_onto_features() -> None:
    made, z = book(), torch.full((1, 3, 4, 4), 50.0) + torch.randn(1, 3, 4, 4)
    made.follow(z)  # none has been used yet
    features = z.permute(0, 2, 3, 1).reshape(-1, 3)
    assert (
        sum(bool((features == code).all(1).any()) for code in made.codes) >= 15
    )  # others are means of several
    assert float(made.codes.min()) > 40


def test_an_image_of_any_size_comes_back_at_its_size() -> None:
    net = QuantisedAutoencoder(4, 3, 20, 1).eval()
    for size in ((32, 48), (35, 50)):
        images = torch.rand(2, 3, *size)
        q_lo, q_hi = net.quantised(images)
        assert q_hi.shape == (2, 3, size[0] // 4, size[1] // 4)
        assert q_lo.shape == (2, 3, size[0] // 8, size[1] // 8)
        assert net.picture(q_lo, q_hi, images).shape == images.shape


# Anomalies of codes


def test_random_codes_are_of_the_ranks_asked_for() -> None:
    made, z = book(100), torch.randn(4, 3, 6, 7)
    where = torch.rand(4, 1, 6, 7) > 0.5
    with seeded(1):
        found = random_codes(made, z, where)
    assert not found[~where.expand_as(found)].any()
    with seeded(1):
        strength = 0.2 + 0.8 * torch.rand(4)
    for image, _, row, column in where.nonzero().tolist():
        apart = (made.codes - z[image, :, row, column]).square().sum(1)
        code = (made.codes == found[image, :, row, column]).all(1).nonzero()
        rank = int((apart < apart[code[0, 0]]).sum())
        assert 5 <= rank < strength[image] * 100


def test_a_place_of_the_grid_is_spoiled_where_any_of_its_pixels_is() -> None:
    mask = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    mask[0, 0, 5, 17] = True
    assert on_grid(mask, torch.zeros(1, 3, 4, 6)).nonzero().tolist() == [[0, 0, 1, 4]]


def test_codes_change_inside_the_mask_alone_and_the_truth_says_where() -> None:
    detector, images = small(), good_parts(12, (64, 96))
    mask = torch.zeros(12, 1, 64, 96, dtype=torch.bool)
    mask[:, :, 16:32, 40:64] = True
    with seeded(2):
        q_lo, q_hi, a_lo, a_hi, truth = detector._anomalous_codes(images, mask)
    on_lo = (a_lo != q_lo).any(1).flatten(1).any(1)
    on_hi = (a_hi != q_hi)[:, :, 4:8, 10:16].any(1).flatten(1).any(1)
    assert (on_lo | on_hi).all()
    assert on_lo.any()
    assert (~on_lo).any()
    assert (~on_hi).any()
    outside = ~on_grid(mask, a_lo).expand_as(a_lo)
    assert torch.equal(a_lo[outside], q_lo[outside])
    assert torch.equal(truth > 0, mask)  # the mask lies on both grids


def test_without_a_mask_no_code_changes() -> None:
    detector, images = small(), good_parts(4, (64, 96))
    q_lo, q_hi, a_lo, a_hi, truth = detector._anomalous_codes(
        images, torch.zeros(4, 1, 64, 96, dtype=torch.bool)
    )
    assert torch.equal(q_lo, a_lo)
    assert torch.equal(q_hi, a_hi)
    assert not truth.any()


# The phases


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in network.state_dict().values()]


def same(network: nn.Module, before: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(network), before, strict=True))


def trained(detector: DSR) -> list[Phase]:
    return [phase for phase in detector.phases() if isinstance(phase, Phase)]


def test_each_phase_trains_its_own_networks() -> None:
    detector, images = small(), good_parts(6, (32, 48))
    parts = {
        "autoencoder": [detector.autoencoder],
        "restriction": [detector.restrict_lo, detector.restrict_hi, detector.repaint, detector.detect],
        "upsampling": [detector.refine],
    }
    phases = trained(detector)
    assert [phase.name for phase in phases] == list(parts)
    for phase in phases:
        before = {name: [weights(part) for part in group] for name, group in parts.items()}
        detector.phases = lambda phase=phase: (phase,)  # type: ignore[method-assign, misc]
        train(detector, lambda numbers: images[list(numbers)], len(images), lambda name, done, total: None)
        for name, group in parts.items():
            for part, earlier in zip(group, before[name], strict=True):
                assert same(part, earlier) == (name != phase.name)


@pytest.mark.parametrize("steps", [3, 5, 100, 1001])
def test_the_phases_take_all_the_steps(steps: int) -> None:
    assert sum(phase.steps for phase in trained(small(steps=steps))) == steps


def test_the_restriction_loss_is_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, images = small(), good_parts(3, (32, 48))
    mask = torch.zeros(3, 1, 32, 48, dtype=torch.bool)
    mask[:, :, 8:16, 8:24] = True
    with seeded(1):
        codes = detector._anomalous_codes(images, mask)
    monkeypatch.setattr(detector, "_anomalous_codes", lambda good, mask: codes)
    q_lo, q_hi, a_lo, a_hi, truth = codes
    net = detector.autoencoder
    for part in detector._second():
        part.train()
    s_lo, s_hi = detector.restrict_lo(a_lo), detector.restrict_hi(a_hi)
    special = detector.repaint(net.join(net.lo(s_lo), net.hi(s_hi))) + 0.5
    found = detector.detect(torch.cat([special, net.picture(a_lo, a_hi, images)], 1) - 0.5)
    expected = (
        (s_lo - q_lo).square().mean()
        + (s_hi - q_hi).square().mean()
        + 10 * (special - images).square().mean()
        + focal_loss(found, truth)
    )
    torch.testing.assert_close(detector.eval().restriction_loss(images), expected)


def test_the_detection_module_does_not_pull_at_the_decoder() -> None:
    """The pictures are compared as they are: the focal loss must not teach the decoder to paint defects."""
    detector, images = small(), good_parts(3, (32, 48))
    with seeded(0):
        detector.upsampling_loss(images).backward()
    assert all(parameter.grad is None for parameter in detector.repaint.parameters())
    assert all(parameter.grad is not None for parameter in detector.refine.parameters())


# A given autoencoder


def test_a_given_autoencoder_is_taken_over_and_not_trained(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    first = small(seed=3)
    save_file(first.statistics(), tmp_path / "first.safetensors")
    second = small(pretrained=tmp_path / "first.safetensors", steps=30)
    assert same(second.autoencoder, weights(first.autoencoder))
    assert not same(second.repaint, weights(first.repaint))
    assert [(phase.name, phase.steps) for phase in trained(second)] == [
        ("restriction", 22),
        ("upsampling", 8),
    ]
    assert second.settings()["pretrained"] == str(tmp_path / "first.safetensors")


def test_an_autoencoder_of_other_widths_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(small(width=6).statistics(), tmp_path / "wide.safetensors")
    with pytest.raises(
        SettingsError, match="does not hold DSR's autoencoder of this width, dimensions, codes"
    ):
        small(pretrained=tmp_path / "wide.safetensors")
    with pytest.raises(
        SettingsError, match=r"^pretrained must be a file \(\.andon or \.safetensors\), there is none"
    ):
        small(pretrained=tmp_path / "absent.andon")


def test_images_too_small_for_the_levels_are_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^the networks need images of at least 64 x 64 pixels, got 48 x 64\."
    ):
        small(levels=3).observe(torch.rand(1, 3, 48, 64))


def test_shares_and_strength_are_the_codes() -> None:
    assert (dsr.STRENGTH, dsr.TOO_NEAR, dsr.IMAGE_WEIGHT) == ((0.2, 1.0), 0.05, 10.0)
    assert sum(dsr.SHARES) == pytest.approx(1)
