"""Public data sets from their publishers: the licence shown, the archives checked, unpacked and recorded.

``download`` (:mod:`andon.data.transfer`) gets one file, ``fetch`` a whole set of :data:`DATASETS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from andon.data.remote import DATASETS, RemoteDataset, RemoteFile
from andon.data.transfer import FIRST_USE, download, file_sha256, require_hash
from andon.data.unpack import unpack
from andon.errors import DataError, SettingsError, did_you_mean
from andon.files import atomic_write

__all__ = ["DATASETS", "FIRST_USE", "RemoteDataset", "RemoteFile", "download", "fetch", "licence_text"]


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
    say(licence_text(name, known))
    if not accept_licence:
        raise DataError(
            f"the licence of {name} has not been accepted: {data.licence}. Read {data.licence_url} and {data.page}, "
            "then give accept_licence=True (--accept-licence)."
        )
    folder = Path(into)
    for file in _chosen(data, only):
        _fetch_file(data, file, folder, trust_on_first_use, progress)
    return folder / data.name


def licence_text(name: str, datasets: dict[str, RemoteDataset] | None = None) -> str:
    """A public data set's title, publisher, page and licence, in a few lines. Raises :class:`SettingsError`."""
    data = _named_dataset(name, DATASETS if datasets is None else datasets)
    return (
        f"{data.title}\n  publisher: {data.publisher}\n  page: {data.page}\n"
        f"  licence: {data.licence_and_terms} ({data.licence_url})"
    )


def _named_dataset(name: str, known: dict[str, RemoteDataset]) -> RemoteDataset:
    if name not in known:
        hint = did_you_mean(name, known)
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
            f"no SHA-256 of {file.filename} is known, so what comes cannot be checked. {_by_hand(data, archive)}"
            "To take what comes and record its hash, give trust_on_first_use=True (--trust-on-first-use)."
        )
    if not archive.exists():
        if file.url is None:
            raise DataError(f"{data.name} cannot be downloaded by a program. {_by_hand(data, archive)}")
        archive.parent.mkdir(parents=True, exist_ok=True)
    sha256 = file.sha256 or FIRST_USE
    if file.url is not None:
        download(file.url, archive, sha256=sha256, expected_bytes=file.size, progress=progress)
    elif file.sha256 is not None:
        require_hash(data.page, archive, file.sha256)
    digest = file_sha256(archive)
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


def _by_hand(data: RemoteDataset, archive: Path) -> str:
    return f"{data.manual or 'Download the archive by hand'} ({data.page}), and put it at {archive}. "


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}, the record of what was fetched: {error}. Delete it.") from error
    return record if isinstance(record, dict) else {}
