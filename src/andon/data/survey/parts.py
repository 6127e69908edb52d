"""One category of a data set: its photographs in the order they were taken, where they lie, and what changes among them.

*Nominal training images* are those of the split train that are not anomalous; a detector is fitted on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.cells import finite
from andon.data.survey.alike import SPLITS
from andon.data.survey.order import shooting_order
from andon.data.survey.reading import Seen
from andon.data.survey.spread import distances, plane, standardise
from andon.data.survey.two_samples import ks_test

Values = NDArray[np.float64]
Indices = NDArray[np.intp]
Compared = Literal["splits", "halves", ""]

MEASURES = {
    "brightness": "brightness",
    "sharpness": "sharpness",
    "red_green": "red-green colour",
    "blue_yellow": "blue-yellow colour",
    "component_1": "features, 1st component",
    "component_2": "features, 2nd component",
    "distance": "distance to training images",
}
_OF_PIXELS = ("brightness", "sharpness", "red_green", "blue_yellow")
LEAST = 8  # images of a group that is compared
LEAST_HALVES = 20  # images that are cut in two
ODD = 12  # training images that are named as the farthest
FAR_OUT = 3.0  # interquartile ranges above the third quartile (Tukey 1977, "far out")
STRAY = 6.0  # robust standard deviations from the median
RANGE = 0.95  # share of the training images whose distance counts as their range


@dataclass(frozen=True)
class Shift:
    """Whether a measure differs between two groups: medians, Kolmogorov-Smirnov statistic, permutation p-values."""

    category: str
    measure: str  # a key of MEASURES
    first: float  # median of the training images, or of the first half
    second: float  # median of the good test images, or of the second half
    images: tuple[int, int]
    statistic: float
    p_value: float
    values: tuple[Values, Values] = dataclasses.field(
        repr=False, compare=False
    )  # of the two groups, as tested
    p_holm: float = float("nan")  # corrected for all tests of its kind in the survey


@dataclass(frozen=True)
class Outlier:
    """A good image whose brightness or sharpness is far from what is usual in its split."""

    path: str
    measure: str
    value: float
    usual: float  # the median


@dataclass(frozen=True)
class Odd:
    """A training image by its distance to the nearest others, in multiples of what is usual among them."""

    path: str
    distance: float
    far_out: bool  # beyond Tukey's outer fence


@dataclass(frozen=True)
class Range:
    """How many images of a group lie farther from the training images than 95 % of these do from each other."""

    images: int
    outside: int


@dataclass(frozen=True, eq=False)
class Part:
    """One category. Arrays are in the order of ``seen``: by split, good before anomalous, then as taken."""

    category: str
    seen: tuple[Seen, ...]
    timed: bool  # by EXIF time; else by name
    with_time: int  # photographs that have an EXIF time
    points: Values  # (n, 2), principal components
    explained: tuple[float, float]  # share of the variance
    distance: Values  # (n,) to the nearest training images; 1 is usual; nan where there are none
    ranges: dict[str, Range]  # "good", "anomalous": of the test
    trends: tuple[Shift, ...]  # first half of the training images against their second half
    shifts: tuple[Shift, ...]
    compared: (
        Compared  # what `shifts` compare: training with good test images, or the halves of the only split
    )
    outliers: tuple[Outlier, ...]
    odd: tuple[Odd, ...]  # the farthest first

    def to_dict(self) -> dict[str, object]:
        """The category as dicts, lists, strings and numbers, for strict JSON; one entry an image."""
        rows = [
            {**_plain(seen), "position": index, "x": finite(x), "y": finite(y), "distance": finite(distance)}
            for index, (seen, (x, y), distance) in enumerate(
                zip(self.seen, self.points, self.distance, strict=True)
            )
        ]
        return {
            "category": self.category,
            "ordered_by": "EXIF time" if self.timed else "file name",
            "with_time": self.with_time,
            "explained": list(self.explained),
            "ranges": {name: dataclasses.asdict(found) for name, found in self.ranges.items()},
            "trends": [_plain(shift) for shift in self.trends],
            "compared": self.compared,
            "shifts": [_plain(shift) for shift in self.shifts],
            "outliers": [_plain(outlier) for outlier in self.outliers],
            "odd": [_plain(odd) for odd in self.odd],
            "images": rows,
        }


def _plain(thing: Seen | Shift | Outlier | Odd) -> dict[str, object]:
    found = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    found.pop("values", None)
    return {key: finite(value) if isinstance(value, float) else value for key, value in found.items()}


def part_of(category: str, seen: Sequence[Seen], descriptors: NDArray[np.float32], seed: int) -> Part:
    """One category summed up; p-values not yet corrected. ``descriptors`` (n, D) are in the order of ``seen``."""
    order, timed = shooting_order([s.path for s in seen], [s.taken for s in seen])
    order.sort(key=lambda i: (SPLITS.index(seen[i].split), seen[i].is_anomalous))
    seen, descriptors = [seen[i] for i in order], descriptors[order]
    rng = np.random.default_rng(seed)
    train = _group(seen, "train")
    vectors = standardise(descriptors, train if len(train) > 1 else np.arange(len(seen)))
    points, explained = plane(vectors)
    distance = _relative(distances(vectors, train, rng), train)
    compared, first, second = _to_compare(seen, train)
    return Part(
        category=category,
        seen=tuple(seen),
        timed=timed,
        with_time=sum(bool(s.taken) for s in seen),
        points=points,
        explained=explained,
        distance=distance,
        ranges=_ranges(seen, distance, train),
        trends=_trends(category, seen, train, rng),
        shifts=_shifts(category, seen, descriptors, first, second, rng),
        compared=compared,
        outliers=_outliers(seen),
        odd=_odd(seen, distance, train),
    )


def _group(seen: Sequence[Seen], split: str, anomalous: bool = False) -> Indices:
    return np.array(
        [i for i, s in enumerate(seen) if s.split == split and s.is_anomalous == anomalous], np.intp
    )


def measured(seen: Sequence[Seen], measure: str) -> Values:
    """The values of a measure, nan where there is none."""
    return np.array([getattr(s, measure) for s in seen], np.float64)


# --- distances ------------------------------------------------------------------------------------------------


def _relative(distance: Values, train: Indices) -> Values:
    """Distances as multiples of what is usual among the training images."""
    usual = np.nanmedian(distance[train]) if np.isfinite(distance[train]).any() else np.nan
    return distance / usual if usual > 0 else np.full(len(distance), np.nan)


def _ranges(seen: Sequence[Seen], distance: Values, train: Indices) -> dict[str, Range]:
    if len(train) < LEAST or not np.isfinite(distance).all():
        return {}
    fence = np.quantile(distance[train], RANGE)
    groups = {"good": _group(seen, "test"), "anomalous": _group(seen, "test", True)}
    return {name: Range(len(g), int((distance[g] > fence).sum())) for name, g in groups.items() if len(g)}


def _odd(seen: Sequence[Seen], distance: Values, train: Indices) -> tuple[Odd, ...]:
    if len(train) < LEAST or not np.isfinite(distance[train]).all():
        return ()
    low, high = np.quantile(distance[train], (0.25, 0.75))
    fence = high + FAR_OUT * (high - low)
    farthest = sorted(train, key=lambda i: (-distance[i], seen[i].path))
    far = int((distance[train] > fence).sum())
    return tuple(
        Odd(seen[i].path, float(distance[i]), bool(distance[i] > fence)) for i in farthest[: max(ODD, far)]
    )


# --- what changes ---------------------------------------------------------------------------------------------


def _trends(
    category: str, seen: Sequence[Seen], train: Indices, rng: np.random.Generator
) -> tuple[Shift, ...]:
    """The first half of the training images, as they were taken, against the second."""
    if len(train) < LEAST_HALVES:
        return ()
    values = {name: measured(seen, name) for name in ("brightness", "sharpness")}
    first, second = np.array_split(train, 2)
    return tuple(_tested(category, values, first, second, rng))


def _to_compare(seen: Sequence[Seen], train: Indices) -> tuple[Compared, Indices, Indices]:
    """Training images with good test images (or those for the threshold); with one split only, its two halves."""
    others = next((g for split in ("test", "calibration") if len(g := _group(seen, split))), train[:0])
    if len(train) >= LEAST and len(others) >= LEAST:
        return "splits", train, others
    if len({s.split for s in seen}) == 1 and len(train) >= LEAST_HALVES:
        return "halves", *np.array_split(train, 2)  # type: ignore[return-value]
    return "", train[:0], train[:0]


def _shifts(category: str, seen: Sequence[Seen], descriptors: NDArray[np.float32], first: Indices, second: Indices,
            rng: np.random.Generator) -> tuple[Shift, ...]:  # fmt: skip
    """All measures of two groups compared.

    The components are those of both groups together. For the distance a random half of the first group is the reference;
    both the other half and the second group are measured from it. So with no difference between the groups all measures
    are alike in them.
    """
    if not len(first) or not len(second):
        return ()
    values = {name: measured(seen, name) for name in _OF_PIXELS}
    if not any(np.any(values[name]) for name in ("red_green", "blue_yellow")):
        del values["red_green"], values["blue_yellow"]
    both = np.concatenate([first, second])
    points, _ = plane(standardise(descriptors[both], np.arange(len(both))))
    for axis, name in enumerate(("component_1", "component_2")):
        values[name] = _placed(points[:, axis], both, len(seen))
    reference, rest = _cut(rng.permutation(first))
    compared = np.concatenate([reference, rest, second])
    own = np.arange(len(reference))
    distance = distances(standardise(descriptors[compared], own), own, rng)
    usual = np.arange(len(reference), len(first))
    away = {"distance": _placed(_relative(distance, usual), compared, len(seen))}
    return (*_tested(category, values, first, second, rng), *_tested(category, away, rest, second, rng))


def _cut(mixed: Indices) -> tuple[Indices, Indices]:
    half = len(mixed) // 2
    return np.sort(mixed[:half]), np.sort(mixed[half:])


def _placed(values: Values, at: Indices, count: int) -> Values:
    """``values`` in a longer array, nan elsewhere."""
    found = np.full(count, np.nan)
    found[at] = values
    return found


def _tested(category: str, values: dict[str, Values], first: Indices, second: Indices,
            rng: np.random.Generator) -> list[Shift]:  # fmt: skip
    found = []
    for name, of in values.items():
        one, other = (of[group][np.isfinite(of[group])] for group in (first, second))
        if min(one.size, other.size) < LEAST // 2:
            continue
        statistic, p_value = ks_test(one, other, rng)
        medians = float(np.median(one)), float(np.median(other))
        sizes = (one.size, other.size)
        found.append(Shift(category, name, *medians, sizes, statistic, p_value, (one, other)))
    return found


def _outliers(seen: Sequence[Seen]) -> tuple[Outlier, ...]:
    """Good images much darker, brighter, more blurred or sharper than is usual in their split, the farthest first."""
    found: list[tuple[float, Outlier]] = []
    for split in SPLITS:
        group = _group(seen, split)
        if len(group) < LEAST:
            continue
        for measure in ("brightness", "sharpness"):
            values = measured([seen[i] for i in group], measure)
            scores = _robust(np.log(np.maximum(values, 1e-3)) if measure == "sharpness" else values)
            usual = float(np.nanmedian(values))
            found += [(scores[k], Outlier(seen[i].path, measure, float(values[k]), usual))
                      for k, i in enumerate(group) if scores[k] > STRAY]  # fmt: skip
    return tuple(outlier for _, outlier in sorted(found, key=lambda item: (-item[0], item[1].path)))


def _robust(values: Values) -> Values:
    """How many robust standard deviations each value lies from the median; 0 where that cannot be said."""
    if not np.isfinite(values).any():
        return np.zeros(len(values))
    off = np.abs(values - np.nanmedian(values))
    spread = 1.4826 * np.nanmedian(off)
    spread = max(spread, 0.01 * float(np.nanstd(values)), 1e-9)
    return np.nan_to_num(off / spread)
