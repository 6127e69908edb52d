"""The ``.andon`` file: what leaves fitting and what the line computer loads.

A ZIP archive whose members are stored, not compressed::

    manifest.json       settings, preprocessing, calibration, data counts, versions, the other members' SHA-256
    model.onnx          images (N, 3, H, W) float32 in [0, 1] -> anomaly_map, image_score [, reconstruction]
    state.safetensors   what the detector keeps of the good images: continue or merge from here
    golden.png          a drawn picture, and
    golden_map.npy      the raw anomaly map that the fitting machine answered for it

Nothing in it is code, and nothing is unpickled. The threshold lives in the manifest, never in the graph.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from andon.errors import ArtifactError
from andon.files import atomic_write

SCHEMA = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
STATE = "state.safetensors"
GOLDEN_INPUT = "golden.png"
GOLDEN_MAP = "golden_map.npy"
MANIFEST_LIMIT = 64 * 2**20  # bytes
_REQUIRED = ("detector", "preprocessing", "calibration", "members")
_OPTIONAL = {
    "data": dict,
    "fit": dict,
    "versions": dict,
    "history": list,
    "explain": dict,
}  # what else is read, and as what
_EPOCH = (1980, 1, 1, 0, 0, 0)  # one date for all members: same content, same bytes


@dataclass(frozen=True)
class Artifact:
    """A manifest and the members it vouches for, in memory."""

    manifest: Mapping[str, Any]
    members: Mapping[str, bytes]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The path written. Atomic: the old file stays until the new one is whole."""
        with atomic_write(path) as file:
            file.write(self.to_bytes())
        return Path(path)

    def to_bytes(self) -> bytes:
        """The file's content."""
        manifest = dict(self.manifest, format="andon", schema=SCHEMA)
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in sorted(self.members.items())
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
            archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), text)
            for name, data in sorted(self.members.items()):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        return buffer.getvalue()

    def with_manifest(self, **changes: Any) -> Artifact:
        """The same members under a manifest in which ``changes`` replace entries."""
        return replace(self, manifest={**self.manifest, **changes})


def read_artifact(source: str | os.PathLike[str] | bytes) -> Artifact:
    """The artefact in the file ``source`` (or in these bytes), every member checked against its hash.

    Raises :class:`ArtifactError` when the file is missing, damaged, newer than this version, or not one.
    """
    name = "these bytes" if isinstance(source, bytes) else os.fspath(source)
    try:
        with zipfile.ZipFile(_opened(source, name)) as archive:
            return _read_members(archive, name)
    except ArtifactError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        OverflowError,
    ) as error:
        raise ArtifactError(
            f"{name} is damaged or not an .andon file ({error}). Copy it again from where it was made, or fit again."
        ) from error


def _opened(source: str | os.PathLike[str] | bytes, name: str) -> io.BytesIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = Path(source)
    if not path.exists():
        raise ArtifactError(f"there is no file {name}. Make one with: andon fit FOLDER -o {name}")
    if path.is_dir():
        raise ArtifactError(f"{name} is a folder; expected an .andon file made by: andon fit FOLDER -o FILE")
    data = path.read_bytes()
    if not data.startswith(b"PK"):
        raise ArtifactError(
            f"{name} is not an .andon file (it does not begin like one). Make one with: andon fit FOLDER -o FILE"
        )
    return io.BytesIO(data)


def _read_members(archive: zipfile.ZipFile, name: str) -> Artifact:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if MANIFEST not in names:
        raise ArtifactError(f"{name} is a ZIP archive without {MANIFEST}, so not an .andon file.")
    if len(set(names)) != len(names) or any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ArtifactError(
            f"{name} was not written by Andon (members packed or named twice); it is refused."
        )
    if archive.getinfo(MANIFEST).file_size > MANIFEST_LIMIT:
        raise ArtifactError(f"{name} has a manifest of more than {MANIFEST_LIMIT} bytes; it is refused.")
    manifest = _checked_manifest(json.loads(archive.read(MANIFEST).decode("utf-8")), name)
    members = {member: archive.read(member) for member in names if member != MANIFEST}
    _check_hashes(manifest["members"], members, name)
    return Artifact(manifest, members)


def _checked_manifest(manifest: Any, name: str) -> dict[str, Any]:
    if not isinstance(manifest, dict) or manifest.get("format") != "andon":
        raise ArtifactError(f"{name} has a manifest that is not Andon's.")
    schema = manifest.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ArtifactError(f"{name} names no schema that this version knows (found {schema!r}).")
    if schema > SCHEMA:
        raise ArtifactError(
            f"{name} has schema {schema}, this version of Andon reads up to {SCHEMA}. "
            "Upgrade with: pip install --upgrade andon"
        )
    for key in _REQUIRED:
        if not isinstance(manifest.get(key), dict):
            raise ArtifactError(f"{name} has a manifest without its part {key!r}.")
    for key, kind in _OPTIONAL.items():
        if not isinstance(manifest.get(key, kind()), kind):
            raise ArtifactError(
                f"{name} has a manifest whose part {key!r} is not what it should be: expected a JSON "
                f"{'object' if kind is dict else 'list'}, found {manifest[key]!r:.40}."
            )
    return manifest


def _check_hashes(stated: Mapping[str, Any], members: Mapping[str, bytes], name: str) -> None:
    if set(stated) != set(members) or MODEL not in members:
        raise ArtifactError(
            f"{name} is incomplete: its manifest names {sorted(stated)}, the file holds {sorted(members)}."
        )
    for member, data in members.items():
        entry = stated[member]
        if not isinstance(entry, dict) or hashlib.sha256(data).hexdigest() != entry.get("sha256"):
            raise ArtifactError(
                f"{name} is damaged: {member} does not have the SHA-256 that its manifest states."
            )
