"""Nominal images -> disjoint training, held-out and calibration sets, beside the test set that a data set has."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from andon.errors import DataError, SettingsError
from andon.path_pattern import group_names
from andon.types import Sample


class NominalSplit(NamedTuple):
    """Four disjoint sets, each in the order in which its samples came."""

    train: tuple[Sample, ...]  # nominal
    held_out: tuple[Sample, ...]  # nominal; for ``close``
    calibration: tuple[Sample, ...]  # nominal; for the threshold
    test: tuple[Sample, ...]  # nominal and anomalous


def split_nominal(
    samples: Iterable[Sample],
    *,
    held_out: float = 0.0,
    calibration: float = 0.25,
    seed: int = 0,
    group_by: str | None = None,
    latest: bool = False,
    stratify_by: str | None = None,
) -> NominalSplit:
    """Four disjoint sets; ``held_out`` and ``calibration`` are the fractions taken from the nominal training images.

    - A data set's own calibration images are used as they are; then none is taken from the training images.
    - Byte-identical files stay together. A training or calibration image that is also a test image is left out,
      and so is a calibration image that is also a training image.
    - ``group_by`` is a pattern of the last parts of each path, such as ``{shift}/{lot}_*.png``
      (:class:`andon.path_pattern.PathPattern`); images of one group stay together.
    - ``latest`` takes the calibration images, then the held-out ones, from the end of the list of paths (or groups)
      instead of at random: where names carry the date, the threshold is then set on the latest lots.
    - ``stratify_by`` is such a pattern, too: the fractions are taken from each of its groups by itself (a group of
      ``group_by`` counts to that of its first path).
    - Anomalous samples of the split ``train`` or ``calibration`` enter no set.
    - At least one group is left for training: a single image, or a single group, is all training and no calibration.
    - The same samples and seed give the same sets, whatever the order in which they came.

    Raises :class:`SettingsError` for fractions outside [0, 1) or adding up to 1, and a ``group_by`` that names no
    group; :class:`DataError` when no nominal training image is left, or a path does not fit ``group_by``.
    """
    _check_fractions(held_out, calibration)
    samples = list(samples)
    test = [sample for sample in samples if sample.split == "test"]
    pool = _nominal(samples, "train")
    own = _nominal(samples, "calibration")
    identity = _identities([sample.path for sample in test + pool + own])
    pool = _without(pool, test, identity)
    own = _without(_without(own, test, identity), pool, identity)
    if not pool:
        raise _nothing_to_train(samples)
    rng = np.random.default_rng(seed)
    training: list[Path] = []
    held: list[Path] = []
    calibrating: list[Path] = []
    for groups in _strata(_groups(pool, identity, group_by), stratify_by):
        order = [groups[i] for i in rng.permutation(len(groups))]
        if latest:
            order = [groups[0], *reversed(groups[1:])]
        size = sum(map(len, groups))
        taken, order = _take(order, 0 if own else _count(calibration, size))
        calibrating += taken
        taken, order = _take(order, _count(held_out, size))
        held += taken
        training += [path for group in order for path in group]
    return NominalSplit(
        _picked(pool, training),
        _picked(pool, held),
        tuple(own) or _picked(pool, calibrating),
        tuple(test),
    )


def _check_fractions(held_out: float, calibration: float) -> None:
    for name, fraction in (("held_out", held_out), ("calibration", calibration)):
        if not 0 <= fraction < 1:
            raise SettingsError(f"{name} is a fraction of the nominal images in [0, 1), not {fraction}.")
    if held_out + calibration >= 1:
        raise SettingsError(
            f"held_out ({held_out}) and calibration ({calibration}) add up to {held_out + calibration:g}, "
            "which leaves nothing to train on. Let them add up to less than 1."
        )


def _nominal(samples: Sequence[Sample], split: str) -> list[Sample]:
    return [sample for sample in samples if sample.split == split and not sample.is_anomalous]


def _without(samples: list[Sample], others: list[Sample], identity: dict[Path, Hashable]) -> list[Sample]:
    taken = {identity[other.path] for other in others}
    return [sample for sample in samples if identity[sample.path] not in taken]


def _nothing_to_train(samples: list[Sample]) -> DataError:
    good, bad = _nominal(samples, "train"), sum(sample.is_anomalous for sample in samples)
    if good:
        return DataError(
            f"all {len(good)} good training images are test images, too, byte for byte. Fit on other images than "
            "those that the detector is tested on."
        )
    return DataError(
        f"there is no good image to train on among {len(samples)} images ({bad} of them anomalous). Fit on a folder "
        "of good images."
    )


def _strata(groups: list[list[Path]], stratify_by: str | None) -> list[list[list[Path]]]:
    """The groups of paths by the name that the pattern finds in the first path of each, in sorted order."""
    if stratify_by is None:
        return [groups]
    names = group_names(stratify_by, [group[0] for group in groups])
    strata: dict[str, list[list[Path]]] = defaultdict(list)
    for group in groups:
        strata[names[group[0]]].append(group)
    return [strata[name] for name in sorted(strata)]


def _count(fraction: float, size: int) -> int:
    return int(fraction * size + 0.5)


def _picked(pool: list[Sample], paths: list[Path]) -> tuple[Sample, ...]:
    chosen = set(paths)
    return tuple(sample for sample in pool if sample.path in chosen)


def _take(groups: list[list[Path]], wanted: int) -> tuple[list[Path], list[list[Path]]]:
    """Whole groups that hold at most ``wanted`` paths together (or the smallest one), never all of them."""
    if wanted <= 0 or len(groups) < 2:
        return [], groups
    candidates = groups[1:]
    taken: list[list[Path]] = []
    room = wanted
    for group in candidates:
        if len(group) <= room:
            taken.append(group)
            room -= len(group)
    taken = taken or [min(candidates, key=len)]
    chosen = {id(group) for group in taken}
    return [path for group in taken for path in group], [group for group in groups if id(group) not in chosen]


def _groups(pool: list[Sample], identity: dict[Path, Hashable], group_by: str | None) -> list[list[Path]]:
    """The paths of the pool in groups that must stay together, sorted, the smallest path first."""
    paths = sorted({sample.path for sample in pool}, key=str)
    names = group_names(group_by, paths) if group_by else {}
    parent = {path: path for path in paths}

    def root(path: Path) -> Path:
        while parent[path] != path:
            parent[path] = parent[parent[path]]
            path = parent[path]
        return path

    first: dict[Hashable, Path] = {}
    for path in paths:
        for key in (("file", identity[path]), ("group", names.get(path, path))):
            parent[root(path)] = root(first.setdefault(key, path))
    groups: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        groups[root(path)].append(path)
    return sorted(groups.values(), key=lambda group: str(group[0]))


def _identities(paths: list[Path]) -> dict[Path, Hashable]:
    """A key for each file that two paths share when, and only when, their bytes are the same."""
    sizes: dict[int, set[Path]] = defaultdict(set)
    for path in paths:
        sizes[_size(path)].add(path)
    keys: dict[Path, Hashable] = {}
    for size, alike in sizes.items():
        for path in alike:
            keys[path] = (size, file_digest(path)) if len(alike) > 1 else size
    return keys


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def file_digest(path: Path) -> str:
    """A hash of a file's bytes, as hexadecimal digits. Raises :class:`DataError` when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error
