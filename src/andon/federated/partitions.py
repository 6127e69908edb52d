"""Which site holds which images: ways to divide a data set among plants that would not show them to each other.

``category``   a category a site
``line``       one product on several lines, each with its own lamps, camera and print (:mod:`andon.federated.shifts`)
``iid``        equal shares by chance
``dirichlet``  equal shares, but each site sees the modes of the good images (:mod:`andon.federated.modes`) in a mixture
               of its own, q ~ Dir(alpha p), p the modes' shares of all images: T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the
               Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019
``size``       by chance, but shares of unequal size, ~ Dir(alpha): Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning
               on Non-IID Data Silos: An Experimental Study", ICDE 2022 (quantity skew)

Test images are dealt as the training images are, in equal numbers, so that every image is judged at one site, and a site
is judged on what it makes. Same images, same recipe: same partition.

n images, S sites, K modes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon.data import read_samples
from andon.errors import DataError, SettingsError, did_you_mean
from andon.federated.modes import find_modes
from andon.federated.shifts import KINDS, Shift, draw_shifts
from andon.types import Sample

WAYS = ("category", "line", "iid", "dirichlet", "size")
LEAST = 8  # training images of a site: some set the threshold, and a covariance needs two


@dataclass(frozen=True)
class Recipe:
    """How a data set is divided. Raises :class:`SettingsError` for values that make no sense."""

    by: str
    sites: int = 4  # of all ways but `category`
    seed: int = 0
    alpha: float = 0.5  # of `dirichlet` and `size`: small is uneven
    modes: int = 8  # of `dirichlet`
    shifts: tuple[str, ...] = KINDS  # of `line`
    strength: float = 1.0  # of `line`

    def __post_init__(self) -> None:
        if self.by not in WAYS:
            hint = did_you_mean(self.by, WAYS)
            raise SettingsError(f"there is no partition by {self.by!r}.{hint} Give one of: {', '.join(WAYS)}")
        if self.sites < 2:
            raise SettingsError(f"a federation needs at least 2 sites, got {self.sites!r}")
        if self.seed < 0:
            raise SettingsError(f"seed must be 0 or more, got {self.seed!r}")
        if not 0 < self.alpha < float("inf"):
            raise SettingsError(f"alpha must be a number above 0, got {self.alpha!r}")

    @property
    def label(self) -> str:
        """The recipe in few words, without its seed."""
        if self.by in ("dirichlet", "size"):
            return f"{self.by}, alpha {self.alpha:g}"
        if self.by == "line" and (self.shifts != KINDS or self.strength != 1):
            return f"line, {' and '.join(self.shifts)}" + (
                f" x {self.strength:g}" if self.strength != 1 else ""
            )
        return self.by


@dataclass(frozen=True)
class Share:
    """One site's images: good ones to train on (and calibrate with), and test images with known answers.

    ``modes``: how many of the training images are of each mode; () where none were looked for.
    """

    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    shift: Shift = field(default_factory=Shift)
    modes: tuple[int, ...] = ()

    def tested(self, *, anomalous: bool) -> int:
        """How many of its test images are good, or anomalous."""
        return sum(sample.is_anomalous is anomalous for sample in self.test)


@dataclass(frozen=True)
class Partition:
    """A data set divided among sites. ``roots``: the data sets' folders."""

    recipe: Recipe
    roots: tuple[Path, ...]
    layout: str
    shares: tuple[Share, ...]


def draw_partition(
    roots: Sequence[str | os.PathLike[str]], recipe: Recipe, layout: str = "auto"
) -> Partition:
    """The images of ``roots`` divided by ``recipe``.

    Raises :class:`DataError` where a site would have fewer than 8 good training images, or no good or no anomalous test
    image, and for two categories of the same name.
    """
    folders = tuple(Path(root).resolve() for root in roots)
    samples = read_all(folders, layout)
    shares = _by_category(samples) if recipe.by == "category" else _dealt(samples, recipe)
    for share in shares:
        _check(share)
    return Partition(recipe, folders, layout, tuple(shares))


def read_all(roots: Sequence[Path], layout: str) -> list[Sample]:
    """The good training images and all test images of ``roots``. Raises :class:`DataError` for a category in two of them."""
    if not roots:
        raise DataError("no data set was given")
    owner: dict[str, Path] = {}
    samples: list[Sample] = []
    for root in roots:
        own = [
            sample
            for sample in read_samples(root, layout)
            if sample.split == "test" or not sample.is_anomalous
        ]
        for category in {sample.category for sample in own}:
            if owner.setdefault(category, root) != root:
                raise DataError(
                    f"{owner[category]} and {root} both hold a category {category!r}: sites could not be told apart. "
                    "Rename one of the folders."
                )
        samples += own
    return samples


def _by_category(samples: Sequence[Sample]) -> list[Share]:
    names = sorted({sample.category for sample in samples})
    if len(names) < 2:
        raise DataError(
            f"a partition by category needs at least two categories, got {', '.join(names) or 'none'}. Give several data "
            "sets, or the folder that holds several."
        )
    own = {name: [sample for sample in samples if sample.category == name] for name in names}
    return [
        Share(
            name or "images",
            tuple(sample for sample in own[name] if sample.split != "test"),
            tuple(sample for sample in own[name] if sample.split == "test"),
        )
        for name in names
    ]


