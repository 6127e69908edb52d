"""Pillow's warnings, kept back from whoever called us, also when several threads decode at once."""

from __future__ import annotations

import threading
import warnings


class Quiet:
    """Pillow's warnings kept back while anyone is inside; what they warn of is refused or noted here.

    ``warnings.catch_warnings`` alone is not for threads: two that overlap can leave the filter in place for
    good. So the first to enter sets it, and the last to leave takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|andon\.image)\b")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


QUIET = Quiet()
