"""Run lengths: both ways, and as pycocotools writes and reads them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from andon import runs
from andon.errors import DataError
from andon.runs import compressed, expanded, mask_of_runs, run_lengths

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_there_and_back(mask: NDArray[np.bool_]) -> None:
    counts = run_lengths(mask)
    assert np.array_equal(mask_of_runs(counts, mask.shape), mask)
    assert expanded(compressed(counts)) == counts


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_as_pycocotools_has_them(mask: NDArray[np.bool_]) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (extra dev)")
    assert (
        compressed(run_lengths(mask)).encode()
        == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    )


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="run lengths of 5 pixels for an image of 2 x 2"):
        mask_of_runs([2, 3], (2, 2))
    with pytest.raises(DataError, match="' ' does not belong in compressed run lengths"):
        expanded("61 X")
    with pytest.raises(DataError, match="end in the middle of a number"):
        expanded("61X")


def test_examples() -> None:
    assert doctest.testmod(runs).failed == 0
