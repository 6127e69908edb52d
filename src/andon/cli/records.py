"""``andon records``: what a station wrote down, its proof, and what leaves it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from andon.cli.common import check_outputs, shown
from andon.files import check_folder

if TYPE_CHECKING:
    from andon.records import Filters, Records, TrailEntry

Command = TypeVar("Command", bound=Callable[..., Any])
DECISIONS = ("pass", "review", "fail")
ENVIRONMENT = "ANDON_RECORDS"


def with_records(function: Command) -> Command:
    """The argument and the option that say where records are."""
    function = click.option(
        "--pictures",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where the pictures are. Default: beside the file; PostgreSQL has none.",
    )(function)
    return click.argument("where", metavar="WHERE", envvar=ENVIRONMENT)(function)


def to_records(function: Command) -> Command:
    """The options of a command that adds its verdicts to records."""
    function = click.option(
        "--pictures",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where records keep pictures. Default: beside the file; PostgreSQL has none.",
    )(function)
    return click.option(
        "--records",
        envvar=ENVIRONMENT,
        show_envvar=True,
        metavar="WHERE",
        help="Add every verdict to these records, as andon app keeps them: an SQLite file or a URL (andon[records]).",
    )(function)


def opened(where: str, pictures: Path | None) -> Records:
    """The records that are there already."""
    from andon.records import open_records

    return open_records(where, pictures=pictures, create=False)


@click.group("records", short_help="What was written down, and the proof that it is unchanged.")
def command() -> None:
    """What the operators' page and the line wrote down: verdicts, decisions, changes, and the audit trail.

    WHERE is an SQLite file or an URL, such as postgresql://andon@db.plant/station3. It can be left out where the
    environment variable ANDON_RECORDS says it, which also keeps a password out of the list of processes.

    \b
    Examples:
      andon records verify station.db --anchor /media/audit/station.anchor
      andon records export station.db -o monday.csv --since 2026-03-02 --until 2026-03-03
      andon records prune station.db --days 90
    """


@command.command("verify")
@with_records
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare with the trail's end kept here, then keep the new end; begun where there is none.",
)
@click.option("--no-pictures", is_flag=True, help="Do not read the pictures' files.")
@click.option("--json", "as_json", is_flag=True, help="What was found, as JSON.")
def verify(where: str, pictures: Path | None, anchor: Path | None, no_pictures: bool, as_json: bool) -> int:
    """Prove that nothing was changed or removed; or say the first thing that was.

    Without an anchor, kept where those who can write the records cannot write, entries cut off at the end are not
    noticed, nor a trail that was written anew as a whole.

    \b
    Exit status: 0 everything fits, 1 something does not

    \b
    Examples:
      andon records verify station.db
      andon records verify station.db --anchor /media/audit/station.anchor
    """
    from andon.records.verifying import read_anchor, save_anchor

    check_outputs(anchor)
    before = read_anchor(anchor) if anchor is not None and anchor.exists() else None
    with opened(where, pictures) as records:
        found = records.verify(before, pictures=not no_pictures)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1, default=str))
    elif found.misfit is not None:
        click.secho(f"Does not fit: {found.misfit.message}", fg="red", err=True)
    else:
        against = (
            f", and go on from the {before.entries:,} of {before.at:%Y-%m-%d %H:%M} UTC" if before else ""
        )
        click.echo(
            f"All {found.anchor.entries:,} entries fit{against}; looked at {found.rows:,} rows and "
            f"{found.pictures:,} pictures. Last hash: {found.anchor.hash}"
        )
    if anchor is not None and found.fits:
        save_anchor(found.anchor, anchor)
        click.echo(f"The trail's end is kept in {anchor}.", err=True)
    return int(not found.fits)


@command.command("export")
@with_records
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The table to write (CSV); - prints it.")  # fmt: skip
@click.option("--images", type=click.Path(path_type=Path), metavar="DIR", help="Copy the photographs into this folder.")  # fmt: skip
@click.option("--decision", "decisions", type=click.Choice(DECISIONS), multiple=True, help="What the detector said; may be given several times.")  # fmt: skip
@click.option("--verdict", "verdicts", type=click.Choice(DECISIONS), multiple=True, help="What a person said last; may be given several times.")  # fmt: skip
@click.option("--decided/--undecided", default=None, help="Only with, or only without a person's decision.")
@click.option("--artifact", metavar="NAME", help="Only this detector's.")
@click.option("--since", type=click.DateTime(), metavar="TIME", help="From this time on, by this computer's clock: 2026-03-02, or 2026-03-02T06:00:00.")  # fmt: skip
@click.option("--until", type=click.DateTime(), metavar="TIME", help="Before this time.")
def export(where: str, pictures: Path | None, output: Path | None, images: Path | None, **chosen: Any) -> int:
    """Write inspections as a table, and their photographs into a folder.

    \b
    Exit status: 0 all is written, 1 some photographs are not kept (any more)

    \b
    Examples:
      andon records export station.db -o monday.csv --since 2026-03-02 --until 2026-03-03
      andon records export station.db --verdict pass --images new-good/     # to fit again with
      andon records export station.db --verdict fail --images defects/ -o defects.csv
    """
    if output is None and images is None:
        raise click.UsageError("nothing to write: give --output or --images")
    to_stdout = str(output) == "-"
    check_outputs(None if to_stdout else output)
    if images is not None:
        check_folder(images)
    filters = _filters(**chosen)
    missing: Sequence[int] = ()
    with opened(where, pictures) as records:
        if output is not None:
            count = records.write_csv(sys.stdout if to_stdout else output, filters)
            click.echo(f"{count:,} inspections written", err=True)
        if images is not None:
            missing = records.save_images(records.each(filters), images)
    if missing:
        said = f"{len(missing):,} photographs are not kept, the first of them of inspection {missing[0]}"
        click.secho(said, fg="yellow", err=True)
    return int(bool(missing))


def _filters(
    decisions: tuple[Any, ...], verdicts: tuple[Any, ...], decided: bool | None, artifact: str | None,
    since: datetime | None, until: datetime | None,
) -> Filters:  # fmt: skip
    from andon.records import Filters

    return Filters(
        artifact=artifact,
        decisions=decisions,
        verdicts=verdicts,
        decided=decided,
        since=since.astimezone() if since else None,
        until=until.astimezone() if until else None,
    )


@command.command("prune")
@with_records
@click.option(
    "--days", type=click.FloatRange(0, min_open=True), help="Keep pictures inspected within so many days."
)
@click.option("--count", type=click.IntRange(1), help="Keep so many pictures at most.")
@click.option(
    "--gb", type=click.FloatRange(0, min_open=True), help="Keep so many gigabytes (10^9 bytes) at most."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def prune(
    where: str, pictures: Path | None, days: float | None, count: int | None, gb: float | None, yes: bool
) -> None:
    """Remove the oldest pictures; rows and trail stay.

    The trail says which pictures were removed. Also removes files that a killed process left behind.

    \b
    Example:
      andon records prune station.db --days 90 --gb 50
    """
    from andon.records import Limits

    if days is None and count is None and gb is None:
        raise click.UsageError("say what to keep: give --days, --count or --gb")
    limits = Limits(total_bytes=None if gb is None else int(gb * 1e9), count=count, days=days)
    with opened(where, pictures) as records:
        if not yes:
            click.confirm(f"Remove the oldest pictures of {records.database.shown} for good?", abort=True)
        done = records.prune(records.console(), limits)
    click.echo(f"{done.pictures:,} pictures removed, {done.bytes / 1e6:,.1f} MB")


@command.command("trail")
@with_records
@click.option(
    "-n", "--last", "most", type=click.IntRange(1), default=20, show_default=True, help="So many entries."
)
def trail(where: str, pictures: Path | None, most: int) -> None:
    """Print the last entries of the audit trail, oldest first.

    \b
    Example:
      andon records trail station.db -n 100
    """
    with opened(where, pictures) as records:
        for entry in reversed(records.trail(most=most)):
            click.echo(_entry_line(entry))


def _entry_line(entry: TrailEntry) -> str:
    thing = f" {entry.thing} {entry.thing_id}" if entry.thing else ""
    said = {name: value for name, value in entry.details.items() if name != "hashes"}
    more = "".join(f" {name}={value}" for name, value in said.items())
    return shown(f"{entry.seq:>8,}  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.kind:<9} {entry.who}:{thing}{more}")
