"""Blocks of the networks that make images: shapes, areas, what is left over, weights held."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from andon.features.blocks import decoder, doubling, encoder, held, residual, shrink, to_size
from andon.features.similarity import ssim


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (31, 17)])
def test_an_image_of_any_size_comes_back_at_that_size(size: tuple[int, int]) -> None:
    widths = doubling(4, 3)
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        codes = encoder(widths, 5).eval()(images)
        made = decoder(5, widths).eval()(codes)
    assert codes.shape == (2, 5, -(-size[0] // 8), -(-size[1] // 8))
    assert made.shape == (2, 3, 8 * codes.shape[2], 8 * codes.shape[3])
    assert to_size(made, size).shape == images.shape


def area_means(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Each pixel split into ``size`` parts a side: then every cell holds whole parts, and the mean is a plain one."""
    h, w = size
    fine = x.repeat_interleave(h, 2).repeat_interleave(w, 3)
    return fine.view(*x.shape[:2], h, x.shape[2], w, x.shape[3]).mean((3, 5))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (8, 3), (11, 9), (20, 30)])
def test_shrinking_takes_the_mean_over_each_cells_area(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(shrink(x, size), area_means(x, size))


def test_shrinking_to_the_same_size_changes_nothing() -> None:
    x = torch.rand(1, 3, 16, 24)
    torch.testing.assert_close(shrink(x, (16, 24)), x)


def test_residual_mixes_the_two_differences() -> None:
    x, y = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    plain, structural = (x - y).abs().mean(1, keepdim=True), (1 - ssim(x, y)).mean(1, keepdim=True)
    torch.testing.assert_close(residual(x, y), plain)
    torch.testing.assert_close(residual(x, y, 1.0), structural)
    torch.testing.assert_close(residual(x, y, 0.25), 0.75 * plain + 0.25 * structural)


def test_gradients_pass_through_held_weights_without_reaching_them() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 1)
    second.bias.requires_grad_(False)
    with held(second):
        answer = second(first(torch.ones(1, 3)))
    answer.sum().backward()
    assert first.weight.grad is not None
    assert second.weight.grad is None
    assert second.weight.requires_grad
    assert not second.bias.requires_grad  # as it was


def test_held_weights_are_let_go_after_an_error() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="stop"), held(network):
        raise RuntimeError("stop")
    assert network.weight.requires_grad
