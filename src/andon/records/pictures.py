"""Pictures as files beside the database, named by the SHA-256 of their bytes, and how many of them are kept.

A row of ``andon_pictures`` says that a file is kept. A file is put in its place, and taken from it, only by who holds
the right to write the database; whatever a kill leaves behind is a file without a row, which ``prune`` sweeps.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from andon.errors import AndonError, SettingsError
from andon.files import atomic_write
from andon.records import trail
from andon.records.database import Database
from andon.records.entries import Limits, Pruned
from andon.records.moments import now, stamp
from andon.records.schema import PICTURES

BATCH = 500  # pictures that one transaction prunes, and one entry of the trail names
CHECK_EVERY = 100  # pictures added between two looks at the limits
ROOM = 0.05  # of the limits, made beyond what is needed, so that not every picture prunes one
_INCOMING = "incoming"
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")


class Kept(NamedTuple):
    """What became of a picture: its hash, and whether the file is there."""

    hash: str | None = None
    kept: bool = False


@dataclass(frozen=True)
class Staged:
    """A picture whose bytes are on the disk, but not yet in their place."""

    file: Path | None  # None: not to be kept
    hash: str | None
    suffix: str = ""
    bytes: int = 0


class Pictures:
    """The files in ``folder``; None keeps none."""

    def __init__(self, database: Database, folder: Path | None, limits: Limits) -> None:
        for name in ("total_bytes", "count", "days", "largest_bytes"):
            value = getattr(limits, name)
            if value is not None and not value > 0:
                raise SettingsError(f"expected {name} above 0, or None for no limit; got {value}")
        self.database, self.folder, self.limits = database, folder, limits
        self._lock = threading.Lock()
        self._added = CHECK_EVERY  # the first addition looks

    @contextmanager
    def staged(self, data: bytes | None, suffix: str) -> Iterator[Staged]:
        """``data`` on the disk for the block; gone after it unless it was kept."""
        if data is None or self.folder is None or len(data) > self.limits.largest_bytes:
            yield Staged(None, None if data is None else trail.digest(data))
            return
        ending = suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ".bin"
        file = self.folder / _INCOMING / secrets.token_hex(16)
        with atomic_write(file) as out:
            out.write(data)
        try:
            yield Staged(file, trail.digest(data), ending, len(data))
        finally:
            with suppress(FileNotFoundError):
                file.unlink()

    def keep(self, connection: Connection, staged: Staged) -> Kept:
        """Put a staged picture in its place; within a :meth:`Database.writing`."""
        if staged.file is None or staged.hash is None:
            return Kept(staged.hash, False)
        there = select(PICTURES).where(PICTURES.c.hash == staged.hash)
        row = connection.execute(there).first()
        place = self._place(staged.hash, row.suffix if row else staged.suffix)
        with _explained(place):
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                os.replace(staged.file, place)
        if row:
            again = update(PICTURES).where(PICTURES.c.hash == staged.hash).values(at=stamp(now()))
            connection.execute(again)
        else:
            values = {
                "hash": staged.hash,
                "suffix": staged.suffix,
                "bytes": staged.bytes,
                "at": stamp(now()),
            }
            connection.execute(insert(PICTURES).values(**values))
            with self._lock:
                self._added += 1
        return Kept(staged.hash, True)

    def path(self, digest: str) -> Path | None:
        """The file of a picture; None where it is not kept."""
        if self.folder is None:
            return None
        with self.database.reading() as connection:
            suffix = connection.execute(select(PICTURES.c.suffix).where(PICTURES.c.hash == digest)).scalar()
        return None if suffix is None else self._place(digest, suffix)

    def read(self, digest: str | None) -> bytes | None:
        """The bytes of a picture; None where it is not kept, or pruned in this moment."""
        path = None if digest is None else self.path(digest)
        if path is None:
            return None
        with suppress(FileNotFoundError), _explained(path):
            return path.read_bytes()
        return None

    def enforce(self, who: str) -> None:
        """Prune where the limits are passed; looks only now and then."""
        with self._lock:
            due, self._added = self._added >= CHECK_EVERY, 0 if self._added >= CHECK_EVERY else self._added
        if due:
            self.prune(who)

    def prune(self, who: str, limits: Limits | None = None, *, sweep: bool = False) -> Pruned:
        """Remove the oldest pictures beyond ``limits``; with ``sweep`` also files that belong to none."""
        limits = limits or self.limits
        pictures = size = 0
        while removed := self._prune_some(who, limits):
            pictures, size = pictures + len(removed), size + sum(row.bytes for row in removed)
            self._unlink([f"{row.hash}{row.suffix}" for row in removed])
        if sweep:
            self._sweep()
        return Pruned(pictures, size)

    def _prune_some(self, who: str, limits: Limits) -> list[Row]:
        with self.database.writing() as connection:
            chosen = _beyond(connection, limits)
            if chosen:
                hashes = [row.hash for row in chosen]
                connection.execute(delete(PICTURES).where(PICTURES.c.hash.in_(hashes)))
                details = {
                    "pictures": len(chosen),
                    "bytes": sum(row.bytes for row in chosen),
                    "hashes": hashes,
                }
                trail.append(connection, who=who, kind="prune", details=details)
        return chosen

    def _unlink(self, names: list[str]) -> None:
        """Remove files, unless a row says by now that one is kept."""
        if self.folder is None:
            return
        with self.database.writing() as connection:
            for name in names:
                digest, _, suffix = name.partition(".")
                kept = connection.execute(
                    select(PICTURES.c.hash).where(
                        PICTURES.c.hash == digest, PICTURES.c.suffix == f".{suffix}"
                    )
                )
                place = self._place(digest, f".{suffix}")
                if kept.first() is None:
                    with _explained(place):
                        place.unlink(missing_ok=True)

    def _sweep(self) -> None:
        if self.folder is None or not self.folder.is_dir():
            return
        names = [file.name for file in self.folder.glob("??/*") if _NAME.fullmatch(file.name)]
        for first in range(0, len(names), BATCH):
            self._unlink(names[first : first + BATCH])
        for file in (self.folder / _INCOMING).glob("*"):  # what a kill left an hour ago or earlier
            with suppress(FileNotFoundError):
                if now().timestamp() - file.stat().st_mtime > 3600:
                    file.unlink()

    def _place(self, digest: str, suffix: str) -> Path:
        if self.folder is None:
            raise SettingsError("these records keep no pictures: give the folder of pictures")
        return self.folder / digest[:2] / f"{digest}{suffix}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AndonError(f"cannot read, place or remove the picture {path}: {error.strerror or error}. Nothing of this was recorded.") from error  # fmt: skip


def _beyond(connection: Connection, limits: Limits) -> list[Row]:
    """The oldest pictures beyond ``limits``, at most a batch."""
    count, size = connection.execute(select(func.count(), func.coalesce(func.sum(PICTURES.c.bytes), 0))).one()
    over_count = _excess(int(count), limits.count)
    over_size = _excess(int(size), limits.total_bytes)
    oldest = "" if limits.days is None else stamp(now() - timedelta(days=limits.days))
    rows = connection.execute(select(PICTURES).order_by(PICTURES.c.at, PICTURES.c.hash).limit(BATCH)).all()
    chosen: list[Row] = []
    for row in rows:
        if not (len(chosen) < over_count or sum(r.bytes for r in chosen) < over_size or row.at < oldest):
            break
        chosen.append(row)
    return chosen


def _excess(there: int, limit: int | None) -> int:
    """How much must go: nothing within the limit, else down to a little below it."""
    return 0 if limit is None or there <= limit else there - int(limit * (1 - ROOM))
