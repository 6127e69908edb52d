"""The middle of every photograph of a category, as a data set of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

from andon.data import read_samples
from andon.errors import SettingsError
from andon.image import IMAGE_SUFFIXES


def middle_box(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a square of ``side`` pixels in the middle of ``size`` (H, W), or of what there is.

    >>> middle_box((400, 1000), 600)
    (0, 200, 400, 800)
    """
    (height, width), (rows, columns) = size, (min(side, size[0]), min(side, size[1]))
    top, left = (height - rows) // 2, (width - columns) // 2
    return top, left, top + rows, left + columns


def cut_windows(root: Path, category: str, side: int, folder: Path) -> Path:
    """A folder in ``folder``, named like ``root``: the category, its photographs and masks cut to :func:`middle_box`.

    Whatever else lies in the data set's tree of that category (such as the saturation areas, which are in pixels and so still
    hold) is copied, and so is an image that cannot be read. A defect outside the window has an empty mask there, and its image stays anomalous. Raises
    :class:`SettingsError` for a side below 16 pixels and for a layout whose masks are no images.
    """
    if side < 16:
        raise SettingsError(f"a window needs at least 16 pixels, got {side}")
    samples = read_samples(root, category=category)
    if any(mask.kind != "image" for sample in samples for mask in sample.masks):
        raise SettingsError(
            f"{root} marks its defects by boxes or codes, not by mask images: no windows can be cut"
        )
    made = folder / root.resolve().name
    for path in _tree(root, category, [sample.path for sample in samples]):
        target = made / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            _cut(path, side, target)
        else:
            shutil.copyfile(path, target)
    return made


def _tree(root: Path, category: str, images: Iterable[Path]) -> list[Path]:
    """The files of one category: of its folder where it has one, else of the root."""
    own = root / category
    within = own if own.is_dir() and all(own in image.parents for image in images) else root
    return [path for path in sorted(within.rglob("*")) if path.is_file()]


def _cut(path: Path, side: int, target: Path) -> None:
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            top, left, bottom, right = middle_box((image.height, image.width), side)
            cut = image.crop((left, top, right, bottom))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        shutil.copyfile(path, target)  # whoever reads it says what is wrong with it
        return
    if target.suffix.lower() in {".jpg", ".jpeg"}:
        cut.save(target, quality=95)
    else:
        cut.save(target)
