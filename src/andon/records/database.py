"""Connections and transactions, on SQLite and PostgreSQL alike; what goes wrong there, as an :class:`AndonError`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from andon.errors import AndonError, BusyError, DataError, MissingExtraError, SettingsError

BUSY_SECONDS = 30  # how long a writer waits for the others
LOCK = 0x616E646F6E  # "andon": the number of the lock that PostgreSQL's writers hold one after another
SYNCHRONOUS = "FULL"  # what was confirmed outlives a power cut
_WRITES = "andon_writes"
_EXAMPLES = "Expected a file's name or an URL such as sqlite:///station.db or postgresql://user@host/name"


class Database:
    """An SQLite file or a PostgreSQL database. ``shown`` is its name without the password.

    Writers wait for each other, so that the trail has one end: SQLite by ``BEGIN IMMEDIATE``, PostgreSQL by a lock that
    ends with the transaction.
    """

    def __init__(self, where: str | os.PathLike[str], *, create: bool = True) -> None:
        url = _url(where)
        sqlite = url.get_backend_name() == "sqlite"
        self.shown = str(url.database) if sqlite else url.set(drivername="postgresql").render_as_string()
        self.file = Path(str(url.database)) if sqlite else None
        if self.file is not None:
            _check_file(self.file, create)
        self._engine = _engine(url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file."""
        return self.file is not None

    @property
    def pictures_folder(self) -> Path | None:
        """Where pictures are kept when nothing else is said: beside the file."""
        return None if self.file is None else self.file.with_name(f"{self.file.name}.pictures")

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database, whatever others write."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._explained(), self._engine.connect().execution_options(**options) as connection:
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that alone writes until the block ends; everything is written then, or nothing."""
        with self._explained(), self._engine.connect().execution_options(**{_WRITES: True}) as connection:
            with connection.begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
                yield connection

    def tables(self) -> set[str]:
        """The names of the tables that are there."""
        with self.reading() as connection:
            return set(inspect(connection).get_table_names())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _explanation(self.shown, error.orig or error) from error
        except SQLAlchemyError as error:
            raise AndonError(f"the records in {self.shown} cannot be used: {error}") from error


def _url(where: str | os.PathLike[str]) -> URL:
    text = os.fspath(where)
    if not text.strip():
        raise SettingsError(f"no records are named. {_EXAMPLES}")
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"the URL of the records cannot be read. {_EXAMPLES}") from error
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return URL.create("sqlite", database=url.database)
    if backend != "postgresql" or not url.database:
        raise SettingsError(f"{url.render_as_string()} names no records that can be used. {_EXAMPLES}")
    return url if "+" in url.drivername else url.set(drivername="postgresql+pg8000")


def _check_file(file: Path, create: bool) -> None:
    if file.is_dir():
        raise DataError(f"{file} is a folder; records are a file. Try {file / 'station.db'}")
    if file.exists():
        return
    if not create:
        raise DataError(f"there are no records in {file}. Give the file that andon app or andon users made.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # it holds the hashes of passwords
    except OSError as error:
        raise AndonError(f"cannot make {file}: {error.strerror or error}.") from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        settings = {"timeout": 2 * BUSY_SECONDS} if url.get_driver_name() == "pg8000" else {}
        return create_engine(url, pool_pre_ping=True, connect_args=settings)
    except ImportError as error:
        package = url.get_driver_name()
        raise MissingExtraError(package, extra="postgres", purpose="keeping records in PostgreSQL") from error
    except SQLAlchemyError as error:
        raise SettingsError(f"{url.render_as_string()} names no records that can be used: {error}") from error


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    for setting in ("journal_mode = WAL", f"synchronous = {SYNCHRONOUS}", "recursive_triggers = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _explanation(shown: str, error: BaseException) -> AndonError:
    """What ``error`` of a driver comes to, and what to do."""
    said, state = _said(error)
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in said:
        return DataError(
            f"{shown} is no database of records. Give the file that andon app or andon users made."
        )
    if "disk is full" in said or state == "53100":
        return AndonError(f"cannot write the records in {shown}: the disk is full. Nothing of this was recorded. Make room and try again.")  # fmt: skip
    if "locked" in said or state == "55P03":
        return BusyError(f"others have been writing the records in {shown} for {BUSY_SECONDS} s. Try again.")
    if "unable to open" in said or "readonly" in said or "disk I/O" in said:
        return AndonError(f"cannot read or write the records in {shown}: {said}. Choose a folder that can be written.")  # fmt: skip
    return AndonError(f"the records in {shown} cannot be used: {said}")


def _said(error: BaseException) -> tuple[str, str]:
    """What a driver's error says, and PostgreSQL's code of it where there is one."""
    first = error.args[0] if error.args else ""
    if isinstance(first, dict):  # pg8000
        return str(first.get("M", first)), str(first.get("C", ""))
    return str(error), str(getattr(error, "sqlstate", None) or "")
