"""RIAD: what the network may see, its loss and its map written out, and gradient magnitude similarity by SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.gradients import gms, gms_distances
from andon.features.patches import blur_map
from andon.features.similarity import ssim
from andon.models import build
from andon.models.riad import RIAD, deal
from fakes import good_parts

PARTS = good_parts(4, (64, 96), seed=1)


def small(**settings: Any) -> RIAD:
    settings = {"sizes": [4, 8], "width": 2, "levels": 2, "steps": 2, **settings}
    detector = build("riad", **settings)
    assert isinstance(detector, RIAD)
    detector.observe(PARTS)
    detector.close()
    return detector


class Stub(nn.Module):
    """Answers with what it sees, plus ``offset``; remembers how many images it saw."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset, self.seen = offset, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x + self.offset


def edges(image: Tensor) -> NDArray[np.float64]:
    """The gradient magnitude (H, W) of a grey image (H, W), by SciPy."""
    array = image.double().numpy()
    rows, columns = (ndimage.prewitt(array, axis, mode="nearest") / 3 for axis in (0, 1))
    return np.hypot(rows, columns)


def test_gms_is_the_papers_formula_on_scipys_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, 20, 31, generator=generator), torch.rand(1, 1, 20, 31, generator=generator)
    g, h = edges(x[0, 0]), edges(y[0, 0])
    expected = (2 * g * h + 0.0026) / (g**2 + h**2 + 0.0026)
    np.testing.assert_allclose(gms(x, y)[0, 0], expected, atol=1e-5)
    assert (gms(x, x) - 1).abs().max() < 1e-5


def test_gms_has_a_gradient_on_flat_images() -> None:
    flat = torch.full((1, 1, 16, 16), 0.5, requires_grad=True)
    (1 - gms(flat, torch.rand(1, 1, 16, 16))).mean().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_distances_come_at_four_scales_of_the_grey_image() -> None:
    x, y = PARTS[:1], PARTS[1:2]
    maps = gms_distances(x, y)
    assert [tuple(m.shape[2:]) for m in maps] == [(64, 96), (32, 48), (16, 24), (8, 12)]
    grey = [F.avg_pool2d(image.mean(1, keepdim=True), 4) for image in (x, y)]
    torch.testing.assert_close(maps[2], 1 - gms(*grey))


def test_cells_are_dealt_evenly_into_disjoint_sets() -> None:
    torch.manual_seed(0)
    dealt = deal(5, 7, 3)
    assert dealt.shape == (5, 7)
    assert sorted(dealt.flatten().bincount().tolist()) == [11, 12, 12]
    assert not torch.equal(dealt, deal(5, 7, 3))


@pytest.mark.parametrize("size", [(64, 96), (53, 71)])
def test_no_pixel_is_seen_where_it_is_filled_in(size: tuple[int, int]) -> None:
    """A network that answers with what it sees leaves nothing: each pixel is taken where it was cut out, as 0."""
    detector = small()
    images = torch.rand(2, 3, *size)
    detector.net = Stub()
    for k in (4, 8):
        cells = deal(-(-size[0] // k), -(-size[1] // k), detector.sets)
        assert detector.fill_in(images, cells, k).abs().max() < 1e-6
    detector.net = Stub(0.25)
    torch.testing.assert_close(detector.fill_in(images, cells, 8), torch.full_like(images, 0.25))


def test_what_is_cut_out_does_not_reach_what_is_filled_in() -> None:
    detector = small(sizes=[8])
    cells = deal(8, 12, 3)
    other = PARTS.clone()
    first = (cells == 0).repeat_interleave(8, 0).repeat_interleave(8, 1)
    other[:, :, first] = torch.rand(int(first.sum()))
    with torch.no_grad():
        before, after = (detector.fill_in(images, cells, 8) for images in (PARTS, other))
    assert torch.equal(before[:, :, first], after[:, :, first])
    assert not torch.equal(before[:, :, ~first], after[:, :, ~first])


def test_the_loss_is_the_sum_of_three_means() -> None:
    detector = small()
    detector.net = Stub(0.4)  # whatever was dealt, y is 0.4
    y = torch.full_like(PARTS, 0.4)
    edge = sum(m.mean() for m in gms_distances(PARTS, y)) / 4
    expected = (PARTS - y).square().mean() + (1 - ssim(PARTS, y)).mean() + edge
    torch.testing.assert_close(detector.loss(PARTS), expected)


def test_the_map_is_the_mean_over_sizes_and_scales() -> None:
    detector = small()
    with torch.no_grad():
        scores = detector(PARTS)
        filled = []
        for pattern, k in zip(detector.pattern, (4, 8), strict=True):
            cells = pattern.repeat(2, 2)[: 64 // k, : 96 // k]
            filled.append(detector.fill_in(PARTS, cells, k))
        maps = [
            F.interpolate(m, size=(64, 96), mode="bilinear") for y in filled for m in gms_distances(PARTS, y)
        ]
    expected = blur_map(torch.stack(maps).mean(0), detector.blur_sigma)
    torch.testing.assert_close(scores.anomaly_map, expected)
    assert scores.reconstruction is not None
    torch.testing.assert_close(scores.reconstruction, ((filled[0] + filled[1]) / 2).clamp(0, 1))


@pytest.mark.parametrize(("sizes", "sets", "passes"), [([2, 4, 8, 16], 3, 12), ([8, 16], 2, 4)])
def test_an_image_passes_once_for_each_set_of_each_size(sizes: list[int], sets: int, passes: int) -> None:
    detector = small(sizes=sizes, sets=sets)
    detector.net = Stub()
    detector(PARTS)
    assert detector.net.seen == passes * len(PARTS)


def test_training_draws_size_and_cells_from_the_global_generator() -> None:
    detector = small()
    torch.manual_seed(1)
    first = detector.loss(PARTS)
    other = detector.loss(PARTS)
    torch.manual_seed(1)
    assert torch.equal(detector.loss(PARTS), first)
    assert not torch.equal(other, first)


def test_the_pattern_depends_on_the_seed_alone() -> None:
    torch.manual_seed(9)
    one = small().pattern
    torch.manual_seed(8)
    assert torch.equal(one, small().pattern)
    assert not torch.equal(one, small(seed=1).pattern)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": []}, r"^sizes must be a list of whole numbers such as \[4, 8, 16\], got \[\]$"),
        ({"sizes": 8}, r"^sizes must be a list of whole numbers such as \[4, 8, 16\], got 8$"),
        ({"sizes": [0]}, "^sizes must be a whole number of at least 1, got 0$"),
        ({"sets": 1}, "^sets must be a whole number of at least 2, got 1$"),
        ({"fold": 0}, "^fold must be a whole number of at least 1, got 0$"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build("riad", **settings)


def test_refuses_images_smaller_than_its_levels() -> None:
    with pytest.raises(SettingsError, match="need images of at least 16 x 16 pixels, got 8 x 96"):
        small(levels=4, fold=2)(PARTS[:, :, :8])
