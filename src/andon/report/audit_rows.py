"""An audit as a list to act on: one row an image, the oddest first. ``andon fit --leave-out`` reads it back."""

from __future__ import annotations

import csv
from pathlib import Path

from andon.audit import Audit
from andon.cells import csv_cell
from andon.files import atomic_write

COLUMNS = ("rank", "action", "path", "kind", "oddness", "reason", "copy_of")


def write_audit_csv(path: Path, audit: Audit) -> None:
    """Write the list as CSV, atomically. ``action`` is what may be changed: leave out, look, keep."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([csv_cell(getattr(one, column)) for column in COLUMNS] for one in audit.judged)
