"""The blocked coreset against one centre at a time, and the neighbours against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from andon.errors import SettingsError
from andon.features import neighbours
from andon.features.neighbours import TIE, greedy_k_centre, nearest


def plain(points: Tensor, count: int, start: int) -> list[int]:
    """One centre at a time, from differences in float64; the lowest index among equals."""
    x = points.double().numpy()
    tie = TIE * np.square(x - x.mean(0)).sum(1).max()
    chosen = [start]
    distance = np.full(len(x), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.square(x - x[chosen[-1]]).sum(1))
        distance[chosen] = -np.inf
        chosen.append(int(np.argmax(distance >= distance.max() - tie)))
    return chosen


def clusters(count: int, dimensions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(8, dimensions, generator=generator) * 3
    spread = torch.rand(8, 1, generator=generator)
    which = torch.randint(8, (count,), generator=generator)
    return centres[which] + spread[which] * torch.randn(count, dimensions, generator=generator)


@pytest.mark.parametrize("dimensions", [1, 2, 7, 64])
@pytest.mark.parametrize("block", [1, 5, 64, 512])
def test_gives_the_plain_choice_whatever_the_block(dimensions: int, block: int) -> None:
    points = clusters(1500, dimensions)
    assert greedy_k_centre(points, 200, start=17, block=block).tolist() == plain(points, 200, 17)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_gives_the_plain_choice_far_from_the_origin(shift: float) -> None:
    points = clusters(1200, 24, seed=1) + shift
    assert greedy_k_centre(points, 150, start=0).tolist() == plain(points, 150, 0)


def test_gives_the_plain_choice_with_an_outlier() -> None:
    points = clusters(1000, 16, seed=2)
    points[500] *= 1000
    assert greedy_k_centre(points, 120, start=0).tolist() == plain(points, 120, 0)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_gives_the_plain_choice_when_torch_multiplies_roughly(precision: str) -> None:
    points = clusters(800, 32, seed=3)
    torch.set_float32_matmul_precision(precision)
    try:
        assert greedy_k_centre(points, 80, start=0, block=32).tolist() == plain(points, 80, 0)
    finally:
        torch.set_float32_matmul_precision("highest")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_breaks_ties_and_counts_repeats_like_the_plain_choice(data: st.DataObject) -> None:
    count, dimensions = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.integers(-2, 2), min_size=count * dimensions, max_size=count * dimensions))
    points = torch.tensor(values, dtype=torch.float32).reshape(count, dimensions)
    wanted, start = data.draw(st.integers(1, count)), data.draw(st.integers(0, count - 1))
    block = data.draw(st.sampled_from([1, 3, 64]))
    assert greedy_k_centre(points, wanted, start=start, block=block).tolist() == plain(points, wanted, start)


@pytest.mark.parametrize("block", [4, 512])
def test_gives_the_plain_choice_where_float32_is_blind(block: int) -> None:
    """Distances of 1e-3 between points 1e3 from their middle: below the rounding of float32 products."""
    generator = torch.Generator().manual_seed(4)
    sides = torch.where(torch.arange(3000) % 2 == 0, 1000.0, -1000.0)[:, None]
    points = sides * torch.ones(3000, 6) + 1e-3 * torch.randn(3000, 6, generator=generator)
    assert greedy_k_centre(points, 60, start=0, block=block).tolist() == plain(points, 60, 0)


def test_goes_over_to_float64_only_where_float32_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    widen = neighbours._Search.widen
    monkeypatch.setattr(neighbours._Search, "widen", lambda self: (calls.append(1), widen(self)))
    greedy_k_centre(clusters(1500, 32), 200, block=64)
    assert calls == []
    points = clusters(1500, 32)
    points[:700] = 1e4 + 1e-2 * points[:700]
    greedy_k_centre(points, 1200, block=64)
    assert calls == [1]


def test_repeated_points_come_last() -> None:
    points = clusters(60, 5).repeat(2, 1)
    found = greedy_k_centre(points, 120, start=70).tolist()
    assert found == plain(points, 120, 70)
    assert sorted(found) == list(range(120))
    assert found[0] == 70
    assert 10 in found[60:]  # the other copy of the first centre


def test_all_points_equal() -> None:
    assert greedy_k_centre(torch.full((6, 4), 0.3), 4, start=2).tolist() == [2, 0, 1, 3]


def test_signed_zeros_are_equal() -> None:
    points = torch.tensor([[1.0], [0.0], [1.0], [-0.0]])
    assert greedy_k_centre(points, 4, start=0).tolist() == plain(points, 4, 0) == [0, 1, 2, 3]


def test_one_point() -> None:
    assert greedy_k_centre(torch.ones(1, 3), 1).tolist() == [0]


def test_colliding_hashes_do_not_lose_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "andon.features.neighbours._hashes", lambda points: np.zeros(len(points), dtype=np.uint64)
    )
    points = torch.cat([clusters(50, 4), clusters(50, 4)[:10]])
    assert greedy_k_centre(points, 60, start=55).tolist() == plain(points, 60, 55)


def test_the_first_centre_depends_on_the_seed_and_not_on_the_order() -> None:
    points = clusters(300, 6)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    firsts = {int(greedy_k_centre(points, 1, seed=seed)) for seed in range(8)}
    assert len(firsts) > 1
    assert torch.equal(
        points[greedy_k_centre(points, 40, seed=3)], points[order][greedy_k_centre(points[order], 40, seed=3)]
    )


def test_every_point_lies_within_twice_the_best_radius() -> None:
    """Greedy is a 2-approximation: no two centres are closer than the radius that is left."""
    points = clusters(500, 3)
    centres = points[greedy_k_centre(points, 30)]
    radius = torch.cdist(points, centres).amin(1).max()
    between = torch.cdist(centres, centres) + torch.eye(30) * 1e6
    assert between.min() >= radius * (1 - 1e-5)


def test_tells_its_progress() -> None:
    told: list[float] = []
    greedy_k_centre(clusters(400, 4), 100, block=16, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("points", "arguments", "message"),
    [
        (
            torch.zeros(3),
            {"count": 1},
            r"^points must be float \(N, D\) with N >= 1, got torch.float32 \(3,\)$",
        ),
        (torch.zeros(0, 2), {"count": 1}, r"^points must be float \(N, D\) with N >= 1"),
        (torch.zeros(3, 2), {"count": 4}, r"^count must lie in 1..3, the number of points; got 4$"),
        (torch.zeros(3, 2), {"count": 0}, r"^count must lie in 1..3, the number of points; got 0$"),
        (torch.zeros(3, 2), {"count": 1, "start": 3}, r"^start must be an index in 0..2; got 3$"),
        (torch.zeros(3, 2), {"count": 1, "block": 0}, r"^block must be at least 1; got 0$"),
        (torch.tensor([[0.0], [torch.nan]]), {"count": 1}, r"^points must be finite"),
    ],
)
def test_refuses(points: Tensor, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        greedy_k_centre(points, **arguments)


@pytest.mark.parametrize("rows", [1, 2, 17, 300])
@pytest.mark.parametrize("k", [1, 5])
def test_nearest_is_the_full_sort(rows: int, k: int) -> None:
    query, bank = clusters(90, 12, seed=4), clusters(rows, 12, seed=5)
    k = min(k, rows)
    distances, indices = nearest(query, bank, k)
    full = torch.cdist(query.double(), bank.double())
    expected, order = full.sort(1)
    assert torch.equal(indices, order[:, :k])
    torch.testing.assert_close(distances.double(), expected[:, :k], rtol=1e-6, atol=1e-6)


def test_nearest_measures_small_distances_far_from_the_origin() -> None:
    bank = torch.tensor([[100.0, 0.0], [0.0, 0.0]])
    distances, indices = nearest(torch.tensor([[100.001, 0.0]]), bank)
    assert indices.tolist() == [[0]]
    assert float(distances) == pytest.approx(0.001, rel=1e-2)  # from squares it would drown in rounding


def test_nearest_in_parts_is_nearest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query, bank = clusters(333, 8), clusters(70, 8, seed=6)
    whole = nearest(query, bank), nearest(query, bank, 3)
    monkeypatch.setattr("andon.features.neighbours.CHUNK", 1000)
    parts = nearest(query, bank), nearest(query, bank, 3)
    for (distance, index), (expected, expected_index) in zip(parts, whole, strict=True):
        assert torch.equal(index, expected_index)
        torch.testing.assert_close(distance, expected)
