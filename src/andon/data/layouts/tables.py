"""Data sets whose split or annotations stand in a table: VisA (CSV), Severstal (CSV, run lengths), NEU-DET (XML)."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from andon.data.layouts.mvtec import mvtec_ad
from andon.data.layouts.tree import (
    by_stem,
    files_under,
    has_images,
    images_in,
    is_image,
    listed,
    named,
    no_category,
    no_images,
    read_text,
    require_category,
    require_folder,
    require_inside,
    what_is_in,
)
from andon.errors import DataError
from andon.types import MaskSource, Sample

_VISA_COLUMNS = ("object", "split", "label", "image", "mask")
_SEVERSTAL_TEST_EVERY = 5


def visa(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of VisA: as published, split by ``split_csv/1cls.csv``, or as converted to folders (``test/bad``).

    Raises :class:`DataError` when the table or a file that it names is not there.
    """
    root = require_folder(root)
    table = root / "split_csv" / "1cls.csv"
    if not table.is_file():
        return mvtec_ad(root, category)
    rows = [row for row in read_table(table, _VISA_COLUMNS) if category in (None, row["object"])]
    if not rows:
        raise no_category(str(category), sorted({row["object"] for row in read_table(table, _VISA_COLUMNS)}))
    samples = sorted(
        (_visa_sample(root, table, row) for row in rows), key=lambda sample: sample.path.as_posix()
    )
    _require_files(root, table, [sample.path for sample in samples])
    return samples


def _visa_sample(root: Path, table: Path, row: dict[str, str]) -> Sample:
    split, label = row["split"], row["label"]
    if label not in ("normal", "anomaly"):
        raise DataError(f"{table}: expected label 'normal' or 'anomaly', found {label!r}.")
    if split not in ("train", "test"):
        raise DataError(f"{table}: expected split 'train' or 'test', found {split!r}.")
    path = require_inside(root, row["image"], table)
    if label == "normal":
        return Sample(path, "train" if split == "train" else "test", category=row["object"])
    masks = (
        (MaskSource("image", require_inside(root, row["mask"], table), name="anomaly"),)
        if row["mask"]
        else ()
    )
    return Sample(path, "train" if split == "train" else "test", True, row["object"], "anomaly", masks)


def _require_files(root: Path, table: Path, paths: list[Path]) -> None:
    missing = [path.relative_to(root).as_posix() for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{table} names {len(missing)} images that are not in {root}: {listed(missing, 3)}. "
            "Unpack the whole archive, or choose a category that is there."
        )


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file that must have these columns, each as a dict of stripped strings.

    Raises :class:`DataError` for other columns, a row of another length, or what is not CSV.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}.") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    if tuple(header) != columns:
        raise DataError(
            f"{path}: expected the columns {','.join(columns)}, found {','.join(header)[:200] or 'nothing'}."
        )
    for number, row in enumerate(rows[1:], 2):
        if row and len(row) != len(columns):
            raise DataError(f"{path}, line {number}: expected {len(columns)} columns, found {len(row)}.")
        if row:
            yield dict(zip(columns, (cell.strip() for cell in row)))


