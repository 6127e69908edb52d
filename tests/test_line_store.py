"""The line's memory and what is written from it: transactions, bounds, the table a day."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andon.errors import DataError, SettingsError
from andon.runtime.line import FilesSink, Part, Result, Store, UnavailableError, require_unused
from andon.runtime.line.daily_log import COLUMNS, append


def part(name: str = "1.png", sha256: str = "aa") -> Part:
    return Part("folder", name, b"", sha256, 0.0, stamp="1 2")


def result(sequence: int, **content: object) -> Result:
    document = {
        "sequence": sequence,
        "inspected": "2026-01-31T10:00:00+01:00",
        "part": f"P{sequence}",
    } | content
    return Result(sequence, json.dumps(document))  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "line.sqlite")


def record(store: Store, sinks: tuple[str, ...] = ("a", "b"), bounds: dict[str, int] | None = None) -> None:
    number = store.sequence + 1
    store.record(part(f"{number}.png"), "pass", result(number), sinks, bounds or {})


def pending(store: Store, sink: str, limit: int = 100) -> list[int]:
    return [one.sequence for one in store.pending(sink, limit)]


def test_a_part_and_its_results_are_entered_together(store: Store) -> None:
    for _ in range(3):
        record(store)
    assert store.sequence == 3
    assert store.counts() == {"pass": 3}
    assert pending(store, "a") == pending(store, "b") == [1, 2, 3]
    assert pending(store, "a", 2) == [1, 2]
    store.delivered("a", store.pending("a", 2))
    assert store.outboxes() == {"a": 1, "b": 3}
    store.delivered("b", store.pending("b", 9))
    assert store._db.execute("SELECT sequence FROM results").fetchall() == [(3,)]
    assert store.known("folder", "2.png") is not None
    assert store.known("camera", "2.png") is None


def test_nothing_of_a_transaction_that_fails(store: Store) -> None:
    record(store)
    store._db.execute("CREATE TRIGGER no BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(DataError, match="no. Move it away to begin anew"):
        record(store)
    assert store.sequence == 1
    assert store.known("folder", "2.png") is None
    assert store.counts() == {"pass": 1}


def test_a_number_is_given_once(store: Store) -> None:
    record(store)
    with pytest.raises(ValueError, match="expected result 2 next, got 1"):
        store.record(part(), "pass", result(1), ["a"], {})


def test_the_oldest_are_dropped_and_counted(store: Store) -> None:
    for _ in range(5):
        record(store, bounds={"a": 2})
    assert pending(store, "a") == [4, 5]
    assert pending(store, "b") == [1, 2, 3, 4, 5]
    assert store.counts("dropped") == {"a": 3}


def test_results_for_a_sink_that_is_not_there_any_more_stay_few(store: Store) -> None:
    record(store)
    store.delivered("a", store.pending("a", 9))
    for _ in range(3):
        record(store, ("a",))
        store.delivered("a", store.pending("a", 9))
    assert store._db.execute("SELECT sequence FROM results").fetchall() == [(1,)]


def test_the_ledger_forgets_what_is_long_gone(store: Store) -> None:
    for _ in range(6):
        record(store, ())
    assert store.forget("folder", 2, lambda name: name == "3.png") == 3
    assert [store.known("folder", f"{n}.png") is not None for n in range(1, 7)] == [False, False, True, False, True, True]  # fmt: skip


def test_a_full_disk(store: Store) -> None:
    record(store)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match="cannot be written: database or disk is full"):
        for _ in range(200):
            store.record(part("x" * 200), "pass", result(store.sequence + 1, x="y" * 999), ["a"], {})
    before = store.sequence
    store._db.execute("PRAGMA max_page_count = 100000")
    record(store)
    assert store.sequence == before + 1


def test_names_that_are_no_text(store: Store) -> None:
    name = b"\xff\xfe.png".decode("utf-8", "surrogateescape")
    store.record(part(name), "pass", result(1), [], {})
    assert store.known("folder", name) is not None
    assert store.forget("folder", 0, lambda found: found == name) == 0


def test_stores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no store at all, but a long enough text" * 99)
    with pytest.raises(DataError, match="cannot be read as a line's store: file is not a database"):
        Store(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(DataError, match="is no line's store, as andon watch makes it"):
        Store(tmp_path / "other")
    store = Store(tmp_path / "newer")
    store._db.execute("PRAGMA user_version = 9")
    store.close()
    with pytest.raises(DataError, match="has schema 9, this version of Andon reads 1"):
        Store(tmp_path / "newer")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot open the line's store"):
        Store(tmp_path / "folder")


def test_a_store_belongs_to_a_folder(store: Store) -> None:
    store.bind("/camera")
    store.bind("/camera")
    with pytest.raises(SettingsError, match="of a line that watches /camera, not /other"):
        store.bind("/other")


def test_results_of_another_store_are_not_mixed_in(tmp_path: Path) -> None:
    require_unused(tmp_path)
    FilesSink(tmp_path).deliver([result(1)])
    with pytest.raises(SettingsError, match="holds the results of a line whose store is not there"):
        require_unused(tmp_path)


@pytest.fixture
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.mark.usefixtures("no_flushing")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_log_is_repaired_wherever_it_was_cut(tmp_path: Path, kind: str) -> None:
    results = [result(n, sentence=f"a, {n}\nb", notes=["x", "ü"]) for n in (1, 2, 3)]
    append(tmp_path / "whole", results, kind)  # type: ignore[arg-type]
    whole = (tmp_path / "whole").read_bytes()
    assert len(whole.splitlines()) == (4 if kind == "csv" else 3)
    for length in range(0, len(whole), 3):
        path = tmp_path / f"{length}"
        path.write_bytes(whole[:length])
        append(path, results, kind)  # type: ignore[arg-type]
        assert path.read_bytes() == whole


@given(st.lists(st.integers(1, 6), max_size=5), st.integers(0, 70000))
@settings(max_examples=20, deadline=None)
def test_batches_in_any_pieces_make_the_same_log(
    tmp_path_factory: pytest.TempPathFactory, ends: list[int], wide: int
) -> None:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("os.fsync", lambda handle: None)
    folder = tmp_path_factory.mktemp("log")
    results = [result(number, sentence="x" * (wide if number == 3 else 1)) for number in range(1, 7)]
    append(folder / "whole", results, "csv")
    for end in sorted(ends):  # every delivery begins anew at the first, as after a kill
        append(folder / "pieces", results[:end], "csv")
    append(folder / "pieces", results, "csv")
    assert (folder / "pieces").read_bytes() == (folder / "whole").read_bytes()
    monkeypatch.undo()


def test_files_delivered_twice_are_there_once(tmp_path: Path) -> None:
    sink, results = (
        FilesSink(tmp_path),
        [result(1), result(2, inspected="2026-02-01T00:00:01+01:00", part="=1/2")],
    )
    sink.deliver(results[:1])
    sink.deliver(results)
    sink.deliver(results)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["log/2026-01-31.csv", "log/2026-02-01.csv", "parts/2026-01-31/00000001_P1.json",
                     "parts/2026-02-01/00000002_-1-2.json"]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "log/2026-02-01.csv").open(newline="")))
    assert [row["part"] for row in rows] == ["'=1/2"]
    assert tuple(rows[0]) == COLUMNS
