"""Data sets on disk -> lists of :class:`~andon.types.Sample`: one function a public layout, and one that chooses.

``LAYOUTS`` is the registry. A layout refuses what it does not understand with a
:class:`~andon.errors.DataError` that says what it expected and what came.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    close_matches,
    has_images,
    images_in,
    named,
    no_category,
    no_images,
    require_folder,
    subfolders,
)
from andon.errors import DataError, SettingsError
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


_NC = "CC BY-NC-SA 4.0 (not for commercial use)"
_OWN = "your own images"
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "autovi",
            autovi,
            "Renault Group and Université de technologie de Compiègne",
            _NC,
            "train/good, test/<defect_type>, ground_truth/<defect_type>/<stem>/*.png, defects_config.json",
        ),
        Layout(
            "mvtec_ad",
            mvtec_ad,
            "MVTec Software GmbH",
            _NC,
            "train/good, test/<defect_type>, ground_truth/<defect_type>/<stem>_mask.png",
        ),
        Layout(
            "mvtec_loco",
            mvtec_loco,
            "MVTec Software GmbH",
            _NC,
            "train/good, validation/good, test/<kind>, ground_truth/<kind>/<stem>/*.png, defects_config.json",
        ),
        Layout(
            "visa",
            visa,
            "Amazon",
            "CC BY 4.0",
            "split_csv/1cls.csv and <category>/Data/..., or train/good, test/good, test/bad, ground_truth/bad",
        ),
        Layout(
            "btad",
            btad,
            "beanTech and the University of Udine",
            _NC,
            "train/ok, test/ok, test/ko, ground_truth/ko/<stem>.png",
        ),
        Layout(
            "kolektor_sdd",
            kolektor_sdd,
            "Kolektor Group and ViCoS, University of Ljubljana",
            _NC,
            "kosXX/PartN.jpg with PartN_label.bmp; every fourth kosXX is kept for the test",
        ),
        Layout(
            "kolektor_sdd2",
            kolektor_sdd2,
            "Kolektor Group and ViCoS, University of Ljubljana",
            _NC,
            "train/NNNNN.png with NNNNN_GT.png, test/ likewise",
        ),
        Layout(
            "dagm",
            dagm,
            "M. Wieler and T. Hahn, for the DAGM symposium 2007",
            "CC BY 4.0",
            "ClassN/Train/*.PNG with Label/*_label.PNG, ClassN/Test likewise; or ClassN_def/labels.txt",
        ),
        Layout(
            "severstal",
            severstal,
            "PAO Severstal",
            "the rules of the Kaggle competition",
            "train.csv (run lengths) and train_images/; every fifth good image is kept for the test",
        ),
        Layout(
            "neu",
            neu,
            "Northeastern University, K. Song and Y. Yan",
            "none stated; for research, cite the authors",
            "IMAGES/ and ANNOTATIONS/*.xml; no good images, so it can test a detector but not fit one",
        ),
        Layout(
            "good_bad",
            good_bad,
            _OWN,
            _OWN,
            "good/ and bad/ (or ok/ and ng/) side by side; every fifth good image is kept for the test",
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
        close = close_matches(layout, LAYOUTS)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
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
    found = _published(folder) or flavour(folder)
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
