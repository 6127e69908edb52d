"""``andon report``: one HTML file that a manager can open."""

from __future__ import annotations

from pathlib import Path

import click

from andon.cli import CANNOT
from andon.cli.common import Bars, check_outputs, images_of, shown
from andon.runtime.words import LANGUAGES


@click.command("report", short_help="Write an HTML report, with figures where answers are known.")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("paths", metavar="ROOT|PATH...", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The HTML file to write."
)
@click.option("--title", help="The report's headline.")
@click.option("--language", type=click.Choice(LANGUAGES),
              help="Of decisions, sentences and notes. Default: the detector's, else English. Headings are English.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(artifact: Path, paths: tuple[str, ...], output: Path, title: str | None, language: str | None,
            quiet: bool) -> int:  # fmt: skip
    """Write a report: with figures where ROOT is a data set with known answers, on the verdicts alone otherwise.

    \b
    Examples:
      andon report clip.andon data/clip -o report.html
      andon report clip.andon photos/today -o today.html --title "Line 3, early shift" --language de
    """
    from andon.pipeline import has_known_answers, judge, write_judged_report, write_verdict_report
    from andon.runtime.predictor import Predictor
    from andon.types import Failure

    check_outputs(output)
    predictor = Predictor.open(artifact)
    predictor = predictor.speaking(language) if language else predictor
    with Bars(quiet=quiet) as bars:
        if len(paths) == 1 and has_known_answers(Path(paths[0])):
            answers = judge(predictor, Path(paths[0]), progress=bars)
            write_judged_report(predictor, answers, output, title=title)
            verdicts = answers.answers
        else:
            verdicts = write_verdict_report(predictor, images_of(paths), output, title=title, progress=bars)
    click.echo(f"report: {output}")
    unread = [answer for answer in verdicts if isinstance(answer, Failure)]
    if unread:
        click.secho(f"{len(unread)} of {len(verdicts)} images could not be inspected; the first, "
                    f"{shown(unread[0].path)}: {shown(unread[0].reason)}", fg="yellow", err=True)  # fmt: skip
    return CANNOT if len(unread) == len(verdicts) else 0
