"""How many requests are held, and how many images inspected, at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Answer = TypeVar("Answer")
_MEMORY = 0.1  # weight of the latest image in the mean duration of one
LONGEST_WAIT = 60  # seconds that a refused client is asked to wait at most


class FullError(Exception):
    """There is no room for one more request; ``retry_after`` seconds may help."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"full; retry after {retry_after} s")
        self.retry_after = retry_after


class Gate:
    """Lets ``requests`` in, and ``at_once`` images through, in threads of their own; the others wait in their order.

    All but what runs in the threads belongs to one event loop.
    """

    def __init__(self, at_once: int, requests: int) -> None:
        self.at_once = at_once
        self.requests = requests
        self.held = 0  # requests let in
        self.waiting = 0  # images
        self.running = 0  # images
        self._seconds = 0.05  # the mean of late
        self._free = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="inspect")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one request's place inside the block. Raises :class:`FullError` where there is none."""
        if self.held >= self.requests:
            raise FullError(self.retry_after)
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    @property
    def retry_after(self) -> int:
        """Seconds in which what is held now should be done, 1 to LONGEST_WAIT."""
        return min(LONGEST_WAIT, max(1, math.ceil(self.held * self._seconds / self.at_once)))

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What ``work`` answers, done in a thread once there is one free."""
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.running += 1
        try:
            return await loop.run_in_executor(self._threads, work)
        finally:
            self.running -= 1
            self._free.release()
            self._seconds += _MEMORY * (loop.time() - start - self._seconds)

    def close(self) -> None:
        """Let the threads go, without waiting for what they may still do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