def severstal(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of Severstal's steel sheets: ``train.csv`` with run lengths, ``train_images/``.

    Both published tables are read (``ImageId,ClassId,EncodedPixels`` and ``ImageId_ClassId,EncodedPixels``). The
    publisher's test images have no labels, so every fifth good image, in the order of names, is kept for the test
    with every defective one.
    """
    root = require_folder(root)
    table, folder = root / "train.csv", named(root, "train_images")
    if not table.is_file() or folder is None:
        raise DataError(f"expected train.csv and train_images/ in {root}; {what_is_in(root)}.")
    masks = _severstal_masks(table)
    images = images_in(folder)
    if not images:
        raise no_images(folder)
    unknown = sorted(set(masks) - {path.name for path in images})
    if unknown:
        raise DataError(
            f"{table} names {len(unknown)} images that are not in {folder}: {listed(unknown, 3)}."
        )
    require_category(category, ["steel"])
    good = [path for path in images if path.name not in masks]
    kept = set(good[_SEVERSTAL_TEST_EVERY - 1 :: _SEVERSTAL_TEST_EVERY])
    return [_severstal_sample(path, masks.get(path.name, ()), path in kept) for path in images]


def _severstal_sample(path: Path, masks: tuple[MaskSource, ...], kept: bool) -> Sample:
    if not masks:
        return Sample(path, "test" if kept else "train", category="steel")
    names = sorted({mask.name for mask in masks})
    return Sample(path, "test", True, "steel", "+".join(names), masks)


def _severstal_masks(table: Path) -> dict[str, tuple[MaskSource, ...]]:
    old = read_text(table).lstrip().startswith("ImageId_ClassId")
    columns = ("ImageId_ClassId", "EncodedPixels") if old else ("ImageId", "ClassId", "EncodedPixels")
    found: dict[str, list[MaskSource]] = {}
    for row in read_table(table, columns):
        name, _, kind = (
            row["ImageId_ClassId"].rpartition("_") if old else (row["ImageId"], "", row["ClassId"])
        )
        if not name or not kind.isdigit():
            raise DataError(
                f"{table}: expected an image and a class such as 0002cc93b.jpg and 1, found {row!r:.120}."
            )
        if row["EncodedPixels"]:
            source = MaskSource(
                "rle", rle=run_lengths(row["EncodedPixels"], table), name=f"class_{int(kind)}"
            )
            found.setdefault(name, []).append(source)
    return {name: tuple(sorted(sources, key=lambda source: source.name)) for name, sources in found.items()}


def run_lengths(text: str, table: Path) -> tuple[tuple[int, int], ...]:
    """The (start, length) pairs of a run-length code.

    >>> run_lengths("29102 12 29346 24", Path("train.csv"))
    ((29102, 12), (29346, 24))
    """
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError:
        raise DataError(f"{table}: run lengths are whole numbers, found {text[:60]!r}.") from None
    if len(numbers) % 2 or any(not 1 <= number < 2**40 for number in numbers):
        raise DataError(
            f"{table}: run lengths are pairs of a start and a length from 1 on, found {text[:60]!r}."
        )
    return tuple(zip(numbers[::2], numbers[1::2]))


def neu(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of NEU-DET: images and one XML of boxes each, in ``IMAGES`` and ``ANNOTATIONS`` at any depth.

    The set has no good images: every sample is anomalous and for the test. It can measure a detector that was
    fitted elsewhere, it cannot fit one.
    """
    root = require_folder(root)
    annotations = by_stem(path for path in files_under(root) if path.suffix.lower() == ".xml")
    images = [path for path in files_under(root) if is_image(path)]
    if not images:
        raise no_images(root)
    if not annotations:
        raise DataError(f"expected ANNOTATIONS/*.xml beside the images in {root}, found no XML file.")
    missing = [path.name for path in images if path.stem not in annotations]
    if missing:
        raise DataError(f"{len(missing)} images in {root} have no XML annotation: {listed(missing, 3)}.")
    require_category(category, ["steel"])
    return [_neu_sample(path, annotations[path.stem]) for path in images]


def _neu_sample(path: Path, annotation: Path) -> Sample:
    masks = read_boxes(annotation)
    names = sorted({mask.name for mask in masks})
    return Sample(path, "test", True, "steel", "+".join(names), masks)


def read_boxes(path: Path) -> tuple[MaskSource, ...]:
    """One mask source an object of a Pascal VOC annotation; its corners are 1-based and included.

    Raises :class:`DataError` for what is not such a file, has no object, or declares XML entities.
    """
    text = read_text(path, most_bytes=4 << 20)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path} declares a document type; annotations do not need one and it is refused.")
    try:
        tree = ElementTree.fromstring(text)
        size = (_whole(tree, "size/height", path), _whole(tree, "size/width", path))
        objects = tree.findall("object")
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is not XML: {error}.") from error
    if not objects or min(size) < 1:
        raise DataError(f"{path}: expected a size and at least one <object> with a <bndbox>, found none.")
    return tuple(_box(item, size, path) for item in objects)


def _box(item: ElementTree.Element, size: tuple[int, int], path: Path) -> MaskSource:
    left, top, right, bottom = (
        _whole(item, f"bndbox/{tag}", path) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    box = (max(top - 1, 0), max(left - 1, 0), min(bottom, size[0]), min(right, size[1]))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DataError(f"{path}: the box {left, top, right, bottom} has no area inside an image of {size}.")
    return MaskSource("boxes", boxes=(box,), size=size, name=(item.findtext("name") or "defect").strip())


def _whole(element: ElementTree.Element, tag: str, path: Path) -> int:
    text = element.findtext(tag)
    try:
        return round(float(text or ""))
    except (ValueError, OverflowError):
        raise DataError(f"{path}: expected a number in <{tag}>, found {text!r:.40}.") from None


def is_neu(root: Path) -> bool:
    """True for a folder with ``IMAGES`` and ``ANNOTATIONS``, itself or in its ``train`` part."""
    parts = [root, *(part for part in (named(root, "train"), named(root, "validation")) if part)]
    paired = any(named(part, "images") and named(part, "annotations") for part in parts)
    return paired and has_images(root)
