"""The records: one object over the tables, the trail and the pictures.

Every writing method takes the :class:`Session` of who writes, and puts the thing and its entry of the trail into
one transaction: both are there, or neither. All methods may be called from several threads and processes at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from andon.records import accounts, exporting, lines, queries, rows, shifts, verifying
from andon.records.database import Database
from andon.records.entries import (
    Anchor,
    Answer,
    ArtifactName,
    Change,
    Decided,
    Filters,
    Inspection,
    Limits,
    LineResult,
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
from andon.records.migrations import migrate
from andon.records.pictures import Pictures
from andon.types import Verdict


class Records(AbstractContextManager["Records"]):
    """What happened on a station. Made by :func:`andon.records.open_records`; see there for the arguments."""

    def __init__(
        self, where: str | os.PathLike[str], *, pictures: Path | None, limits: Limits, create: bool
    ) -> None:
        self.database = Database(where, create=create)
        migrate(self.database, create=create)
        self.pictures = Pictures(self.database, pictures or self.database.pictures_folder, limits)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    # Who: sessions and accounts

    def login(self, name: str, password: str) -> Session:
        """A session of the account ``name``.

        Raises :class:`AccessError` where name or password is wrong (which of them is not said), and for five minutes
        after five wrong ones.
        """
        return accounts.login(self.database, name, password)

    def anonymous(self) -> Session:
        """A session of nobody, with an engineer's rights: for trying out, as long as there never was an account.

        Raises :class:`AccessError` where there was one.
        """
        return accounts.anonymous(self.database)

    def unattended(self, name: str) -> Session:
        """A session of a programme that inspects, such as ``"line 3"``; it may only add verdicts."""
        return accounts.begin_session(self.database, name, "line", "line")

    def console(self) -> Session:
        """A session of whoever runs a command on this computer, with an engineer's rights."""
        return accounts.console(self.database)

    def logout(self, session: Session) -> None:
        """Write down that ``session`` has ended."""
        accounts.logout(self.database, session)

    def has_users(self) -> bool:
        """Whether there ever was an account; without one a page may use :meth:`anonymous`."""
        return accounts.has_users(self.database)

    def users(self) -> list[User]:
        """The accounts that can log in, by name."""
        return accounts.users(self.database)

    def check(self, session: Session, *roles: Role) -> None:
        """Raise :class:`AccessError` unless ``session`` is still good and its role is one of ``roles`` (any if none).

        A session ends when its account is changed or removed. Every writing method checks by itself.
        """
        with self.database.reading() as connection:
            accounts.check(connection, session, *roles)

    def add_user(self, by: Session, name: str, password: str, role: Role) -> None:
        """Make an account. For engineers. Raises :class:`SettingsError` for a name or password that will not do."""
        accounts.add_user(self.database, by, name, password, role)

    def set_password(self, by: Session, name: str, password: str, current: str | None = None) -> None:
        """Give the account ``name`` another password, which ends its sessions.

        For engineers; for others their own, and then with the ``current`` one. Raises :class:`AccessError`.
        """
        accounts.set_password(self.database, by, name, password, current)

    def remove_user(self, by: Session, name: str) -> None:
        """Close an account; what it wrote stays. For engineers. The last engineer cannot be removed."""
        accounts.remove_user(self.database, by, name)

    # What is written

    def add(
        self,
        session: Session,
        verdict: Verdict,
        artifact: ArtifactName,
        *,
        image_name: str | None = None,
        image: bytes | None = None,
        overlay: bytes | None = None,
        group: str = "",
    ) -> int:
        """The number of the inspection that is recorded now, with its pictures.

        ``image_name``: what people know the photograph by; by default the name in ``verdict.path``. ``image``: the
        file's bytes as they came. ``overlay``: the heatmap's picture, PNG. A picture above ``Limits.largest_bytes``
        is not kept; its hash is. When pictures pass the limits, the oldest are pruned.
        Raises :class:`AndonError` where it cannot be recorded (disk full, database away): then nothing of it is.
        """
        name = os.path.basename(verdict.path) if image_name is None else image_name
        self.pictures.enforce(session.who)
        with (
            self.pictures.staged(image, Path(name).suffix) as first,
            self.pictures.staged(overlay, ".png") as second,
        ):
            with self.database.writing() as connection:
                accounts.check(connection, session)
                number = rows.add_inspection(
                    connection, session, verdict, artifact, name, group, self.pictures.keep(connection, first),
                    self.pictures.keep(connection, second),
                )  # fmt: skip
        return number

    def add_from_line(self, session: Session, results: Sequence[LineResult]) -> int:
        """How many of ``results``, of one line and in its order, were recorded now: those that were not there yet.

        All of them or none, in one transaction: to bring results again after a failure or a kill is harmless.
        Raises :class:`AndonError` as :meth:`add`.
        """
        return lines.add(self.database, self.pictures, session, results)

    def decide(self, session: Session, inspection: int, answer: Answer, note: str = "") -> Decided:
        """Record what a person says of an inspection: the last word, until a later one is added.

        ``answer``: "agree" with the machine, "disagree" (a fail is a pass then and a pass a fail), or the person's
        own verdict, "pass", "fail" or "review"; a review can only be answered by one's own verdict.
        For operators and engineers. Raises :class:`DataError` where there is no such inspection.
        """
        with self.database.writing() as connection:
            accounts.check(connection, session, "operator", "engineer")
            return rows.add_decision(connection, session, inspection, answer, note)

    def change(
        self,
        session: Session,
        kind: Literal["threshold", "zones"],
        artifact: ArtifactName,
        before: Mapping[str, object],
        after: Mapping[str, object],
        *,
        why: str,
        hash_after: str | None = None,
    ) -> Change:
        """Record that a threshold or zones of ``artifact`` were changed, and why. For engineers.

        ``before`` and ``after`` are what JSON can hold (numbers that are not finite become None); ``hash_after`` is
        the hash of the artefact's file afterwards. Raises :class:`SettingsError` without a reason.
        """
        with self.database.writing() as connection:
            accounts.check(connection, session, "engineer")
            return rows.add_change(connection, session, kind, artifact, before, after, why, hash_after)

    def prune(self, session: Session, limits: Limits | None = None) -> Pruned:
        """Remove the oldest pictures beyond ``limits`` (default: those of these records); rows and trail stay.

        Writes what was removed to the trail. Also removes files that belong to no picture. For engineers.
        """
        self.check(session, "engineer")
        return self.pictures.prune(session.who, limits, sweep=True)

    # What is asked

    def inspection(self, number: int) -> Inspection:
        """One inspection. Raises :class:`DataError` where there is none with this number."""
        with self.database.reading() as connection:
            return queries.inspection(connection, number)

    def find(self, filters: Filters | None = None, *, page: int = 0, size: int = 50) -> Page:
        """The inspections that ``filters`` choose, newest first, page by page.

        The queue of what a person should look at: ``Filters(decisions=("fail", "review"), decided=False)``.
        """
        with self.database.reading() as connection:
            return queries.find(connection, filters or Filters(), page, size)

    def each(self, filters: Filters | None = None) -> Iterator[Inspection]:
        """All inspections that ``filters`` choose, oldest first, in bounded memory."""
        return queries.each(self.database, filters or Filters())

    def decisions(self, inspection: int) -> list[Decided]:
        """Everything that persons said of one inspection, oldest first; the last one counts."""
        with self.database.reading() as connection:
            return queries.decisions(connection, inspection)

    def changes(self, artifact: str | None = None) -> list[Change]:
        """Changes of thresholds and zones, newest first; of one artefact's name, or of all."""
        with self.database.reading() as connection:
            return queries.changes(connection, artifact)

    def artifacts(self) -> list[ArtifactName]:
        """The detectors that inspected something, by name and hash."""
        with self.database.reading() as connection:
            return queries.artifacts(connection)

    def picture(self, digest: str | None) -> bytes | None:
        """The bytes of a picture (``image_hash`` or ``overlay_hash``); None where it is not kept, or no more."""
        return self.pictures.read(digest)

    def tally(self, filters: Filters) -> Tally:
        """Counts, false alarms, escapes and latencies of the inspections that ``filters`` choose, as one."""
        with self.database.reading() as connection:
            return shifts.tally(connection, filters)

    def shifts(self, since: datetime, until: datetime, plan: Shifts | None = None, filters: Filters | None = None) -> list[Tally]:  # fmt: skip
        """The same for each shift that lies in or overlaps ``since`` to ``until`` (aware times), oldest first.

        Shifts without inspections are there, too. ``filters`` choose further; their times do not count.
        """
        with self.database.reading() as connection:
            return shifts.per_shift(connection, since, until, plan or Shifts(), filters or Filters())

    def trail(self, *, before: int | None = None, most: int = 100) -> list[TrailEntry]:
        """The trail's last entries, newest first; those before entry ``before`` where it is given."""
        with self.database.reading() as connection:
            return queries.trail(connection, before, most)

    # What leaves

    def write_csv(self, file: str | os.PathLike[str] | IO[str], filters: Filters | None = None) -> int:
        """Write the inspections that ``filters`` choose as CSV (UTF-8, header first, oldest first); how many they were.

        A path is written atomically. Texts that a spreadsheet would run as formulas get an apostrophe before them.
        """
        return exporting.write_csv(file, self.each(filters))

    def good(self, filters: Filters | None = None) -> Iterator[Inspection]:
        """Inspections whose part is good by a person's last word: new good images, once their pictures are kept."""
        return self.each(exporting.judged("pass", filters))

    def defects(self, filters: Filters | None = None) -> Iterator[Inspection]:
        """Inspections whose part is defective by a person's last word: for annotations, with the regions found."""
        return self.each(exporting.judged("fail", filters))

    def save_images(self, inspections: Iterable[Inspection], folder: str | os.PathLike[str]) -> Sequence[int]:
        """Copy the photographs into ``folder`` as ``<number>_<name>``; the numbers of those that are not kept any more.

        A photograph that was inspected several times is written once.
        """
        return exporting.save_images(self.pictures, inspections, Path(folder))

    # The trail

    def verify(self, anchor: Anchor | None = None, *, pictures: bool = True) -> Verification:
        """Recompute the chain and everything it names; says the first thing that does not fit.

        ``anchor``: the end of the trail at an earlier time; without one, entries cut off at the end together with
        what they name are not noticed. ``pictures``: False leaves the pictures' bytes out.
        """
        return verifying.verify(self.database, self.pictures, anchor, pictures)
