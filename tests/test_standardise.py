"""Features in units of their spread: against NumPy, in any split, and where nothing varies."""

from __future__ import annotations

import numpy as np
import torch

from andon.features.standardise import Standardise, StandardLayers
from fakes import FakeBackbone, good_parts


def drawn(count: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 5.0, 0.1]).view(1, 3, 1, 1)
    return 2 + scale * torch.randn(count, 3, 4, 6, generator=generator)


def test_centres_channels_and_divides_by_one_number() -> None:
    x = drawn()
    layer = Standardise(3)
    layer.add(x, seen=0)
    spread = np.sqrt(x.numpy().astype(np.float64).var((0, 2, 3)).mean())
    expected = (x.numpy() - x.numpy().mean((0, 2, 3), keepdims=True)) / spread
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-5)


def test_any_split_counts_the_same() -> None:
    x = drawn()
    whole, parts = Standardise(3), Standardise(3)
    whole.add(x, seen=0)
    for start, end in ((0, 5), (5, 6), (6, 12)):
        parts.add(x[start:end], seen=start)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.square, whole.square)


def test_the_weighted_mean_of_two_sites_is_their_union() -> None:
    x = drawn()
    whole, first, second = (Standardise(3) for _ in range(3))
    whole.add(x, seen=0)
    first.add(x[:9], seen=0)
    second.add(x[9:], seen=0)
    torch.testing.assert_close(0.75 * first.square + 0.25 * second.square, whole.square)


def test_what_does_not_vary_is_only_centred_and_nothing_seen_changes_nothing() -> None:
    layer = Standardise(2)
    x = torch.full((3, 2, 4, 4), 7.0)
    assert torch.equal(layer(x), x)
    layer.add(x, seen=0)
    assert torch.equal(layer(x + 1), torch.ones_like(x))
    layer.reset_parameters()
    assert torch.equal(layer(x), x)


def test_layers_are_standardised_each_by_itself() -> None:
    backbone = FakeBackbone()
    scale = StandardLayers(backbone, ["coarse", "fine"])  # type: ignore[arg-type]
    features = backbone(good_parts(4))
    scale.add(features, seen=0)
    answer = scale(features)
    assert list(answer) == ["coarse", "fine"]
    for x in answer.values():
        assert abs(float(x.mean())) < 1e-4
        assert abs(float(x.var((0, 2, 3), correction=0).mean()) - 1) < 1e-3
