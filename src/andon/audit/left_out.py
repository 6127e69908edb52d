"""The list of images that a fit leaves out: as ``andon audit`` wrote it and a person changed it, or one path a line."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from andon.cells import csv_cell
from andon.errors import DataError

LEAVE_OUT, LOOK, KEEP = "leave out", "look", "keep"  # the actions of an audit
_PATH, _ACTION = "path", "action"


def read_left_out(listing: str | os.PathLike[str], root: Path) -> frozenset[Path]:
    """The images, resolved, that ``listing`` says to leave out of those below ``root``.

    A CSV file with the columns ``path`` and ``action``: the rows whose action is ``leave out``. Any other text: one path
    a line, empty lines and those that begin with ``#`` aside. Paths are relative to ``root``, or absolute.

    Raises :class:`DataError` when the list cannot be read, or names a file that is not there.
    """
    try:
        text = Path(listing).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list of images to leave out, {listing}: {error}") from error
    found = {name: (root / name).resolve() for name in _named(text)}
    missing = [name for name, path in found.items() if not path.is_file()]
    if missing:
        raise DataError(
            f"{listing} names {len(missing)} of {len(found)} images that are not below {root}, the first is {missing[0]}. "
            "Was the list made for another folder? Its paths are relative to the folder that is fitted on."
        )
    return frozenset(found.values())


def _named(text: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if {_PATH, _ACTION} <= set(rows.fieldnames or ()):
        named = [row[_PATH] for row in rows if (row[_ACTION] or "").strip().lower() == LEAVE_OUT]
        return [
            name.removeprefix("'") if csv_cell(name.removeprefix("'")) == name else name for name in named
        ]
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
