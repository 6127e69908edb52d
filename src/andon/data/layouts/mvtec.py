"""Data sets laid out as MVTec AD is, and its relatives: one folder a category, ``train``, ``test``, ``ground_truth``.

Sources: MVTec AD (Bergmann et al. 2019), MVTec LOCO AD (Bergmann et al. 2022), AutoVI (Carvalho et al. 2024),
BTAD (Mishra et al. 2021), VisA as converted by its authors' script (Zou et al. 2022).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from andon.data.layouts.tree import (
    by_stem,
    has_images,
    images_in,
    listed,
    named,
    no_category,
    read_text,
    require_category,
    require_folder,
    subfolders,
    what_is_in,
)
from andon.errors import DataError
from andon.types import MaskSource, Sample, Split

_SPLITS: dict[str, Split] = {"train": "train", "validation": "calibration", "test": "test"}
_LOCO_TYPES = frozenset({"logical_anomalies", "structural_anomalies"})
Masks = Callable[[Path], tuple[MaskSource, ...]]  # an anomalous image -> its masks
MaskFinder = Callable[[Path, str], Masks]  # a category's folder, a defect type -> Masks


@dataclass(frozen=True)
class Spelling:
    """How one relative of MVTec AD spells what they share."""

    good: str  # the folder of nominal images
    tree: str  # what is expected, for messages
    find_masks: MaskFinder


def mvtec_ad(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of MVTec AD: ``ground_truth/<defect_type>/<stem>_mask.png``, any non-zero pixel.

    Masks named ``<stem>.png`` and folders of masks ``<stem>/*.png`` are read as well. Raises :class:`DataError`.
    """
    tree = "<category>/train/good, <category>/test/<defect_type>, <category>/ground_truth/<defect_type>/<stem>_mask.png"
    return _read(root, category, Spelling("good", tree, _plain_masks))


