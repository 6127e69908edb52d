"""Inspected files moved out of the way, whole and without replacing anything."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from andon.files import atomic_write


def move_aside(path: Path, folder: Path, sha256: str) -> Path:
    """Where the file at ``path`` lies in ``folder`` afterwards, under its own name if that is free.

    A file of that name with the same content (from a move that was cut short) is taken for the file itself; beside
    another one it becomes ``name_2.png``, ``name_3.png`` and so on. ``sha256``: of the file's content, in hex. Raises
    OSError or :class:`~andon.errors.AndonError`; the file is then where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        if target.stat().st_size == path.stat().st_size and _digest(target) == sha256:
            break
        number += 1
        target = folder / f"{path.stem}_{number}{path.suffix}"
    try:
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)  # to another disk
        path.unlink()
    return target


def _copy(path: Path, target: Path) -> None:
    with open(path, "rb") as source, atomic_write(target) as file:
        shutil.copyfileobj(source, file)
    shutil.copystat(path, target)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
