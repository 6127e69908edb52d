"""Results as files: one JSON a part, the overlays, and a table a day. All of it survives a kill and is there once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from andon.errors import SettingsError
from andon.files import atomic_write
from andon.runtime.line.contract import Result, Sink
from andon.runtime.line.daily_log import Kind, append

PARTS, OVERLAYS, LOG = "parts", "overlays", "log"  # folders
MOST_LETTERS = 80  # of a part's number in a file's name


class FilesSink(Sink):
    """Writes ``parts/DAY/NUMBER_PART.json`` and ``log/DAY.csv`` (or .jsonl, or none) below ``folder``.

    The day is that of the inspection, by this computer's clock. While files cannot be written, the line halts.
    """

    name = "files"
    halts_line = True

    def __init__(self, folder: Path, log: Kind | None = "csv") -> None:
        self.folder, self.log = folder, log

    def deliver(self, results: Sequence[Result]) -> None:
        """Write what is not written; see :meth:`Sink.deliver`."""
        for result in results:
            with atomic_write(self.folder / PARTS / f"{file_stem(result)}.json") as file:
                file.write(result.document.encode("ascii") + b"\n")
        if self.log:
            for day, some in groupby(results, key=day_of):
                append(self.folder / LOG / f"{day}.{self.log}", list(some), self.log)


def require_unused(folder: Path) -> None:
    """Raise :class:`SettingsError` where results lie in ``folder`` whose numbers a new store would give again."""
    if any((folder / name).exists() for name in (PARTS, OVERLAYS, LOG)):
        raise SettingsError(
            f"{folder} holds the results of a line whose store is not there. A new one begins at number 1 again and would "
            "mix with them: give another --out, or move these away."
        )


def save_overlay(folder: Path, result: Result, picture: bytes) -> None:
    """Write the overlay where the result's document says, whole or not at all."""
    with atomic_write(folder / result.content["overlay"]) as file:
        file.write(picture)


def remove_unfinished(folder: Path, last: int) -> None:
    """Remove the overlay, of the newest day, whose result a kill left unstored: its number is above ``last``."""
    for day in sorted((folder / OVERLAYS).glob("*"))[-1:]:
        for path in day.glob("*.png"):
            number = path.name.partition("_")[0]
            if number.isdigit() and int(number) > last:
                path.unlink(missing_ok=True)


def overlay_name(stem: str) -> str:
    """Where the overlay of a result lies, below the folder of results."""
    return f"{OVERLAYS}/{stem}.png"


def day_of(result: Result) -> str:
    """YYYY-MM-DD of the inspection."""
    return str(result.content["inspected"][:10])


def file_stem(result: Result) -> str:
    """``DAY/NUMBER_PART``, safe on every file system.

    >>> file_stem(Result(7, '{"sequence": 7, "inspected": "2026-01-31T10:00:00+01:00", "part": "A/17"}'))
    '2026-01-31/00000007_A-17'
    """
    return stem_of(result.sequence, result.content["inspected"], result.content["part"])


def stem_of(sequence: int, inspected: str, part: str) -> str:
    """As :func:`file_stem`, before there is a result."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in part[:MOST_LETTERS])
    return f"{inspected[:10]}/{sequence:08}_{safe}"
