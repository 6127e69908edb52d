"""Files from the network: resumed, checked against a hash, and whole or not there. Standard library and tqdm.

``download`` gets one file, ``fetch`` a public data set of :data:`DATASETS` with its licence.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from andon.data.layouts.tree import close_matches
from andon.data.remote import DATASETS, RemoteDataset, RemoteFile
from andon.data.unpack import unpack
from andon.errors import DataError, SettingsError
from andon.files import atomic_write, single_writer

__all__ = ["DATASETS", "FIRST_USE", "RemoteDataset", "RemoteFile", "download", "fetch"]

FIRST_USE = "first-use"  # in place of a hash: take what comes, and record its hash
_CHUNK = 1 << 18
_ATTEMPTS = 4  # without progress, before giving up
_TIMEOUT = 30.0  # seconds without a byte
_WAIT = 1.0  # seconds before the second attempt; doubles
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


def download(
    url: str,
    dest: Path,
    *,
    sha256: str,
    expected_bytes: int | None = None,
    progress: bool = True,
    timeout: float = _TIMEOUT,
    wait: float = _WAIT,
) -> Path:
    """``dest``, downloaded from ``url`` unless it is there already, its SHA-256 checked before it gets its name.

    ``sha256``: 64 hexadecimal digits or at least the first 8, or ``"first-use"``: then the hash of what came is
    printed and recorded in ``<dest>.sha256``, and later downloads must match it.
    Bytes go to ``<dest>.part``, which is resumed after a dropped connection or a kill; a server that cannot
    resume starts over. ``timeout``: seconds without a byte; ``wait``: seconds before the first retry.

    Raises :class:`DataError` naming the URL, and what to do by hand, for no network, a refusal, a full disk, a
    wrong size or a wrong hash (the file is removed then); :class:`SettingsError` for a ``sha256`` or a URL that is none.
    """
    _check_arguments(url, sha256)
    expected = _recorded(dest) if sha256 == FIRST_USE else sha256.lower()
    if dest.exists():
        return _already_there(url, dest, expected)
    with single_writer(dest):
        transfer = _Transfer(url, dest, expected_bytes, progress, timeout, wait)
        resumed = transfer.run()
        digest = _sha256(transfer.part)
        if expected and not digest.startswith(expected) and resumed:
            transfer.part.unlink()
            transfer.run()
            digest = _sha256(transfer.part)
        if expected and not digest.startswith(expected):
            transfer.part.unlink()
            raise DataError(
                f"{url} did not give the file expected: its SHA-256 is {digest}, expected {expected}. It was removed. "
                "The publisher may have changed it, or something on the way did; do not use it before you know which."
            )
        if sha256 == FIRST_USE and expected is None:
            _record(url, dest, digest)
        os.replace(transfer.part, dest)
    return dest


def _check_arguments(url: str, sha256: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise SettingsError(f"expected an address that starts with https:// or http://, not {url!r}.")
    if sha256 != FIRST_USE and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise SettingsError(
            f"sha256 is 64 hexadecimal digits, or at least the first 8, or {FIRST_USE!r}, not {sha256!r}."
        )


def _already_there(url: str, dest: Path, expected: str | None) -> Path:
    digest = _sha256(dest)
    if expected and not digest.startswith(expected):
        raise DataError(
            f"{dest} is there already, but its SHA-256 is {digest}, expected {expected}. "
            f"Move it away to download {url} again."
        )
    return dest


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def _record_path(dest: Path) -> Path:
    return dest.with_name(f"{dest.name}.sha256")


def _recorded(dest: Path) -> str | None:
    """The hash of an earlier first use, or None."""
    path = _record_path(dest)
    if not path.is_file():
        return None
    words = path.read_text(encoding="utf-8", errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise DataError(
            f"{path} should start with a SHA-256 and does not. Delete it to trust the next download."
        )
    return words[0]


def _record(url: str, dest: Path, digest: str) -> None:
    with atomic_write(_record_path(dest), "w") as file:
        file.write(f"{digest}  {dest.name}\n")
    tqdm.write(
        f"{url}\n  had no known hash; trusted on first use: sha256 {digest}, recorded in {_record_path(dest)}"
    )


@dataclass
class _Transfer:
    """One file on its way into ``<dest>.part``."""

    url: str
    dest: Path
    expected_bytes: int | None
    progress: bool
    timeout: float
    wait: float
    resumed: bool = False

    @property
    def part(self) -> Path:
        return self.dest.with_name(f"{self.dest.name}.part")

    def run(self) -> bool:
        """Fill the part; True when it went on from an earlier one."""
        best = self._present()
        failures = 0
        with tqdm(
            unit="B", unit_scale=True, desc=self.dest.name, disable=not self.progress, leave=False
        ) as bar:
            while True:
                self.resumed |= self._present() > 0
                try:
                    if self._attempt(bar):
                        return self.resumed
                    reason = "the connection was dropped"
                except _Retry as error:
                    reason = str(error)
                failures = 1 if self._present() > best else failures + 1
                best = max(best, self._present())
                if failures >= _ATTEMPTS:
                    raise self._gave_up(reason)
                time.sleep(self.wait * 2 ** (failures - 1))

    def _present(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _gave_up(self, reason: str) -> DataError:
        kept = self._present()
        rest = f" {kept} bytes are kept in {self.part}; the same command goes on from there." if kept else ""
        return DataError(
            f"cannot download {self.url}: {reason}. Check the network and its proxy, or download it by hand on "
            f"another machine and put it at {self.dest}.{rest}"
        )

    def _attempt(self, bar: Any) -> bool:
        """Ask for what is missing; True when the file is complete."""
        start = self._present()
        request = urllib.request.Request(
            self.url, headers={"User-Agent": "andon", "Accept-Encoding": "identity"}
        )
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return self._receive(response, start, bar)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, start)
        except (OSError, http.client.HTTPException) as error:  # urllib's URLError is an OSError
            raise _network(error) from error

    def _refused(self, error: urllib.error.HTTPError, start: int) -> bool:
        if error.code == 416 and start:  # nothing after `start`: complete, or not the same file
            total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if total and int(total[1]) == start:
                return True
            self.part.unlink()
            raise _Retry("the server has another file than the one begun")
        if error.code in _RETRIED:
            raise _Retry(f"the server answered {error.code} {error.reason}")
        raise DataError(
            f"cannot download {self.url}: the server answered {error.code} {error.reason}. If the address has changed, "
            f"download the file by hand and put it at {self.dest}."
        )

    def _receive(self, response: http.client.HTTPResponse, start: int, bar: Any) -> bool:
        """Write the response to the part, from ``start`` on or over it; True when nothing is missing."""
        going_on = response.status == 206 and _first_byte(response) == start
        if not going_on and response.status == 206:
            self.part.unlink(missing_ok=True)
            raise _Retry("the server sent another range than the one asked for")
        offset = start if going_on else 0
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        self._check_total(total, offset)
        bar.total = total
        bar.update(offset - bar.n)
        bar.refresh()
        with self._opened("r+b" if going_on else "wb") as file:
            file.seek(offset)
            self._copy(response, file, offset, bar)
        total = self.expected_bytes if total is None else total
        return total is None or self._present() == total

    @contextlib.contextmanager
    def _opened(self, mode: str) -> Iterator[IO[bytes]]:
        """The part, open; its OSErrors are those of the disk."""
        try:
            with open(self.part, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"cannot write {self.part}: {error.strerror or error}. Free space and try again."
            ) from error

    def _check_total(self, total: int | None, offset: int) -> None:
        if total is None:
            return
        if self.expected_bytes not in (None, total):
            raise DataError(
                f"{self.url} is {total} bytes long, expected {self.expected_bytes}. The publisher may have changed "
                "it; nothing was downloaded."
            )
        self.dest.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.dest.parent).free
        if total - offset > free:
            raise DataError(
                f"{self.url} needs {total - offset} bytes, and {self.dest.parent} has {free} left."
            )

    def _copy(self, response: http.client.HTTPResponse, file: IO[bytes], offset: int, bar: Any) -> None:
        limit = self.expected_bytes
        while chunk := _read(response):
            offset += len(chunk)
            if limit is not None and offset > limit:
                raise DataError(f"{self.url} sends more than the {limit} bytes expected; stopped.")
            file.write(chunk)
            bar.update(len(chunk))


class _Retry(Exception):
    """A failure after which the same request may succeed."""


def _network(error: Exception) -> _Retry:
    return _Retry(str(getattr(error, "reason", "") or error) or type(error).__name__)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _network(error) from error


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def fetch(
    name: str,
    into: str | os.PathLike[str],
    accept_licence: bool = False,
    *,
    only: Sequence[str] = (),
    trust_on_first_use: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
    datasets: dict[str, RemoteDataset] | None = None,
) -> Path:
    """The folder ``into/<name>`` of a public data set: its licence shown, its archives downloaded, checked and unpacked.

    The archives stay in ``into``; one that was put there by hand is used instead of a download. ``only`` names folders of a set that
    comes in several archives (AutoVI's categories). What was fetched is recorded in ``into/<name>.json``.

    Raises :class:`DataError` when the licence is not accepted, the set must be downloaded by hand, a hash is unknown
    and not ``trust_on_first_use``, or anything of :func:`download` and :func:`andon.data.unpack.unpack`;
    :class:`SettingsError` for a name that is not in ``datasets`` (:data:`DATASETS`).
    """
    known = DATASETS if datasets is None else datasets
    data = _named_dataset(name, known)
    say(
        f"{data.title}\n  publisher: {data.publisher}\n  page: {data.page}\n  licence: {data.licence} ({data.licence_url})"
    )
    if not accept_licence:
        raise DataError(
            f"the licence of {name} has not been accepted: {data.licence}. Read {data.licence_url} and {data.page}, "
            "then give accept_licence=True (--accept-licence)."
        )
    folder = Path(into)
    for file in _chosen(data, only):
        _fetch_file(data, file, folder, trust_on_first_use, progress)
    return folder / data.name


def _named_dataset(name: str, known: dict[str, RemoteDataset]) -> RemoteDataset:
    if name not in known:
        close = close_matches(name, known)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise SettingsError(f"there is no public data set {name!r}; there are {', '.join(known)}.{hint}")
    return known[name]


def _chosen(data: RemoteDataset, only: Sequence[str]) -> list[RemoteFile]:
    folders = [file.folder for file in data.files]
    unknown = [name for name in only if name not in folders]
    if unknown:
        raise SettingsError(
            f"{data.name} has no part {unknown[0]!r}; it has {', '.join(filter(None, folders)) or 'one'}."
        )
    return [file for file in data.files if not only or file.folder in only]


def _fetch_file(data: RemoteDataset, file: RemoteFile, folder: Path, first_use: bool, progress: bool) -> None:
    """Unpack one archive to its place, once."""
    target = folder / data.name / file.folder if file.folder else folder / data.name
    record = _read_record(folder / f"{data.name}.json")
    if target.is_dir() and file.filename in record:
        return
    if target.exists():
        raise DataError(f"{target} is there already, and not by fetching {file.filename}. Move it away.")
    archive = folder / file.filename
    if file.sha256 is None and not first_use:
        raise DataError(
            f"no SHA-256 of {file.filename} is known, so what comes cannot be checked. {_by_hand(data, file, archive)}"
            "To take what comes and record its hash, give trust_on_first_use=True (--trust-on-first-use)."
        )
    if not archive.exists():
        if file.url is None:
            raise DataError(f"{data.name} cannot be downloaded by a program. {_by_hand(data, file, archive)}")
        archive.parent.mkdir(parents=True, exist_ok=True)
    sha256 = file.sha256 or FIRST_USE
    if file.url is not None:
        download(file.url, archive, sha256=sha256, expected_bytes=file.size, progress=progress)
    elif file.sha256 is not None:
        _already_there(data.page, archive, file.sha256)
    digest = _sha256(archive)
    unpack(archive, target)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record[file.filename] = {
        "from": file.url or data.page,
        "sha256": digest,
        "when": when,
        "licence": data.licence,
    }
    with atomic_write(folder / f"{data.name}.json", "w") as out:
        json.dump(record, out, indent=1, sort_keys=True)


def _by_hand(data: RemoteDataset, file: RemoteFile, archive: Path) -> str:
    return f"{data.manual or 'Download the archive by hand'} ({data.page}), and put it at {archive}. "


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}, the record of what was fetched: {error}. Delete it.") from error
    return record if isinstance(record, dict) else {}
