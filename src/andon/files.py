"""Files that are either whole or not there: atomic writing and one-writer locks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from andon.errors import AndonError, BusyError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO]:
    """A file open for writing that replaces ``path`` when the block ends well, and vanishes when it does not.

    Written beside ``path`` under a name of its own, flushed to the disk, then renamed: a reader sees the
    old file or the new one, and a full disk or a kill leaves the old one untouched. A link keeps pointing at
    what it points at; a device or a pipe (``/dev/stdout``) is written as it is, never replaced.

    Raises :class:`AndonError` when the folder cannot be written or the disk is full.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = pathlib.Path(folder, "result.txt")
    ...     with atomic_write(target, "w") as file:
    ...         _ = file.write("whole")
    ...     target.read_text()
    'whole'
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) and os.path.isfile(path) else Path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    if _is_device(target):
        with _refusing(target), open(target, mode, **text) as file:  # type: ignore[call-overload]
            yield file
        return
    _refuse_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".tmp")
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        with open(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except OSError as error:
        raise AndonError(
            f"cannot write {target}: {error.strerror or error}. What was there before is untouched."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def check_writable(*paths: str | os.PathLike[str] | None) -> None:
    """Raise :class:`AndonError` where one of ``paths`` cannot be written as a file: before the work, not after it.

    None stands for a file that nobody asked for. Makes nothing that stays.
    """
    for path in paths:
        if path is None or _is_device(Path(path)):
            continue
        target = Path(path)
        _refuse_folder(target)
        check_folder(target.parent, target)


def check_folder(folder: Path, target: Path | None = None) -> None:
    """Raise :class:`AndonError` where no file (``target``) can be made in ``folder``, which need not exist yet."""
    place = next((place for place in (folder, *folder.parents) if place.exists()), Path())
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".andon."):
            pass
    except OSError as error:
        raise _cannot_write(target or folder, error) from error


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise AndonError(
            f"cannot write {path}: it is a folder. Give the name of a file, such as {path / 'NAME'}."
        )


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> AndonError:
    """The error that says which part of ``path`` is in the way."""
    blocking = next((parent for parent in path.parents if parent.is_file()), None)
    if blocking is not None:
        return AndonError(f"cannot write {path}: {blocking} is a file, not a folder. Choose another folder.")
    return AndonError(f"cannot write {path}: {error.strerror or error}. Choose a folder that can be written.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def single_writer(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the right to write ``path`` alone, by a lock on ``<path>.lock`` that ends with the process.

    Raises :class:`BusyError` when another process holds it.
    """
    lock = Path(f"{os.fspath(path)}.lock")
    file = _open_lock(lock)
    try:
        if not _try_lock(file) or not _is_at(file, lock):
            raise BusyError(
                f"another process is writing {os.fspath(path)} now. Wait for it, or choose another output file."
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()
    finally:
        file.close()


def _open_lock(lock: Path) -> IO:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return open(lock, "a+")  # (closed by the caller, after the lock is let go)
    except OSError as error:
        raise _cannot_write(lock, error) from error


def _is_at(file: IO, path: Path) -> bool:
    """Whether the open ``file`` is still the one at ``path``: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _try_lock(file: IO) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
