"""What the tests of the records share: verdicts, cheap passwords, and a PostgreSQL of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from andon.records import ArtifactName
from andon.types import Decision, Region, Verdict

CLIP = ArtifactName("clip", "c1" * 32)
LABEL = ArtifactName("label", "1a" * 32)
SPOT = Region(
    box=(1, 2, 30, 40), area=900, area_fraction=0.01, peak=12.75, peak_position=(7, 9), elongation=1.5
)
PASSWORD = "correct horse"


def verdict(decision: Decision = "fail", name: str = "0001.png", milliseconds: float = 12.5) -> Verdict:
    """A verdict with a value in every field."""
    return Verdict(
        path=f"photos/{name}",
        decision=decision,
        score=0.995,
        image_score=12.75,
        threshold=10.1,
        regions=(SPOT,),
        sentence="A spot at the top left.",
        size=(480, 640),
        not_inspected=0.125,
        milliseconds=milliseconds,
        notes=("multi-page TIFF: the first of 3 pages", "für Überprüfung"),
    )


def postgresql_programs() -> Path | None:
    """The folder with initdb and pg_ctl, where PostgreSQL is installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """The URL of a server of one's own on a free port of loopback, without a database's name at its end."""
    folder = Path(tempfile.mkdtemp(prefix="andon-postgresql-"))
    other = {"user": "nobody"} if getpass.getuser() == "root" else {}  # the server refuses to run as root
    if other:
        shutil.chown(folder, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        log: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([programs / program, "-D", data, *arguments], check=True, cwd=folder, **log, **other)

    settings = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=40"
    try:
        call("initdb", "-A", "trust", "-U", "andon", "--no-sync", "-E", "UTF8", "--locale=C")
        call("pg_ctl", "-o", settings, "-l", os.fspath(folder / "log"), "-w", "start")
        yield f"postgresql://andon@127.0.0.1:{port}"
        call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
