"""A thread that carries results from the store to one sink, in order, until the sink has them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from andon.errors import AndonError
from andon.runtime.line.contract import Result, Sink, UnavailableError
from andon.runtime.line.store import Store

BATCH = 50  # results handed over at once
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between two tries; doubled each time
IDLE_S = 1.0  # between two looks at a sink that has nothing to get


class Courier:
    """Delivers to ``sink`` from the store at ``path``. ``say`` is told when the sink goes away and comes back.

    problem: why nothing can be delivered now; "" while all is well. failure: what ended the thread, which is a fault in
    the sink's code; the line must end with it.
    """

    def __init__(self, sink: Sink, path: Path, say: Callable[[str], None]) -> None:
        self.sink, self.path, self.say = sink, path, say
        self.problem = ""
        self.failure: BaseException | None = None
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"andon-{sink.name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def finish(self, seconds: float) -> None:
        """Deliver what is left, for at most ``seconds`` and unless the sink is away; then end."""
        self._end.set()
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            store = Store(self.path)
            try:
                while self._round(store):
                    pass
            finally:
                store.close()
        except BaseException as error:  # noqa: BLE001  (handed to the line's thread, which raises it)
            self.failure = error

    def _round(self, store: Store) -> bool:
        """Deliver what there is, then wait for more; False when it is time to end."""
        ending, pause = self._end.is_set(), FIRST_PAUSE_S
        while not self._deliver(store):
            if self._end.wait(pause):
                return False
            pause = min(2 * pause, LONGEST_PAUSE_S)
        if not self._end.is_set():
            self._wake.wait(IDLE_S)
            self._wake.clear()
        return not ending

    def _deliver(self, store: Store) -> bool:
        """Whether the sink has everything now."""
        results: list[Result] = []
        try:
            while True:
                results = store.pending(self.sink.name, BATCH)
                self.sink.deliver(results)
                if results:
                    store.delivered(self.sink.name, results)
                self._solved()
                if len(results) < BATCH:
                    return True
        except (AndonError, OSError) as error:
            self._met(error)
            self._keep(store, results, error)
            return False

    def _keep(self, store: Store, results: list[Result], error: Exception) -> None:
        """Take out of the outbox what was delivered before the ``error``."""
        done = error.delivered if isinstance(error, UnavailableError) else 0
        if done:
            try:
                store.delivered(self.sink.name, results[:done])
            except UnavailableError as other:  # they are delivered again
                self._met(other)

    def _met(self, error: Exception) -> None:
        reason = str(error)
        if not self.problem:
            self.say(f"{self.sink.name}: {reason} Results are kept and delivered later.")
        self.problem = reason

    def _solved(self) -> None:
        if self.problem:
            self.problem = ""
            self.say(f"{self.sink.name}: works again at {time.strftime('%H:%M:%S')}.")
