"""``andon data``: layouts, checking, fetching and drawing image sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from andon.cli import CANNOT
from andon.cli.common import Bars, Size, check_outputs

_NBSP = "\u00a0"
_MARKS = {"fail": ("✕", "red"), "review": ("?", "yellow"), "pass": ("✓", "green"), "none": ("-", None)}


@click.group("data")
def command() -> None:
    """Look at, check, report on, fetch and draw image sets."""


@command.command("layouts")
def layouts() -> None:
    """List the folder layouts that Andon reads."""
    from andon.data import LAYOUTS

    for name, layout in LAYOUTS.items():
        click.echo(f"{name:<16} {layout.expects}")


@command.command("check")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--layout", default="auto", show_default=True)
@click.option("--category", help="Which part, where ROOT holds several.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def check_(root: Path, layout: str, category: str | None, as_json: bool, quiet: bool) -> int:
    """Count what is in ROOT and find what is wrong with it: unreadable files, duplicates, odd sizes, masks.

    Exit status: 0 nothing wrong, 1 something to look at.

    \b
    Example:
      andon data check data/mvtec/transistor
    """
    from andon.data import check, format_check

    with Bars(quiet=quiet) as bars:
        report = check(root, layout, category, progress=lambda done, total: bars("check", done, total))
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else format_check(report))
    return int(report.has_problems)


@command.command("report")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("-o", "--output", default="data-report.html", show_default=True, type=click.Path(path_type=Path),
              help="The HTML file to write.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything as JSON.")
@click.option("--title", help="The report's headline.")
@click.option(
    "--layout", default="auto", show_default=True, help="How ROOT is laid out. See: andon data layouts"
)
@click.option("--category", help="Which part, where ROOT holds several.")
@click.option("--limit", type=click.IntRange(1), metavar="IMAGES",
              help="Look at so many images only, drawn by chance from each kind. Default: all.")  # fmt: skip
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of what is drawn by chance."
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1), help="Threads that read images."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def report_(root: Path, output: Path, json_path: Path | None, quiet: bool, **how: Any) -> int:
    """Write a report on the images in ROOT, a data set or a folder, before anything is fitted on them.

    What is in it, light and sharpness as they were taken, which lie apart, which are copies of each other (and of
    training images, in the test), whether training and test differ, and which training images are odd. Each part ends
    with what it means and what to do.

    Exit status: 0 the report is written, 2 no image could be read.

    \b
    Examples:
      andon data report photos/good
      andon data report data/mvtec/transistor -o transistor.html --json transistor.json
    """
    from andon.pipeline import report_on_data
    from andon.report import findings

    check_outputs(output, json_path)
    with Bars(quiet=quiet) as bars:
        found = report_on_data(root, output, json_path=json_path, progress=bars, **how)
    for finding in findings(found):
        mark, colour = _MARKS[finding.level]
        click.echo(
            f"{click.style(mark, fg=colour, bold=True)} {finding.text.replace(_NBSP, ' ').replace('`', '')}"
        )
    click.echo(f"report: {output}")
    return 0 if any(part.seen for part in found.parts) else CANNOT


@command.command("fetch")
@click.argument("name", required=False)
@click.option(
    "--into", default=".", show_default=True, type=click.Path(path_type=Path), help="Folder to unpack into."
)
@click.option(
    "--only",
    multiple=True,
    help="One archive of a set that comes in several (AutoVI's categories); repeatable.",
)
@click.option("--accept-licence", is_flag=True, help="I have read the licence and accept it.")
@click.option(
    "--trust-on-first-use",
    is_flag=True,
    help="Where no hash is known: take the file as it comes and print its hash.",
)
def fetch_(
    name: str | None, into: Path, only: tuple[str, ...], accept_licence: bool, trust_on_first_use: bool
) -> None:
    """Download a public data set from its publisher, after showing its licence. Without NAME: list them.

    \b
    Example:
      andon data fetch autovi --into data/
    """
    from andon.data.fetch import DATASETS, fetch, licence_text

    if name is None:
        for key, remote in DATASETS.items():
            click.echo(f"{key:<16} {remote.licence:<18} {remote.page}")
        return
    click.echo(licence_text(name))
    if not accept_licence:
        click.confirm("Do you accept this licence?", abort=True)
    where = fetch(
        name, into, accept_licence=True, only=only, trust_on_first_use=trust_on_first_use, say=_already_said
    )
    click.echo(f"unpacked into {where}")


def _already_said(text: str) -> None:
    """The licence was shown before it was accepted."""


@command.command("draw")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--train", default=120, show_default=True, help="Good parts to learn from.")
@click.option("--test-good", default=40, show_default=True, help="Good parts to test on.")
@click.option("--per-defect", default=5, show_default=True, help="Parts with each kind of defect.")
@click.option("--size", type=Size(), default="384x512", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def draw(
    root: Path, train: int, test_good: int, per_defect: int, size: tuple[int, int], seed: int, quiet: bool
) -> None:
    """Draw the synthetic inspection line into ROOT, in AutoVI's layout.

    \b
    Example:
      andon data draw line/ --train 300
    """
    from andon.data.synthetic import write_line

    with Bars(quiet=quiet) as bars:
        written = write_line(root, train=train, test_good=test_good, per_defect=per_defect, size=size, seed=seed,
                             progress=lambda done, total: bars("draw", done, total))  # fmt: skip
    click.echo(f"drawn into {written}")
