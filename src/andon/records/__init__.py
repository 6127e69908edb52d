"""What happened on a station, who said so, and a trail that shows when somebody changed it afterwards.

::

    from andon.records import open_records

    with open_records("station.db") as records:                  # or "postgresql://user@host/name"
        session = records.login("anna", password)                # or records.unattended("line 3")
        number = records.add(session, verdict, ArtifactName.of("clip.andon"), image=data, image_name="p.png")
        records.decide(session, number, "disagree", note="only dust")
        page = records.find(Filters(decisions=("fail", "review"), decided=False))
        assert records.verify().fits

``entries`` what records are made of, ``store`` the class :class:`Records`, ``schema`` the tables, ``migrations`` how they came
about, ``database`` connections and transactions, ``trail`` the chain of hashes, ``verifying`` its proof, ``accounts``
users and logins, ``lines`` what lines bring, ``pictures`` the files, ``queries`` and ``shifts`` what the pages ask, ``exporting`` CSV and pictures.
Needs the extra ``records`` (in ``app``, too), and ``postgres`` for PostgreSQL.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from andon.errors import MissingExtraError
from andon.records.entries import (
    ANSWERS,
    ROLES,
    Anchor,
    Answer,
    ArtifactName,
    Change,
    Decided,
    Filters,
    Inspection,
    Limits,
    LineResult,
    Misfit,
    Page,
    Pruned,
    Role,
    Session,
    Shifts,
    Tally,
    TrailEntry,
    User,
    Verification,
)

if TYPE_CHECKING:
    from andon.records.store import Records

__all__ = [
    "ANSWERS",
    "ROLES",
    "Anchor",
    "Answer",
    "ArtifactName",
    "Change",
    "Decided",
    "Filters",
    "Inspection",
    "Limits",
    "LineResult",
    "Misfit",
    "Page",
    "Pruned",
    "Records",
    "Role",
    "Session",
    "Shifts",
    "Tally",
    "TrailEntry",
    "User",
    "Verification",
    "check_place",
    "open_records",
]


def open_records(
    where: str | os.PathLike[str],
    *,
    pictures: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    create: bool = True,
) -> Records:
    """The records at ``where``, made or brought to the newest version where needed. Close them, or use ``with``.

    ``where``: a file's name (SQLite), or an URL: ``sqlite:///station.db``, ``postgresql://user@host/name``.
    ``pictures``: the folder of pictures; by default ``<file>.pictures`` beside an SQLite file, none for PostgreSQL
    (then pictures are not kept). ``create``: False refuses where there are no records yet.
    Raises :class:`SettingsError` for an URL that is none, :class:`DataError` for a database of something else or of a
    newer Andon, :class:`AndonError` where it cannot be reached, :class:`MissingExtraError` without the extra.
    """
    _require_extra()
    from andon.records.store import Records

    folder = None if pictures is None else Path(pictures)
    return Records(where, pictures=folder, limits=limits or Limits(), create=create)


def check_place(where: str | os.PathLike[str]) -> None:
    """Raise as :func:`open_records` does where there can be no records; asks no server."""
    _require_extra()
    from andon.records.database import Database

    Database(where).close()


def _require_extra() -> None:
    try:
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("sqlalchemy", extra="records", purpose="keeping records") from error


def __getattr__(name: str) -> Any:
    if name == "Records":  # needs the extra, so it is imported when it is asked for
        from andon.records.store import Records

        return Records
    raise AttributeError(f"module 'andon.records' has no attribute {name!r}")
