"""The audit trail: every way of tampering is found, and kills, crowds, migrations and full disks leave it whole."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from andon.errors import AndonError, DataError
from andon.records import Anchor, Limits, Records, open_records, trail, verifying
from andon.records.database import Database
from andon.records.migrations import STEPS, migrate
from andon.records.schema import THINGS, TRAIL
from andon.records.verifying import read_anchor, save_anchor
from records_help import CLIP, PASSWORD, verdict


def fill(records: Records) -> None:
    """Something of every kind: 13 entries of the trail."""
    session = records.anonymous()
    for number in range(3):
        records.add(session, verdict(), CLIP, image=b"photo%d" % number, overlay=b"heat%d" % number)
    records.change(session, "threshold", CLIP, {"threshold": 1.5}, {"threshold": 2.5}, why="false alarms")
    records.add_user(session, "anna", PASSWORD, "engineer")
    anna = records.login("anna", PASSWORD)
    records.add_user(anna, "ben", PASSWORD, "operator")
    records.prune(anna, Limits(count=4))
    records.logout(anna)
    records.decide(records.login("anna", PASSWORD), 2, "disagree", "dust")


@pytest.fixture
def records(tmp_path: Path, quick_records: None) -> Iterator[Records]:
    with open_records(tmp_path / "station.db") as opened:
        fill(opened)
        yield opened


def execute(records: Records, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What SQLite answers, past all that Andon does."""
    connection = sqlite3.connect(records.database.shown, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def tamper(records: Records, *statements: str) -> None:
    """What somebody does who owns the file: takes the triggers off, changes something, puts them back."""
    connection = sqlite3.connect(records.database.shown, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    taken = [f"DROP TRIGGER {name}" for name, _ in triggers]
    for statement in ("BEGIN", *taken, *statements, *(sql for _, sql in triggers), "COMMIT"):
        connection.execute(statement)
    connection.close()


def rewrite(records: Records) -> None:
    """Compute the whole chain anew, as one can who knows how and may write."""
    connection = sqlite3.connect(records.database.shown)
    connection.row_factory = sqlite3.Row
    previous, statements = trail.START, []
    for row in connection.execute("SELECT * FROM andon_trail ORDER BY seq"):
        entry = {**dict(row), "previous": previous}
        entry["payload_hash"] = (
            trail.digest(entry["details"]) if entry["thing"] is None else _payload(connection, entry)
        )
        previous = trail.entry_hash(entry)
        told = (
            f"previous = '{entry['previous']}', payload_hash = '{entry['payload_hash']}', hash = '{previous}'"
        )
        statements.append(f"UPDATE andon_trail SET {told} WHERE seq = {entry['seq']}")
    connection.close()
    tamper(records, *statements)


def _payload(connection: sqlite3.Connection, entry: dict[str, object]) -> str:
    table = THINGS[str(entry["thing"])]
    row = dict(connection.execute(f"SELECT * FROM {table.name} WHERE id = {entry['thing_id']}").fetchone())
    for name in ("active", "image_kept", "overlay_kept"):
        if name in row:
            row[name] = bool(row[name])
    return trail.digest(trail.canonical(row))


FORGED = (
    "INSERT INTO andon_trail SELECT 14, at, who, kind, NULL, NULL, artifact_hash, details, payload_hash, "
    "(SELECT hash FROM andon_trail WHERE seq = 13), 'f00' FROM andon_trail WHERE seq = 1"
)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["UPDATE andon_inspections SET decision = 'pass' WHERE id = 2"], "inspection 2 was changed after entry 4"),
        (["UPDATE andon_inspections SET image_kept = 0 WHERE id = 1"], "inspection 1 was changed after entry 3"),
        (["UPDATE andon_decisions SET note = ''"], "decision 1 was changed after entry 13"),
        (["UPDATE andon_users SET role = 'engineer' WHERE name = 'ben'"], "user 2 was changed after entry 9"),
        (["DELETE FROM andon_inspections WHERE id = 3"], "inspection 3, which entry 5 tells of, is gone"),
        (["UPDATE andon_trail SET who = 'ben' WHERE seq = 6"], "entry 6 was changed"),
        (["UPDATE andon_trail SET at = replace(at, '20', '19') WHERE seq = 1"], "entry 1 was changed"),
        (["DELETE FROM andon_trail WHERE seq = 4"], "entry 4 is missing"),
        (["DELETE FROM andon_trail WHERE seq IN (4, 5)"], "entries 4 to 5 are missing"),
        (["DELETE FROM andon_trail WHERE seq = 1"], "entry 1 is missing"),
        (["DELETE FROM andon_trail WHERE seq = 4", "UPDATE andon_trail SET seq = seq - 1 WHERE seq > 4"],
         "entry 4 does not follow the one before it"),
        (["UPDATE andon_trail SET seq = -seq WHERE seq IN (4, 5)", "UPDATE andon_trail SET seq = 9 + seq WHERE seq < 0"],
         "entry 4 does not follow the one before it"),
        ([FORGED], "entry 14 was changed: its hash is not that of what it says"),
        (["DELETE FROM andon_trail WHERE seq = 13"], "decision 1 is in no entry"),
        (["DELETE FROM andon_trail"], "the trail is empty"),
        (["INSERT INTO andon_sessions SELECT 99, at, who, 'new', role, proof FROM andon_sessions LIMIT 1"],
         "session 99 is in no entry: it was put there past the trail, or the trail's end was cut off"),
        (["UPDATE andon_passwords SET hash = 'mine' WHERE name = 'anna'"], "the password of anna was changed past"),
        (["DELETE FROM andon_passwords WHERE name = 'ben'"], "the password of ben was changed past"),
        (["INSERT INTO andon_passwords VALUES ('carl', 'mine')"], "there is a password for carl, who has no account"),
        (["DELETE FROM andon_pictures WHERE at = (SELECT max(at) FROM andon_pictures)"],
         "a picture of inspection 3 is gone, and the trail does not say that it was pruned"),
    ],
)  # fmt: skip
def test_tampering_is_found(records: Records, statements: Sequence[str], message: str) -> None:
    assert records.verify().fits
    tamper(records, *statements)
    found = records.verify()
    assert not found.fits
    assert found.misfit is not None
    assert message in found.misfit.message


