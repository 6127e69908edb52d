"""What lines bring: verdicts with the numbers that their stores gave them, each recorded once.

A line delivers in order and at least once. The last number that is recorded of a line is read in the transaction that
writes the next ones, so what comes again is known by its number; a unique index holds that against any other writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, func, select

from andon.records import accounts, rows
from andon.records.database import Database
from andon.records.entries import LineResult, Session
from andon.records.pictures import Kept, Pictures, Staged
from andon.records.schema import INSPECTIONS


def add(database: Database, pictures: Pictures, session: Session, results: Sequence[LineResult]) -> int:
    """How many of ``results`` were not there yet; see :meth:`Records.add_from_line`."""
    if not results:
        return 0
    pictures.enforce(session.who)
    with ExitStack() as stack:
        staged = [_staged(stack, pictures, result) for result in results]
        with database.writing() as connection:
            accounts.check(connection, session)
            last = _last(connection, results[0].line)
            new = [pair for pair in zip(results, staged) if pair[0].sequence > last]
            for result, (image, overlay) in new:
                kept = pictures.keep(connection, image), pictures.keep(connection, overlay)
                _add(connection, session, result, *kept)
    return len(new)


def _staged(stack: ExitStack, pictures: Pictures, result: LineResult) -> tuple[Staged, Staged]:
    """A result's photograph and heatmap, on the disk until ``stack`` ends."""
    image = stack.enter_context(pictures.staged(result.image, Path(result.image_name).suffix))
    return image, stack.enter_context(pictures.staged(result.overlay, ".png"))


def _last(connection: Connection, line: str) -> int:
    """The number of the last result that is recorded of ``line``; 0 before the first."""
    query = select(func.max(INSPECTIONS.c.sequence)).where(INSPECTIONS.c.line == rows.plain(line))
    return int(connection.execute(query).scalar() or 0)


def _add(connection: Connection, session: Session, result: LineResult, image: Kept, overlay: Kept) -> None:
    if image.hash is None:
        image = Kept(result.image_hash)
    rows.add_inspection(
        connection, session, result.verdict, result.artifact, result.image_name, result.group, image, overlay, result
    )  # fmt: skip
