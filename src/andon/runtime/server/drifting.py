"""Drift of what a server inspects: a monitor for each artefact in use, whose state outlives the server.

The state lies in ``NAME.IDENTITY.json`` (:func:`~andon.runtime.monitor.identity_of`): an artefact of another fit, threshold
or zones has a file of its own, so that one that is exchanged for it, or back, goes on with its own past.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from andon.errors import AndonError
from andon.files import check_folder
from andon.runtime.monitor import DriftEvent, Follower, Monitor, following, identity_of
from andon.runtime.monitor.following import SAVE_EVERY
from andon.runtime.predictor import Measurement
from andon.runtime.server.shelf import Shelved

LOG = logging.getLogger("andon.serve")
_LETTERS = 12  # of the identity, in a file's name
Key = tuple[str, str]  # an artefact's name and its file's SHA-256


@dataclass(eq=False)
class _Followed:
    """One monitor at work. ``held`` lets its file go."""

    follower: Follower
    held: ExitStack
    lock: threading.Lock = field(default_factory=threading.Lock)
    unsaved: int = 0  # photographs


class Monitors:
    """The monitors of the artefacts ``in_use``, in files in ``folder``. All methods may be called from several threads.

    Raises :class:`AndonError` where the folder cannot be written, or a file in it is damaged or another process's.
    """

    def __init__(self, folder: Path, in_use: Iterable[Shelved]) -> None:
        check_folder(folder)
        self.folder = folder
        self.problems: Mapping[str, str] = {}  # name -> why it is not watched
        self._followed: Mapping[Key, _Followed] = {}
        self._one_at_a_time = threading.Lock()
        self.follow(in_use)
        for reason in self.problems.values():
            self.close()
            raise AndonError(reason)

    def follow(self, in_use: Iterable[Shelved]) -> None:
        """Begin, or resume, the monitors of what is new in use, and end those of what is not any more."""
        with self._one_at_a_time:
            wanted = {(one.name, one.sha256): one for one in in_use}
            kept = {key: each for key, each in self._followed.items() if key in wanted}
            gone = [each for key, each in self._followed.items() if key not in wanted]
            self._followed, self.problems = kept, {}
            for each in gone:
                _end(each)
            for key in wanted.keys() - kept.keys():
                self._begin(key, wanted[key])

    def _begin(self, key: Key, shelved: Shelved) -> None:
        identity = identity_of(shelved.predictor.artifact)
        path = self.folder / f"{shelved.name}.{identity[:_LETTERS]}.json"
        held = ExitStack()
        try:
            follower = held.enter_context(following(path, shelved.predictor))
        except AndonError as error:
            self.problems = {**self.problems, shelved.name: str(error)}
            LOG.warning("drift of %s is not watched: %s", shelved.name, error)
        else:
            self._followed = {**self._followed, key: _Followed(follower, held)}

    def add(self, shelved: Shelved, measured: Measurement, file: str) -> tuple[DriftEvent, ...]:
        """What the photograph ``file`` has made certain; nothing where ``shelved`` is not watched, or no more."""
        followed = self._followed.get((shelved.name, shelved.sha256))
        if followed is None:
            return ()
        with followed.lock:
            found = followed.follower.monitor.add(measured.image_score, measured.photo.pixels, file)
            followed.unsaved += 1
            if followed.unsaved >= SAVE_EVERY:
                _save(followed)
        for event in found:
            LOG.warning("drift of %s: %s", shelved.name, event.message)
        return found

    def standing(self, shelved: Shelved) -> tuple[DriftEvent, ...]:
        """What was noticed of ``shelved``, with the levels of now."""
        followed = self._followed.get((shelved.name, shelved.sha256))
        if followed is None:
            return ()
        with followed.lock:
            return followed.follower.monitor.standing()

    def figures(self) -> dict[str, dict[str, tuple[bool, float, float]]]:
        """artefact -> measure -> whether drift was noticed, the p-value, and the level of now; for meters."""
        found = {}
        for (name, _), followed in self._followed.items():
            with followed.lock:
                found[name] = _figures(followed.follower.monitor)
        return found

    def images(self) -> dict[str, int]:
        """artefact -> photographs that its monitor has seen, those before this start included."""
        return {name: followed.follower.monitor.images for (name, _), followed in self._followed.items()}

    def close(self) -> None:
        """Write all files and let them go."""
        self.follow(())


def _figures(monitor: Monitor) -> dict[str, tuple[bool, float, float]]:
    p_values = monitor.p_values()
    return {name: (watch.noticed, p_values[name], watch.level) for name, watch in monitor.watches.items()}


def _save(followed: _Followed) -> None:
    """Write the monitor's file; where that fails it is said, and tried again later."""
    followed.unsaved = 0
    try:
        followed.follower.save()
    except AndonError as error:
        LOG.warning("drift: %s", error)


def _end(followed: _Followed) -> None:
    with followed.lock:
        try:
            followed.held.close()
        except AndonError as error:
            LOG.warning("drift: %s", error)
