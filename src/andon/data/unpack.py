"""A zip or tar archive -> one folder, whole or not at all, and nothing outside it.

Refused: absolute names, ``..``, links, devices, encrypted members, and more bytes than the disk has room for.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from andon.errors import DataError

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tarfile.TarError,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
_SPARE_BYTES = 64 << 20  # left free on the disk


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_folder: bool


def unpack(archive: Path, target: Path) -> Path:
    """``target``, a new folder with the archive's content; a single folder around everything is taken off.

    Unpacked beside ``target`` under another name and renamed at the end: a full disk, a damaged archive or a
    kill leaves no half of it.

    Raises :class:`DataError` when ``target`` exists, the archive is damaged or no zip or tar, or a member would
    be written outside, is a link or is not a plain file.
    """
    if target.exists():
        raise DataError(f"{target} is already there. Move it away to unpack {archive} again.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    except OSError as error:
        raise DataError(f"cannot unpack into {target.parent}: {error.strerror or error}.") from error
    try:
        _extract(archive, building)
        inner = _without_wrapper(building)
        inner.chmod(0o755)
        os.replace(inner, target)
    except _DAMAGED as error:
        raise DataError(f"{archive} is damaged: {error}. Delete it and download it again.") from error
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {target}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _without_wrapper(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _extract(archive: Path, folder: Path) -> None:
    with _opened(archive) as (members, open_member):
        listing = list(members)
        needed = sum(member.size for member in listing)
        free = shutil.disk_usage(folder).free - _SPARE_BYTES
        if needed > free:
            raise DataError(
                f"{archive} unpacks to {needed / 1e9:.2f} GB, and {folder.parent} has {max(free, 0) / 1e9:.2f} GB left."
            )
        for index, member in enumerate(listing):
            path = folder.joinpath(*_safe_parts(member.name, archive))
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_member(index) as source, open(path, "xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    """The parts of a member's name; :class:`DataError` when it would leave the folder."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    outside = plain.startswith("/") or ".." in parts or any(":" in part or "\0" in part for part in parts)
    if outside:
        raise DataError(
            f"{archive} holds the member {name!r}, which would be written outside its folder; refused."
        )
    return parts


class _Opener:
    """Opens the n-th member of an archive for reading."""

    def __init__(self, archive: zipfile.ZipFile | tarfile.TarFile) -> None:
        self.archive = archive
        self.infos: list[zipfile.ZipInfo | tarfile.TarInfo] = []

    def __call__(self, index: int) -> IO[bytes]:
        info = self.infos[index]
        if isinstance(self.archive, zipfile.ZipFile) and isinstance(info, zipfile.ZipInfo):
            return self.archive.open(info)
        if isinstance(self.archive, tarfile.TarFile) and isinstance(info, tarfile.TarInfo):
            file = self.archive.extractfile(info)
            if file is not None:
                return file
        raise EOFError(f"member {index} has no content")


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Member], _Opener]]:
    """The members of an archive, and how to open them."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            opener = _Opener(zipped)
            yield _zip_members(zipped, archive, opener), opener
        return
    try:
        tarred = tarfile.open(archive, "r:*")  # noqa: SIM115 (closed by the next line)
    except tarfile.ReadError as error:
        raise DataError(f"{archive} is neither a zip nor a tar archive: {error}.") from error
    with closing(tarred):
        opener = _Opener(tarred)
        yield _tar_members(tarred, archive, opener), opener


def _zip_members(zipped: zipfile.ZipFile, archive: Path, opener: _Opener) -> Iterator[_Member]:
    for info in zipped.infolist():
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _not_plain(archive, info.filename)
        if info.flag_bits & 1:
            raise DataError(f"{archive} is encrypted ({info.filename!r}); unpack it by hand.")
        opener.infos.append(info)
        yield _Member(info.filename, info.file_size, info.is_dir())


def _tar_members(tarred: tarfile.TarFile, archive: Path, opener: _Opener) -> Iterator[_Member]:
    for info in tarred:
        if not (info.isreg() or info.isdir()):
            raise _not_plain(archive, info.name)
        opener.infos.append(info)
        yield _Member(info.name, info.size, info.isdir())
    while tarred.fileobj is not None and tarred.fileobj.read(1 << 20):
        pass  # to the end, where a compressed stream keeps its checksum


def _not_plain(archive: Path, name: str) -> DataError:
    return DataError(f"{archive} holds {name!r}, which is a link or a device; refused.")