def mvtec_loco(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of MVTec LOCO AD: ``validation/good`` is the calibration split, masks as in :func:`autovi`."""
    tree = (
        "<category>/train/good, <category>/validation/good, <category>/test/{good,logical_anomalies,"
        "structural_anomalies}, <category>/ground_truth/<defect_type>/<stem>/*.png, <category>/defects_config.json"
    )
    return _read(root, category, Spelling("good", tree, _configured_masks))


def autovi(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of AutoVI: a folder of masks an image, and ``defects_config.json`` says which pixel value is which defect.

    Every mask file is offered for every configured pixel value; the values that it holds become channels when read.
    """
    tree = (
        "<category>/train/good, <category>/test/<defect_type>, "
        "<category>/ground_truth/<defect_type>/<stem>/*.png, <category>/defects_config.json"
    )
    return _read(root, category, Spelling("good", tree, _configured_masks))


def btad(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of BTAD: ``train/ok``, ``test/ok``, ``test/ko``, ``ground_truth/ko/<stem>.png`` (or .bmp)."""
    tree = (
        "<category>/train/ok, <category>/test/ok, <category>/test/ko, <category>/ground_truth/ko/<stem>.png"
    )
    return _read(root, category, Spelling("ok", tree, _plain_masks))


def _read(root: Path, category: str | None, spelling: Spelling) -> list[Sample]:
    root = require_folder(root)
    found = [
        sample
        for name, folder in _categories(root, category, spelling.tree)
        for sample in _category(name, folder, spelling)
    ]
    if not found:
        raise DataError(f"no images in {root}. Expected {spelling.tree}.")
    return found


def looks_like_category(folder: Path) -> bool:
    """True for a folder that holds ``train`` or ``test``."""
    return named(folder, "train", "test") is not None


def _categories(root: Path, category: str | None, tree: str) -> list[tuple[str, Path]]:
    if looks_like_category(root):
        return _only(root, category)
    folders = subfolders(root)
    if category is not None:
        folders = [folder for folder in folders if folder.name == category]
        if not folders:
            raise no_category(category, [folder.name for folder in subfolders(root)])
    found = [folder for folder in folders if looks_like_category(folder)]
    if not found:
        raise DataError(f"{root} is not laid out as expected: {what_is_in(root)}. Expected {tree}.")
    for stray in (folder for folder in folders if folder not in found):
        if has_images(stray):
            raise DataError(
                f"{stray} holds images but neither train nor test. Expected {tree}. "
                "Move it out of the data set, or choose one category."
            )
    return [(folder.name, folder) for folder in found]


def _only(folder: Path, category: str | None) -> list[tuple[str, Path]]:
    name = folder.resolve().name
    require_category(category, [name])
    return [(name, folder)]


def _category(name: str, folder: Path, spelling: Spelling) -> list[Sample]:
    samples: list[Sample] = []
    for spelled, split in _SPLITS.items():
        part = named(folder, spelled)
        if part is not None:
            _refuse_loose_images(part, spelling.tree)
            for types in subfolders(part):
                samples += _defect_type(name, folder, split, types, spelling)
    return samples


def _refuse_loose_images(part: Path, tree: str) -> None:
    loose = images_in(part)
    if loose:
        raise DataError(
            f"{part} holds {len(loose)} images directly ({loose[0].name}, ...); they must lie in a folder that says "
            f"whether they are good. Expected {tree}."
        )


def _defect_type(category: str, folder: Path, split: Split, types: Path, spelling: Spelling) -> list[Sample]:
    images = images_in(types)
    if not images and has_images(types):
        raise DataError(
            f"{types} holds its images in folders ({listed(f.name for f in subfolders(types))}), not directly. "
            f"Expected {spelling.tree}."
        )
    if types.name.lower() == spelling.good:
        return [Sample(path, split, category=category) for path in images]
    if split != "test" and images:
        raise DataError(
            f"{types} holds {len(images)} images, but only {types.parent / spelling.good} may be trained or calibrated "
            f"on. Move them to test/{types.name}. Expected {spelling.tree}."
        )
    masks = spelling.find_masks(folder, types.name)
    return [Sample(path, split, True, category, types.name, masks(path)) for path in images]


def _plain_masks(category: Path, defect_type: str) -> Masks:
    """Masks of which any non-zero pixel counts: ``<stem>_mask.png``, ``<stem>.png`` or ``<stem>/*.png``."""
    folder = _ground_truth(category, defect_type)
    if folder is None:
        return _no_masks
    files = images_in(folder)
    masked, same = by_stem(files, "_mask"), by_stem(files)
    nested = {child.name: images_in(child) for child in subfolders(folder)}

    def masks(image: Path) -> tuple[MaskSource, ...]:
        one = masked.get(image.stem) or same.get(image.stem)
        paths = [one] if one else nested.get(image.stem, [])
        return tuple(MaskSource("image", path, name=defect_type) for path in paths)

    return masks


def _no_masks(image: Path) -> tuple[MaskSource, ...]:
    return ()


def _ground_truth(category: Path, defect_type: str) -> Path | None:
    folder = named(category, "ground_truth")
    return named(folder, defect_type) if folder else None


def _configured_masks(category: Path, defect_type: str) -> Masks:
    """A folder of masks an image, every file once for each pixel value of ``defects_config.json``."""
    folder = _ground_truth(category, defect_type)
    if folder is None:
        return _no_masks
    if images_in(folder):
        raise DataError(
            f"{folder} holds masks directly; expected one folder of masks an image ({folder}/<stem>/*.png). "
            "Single masks are read by the layout 'mvtec_ad'."
        )
    config = read_defects_config(category / "defects_config.json")
    nested = {child.name: images_in(child) for child in subfolders(folder)}

    def masks(image: Path) -> tuple[MaskSource, ...]:
        return tuple(entry.source(path) for path in nested.get(image.stem, []) for entry in config)

    return masks


@dataclass(frozen=True)
class DefectEntry:
    """One line of ``defects_config.json``."""

    name: str
    pixel_value: int
    saturation: float
    relative_saturation: bool

    def source(self, path: Path) -> MaskSource:
        """The mask source for this defect in one mask file."""
        return MaskSource(
            "image",
            path,
            pixel_value=self.pixel_value,
            name=self.name,
            saturation=self.saturation,
            relative_saturation=self.relative_saturation,
        )


def read_defects_config(path: Path) -> list[DefectEntry]:
    """The defects that a MVTec LOCO or AutoVI category knows, in the file's order.

    Raises :class:`DataError` when the file is missing, is not JSON, or an entry makes no sense.
    """
    if not path.is_file():
        raise DataError(
            f"expected {path}, which says the pixel value and the saturation area of each defect; it is not there. "
            "Copy it from the publisher's archive, or read the masks as one defect each with the layout 'mvtec_ad'."
        )
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of defects, found {type(entries).__name__}.")
    config = [_defect_entry(entry, path) for entry in entries]
    values = [entry.pixel_value for entry in config]
    if len(set(values)) != len(values):
        raise DataError(f"{path}: two defects have the same pixel_value ({sorted(values)}).")
    return config


def _defect_entry(entry: object, path: Path) -> DefectEntry:
    expected = f"{path}: expected {{defect_name, pixel_value 1..65535, saturation_threshold > 0, relative_saturation}}"
    if not isinstance(entry, dict):
        raise DataError(f"{expected}, found {entry!r:.80}.")
    name, value = entry.get("defect_name"), entry.get("pixel_value")
    threshold, relative = entry.get("saturation_threshold"), entry.get("relative_saturation")
    fits = (
        isinstance(name, str)
        and isinstance(value, int)
        and not isinstance(value, bool)
        and 1 <= value <= 65535
        and isinstance(threshold, int | float)
        and not isinstance(threshold, bool)
        and isinstance(relative, bool)
        and 0 < threshold <= (1 if relative else 1e12)
    )
    if not fits:
        raise DataError(f"{expected}, found {entry!r:.200}.")
    return DefectEntry(str(name), int(value or 0), float(threshold or 0), bool(relative))


def flavour(root: Path) -> str | None:
    """Which layout of this file the folder is in, or None: ``btad``, ``autovi``, ``mvtec_loco`` or ``mvtec_ad``."""
    folders = [root] if looks_like_category(root) else [f for f in subfolders(root) if looks_like_category(f)]
    for folder in folders:
        parts = [part for part in (named(folder, "train"), named(folder, "test")) if part]
        types = {child.name.lower() for part in parts for child in subfolders(part)}
        if "good" in types:
            return _nested_flavour(folder)
        if types & {"ok", "ko"}:
            return "btad"
        if types and named(folder, "ground_truth"):
            return _nested_flavour(folder)
    return None


def _nested_flavour(category: Path) -> str:
    truth = named(category, "ground_truth")
    types = subfolders(truth) if truth else []
    nested = any(subfolders(folder) and not images_in(folder) for folder in types)
    if not nested or not (category / "defects_config.json").is_file():
        return "mvtec_ad"
    loco = named(category, "validation") is not None or any(folder.name in _LOCO_TYPES for folder in types)
    return "mvtec_loco" if loco else "autovi"
