"""``andon report``: one HTML file that a manager can open."""

from __future__ import annotations

from pathlib import Path

import click

from andon.cli.common import Bars, images_of


@click.command("report")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("paths", metavar="ROOT|PATH...", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The HTML file to write."
)
@click.option("--title", help="The report's headline.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(artifact: Path, paths: tuple[str, ...], output: Path, title: str | None, quiet: bool) -> None:
    """Write a report: with figures where ROOT is a data set with known answers, on the verdicts alone otherwise.

    \b
    Examples:
      andon report clip.andon data/clip -o report.html
      andon report clip.andon photos/today -o today.html --title "Line 3, early shift"
    """
    from andon.pipeline import has_known_answers, judge, write_judged_report, write_verdict_report
    from andon.runtime.predictor import Predictor

    predictor = Predictor.open(artifact)
    with Bars(quiet=quiet) as bars:
        if len(paths) == 1 and has_known_answers(Path(paths[0])):
            write_judged_report(
                predictor, judge(predictor, Path(paths[0]), progress=bars), output, title=title
            )
        else:
            write_verdict_report(predictor, images_of(paths), output, title=title, progress=bars)
    click.echo(f"report: {output}")
