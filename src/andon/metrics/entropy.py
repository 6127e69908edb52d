"""How evenly an anomaly map is lit where nothing is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from andon.errors import MetricError


def entropy_outside(anomaly_map: NDArray[np.floating], anomaly_mask: NDArray[np.bool_]) -> float | None:
    """The Shannon entropy of the map (H, W) over the pixels outside the mask (H, W), from 0 to 1.

        p_i = (a_i - min a) / sum of them,   - sum p_i log p_i / log n,   n pixels outside

    1: the map is the same everywhere there, noise without form; near 0: all of it lies in a few pixels, which look like
    defects. None where fewer than two pixels lie outside. Raises :class:`MetricError` for other shapes or values that are not
    finite.

    >>> round(entropy_outside(np.array([[1.0, 2.0, 2.0, 9.0]]), np.array([[False, False, False, True]])), 3)
    0.631
    """
    if anomaly_map.shape != anomaly_mask.shape:
        raise MetricError(
            f"the map is {anomaly_map.shape}, its mask {anomaly_mask.shape}: expected the same shape"
        )
    values = anomaly_map[~anomaly_mask].astype(np.float64)
    if not np.isfinite(values).all():
        raise MetricError("the anomaly map holds values that are not finite")
    if values.size < 2:
        return None
    values -= values.min()
    total = values.sum()
    if total == 0:
        return 1.0
    p = values[values > 0] / total
    return float(-(p * np.log(p)).sum() / np.log(values.size))
