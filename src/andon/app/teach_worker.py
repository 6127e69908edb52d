"""The process that fits: ``python -m andon.app.teach_worker FOLDER``, started by :func:`andon.app.teaching.start`.

It belongs to no browser and to no app: it ends when the fit does, when it is asked to stop (a file in its folder), or with the
computer. How far it is, it writes into ``progress.json``.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from andon.app.teaching import Fit, Order, Progress
from andon.errors import AndonError, BusyError
from andon.files import single_writer

TELL_EVERY = 0.5  # seconds between two writings of the progress
LOOK_EVERY = 0.3  # seconds between two looks for the file that asks to stop
TRIES = 100  # to take the lock, which pages that look for it hold for moments
CHECKPOINT_SECONDS = 10.0


class Teller:
    """Writes down how far the fit is, now and then; what cannot be written is not worth the fit."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.begun = time.monotonic()
        self._loss: float | None = None
        self._told = 0.0
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """The progress that :func:`andon.pipeline.fit` reports."""
        now = time.monotonic()
        if phase == self._phase and now - self._told < TELL_EVERY and done < total:
            return
        self._phase, self._told = phase, now
        loss = self._loss if phase == "train" else None
        with suppress(AndonError):
            self.fit.tell(Progress("running", phase, done, total, loss, now - self.begun))

    def loss(self, value: float) -> None:
        """The latest loss, told with the next step."""
        self._loss = value

    def end(self, progress: Progress) -> None:
        """The last word."""
        self.fit.tell(Progress(**{**vars(progress), "seconds": time.monotonic() - self.begun}))


def teach(fit: Fit, teller: Teller) -> Progress:
    """Fit as ordered, going on from what an earlier process kept; how it ended."""
    from andon.pipeline import fit as run

    order = fit.order()
    try:
        run(Path(order.source).expanduser(), fit.result, method=order.method, resume=fit.can_go_on, progress=teller,
            on_loss=teller.loss, **options_of(order))  # fmt: skip
    except KeyboardInterrupt:
        return Progress("stopped")
    except (AndonError, OSError, MemoryError) as error:
        return Progress("failed", message=str(error) or type(error).__name__)
    return Progress("done")


def options_of(order: Order) -> dict[str, Any]:
    """The keywords of :func:`andon.pipeline.fit` for an order."""
    size = None if order.rows is None or order.columns is None else (order.rows, order.columns)
    return {
        "minutes": order.minutes, "target_rate": order.target_rate, "size": size, "keep_patches": True,
        "checkpoint_seconds": CHECKPOINT_SECONDS,
    }  # fmt: skip


def main(folder: Path) -> None:
    """Fit, and let Ctrl-C and a computer that shuts down keep what there is, however this process was started."""
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.default_int_handler)
    work(folder)


def work(folder: Path) -> None:
    """Hold the lock, fit, say how it ended. Raises :class:`BusyError` where another process fits."""
    fit = Fit(folder)
    for attempt in range(TRIES):
        try:
            with single_writer(fit.lock):
                _held(fit)
            return
        except BusyError:
            if attempt + 1 == TRIES:
                raise
            time.sleep(0.01 * (1 + attempt % 7))


def _held(fit: Fit) -> None:
    teller, over = Teller(fit), threading.Event()
    fit.tell(Progress("running", "begin"))
    watcher = threading.Thread(target=_watch, args=(fit, over), daemon=True)
    watcher.start()
    try:
        ended = teach(fit, teller)
    except KeyboardInterrupt:  # between two things that teach does
        ended = Progress("stopped")
    with suppress(KeyboardInterrupt):  # asked to stop in this moment: it has
        over.set()
        watcher.join()
    teller.end(ended)


def _watch(fit: Fit, over: threading.Event) -> None:
    """Interrupt the fit once when it is asked to stop."""
    while not over.wait(LOOK_EVERY):
        if fit.stop_file.exists():
            _interrupt()
            return


def _interrupt() -> None:
    """Ctrl-C for this process, by a true signal where there are such: it ends a wait, too."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main(signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
