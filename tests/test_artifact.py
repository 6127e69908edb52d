"""The .andon file: whole or refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from andon.artifact import MODEL, SCHEMA, Artifact, read_artifact
from andon.errors import AndonError, ArtifactError

MANIFEST = {"detector": {"method": "x"}, "preprocessing": {}, "calibration": {"threshold": 1.0}}
MUTATIONS = 600


@pytest.fixture
def artifact() -> Artifact:
    return Artifact(MANIFEST, {MODEL: bytes(range(256)) * 4, "state.safetensors": b"s" * 100})


def repacked(artifact: Artifact, **changes: object) -> bytes:
    """The file with some manifest entries replaced, hashes untouched."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(artifact.to_bytes())) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "manifest.json":
                data = json.dumps({**json.loads(data), **changes}).encode()
            new.writestr(info.filename, data)
    return buffer.getvalue()


def test_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    read = read_artifact(artifact.save(tmp_path / "part.andon"))
    assert read.members == artifact.members
    assert {key: read.manifest[key] for key in MANIFEST} == MANIFEST
    assert read.to_bytes() == artifact.to_bytes()


def test_same_content_same_bytes(artifact: Artifact) -> None:
    assert artifact.to_bytes() == Artifact(dict(reversed(MANIFEST.items())), artifact.members).to_bytes()


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no file .*x.andon. Make one with: andon fit"):
        read_artifact(tmp_path / "x.andon")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is a folder; expected an .andon file"):
        read_artifact(tmp_path)


def test_not_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "x.andon").write_text("hello")
    with pytest.raises(ArtifactError, match="is not an .andon file"):
        read_artifact(tmp_path / "x.andon")
    (tmp_path / "empty.andon").touch()
    with pytest.raises(ArtifactError, match="is not an .andon file"):
        read_artifact(tmp_path / "empty.andon")


def test_some_other_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.andon", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ArtifactError, match="without manifest.json, so not an .andon file"):
        read_artifact(tmp_path / "x.andon")


def test_a_newer_schema_says_upgrade(artifact: Artifact) -> None:
    with pytest.raises(
        ArtifactError, match=f"has schema {SCHEMA + 1}, .* reads up to {SCHEMA}. Upgrade with"
    ):
        read_artifact(repacked(artifact, schema=SCHEMA + 1))


@pytest.mark.parametrize("schema", [None, 0, "1", True, -3, 1.5])
def test_no_known_schema(artifact: Artifact, schema: object) -> None:
    with pytest.raises(ArtifactError, match="names no schema that this version knows"):
        read_artifact(repacked(artifact, schema=schema))


def test_a_member_that_is_not_what_the_manifest_says(artifact: Artifact) -> None:
    stated = json.loads(json.dumps({MODEL: {"sha256": "0" * 64}, "state.safetensors": {"sha256": "0" * 64}}))
    with pytest.raises(ArtifactError, match="model.onnx does not have the SHA-256"):
        read_artifact(repacked(artifact, members=stated))


def test_compressed_members_are_refused(artifact: Artifact) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"format": "andon"}))
    with pytest.raises(ArtifactError, match="was not written by Andon"):
        read_artifact(buffer.getvalue())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(artifact: Artifact, share: float) -> None:
    data = artifact.to_bytes()
    with pytest.raises(ArtifactError, match="is damaged or not an .andon file"):
        read_artifact(data[: int(len(data) * share)])


def test_fuzz_bits_bytes_and_splices(artifact: Artifact) -> None:
    """Any damage is refused with an AndonError, or touched nothing that counts."""
    data = artifact.to_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(MUTATIONS):
        damaged = bytearray(data)
        kind = rng.integers(3)
        place = int(rng.integers(len(data)))
        if kind == 0:
            damaged[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            damaged[place : place + 16] = rng.bytes(16)
        else:
            del damaged[place : place + int(rng.integers(1, 200))]
        try:
            read = read_artifact(bytes(damaged))
        except AndonError:
            refused += 1
        else:
            assert read.members == artifact.members
            assert {key: read.manifest[key] for key in MANIFEST} == MANIFEST
    assert refused > 0.8 * MUTATIONS
