"""Accounts: passwords, roles, locks, and sessions that end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from andon.errors import AccessError, AndonError, DataError, SettingsError
from andon.records import Records, accounts, open_records
from andon.records.moments import now
from records_help import CLIP, PASSWORD, verdict

OTHER = "battery staple"


@pytest.fixture
def records(tmp_path: Path, quick_records: None) -> Iterator[Records]:
    with open_records(tmp_path / "station.db") as opened:
        yield opened


@pytest.fixture
def staffed(records: Records) -> Records:
    records.add_user(records.console(), "Anna", PASSWORD, "engineer")
    records.add_user(records.console(), "ben", OTHER, "operator")
    return records


def test_a_login_says_who_it_is(staffed: Records) -> None:
    session = staffed.login(" ANNA ", PASSWORD)
    assert (session.who, session.role, session.proof) == ("anna", "engineer", "password")
    assert [(user.name, user.role) for user in staffed.users()] == [("anna", "engineer"), ("ben", "operator")]
    entry = staffed.trail(most=1)[0]
    assert (entry.kind, entry.thing, entry.who) == ("login", "session", "anna")


@pytest.mark.parametrize(
    ("name", "password"), [("anna", OTHER), ("carl", PASSWORD), ("", ""), ("anna", "x" * 10_000)]
)
def test_a_wrong_one_does_not_say_which_was_wrong(staffed: Records, name: str, password: str) -> None:
    with pytest.raises(AccessError, match="^the name or the password is wrong$"):
        staffed.login(name, password)
    entry = staffed.trail(most=1)[0]
    known = "anna" if name == "anna" else "(unknown)"  # never what was typed: it may be a password
    assert (entry.kind, entry.who, entry.details) == ("refused", known, {"name": known})


@pytest.mark.parametrize("name", ["anna", "nobody-there"])
def test_five_wrong_ones_lock_the_name_for_a_while(
    staffed: Records, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(accounts.MOST_ATTEMPTS):
        with pytest.raises(AccessError, match="is wrong"):
            staffed.login(name, "not this one")
    entries = staffed.verify().anchor.entries
    with pytest.raises(AccessError, match="too many wrong passwords: try again in (299|300) s"):
        staffed.login(name, PASSWORD)
    assert staffed.verify().anchor.entries == entries  # a locked name cannot fill the trail
    assert staffed.login("ben", OTHER)
    later = now() + accounts.LOCKED + timedelta(seconds=1)
    monkeypatch.setattr(accounts, "now", lambda: later)
    if name == "anna":
        assert staffed.login(name, PASSWORD)


def test_a_right_one_forgets_the_wrong_ones(staffed: Records) -> None:
    for _ in range(3):
        for _ in range(accounts.MOST_ATTEMPTS - 1):
            with pytest.raises(AccessError, match="is wrong"):
                staffed.login("anna", "not this one")
        staffed.login("anna", PASSWORD)


def test_an_engineer_unlocks_by_a_new_password(staffed: Records) -> None:
    for _ in range(accounts.MOST_ATTEMPTS):
        with pytest.raises(AccessError):
            staffed.login("ben", "not this one")
    staffed.set_password(staffed.login("anna", PASSWORD), "ben", "a third one")
    assert staffed.login("ben", "a third one")


def test_a_name_that_does_not_exist_costs_the_same_time(tmp_path: Path) -> None:
    """With the real hash, whose cost is the point."""
    with open_records(tmp_path / "station.db") as records:
        records.add_user(records.console(), "anna", PASSWORD, "engineer")
        seconds = {}
        for name in ("warm up", "anna", "carl"):
            start = time.process_time()
            with pytest.raises(AccessError):
                records.login(name, "not this one")
            seconds[name] = time.process_time() - start
    assert 0.4 < seconds["carl"] / seconds["anna"] < 2.5


def test_passwords_are_hashed_as_one_should() -> None:
    """Argon2id with at least the memory and passes that RFC 9106 recommends second."""
    accounts._hasher.cache_clear()
    hasher = accounts._hasher()
    assert hasher.type.name == "ID"
    assert (hasher.memory_cost, hasher.time_cost) >= (65536, 3)


def test_no_password_is_written_anywhere(staffed: Records, tmp_path: Path) -> None:
    staffed.login("anna", PASSWORD)
    staffed.close()
    for path in tmp_path.rglob("*"):
        assert PASSWORD.encode() not in (path.read_bytes() if path.is_file() else b"")


def test_only_its_owner_reads_the_file(staffed: Records, tmp_path: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("station.db*") if path.is_file()} == {0o600}


def test_keyboards_that_spell_differently(records: Records) -> None:
    records.add_user(records.console(), "jörg", "schlüssel-ﬁsch", "engineer")
    assert records.login("jo\u0308rg", "schlu\u0308ssel-fisch").who == "jörg"


def test_a_changed_account_ends_its_sessions(staffed: Records) -> None:
    anna, ben = staffed.login("anna", PASSWORD), staffed.login("ben", OTHER)
    assert staffed.add(ben, verdict(), CLIP) == 1
    staffed.set_password(anna, "ben", "a third one")
    with pytest.raises(AccessError, match="the account of ben was changed since the login: log in again"):
        staffed.add(ben, verdict(), CLIP)
    ben = staffed.login("ben", "a third one")
    staffed.check(ben, "operator")
    staffed.remove_user(anna, "ben")
    with pytest.raises(AccessError, match="log in again"):
        staffed.decide(ben, 1, "pass")
    with pytest.raises(AccessError, match="is wrong"):
        staffed.login("ben", "a third one")
    staffed.add_user(anna, "ben", OTHER, "operator")
    assert staffed.login("ben", OTHER)
    assert staffed.verify().fits


def test_nobody_only_as_long_as_there_is_no_account(records: Records) -> None:
    nobody = records.anonymous()
    assert not records.has_users()
    records.add(nobody, verdict(), CLIP)
    records.add_user(nobody, "anna", PASSWORD, "engineer")
    for call in (records.anonymous, lambda: records.add(nobody, verdict(), CLIP)):
        with pytest.raises(AccessError, match="there are accounts now: log in with a name and a password"):
            call()
    assert records.has_users()


def test_ones_own_password_needs_the_current_one(staffed: Records) -> None:
    ben = staffed.login("ben", OTHER)
    with pytest.raises(AccessError, match="give the current password, too"):
        staffed.set_password(ben, "ben", "a third one")
    with pytest.raises(AccessError, match="is wrong"):
        staffed.set_password(ben, "ben", "a third one", "not this one")
    with pytest.raises(AccessError, match="ben may not change the password of anna"):
        staffed.set_password(ben, "anna", "a third one", OTHER)
    staffed.set_password(ben, "ben", "a third one", OTHER)
    assert staffed.login("ben", "a third one")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda r, s: r.add_user(s, "carl", "short", "operator"),
            SettingsError,
            "password of 8 to 256 letters, got 5",
        ),
        (lambda r, s: r.add_user(s, "carl", "x" * 257, "operator"), SettingsError, "letters, got 257"),
        (
            lambda r, s: r.add_user(s, "carlcarl", "CarlCarl", "operator"),
            SettingsError,
            "the password is the name",
        ),
        (
            lambda r, s: r.add_user(s, "anna", OTHER, "operator"),
            SettingsError,
            "there is an account of anna already",
        ),
        (lambda r, s: r.add_user(s, "a b", OTHER, "operator"), SettingsError, "got 'a b'"),
        (lambda r, s: r.add_user(s, "", OTHER, "operator"), SettingsError, "expected a name of 1 to 64"),
        (
            lambda r, s: r.add_user(s, "carl", OTHER, "line"),
            SettingsError,
            "expected one of operator, engineer",
        ),
        (lambda r, s: r.remove_user(s, "carl"), DataError, "there is no account of carl"),
        (lambda r, s: r.set_password(s, "carl", OTHER), DataError, "there is no account of carl"),
        (
            lambda r, s: r.remove_user(s, "anna"),
            SettingsError,
            "anna is the last engineer. Add another one first.",
        ),
        (
            lambda r, s: r.add_user(r.login("ben", OTHER), "carl", OTHER, "engineer"),
            AccessError,
            "it is for engineers",
        ),
        (lambda r, s: r.remove_user(r.login("ben", OTHER), "anna"), AccessError, "it is for engineers"),
    ],
)
def test_what_cannot_be_is_said(
    staffed: Records, call: Callable[..., object], error: type[AndonError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(staffed, staffed.login("anna", PASSWORD) if error is not AccessError else None)
    assert [user.name for user in staffed.users()] == ["anna", "ben"]
