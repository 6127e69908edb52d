"""The artefacts that a server answers with, exchanged while it does.

A file that is new or changed is opened beside the one in use and must answer its golden input; only then does it take that
one's place. Requests that began with the old one end with it. A file that cannot be opened changes nothing but
:attr:`Shelf.problems`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from andon.artifact import Artifact, read_artifact
from andon.errors import AndonError, ArtifactError
from andon.runtime.predictor import Predictor

Stamp = tuple[
    int, int, int
]  # when a file was changed (ns), its bytes, its inode: another file has another stamp


@dataclass(frozen=True)
class Shelved:
    """One artefact in use."""

    name: str  # the file's, without its ending
    path: Path
    predictor: Predictor
    sha256: str  # of the file
    size: int  # of the file, bytes
    since: float  # seconds since 1970


@dataclass(frozen=True)
class Change:
    """What became of one file."""

    name: str
    kind: Literal["added", "swapped", "refused", "gone", "removed"]
    message: str


class Shelf:
    """The artefact in the file ``source``, or all ``*.andon`` in the folder ``source``; ``threads`` of ONNX Runtime each.

    Raises :class:`ArtifactError` where none can be opened; of a folder, others may be broken, see :attr:`problems`.
    """

    def __init__(self, source: Path, *, threads: int | None = None) -> None:
        self.source = source
        self.threads = threads
        self.problems: Mapping[str, str] = {}  # name -> why its newest file is not in use
        self._shelved: Mapping[str, Shelved] = {}
        self._seen: dict[str, Stamp | None] = {}  # the files that were tried last, in vain or not
        self._one_at_a_time = threading.Lock()
        if not self._files():
            raise ArtifactError(
                f"{source} holds no .andon file. Make one with: andon fit FOLDER -o {source / 'part.andon'}"
            )
        self.refresh()
        if not self._shelved:
            first, *others = self.problems.values()
            raise ArtifactError(
                first + (f" Nor can {len(others)} more of its files be opened." if others else "")
            )

    def __len__(self) -> int:
        return len(self._shelved)

    def __iter__(self) -> Iterator[Shelved]:
        return iter(self._shelved.values())

    @property
    def names(self) -> list[str]:
        """Of the artefacts in use, sorted."""
        return sorted(self._shelved)

    def get(self, name: str) -> Shelved | None:
        """The artefact ``name``; None where there is no such one."""
        return self._shelved.get(name)

    def refresh(self, *, again: bool = False) -> list[Change]:
        """What has changed since the last call, now in use. Only files that have changed are opened.

        ``again``: those that were refused are tried again, too, and those of a folder that are gone are given up.
        """
        with self._one_at_a_time:
            files = {path.stem: path for path in self._files()}
            found = [self._look(name, path, again) for name, path in files.items()]
            found += [
                self._miss(name, again) for name in sorted({*self._shelved, *self.problems} - set(files))
            ]
            return [change for change in found if change is not None]

    def _files(self) -> list[Path]:
        """The files to serve, sorted; a single one also where it was never there, so that opening it says so."""
        if self.source.is_dir():
            return sorted(path for path in self.source.glob("*.andon") if not path.name.startswith("."))
        return [self.source] if self.source.exists() or not self._shelved else []

    def _look(self, name: str, path: Path, again: bool) -> Change | None:
        """Take the file at ``path`` into use where it is another one than that last seen."""
        stamp = _stamp(path)
        if stamp == self._seen.get(name, ()) and not (again and name in self.problems):
            return None
        self._seen[name] = stamp
        before = self._shelved.get(name)
        try:
            shelved = self._opened(name, path, before)
        except (AndonError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            reason += f" The one of before ({before.sha256[:12]}) stays in use." if before else ""
            self.problems = {**self.problems, name: reason}
            return Change(name, "refused", f"{path.name} is refused: {reason}")
        self.problems = {other: text for other, text in self.problems.items() if other != name}
        if shelved is before:
            return None
        self._shelved = {**self._shelved, name: shelved}
        became = f"{shelved.sha256[:12]} is in use"
        if before is None:
            return Change(name, "added", f"{path.name}: {became}")
        return Change(name, "swapped", f"{path.name}: {became} in place of {before.sha256[:12]}")

    def _opened(self, name: str, path: Path, before: Shelved | None) -> Shelved:
        """The file at ``path``, its golden input answered; ``before`` where it holds the same bytes."""
        data = path.read_bytes() if path.is_file() else b""
        sha256 = hashlib.sha256(data).hexdigest()
        if before is not None and sha256 == before.sha256:
            return before
        predictor = Predictor(_artifact(path, data), threads=self.threads)
        return Shelved(name, path, predictor, sha256, len(data), time.time())

    def _miss(self, name: str, again: bool) -> Change | None:
        """Note that the file of ``name`` is gone: it stays in use, unless it is one of a folder and ``again``."""
        self._seen.pop(name, None)
        kept = {other: text for other, text in self.problems.items() if other != name}
        if name not in self._shelved or (again and self.source.is_dir()):
            self.problems = kept
            self._shelved = {other: one for other, one in self._shelved.items() if other != name}
            return Change(name, "removed", f"{name}.andon is gone, and no longer in use")
        message = f"{name}.andon is gone. What was read of it stays in use."
        if self.problems.get(name) == message:
            return None
        self.problems = {**kept, name: message}
        return Change(name, "gone", message)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _artifact(path: Path, data: bytes) -> Artifact:
    """The artefact in ``data``, read from ``path``, which may hold another one by now. Raises :class:`ArtifactError`."""
    if not data:
        return read_artifact(path)
    try:
        return read_artifact(data)
    except ArtifactError as error:
        raise ArtifactError(str(error).replace("these bytes", str(path), 1)) from error
