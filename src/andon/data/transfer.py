"""One file from the network: resumed, checked against a hash, and whole or not there. Standard library and tqdm."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from andon.errors import DataError, SettingsError
from andon.files import atomic_write, single_writer

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
        return require_hash(url, dest, expected)
    with single_writer(dest):
        transfer = _Transfer(url, dest, expected_bytes, progress, timeout, wait)
        resumed = transfer.run()
        digest = file_sha256(transfer.part)
        if expected and not digest.startswith(expected) and resumed:
            transfer.part.unlink()
            transfer.run()
            digest = file_sha256(transfer.part)
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


def require_hash(url: str, dest: Path, expected: str | None) -> Path:
    """``dest``, when its SHA-256 begins with ``expected`` (None: any); else :class:`DataError` naming ``url``."""
    digest = file_sha256(dest)
    if expected and not digest.startswith(expected):
        raise DataError(
            f"{dest} is there already, but its SHA-256 is {digest}, expected {expected}. "
            f"Move it away to download {url} again."
        )
    return dest


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits. Raises :class:`DataError` when it cannot be read."""
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
