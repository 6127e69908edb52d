"""Data sets where a mask lies beside its image: KolektorSDD, KolektorSDD2 and DAGM 2007.

Whether an image is anomalous is only written in its mask here, so these layouts open the masks.
"""

from __future__ import annotations

import re
from pathlib import Path

from andon.data.layouts.tree import (
    by_stem,
    images_in,
    listed,
    named,
    read_text,
    require_category,
    require_folder,
    subfolders,
    what_is_in,
)
from andon.data.masks import mask_values
from andon.errors import DataError
from andon.types import MaskSource, Sample, Split

ITEM_NAME = re.compile(r"^kos\d+$", re.IGNORECASE)
CLASS_NAME = re.compile(r"^class\d+$", re.IGNORECASE)
_CLASS_DEFECTS = re.compile(r"^class\d+_def$", re.IGNORECASE)
_TEST_ITEM_EVERY = 4


def masked(path: Path, mask: Path, split: Split, category: str) -> Sample:
    """The sample of an image that is anomalous where its mask marks something."""
    if not mask_values(mask).any():
        return Sample(path, split, category=category)
    return Sample(path, split, True, category, "defect", (MaskSource("image", mask),))


def kolektor_sdd(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of KolektorSDD: ``kosXX/PartN.jpg`` with ``PartN_label.bmp``; one ``kosXX`` is one physical item.

    The publisher's folds are for supervised training; this split is ours. Every fourth item, in the order of
    names, is for the test with all its images, so that false alarms are measured on items never seen. Of the
    other items the good images are for training and the defective ones for the test.
    """
    root = require_folder(root)
    items = [folder for folder in subfolders(root) if ITEM_NAME.match(folder.name)]
    if not items:
        raise DataError(f"expected folders kos01, kos02, ... in {root}; {what_is_in(root)}.")
    require_category(category, ["kolektor_sdd"])
    return [sample for index, item in enumerate(items) for sample in _item(item, index)]


def _item(folder: Path, index: int) -> list[Sample]:
    split: Split = "test" if index % _TEST_ITEM_EVERY == _TEST_ITEM_EVERY - 1 else "train"
    files = images_in(folder)
    labels = by_stem(files, "_label")
    samples = []
    for path in (file for file in files if not file.stem.endswith("_label")):
        sample = masked(path, _partner(path, labels, "_label.bmp"), split, "kolektor_sdd")
        samples.append(_moved_to_test(sample) if sample.is_anomalous else sample)
    return samples


def _moved_to_test(sample: Sample) -> Sample:
    return Sample(sample.path, "test", True, sample.category, sample.defect_type, sample.masks)


def _partner(path: Path, masks: dict[str, Path], suffix: str) -> Path:
    if path.stem not in masks:
        raise DataError(f"expected the mask {path.stem}{suffix} beside {path}; it is not there.")
    return masks[path.stem]


def kolektor_sdd2(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of KolektorSDD2: ``train/NNNNN.png`` with ``NNNNN_GT.png``, and the same in ``test``.

    Its training part holds defective images: they keep the split ``train`` with ``is_anomalous`` True, and
    :func:`andon.data.split.split_nominal` leaves them out. The two ``(copy)`` files of the archive are ignored.
    """
    root = require_folder(root)
    train, test = named(root, "train"), named(root, "test")
    if train is None and test is None:
        raise DataError(
            f"expected train/NNNNN.png with NNNNN_GT.png, and test/, in {root}; {what_is_in(root)}."
        )
    require_category(category, ["kolektor_sdd2"])
    samples: list[Sample] = []
    parts: list[tuple[Path | None, Split]] = [(train, "train"), (test, "test")]
    for folder, split in parts:
        files = [file for file in images_in(folder) if "(copy)" not in file.stem] if folder else []
        masks = by_stem(files, "_GT")
        for path in (file for file in files if not file.stem.endswith("_GT")):
            samples.append(masked(path, _partner(path, masks, "_GT.png"), split, "kolektor_sdd2"))
    if not samples:
        raise DataError(f"no images in {root}/train and {root}/test; expected NNNNN.png with NNNNN_GT.png.")
    return samples


def is_kolektor_sdd2(root: Path) -> bool:
    """True when ``train`` or ``test`` holds images and their ``_GT`` masks directly."""
    parts = [part for part in (named(root, "train"), named(root, "test")) if part]
    return any(file.stem.endswith("_GT") for part in parts for file in images_in(part))


def dagm(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of DAGM 2007: ``ClassN/Train/*.PNG`` with ``Label/*_label.PNG`` for the defective ones, and ``Test``.

    The older form, ``ClassN`` of good images beside ``ClassN_def`` with ``labels.txt`` of ellipses, is read as well.
    Defective images of the training part keep the split ``train``; see :func:`kolektor_sdd2`.
    """
    root = require_folder(root)
    folders = [root] if is_dagm_class(root) else [f for f in subfolders(root) if CLASS_NAME.match(f.name)]
    names = [folder.resolve().name for folder in folders]
    if not folders:
        raise DataError(f"expected folders Class1, Class2, ... in {root}; {what_is_in(root)}.")
    require_category(category, names)
    chosen = [(name, folder) for name, folder in zip(names, folders) if category in (None, name)]
    samples = [sample for name, folder in chosen for sample in _dagm_class(name, folder)]
    if not samples:
        raise DataError(f"no images in {root}; expected ClassN/Train/*.PNG and ClassN/Test/*.PNG.")
    return samples


def is_dagm_class(folder: Path) -> bool:
    """True for one class of DAGM: ``Train`` or ``Test`` with a ``Label`` folder inside."""
    parts = [part for part in (named(folder, "train"), named(folder, "test")) if part]
    return any(images_in(part) and named(part, "label") for part in parts)


def _dagm_class(name: str, folder: Path) -> list[Sample]:
    parts: list[tuple[Path | None, Split]] = [
        (named(folder, "train"), "train"),
        (named(folder, "test"), "test"),
    ]
    if parts[0][0] is None and parts[1][0] is None:
        return _dagm_ellipses(name, folder)
    samples: list[Sample] = []
    for part, split in parts:
        label = named(part, "label") if part else None
        masks = by_stem(images_in(label), "_label") if label else {}
        for path in images_in(part) if part else []:
            mask = masks.get(path.stem)
            good = Sample(path, split, category=name)
            samples.append(
                Sample(path, split, True, name, "defect", (MaskSource("image", mask),)) if mask else good
            )
    return samples


def _dagm_ellipses(name: str, folder: Path) -> list[Sample]:
    samples = [Sample(path, "train", category=name) for path in images_in(folder)]
    defects = next((f for f in subfolders(folder.parent) if f.name.lower() == f"{name}_def".lower()), None)
    if defects is None or not _CLASS_DEFECTS.match(defects.name):
        return samples
    ellipses = _read_ellipses(defects / "labels.txt")
    images = images_in(defects)
    missing = [path.name for path in images if path.stem not in ellipses]
    if missing:
        raise DataError(
            f"{defects / 'labels.txt'} has no line for {len(missing)} images: {listed(missing, 3)}."
        )
    for path in images:
        source = MaskSource("ellipse", ellipse=ellipses[path.stem])
        samples.append(Sample(path, "test", True, name, "defect", (source,)))
    return samples


def _read_ellipses(path: Path) -> dict[str, tuple[float, float, float, float, float]]:
    """Lines of number, semi-major axis, semi-minor axis, rotation in radians, x, y -> our (row, column, a, b, angle)."""
    if not path.is_file():
        raise DataError(f"expected {path} with one line of six numbers an image; it is not there.")
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            index, major, minor, angle, x, y = (float(word) for word in words)
            found[str(int(index))] = (y, x, major, minor, angle)
        except (ValueError, OverflowError):
            raise DataError(f"{path}, line {number}: expected six numbers, found {line[:80]!r}.") from None
        if not (major > 0 and minor > 0):
            raise DataError(
                f"{path}, line {number}: the semi-axes must be positive, found {major} and {minor}."
            )
    return found