def _dealt(samples: Sequence[Sample], recipe: Recipe) -> list[Share]:
    train = [sample for sample in samples if sample.split != "test"]
    test = [sample for sample in samples if sample.split == "test"]
    sites = recipe.sites
    if len(train) < sites * LEAST:
        raise DataError(
            f"{len(train)} good training images are too few for {sites} sites with at least {LEAST} each. Ask for fewer "
            "sites."
        )
    rng = np.random.default_rng([recipe.seed, WAYS.index(recipe.by)])
    modes, test_modes = np.zeros(len(train), np.intp), np.zeros(len(test), np.intp)
    if recipe.by == "dirichlet":
        modes, test_modes = find_modes(
            [s.path for s in train], [s.path for s in test], recipe.modes, recipe.seed
        )
    mixtures = _mixtures(modes, recipe, rng)
    sizes = _uneven(len(train), sites, recipe.alpha, rng) if recipe.by == "size" else even(len(train), sites)
    dealt = deal(train, modes, mixtures, sizes, rng)
    tested: list[list[int]] = [[] for _ in range(sites)]
    for anomalous in (False, True):
        numbers = np.array([k for k, sample in enumerate(test) if sample.is_anomalous is anomalous], np.intp)
        kind = [test[k] for k in numbers]
        hands = deal(kind, test_modes[numbers], mixtures, even(len(kind), sites), rng)
        tested = [
            [*before, *(int(numbers[k]) for k in hand)] for before, hand in zip(tested, hands, strict=True)
        ]
    shifts = [Shift()] * sites
    if recipe.by == "line":
        shifts = draw_shifts(sites, recipe.shifts, recipe.strength, recipe.seed)
    word, counts = "line" if recipe.by == "line" else "site", int(modes.max()) + 1
    return [
        Share(
            f"{word}-{k + 1}",
            tuple(train[n] for n in sorted(dealt[k])),
            tuple(test[n] for n in sorted(tested[k])),
            shifts[k],
            tuple(np.bincount(modes[dealt[k]], minlength=counts).tolist())
            if recipe.by == "dirichlet"
            else (),
        )
        for k in range(sites)
    ]


def _mixtures(modes: NDArray[np.intp], recipe: Recipe, rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, K): the share of each mode at each site."""
    prior = np.bincount(modes) / len(modes)
    if recipe.by != "dirichlet":
        return np.tile(prior, (recipe.sites, 1))
    return rng.dirichlet(np.maximum(recipe.alpha * prior, 1e-9), recipe.sites)


def deal(samples: Sequence[Sample], modes: NDArray[np.intp], mixtures: NDArray[np.float64], sizes: Sequence[int],
         rng: np.random.Generator) -> list[list[int]]:  # fmt: skip
    """The numbers of the images that each site gets: in turn, each from a mode drawn by the site's own mixture.

    Where a mode is used up, the site's other modes count the more (Hsu et al. 2019, algorithm 1). Within a mode defect types
    are spread evenly. ``sizes`` add up to n.
    """
    order = rng.permutation(len(samples))
    heaps: list[list[int]] = [[] for _ in range(mixtures.shape[1])]
    for number in sorted(order, key=lambda k: (samples[k].category, samples[k].defect_type), reverse=True):
        heaps[modes[number]].append(int(number))
    hands: list[list[int]] = [[] for _ in sizes]
    while any(heaps):
        for site in rng.permutation(len(sizes)):
            if len(hands[site]) < sizes[site]:
                left = np.array([len(heap) for heap in heaps], np.float64)
                weights = np.where(left > 0, mixtures[site], 0)
                weights = weights if weights.sum() > 0 else left
                hands[site].append(heaps[rng.choice(len(heaps), p=weights / weights.sum())].pop())
    return hands


def even(count: int, sites: int) -> list[int]:
    """``count`` in ``sites`` parts that differ by one at most.

    >>> even(10, 4)
    [3, 3, 2, 2]
    """
    return [count // sites + (site < count % sites) for site in range(sites)]


def _uneven(count: int, sites: int, alpha: float, rng: np.random.Generator) -> list[int]:
    """``count`` in ``sites`` parts of at least 8, what is above that in shares ~ Dir(alpha), the largest first."""
    shares = np.sort(rng.dirichlet(np.full(sites, alpha)))[::-1]
    return [LEAST + part for part in apportioned(count - LEAST * sites, shares.tolist())]


def apportioned(count: int, shares: Sequence[float]) -> list[int]:
    """``count`` in whole parts by ``shares`` of any sum; what rounding leaves goes to the largest remainders.

    >>> apportioned(10, [0.5, 0.26, 0.24])
    [5, 3, 2]
    """
    exact = np.asarray(shares, np.float64) / sum(shares) * count
    parts = np.floor(exact).astype(int)
    first = np.lexsort((np.arange(len(parts)), parts - exact))[: count - int(parts.sum())]
    parts[first] += 1
    return [int(part) for part in parts]


def _check(share: Share) -> None:
    found = (len(share.train), share.tested(anomalous=False), share.tested(anomalous=True))
    if found[0] < LEAST or not found[1] or not found[2]:
        raise DataError(
            f"site {share.name!r} would have {found[0]} good training images, {found[1]} good and {found[2]} anomalous test "
            f"images; at least {LEAST}, 1 and 1 are needed. Ask for fewer sites, or give more images."
        )
