"""API keys: a file of names and SHA-256 digests, so that who reads the file cannot use the keys.

One line a key, ``NAME DIGEST``; lines that begin with # are notes. Keys are 256 random bits, made here: such a key
needs no slow hash, which is for passwords that people choose. To take a key back, delete its line.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from andon.errors import SettingsError
from andon.files import atomic_write, single_writer

PREFIX = "andon_"  # so that a key found in a log or a repository can be told for what it is
_LINE = re.compile(r"([\w.-]{1,64}) ([0-9a-f]{64})", re.ASCII)
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


class KeyFile:
    """The keys in the file at ``path``. Raises :class:`SettingsError` where it cannot be read, or holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests = read_keys(path)

    def refresh(self) -> None:
        """Read the file again. Where that raises :class:`SettingsError`, the keys of before stay."""
        self._digests = read_keys(self.path)

    def owner(self, key: str) -> str | None:
        """The name of who holds ``key``; None where nobody does. Takes the same time whichever key it is."""
        digest = _digest(key)
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(path: Path) -> Mapping[str, str]:
    """Name -> SHA-256 in hexadecimal, from the file at ``path``. Raises :class:`SettingsError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise SettingsError(
            f"cannot read the keys in {path}: {reason}. Make a key with: andon serve --new-key NAME --keys {path}"
        ) from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or found[1] in keys:
            wrong = "not of the form NAME DIGEST" if found is None else f"a second key named {found[1]}"
            raise SettingsError(
                f"line {number} of {path} is {wrong}. Delete it, and make a key with: "
                f"andon serve --new-key NAME --keys {path}"
            )
        keys[found[1]] = found[2]
    if not keys:
        raise SettingsError(f"{path} holds no key. Make one with: andon serve --new-key NAME --keys {path}")
    return keys


def add_key(path: Path, name: str) -> str:
    """A new key for ``name``, whose digest is added to the file at ``path``, begun where there is none.

    Nobody can tell it again. Raises :class:`SettingsError` where ``name`` has one, or cannot be a name.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"a key's name is 1 to 64 letters, digits, '.', '_' and '-', got {name!r}")
    with single_writer(path):
        known = read_keys(path) if path.exists() and path.read_text(encoding="utf-8").strip() else {}
        if name in known:
            raise SettingsError(
                f"{path} has a key named {name} already. Delete its line to take it back, or choose another name."
            )
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        key = PREFIX + secrets.token_urlsafe(32)
        with atomic_write(path, "w") as file:
            file.write(before + ("\n" if before and not before.endswith("\n") else ""))
            file.write(f"{name} {_digest(key)}\n")
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
