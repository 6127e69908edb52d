"""``andon monitor``: what a line's monitor has noticed, and how its measures went."""

from __future__ import annotations

import json
from pathlib import Path

import click

from andon.artifact import read_artifact
from andon.cli.common import check_outputs, language_here
from andon.errors import SettingsError
from andon.files import check_writable, single_writer
from andon.runtime.monitor import Monitor, begin_monitor, read_monitor, save_monitor
from andon.runtime.monitor.events import advice, retell
from andon.runtime.monitor.tables import measures_table, summary_of
from andon.runtime.words import LANGUAGES, Words, counted, whole, words_of


@click.command("monitor")
@click.argument("state", metavar="STATE.json", type=click.Path(path_type=Path))
@click.option(
    "--new",
    type=click.Path(path_type=Path),
    metavar="ARTIFACT",
    help="Begin STATE.json for this detector, with the two options below.",
)
@click.option(
    "--false-alarm",
    type=float,
    help="Probability that a line without drift is ever said to drift. Default: 0.01.",
)
@click.option("--defect-rate", type=float, help="Share of defective parts that is no drift. Default: 0.05.")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    help="Of everything but the options. Default: this computer's.",
)
@click.option("--json", "as_json", is_flag=True, help="What was noticed, and every measure, as JSON.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Draw all measures over time into this PNG or SVG.",
)
def command(state: Path, new: Path | None, false_alarm: float | None, defect_rate: float | None, language: str | None,
            as_json: bool, output: Path | None) -> int:  # fmt: skip
    """Show what has drifted on a line, by how much and since when.

    STATE.json is what andon inspect --monitor keeps.

    \b
    Exit status: 0 nothing has drifted
                 1 something has

    \b
    Examples:
      andon inspect clip.andon photos/today --monitor line3.state.json
      andon monitor line3.state.json
      andon monitor line3.state.json -o line3.png --language de
      andon monitor line3.state.json --new clip.andon --false-alarm 0.001
    """
    check_writable(output)
    rates = {"false_alarm": false_alarm, "defect_rate": defect_rate}
    given = {name: rate for name, rate in rates.items() if rate is not None}
    if new is not None:
        _begin(state, new, given)
    elif given:
        raise click.UsageError(
            "--false-alarm and --defect-rate are for a file that is begun; give --new, too"
        )
    monitor, words = read_monitor(state), words_of(language or language_here())
    if output is not None:
        from andon.runtime.monitor.drawing import save_drawing

        save_drawing(monitor, output, words)
    if as_json:
        click.echo(json.dumps(summary_of(monitor, words), indent=1))
    else:
        images = counted(words, "summary.images", monitor.images)
        click.echo(f"{state}: {images}; {monitor.statement_in(words)}")
        click.echo("\n".join(measures_table(monitor, words)))
        say_drift(monitor, words)
    return int(bool(monitor.events))


def _begin(state: Path, artifact: Path, rates: dict[str, float]) -> None:
    check_outputs(state)
    with single_writer(state):
        if state.exists():
            raise SettingsError(
                f"{state} exists already, with all that it has seen. Give the name of a new file."
            )
        save_monitor(begin_monitor(read_artifact(artifact), **rates), state)


def say_drift(monitor: Monitor, words: Words) -> None:
    """Print what has drifted and what to look at, to standard error; or that nothing has."""
    for event in monitor.standing():
        said = words["drift.said"].format(
            message=retell(event, words).message,
            image=whole(words, event.image),
            advice=advice(event, words),
        )
        click.secho(said, fg="yellow", err=True)
    if not monitor.events:
        images = counted(words, "summary.images", monitor.images)
        click.echo(words["drift.none"].format(images=images), err=True)
