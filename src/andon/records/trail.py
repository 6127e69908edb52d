"""The trail: entries that each hold the hash of the one before, so that none can be changed, removed or put between.

One entry, as it is hashed (SHA-256 of canonical JSON, in hexadecimal)::

    seq             1, 2, 3, ...
    at, who, kind   when (UTC), who, what
    thing, thing_id the row that it tells of; left out where there is none
    artifact_hash   of the detector, where there is one
    details         canonical JSON, as text; what there is to say beside the row
    payload_hash    SHA-256 of the row's canonical JSON; of ``details`` where there is no row
    previous        the hash of the entry before; 64 zeros before the first

Canonical JSON: keys sorted, no spaces, UTF-8, NULL left out, floats as the shortest text that reads back the same.
Like a hash-chained log (Schneier and Kelsey 1999, without its secret: see docs/records.md for what that means).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from andon.records.moments import now, stamp
from andon.records.schema import THINGS, TRAIL

START = "0" * 64  # what the first entry has as the hash before it
HASHED = tuple(column.name for column in TRAIL.columns if column.name != "hash")


def canonical(values: Mapping[str, Any]) -> str:
    """``values`` as canonical JSON.

    >>> canonical({"b": 1.5, "a": "ü", "c": None})
    '{"a":"ü","b":1.5}'
    """
    known = {name: value for name, value in values.items() if value is not None}
    return json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str | bytes) -> str:
    """SHA-256 of a text's UTF-8, or of bytes, in hexadecimal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def entry_hash(entry: Mapping[str, Any]) -> str:
    """The hash that an entry should have."""
    return digest(canonical({name: entry[name] for name in HASHED}))


def payload_hash(entry: Mapping[str, Any], row: Mapping[str, Any] | None) -> str:
    """The hash of what an entry tells of: its ``row``, or its details where it has none."""
    return digest(entry["details"] if row is None else canonical(row))


def append(
    connection: Connection,
    *,
    who: str,
    kind: str,
    thing: str | None = None,
    thing_id: int | None = None,
    artifact_hash: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> str:
    """The hash of the entry that is put at the trail's end, in the transaction of a :meth:`Database.writing`.

    The row is hashed as the database gives it back, so that verifying later sees the same.
    """
    last = connection.execute(select(TRAIL.c.seq, TRAIL.c.hash).order_by(TRAIL.c.seq.desc()).limit(1)).first()
    row = None
    if thing is not None:
        table = THINGS[thing]
        row = dict(connection.execute(select(table).where(table.c.id == thing_id)).mappings().one())
    entry: dict[str, Any] = {
        "seq": last.seq + 1 if last else 1,
        "at": row["at"] if row else stamp(now()),
        "who": who,
        "kind": kind,
        "thing": thing,
        "thing_id": thing_id,
        "artifact_hash": artifact_hash,
        "details": canonical(details or {}),
        "previous": last.hash if last else START,
    }
    entry["payload_hash"] = payload_hash(entry, row)
    entry["hash"] = entry_hash(entry)
    connection.execute(insert(TRAIL).values(entry))
    return str(entry["hash"])
