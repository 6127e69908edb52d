"""How far what is in a zone reaches out of it in the anomaly map, measured with the detector itself.

Shapes: H, W rows and columns of the photograph; h, w of its map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from andon.data.masks import resize_nearest
from andon.errors import SettingsError
from andon.nuisance.plan import Pixels, distance_steps
from andon.nuisance.zones import Mask

Map = NDArray[np.float32]
Respond = Callable[[Pixels], Map]  # a photograph -> its raw anomaly map (h, w)

NOTICED = 0.1  # of the map's scale: a rise of the highest value by more could turn a verdict
SPOTS = 6  # planted on each photograph
MOST = 0.5  # share of the map that zones and their halo may take together; beyond, a zone cannot be cut out


@dataclass(frozen=True)
class Reach:
    """What zones do to the rest of the map.

    halo: how far around the zones another print raises the highest value outside, in pixels of the map; None: so far
        that more than half of the map would have to be left out.
    found_covered, found_left, found_before: share, 0 to 1, of spots planted anywhere on good photographs that raise the
        highest value outside above that of all good photographs: with the zones covered, with zones and halo left
        out of the map (0 where there is no end to the halo), and with the zones alone left out, as if no print varied.
    """

    halo: int | None
    found_covered: float
    found_left: float
    found_before: float


def measure_reach(
    respond: Respond, photographs: Sequence[Pixels], places: Sequence[Mask], cover: Callable[[Pixels], Pixels]
) -> Reach:
    """What the zones ``places`` (H, W), one mask a photograph, do to the maps that ``respond`` gives.

    ``photographs``: of good parts, with the prints that are to be ignored. Other prints are those of the other
    photographs, and a photograph's own turned upside down. ``cover``: covers the zones of a photograph. The map's
    scale is the usual good part's highest value above its median. Raises :class:`SettingsError` where the zones leave
    nothing.
    """
    plain = [respond(pixels) for pixels in photographs]
    steps = [
        distance_steps(resize_nearest(mask, (values.shape[0], values.shape[1])))
        for mask, values in zip(places, plain, strict=True)
    ]
    if min(int(step.max()) for step in steps) == 0:
        raise SettingsError("the zones leave nothing of a photograph to inspect. Draw them smaller.")
    scale = float(np.median([values.max() - np.median(values) for values in plain])) or 1.0
    good = [peaks_beyond(values, step) for values, step in zip(plain, steps, strict=True)]
    halo = 0
    for number, (peaks, step) in enumerate(zip(good, steps, strict=True)):
        for printed in other_prints(photographs, places, number):
            risen = peaks_beyond(respond(printed), step) - peaks > NOTICED * scale
            halo = max(halo, int(np.flatnonzero(risen).max(initial=-1)) + 1)
    endless = max(float((step <= halo).mean()) for step in steps) > MOST
    seen, covered = [], []  # highest values of spotted photographs, as they are and covered
    for number, (pixels, step) in enumerate(zip(photographs, steps, strict=True)):
        for spotted in planted_spots(pixels, number):
            seen.append(peaks_beyond(respond(spotted), step))
            covered.append(peaks_beyond(respond(cover(spotted)), step))
    good_covered = [peaks_beyond(respond(cover(p)), step) for p, step in zip(photographs, steps, strict=True)]
    return Reach(
        None if endless else halo,
        _found(covered, good_covered, 0),
        0.0 if endless else _found(seen, good, halo),
        _found(seen, good, 0),
    )


def planted_spots(pixels: Pixels, seed: int) -> Iterator[Pixels]:
    """The photograph (H, W, 3) with a spot, ``SPOTS`` times: anywhere, of any size and shade, faint to plain."""
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    y, x = np.ogrid[:height, :width]
    for _ in range(SPOTS):
        row, column, radius = (
            rng.uniform(0, height),
            rng.uniform(0, width),
            min(height, width) * rng.uniform(0.02, 0.06),
        )
        spot = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        strength = rng.uniform(0.2, 1.0)
        spotted = pixels.copy()
        spotted[spot] = np.rint((1 - strength) * pixels[spot] + strength * rng.choice([0, 255]))
        yield spotted


def _found(spotted: Sequence[NDArray[np.float32]], good: Sequence[NDArray[np.float32]], halo: int) -> float:
    """The share of ``spotted`` whose highest value beyond ``halo`` is above that of all ``good``."""
    limit = max(float(peaks[halo]) for peaks in good)
    return float(np.mean([float(peaks[halo]) > limit for peaks in spotted]))


def peaks_beyond(values: Map, steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """The highest value (k,) more than 0, 1, 2 ... steps away; ``steps`` (h, w) from :func:`distance_steps`.

    >>> peaks_beyond(np.float32([[9, 2, 3, 1]]), np.array([[0, 1, 2, 3]])).tolist()
    [3.0, 3.0, 1.0]
    """
    highest = np.full(int(steps.max()) + 1, -np.inf, np.float32)
    np.maximum.at(highest, steps.ravel(), values.ravel())
    return np.maximum.accumulate(highest[::-1])[::-1][1:]


def other_prints(photographs: Sequence[Pixels], places: Sequence[Mask], number: int) -> Iterator[Pixels]:
    """The photograph ``number`` with what the next one of its size shows in the zones, and with its own turned over."""
    pixels, place = photographs[number], places[number]
    following = (photographs[(number + ahead) % len(photographs)] for ahead in range(1, len(photographs)))
    if (other := next((p for p in following if p.shape == pixels.shape), None)) is not None:
        printed = pixels.copy()
        printed[place] = other[place]
        yield printed
    rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    printed = pixels.copy()
    printed[box] = np.where(place[box][..., None], pixels[box][::-1, ::-1], pixels[box])
    yield printed
