"""The line's memory: one SQLite file with what was inspected and what is still to be delivered.

One transaction enters a part into the ledger, stores its result and puts it into the outbox of every sink, so that a
kill at any moment leaves all of it or nothing. Written ahead (WAL) and flushed at every commit (synchronous = FULL), so
that a power cut does not undo what was said to be done. The file must lie on a local disk: SQLite's WAL needs shared
memory that network shares do not have.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from andon.errors import DataError, SettingsError
from andon.runtime.line.contract import Entry, Part, Result, UnavailableError

APPLICATION = 0x616E646F  # "ando", in the file's header
SCHEMA = 1
BUSY_S = 10.0  # how long one thread waits for another's transaction
_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE ledger (
    source TEXT NOT NULL, name BLOB NOT NULL, stamp TEXT NOT NULL, sha256 TEXT NOT NULL,
    decision TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE INDEX ledger_sequence ON ledger (sequence);
CREATE TABLE results (sequence INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE outbox (sink TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (sink, sequence)) WITHOUT ROWID;
CREATE INDEX outbox_sequence ON outbox (sequence);
CREATE TABLE counts (kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
"""
_NOT_NOW = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_LOCKED,
}


class Store:
    """One connection to a line's store. Each thread opens its own; only one process may, see :func:`single_writer`.

    line: the store's own name, a random one; with a sequence number it names a result for ever.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, or begin it. Raises :class:`DataError` where it is damaged, newer, or something else."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._check()
        except sqlite3.OperationalError as error:
            raise DataError(
                f"cannot open the line's store {path}: {error}. It needs a local disk with some room."
            ) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(path, error) from error
        self.line = self._about("line")

    def _check(self) -> None:
        db = self._db
        application, schema = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and application != APPLICATION:
            raise DataError(
                f"{self.path} is no line's store, as andon watch makes it. Give the name of a new file."
            )
        if not empty and schema != SCHEMA:
            raise DataError(
                f"{self.path} has schema {schema}, this version of Andon reads {SCHEMA}. Upgrade Andon, or begin anew "
                "with another --out."
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if empty:
            # executescript ends a transaction that was begun outside it
            db.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
                f"INSERT INTO about VALUES ('line', '{uuid.uuid4().hex[:12]}'), ('sequence', '0'); COMMIT;"
            )

    def close(self) -> None:
        """Close this connection."""
        self._db.close()

    def bind(self, folder: str) -> None:
        """Remember what this store is of. Raises :class:`SettingsError` where it is of something else."""
        before = self._about("folder")
        if before and before != folder:
            raise SettingsError(
                f"{self.path} is the store of a line that watches {before}, not {folder}. Give another --out, or another "
                "--store: two folders may have files of the same name."
            )
        if not before:
            with self._transaction():
                self._remember("folder", folder)

    # --- the ledger ---------------------------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether the line has never run on this store."""
        return self._about("begun") == ""

    def begin(self) -> None:
        """The line runs: the store is not new any more."""
        if self.is_new:
            with self._transaction():
                self._remember("begun", "1")

    def known(self, source: str, name: str) -> Entry | None:
        """The last part inspected under ``name``, or None."""
        with self._refusing():
            row = self._db.execute(
                "SELECT stamp, sha256, decision FROM ledger WHERE source = ? AND name = ?",
                (source, _bytes(name)),
            ).fetchone()
        return Entry(*row) if row else None

    def touch(self, source: str, name: str, stamp: str) -> None:
        """Remember a new stamp for a part that is the same still."""
        with self._transaction():
            self._db.execute(
                "UPDATE ledger SET stamp = ? WHERE source = ? AND name = ?", (stamp, source, _bytes(name))
            )

    def skip(self, source: str, stamps: Mapping[str, str]) -> None:
        """Take these parts (name -> stamp) for known, without a result, all or none; the store is begun with that."""
        rows = ((source, _bytes(name), stamp) for name, stamp in stamps.items())
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, '', 'skipped', 0)", rows)
            self._remember("begun", "1")

    def forget(self, source: str, keep: int, holds: Callable[[str], bool], at_most: int = 1000) -> int:
        """How many of the oldest entries beyond the last ``keep`` parts were removed; none that the source ``holds``."""
        with self._refusing():
            found = self._db.execute(
                "SELECT name FROM ledger WHERE source = ? AND sequence BETWEEN 1 AND ? ORDER BY sequence LIMIT ?",
                (source, self.sequence - keep, at_most),
            ).fetchall()
        gone = [(source, name) for (name,) in found if not holds(_text(name))]
        if gone:
            with self._transaction():
                self._db.executemany("DELETE FROM ledger WHERE source = ? AND name = ?", gone)
        return len(gone)

    # --- results ------------------------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The number of the last result; 0 before the first."""
        return int(self._about("sequence") or 0)

    def record(
        self, part: Part, decision: str, result: Result, sinks: Iterable[str], bounds: Mapping[str, int]
    ) -> None:
        """Enter the part into the ledger and its result into the outboxes of ``sinks``: all of it, or nothing.

        ``bounds``: for sinks that drop their oldest results, how many they keep. Raises :class:`UnavailableError` where
        the disk is full, :class:`ValueError` for a sequence number that is not the next.
        """
        if result.sequence != self.sequence + 1:
            raise ValueError(f"expected result {self.sequence + 1} next, got {result.sequence}")
        key = (part.source, _bytes(part.name))
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?)",
                (*key, part.stamp, part.sha256, decision, result.sequence),
            )
            self._db.execute("INSERT INTO results VALUES (?, ?)", (result.sequence, result.document))
            self._remember("sequence", str(result.sequence))
            self._count("decision", decision, 1)
            for sink in sinks:
                self._db.execute("INSERT INTO outbox VALUES (?, ?)", (sink, result.sequence))
                if sink in bounds:
                    self._drop(sink, bounds[sink])
            self._clean([result.sequence])

    def pending(self, sink: str, limit: int) -> list[Result]:
        """The oldest results that ``sink`` does not have yet, in order."""
        with self._refusing():
            rows = self._db.execute(
                "SELECT sequence, document FROM outbox JOIN results USING (sequence) WHERE sink = ? ORDER BY sequence LIMIT ?",
                (sink, limit),
            ).fetchall()
        return [Result(*row) for row in rows]

    def delivered(self, sink: str, results: Sequence[Result]) -> None:
        """``sink`` has these for good."""
        with self._transaction():
            self._take_out(sink, [result.sequence for result in results])

    def outboxes(self) -> dict[str, int]:
        """sink -> results that it does not have yet."""
        with self._refusing():
            return dict(self._db.execute("SELECT sink, count(*) FROM outbox GROUP BY sink"))

    def is_behind(self, sink: str, bound: int) -> bool:
        """Whether ``sink`` waits for ``bound`` results or more; quick where it does not."""
        with self._refusing():
            return self._queued(sink, bound) >= bound

    def counts(self, kind: str = "decision") -> dict[str, int]:
        """Since the store began: parts by "decision", or results "dropped" by sink."""
        with self._refusing():
            return dict(self._db.execute("SELECT name, number FROM counts WHERE kind = ?", (kind,)))

    def _drop(self, sink: str, keep: int) -> None:
        queued = self._queued(sink, keep + 1)
        if queued > keep:
            oldest = self._db.execute(
                "SELECT sequence FROM outbox WHERE sink = ? ORDER BY sequence LIMIT ?", (sink, queued - keep)
            ).fetchall()
            self._take_out(sink, [sequence for (sequence,) in oldest])
            self._count("dropped", sink, queued - keep)

    def _queued(self, sink: str, interesting: int) -> int:
        """Results in the outbox of ``sink``; fewer than ``interesting`` are not counted but estimated, from above.

        Between the first and the last number there are no more than their difference, and that takes no counting.
        """
        first, last = self._db.execute(
            "SELECT (SELECT min(sequence) FROM outbox WHERE sink = ?1), (SELECT max(sequence) FROM outbox WHERE sink = ?1)",
            (sink,),
        ).fetchone()
        most = 0 if first is None else int(last) - int(first) + 1
        if most < interesting:
            return most
        return int(self._db.execute("SELECT count(*) FROM outbox WHERE sink = ?", (sink,)).fetchone()[0])

    def _take_out(self, sink: str, sequences: Sequence[int]) -> None:
        rows = [(sink, sequence) for sequence in sequences]
        self._db.executemany("DELETE FROM outbox WHERE sink = ? AND sequence = ?", rows)
        self._clean(sequences)

    def _clean(self, sequences: Sequence[int]) -> None:
        """Let go of those results that no sink waits for."""
        self._db.executemany(
            "DELETE FROM results WHERE sequence = ?1 AND NOT EXISTS (SELECT 1 FROM outbox WHERE sequence = ?1)",
            [(sequence,) for sequence in sequences],
        )

    def _count(self, kind: str, name: str, more: int) -> None:
        self._db.execute(
            "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number",
            (kind, name, more),
        )

    # --- SQLite -------------------------------------------------------------------------------------------------

    def _about(self, key: str) -> str:
        with self._refusing():
            row = self._db.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def _remember(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that the block does, or nothing; on the disk when it ends."""
        with self._refusing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _NOT_NOW:
                raise UnavailableError(f"the line's store {self.path} cannot be written: {error}") from error
            raise _damaged(self.path, error) from error
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise _damaged(self.path, error) from error


def _damaged(path: Path, error: sqlite3.Error) -> DataError:
    return DataError(
        f"{path} cannot be read as a line's store: {error}. Move it away to begin anew; parts that still lie in the "
        "folder are then inspected again, unless --only-new is given."
    )


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")  # a file's name may be no valid text


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
