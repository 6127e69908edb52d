"""``andon users``: who may log in to the operators' page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from andon.cli.records import ENVIRONMENT, opened
from andon.records import ROLES, Role, open_records

Command = TypeVar("Command", bound=Callable[..., Any])


def with_records(function: Command) -> Command:
    """The option that says where the accounts are."""
    return click.option(
        "--records",
        "where",
        required=True,
        envvar=ENVIRONMENT,
        show_envvar=True,
        metavar="WHERE",
        help="The records: an SQLite file, or an URL such as postgresql://andon@db.plant/station3.",
    )(function)


@click.group("users")
def command() -> None:
    """Accounts of the operators' page. Whoever can run this command on the records needs no account for it.

    Operators inspect and decide; engineers also change thresholds, zones and accounts. Passwords are asked for, or read
    as one line from standard input; never given as an argument.

    \b
    Examples:
      andon users add anna --role engineer --records station.db
      andon users list --records station.db
    """


@command.command("add")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), default="operator", show_default=True, help="What they may do."
)
@with_records
def add(name: str, role: Role, where: str) -> None:
    """Make an account; the records are begun where there are none.

    \b
    Examples:
      andon users add anna --role engineer --records station.db
      andon users add bob --records station.db < password.txt
    """
    with open_records(where) as records:
        password = _password(f"Password for {name}")
        records.add_user(records.console(), name, password, role)
    click.echo(f"{name} can log in as {role}")


@command.command("list")
@with_records
def list_(where: str) -> None:
    """Print who can log in, as what, and since when.

    \b
    Example:
      andon users list --records station.db
    """
    with opened(where, None) as records:
        users = records.users()
    for user in users:
        click.echo(f"{user.name:<24} {user.role:<9} {user.since:%Y-%m-%d %H:%M} UTC by {user.by}")
    if not users:
        click.echo("There are no accounts. Make one with: andon users add NAME --role engineer", err=True)


@command.command("remove")
@click.argument("name")
@with_records
def remove(name: str, where: str) -> None:
    """Close an account; what it wrote stays.

    That ends its sessions.

    \b
    Example:
      andon users remove bob --records station.db
    """
    with opened(where, None) as records:
        records.remove_user(records.console(), name)
    click.echo(f"{name} cannot log in any more")


@command.command("password")
@click.argument("name")
@with_records
def password(name: str, where: str) -> None:
    """Give an account another password.

    That ends its sessions, and unlocks it after too many wrong ones.

    \b
    Example:
      andon users password bob --records station.db
    """
    with opened(where, None) as records:
        records.set_password(records.console(), name, _password(f"New password for {name}"))
    click.echo(f"{name} has a new password")


def _password(question: str) -> str:
    """A password from the terminal, twice and unseen, or the first line of standard input where it is no terminal."""
    if sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt(question, hide_input=True, confirmation_prompt=True))
    line = sys.stdin.readline() if sys.stdin is not None else ""
    return line.rstrip("\r\n")
