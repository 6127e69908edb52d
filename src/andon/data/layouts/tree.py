"""What every layout needs of a folder: sorted listings without litter, and errors that say what came instead.

Nothing here decodes an image. Every error is a :class:`~andon.errors.DataError`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from andon.errors import DataError, did_you_mean
from andon.image import IMAGE_SUFFIXES

_LITTER_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"})
_LITTER_SUFFIXES = (".tmp", ".part", ".crdownload", "~")


def is_litter(name: str) -> bool:
    """True for what cameras, desktops and downloads leave behind: hidden files, ``.tmp``, ``Thumbs.db``.

    >>> [is_litter(name) for name in (".DS_Store", "Thumbs.db", "part-7.png.tmp", "part-7.png")]
    [True, True, True, False]
    """
    lower = name.lower()
    return lower.startswith(".") or lower in _LITTER_NAMES or lower.endswith(_LITTER_SUFFIXES)


def is_image(path: Path) -> bool:
    """True when the file's name ends like an image that can be read."""
    return _suffix(path.name) in IMAGE_SUFFIXES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not is_litter(entry.name)]
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror or error}.") from error
    return sorted(entries, key=lambda entry: entry.name)


def children(folder: Path) -> list[Path]:
    """The entries of a folder, without litter, sorted by name.

    Raises :class:`DataError` when the folder cannot be read.
    """
    return [folder / entry.name for entry in _entries(folder)]


def subfolders(folder: Path) -> list[Path]:
    """The folders directly inside a folder, sorted by name."""
    return [folder / entry.name for entry in _entries(folder) if entry.is_dir()]


def images_in(folder: Path) -> list[Path]:
    """The images directly inside a folder, sorted by name."""
    return [folder / e.name for e in _entries(folder) if _suffix(e.name) in IMAGE_SUFFIXES and e.is_file()]


def files_under(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted, links to folders followed once."""
    yield from _walk(folder, set())


def images_under(folder: Path) -> list[Path]:
    """The images anywhere below a folder, sorted."""
    return [path for path in files_under(folder) if is_image(path)]


def has_images(folder: Path) -> bool:
    """True when there is an image anywhere below a folder."""
    return any(is_image(path) for path in files_under(folder))


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(folder / entry.name, seen)
        elif entry.is_file():
            yield folder / entry.name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def by_stem(paths: Iterable[Path], suffix: str = "") -> dict[str, Path]:
    """Map each file's stem to its path, ``suffix`` taken off the stem; the first of equal stems wins.

    >>> by_stem([Path("000_mask.png"), Path("001_mask.png")], "_mask")["001"].name
    '001_mask.png'
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem.endswith(suffix):
            found.setdefault(path.stem[: len(path.stem) - len(suffix)], path)
    return found


def named(folder: Path, *names: str) -> Path | None:
    """The subfolder that bears one of the names, whatever its case, or None."""
    wanted = {name.lower() for name in names}
    return next((child for child in subfolders(folder) if child.name.lower() in wanted), None)


def require_folder(root: str | os.PathLike[str]) -> Path:
    """The folder as a path; :class:`DataError` says what is there instead, or what it may be called."""
    folder = Path(root)
    try:
        if folder.is_dir():
            return folder
        is_file = folder.exists()
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a folder of images, but {str(folder)!r} cannot be looked at: {error}."
        ) from error
    if is_file:
        raise DataError(
            f"expected a folder of images, but {folder} is a file. Give the folder that holds it: {folder.parent}"
        )
    raise DataError(f"there is no folder {folder}.{_nearest(folder)}")


def _nearest(folder: Path) -> str:
    parent = folder.parent
    if not parent.is_dir():
        return f" Nor is there a folder {parent}; check the path from its start."
    names = [child.name for child in subfolders(parent)]
    hint = did_you_mean(folder.name, names, shown=lambda name: str(parent / name))
    return hint or f" {parent} holds {listed(names) or 'no folders'}."


def listed(names: Iterable[str], most: int = 8) -> str:
    """The names in one line, cut after ``most``.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def what_is_in(folder: Path) -> str:
    """One line on what a folder holds, for error messages."""
    folders = [f"{child.name}/" for child in subfolders(folder)]
    files = [child.name for child in children(folder) if not child.is_dir()]
    return f"it holds {listed(folders + files)}" if folders or files else "it is empty"


def no_images(folder: Path) -> DataError:
    """The error for a folder without images: empty, or which kinds of file came instead."""
    kinds = Counter(path.suffix.lower() or "no extension" for path in files_under(folder))
    expected = "expected images (" + ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES)) + ")"
    if not kinds:
        return DataError(f"no images in {folder}: the folder is empty. {expected.capitalize()}.")
    came = ", ".join(
        f"{count} x {kind}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    )
    return DataError(
        f"no images in {folder}: {expected}, found {came}. Convert them to PNG, or give another folder."
    )


def no_category(wanted: str, present: list[str]) -> DataError:
    """The error for a category that a data set does not have."""
    hint = did_you_mean(wanted, present)
    return DataError(f"there is no category {wanted!r}; there are {listed(present, 20) or 'none'}.{hint}")


def require_category(wanted: str | None, present: list[str]) -> None:
    """Raise :class:`DataError` for a category that is asked for and not ``present``; None asks for all."""
    if wanted is not None and wanted not in present:
        raise no_category(wanted, present)


def require_inside(root: Path, relative: str, source: Path) -> Path:
    """``root / relative``; :class:`DataError` when a table names a file outside its own data set.

    >>> require_inside(Path("set"), "candle/Data/Images/000.JPG", Path("1cls.csv")).as_posix()
    'set/candle/Data/Images/000.JPG'
    """
    parts = Path(relative.replace("\\", "/")).parts
    if not parts or ".." in parts or Path(relative).is_absolute() or "\0" in relative:
        raise DataError(
            f"{source} names the file {relative!r}, which is not inside {root}. Correct the table."
        )
    return root.joinpath(*parts)


def read_text(path: Path, most_bytes: int = 64 << 20) -> str:
    """The text of a small file, UTF-8 with or without a byte-order mark.

    Raises :class:`DataError` when it cannot be read, is larger than ``most_bytes`` or is not UTF-8.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise DataError(
                f"{path} is larger than {most_bytes >> 20} MiB; that is not a table of a data set."
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as UTF-8 text: {error}.") from error
