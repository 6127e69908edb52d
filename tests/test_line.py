"""The line as a whole: kills, full disks, receivers that are away, bounds; with an inspector that needs no detector."""

from __future__ import annotations

import errno
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from andon.errors import AndonError
from andon.runtime.line import FilesSink, Part, Store, UnavailableError
from andon.runtime.line.in_hand import InHand
from lines import Echo, Memory, Running, documents, line_of, logged, photo, put, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def status(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "status.json").read_text())
    return found


def test_every_part_once_and_in_order(folder: Path, out: Path) -> None:
    names = put(folder, range(5))
    for _ in range(2):
        line_of(folder, out, once=True).run(threading.Event())
    found = documents(out)
    assert [one["name"] for one in found] == names
    assert [one["sequence"] for one in found] == [1, 2, 3, 4, 5]
    assert [row.split(",")[0] for row in logged(out)] == ["1", "2", "3", "4", "5"]
    assert len({one["line"] for one in found}) == 1
    assert found[0]["artifact_sha256"] == "0" * 64
    end = status(out)
    assert (end["online"], end["state"], end["sequence"], end["waiting"]) == (False, "stopped", 5, 0)
    assert end["counts"] == {"pass": 5, "review": 0, "fail": 0, "error": 0}
    assert end["outbox"] == {"files": 0}


def test_broken_images_are_results_and_stop_nothing(folder: Path, out: Path) -> None:
    put(folder, [1, 3])
    (folder / "002.png").write_bytes(b"no image at all")
    (folder / "004.png").write_bytes(b"")
    line_of(folder, out, once=True).run(threading.Event())
    found = {one["name"]: one for one in documents(out)}
    assert {name: one["decision"] for name, one in found.items()} == {
        "001.png": "pass", "002.png": "error", "003.png": "pass", "004.png": "error"}  # fmt: skip
    assert "cannot read these 15 bytes" in str(found["002.png"]["error"])
    assert [found[name]["sequence"] for name in ("001.png", "003.png")] == [1, 2]


def test_a_half_written_file_is_one_part(folder: Path, out: Path) -> None:
    whole = photo(1)
    with Running(line_of(folder, out)):
        with open(folder / "1.png", "wb") as file:
            file.write(whole[:500])
            file.flush()
            time.sleep(0.1)  # longer than it takes to settle, shorter than the patience
            file.write(whole[500:])
        until(lambda: documents(out))
        time.sleep(0.3)
    (only,) = documents(out)
    assert (only["decision"], only["sequence"]) == ("pass", 1)


def test_an_overwritten_file_is_a_new_part(folder: Path, out: Path) -> None:
    with Running(line_of(folder, out)):
        for number in (1, 2):
            (folder / "part.png").write_bytes(photo(number))
            until(lambda number=number: len(documents(out)) == number)
    assert len({str(one["sha256"]) for one in documents(out)}) == 2


PROGRAM = """
import sys, threading
from pathlib import Path
from lines import Echo, line_of
folder, out = map(Path, sys.argv[1:])
line_of(folder, out, inspector=Echo(0.02, overlay=b"picture")).run(threading.Event())
"""


def test_killed_again_and_again(folder: Path, out: Path) -> None:
    """kill -9 at moments that nobody chose; then every part has one result, in order, whole."""
    names = put(folder, range(20))
    for kill in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(out)], cwd=Path(__file__).parent
        )
        try:
            before = len(list((out / "parts").rglob("*.json")))
            until(lambda before=before: len(list((out / "parts").rglob("*.json"))) > before, 10)
            time.sleep(0.01 * kill)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert 0 < len(documents(out)) < 20
    line_of(folder, out, inspector=Echo(overlay=b"picture"), once=True).run(threading.Event())
    found = documents(out)
    assert [one["name"] for one in found] == names
    assert [one["sequence"] for one in found] == list(range(1, 21))
    assert [int(row.split(",")[0]) for row in logged(out)] == list(range(1, 21))
    assert {(out / str(one["overlay"])).read_bytes() for one in found} == {b"picture"}
    assert len(list((out / "overlays").rglob("*.png"))) == 20


