"""Who may write: accounts, logins with bounded attempts, and sessions.

Passwords are hashed by argon2-cffi with its defaults (Argon2id, RFC 9106). An account is the newest of the rows with its
name; a change adds a row, so that the trail can name every state. A name that does not exist costs the same time, and
is locked in the same way, as one that does.
"""

from __future__ import annotations

import getpass
import re
import secrets
import unicodedata
from datetime import timedelta
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from andon.errors import AccessError, DataError, MissingExtraError, SettingsError
from andon.records import trail
from andon.records.database import Database
from andon.records.entries import ROLES, Proof, Role, Session, User
from andon.records.moments import moment, now, stamp
from andon.records.rows import plain, told
from andon.records.schema import ATTEMPTS, PASSWORDS, SESSIONS, USERS

MOST_ATTEMPTS = 5  # wrong passwords in a row, then the name is locked
LOCKED = timedelta(minutes=5)
SHORTEST, LONGEST = 8, 256  # letters of a password
_NAME = re.compile(r"[\w.@-]{1,64}")


def login(database: Database, name: str, password: str) -> Session:
    """A session of the account. Raises :class:`AccessError`."""
    row = _proven(database, name, password)
    return begin_session(database, row["name"], row["role"], "password", row["id"])


def anonymous(database: Database) -> Session:
    """A session of nobody. Raises :class:`AccessError` where there ever was an account."""
    return begin_session(database, "nobody", "engineer", "nobody")


def console(database: Database) -> Session:
    """A session of the operating system's user, who can read and write the database anyway."""
    return begin_session(database, f"{_system_user()} (command line)", "engineer", "console")


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "somebody"


def begin_session(
    database: Database, who: str, role: Role, proof: Proof, account: int | None = None
) -> Session:
    """A new session, written down. Raises :class:`AccessError` where it may not begin."""
    session = Session(secrets.token_hex(16), plain(who), role, proof, now(), account)
    with database.writing() as connection:
        check(connection, session)
        values = {
            "at": stamp(session.at),
            "who": session.who,
            "token": session.token,
            "role": role,
            "proof": proof,
        }
        number = _inserted(connection.execute(insert(SESSIONS).values(**values)))
        trail.append(connection, who=session.who, kind="login", thing="session", thing_id=number)
    return session


def _inserted(result: Any) -> int:
    return int(result.inserted_primary_key[0])


def logout(database: Database, session: Session) -> None:
    """Write down that a session has ended."""
    with database.writing() as connection:
        trail.append(connection, who=session.who, kind="logout", details={"session": session.token})


def check(connection: Connection, session: Session, *roles: Role) -> None:
    """Raise :class:`AccessError` unless the session is still good, and its role one of ``roles`` (any if none)."""
    if roles and session.role not in roles:
        raise AccessError(f"{session.who} may not do this: it is for {' and '.join(f'{r}s' for r in roles)}")
    if session.proof == "nobody" and connection.execute(select(USERS.c.id).limit(1)).first():
        raise AccessError("there are accounts now: log in with a name and a password")
    if session.proof == "password":
        row = _account(connection, session.who)
        if row is None or row["id"] != session.account:
            raise AccessError(f"the account of {session.who} was changed since the login: log in again")


def has_users(database: Database) -> bool:
    """Whether there ever was an account."""
    with database.reading() as connection:
        return connection.execute(select(USERS.c.id).limit(1)).first() is not None


def users(database: Database) -> list[User]:
    """The accounts that can log in, by name."""
    with database.reading() as connection:
        return [User(row["name"], row["role"], moment(row["at"]), row["who"]) for row in accounts(connection)]


def accounts(connection: Connection) -> list[RowMapping]:
    """The newest row of each account that is not closed, by name."""
    newest = select(func.max(USERS.c.id)).group_by(USERS.c.name)
    query = select(USERS).where(USERS.c.id.in_(newest), USERS.c.active).order_by(USERS.c.name)
    return list(connection.execute(query).mappings())


def add_user(database: Database, by: Session, name: str, password: str, role: Role) -> None:
    """Make an account. Raises :class:`SettingsError` for a name, password or role that will not do."""
    name, password = _name(name), _password(password, name)
    if role not in ROLES:
        raise SettingsError(f"expected one of {', '.join(ROLES)} as a role, got {role!r}")
    hashed = _hasher().hash(password)
    with database.writing() as connection:
        check(connection, by, "engineer")
        if _account(connection, name) is not None:
            raise SettingsError(f"there is an account of {name} already. Give another name, or remove it first.")  # fmt: skip
        _change(connection, by, name, role, hashed, "added")


def set_password(database: Database, by: Session, name: str, password: str, current: str | None) -> None:
    """Another password. Raises :class:`AccessError` for somebody else's, or one's own without the current one."""
    name, password = _name(name), _password(password, name)
    if by.role != "engineer" or by.who == name:
        _check_own(database, by, name, current)
    hashed = _hasher().hash(password)
    with database.writing() as connection:
        check(connection, by)
        _change(connection, by, name, _existing(connection, name)["role"], hashed, "password")
        connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.name == name))


