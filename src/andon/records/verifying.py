"""The proof of the trail: every entry, everything it names, and that there is nothing that it does not name."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, select

from andon.errors import DataError
from andon.files import atomic_write
from andon.records.accounts import accounts
from andon.records.database import Database
from andon.records.entries import Anchor, Misfit, Verification
from andon.records.moments import moment, now, stamp
from andon.records.pictures import Pictures
from andon.records.schema import INSPECTIONS, PASSWORDS, PICTURES, THINGS, TRAIL
from andon.records.trail import START, digest, entry_hash, payload_hash
from andon.records.triggers import triggers

BATCH = 1000  # entries in memory at once
Row = Mapping[Any, Any]


class _Found(Exception):
    """The first misfit ends the search."""

    def __init__(self, seq: int | None, message: str) -> None:
        self.misfit = Misfit(seq, message)


class _Walk:
    """What is known while the trail is walked along."""

    def __init__(self) -> None:
        self.database, self.entries, self.last, self.rows, self.pictures = "", 0, START, 0, 0
        self.pruned: set[bytes] = set()
        self.at_anchor: str | None = None


def verify(database: Database, pictures: Pictures, anchor: Anchor | None, with_pictures: bool) -> Verification:  # fmt: skip
    """Recompute everything in one state of the database."""
    walk = _Walk()
    misfit = None
    try:
        with database.reading() as connection:
            _check_entries(connection, walk, anchor)
            _check_anchor(walk, anchor)
            _check_triggers(connection)
            _check_unnamed(connection)
            _check_accounts(connection)
            _check_pictures(connection, walk)
        if with_pictures:
            _check_files(database, pictures, walk)
    except _Found as found:
        misfit = found.misfit
    return Verification(
        Anchor(walk.database, walk.entries, walk.last, now()), walk.rows, walk.pictures, misfit
    )


def _check_entries(connection: Connection, walk: _Walk, anchor: Anchor | None) -> None:
    while True:
        query = select(TRAIL).where(TRAIL.c.seq > walk.entries).order_by(TRAIL.c.seq).limit(BATCH)
        entries = connection.execute(query).mappings().all()
        rows = _rows_of(connection, entries)
        for entry in entries:
            _check_entry(entry, rows, walk)
            walk.entries, walk.last = entry["seq"], entry["hash"]
            if anchor is not None and entry["seq"] == anchor.entries:
                walk.at_anchor = entry["hash"]
        if len(entries) < BATCH:
            return


def _rows_of(connection: Connection, entries: Sequence[Row]) -> dict[tuple[str, int], RowMapping]:
    """The rows that entries name, by thing and number."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if entry["thing"] in THINGS:
            numbers[entry["thing"]].append(entry["thing_id"])
    return {
        (thing, row["id"]): row
        for thing, wanted in numbers.items()
        for row in connection.execute(select(THINGS[thing]).where(THINGS[thing].c.id.in_(wanted))).mappings()
    }


def _check_entry(entry: Row, rows: Mapping[tuple[str, int], Row], walk: _Walk) -> None:
    seq, expected = entry["seq"], walk.entries + 1
    if seq != expected:
        missing = f"entry {expected} is" if seq == expected + 1 else f"entries {expected} to {seq - 1} are"
        raise _Found(expected, f"{missing} missing")
    if entry["previous"] != walk.last:
        raise _Found(
            seq, f"entry {seq} does not follow the one before it: one of them was put there or removed"
        )
    if entry["hash"] != entry_hash(entry):
        raise _Found(seq, f"entry {seq} was changed: its hash is not that of what it says")
    row = None
    if entry["thing"] is not None:
        row = rows.get((entry["thing"], entry["thing_id"]))
        if row is None:
            raise _Found(seq, f"{entry['thing']} {entry['thing_id']}, which entry {seq} tells of, is gone")
        walk.rows += 1
    if entry["payload_hash"] != payload_hash(entry, row):
        raise _Found(seq, f"{entry['thing']} {entry['thing_id']} was changed after entry {seq} was written")
    _remember(entry, walk)


def _remember(entry: Row, walk: _Walk) -> None:
    try:
        if entry["seq"] == 1:
            walk.database = str(json.loads(entry["details"])["database"])
        elif entry["kind"] == "prune":
            walk.pruned |= {bytes.fromhex(name) for name in json.loads(entry["details"])["hashes"]}
    except (ValueError, KeyError, TypeError) as error:
        raise _Found(entry["seq"], f"entry {entry['seq']} is none that Andon wrote: its details make no sense") from error  # fmt: skip


