"""Which good images a detector is fitted on, which set its threshold, and at what size the network sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from andon.audit import read_left_out
from andon.data import read_samples, split_nominal
from andon.data.split import file_digest
from andon.errors import DataError, ImageError
from andon.image import Preprocessing, photo_size
from andon.pipeline.options import FitOptions
from andon.types import Sample

FITTED_ON = "fitted_on"  # the manifest's list of short digests of the images that shaped the detector
HELD_OUT = 0.1  # share of the good images for a detector that looks at held-out ones
SIZED_PHOTOS = 16  # photographs looked at to choose the network's input size
MUCH_SHRUNK = (
    4.0  # rows or columns of the photograph for one of the network's input, from which a note is due
)
SMALL = 20  # pixels of the photograph: the small defect that the note speaks of
PATCH = 8  # rows and columns of the input that the finest features of andon-s, and of ResNets, see as one


class Parts(NamedTuple):
    """The good images by what they are for, and what the manifest says of them."""

    train: list[Path]
    held_out: list[Path]
    calibration: list[Path]
    described: dict[str, Any]


def parts_of(source: Path, options: FitOptions, uses_held_out: bool) -> Parts:
    """The images of ``source`` as ``options`` divide them. Raises :class:`DataError` where none is left to fit on."""
    samples = read_samples(source, options.layout, category=options.category)
    categories = sorted({sample.category for sample in samples})
    if len(categories) > 1:
        raise DataError(
            f"{source} holds {len(categories)} categories ({', '.join(categories[:8])}); a detector is fitted on one. "
            f"Choose it with --category {categories[0]} (category={categories[0]!r} in Python)."
        )
    left_out = read_left_out(options.leave_out, source) if options.leave_out else frozenset()
    samples = [sample for sample in samples if sample.path.resolve() not in left_out]
    own = options.calibration if isinstance(options.calibration, str | os.PathLike) else None
    share = 0.0 if own is not None else float(options.calibration)  # type: ignore[arg-type]
    further = _further(Path(own)) if own is not None else []
    if own is not None:
        samples = [sample for sample in samples if sample.split != "calibration"] + further
    split = split_nominal(
        samples,
        held_out=HELD_OUT if uses_held_out else 0.0,
        calibration=share,
        seed=options.seed,
        group_by=options.group_by,
        latest=options.latest,
        stratify_by=options.threshold_by,
    )
    calibration = [sample.path for sample in split.calibration]
    if further and not calibration:
        raise DataError(
            f"all {len(further)} good images of {own} are among those of {source}, too, byte for byte: a threshold set "
            "on them would be too low. Give other good images for it, or a share of these, such as 0.25."
        )
    train = _drawn([sample.path for sample in split.train], options)
    if not train:
        raise DataError(f"{source} has no good images to fit on.")
    described = {"source": source.resolve().name, "category": categories[0] if categories else "",
                 "train": len(train), "held_out": len(split.held_out), "calibration": len(calibration)}  # fmt: skip
    if left_out:
        described["left_out"] = len(left_out)
    if len(further) > len(calibration):
        described["calibration_left_out"] = len(further) - len(calibration)  # they are among the others
    return Parts(train, [sample.path for sample in split.held_out], calibration, described)


def short_digest(path: Path) -> str:
    """Enough of a hash of a file's bytes to know the file again, and nothing of the picture."""
    return file_digest(path)[:16]


def _drawn(train: list[Path], options: FitOptions) -> list[Path]:
    """``limit`` of the training images, in their order. What a lower limit draws is among what a higher one does."""
    if options.limit is None or options.limit >= len(train):
        return train
    chosen = np.random.default_rng(options.seed).permutation(len(train))[: options.limit]
    return [train[number] for number in sorted(chosen)]


def _further(folder: Path) -> list[Sample]:
    """The good images of a folder that was given for the threshold."""
    good = [sample for sample in read_samples(folder) if not sample.is_anomalous]
    return [replace(sample, split="calibration") for sample in good]


def choose_preprocessing(paths: Sequence[Path], options: FitOptions) -> Preprocessing:
    """The preprocessing for these photographs: the size asked for, or one near 256x256 of their own shape; of tiles,
    512x512 where the photographs are that large."""
    settings: dict[str, Any] = {"resize": options.resize, "white_level": options.white_level}
    settings |= {"overlap": options.overlap, "tile_scale": options.tile_scale}
    if options.size is not None:
        return Preprocessing(size=options.size, **settings)
    sizes = _sizes(paths)
    if not sizes:
        looked_at = paths[:: _step(paths)]
        raise DataError(f"none of the {len(looked_at)} images looked at can be read; first: {paths[0]}")
    if options.resize == "tiles":
        scale = options.tile_scale
        return replace(
            Preprocessing.for_tiles([(rows * scale, columns * scale) for rows, columns in sizes]), **settings
        )
    return replace(Preprocessing.for_photos(sizes), **settings)


def lost_detail(paths: Sequence[Path], preprocessing: Preprocessing) -> str | None:
    """What scaling large photographs down to the network's input costs, in words; None where it costs little."""
    sizes = _sizes(paths)
    if preprocessing.resize == "tiles" or not sizes:
        return None
    rows, columns = (int(side) for side in np.median(np.asarray(sizes), axis=0))
    height, width = preprocessing.size
    shrink = max(rows / height, columns / width)
    if shrink < MUCH_SHRUNK:
        return None
    return (
        f"photographs of {rows} x {columns} pixels are scaled down to {height} x {width}: a defect of {SMALL} pixels is "
        f"{SMALL / shrink:.1f} there, and the smallest patch that networks such as andon-s tell apart covers "
        f"{PATCH * shrink:.0f} pixels of the photograph. Where defects are smaller than that, --resize tiles keeps them."
    )


def _step(paths: Sequence[Path]) -> int:
    return max(1, len(paths) // SIZED_PHOTOS)


def _sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """(rows, columns) of some of the photographs, those that cannot be read left out."""
    return [size for path in paths[:: _step(paths)] if (size := _size(path)) is not None]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return photo_size(path)
    except ImageError:
        return None
