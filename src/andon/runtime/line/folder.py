"""A watched folder as a source of parts: each file once, when it is whole, in the order of arrival.

The folder is listed again and again (polled): that works on every disk and on network shares, whose changes by other
computers no operating system reports. A file is whole when its size and time of change have stayed the same for
``settle`` seconds; one that cannot be read as an image then may still grow, and is tried again until it has not changed
for ``patience`` seconds. How old a file is is measured by this computer's clock from when it was first seen so, never
by comparing its time with ours: a share's clock is another one.

What is a new part: another name, or the same name with another content than the last one. Name, size and time of change
(``stamp``) tell it without opening the file; where they differ, the content's SHA-256 decides, so that a file that was
only touched or copied over itself is not inspected again. The bytes that are hashed are the ones that are inspected.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from andon.errors import AndonError, DataError, SettingsError
from andon.image import IMAGE_SUFFIXES
from andon.runtime.line.contract import Ledger, Part, Source, UnavailableError
from andon.runtime.line.moving import move_aside

MAX_BYTES = 2**30  # of a file that is read into memory
REST = 4.0  # the folder is listed at most a fifth of the time, however many files lie there
MOVE_AGAIN_S = 10.0
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")  # before or after the image's ending


@dataclass(slots=True)
class _File:
    """A file as it was last seen. decision: "" until it has been inspected."""

    size: int
    changed_ns: int
    since: float  # monotonic; when it was first seen like this
    not_before: float = 0.0  # monotonic; when to look again
    decision: str = ""
    sha256: str = ""

    @property
    def stamp(self) -> str:
        return _stamp(self.size, self.changed_ns)


@dataclass(frozen=True)
class Timing:
    """Seconds: between two looks, unchanged until a file is whole, and until an unreadable one is given up."""

    poll: float = 0.1
    settle: float = 0.2
    patience: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.poll <= 3600 or not 0 <= self.settle <= self.patience <= 86400:
            raise SettingsError(
                f"expected 0 < poll and 0 <= settle <= patience, in seconds; got poll {self.poll:g}, "
                f"settle {self.settle:g}, patience {self.patience:g}"
            )


class FolderSource(Source):
    """The image files in ``folder``; hidden and unfinished ones (.tmp, .part) are not looked at.

    recursive: those in folders below, too. only_new: what lies there when the line begins for the first time is not
    inspected. moves: decision -> folder that files go to when their result is stored. say: told what people should know.
    """

    name = "folder"

    def __init__(
        self, folder: Path, *, recursive: bool = False, only_new: bool = False, timing: Timing | None = None,
        moves: Mapping[str, Path] | None = None, say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.folder = folder.absolute()
        self.recursive, self.only_new, self.moves, self.say = recursive, only_new, dict(moves or {}), say
        self.timing = timing or Timing()
        self._files: dict[str, _File] = {}
        self._ready: deque[str] = deque()
        self._look_at = 0.0
        self._unmoved: set[str] = set()
        self._ledger: Ledger

    def open(self, ledger: Ledger) -> None:
        """Begin with what lies there. Raises :class:`DataError` where there is no such folder."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder. Give the folder that the camera writes to.")
        self._ledger = ledger
        if self.only_new and ledger.is_new:
            found = {name: _stamp(stat.st_size, stat.st_mtime_ns) for name, stat in self._listed()}
            ledger.skip(self.name, found)

    def take(self) -> Part | None:
        """The next file that is whole and new, with its bytes; see :meth:`Source.take`."""
        if not self._ready and time.monotonic() >= self._look_at:
            self._look()
        while self._ready:
            part = self._read(self._ready.popleft())
            if part is not None:
                return part
        return None

    def may_change(self, part: Part) -> bool:
        """Whether the file has changed within the last ``patience`` seconds, or since it was read."""
        file = self._files[part.name]
        file.not_before = file.since + self.timing.patience
        return time.monotonic() < file.not_before or not self._is_still(part)

    def settle(self, part: Part, decision: str) -> None:
        """Move the file to where the decision says, if it still is what was inspected."""
        file = self._files[part.name]
        file.decision, file.sha256 = decision, part.sha256
        if decision in self.moves and self._is_still(part):
            self._move(part.name, file)

    def waiting(self) -> int:
        """Files that lie there and are not inspected, half-written ones included."""
        return sum(not file.decision for file in self._files.values())

    def holds(self, name: str) -> bool:
        """Whether the file lies there."""
        return name in self._files

    def _look(self) -> None:
        """List the folder, and line up what is whole."""
        start = time.monotonic()
        seen: dict[str, _File] = {}
        for name, stat in self._listed():
            before = self._files.get(name)
            if before is None or (before.size, before.changed_ns) != (stat.st_size, stat.st_mtime_ns):
                before = self._recognised(name, _File(stat.st_size, stat.st_mtime_ns, since=start))
            seen[name] = before
        self._files = seen
        self._unmoved.intersection_update(seen)
        now = time.monotonic()
        whole = [
            (file.changed_ns, name)
            for name, file in seen.items()
            if not file.decision and now - file.since >= self.timing.settle and now >= file.not_before
        ]
        self._ready = deque(name for _, name in sorted(whole))
        for name, file in list(seen.items()):
            if file.decision in self.moves and now >= file.not_before:
                self._move(name, file)
        self._look_at = now + max(self.timing.poll, REST * (now - start))

    def _listed(self) -> Iterator[tuple[str, os.stat_result]]:
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                with os.scandir(self.folder / below) as entries:
                    for entry in entries:
                        name = f"{below}{entry.name}"
                        if self.recursive and not _is_hidden(entry.name) and entry.is_dir():
                            folders.append(f"{name}/")
                        elif _is_image(entry.name) and (stat := _stat(entry)) is not None:
                            yield name, stat
            except FileNotFoundError:
                if not below:
                    raise self._away("it is not there") from None
            except OSError as error:
                raise self._away(error.strerror or str(error)) from error

    def _recognised(self, name: str, file: _File) -> _File:
        entry = self._ledger.known(self.name, name)
        if entry is not None and entry.stamp == file.stamp:
            file.decision, file.sha256 = entry.decision, entry.sha256
        return file

    def _read(self, name: str) -> Part | None:
        """The file as a part; None where it has changed or gone since it was listed, or was inspected already."""
        file, path = self._files[name], self.folder / name
        problem, data = "", b""
        try:
            with open(path, "rb") as opened:
                if not self._is_as_seen(file, os.fstat(opened.fileno())):
                    return None
                if file.size > MAX_BYTES:
                    problem = f"the file has {file.size:,} bytes; at most {MAX_BYTES:,} are read"
                else:
                    data = opened.read(file.size + 1)
                if not self._is_as_seen(file, os.fstat(opened.fileno())):
                    return None
        except FileNotFoundError:
            self.say(f"{path} has vanished before it could be inspected")
            del self._files[name]
            return None
        except PermissionError as error:  # on Windows: somebody still writes it
            problem = f"cannot read {path}: {error.strerror or error}"
        except OSError as error:
            raise self._away(f"{name}: {error.strerror or error}") from error
        digest = hashlib.sha256(data).hexdigest() if not problem else ""
        entry = self._ledger.known(self.name, name)
        if digest and entry is not None and entry.sha256 == digest:
            self._ledger.touch(self.name, name, file.stamp)
            file.decision, file.sha256 = entry.decision, digest
            return None
        arrived = file.changed_ns / 1e9
        return Part(self.name, name, data, digest, arrived, str(path), file.stamp, problem)

    def _is_as_seen(self, file: _File, stat: os.stat_result) -> bool:
        """Whether the file has not changed; if it has, it begins to settle anew."""
        if (stat.st_size, stat.st_mtime_ns) == (file.size, file.changed_ns):
            return True
        file.size, file.changed_ns = stat.st_size, stat.st_mtime_ns
        file.since, file.not_before = time.monotonic(), 0.0
        return False

    def _is_still(self, part: Part) -> bool:
        try:
            stat = os.stat(part.path)
        except OSError:
            return False
        return _stamp(stat.st_size, stat.st_mtime_ns) == part.stamp

    def _move(self, name: str, file: _File) -> None:
        folder = self.moves[file.decision]
        try:
            move_aside(self.folder / name, folder, file.sha256)
        except (OSError, AndonError) as error:
            file.not_before = time.monotonic() + MOVE_AGAIN_S
            if not self._unmoved:
                self.say(f"cannot move {name} to {folder}: {error}. It is tried again; the line goes on.")
            self._unmoved.add(name)
        else:
            del self._files[name]
            self._unmoved.discard(name)

    def _away(self, why: str) -> UnavailableError:
        self._look_at = time.monotonic() + max(1.0, self.timing.poll)
        return UnavailableError(f"cannot read the folder {self.folder}: {why}")


def require_apart(folder: Path, outputs: Iterable[Path], *, recursive: bool) -> None:
    """Raise :class:`SettingsError` where what is written to ``outputs`` would be taken for parts."""
    watched = folder.resolve()
    for output in outputs:
        place = output.resolve()
        if place == watched or (recursive and place.is_relative_to(watched)):
            raise SettingsError(
                f"{output} lies in the watched folder {folder}: what is written there would be inspected as a part. "
                "Choose a folder outside it."
            )


def _stamp(size: int, changed_ns: int) -> str:
    return f"{size} {changed_ns}"


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of a plain file; None for all else, and for what has vanished."""
    try:
        return os.stat(entry.path) if entry.is_file() else None  # (DirEntry.stat is old news on Windows)
    except FileNotFoundError:
        return None


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~"))


def _is_image(name: str) -> bool:
    """Whether a file of this name is looked at.

    >>> [_is_image(name) for name in ("1.png", "1.PNG", ".1.png", "1.png.tmp", "1.tmp.png", "1.txt")]
    [True, True, False, False, False, False]
    """
    stem, ending = os.path.splitext(name.lower())
    return ending in IMAGE_SUFFIXES and not stem.endswith(_UNFINISHED) and not _is_hidden(name)
