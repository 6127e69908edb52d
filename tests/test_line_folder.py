"""The watched folder: whole files, once, in order; the same file again, another file under the same name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from andon.errors import DataError, SettingsError
from andon.runtime.line import FolderSource, Part, Store, Timing, UnavailableError, require_apart
from andon.runtime.line.contract import Result
from andon.runtime.line.moving import move_aside
from lines import QUICK, photo, put

NOW = Timing(poll=0.001, settle=0.0, patience=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "line.sqlite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def opened(folder: Path, store: Store, timing: Timing = NOW, **options: object) -> FolderSource:
    source = FolderSource(folder, timing=timing, **options)  # type: ignore[arg-type]
    source.open(store)
    return source


def taken(
    source: FolderSource, store: Store | None = None, decision: str = "pass", seconds: float = 0.05
) -> list[Part]:
    """All that is ready until nothing came for some time, entered into the store and settled; without one, the first."""
    parts: list[Part] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        part = source.take()
        if part is None:
            time.sleep(0.002)
            continue
        parts.append(part)
        if store is None:
            break
        store.record(part, decision, Result(store.sequence + 1, "{}"), [], {})
        source.settle(part, decision)
        end = time.monotonic() + seconds
    return parts


def names(parts: list[Part]) -> list[str]:
    return [part.name for part in parts]


def test_the_order_is_that_of_arrival_then_of_the_names(folder: Path, store: Store) -> None:
    for name, changed in (("b.png", 5), ("a.png", 5), ("z.png", 1), ("c.JPG", 9)):
        (folder / name).write_bytes(photo(changed))
        os.utime(folder / name, (changed, changed))
    parts = taken(opened(folder, store), store)
    assert names(parts) == ["z.png", "a.png", "b.png", "c.JPG"]
    assert parts[0].image == (folder / "z.png").read_bytes()
    assert parts[0].arrived == 1


def test_what_is_not_looked_at(folder: Path, store: Store) -> None:
    for name in (".1.png", "1.png.tmp", "1.png.part", "1.tmp.png", "~1.png", "1.txt", "1"):
        (folder / name).write_bytes(photo(1))
    (folder / "below.png").mkdir()
    (folder / "below.png" / "2.png").write_bytes(photo(2))
    assert taken(opened(folder, store)) == []
    assert names(taken(opened(folder, store, recursive=True), store)) == ["below.png/2.png"]


def test_a_growing_file_is_waited_for(folder: Path, store: Store) -> None:
    source, whole = opened(folder, store, Timing(0.005, 0.1, 1.0)), photo(1)
    with open(folder / "1.png", "wb") as file:
        for start in range(0, len(whole), 1 + len(whole) // 8):
            file.write(whole[start : start + 1 + len(whole) // 8])
            file.flush()
            assert taken(source, seconds=0.03) == []
    assert source.waiting() == 1
    assert [part.image for part in taken(source, store, seconds=0.25)] == [whole]


def test_a_renamed_file_and_settle_0(folder: Path, store: Store) -> None:
    source = opened(folder, store)
    (folder / "1.png.tmp").write_bytes(photo(1))
    assert taken(source) == []
    (folder / "1.png.tmp").rename(folder / "1.png")
    assert names(taken(source, store)) == ["1.png"]


def test_once_over_restarts(folder: Path, store: Store) -> None:
    put(folder, range(3))
    assert len(taken(opened(folder, store), store)) == 3
    put(folder, [3])
    assert names(taken(opened(folder, store), store)) == ["003.png"]


def test_another_content_is_another_part_and_a_touched_file_is_not(folder: Path, store: Store) -> None:
    source, path = opened(folder, store), folder / "1.png"
    path.write_bytes(photo(1))
    assert len(taken(source, store)) == 1
    os.utime(path, (5, 5))
    assert taken(source, store) == []
    path.write_bytes(photo(2))
    assert [part.image for part in taken(source, store)] == [photo(2)]
    path.write_bytes(photo(1))  # as the first, but not as the last: taken anew
    assert len(taken(source, store)) == 1
    entry = store.known("folder", "1.png")
    assert entry is not None
    assert entry.stamp == f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def test_a_file_that_cannot_be_read_yet_has_patience(folder: Path, store: Store) -> None:
    source = opened(folder, store, QUICK)
    (folder / "1.png").write_bytes(photo(1)[:100])
    (part,) = taken(source, seconds=0.06)
    assert source.may_change(part)
    assert taken(source, seconds=0.03) == []
    (part,) = taken(source, seconds=0.2)
    assert not source.may_change(part)
    (folder / "1.png").write_bytes(photo(1))
    assert source.may_change(part)


def test_only_new(folder: Path, store: Store) -> None:
    put(folder, range(3))
    source = opened(folder, store, only_new=True)
    assert taken(source, store) == []
    put(folder, [3])
    assert names(taken(source, store)) == ["003.png"]
    put(folder, [4])  # while nobody watched: new all the same
    assert names(taken(opened(folder, store, only_new=True), store)) == ["004.png"]


def test_inspected_files_are_moved(folder: Path, store: Store, tmp_path: Path) -> None:
    moves = {"pass": tmp_path / "done"}
    put(folder, range(2))
    assert len(taken(opened(folder, store), store)) == 2  # inspected, and killed before the move
    source = opened(folder, store, moves=moves)
    assert taken(source, store) == []
    assert sorted(path.name for path in moves["pass"].iterdir()) == ["000.png", "001.png"]
    (folder / "000.png").write_bytes(photo(9))
    assert len(taken(source, store)) == 1
    assert (moves["pass"] / "000_2.png").read_bytes() == photo(9)
    put(folder, [7])
    taken(source, store, "fail")
    assert (folder / "007.png").exists()
    assert source.waiting() == 0
    assert not source.holds("000.png")


def test_a_move_that_fails_is_said_once(folder: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "done").write_text("in the way")
    said: list[str] = []
    put(folder, range(2))
    source = opened(folder, store, moves={"pass": tmp_path / "done"}, say=said.append)
    assert len(taken(source, store)) == 2
    assert len(said) == 1
    assert "cannot move 000.png to" in said[0]
    assert "It is tried again; the line goes on." in said[0]


def test_an_interrupted_move_is_finished(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "1.png").write_bytes(b"one")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "1.png").write_bytes(b"one")
    move_aside(tmp_path / "1.png", tmp_path / "there", hashlib.sha256(b"one").hexdigest())
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["1.png"]
    assert not (tmp_path / "1.png").exists()


def test_a_move_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    replace = os.replace

    def only_here(source: Path, target: Path) -> None:
        if Path(source).name == "1.png":
            raise OSError(errno.EXDEV, "another disk")
        replace(source, target)

    monkeypatch.setattr(os, "replace", only_here)
    (tmp_path / "1.png").write_bytes(b"one")
    os.utime(tmp_path / "1.png", (7, 7))
    target = move_aside(tmp_path / "1.png", tmp_path / "there", "")
    assert target.read_bytes() == b"one"
    assert target.stat().st_mtime == 7
    assert not (tmp_path / "1.png").exists()


def test_a_vanished_file(folder: Path, store: Store) -> None:
    said: list[str] = []
    source = opened(folder, store, say=said.append)
    put(folder, range(2))
    source._look()
    (folder / "000.png").unlink()
    assert names(taken(source, store)) == ["001.png"]
    assert "000.png has vanished before it could be inspected" in said[0]


def test_a_folder_that_goes_away(folder: Path, store: Store) -> None:
    source = opened(folder, store)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UnavailableError, match="cannot read the folder .*: it is not there"):
        source.take()


def test_a_file_that_may_not_be_read(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    put(folder, [1])
    monkeypatch.setattr("andon.runtime.line.folder.open", refuse, raising=False)
    (part,) = taken(opened(folder, store))
    assert part.problem == f"cannot read {folder / '001.png'}: Permission denied"
    assert part.sha256 == ""


def test_a_huge_file_is_not_read(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("andon.runtime.line.folder.MAX_BYTES", 10)
    put(folder, [1])
    assert "at most 10 are read" in taken(opened(folder, store), store)[0].problem


def test_wrong_settings(folder: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder. Give the folder that the camera writes to"):
        opened(tmp_path / "none", store)
    with pytest.raises(SettingsError, match="expected 0 < poll and 0 <= settle <= patience"):
        Timing(settle=6)
    require_apart(folder, [folder / "out"], recursive=False)
    with pytest.raises(SettingsError, match="would be inspected as a part"):
        require_apart(folder, [folder / "out"], recursive=True)
    with pytest.raises(SettingsError, match="lies in the watched folder"):
        require_apart(folder, [folder], recursive=False)
