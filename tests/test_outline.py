"""Outlines: exact both ways, holes and touching corners included; simplified within the tolerance."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import points_in_poly

from andon import outline
from andon.components import label
from andon.errors import SettingsError
from andon.outline import area, fill, joined, simplify, trace

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def blob(seed: int, size: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    """Smooth blobs, as anomaly maps have them."""
    noise = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(noise, 4) > 0.03


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_outlines_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    found = trace(mask)
    labels, count = label(mask)
    assert len(found) == count
    for number, one in enumerate(found, 1):
        region = labels == number
        assert np.array_equal(fill([one.outer, *one.holes], mask.shape), region)
        assert np.array_equal(fill([joined(one)], mask.shape), region)
        assert area(one.outer) + sum(map(area, one.holes)) == region.sum()
        assert area(joined(one)) == region.sum()


def test_a_corner_joins_and_a_hole_is_a_ring_of_its_own() -> None:
    diagonal = trace(np.eye(2, dtype=bool))
    assert len(diagonal) == 1
    assert diagonal[0].outer.tolist().count([1.0, 1.0]) == 2
    frame = np.ones((3, 3), bool)
    frame[1, 1] = False
    (one,) = trace(frame)
    assert area(one.outer) == 9
    assert [area(hole) for hole in one.holes] == [-1]
    assert len(joined(one)) == 4 + 4 + 2


def test_an_island_in_a_hole_owns_its_own_hole() -> None:
    rings = np.zeros((9, 9), bool)
    rings[:] = True
    rings[1:8, 1:8] = False
    rings[2:7, 2:7] = True
    rings[4, 4] = False
    big, small = trace(rings)
    assert [area(hole) for hole in big.holes] == [-49]
    assert [area(hole) for hole in small.holes] == [-1]


@pytest.mark.parametrize("tolerance", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_simplified_within_the_tolerance(seed: int, tolerance: float) -> None:
    for one in trace(blob(seed)):
        for ring in (one.outer, *one.holes):
            fewer = simplify(ring, tolerance)
            assert 3 <= len(fewer) <= len(ring)
            assert {tuple(point) for point in fewer} <= {tuple(point) for point in ring}
            assert max(to_ring(point, fewer) for point in ring) <= tolerance + 1e-9
            assert 0.9 <= area(fewer) / area(ring) <= 1 / 0.9


def to_ring(point: NDArray[np.float64], ring: NDArray[np.float64]) -> float:
    """The distance from a point to a ring, segment by segment."""
    found = []
    for start, end in zip(ring, np.roll(ring, -1, axis=0)):
        along = end - start
        share = np.clip((point - start) @ along / (along @ along), 0, 1)
        found.append(np.hypot(*(point - start - share * along)))
    return min(found)


def test_simplifying_saves_corners_and_keeps_small_regions() -> None:
    ring = max((one.outer for one in trace(blob(0))), key=area)
    assert len(simplify(ring, 1.0)) < len(ring) / 3
    for shape in ((1, 1), (1, 7), (2, 2), (7, 1)):
        (one,) = trace(np.ones(shape, bool))
        assert simplify(one.outer, 2.0).tolist() == one.outer.tolist()


def test_fill_agrees_with_point_in_polygon() -> None:
    ring = np.array([[1.3, 0.2], [9.1, 3.7], [6.4, 8.8], [4.9, 4.1], [0.4, 7.7]])
    rows, columns = np.mgrid[:10, :12]
    middles = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    assert np.array_equal(fill([ring], (10, 12)).ravel(), points_in_poly(middles, ring))
    outside = fill([ring - np.array([5, 6])], (4, 4))  # cut at the borders
    assert np.array_equal(outside, fill([ring], (10, 12))[6:10, 5:9])


@settings(max_examples=50, deadline=None)
@given(MASKS, st.floats(0, 3))
def test_any_mask_any_tolerance(mask: NDArray[np.bool_], tolerance: float) -> None:
    for one in trace(mask):
        assert len(simplify(one.outer, tolerance)) >= 3


def test_what_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="a mask must be .H, W. bool, not .2, 2. float64: compare it first"
    ):
        trace(np.zeros((2, 2)))
    with pytest.raises(SettingsError, match="tolerance: expected pixels, 0 or more, got nan"):
        simplify(np.zeros((4, 2)), float("nan"))


def test_examples() -> None:
    assert doctest.testmod(outline).failed == 0
