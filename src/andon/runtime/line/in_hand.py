"""Which part is being inspected, in a file beside the store: so that one that ends the program is not tried for ever.

A photograph may need more memory than there is, or hit a fault in a library that ends the process; the supervisor starts
it again, and the same photograph comes first. The file says how many starts have begun with it. It is written in place
and not flushed: what it must survive is the end of the process, not a power cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from andon.runtime.line.contract import Part

MOST_STARTS = 3  # with the same part unfinished
_WIDTH = 64  # of a digest in hex


class InHand:
    """Counts the starts of the program that did not finish a part; ``path`` is made where it is not."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        text = os.read(self._file, 2 * _WIDTH).decode("ascii", "replace")
        self._before, starts = text[:_WIDTH], text[_WIDTH:].strip()
        self._starts = int(starts) if starts.isdigit() else 0

    def begin(self, part: Part) -> int:
        """How many starts before this one ended with this part in hand."""
        digest = hashlib.sha256(
            f"{part.source}\n{part.name}\n{part.sha256}".encode("utf-8", "surrogateescape")
        )
        key = digest.hexdigest()
        before = self._starts if key == self._before else 0
        with contextlib.suppress(OSError):  # a full disk is for others to report
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"{key}{before + 1:8}".encode("ascii"))
        return before

    def close(self) -> None:
        """Nothing is in hand: the program ends as it should."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
        os.close(self._file)
