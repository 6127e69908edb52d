"""Annotations that came back from a labelling tool: COCO JSON, or one mask an image. All images are for the test.

These are what ``andon annotate`` writes with ``--copy``, and what CVAT and Label Studio export, unpacked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.data.layouts.pairs import masked
from andon.data.layouts.tree import (
    images_under,
    named,
    no_images,
    read_text,
    require_folder,
    require_inside,
    what_is_in,
)
from andon.errors import DataError
from andon.outline import fill
from andon.runs import expanded, mask_of_runs, run_lengths
from andon.types import MaskSource, Sample

COCO_FILES = (
    "annotations.json",
    "result.json",
    "annotations/instances_default.json",
)  # ours, Label Studio's, CVAT's
_IMAGE_FOLDERS = ("images", "images/default", "")
_MOST_BYTES = 1 << 30  # of a COCO file


def coco(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of a COCO file with its images in ``images`` or beside it: those with an annotation are anomalous.

    Polygons, run lengths (both kinds) and, where an annotation has neither, boxes are read; an image's defect type is
    the name of its first annotation's category. Raises :class:`DataError` naming what is not as COCO has it.
    """
    root = require_folder(root)
    table = coco_file(root)
    if table is None:
        raise DataError(f"expected annotations.json (COCO) and images/ in {root}; {what_is_in(root)}.")
    try:
        content = json.loads(read_text(table, _MOST_BYTES))
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        marks: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            marks[annotation["image_id"]].append(annotation)
        samples = [_sample(root, table, entry, marks.pop(entry["id"], []), names, category or "")
                   for entry in content["images"]]  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{table} is not as COCO has it: {type(error).__name__} {error}.") from error
    if marks:
        raise DataError(f"{table} annotates images that it does not list: number {min(marks, key=str)}.")
    if not samples:
        raise DataError(f"{table} lists no images.")
    return sorted(samples, key=lambda sample: sample.path.as_posix())


def coco_file(root: Path) -> Path | None:
    """The COCO file in a folder, or None."""
    return next((root / name for name in COCO_FILES if (root / name).is_file()), None)


def masks(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of ``images/<name>`` with ``masks/<name>.png``, of the same name without its ending or with it.

    An image whose mask marks nothing is good; an image without a mask is refused with :class:`DataError`, as it may
    be one or the other.
    """
    root = require_folder(root)
    images, folder = named(root, "images"), named(root, "masks")
    if images is None or folder is None:
        raise DataError(f"expected images/ and masks/ in {root}; {what_is_in(root)}.")
    found = images_under(images)
    if not found:
        raise no_images(images)
    return [masked(path, _mask_of(path, images, folder), "test", category or "") for path in found]


def is_annotated(root: Path) -> str | None:
    """``coco`` or ``masks`` for a folder with ``images`` and one of the two, else None."""
    if named(root, "images") is None:
        return None
    if coco_file(root) is not None:
        return "coco"
    return "masks" if named(root, "masks") is not None else None


def _mask_of(image: Path, images: Path, folder: Path) -> Path:
    inside = image.relative_to(images)
    for name in (inside.with_suffix(".png"), inside.with_name(f"{inside.name}.png")):
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"expected the mask {folder / inside.with_suffix('.png')} of {image}; it is not there. A good image has one, "
        "too, all 0; or move the image away."
    )


def _sample(
    root: Path,
    table: Path,
    entry: Mapping[str, Any],
    marks: Sequence[Mapping[str, Any]],
    names: Mapping[Any, str],
    category: str,
) -> Sample:
    path = _image(root, table, str(entry["file_name"]))
    size = (int(entry["height"]), int(entry["width"]))
    sources = tuple(_source(mark, size, names[mark["category_id"]]) for mark in marks)
    if not sources:
        return Sample(path, "test", category=category)
    return Sample(path, "test", True, category, sources[0].name, sources)


def _image(root: Path, table: Path, name: str) -> Path:
    places = [require_inside(root, f"{folder}/{name}".lstrip("/"), table) for folder in _IMAGE_FOLDERS]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(
            f"{table} names the image {name}, which is neither in {root / 'images'} nor in {root}."
        )
    return found


def _source(mark: Mapping[str, Any], size: tuple[int, int], name: str) -> MaskSource:
    """The pixels of one annotation, as run lengths."""
    shape = mark.get("segmentation")
    if isinstance(shape, Mapping):
        counts = (
            expanded(shape["counts"]) if isinstance(shape["counts"], str) else list(map(int, shape["counts"]))
        )
        mask = mask_of_runs(counts, (int(shape["size"][0]), int(shape["size"][1])))
    elif shape:
        rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in shape]
        mask = np.logical_or.reduce([fill([ring], size) for ring in rings])
    else:
        left, top, width, height = (round(float(value)) for value in mark["bbox"])
        return MaskSource("boxes", boxes=((top, left, top + height, left + width),), name=name)
    return MaskSource("rle", rle=_pairs(mask), size=(mask.shape[0], mask.shape[1]), name=name)


def _pairs(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """(start, length) of the runs inside a mask, counted from 1, column by column."""
    counts = np.array(run_lengths(mask))
    ends = np.cumsum(counts)
    return tuple(zip((ends[:-1:2] + 1).tolist(), counts[1::2].tolist()))
