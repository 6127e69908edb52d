"""What an image shows beside the others, in a few numbers that compare: by how many usual spreads it is alone.

N images, h x w patches each, T x T blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]  # (N,)
Maps = NDArray[np.float32]  # (N, h, w)

PEAK = 0.03  # share of the patches whose mean is an image's peak
OUT_OF_PLACE = (
    0.75  # quantile of the patches at which an image's place is read off: a quarter must have moved
)
FOOT = 1 / 3  # of the peak: what rises less belongs to its foot
RISEN = 3.0  # spreads above the usual at its place, from which a patch counts as risen
CROWD = 0.15  # share of the images that make a crowd: fewer that are alike may still be odd
GAUSSIAN = (
    0.237  # median distance of a standard Gaussian value to the edge of the nearest CROWD of the distribution
)
_LEAST_CONTRAST = 1.0  # grey levels: below, a picture is blank
_NOISE = {"brightness": 1.0, "contrast": 0.02, "red_green": 1.0, "blue_yellow": 1.0, "shade": 1.0,
          "sharpness": 0.05, "peak": 0.02, "place": 0.02}  # fmt: skip
# the least that a spread is taken for: grey levels, or (contrast and below) shares


@dataclass(frozen=True, eq=False)
class Signals:
    """One number an image and signal, and by how many usual spreads each is away from the crowd.

    peak: mean distance of the 3 % farthest patches. place: how much farther a patch is from those at its own place than
    from those anywhere, as the factor that a quarter of the patches reach. risen: share of the patches beyond what is usual at their place.
    brightness, red_green, blue_yellow: medians over blocks, grey levels. contrast: from their 10 % to their 90 % quantile.
    shade: by how much light falls off to one side, more than usual. sharpness: against contrast.
    """

    values: dict[str, Values]
    deviations: dict[str, Values]  # negative below the median
    risen: NDArray[np.bool_]  # (N, h, w)

    def extent(self) -> Values:
        """The share of each image's patches that have risen, 0 to 1."""
        return self.risen.mean(axis=(1, 2))


def signals(sharpness: Values, blocks: Maps, free: Maps, placed: Maps) -> Signals:
    """The signals of N images: their sharpness (N,), pictures reduced to blocks (N, 3, T, T) of RGB 0 to 255, and
    distances (N, h, w) free and in place, as ``crossfit`` gives them.

    Light and colour are medians and quantiles over the blocks, so that a defect in one place does not move them.
    """
    red, green, blue = (
        np.asarray(blocks[:, channel], np.float64).reshape(len(blocks), -1) for channel in range(3)
    )
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    contrast = np.maximum(np.subtract(*np.quantile(luma, (0.9, 0.1), axis=1)), _LEAST_CONTRAST)
    distance = np.maximum(free.reshape(len(free), -1), 1e-6).astype(np.float64)
    many = max(1, round(PEAK * distance.shape[1]))
    factor = placed.reshape(distance.shape) / distance
    values = {
        "brightness": np.median(luma, axis=1),
        "contrast": contrast,
        "red_green": np.median(red - green, axis=1),
        "blue_yellow": np.median(blue - (red + green) / 2, axis=1),
        "shade": _shade(luma.reshape(len(luma), *blocks.shape[2:])),
        "sharpness": np.maximum(np.nan_to_num(sharpness), 1e-3) / contrast**2,
        "peak": np.sort(distance, axis=1)[:, -many:].mean(axis=1),
        "place": np.quantile(factor, OUT_OF_PLACE, axis=1),
    }
    logarithmic = ("contrast", "sharpness", "peak", "place")
    deviations = {
        name: deviation(np.log(v) if name in logarithmic else v, _NOISE[name]) for name, v in values.items()
    }
    return Signals(values, deviations, _risen(np.log(distance)).reshape(free.shape))


def deviation(values: Values, least: float = 0.0) -> Values:
    """How lonely each of ``values`` (N,) is, in usual spreads: positive above the median, negative below it.

    The distance to its k-th nearest other value, k being CROWD of all. So a second or third kind of good part (another
    colour, say) is at home among its own, while a few odd images are not, even where they are odd alike. The unit is
    the standard deviation of a Gaussian that has the same median distance; it is taken for ``least`` where it is smaller.

    >>> deviation(np.array([1.0, 2.0, 3.0, 4.0, 50.0])).round(1).tolist()
    [-0.2, -0.2, 0.2, 0.2, 3.8]
    """
    order = np.argsort(values, kind="stable")
    alone = np.empty(len(values))
    alone[order] = _to_neighbours(
        values[order], max(1, min(len(values) - 1, max(3, round(CROWD * len(values)))))
    )
    spread = max(float(np.median(alone)) / GAUSSIAN, least, 1e-9)
    return np.where(values < np.median(values), -1, 1) * alone / spread


def _to_neighbours(ordered: Values, k: int) -> Values:
    """The distance of each of the sorted values (N,) to its ``k``-th nearest other one, N > k."""
    count = len(ordered)
    found = np.full(count, np.inf)
    width = ordered[k:] - ordered[:-k]  # of each run of k + 1 values, which begins at `start`
    for offset in range(k + 1):  # the value's place in the run
        own = ordered[offset : count - k + offset]
        reach = np.maximum(own - ordered[: count - k], width - (own - ordered[: count - k]))
        np.minimum(found[offset : count - k + offset], reach, out=found[offset : count - k + offset])
    return found


def _risen(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which patches (N, P) are farther than usual at their place, from their log distances.

    By RISEN of the spreads of all places together, and by FOOT of what the image's farthest patch rises: where the images
    are all alike, the foot of a high peak, as wide as what a patch sees, is not the peak.
    """
    off = distance - np.median(distance, axis=0)
    spread = 1.4826 * float(np.median(np.abs(off)))
    return np.asarray(off > np.maximum(RISEN * spread, FOOT * off.max(axis=1, keepdims=True)))


def _shade(luma: NDArray[np.float64]) -> Values:
    """By how many grey levels light falls off from one side of the picture to the other, more than usual.

    What the blocks (T, T) have more or less than the median picture, in the middle of each half: what has moved changes
    few of them, light from one side all. A fall that is even over the picture is twice that between its halves.
    """
    off, half = luma - np.median(luma, axis=0), luma.shape[1] // 2
    down = np.median(off[:, :half], axis=(1, 2)) - np.median(off[:, half:], axis=(1, 2))
    across = np.median(off[:, :, :half], axis=(1, 2)) - np.median(off[:, :, half:], axis=(1, 2))
    return np.asarray(2 * np.hypot(down, across))