def test_any_cell_that_changes_is_found(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every column of every recorded table, in a row taken by chance."""
    draw = random.Random(0)
    for (name,) in execute(records, "SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        execute(records, f"DROP TRIGGER {name}")
    monkeypatch.setattr(verifying, "triggers", lambda dialect: {})
    for table in (TRAIL, *THINGS.values()):
        key = table.primary_key.columns.keys()[0]
        number = draw.choice([row[0] for row in execute(records, f"SELECT {key} FROM {table.name}")])
        for column in table.columns.keys():  # noqa: SIM118
            (before,) = execute(records, f'SELECT "{column}" FROM {table.name} WHERE {key} = {number}')[0]
            after = f"{before}x" if isinstance(before, str) else 77 if before is None else 1 - before
            change = f'UPDATE {table.name} SET "{column}" = ? WHERE {key} = ?'
            execute(records, change, after, number)
            assert not records.verify(pictures=False).fits, f"{table.name}.{column}"
            execute(records, change, before, after if column == key else number)
    assert records.verify().fits


def test_pictures_that_change_or_go_are_found(records: Records) -> None:
    assert records.pictures.folder is not None
    kept = sorted(path for path in records.pictures.folder.glob("??/*"))
    assert records.verify().pictures == len(kept) == 3
    whole = kept[0].read_bytes()
    kept[0].write_bytes(b"another")
    assert records.verify().misfit.message == f"the picture {kept[0]} was changed"  # type: ignore[union-attr]
    assert records.verify(pictures=False).fits
    kept[0].write_bytes(whole)
    kept[1].unlink()
    assert "is gone, and the trail does not say that it was pruned" in records.verify().misfit.message  # type: ignore[union-attr]


def test_only_an_anchor_proves_the_end(records: Records, tmp_path: Path) -> None:
    anchor = records.verify().anchor
    save_anchor(anchor, tmp_path / "station.anchor")
    assert read_anchor(tmp_path / "station.anchor") == anchor
    records.add(records.unattended("line 3"), verdict(), CLIP)
    assert records.verify(anchor).fits  # it may grow
    tamper(records, "DELETE FROM andon_trail WHERE seq > 11", "DELETE FROM andon_inspections WHERE id > 3",
           "DELETE FROM andon_decisions", "DELETE FROM andon_sessions WHERE id > 2")  # fmt: skip
    assert records.verify().fits  # nobody could know
    message = "the end is missing: there were 13 entries when the anchor was made, now there are 11"
    assert records.verify(anchor).misfit.message == message  # type: ignore[union-attr]


def test_only_an_anchor_proves_that_the_chain_was_not_written_anew(records: Records) -> None:
    anchor = records.verify().anchor
    tamper(records, "UPDATE andon_inspections SET decision = 'pass' WHERE id = 2")
    rewrite(records)
    assert records.verify().fits
    found = records.verify(anchor)
    assert found.misfit is not None
    assert "entry 13 is not the one that the anchor names: the trail was written anew" in found.misfit.message


def test_another_databases_anchor_is_refused(records: Records, tmp_path: Path) -> None:
    with open_records(tmp_path / "other.db") as other:
        found = records.verify(other.verify().anchor)
    assert "the anchor is of another database" in found.misfit.message  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"andon_anchor": {"database": "x"}}', "\udcff"])
def test_what_is_no_anchor(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="holds no anchor"):
        read_anchor(tmp_path / "a")


@pytest.mark.parametrize("table", [TRAIL.name, *(table.name for table in THINGS.values())])
def test_the_database_itself_refuses_changes(records: Records, table: str) -> None:
    connection = sqlite3.connect(records.database.shown, isolation_level=None)
    for statement in (f"UPDATE {table} SET at = 'never'", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.DatabaseError, match=f"{table} is only ever added to"):
            connection.execute(statement)
    connection.close()


def test_the_database_itself_refuses_an_entry_anywhere_but_at_the_end(records: Records) -> None:
    connection = sqlite3.connect(records.database.shown, isolation_level=None)
    copied = "at, who, kind, NULL, NULL, artifact_hash, details, payload_hash"
    for seq, previous in ((13, "hash"), (15, "hash"), (0, "hash"), (14, "previous")):
        for verb in ("INSERT", "INSERT OR REPLACE"):
            with pytest.raises(sqlite3.DatabaseError, match="must follow the last one"):
                connection.execute(f"{verb} INTO andon_trail SELECT {seq}, {copied}, {previous}, 'x' FROM andon_trail WHERE seq = 13")  # fmt: skip
    connection.close()
    assert records.verify().fits


def test_a_trigger_that_is_gone_is_noticed(records: Records) -> None:
    connection = sqlite3.connect(records.database.shown)
    connection.execute("DROP TRIGGER andon_trail_no_update")
    connection.close()
    assert "the trigger andon_trail_no_update, which refuses changes" in records.verify().misfit.message  # type: ignore[union-attr]


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from andon.records import open_records
from records_help import CLIP, verdict
with open_records({place!r}) as records:
    session = records.unattended({name!r})
    for number in range({times}):
        print(records.add(session, verdict(), CLIP, image=b"%d of " % number + {name!r}.encode()), flush=True)
"""


def writer(place: Path, name: str, times: int) -> subprocess.Popen[str]:
    code = WRITER.format(tests=str(Path(__file__).parent), place=str(place), name=name, times=times)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_crowd_of_writers_one_of_them_killed(tmp_path: Path) -> None:
    """Three processes make the database together and write; one is killed in the middle. One chain, nothing lost."""
    place = tmp_path / "station.db"
    lines = [writer(place, f"line {number}", 8) for number in range(2)]
    doomed = writer(place, "doomed", 100_000)
    assert doomed.stdout is not None
    said = [int(doomed.stdout.readline()) for _ in range(3)]
    os.kill(doomed.pid, signal.SIGKILL)
    for line in lines:
        out, _ = line.communicate(timeout=60)
        assert line.returncode == 0
        said += [int(text) for text in out.split()]
    said += [int(text) for text in doomed.communicate()[0].split()]
    with open_records(place) as records:
        found = records.verify()
        assert found.fits, found.misfit
        numbers = [row.id for row in records.each()]
        assert len(said) == len(set(said))
        assert set(said) <= set(numbers)  # what was confirmed is there
        assert len(numbers) - len(said) <= 1  # the doomed one may have died between writing and saying
        assert sum(row.who == "line 0" for row in records.each()) == 8


def test_a_migration_leaves_what_was_recorded_as_it_was(records: Records) -> None:
    """Rows, then a column and a table more; and a step that fails leaves the version before."""
    place, before = records.database.shown, records.verify()
    step = "ALTER TABLE andon_inspections ADD COLUMN batch TEXT;\nCREATE TABLE andon_parts (id {number}, name TEXT)"
    records.close()
    database = Database(place)
    newest = len(STEPS) + 1
    assert migrate(database, (*STEPS, step)) == newest
    assert migrate(database, (*STEPS, step)) == newest  # once is enough
    with pytest.raises(AndonError, match="cannot be used"):
        migrate(
            database,
            (*STEPS, step, "CREATE TABLE andon_more (id {number});\nCREATE TABLE andon_trail (x TEXT)"),
        )
    assert "andon_more" not in database.tables()
    database.close()
    with pytest.raises(
        DataError,
        match=rf"made by a newer Andon \(version {newest} of the tables; this one knows up to {len(STEPS)}\)",
    ):
        open_records(place)
    connection = sqlite3.connect(place)
    connection.row_factory = sqlite3.Row
    row = dict(connection.execute("SELECT * FROM andon_inspections WHERE id = 1").fetchone())
    connection.close()
    row |= {"image_kept": bool(row["image_kept"]), "overlay_kept": bool(row["overlay_kept"])}
    assert "batch" in row
    database = Database(place)
    with database.reading() as reading:
        entry = reading.execute(TRAIL.select().where(TRAIL.c.seq == 3)).mappings().one()
        last = reading.execute(TRAIL.select().order_by(TRAIL.c.seq.desc())).mappings().first()
    database.close()
    assert entry["payload_hash"] == trail.payload_hash(entry, row)  # a column that is NULL is not hashed
    assert last is not None
    assert (last["kind"], last["seq"], json.loads(last["details"])) == ("migrate", 14, {"version": newest})
    assert last["previous"] == before.anchor.hash


def test_a_full_disk_is_said_and_leaves_a_chain(records: Records) -> None:
    before = records.verify()
    engine = records.database._engine
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    session = None
    with pytest.raises(
        AndonError, match="the disk is full. Nothing of this was recorded. Make room and try again."
    ):
        for _ in range(100):
            session = session or records.unattended("line 3")
            records.add(session, verdict(), CLIP)
    after = records.verify(before.anchor)
    assert after.fits
    assert after.anchor.entries >= before.anchor.entries


def test_a_folder_that_cannot_be_written(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    session = records.unattended("line 3")
    before = records.verify().anchor
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(AndonError, match="No space left on device"):
        records.add(session, verdict(), CLIP, image=b"more")
    monkeypatch.undo()
    assert records.verify().anchor.hash == before.hash
    assert records.pictures.folder is not None
    assert list((records.pictures.folder / "incoming").iterdir()) == []


def test_one_entry_by_hand(records: Records) -> None:
    """The chain as docs/records.md describes it, computed with nothing of Andon."""
    import hashlib

    connection = sqlite3.connect(records.database.shown)
    connection.row_factory = sqlite3.Row
    previous = "0" * 64
    for row in connection.execute("SELECT * FROM andon_trail ORDER BY seq"):
        entry = {key: row[key] for key in row.keys() if key != "hash" and row[key] is not None}  # noqa: SIM118
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert (row["previous"], row["hash"]) == (previous, hashlib.sha256(text.encode()).hexdigest())
        previous = row["hash"]
    connection.close()
    assert re.fullmatch("[0-9a-f]{64}", previous)
    assert isinstance(records.verify().anchor, Anchor)
