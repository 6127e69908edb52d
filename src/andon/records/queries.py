"""What the pages ask. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from andon.errors import DataError, SettingsError
from andon.records.database import Database
from andon.records.entries import ArtifactName, Change, Decided, Filters, Inspection, Page, TrailEntry
from andon.records.moments import stamp
from andon.records.rows import change_of, decided_of, entry_of, inspection_of
from andon.records.schema import CHANGES, DECISIONS, INSPECTIONS, TRAIL

BATCH = 500  # rows that are in memory at once when all are asked for
MOST_ROWS = 1000  # of one page
_LAST = DECISIONS.alias("last")


def with_last_word(*columns: Any) -> Select:
    """``columns`` of each inspection joined with the last decision on it, if there is one, as ``last``."""
    newest = (
        select(func.max(DECISIONS.c.id)).where(DECISIONS.c.inspection == INSPECTIONS.c.id).scalar_subquery()
    )
    return select(*columns).select_from(INSPECTIONS.outerjoin(_LAST, _LAST.c.id == newest))


def counting(filters: Filters, *columns: Any) -> Select:
    """``columns`` of the inspections that ``filters`` choose; joined with the last decisions only where they need it."""
    needed = bool(filters.verdicts) or filters.decided is not None
    query = with_last_word(*columns) if needed else select(*columns).select_from(INSPECTIONS)
    return query.where(chosen(filters))


def last_verdict() -> ColumnElement[str]:
    """The column of the last decision's verdict, NULL where there is none."""
    return _LAST.c.verdict


def _rows() -> Select:
    return with_last_word(INSPECTIONS, *(column.label(f"last_{column.name}") for column in _LAST.c))


def chosen(filters: Filters) -> ColumnElement[bool]:
    """The condition that ``filters`` come to, on a :func:`with_last_word`."""
    table = INSPECTIONS.c
    equal = {
        table.artifact_name: filters.artifact,
        table.artifact_hash: filters.artifact_hash,
        table.who: filters.who,
        table.session: filters.session,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]  # fmt: skip
    if filters.decisions:
        conditions.append(table.decision.in_(filters.decisions))
    if filters.verdicts:
        conditions.append(_LAST.c.verdict.in_(filters.verdicts))
    if filters.decided is not None:
        conditions.append(_LAST.c.id.is_not(None) if filters.decided else _LAST.c.id.is_(None))
    if filters.since is not None:
        conditions.append(table.at >= stamp(filters.since))
    if filters.until is not None:
        conditions.append(table.at < stamp(filters.until))
    return and_(INSPECTIONS.c.id > 0, *conditions)


def inspection(connection: Connection, number: int) -> Inspection:
    """One inspection. Raises :class:`DataError` where there is none."""
    row = connection.execute(_rows().where(INSPECTIONS.c.id == number)).mappings().first()
    if row is None:
        raise DataError(f"there is no inspection {number}")
    return _inspection(row)


def find(connection: Connection, filters: Filters, page: int, size: int) -> Page:
    """A page, newest first. Raises :class:`SettingsError` for a page that cannot be."""
    if page < 0 or not 1 <= size <= MOST_ROWS:
        raise SettingsError(f"expected a page from 0 and a size of 1 to {MOST_ROWS}, got {page} and {size}")
    total = connection.execute(counting(filters, func.count())).scalar_one()
    query = _rows().where(chosen(filters)).order_by(INSPECTIONS.c.id.desc()).limit(size).offset(page * size)
    found = connection.execute(query).mappings()
    return Page(tuple(_inspection(row) for row in found), int(total), page, size)


def each(database: Database, filters: Filters) -> Iterator[Inspection]:
    """All, oldest first; in a transaction for each batch, so that a slow reader holds up nobody."""
    last = 0
    while True:
        query = _rows().where(chosen(filters), INSPECTIONS.c.id > last).order_by(INSPECTIONS.c.id)
        with database.reading() as connection:
            rows = connection.execute(query.limit(BATCH)).mappings().all()
        yield from (_inspection(row) for row in rows)
        if len(rows) < BATCH:
            return
        last = rows[-1]["id"]


def _inspection(row: Mapping[Any, Any]) -> Inspection:
    decided = None
    if row["last_id"] is not None:
        decided = decided_of({column.name: row[f"last_{column.name}"] for column in _LAST.c})
    return inspection_of(row, decided)


def decisions(connection: Connection, number: int) -> list[Decided]:
    """All decisions on one inspection, oldest first."""
    query = select(DECISIONS).where(DECISIONS.c.inspection == number).order_by(DECISIONS.c.id)
    return [decided_of(row) for row in connection.execute(query).mappings()]


def changes(connection: Connection, artifact: str | None) -> list[Change]:
    """Changes, newest first."""
    query = select(CHANGES).order_by(CHANGES.c.id.desc())
    if artifact is not None:
        query = query.where(CHANGES.c.artifact_name == artifact)
    return [change_of(row) for row in connection.execute(query).mappings()]


def artifacts(connection: Connection) -> list[ArtifactName]:
    """Names and hashes of the detectors that inspected something, by name."""
    table = INSPECTIONS.c
    query = select(table.artifact_name, table.artifact_hash).distinct()
    return [ArtifactName(*row) for row in connection.execute(query.order_by(*query.selected_columns))]


def trail(connection: Connection, before: int | None, most: int) -> list[TrailEntry]:
    """Entries of the trail, newest first."""
    query = select(TRAIL).order_by(TRAIL.c.seq.desc()).limit(most)
    if before is not None:
        query = query.where(TRAIL.c.seq < before)
    return [entry_of(row) for row in connection.execute(query).mappings()]
