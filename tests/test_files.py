"""Atomic writing and one-writer locks."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from andon.errors import AndonError, BusyError
from andon.files import atomic_write, single_writer


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(target) as file:
        file.write(b"half")
        raise RuntimeError("stop")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_kill_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    code = (
        "import sys, time; from andon.files import atomic_write\n"
        f"with atomic_write({str(target)!r}) as file:\n"
        "    file.write(b'half' * 100000); file.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    assert target.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def full(descriptor: int) -> None:
        with open("/dev/full", "wb", buffering=0) as sink:
            sink.write(b"x")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        AndonError, match=r"cannot write .*file.bin: No space left on device. What was there before"
    ):
        with atomic_write(target) as file:
            file.write(b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AndonError, match="cannot write .*file is a file, not a folder"):
        with atomic_write(tmp_path / "file" / "below") as file:
            file.write(b"x")


def test_text_mode_writes_utf8(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "t.txt", "w") as file:
        file.write("Größe\n")
    assert (tmp_path / "t.txt").read_bytes() == "Größe\n".encode()


def _hold(path: str, seconds: float) -> None:
    with single_writer(path):
        Path(path + ".held").touch()
        time.sleep(seconds)


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "part.andon")
    other = multiprocessing.get_context("spawn").Process(target=_hold, args=(path, 30))
    other.start()
    while not Path(path + ".held").exists():
        time.sleep(0.05)
    with pytest.raises(BusyError, match="another process is writing .*part.andon now"), single_writer(path):
        pass
    other.kill()
    other.join()
    with single_writer(path):  # a killed writer's lock is gone
        pass
