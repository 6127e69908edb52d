"""What all browsers of one app share: the artefacts in a folder, the records, and how many networks run at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from andon.app.settings import AppSettings
from andon.errors import ArtifactError
from andon.records import ArtifactName, open_records
from andon.runtime.server.shelf import Shelf, Shelved

if TYPE_CHECKING:
    from andon.records import Records

LOOK_EVERY = 2.0  # seconds between two looks at the folder


class Station:
    """One app. ``busy`` is held while a network runs; ``records`` are open for as long as the app is."""

    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self.records: Records = open_records(settings.records, pictures=settings.pictures)
        self.busy = threading.BoundedSemaphore(settings.limits.at_once)
        self._shelf: Shelf | None = None
        self._problem = ""
        self._looked = -LOOK_EVERY
        self._looking = threading.Lock()

    def artifacts(self) -> list[Shelved]:
        """The artefacts that can be used, by name; files that are new or exchanged are taken up."""
        shelf = self._current()
        return [] if shelf is None else [shelved for name in shelf.names if (shelved := shelf.get(name))]

    def artifact(self, name: str) -> Shelved | None:
        """The artefact ``name``; None where there is no such one."""
        return next((shelved for shelved in self.artifacts() if shelved.name == name), None)

    def problems(self) -> Mapping[str, str]:
        """Why files of the folder are not in use, by name; "" is the folder itself."""
        shelf = self._current()
        return {"": self._problem} if shelf is None else shelf.problems

    def look_again(self) -> None:
        """Look at the folder now: something was saved there, or shall be tried again."""
        with self._looking:
            if self._shelf is not None:
                self._shelf.refresh(again=True)
            self._looked = -LOOK_EVERY

    def _current(self) -> Shelf | None:
        with self._looking:
            if time.monotonic() - self._looked >= LOOK_EVERY:
                self._look()
                self._looked = time.monotonic()
            return self._shelf

    def _look(self) -> None:
        if self._shelf is not None:
            self._shelf.refresh()
            return
        try:
            self._shelf = Shelf(self.settings.folder, threads=self.settings.threads)
            self._problem = ""
        except ArtifactError as error:  # a folder may be empty until something was taught
            self._problem = str(error)


def artifact_name(shelved: Shelved) -> ArtifactName:
    """What records call an artefact."""
    return ArtifactName(shelved.name, shelved.sha256)