def _check_own(database: Database, by: Session, name: str, current: str | None) -> None:
    if by.proof != "password" or by.who != name:
        raise AccessError(f"{by.who} may not change the password of {name}: it is for engineers")
    if current is None:
        raise AccessError("give the current password, too")
    _proven(database, name, current)


def remove_user(database: Database, by: Session, name: str) -> None:
    """Close an account. Raises :class:`DataError` where there is none, :class:`SettingsError` for the last engineer."""
    name = _name(name)
    with database.writing() as connection:
        check(connection, by, "engineer")
        row = _existing(connection, name)
        engineers = [account["name"] for account in accounts(connection) if account["role"] == "engineer"]
        if engineers == [name]:
            raise SettingsError(f"{name} is the last engineer. Add another one first.")
        _change(connection, by, name, row["role"], None, "removed")


def _change(
    connection: Connection, by: Session, name: str, role: Role, hashed: str | None, what: str
) -> None:
    """Add a row for the account's new state; without a password's hash it is closed."""
    connection.execute(delete(PASSWORDS).where(PASSWORDS.c.name == name))
    if hashed is not None:
        connection.execute(insert(PASSWORDS).values(name=name, hash=hashed))
    secret = trail.digest(hashed or "")
    values = {
        **told(by),
        "name": name,
        "role": role,
        "active": hashed is not None,
        "password_digest": secret,
    }
    number = _inserted(connection.execute(insert(USERS).values(**values)))
    trail.append(connection, who=by.who, kind="user", thing="user", thing_id=number, details={"name": name, "what": what})  # fmt: skip


def _account(connection: Connection, name: str) -> RowMapping | None:
    """The newest row of an account, None where there is none or it is closed."""
    query = select(USERS).where(USERS.c.name == name).order_by(USERS.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return row if row and row["active"] else None


def _existing(connection: Connection, name: str) -> RowMapping:
    row = _account(connection, name)
    if row is None:
        raise DataError(f"there is no account of {name}")
    return row


def _proven(database: Database, name: str, password: str) -> RowMapping:
    """The account whose password this is. Raises :class:`AccessError`, also when there were too many wrong ones."""
    key = unicodedata.normalize("NFKC", name).strip().casefold()[:64]
    with database.writing() as connection:
        _count_attempt(connection, key)  # before the password is looked at, or many at once would pass
        row = _account(connection, key)
        stored = connection.execute(select(PASSWORDS.c.hash).where(PASSWORDS.c.name == key)).scalar()
    nobody = _nobodys_hash()  # made on the first call, whoever asks
    right = _matches(stored if row and stored else nobody, password)
    with database.writing() as connection:
        if row is not None and right:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.name == key))
            return row
        details = {"name": row["name"] if row else "(unknown)"}  # a password may have been typed for a name
        trail.append(connection, who=details["name"], kind="refused", details=details)
    raise AccessError("the name or the password is wrong")


def _count_attempt(connection: Connection, key: str) -> None:
    """Count this attempt as wrong until it proves right. Raises :class:`AccessError` where there were too many."""
    moment_now = now()
    connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.at < stamp(moment_now - LOCKED)))
    found = connection.execute(select(ATTEMPTS).where(ATTEMPTS.c.name == plain(key))).first()
    if found is None:
        connection.execute(insert(ATTEMPTS).values(name=plain(key), failures=1, at=stamp(moment_now)))
        return
    if found.failures >= MOST_ATTEMPTS:
        left = LOCKED - (moment_now - moment(found.at))
        raise AccessError(f"too many wrong passwords: try again in {max(1, int(left.total_seconds()))} s, or ask an engineer for a new one")  # fmt: skip
    again = update(ATTEMPTS).where(ATTEMPTS.c.name == plain(key))
    connection.execute(again.values(failures=found.failures + 1, at=stamp(moment_now)))


def _name(name: str) -> str:
    key = unicodedata.normalize("NFKC", name).strip().casefold()
    if not _NAME.fullmatch(key):
        raise SettingsError(f"expected a name of 1 to 64 letters, digits and . _ - @, got {name!r}")
    return key


def _password(password: str, name: str) -> str:
    text = _normal(password)
    if not SHORTEST <= len(text) <= LONGEST:
        raise SettingsError(f"expected a password of {SHORTEST} to {LONGEST} letters, got {len(text)}")
    if text.casefold() == name:
        raise SettingsError("the password is the name: choose another one")
    return text


def _normal(password: str) -> str:
    """One spelling of what keyboards spell in several ways (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _matches(stored: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return cast(bool, _hasher().verify(stored, _normal(password)[: LONGEST + 1]))
    except (VerificationError, InvalidHashError):
        return False


@cache
def _hasher() -> Any:
    try:
        from argon2 import PasswordHasher
    except ImportError as error:
        raise MissingExtraError("argon2-cffi", extra="records", purpose="hashing passwords") from error
    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    """What the password of a name that does not exist is compared with."""
    return cast(str, _hasher().hash(secrets.token_hex(16)))
