"""A partition as a JSON file, and as folders: one data set a site, in MVTec AD's layout, which every command reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from andon.data import anomaly_mask
from andon.errors import DataError
from andon.federated.partitions import Partition, Recipe, Share, read_all
from andon.federated.shifts import Shift
from andon.files import atomic_write
from andon.image import decode
from andon.types import MaskSource, Sample

FORMAT = 1
Progress = Callable[[int, int], None]  # done, total


def write_partition(path: Path, partition: Partition) -> None:
    """Write ``partition`` as JSON, atomically: the recipe, the data sets' folders, each site's images below them."""
    with atomic_write(path, "w") as file:
        json.dump(to_plain(partition), file, indent=1)


def to_plain(partition: Partition) -> dict[str, Any]:
    """``partition`` as JSON can hold it; images by the number of their data set and their path below it."""
    return {
        "format": FORMAT, "recipe": asdict(partition.recipe), "layout": partition.layout,
        "roots": [str(root) for root in partition.roots],
        "sites": {
            share.name: {
                "shift": asdict(share.shift), "modes": list(share.modes),
                "train": [_named(sample, partition.roots) for sample in share.train],
                "test": [_named(sample, partition.roots) for sample in share.test],
            }
            for share in partition.shares
        },
    }  # fmt: skip


def read_partition(path: str | os.PathLike[str]) -> Partition:
    """The partition in ``path``. Raises :class:`DataError` for another file, and where an image is no longer there."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise DataError(
                f"{path} is a partition of format {plain['format']}; this Andon reads format {FORMAT}"
            )
        recipe = Recipe(**{**plain["recipe"], "shifts": tuple(plain["recipe"]["shifts"])})
        roots, sites = tuple(Path(root) for root in plain["roots"]), plain["sites"].items()
        layout = str(plain["layout"])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a partition ({type(error).__name__}: {error}). Make one with: andon federate partition"
        ) from error
    there = {_named(sample, roots): sample for sample in read_all(roots, layout)}
    try:
        shares = [
            Share(
                name,
                tuple(there[image] for image in own["train"]),
                tuple(there[image] for image in own["test"]),
                Shift(**own["shift"]),
                tuple(own["modes"]),
            )
            for name, own in sites
        ]
    except KeyError as error:
        raise DataError(
            f"{path}: {error} is not below {', '.join(map(str, roots))} any more. Draw the partition again."
        ) from error
    return Partition(recipe, roots, layout, tuple(shares))


def _named(sample: Sample, roots: Sequence[Path]) -> str:
    """``0/train/good/000.png``: the number of the data set, and the path below it."""
    for number, root in enumerate(roots):
        if sample.path.resolve().is_relative_to(root):
            return f"{number}/{sample.path.resolve().relative_to(root).as_posix()}"
    raise DataError(f"{sample.path} lies outside {', '.join(map(str, roots))}")


# --- as folders -----------------------------------------------------------------------------------------------------------


def write_folders(partition: Partition, folder: Path, progress: Progress | None = None) -> list[Path]:
    """A folder a site below ``folder``, with its photographs as its line shows them. Raises :class:`DataError` where one
    is there already."""
    paths = [folder / share.name for share in partition.shares]
    for path in paths:
        if path.exists():
            raise DataError(f"{path} exists already. Delete it, or choose another folder.")
    total, before = sum(len(_samples(share)) for share in partition.shares), 0
    for share, path in zip(partition.shares, paths, strict=True):
        write_share(share, path, partial(_part_of, progress, before, total))
        before += len(_samples(share))
    return paths


def _part_of(progress: Progress | None, before: int, total: int, done: int, _: int) -> None:
    if progress is not None:
        progress(before + done, total)


def write_share(share: Share, folder: Path, progress: Progress | None = None) -> Share:
    """``share`` with its photographs written below ``folder``, whole or not at all, as its line shows them.

    Photographs that the shift changes become PNG files, others are copied. Every anomalous image gets one mask with all its
    defects.
    """
    building = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(building, ignore_errors=True)
    before, after = _samples(share), _samples(placed(share, building))
    for number, (sample, target) in enumerate(zip(before, after, strict=True)):
        _write(sample, target, share.shift, number)
        if progress is not None:
            progress(number + 1, len(before))
    building.rename(folder)
    return placed(share, folder)


def placed(share: Share, folder: Path) -> Share:
    """``share`` as :func:`write_share` leaves it below ``folder``; nothing is written."""
    moved = tuple(
        _placed(sample, share.shift, number, folder) for number, sample in enumerate(_samples(share))
    )
    cut = len(share.train)
    return replace(share, train=moved[:cut], test=moved[cut:], shift=Shift())


def _samples(share: Share) -> list[Sample]:
    return [*share.train, *share.test]


def _placed(sample: Sample, shift: Shift, number: int, folder: Path) -> Sample:
    """The sample as it is below ``folder``, in MVTec AD's layout."""
    split, name = "test" if sample.split == "test" else "train", f"{number:04}_{sample.path.stem}"
    path = folder / split / sample.defect_type / f"{name}{'.png' if shift.changes else sample.path.suffix}"
    mask = folder / "ground_truth" / sample.defect_type / f"{name}_mask.png"
    masks = (MaskSource("image", mask, name=sample.defect_type),) if sample.masks else ()
    return replace(sample, path=path, masks=masks)


def _write(sample: Sample, target: Sample, shift: Shift, number: int) -> None:
    target.path.parent.mkdir(parents=True, exist_ok=True)
    pixels = decode(sample.path).pixels
    defect = anomaly_mask(sample, (pixels.shape[0], pixels.shape[1])) if sample.masks else None
    if shift.changes:
        Image.fromarray(shift.photo(pixels, number, defect)).save(target.path)
    else:
        shutil.copyfile(sample.path, target.path)
    for mask in target.masks:
        if mask.path is not None and defect is not None:
            mask.path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shift.mask(defect).astype(np.uint8) * 255).save(mask.path)
