"""Plain folders: of good images alone, or of good and bad ones side by side."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from andon.data.layouts.tree import (
    has_images,
    images_in,
    images_under,
    listed,
    no_images,
    require_folder,
    subfolders,
)
from andon.errors import DataError
from andon.types import Sample

GOOD_NAMES = frozenset({"good", "ok", "normal", "nominal", "io", "pass", "goods", "conform", "conforming"})
BAD_NAMES = frozenset(
    {"bad", "ng", "ko", "nok", "nio", "reject", "rejects", "rejected", "fail", "failed", "not_ok", "not_good"}
)
_DEFECT_WORDS = re.compile(
    r"^(ng|bad|ko|nok|nio|notok|notgood|defect.*|anomal.*|abnormal.*|fault.*|flaw.*|reject.*|scrap|fail.*|broken|"
    r"scratch.*|crack.*|dent|dents|dented|damage.*|contaminat.*|chipped|corro.*|rust.*|stain.*|missing|bent)$"
)
_NOT = frozenset({"no", "non", "not", "without", "free", "zero"})
_DATA_SET_FOLDERS = frozenset({"test", "ground_truth", "groundtruth", "masks", "annotations"})
TEST_EVERY = 5  # of good images beside bad ones, the share 1 / TEST_EVERY is kept for the test


def suggests_defects(name: str) -> bool:
    """True when a folder's name says that the parts in it are bad.

    >>> [suggests_defects(name) for name in ("NG", "scratch_deep", "not ok", "line-3", "no_defects", "ok")]
    [True, True, True, False, False, False]
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    if any(
        f"{first} {second}" in ("not ok", "not good", "no good")
        for first, second in itertools.pairwise(words)
    ):
        return True
    return not _NOT & set(words) and any(_DEFECT_WORDS.match(word) for word in words)


def plain(root: Path, category: str | None = None) -> list[Sample]:
    """Every image below a folder, however deep, as a nominal training sample.

    Raises :class:`DataError` when there is none, when a subfolder's name suggests defects, and when the folder is
    a data set with a test part or masks.
    """
    root = require_folder(root)
    images = images_under(root)
    if not images:
        raise no_images(root)
    holding = {path.parent for path in images}
    folders = sorted({f for held in holding for f in _upwards(held.relative_to(root))})
    _refuse_defects(root, folders, images)
    _refuse_data_set(root, folders)
    return [Sample(path, "train", category=category or "") for path in images]


def _upwards(folder: Path) -> list[Path]:
    """The folder and those above it, without the root."""
    return [part for part in (folder, *folder.parents) if part.name]


def _refuse_defects(root: Path, folders: list[Path], images: list[Path]) -> None:
    suspects = [folder for folder in folders if suggests_defects(folder.name)]
    if not suspects:
        return
    counts = [
        f"{folder} ({sum((root / folder) in path.parents for path in images)} images)" for folder in suspects
    ]
    raise DataError(
        f"{root} should hold good images only, but the names of these folders suggest defects: {listed(counts)}. "
        "A detector fitted on them would pass them. Move them away or rename them, or, if the folder has good and "
        "bad parts side by side, name the folders 'good' and 'bad'."
    )


def _refuse_data_set(root: Path, folders: list[Path]) -> None:
    odd = [str(folder) for folder in folders if folder.name.lower() in _DATA_SET_FOLDERS]
    if odd:
        raise DataError(
            f"{root} should hold good images only, but {listed(odd)} looks like part of a data set with a test "
            "part or masks. Give the folder of one data set, or its folder of good images."
        )


def good_bad(root: Path, category: str | None = None) -> list[Sample]:
    """Samples of a folder with ``good`` and ``bad`` (or ``ok`` and ``ng``, ...) side by side.

    There is no split, so one is made: every fifth good image, in the order of their names, and every bad image
    are for the test; the other good images are for training. A folder inside ``bad`` names a defect type.
    """
    root = require_folder(root)
    good, bad = good_and_bad(root)
    if not good or not bad:
        raise DataError(
            f"expected one folder of good and one of bad images in {root}, such as good/ and bad/."
        )
    nominal = [path for folder in good for path in images_under(folder)]
    samples = [
        Sample(path, "test" if index % TEST_EVERY == TEST_EVERY - 1 else "train", category=category or "")
        for index, path in enumerate(nominal)
    ]
    for folder in bad:
        samples += [
            Sample(path, "test", True, category or "", _defect_type(path, folder))
            for path in images_under(folder)
        ]
    if not samples:
        raise no_images(root)
    return samples


def good_and_bad(root: Path) -> tuple[list[Path], list[Path]]:
    """The subfolders that are named as good parts, and those named as bad ones."""
    folders = subfolders(root)
    good = [folder for folder in folders if folder.name.lower() in GOOD_NAMES]
    bad = [folder for folder in folders if folder not in good and _is_bad(folder.name)]
    return good, bad


def _is_bad(name: str) -> bool:
    return name.lower() in BAD_NAMES or suggests_defects(name)


def _defect_type(path: Path, folder: Path) -> str:
    inside = path.relative_to(folder).parts
    return inside[0] if len(inside) > 1 else folder.name


def is_good_bad(root: Path) -> bool:
    """True when every folder of images in the root is named as good or as bad, and both are there."""
    good, bad = good_and_bad(root)
    rest = [folder for folder in subfolders(root) if folder not in good + bad and has_images(folder)]
    return bool(good and bad and not rest and not images_in(root))
