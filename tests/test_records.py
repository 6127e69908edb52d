"""The records: what goes in comes out, on SQLite and on PostgreSQL; queues, shifts, exports, pictures, limits."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from andon.errors import (
    AccessError,
    AndonError,
    ArtifactError,
    BusyError,
    DataError,
    MissingExtraError,
    SettingsError,
)
from andon.records import (
    ArtifactName,
    Filters,
    Limits,
    LineResult,
    Misfit,
    Records,
    Shifts,
    database,
    open_records,
    pictures,
    queries,
    rows,
)
from andon.records.migrations import STEPS
from andon.records.moments import now
from andon.records.pictures import Kept
from andon.records.schema import METADATA
from andon.records.shifts import shift_times
from andon.records.triggers import triggers
from records_help import CLIP, LABEL, SPOT, postgresql, postgresql_programs, verdict

Open = Callable[..., Records]


@pytest.fixture(scope="session")
def server() -> Iterator[str | None]:
    """A real PostgreSQL, where one is installed."""
    programs = postgresql_programs()
    if programs is None:
        yield None
        return
    with postgresql(programs) as url:
        yield url


def _place(backend: str, server: str | None, folder: Path) -> str:
    """Where there are no records yet."""
    if backend == "sqlite":
        return str(folder / "station.db")
    if server is None:
        pytest.skip("PostgreSQL is not installed here")
    from sqlalchemy import create_engine

    url = f"{server}/postgres"
    engine = create_engine(url.replace("://", "+pg8000://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def records(
    request: pytest.FixtureRequest, server: str | None, tmp_path: Path, quick_records: None
) -> Iterator[Records]:
    with open_records(_place(request.param, server, tmp_path), pictures=tmp_path / "pictures") as opened:
        yield opened


@pytest.fixture
def station(tmp_path: Path, quick_records: None) -> Iterator[Records]:
    """SQLite alone, for what no database has a part in."""
    with open_records(tmp_path / "station.db") as opened:
        yield opened


def test_what_goes_in_comes_out(records: Records) -> None:
    session = records.unattended("line 3")
    number = records.add(session, verdict(), CLIP, image=b"photo", overlay=b"heat", group="night")
    found = records.inspection(number)
    given = verdict()
    assert (found.decision, found.score, found.image_score, found.threshold) == ("fail", 0.995, 12.75, 10.1)
    assert (found.regions, found.sentence, found.notes) == ((SPOT,), given.sentence, given.notes)
    assert (found.not_inspected, found.milliseconds, found.size) == (0.125, 12.5, (480, 640))
    assert (found.who, found.session, found.artifact) == ("line 3", session.token, CLIP)
    assert (found.image_name, found.group, found.verdict) == ("0001.png", "night", "fail")
    assert (records.picture(found.image_hash), records.picture(found.overlay_hash)) == (b"photo", b"heat")
    assert now() - found.at < timedelta(minutes=1)
    assert records.verify().fits


def test_the_last_word_is_a_persons_and_nothing_is_overwritten(records: Records) -> None:
    session = records.anonymous()
    number = records.add(session, verdict("fail"), CLIP)
    assert records.decide(session, number, "disagree", "dust").verdict == "pass"
    assert records.decide(session, number, "agree").verdict == "fail"
    assert records.decide(session, number, "review", " ask Anna ").note == "ask Anna"
    assert records.inspection(number).verdict == "review"
    assert [entry.answer for entry in records.decisions(number)] == ["disagree", "agree", "review"]
    assert [entry.kind for entry in records.trail(most=4)] == ["decision"] * 3 + ["verdict"]
    assert records.verify().fits


def test_the_queue_page_by_page(records: Records) -> None:
    session = records.anonymous()
    numbers = [
        records.add(session, verdict(said), CLIP) for said in ("pass", "fail", "review", "fail", "review")
    ]
    other = records.add(records.unattended("line 3"), verdict("fail"), LABEL)
    records.decide(session, numbers[1], "agree")
    queue = Filters(decisions=("fail", "review"), decided=False)
    first, second = records.find(queue, size=3), records.find(queue, size=3, page=1)
    assert [row.id for row in first.rows] == [other, numbers[4], numbers[3]]
    assert [row.id for row in second.rows] == [numbers[2]]
    assert (first.total, first.pages) == (4, 2)
    assert [row.id for row in records.find(Filters(artifact="label")).rows] == [other]
    assert [row.id for row in records.find(Filters(verdicts=("fail",))).rows] == [numbers[1]]
    assert records.find(Filters(who="line 3", artifact_hash=CLIP.hash)).total == 0
    assert records.artifacts() == [CLIP, LABEL]
    moment = records.inspection(numbers[2]).at
    assert [
        row.id for row in records.each(Filters(since=moment, until=records.inspection(other).at))
    ] == numbers[2:]


def test_one_browser_does_not_see_anothers_images(station: Records) -> None:
    anna, ben = station.anonymous(), station.anonymous()
    mine = station.add(anna, verdict(), CLIP)
    station.add(ben, verdict(), CLIP)
    assert [row.id for row in station.find(Filters(session=anna.token)).rows] == [mine]


def test_changes_are_kept_with_their_reason(records: Records) -> None:
    session = records.anonymous()
    after = {"threshold": math.inf, "zones": [{"name": "label"}], "at": (1, 2)}
    records.change(
        session, "threshold", CLIP, {"threshold": 10.5}, after, why="false alarms", hash_after="d" * 64
    )
    (change,) = records.changes("clip")
    assert change.after == {"threshold": None, "zones": [{"name": "label"}], "at": [1, 2]}
    assert (change.before, change.why, change.artifact_hash_after) == (
        {"threshold": 10.5},
        "false alarms",
        "d" * 64,
    )
    assert records.changes("label") == []
    assert records.verify().fits


def test_counts_and_latencies_per_shift(records: Records) -> None:
    session = records.anonymous()
    numbers = [records.add(session, verdict("fail", milliseconds=float(ms)), CLIP) for ms in range(1, 11)]
    numbers += [records.add(session, verdict("pass"), CLIP), records.add(session, verdict("review"), LABEL)]
    records.decide(session, numbers[0], "disagree")
    records.decide(session, numbers[10], "disagree")
    records.decide(session, numbers[11], "pass")
    begin = now() - timedelta(hours=1)
    *before, last = records.shifts(begin, now(), Shifts(starts=(time(0),), zone="UTC"))
    assert sum(shift.inspected for shift in before) + last.inspected == 12
    tally = records.tally(Filters(artifact="clip"))
    assert (tally.passed, tally.review, tally.failed, tally.decided) == (1, 0, 10, 2)
    assert (tally.false_alarms, tally.escapes) == (1, 1)
    assert tally.milliseconds == {50: 6.0, 95: 12.5, 99: 12.5}
    assert tally.since == records.inspection(numbers[0]).at
    assert records.tally(Filters(artifact="none")).milliseconds == {}


def test_shifts_follow_the_clock_on_the_wall() -> None:
    plan = Shifts(starts=(time(22), time(6), time(14)), zone="Europe/Berlin")
    spring = datetime(2026, 3, 29, 12, tzinfo=UTC)  # the night in which the clock was put forward
    times = shift_times(plan, spring - timedelta(hours=12), spring)
    assert [begin.hour for begin, _ in times] == [21, 4]
    assert [(end - begin) / timedelta(hours=1) for begin, end in times] == [7, 8]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(times))
    assert len(shift_times(Shifts(), spring, spring + timedelta(days=2))) in (6, 7)


@pytest.mark.parametrize(
    ("plan", "since", "message"),
    [
        (Shifts(starts=()), datetime(2026, 1, 1, tzinfo=UTC), "each once; got []"),
        (Shifts(starts=(time(6), time(6))), datetime(2026, 1, 1, tzinfo=UTC), "each once"),
        (Shifts(), datetime(2026, 1, 1), "expected two aware times"),
        (Shifts(), datetime(2026, 1, 3, tzinfo=UTC), "the later one last"),
        (Shifts(zone="Berlin"), datetime(2026, 1, 1, tzinfo=UTC), "no time zone 'Berlin' here"),
        (Shifts(), datetime(2024, 1, 1, tzinfo=UTC), "ask for fewer"),
    ],
)
def test_shifts_that_cannot_be(plan: Shifts, since: datetime, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        shift_times(plan, since, datetime(2026, 1, 2, tzinfo=UTC))


def test_a_table_for_a_spreadsheet(station: Records, tmp_path: Path) -> None:
    session = station.anonymous()
    number = station.add(session, verdict(), CLIP, image_name="=cmd|' /C calc'!A0.png")
    station.decide(session, number, "pass", "@risky")
    station.add(session, replace(verdict("pass"), image_score=math.inf, threshold=math.nan), CLIP)
    assert station.write_csv(tmp_path / "all.csv") == 2
    first, second = csv.DictReader((tmp_path / "all.csv").read_text("utf-8").splitlines())
    assert (first["image"], first["note"]) == ("'=cmd|' /C calc'!A0.png", "'@risky")
    assert (first["verdict"], first["decided_by"], first["decision"]) == ("pass", "nobody", "fail")
    assert (second["verdict"], second["image_score"], second["threshold"]) == ("", "", "")
    only = io.StringIO()
    assert station.write_csv(only, Filters(decided=True)) == 1


def test_good_images_and_defects_leave_as_files(station: Records, tmp_path: Path) -> None:
    session = station.anonymous()
    names = ["../../etc/passwd.png", "part 7.JPG", "C:\\line\\9.tif", ".png"]
    numbers = [
        station.add(session, verdict(), CLIP, image=b"photo%d" % n, image_name=name)
        for n, name in enumerate(names)
    ]
    again = station.add(session, verdict(), CLIP, image=b"photo0")
    lost = station.add(session, verdict(), CLIP, image_name="lost.png")
    for number in (*numbers, again, lost):
        station.decide(session, number, "pass")
    defect = station.add(session, verdict(), CLIP, image=b"defect")
    station.decide(session, defect, "agree")
    assert station.save_images(station.good(), tmp_path / "good") == [lost]
    written = {path.name: path.read_bytes() for path in (tmp_path / "good").iterdir()}
    assert written == {
        "000001_passwd.png": b"photo0",
        "000002_part_7.jpg": b"photo1",
        "000003_9.tif": b"photo2",
        "000004_png.bin": b"photo3",
    }
    assert [(row.id, row.regions) for row in station.defects()] == [(defect, (SPOT,))]
    (tmp_path / "good" / "000001_passwd.png").write_bytes(b"other")
    with pytest.raises(DataError, match="is there and is another photograph"):
        station.save_images(station.good(), tmp_path / "good")


def test_old_pictures_go_and_what_was_said_stays(records: Records) -> None:
    session = records.console()
    for number in range(12):
        records.add(session, verdict(), CLIP, image=b"%100d" % number)
    done = records.prune(session, Limits(count=8))
    assert (done.pictures, done.bytes) == (
        5,
        500,
    )  # a little more than asked for, so that the next one need not
    kept = [records.picture(row.image_hash) is not None for row in records.each()]
    assert kept == [False] * 5 + [True] * 7
    (entry,) = records.trail(most=1)
    assert (entry.kind, entry.details["pictures"], len(entry.details["hashes"])) == ("prune", 5, 5)
    assert records.prune(session, Limits(total_bytes=400)).pictures == 4
    assert records.prune(session, Limits(days=1e-9)).pictures == 3
    assert records.verify().fits
    records.add(session, verdict(), CLIP, image=b"%100d" % 0)  # the same photograph once more
    assert records.verify().pictures == 1


def test_a_photograph_inspected_twice_is_one_file(station: Records) -> None:
    session = station.anonymous()
    for name in ("a.png", "b.jpg"):
        station.add(session, verdict(), CLIP, image=b"same", image_name=name)
    assert station.pictures.folder is not None
    assert len([path for path in station.pictures.folder.rglob("*") if path.is_file()]) == 1
    assert station.verify().fits


def test_limits_are_held_without_being_asked(
    tmp_path: Path, quick_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "CHECK_EVERY", 5)
    with open_records(tmp_path / "station.db", limits=Limits(count=10, largest_bytes=1000)) as records:
        session = records.unattended("line 3")
        for number in range(30):
            records.add(session, verdict(), CLIP, image=b"%d" % number)
        assert 9 <= sum(records.picture(row.image_hash) is not None for row in records.each()) <= 15
        large = records.inspection(records.add(session, verdict(), CLIP, image=b"x" * 1001))
        assert large.image_hash is not None
        assert records.picture(large.image_hash) is None
        assert records.verify().fits


def test_what_a_kill_left_behind_is_swept(station: Records) -> None:
    session = station.console()
    station.add(session, verdict(), CLIP, image=b"kept")
    folder = station.pictures.folder
    assert folder is not None
    orphan = folder / "ab" / f"{'ab' * 32}.png"
    orphan.parent.mkdir()
    orphan.write_bytes(b"no row")
    (folder / "readme.txt").write_text("not ours")
    station.prune(session)
    assert not orphan.exists()
    assert (folder / "readme.txt").exists()
    assert station.verify().pictures == 1


def test_names_that_are_no_text(records: Records) -> None:
    session = records.anonymous()
    odd = replace(verdict(), sentence="a\0b", notes=("c\udcff\0",))
    found = records.inspection(records.add(session, odd, CLIP, image_name="d\udce9\0.png"))
    assert (found.image_name, found.sentence) == ("d\\udce9\\x00.png", "a\\x00b")
    assert records.verify().fits


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda r, s: r.decide(s, 1, "maybe"),
            SettingsError,
            "expected one of agree, disagree, pass, fail, review",
        ),
        (lambda r, s: r.decide(s, 1, "disagree"), SettingsError, "a review says neither good nor bad"),
        (lambda r, s: r.decide(s, 99, "pass"), DataError, "there is no inspection 99"),
        (lambda r, s: r.decide(s, 1, "pass", "x" * 2001), SettingsError, "the note has 2,001 letters"),
        (lambda r, s: r.inspection(99), DataError, "there is no inspection 99"),
        (
            lambda r, s: r.change(s, "threshold", CLIP, {}, {}, why=" "),
            SettingsError,
            "a change needs a reason",
        ),
        (lambda r, s: r.change(s, "colour", CLIP, {}, {}, why="x"), SettingsError, "got 'colour'"),
        (
            lambda r, s: r.change(s, "zones", CLIP, {"a": b""}, {}, why="x"),
            SettingsError,
            "what JSON can hold",
        ),
        (lambda r, s: r.find(page=-1), SettingsError, "expected a page from 0"),
        (lambda r, s: r.find(size=0), SettingsError, "a size of 1 to 1000"),
        (lambda r, s: r.find(Filters(since=datetime(2026, 1, 1))), SettingsError, "has no time zone"),
        (
            lambda r, s: r.decide(r.unattended("x"), 1, "pass"),
            AccessError,
            "it is for operators and engineers",
        ),
        (lambda r, s: r.prune(r.unattended("x")), AccessError, "x may not do this: it is for engineers"),
    ],
)
def test_what_cannot_be_is_said(
    station: Records, call: Callable[..., object], error: type[AndonError], message: str
) -> None:
    session = station.anonymous()
    station.add(session, verdict("review"), CLIP)
    entries = station.verify().anchor.entries
    with pytest.raises(error, match=re.escape(message)):
        call(station, session)
    assert station.verify().anchor.entries <= entries + 1  # at most the session that was begun for it


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("", SettingsError, "no records are named"),
        ("mysql://h/db", SettingsError, "mysql://h/db names no records that can be used"),
        ("postgresql://host", SettingsError, "names no records that can be used"),
        ("sqlite://", SettingsError, "names no records that can be used"),
        ("post gres://x:y:z", SettingsError, "cannot be read"),
        ("postgresql+nothing://h/db", SettingsError, "names no records that can be used"),
        ("postgresql+psycopg2://h/db", MissingExtraError, "needs the package 'psycopg2'"),
        ("postgresql://u:secret@127.0.0.1:1/db", AndonError, r"u:\*\*\*@127.0.0.1:1/db cannot be used"),
        ("{folder}", DataError, "is a folder; records are a file"),
        ("{folder}/new.db", DataError, "there are no records in"),
        ("{folder}/empty.db", DataError, "there are no records in"),
        ("{folder}/photo.png", DataError, "is no database of records"),
        ("{folder}/other.db", DataError, "is a database of something else .it has the table 'cars'."),
        ("{folder}/photo.png/x.db", AndonError, "cannot make|no records|Not a directory"),
    ],
)
def test_a_wrong_place_is_said(tmp_path: Path, where: str, error: type[AndonError], message: str) -> None:
    import sqlite3

    (tmp_path / "photo.png").write_bytes(b"\x89PNG" * 1000)
    (tmp_path / "empty.db").touch()
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE cars (id)").connection.close()
    with pytest.raises(error, match=message) as caught:
        open_records(where.replace("{folder}", str(tmp_path)), create=False)
    assert "secret" not in str(caught.value)


def test_a_writer_waits_for_others_and_then_says_so(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = records.anonymous()
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with open_records(records.database.shown) as other:
        with records.database.writing():
            with pytest.raises(BusyError, match="others have been writing"):
                other.add(session, verdict(), CLIP)
            assert other.find().total == 0  # readers do not wait
    assert records.add(session, verdict(), CLIP) > 0


def test_the_database_refuses_changes_and_verifying_finds_them(records: Records) -> None:
    """On both; every way there is on SQLite is in test_records_trail.py."""
    session = records.anonymous()
    for _ in range(3):
        records.add(session, verdict(), CLIP, image=b"photo")
    name = "andon_inspections"
    for statement in (
        f"UPDATE {name} SET who = 'x'",
        f"DELETE FROM {name}",
        "DELETE FROM andon_trail WHERE seq = 3",
    ):
        with (
            pytest.raises(AndonError, match="is only ever added to"),
            records.database.writing() as connection,
        ):
            connection.exec_driver_sql(statement)
    assert records.verify().fits
    with records.database.writing() as connection:
        for trigger in triggers(connection.dialect.name):
            table = re.sub("_(only_added|no_update|no_delete|at_its_end)$", "", trigger)
            on = "" if records.database.is_sqlite else f" ON {table}"
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}{on}")
    assert "which refuses changes, was removed" in records.verify().misfit.message  # type: ignore[union-attr]
    with records.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {name} SET score = 0.5 WHERE id = 2")
    assert records.verify().misfit == Misfit(4, "inspection 2 was changed after entry 4 was written")


def test_threads_do_not_fork_the_chain(records: Records) -> None:
    def line(number: int) -> None:
        session = records.unattended(f"line {number}")
        for _ in range(5):
            records.add(session, verdict(), CLIP, image=b"%d" % number)

    with ThreadPoolExecutor(4) as pool:
        lines = [pool.submit(line, number) for number in range(4)]
        assert all(records.verify().fits for _ in range(3))  # meanwhile
        assert [entry.result() for entry in lines] == [None] * 4
    found = records.verify()
    assert (found.misfit, found.anchor.entries, found.pictures) == (None, 25, 4)


def brought(sequence: int, **changes: object) -> LineResult:
    """Result ``sequence`` of a line."""
    at = datetime(2026, 3, 2, 6, tzinfo=UTC) + timedelta(seconds=sequence)
    result = LineResult(
        "a1b2c3", sequence, f"A{sequence}", at, verdict(), CLIP, f"in/{sequence}.png", "5a" * 32
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def test_what_a_line_brings_is_recorded_once(records: Records) -> None:
    session = records.unattended("line 3")
    assert records.add_from_line(session, [brought(1), brought(2, image=b"photo", overlay=b"heat")]) == 2
    assert (
        records.add_from_line(session, [brought(number) for number in (1, 2, 4)]) == 1
    )  # 3 could not be inspected
    assert records.add_from_line(records.unattended("line 3"), [brought(4)]) == 0
    assert records.add_from_line(session, []) == 0
    assert records.add_from_line(session, [brought(1, line="another")]) == 1
    first, second, third, other = records.each()
    assert [(row.line, row.sequence, row.part) for row in (first, second, third, other)] == [
        ("a1b2c3", 1, "A1"), ("a1b2c3", 2, "A2"), ("a1b2c3", 4, "A4"), ("another", 1, "A1")]  # fmt: skip
    assert (first.at, first.who, first.image_hash) == (brought(1).at, "line 3", "5a" * 32)
    assert records.picture(second.image_hash) == b"photo"
    assert records.picture(second.overlay_hash) == b"heat"
    assert records.picture(first.image_hash) is None
    assert records.verify().fits


def test_the_database_refuses_a_result_that_is_there(records: Records) -> None:
    session = records.unattended("line 3")
    records.add_from_line(session, [brought(1)])
    with pytest.raises(AndonError, match="cannot be used"):
        with records.database.writing() as connection:
            rows.add_inspection(connection, session, verdict(), CLIP, "1.png", "", Kept(), Kept(), brought(1))
    assert records.verify().fits


def test_migrations_make_the_tables_that_the_code_knows(records: Records) -> None:
    from sqlalchemy import inspect

    with records.database.reading() as connection:
        for table in METADATA.sorted_tables:
            made = {
                column["name"]: column["nullable"] for column in inspect(connection).get_columns(table.name)
            }
            known = {column.name: column.nullable for column in table.columns}
            if records.database.is_sqlite and "id" in made:
                made["id"] = False  # what numbers the rows is never NULL there, without saying so
            assert made == known, table.name


def test_what_is_asked_can_be_said_to_postgresql() -> None:
    """Where no server is at hand: the longest query is at least compiled for it."""
    from sqlalchemy.dialects import postgresql as dialect

    every = Filters("a", "b", ("fail",), ("pass",), True, now(), now(), "c", "d")
    query = queries.with_last_word(queries.last_verdict()).where(queries.chosen(every))
    text = str(query.compile(dialect=dialect.dialect()))
    assert "LEFT OUTER JOIN andon_decisions AS last ON last.id = (SELECT max(andon_decisions.id)" in text
    assert all(";" not in step.format(number="").replace(";\n", "") for step in STEPS)


def test_an_artefact_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "clip.andon").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert ArtifactName.of(tmp_path / "clip.andon") == ArtifactName("clip", known)
    with pytest.raises(ArtifactError, match="cannot read .*none.andon: No such file"):
        ArtifactName.of(tmp_path / "none.andon")


def test_limits_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected count above 0, or None for no limit; got 0"):
        open_records(tmp_path / "station.db", limits=Limits(count=0))


def test_a_disagreed_verdict_is_its_opposite() -> None:
    assert [rows.verdict_of("disagree", said) for said in ("pass", "fail")] == ["fail", "pass"]
