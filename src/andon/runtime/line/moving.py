"""Inspected files moved out of the way, whole and without replacing anything."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from andon.files import atomic_write


def move_aside(path: Path, folder: Path, sha256: str) -> Path:
    """Where the file at ``path`` lies in ``folder`` afterwards, under its own name if that is free.

    A file of that name with the same content (from a move that was cut short) is taken for the file itself; beside
    another one it becomes ``name_2.png``, ``name_3.png`` and so on. ``sha256``: of the file's content, in hex. Raises
    OSError or :class:`~andon.errors.AndonError`; the file is then where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for target in _places(path, folder):
        if not target.exists() or (
            target.stat().st_size == path.stat().st_size and _digest(target) == sha256
        ):
            break
    try:
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)  # to another disk
        path.unlink()
    return target


def content_of(path: Path, folder: Path | None, sha256: str) -> bytes | None:
    """The bytes of the file that was at ``path``, and may lie in ``folder`` since :func:`move_aside`.

    None where it is gone, or has another content by now: ``sha256`` is that of the bytes meant.
    """
    moved = itertools.takewhile(os.path.exists, _places(path, folder)) if folder is not None else ()
    for place in itertools.chain([path], moved):  # in this order, since it may be moved meanwhile
        with contextlib.suppress(OSError):
            data = place.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
    return None


def _places(path: Path, folder: Path) -> Iterator[Path]:
    """Where the file may lie in ``folder``: under its own name, then ``name_2.png``, ``name_3.png`` and so on."""
    yield folder / path.name
    for number in itertools.count(2):
        yield folder / f"{path.stem}_{number}{path.suffix}"


def _copy(path: Path, target: Path) -> None:
    with open(path, "rb") as source, atomic_write(target) as file:
        shutil.copyfileobj(source, file)
    shutil.copystat(path, target)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
