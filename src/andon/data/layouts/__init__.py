"""Data sets on disk -> lists of :class:`~andon.types.Sample`: one function a public layout, and one that chooses.

``LAYOUTS`` is the registry. A layout refuses what it does not understand with a
:class:`~andon.errors.DataError` that says what it expected and what came.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from andon.data.layouts.annotated import coco, is_annotated, masks
from andon.data.layouts.folders import good_bad, is_good_bad, plain
from andon.data.layouts.mvtec import autovi, btad, flavour, mvtec_ad, mvtec_loco
from andon.data.layouts.pairs import (
    CLASS_NAME,
    ITEM_NAME,
    dagm,
    is_dagm_class,
    is_kolektor_sdd2,
    kolektor_sdd,
    kolektor_sdd2,
)
from andon.data.layouts.tables import is_neu, neu, severstal, visa
from andon.data.layouts.tree import (
    has_images,
    images_in,
    named,
    no_category,
    no_images,
    require_folder,
    subfolders,
)
from andon.data.remote import DATASETS
from andon.errors import DataError, SettingsError, did_you_mean
from andon.types import Sample

__all__ = ["LAYOUTS", "Layout", "detect_layout", "read_samples"]

Reader = Callable[[Path, str | None], list[Sample]]


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk, and whose it is."""

    name: str
    read: Reader  # (root, category or None) -> samples
    publisher: str
    licence: str
    expects: str  # one line


_OWN = "your own images"


def _public(name: str, read: Reader, expects: str) -> Layout:
    """The layout of the public data set ``name``, whose publisher and licence stand in :data:`DATASETS`."""
    data = DATASETS[name]
    return Layout(name, read, data.publisher, data.licence_and_terms, expects)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _public(
            "autovi",
            autovi,
            "train/good, test/<defect_type>, ground_truth/<defect_type>/<stem>/*.png, defects_config.json",
        ),
        _public(
            "mvtec_ad", mvtec_ad, "train/good, test/<defect_type>, ground_truth/<defect_type>/<stem>_mask.png"
        ),
        _public(
            "mvtec_loco",
            mvtec_loco,
            "train/good, validation/good, test/<kind>, ground_truth/<kind>/<stem>/*.png, defects_config.json",
        ),
        _public(
            "visa",
            visa,
            "split_csv/1cls.csv and <category>/Data/..., or train/good, test/good, test/bad, ground_truth/bad",
        ),
        _public("btad", btad, "train/ok, test/ok, test/ko, ground_truth/ko/<stem>.png"),
        _public(
            "kolektor_sdd",
            kolektor_sdd,
            "kosXX/PartN.jpg with PartN_label.bmp; every fourth kosXX is kept for the test",
        ),
        _public("kolektor_sdd2", kolektor_sdd2, "train/NNNNN.png with NNNNN_GT.png, test/ likewise"),
        _public(
            "dagm",
            dagm,
            "ClassN/Train/*.PNG with Label/*_label.PNG, ClassN/Test likewise; or ClassN_def/labels.txt",
        ),
        _public(
            "severstal",
            severstal,
            "train.csv (run lengths) and train_images/; every fifth good image is kept for the test",
        ),
        _public(
            "neu",
            neu,
            "IMAGES/ and ANNOTATIONS/*.xml; no good images, so it can test a detector but not fit one",
        ),
        Layout(
            "good_bad",
            good_bad,
            _OWN,
            _OWN,
            "good/ and bad/ (or ok/ and ng/) side by side; every fifth good image is kept for the test",
        ),
        Layout("coco", coco, _OWN, _OWN, "annotations.json (COCO) and images/, all for the test"),
        Layout(
            "masks",
            masks,
            _OWN,
            _OWN,
            "images/<name> and masks/<name>.png (all 0 for good), all for the test",
        ),
        Layout("folder", plain, _OWN, _OWN, "good images at any depth, all for training"),
    )
}


def read_samples(
    root: str | os.PathLike[str], layout: str = "auto", category: str | None = None
) -> list[Sample]:
    """The samples of a data set, sorted within each category and split; all categories unless one is named.

    ``layout`` is a name of ``LAYOUTS``, or ``"auto"`` to detect it. Samples of the split ``train`` may be anomalous
    where the publisher's are (KolektorSDD2, DAGM, VisA's two-class splits): go through
    :func:`andon.data.split.split_nominal` before fitting.

    Raises :class:`SettingsError` for an unknown layout, :class:`DataError` for anything that is not as expected.
    """
    folder = require_folder(root)
    if layout == "auto":
        layout = detect_layout(folder)
    if layout not in LAYOUTS:
        hint = did_you_mean(layout, LAYOUTS)
        raise SettingsError(f"there is no layout {layout!r}; there are auto, {', '.join(LAYOUTS)}.{hint}")
    samples = LAYOUTS[layout].read(folder, category)
    if category is not None and not any(sample.category == category for sample in samples):
        raise no_category(category, sorted({sample.category for sample in samples}))
    return samples


def detect_layout(root: str | os.PathLike[str]) -> str:
    """The name of the layout that a folder is in, by the names of its folders and files alone.

    Raises :class:`DataError` for no folder, a folder without images, and a data set one folder further down.
    """
    folder = require_folder(root)
    found = _published(folder) or flavour(folder) or is_annotated(folder)
    if found:
        return found
    if not has_images(folder):
        raise no_images(folder)
    _refuse_wrapper(folder)
    return "good_bad" if is_good_bad(folder) else "folder"


def _published(folder: Path) -> str | None:
    names = [child.name for child in subfolders(folder)]
    if (folder / "split_csv" / "1cls.csv").is_file():
        return "visa"
    if (folder / "train.csv").is_file() and named(folder, "train_images"):
        return "severstal"
    if any(ITEM_NAME.match(name) for name in names):
        return "kolektor_sdd"
    if is_dagm_class(folder) or any(CLASS_NAME.match(name) and _is_dagm(folder / name) for name in names):
        return "dagm"
    if is_kolektor_sdd2(folder):
        return "kolektor_sdd2"
    return "neu" if is_neu(folder) else None


def _is_dagm(folder: Path) -> bool:
    return is_dagm_class(folder) or (folder.parent / f"{folder.name}_def").is_dir()


def _refuse_wrapper(folder: Path) -> None:
    """A data set that lies one folder further down would be read as a plain folder of good images."""
    inner = subfolders(folder)
    if len(inner) != 1 or images_in(folder):
        return
    found = _published(inner[0]) or flavour(inner[0])
    if found:
        raise DataError(
            f"{folder} holds one folder, and that is a data set ({found}). Give {inner[0]} instead."
        )