class Disk:
    """Stands before a function: raises ENOSPC while it is full."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.full = function, False

    def __call__(self, *arguments: object) -> object:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.function(*arguments)


def test_a_full_disk_halts_the_line_and_loses_nothing(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    said: list[str] = []
    watcher = Memory("watcher")
    with Running(line_of(folder, out, sinks=[FilesSink(out), watcher], said=said)):
        put(folder, range(3))
        until(lambda: len(documents(out)) == 3)
        disk = Disk(os.fsync)
        monkeypatch.setattr("os.fsync", disk)
        disk.full = True
        put(folder, range(3, 8))
        until(lambda: "halted" in watcher.states)
        store = Store(out / "line.sqlite")
        taken = store.sequence
        assert "The line halts, no parts are taken: files:" in "\n".join(said)
        assert "No space left on device" in "\n".join(said)
        time.sleep(0.3)
        assert store.sequence == taken < 8
        disk.full = False
        until(lambda: len(documents(out)) == 8)
    assert [row.split(",")[0] for row in logged(out)] == [str(n) for n in range(1, 9)]
    assert watcher.got == list(range(1, 9))
    assert any("The line goes on" in text for text in said)
    assert watcher.states[-1] == "stopped"


def test_a_store_without_room_halts_the_line(folder: Path, out: Path) -> None:
    said: list[str] = []
    inspector = Echo()
    line = line_of(folder, out, inspector=inspector, said=said)
    with Running(line):
        put(folder, range(2))
        until(lambda: len(documents(out)) == 2)
        record, line.store.record = line.store.record, _full  # type: ignore[method-assign]
        put(folder, range(2, 4))
        until(lambda: any("the store is full" in text for text in said))
        line.store.record = record  # type: ignore[method-assign]
        until(lambda: len(documents(out)) == 4)
    assert inspector.seen == [
        "000.png",
        "001.png",
        "002.png",
        "003.png",
    ]  # what was in hand is not done again


def _full(*_: object) -> None:
    raise UnavailableError("the store is full")


def test_a_receiver_that_is_away_gets_all_in_order(folder: Path, out: Path) -> None:
    failures: Iterator[Exception] = iter(
        [UnavailableError("away", delivered=1), OSError("cut"), AndonError("no")]
    )

    def fail() -> None:
        for failure in failures:
            raise failure

    said: list[str] = []
    sink = Memory(fail=fail)
    put(folder, range(6))
    with Running(line_of(folder, out, sinks=[FilesSink(out), sink], said=said)):
        until(lambda: len(documents(out)) == 6)
        until(lambda: sink.got and sink.got[-1] == 6)
    assert sink.got == sorted(set(sink.got))
    assert sum("memory: away Results are kept and delivered later." in text for text in said) <= 1
    assert any("memory: works again" in text for text in said)


def away() -> None:
    raise UnavailableError("nobody is there.")


def test_a_full_outbox_stops_the_line(folder: Path, out: Path) -> None:
    put(folder, range(6))
    sink, said = Memory(fail=away), []
    with Running(line_of(folder, out, sinks=[FilesSink(out), sink], outbox=3, said=said)):
        full = "memory: 3 results wait to be delivered, as many as may. nobody is there."
        until(lambda: (out / "status.json").exists() and status(out)["reason"] == full)
        assert status(out)["state"] == "halted"
        assert len(documents(out)) <= 3
        sink.fail = lambda: None
        until(lambda: len(sink.got) == 6, 8)
    assert sink.got == [1, 2, 3, 4, 5, 6]


def test_a_full_outbox_drops_the_oldest(folder: Path, out: Path) -> None:
    put(folder, range(6))
    sink, said = Memory(fail=away), []
    line_of(folder, out, sinks=[FilesSink(out), sink], outbox=2, when_full="drop", once=True, said=said).run(
        threading.Event()
    )
    assert len(documents(out)) == 6
    assert status(out)["dropped"] == {"memory": 4}
    assert "memory: 2 results are not delivered yet; they are with the next start." in said
    sink.fail = lambda: None
    line_of(folder, out, sinks=[FilesSink(out), sink], once=True).run(threading.Event())
    assert sink.got == [5, 6]


def test_a_fault_in_a_sink_ends_the_line(folder: Path, out: Path) -> None:
    def wrong() -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        with Running(line_of(folder, out, sinks=[Memory(fail=wrong)])) as running:
            running.thread.join(5)


def test_an_overlay_is_there_before_its_result(folder: Path, out: Path) -> None:
    put(folder, [1])
    line_of(folder, out, inspector=Echo(overlay=b"picture"), once=True).run(threading.Event())
    (only,) = documents(out)
    assert (out / str(only["overlay"])).read_bytes() == b"picture"
    assert only["overlay"] == f"overlays/{str(only['inspected'])[:10]}/00000001_001.png"


def test_an_overlay_whose_result_was_never_stored_is_removed(folder: Path, out: Path) -> None:
    put(folder, [1])
    line_of(folder, out, inspector=Echo(overlay=b"picture"), once=True).run(threading.Event())
    (only,) = documents(out)
    left = (out / str(only["overlay"])).with_name("00000002_killed.png")
    left.write_bytes(b"picture")
    line_of(folder, out, once=True).run(threading.Event())
    assert not left.exists()
    assert (out / str(only["overlay"])).exists()


def test_the_status_is_kept_up_to_date(folder: Path, out: Path) -> None:
    with Running(line_of(folder, out)):
        until(lambda: (out / "status.json").exists())
        first = status(out)
        assert (first["online"], first["state"], first["heartbeat_s"]) == (True, "running", 0.05)
        until(lambda: str(status(out)["updated"]) > str(first["updated"]))


def test_a_folder_that_goes_away_halts_the_line(folder: Path, out: Path) -> None:
    said: list[str] = []
    with Running(line_of(folder, out, said=said)):
        put(folder, [1])
        until(lambda: len(documents(out)) == 1)
        folder.rename(folder.with_name("away"))
        until(lambda: any("it is not there" in text for text in said))
        folder.with_name("away").rename(folder)
        put(folder, [2])
        until(lambda: len(documents(out)) == 2)


def test_a_photograph_that_ends_the_program_is_given_up(folder: Path, out: Path) -> None:
    """Three starts ended with it in hand; the fourth reports it, and goes on with the next."""
    put(folder, [1, 2])
    data = (folder / "001.png").read_bytes()
    fatal = Part("folder", "001.png", data, hashlib.sha256(data).hexdigest(), 0.0)
    out.mkdir()
    for start in range(3):
        assert InHand(out / "line.sqlite.in-hand").begin(fatal) == start  # and nothing closes it
    line_of(folder, out, once=True).run(threading.Event())
    errors = {one["name"]: one["error"] for one in documents(out)}
    assert errors == {"001.png": "the program has ended 3 times while it was inspected", "002.png": ""}
    assert InHand(out / "line.sqlite.in-hand").begin(fatal) == 0


def test_the_memory_stays_bounded(folder: Path, out: Path) -> None:
    """What is known of files goes with the files, and the ledger forgets what is beyond ``remember``."""
    line = line_of(folder, out, once=True, remember=0)
    put(folder, range(4))
    line.run(threading.Event())
    for path in folder.iterdir():
        path.unlink()
    line.source._look()  # type: ignore[attr-defined]
    assert line.source._files == {}  # type: ignore[attr-defined]
    store = Store(out / "line.sqlite")
    assert store.forget("folder", 0, line.source.holds) == 4
