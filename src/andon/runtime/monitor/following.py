"""Inspection with a monitor behind it, whose file is kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from andon.files import single_writer
from andon.runtime.monitor.events import DriftEvent, retell
from andon.runtime.monitor.line import Monitor
from andon.runtime.monitor.state import resume_monitor, save_monitor
from andon.runtime.predictor import Measurement, Predictor
from andon.runtime.words import Words
from andon.types import Failure, Verdict

SAVE_EVERY = 200  # photographs between two writings of the file; a killed process forgets no more


@dataclass(frozen=True)
class Follower:
    """Shows a monitor what a predictor measures. Photographs that cannot be inspected do not count."""

    predictor: Predictor
    monitor: Monitor
    path: Path

    def inspect_many(self, paths: Iterable[Path]) -> Iterator[Verdict | Failure]:
        """The predictor's answers; what the monitor notices at a photograph is among its verdict's notes."""
        for number, path in enumerate(paths, 1):
            found: list[DriftEvent] = []

            def show(measured: Measurement, path: Path = path, found: list[DriftEvent] = found) -> None:
                found += self.monitor.add(measured.image_score, measured.photo.pixels, str(path))

            for answer in self.predictor.inspect_many([path], watch=show):
                yield _noted(answer, found, self.predictor.words)
            if number % SAVE_EVERY == 0:
                self.save()

    def save(self) -> None:
        """Write the monitor's file."""
        save_monitor(self.monitor, self.path)


def _noted(answer: Verdict | Failure, found: list[DriftEvent], words: Words) -> Verdict | Failure:
    if isinstance(answer, Failure) or not found:
        return answer
    notes = (words["drift.note"].format(message=retell(event, words).message) for event in found)
    return replace(answer, notes=(*answer.notes, *notes))


@contextmanager
def following(path: Path, predictor: Predictor) -> Iterator[Follower]:
    """A follower whose monitor goes on from the file at ``path``, or begins; the file is written at the end.

    Also when the block ends in an error: what was inspected counts. Raises :class:`BusyError` where another process
    writes the file, :class:`DataError` where it is damaged or belongs to another detector.
    """
    with single_writer(path):
        follower = Follower(predictor, resume_monitor(path, predictor.artifact), path)
        try:
            yield follower
        finally:
            follower.save()
