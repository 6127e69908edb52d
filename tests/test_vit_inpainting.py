"""ViT inpainting: no patch sees itself, windows and passes cover the image once, the mean of what is usual."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from andon.errors import SettingsError
from andon.features.attention import FeatureAttention
from andon.features.gradients import gms_distances
from andon.features.patches import blur_map
from andon.features.similarity import ssim
from andon.models.base import Look
from andon.models.trained import seeded
from andon.models.vit_inpainting import ViTInpainting, drawn, lattice, windows
from fakes import good_parts

K = 8


def small(**settings: object) -> ViTInpainting:
    """One whose last layer is not zero, as it is before training."""
    detector = ViTInpainting(**{"patch": K, "width": 8, "depth": 2, "heads": 2, **settings})
    with seeded(1):
        torch.nn.init.normal_(detector.pixels.weight, std=0.1)
    return detector


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def changed(detector: ViTInpainting, images: Tensor, row: int, column: int) -> Tensor:
    """Which patches (M, N) are filled in otherwise when the pixels of one change."""
    other = images.clone()
    other[:, :, K * row : K * (row + 1), K * column : K * (column + 1)] = random(1, 3, K, K, seed=9)
    with torch.no_grad():
        apart = (detector.fill_in(images) - detector.fill_in(other)).abs()
    return F.max_pool2d(apart.amax(1, keepdim=True), K)[0, 0] > 1e-7


@pytest.mark.parametrize("spacing", [2, 3])
@pytest.mark.parametrize("window", [3, 5, 16])
def test_a_patch_does_not_see_itself_but_its_neighbours_do(spacing: int, window: int) -> None:
    detector = small(spacing=spacing, window=window)
    for row, column in ((0, 0), (2, 3), (5, 6)):
        seen = changed(detector, random(1, 3, 6 * K, 7 * K), row, column)
        assert not seen[row, column]
        beside = seen[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert int(beside.sum()) == beside.numel() - 1


def test_a_window_sees_no_further() -> None:
    seen = changed(small(window=4), random(1, 3, 12 * K, 4 * K), 0, 0)
    assert seen[:2].sum() > 4
    assert not seen[4:].any()


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 40])
@pytest.mark.parametrize("length", [3, 4, 7, 16])
def test_windows_answer_for_every_place_once_and_centrally(count: int, length: int) -> None:
    answered = []
    for whole, core in windows(count, length):
        assert whole.stop - whole.start == min(length, count)
        places = list(range(count))[whole]
        answered += places[core]
        for place in places[
            core
        ]:  # no nearer to an end of the window than a quarter, but at the ends of the image
            margin = min(place - whole.start, whole.stop - 1 - place)
            assert margin >= length // 4 or place < length // 2 + 1 or place >= count - length // 2 - 1
    assert answered == list(range(count))


@pytest.mark.parametrize("spacing", [2, 3])
def test_every_patch_is_covered_once_and_none_beside_another(spacing: int) -> None:
    masks = lattice(5, 7, spacing, like=torch.zeros(1))
    assert masks.shape == (spacing**2, 1, 5, 7)
    assert (masks.sum(0) == 1).all()
    for mask in masks[:, 0]:
        places = mask.nonzero()
        distances = (places[:, None] - places[None]).abs().amax(2)
        assert (distances + spacing * torch.eye(len(places)) >= spacing).all()


@pytest.mark.parametrize("size", [(40, 48), (37, 61), (8, 100)])
def test_patches_are_put_back_where_they_were_cut(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = small(window=4)
    monkeypatch.setattr(detector, "tokens", lambda patches: (patches, patches))
    monkeypatch.setattr(detector, "transform", lambda tokens: tokens)
    images = random(1, 3, *size)
    torch.testing.assert_close(detector.fill_in(images), images)
    patches = detector.cut(images)
    torch.testing.assert_close(detector.picture(patches[:, :, 0, 0]), images[:, :, :K, :K])


def test_the_loss_looks_at_pixels_edges_and_structure() -> None:
    detector, x, y = small(), random(5, 3, K, K), random(5, 3, K, K, seed=1)
    edges = sum(float(distance.mean()) for distance in gms_distances(x, y, 3)) / 3
    expected = float(((x - y) ** 2).mean()) + 0.01 * edges + 0.01 * float((1 - ssim(x, y)).mean())
    assert float(detector.difference(x, y)) == pytest.approx(expected, rel=1e-5)
    assert float(detector.difference(x, x)) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_that_of_covered_patches_alone() -> None:
    """One place is covered in a window of 2 x 2 patches: the loss is its difference to what is filled in there."""
    detector, images = small(), random(1, 3, 2 * K, 2 * K)
    filled = detector.fill_in(images).detach()
    corners = [(slice(r, r + K), slice(c, c + K)) for r in (0, K) for c in (0, K)]
    possible = [float(detector.difference(images[:, :, r, c], filled[:, :, r, c])) for r, c in corners]
    found = set()
    for seed in range(20):
        with seeded(seed):
            loss = float(detector.loss(images).detach())
        nearest = min(range(4), key=lambda i: abs(possible[i] - loss))
        assert loss == pytest.approx(possible[nearest], rel=1e-4)
        found.add(nearest)
    assert len(found) == 4


def test_before_training_the_mean_image_is_filled_in() -> None:
    detector, parts = ViTInpainting(patch=K, width=8, depth=1, heads=2), good_parts(5, (128, 128))
    detector.observe(parts[:2])
    detector.observe(parts[2:])
    with torch.no_grad():
        torch.testing.assert_close(detector.fill_in(parts[:1]), parts.mean(0, keepdim=True))
        assert detector.fill_in(parts[:, :, :70, :90]).shape == (5, 3, 70, 90)


def test_images_of_one_patch_can_be_learnt_from() -> None:
    for seed in range(4):
        with seeded(seed):
            assert torch.isfinite(small().loss(random(1, 3, K, K)))


def test_the_loss_teaches_every_weight() -> None:
    detector = small(window=3)
    detector.loss(random(2, 3, 5 * K, 6 * K)).backward()
    assert all(
        bool(parameter.grad.any()) for parameter in detector.parameters() if parameter.grad is not None
    )
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_windows_to_learn_from_are_drawn_from_all_over() -> None:
    assert drawn(3, 5) == slice(0, 3)
    with seeded(0):
        assert {drawn(8, 3).start for _ in range(100)} == set(range(6))
        assert drawn(8, 3).stop <= 8


def test_attention_is_softmax_of_scaled_products_of_its_own_queries_and_keys() -> None:
    attention = FeatureAttention(8, 2)
    x = random(2, 5, 8)
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    assert q.shape == k.shape == (2, 5, 4)
    heads = []
    for i in range(2):
        weights = (q[..., 2 * i : 2 * i + 2] @ k[..., 2 * i : 2 * i + 2].transpose(1, 2) / 2**0.5).softmax(2)
        heads.append(weights @ v[..., 4 * i : 4 * i + 4])
    torch.testing.assert_close(attention(x), attention.project(torch.cat(heads, 2)))


def test_what_is_usual_is_the_mean_over_all_images_however_they_come() -> None:
    detector, parts = small(), good_parts(5, (48, 64))
    with torch.no_grad():
        expected = detector.unusual.cells(detector.left_over(parts)).mean(0, keepdim=True).double()
        for score in ("unusual", "peak"):
            train, look = small(score=score).phases()
            assert isinstance(look, Look)
        for sizes in ([5], [2, 3], [1, 4]):
            train, look = detector.phases()
            assert isinstance(look, Look)
            for part in parts.split(sizes):
                look.look(part)
            torch.testing.assert_close(detector.unusual.mean, expected, rtol=1e-4, atol=1e-6)


def test_the_map_is_the_squared_distance_from_what_is_usual() -> None:
    detector, parts = small(), good_parts(2, (48, 64))
    detector.observe(parts)
    detector.close()
    with torch.no_grad():
        diff = blur_map(detector.diff(parts, detector.fill_in(parts)), detector.blur_sigma)
        torch.testing.assert_close(detector(parts).anomaly_map, diff**2)
        detector.unusual.mean.fill_(0.25)
        torch.testing.assert_close(detector(parts).anomaly_map, (diff - 0.25) ** 2)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="patch must be a whole number of at least 8, got 4"):
        small(patch=4)
    with pytest.raises(SettingsError, match="spacing must be a whole number of at least 2, got 1"):
        small(spacing=1)
    with pytest.raises(SettingsError, match=r"^width must be a multiple of twice the 3 heads, got 8$"):
        small(heads=3)
