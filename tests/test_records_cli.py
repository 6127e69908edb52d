"""``andon records`` and ``andon users``: proofs, tables, pruning, accounts; what they print and how they end."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from andon.cli.records import command as records_command
from andon.cli.users import command as users_command
from andon.errors import AccessError, AndonError, DataError, SettingsError
from andon.records import open_records
from records_help import CLIP, PASSWORD, verdict

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(quick_records: None) -> Say:
    """Run a command: exit status, standard output, standard error; an AndonError is raised."""

    def run(*arguments: object, typed: str = "") -> tuple[int, str, str]:
        group, *rest = map(str, arguments)
        command = {"records": records_command, "users": users_command}[group]
        done = CliRunner().invoke(command, rest, input=typed, standalone_mode=False)
        if isinstance(done.exception, AndonError):
            raise done.exception
        return done.return_value or 0 if done.exception is None else 2, done.stdout, done.stderr

    return run


@pytest.fixture
def place(tmp_path: Path, quick_records: None) -> Path:
    """Records with three inspections, the first decided upon."""
    with open_records(tmp_path / "station.db") as records:
        session = records.anonymous()
        for number in range(3):
            records.add(session, verdict(name=f"{number}.png"), CLIP, image=b"photo%d" % number)
        records.decide(session, 1, "disagree", "dust")
    return tmp_path / "station.db"


def test_verify_keeps_an_anchor(say: Say, place: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "elsewhere" / "station.anchor"
    status, out, err = say("records", "verify", place, "--anchor", anchor)
    assert (status, err) == (0, f"The trail's end is kept in {anchor}.\n")
    assert out.startswith("All 6 entries fit; looked at 5 rows and 3 pictures. Last hash: ")
    say("users", "add", "anna", "--records", place, typed=PASSWORD)
    status, out, _ = say("records", "verify", place, "--anchor", anchor)
    assert status == 0
    assert out.startswith("All 8 entries fit, and go on from the 6 of 20")
    assert json.loads(anchor.read_text())["andon_anchor"]["entries"] == 8


def test_verify_says_what_does_not_fit_and_leaves_the_anchor(say: Say, place: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "station.anchor"
    say("records", "verify", place, "--anchor", anchor)
    before = anchor.read_bytes()
    connection = sqlite3.connect(place)
    connection.execute("DROP TRIGGER andon_inspections_no_update")
    connection.execute("UPDATE andon_inspections SET decision = 'pass' WHERE id = 2")
    connection.commit()
    connection.close()
    status, out, err = say("records", "verify", place, "--anchor", anchor)
    assert (status, out, err) == (1, "", "Does not fit: inspection 2 was changed after entry 4 was written\n")
    assert anchor.read_bytes() == before
    status, out, _ = say("records", "verify", place, "--json", "--no-pictures")
    assert (status, json.loads(out)["misfit"]["seq"]) == (1, 4)


def test_export_writes_what_was_chosen(say: Say, place: Path, tmp_path: Path) -> None:
    table, folder = tmp_path / "all.csv", tmp_path / "good"
    status, out, err = say("records", "export", place, "-o", table, "--images", folder, "--verdict", "pass")
    assert (status, out, err) == (0, "", "1 inspections written\n")
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["image"], row["decision"], row["verdict"], row["note"]) == ("0.png", "fail", "pass", "dust")
    assert [path.name for path in folder.iterdir()] == ["000001_0.png"]
    _, out, _ = say(
        "records", "export", place, "-o", "-", "--undecided", "--since", "2026-01-01", "--decision", "fail"
    )
    assert [row["id"] for row in csv.DictReader(out.splitlines())] == ["2", "3"]
    _, out, _ = say("records", "export", place, "-o", "-", "--until", "2026-01-01")
    assert len(out.splitlines()) == 1


def test_export_says_what_is_not_kept_any_more(say: Say, place: Path, tmp_path: Path) -> None:
    assert say("records", "prune", place, "--count", 2, "--yes")[1] == "2 pictures removed, 0.0 MB\n"
    status, _, err = say("records", "export", place, "--images", tmp_path / "photos")
    assert (status, err) == (1, "2 photographs are not kept, the first of them of inspection 1\n")
    assert "prune     " in say("records", "trail", place)[1]


def test_prune_asks_first(say: Say, place: Path) -> None:
    assert say("records", "prune", place, "--days", 1, typed="n\n")[0] == 2
    assert say("records", "verify", place)[0] == 0
    assert "3 pictures" in say("records", "verify", place)[1]
    assert say("records", "prune", place, "--gb", "1e-9", typed="y\n")[1].endswith(
        "3 pictures removed, 0.0 MB\n"
    )


def test_the_trail_as_lines(say: Say, place: Path) -> None:
    _, out, _ = say("records", "trail", place, "-n", 2)
    assert [line.split()[0] for line in out.splitlines()] == ["5", "6"]
    assert out.splitlines()[1].endswith("decision  nobody: decision 1")


def test_accounts(say: Say, tmp_path: Path) -> None:
    at = ("--records", tmp_path / "new.db")
    assert (
        say("users", "add", "Anna", "--role", "engineer", *at, typed=f"{PASSWORD}\r\n")[1]
        == "Anna can log in as engineer\n"
    )
    assert say("users", "add", "ben", *at, typed=PASSWORD)[0] == 0
    names = [line.split()[:2] for line in say("users", "list", *at)[1].splitlines()]
    assert names == [["anna", "engineer"], ["ben", "operator"]]
    assert say("users", "password", "ben", *at, typed="another one")[1] == "ben has a new password\n"
    with open_records(tmp_path / "new.db") as records:
        assert records.login("ben", "another one").role == "operator"
        with pytest.raises(AccessError):
            records.login("ben", PASSWORD)
    assert say("users", "remove", "ben", *at)[1] == "ben cannot log in any more\n"
    assert say("records", "verify", tmp_path / "new.db")[0] == 0


def test_no_accounts_yet(say: Say, place: Path) -> None:
    assert say("users", "list", "--records", place)[2].startswith(
        "There are no accounts. Make one with: andon users"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("records", "verify", "{folder}/none.db"), DataError, "there are no records in"),
        (("records", "verify", "{place}", "--anchor", "{place}"), DataError, "holds no anchor"),
        (("records", "verify", "{place}", "--anchor", "x.png"), SettingsError, "named like a photograph"),
        (("records", "export", "{place}", "-o", "x.andon"), SettingsError, "named like a detector"),
        (("users", "list", "--records", "{folder}/none.db"), DataError, "there are no records in"),
        (("users", "remove", "carl", "--records", "{place}"), DataError, "there is no account of carl"),
        (
            ("users", "add", "carl", "--records", "{place}"),
            SettingsError,
            "a password of 8 to 256 letters, got 0",
        ),
    ],
)
def test_what_cannot_be_is_said(
    say: Say, place: Path, tmp_path: Path, arguments: tuple[str, ...], error: type[AndonError], message: str
) -> None:
    given = [word.replace("{folder}", str(tmp_path)).replace("{place}", str(place)) for word in arguments]
    with pytest.raises(error, match=message):
        say(*given)
    assert not (tmp_path / "none.db").exists()


def test_usage_errors(say: Say, place: Path) -> None:
    assert say("records", "export", place)[0] == 2
    assert say("records", "prune", place)[0] == 2
    assert say("users", "add", "carl")[0] == 2


def test_the_place_from_the_environment(say: Say, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDON_RECORDS", str(place))
    assert say("records", "verify")[0] == 0
    assert say("users", "list")[0] == 0


def test_no_password_can_be_given_as_an_argument() -> None:
    for name in ("add", "password"):
        command = users_command.commands[name]
        assert {parameter.name for parameter in command.params} <= {"name", "role", "where"}
