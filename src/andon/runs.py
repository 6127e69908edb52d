"""Run lengths of masks, as COCO has them: column by column, background first.

H, W: rows and columns of the mask. For run lengths row by row give the mask's transpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from andon.errors import DataError

Mask = NDArray[np.bool_]


def run_lengths(mask: Mask) -> list[int]:
    """How many pixels are outside, then inside, then outside ... of ``mask`` (H, W), column by column.

    >>> run_lengths(np.array([[False, True], [True, True]]))
    [1, 3]
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(edges, prepend=0).tolist()
    return counts if len(edges) and edges[-1] == mask.size else [*counts, mask.size - int(sum(counts))]


def mask_of_runs(counts: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask (H, W) with these run lengths. Raises :class:`DataError` unless they are H x W pixels together."""
    if any(count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise DataError(
            f"run lengths of {sum(counts)} pixels for an image of {size[0]} x {size[1]} (rows x columns). "
            "They belong to another image."
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size[::-1]).T


def compressed(counts: Sequence[int]) -> str:
    """Run lengths as COCO's short text: from the third on the change since the last but one, 5 bits a character.

    >>> compressed([6, 1, 40, 4, 5, 4, 5, 4, 21])
    '61X13mN000`0'
    """
    text = []
    for at, count in enumerate(counts):
        rest = int(count) - (int(counts[at - 2]) if at > 2 else 0)
        while True:
            low, rest = rest & 31, rest >> 5
            done = rest == (-1 if low & 16 else 0)  # what is left is the sign alone
            text.append(chr(48 + (low if done else low | 32)))
            if done:
                break
    return "".join(text)


def expanded(text: str) -> list[int]:
    """The run lengths in COCO's short text. Raises :class:`DataError` when it is not such.

    >>> expanded('61X13mN000`0')
    [6, 1, 40, 4, 5, 4, 5, 4, 21]
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"{letter!r} does not belong in compressed run lengths.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("the compressed run lengths end in the middle of a number.")
    return counts