def _check_anchor(walk: _Walk, anchor: Anchor | None) -> None:
    if walk.entries == 0:
        raise _Found(1, "the trail is empty: its first entry, made with the database, is missing")
    if anchor is None:
        return
    if anchor.database != walk.database:
        raise _Found(1, f"the anchor is of another database ({anchor.database}; this is {walk.database})")
    if anchor.entries > walk.entries:
        raise _Found(walk.entries + 1, f"the end is missing: there were {anchor.entries:,} entries when the anchor was made, now there are {walk.entries:,}")  # fmt: skip
    if anchor.hash != walk.at_anchor:
        raise _Found(anchor.entries, f"entry {anchor.entries} is not the one that the anchor names: the trail was written anew up to there")  # fmt: skip


def _check_triggers(connection: Connection) -> None:
    """What refuses changes is still there."""
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    postgresql = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
    found = connection.exec_driver_sql(sqlite if connection.dialect.name == "sqlite" else postgresql)
    missing = sorted(set(triggers(connection.dialect.name)) - set(found.scalars()))
    if missing:
        raise _Found(None, f"the trigger {missing[0]}, which refuses changes, was removed or switched off")


def _check_unnamed(connection: Connection) -> None:
    """Nothing is there that no entry names."""
    for thing, table in THINGS.items():
        named = exists().where(TRAIL.c.thing == thing, TRAIL.c.thing_id == table.c.id)
        number = connection.execute(select(table.c.id).where(~named).order_by(table.c.id).limit(1)).scalar()
        if number is not None:
            raise _Found(None, f"{thing} {number} is in no entry: it was put there past the trail, or the trail's end was cut off")  # fmt: skip


def _check_accounts(connection: Connection) -> None:
    """Every open account has the password that the trail knows, and no other name has one."""
    hashes = {row.name: row.hash for row in connection.execute(select(PASSWORDS))}
    for account in accounts(connection):
        if digest(hashes.pop(account["name"], "")) != account["password_digest"]:
            raise _Found(None, f"the password of {account['name']} was changed past the trail")
    if hashes:
        raise _Found(None, f"there is a password for {min(hashes)}, who has no account")


def _check_pictures(connection: Connection, walk: _Walk) -> None:
    """A picture that was kept still is, or the trail says that it was pruned."""
    table = INSPECTIONS.c
    for digest_, kept in ((table.image_hash, table.image_kept), (table.overlay_hash, table.overlay_kept)):
        there = exists().where(PICTURES.c.hash == digest_)
        gone = select(table.id, digest_).where(kept, ~there).order_by(table.id)
        for number, name in connection.execute(gone.execution_options(yield_per=BATCH)):
            if bytes.fromhex(name) not in walk.pruned:
                raise _Found(None, f"a picture of inspection {number} is gone, and the trail does not say that it was pruned")  # fmt: skip


def _check_files(database: Database, pictures: Pictures, walk: _Walk) -> None:
    for name in _kept(database):
        problem = _problem(pictures, name)
        if problem is not None and pictures.path(name) is not None:  # else it was pruned in this moment
            raise _Found(None, problem)
        walk.pictures += 1


def _kept(database: Database) -> Iterator[str]:
    last = ""
    while True:
        query = select(PICTURES.c.hash).where(PICTURES.c.hash > last).order_by(PICTURES.c.hash).limit(BATCH)
        with database.reading() as connection:
            names = list(connection.execute(query).scalars())
        yield from names
        if len(names) < BATCH:
            return
        last = names[-1]


def _problem(pictures: Pictures, name: str) -> str | None:
    """What is wrong with the file of a picture; None where nothing is."""
    path = pictures.path(name)
    if path is None:
        return None
    with suppress(FileNotFoundError):
        return None if digest(path.read_bytes()) == name else f"the picture {path} was changed"
    return f"the picture {path} is gone, and the trail does not say that it was pruned"


def read_anchor(path: str | os.PathLike[str]) -> Anchor:
    """The anchor in a file. Raises :class:`DataError` where it holds none."""
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        entry = found["andon_anchor"]
        return Anchor(str(entry["database"]), int(entry["entries"]), str(entry["hash"]), moment(entry["at"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no anchor; expected what andon records verify --anchor wrote") from error  # fmt: skip


def save_anchor(anchor: Anchor, path: str | os.PathLike[str]) -> None:
    """Write ``anchor`` as JSON, atomically."""
    entry = {"database": anchor.database, "entries": anchor.entries, "hash": anchor.hash, "at": stamp(anchor.at)}  # fmt: skip
    with atomic_write(path, "w") as file:
        file.write(f"{json.dumps({'andon_anchor': entry}, indent=1)}\n")
