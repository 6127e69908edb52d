"""Connected components: equal to SciPy's, number for number."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from andon.components import label
from andon.errors import SettingsError

STRUCTURES = {4: None, 8: np.ones((3, 3))}
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=14))


@given(mask=masks, connectivity=st.sampled_from([4, 8]))
@settings(max_examples=300, deadline=None)
def test_equals_scipy(mask, connectivity):
    labels, count = label(mask, connectivity)
    expected, number = ndimage.label(mask, STRUCTURES[connectivity])
    assert count == number
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.593, 0.9])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_equals_scipy_on_large_noise(share, connectivity):
    mask = np.random.default_rng(0).random((300, 400)) < share
    expected, number = ndimage.label(mask, STRUCTURES[connectivity])
    labels, count = label(mask, connectivity)
    assert count == number
    np.testing.assert_array_equal(labels, expected)


def test_long_winding_components_are_one():
    snake = np.zeros((41, 30), dtype=bool)
    snake[::2] = True
    snake[1::4, 0] = True
    snake[3::4, -1] = True
    assert label(snake, 4)[1] == 1


def test_the_edge_of_one_row_does_not_touch_the_start_of_the_next():
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, -1] = mask[1, 0] = mask[2, -1] = True
    assert label(mask, 8)[1] == 3


def test_numbered_by_first_pixel_in_reading_order():
    labels, count = label(np.random.default_rng(1).random((40, 60)) < 0.3)
    firsts = [int(np.flatnonzero(labels == number)[0]) for number in range(1, count + 1)]
    assert firsts == sorted(firsts)


def test_non_contiguous_masks_work():
    mask = np.random.default_rng(2).random((30, 40)) < 0.4
    np.testing.assert_array_equal(label(mask.T)[0], ndimage.label(mask.T, np.ones((3, 3)))[0])


def test_empty_and_full():
    assert label(np.zeros((5, 6), dtype=bool))[1] == 0
    labels, count = label(np.ones((5, 6), dtype=bool))
    assert count == 1
    assert (labels == 1).all()


def test_refuses_what_is_not_a_mask():
    with pytest.raises(SettingsError, match=r"^connectivity must be 4 or 8, not 6$"):
        label(np.zeros((2, 2), dtype=bool), 6)
    with pytest.raises(
        SettingsError, match=r"a mask must be \(H, W\) bool, not \(2, 2\) uint8: compare it first"
    ):
        label(np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(SettingsError, match=r"not \(2,\) bool"):
        label(np.zeros(2, dtype=bool))


def test_a_large_mask_takes_milliseconds():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((1000, 750)), 6) > 0.505
    took = []
    for _ in range(3):
        start = time.perf_counter()
        label(mask)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.25  # 7 ms on a quiet core
