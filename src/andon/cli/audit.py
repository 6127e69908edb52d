"""``andon audit``: which of the good images look wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from andon.cli.common import Bars, Size, check_outputs, shown

_FIRST = 10  # images named in the terminal


@click.command("audit", short_help="Rank good images by how wrong they look beside the others.")
@click.argument("root", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", default="audit.html", show_default=True, type=click.Path(path_type=Path),
              help="The HTML page to write.")  # fmt: skip
@click.option("--csv", "csv_path", type=click.Path(path_type=Path),
              help="Write the list as CSV: to change by hand, and for andon fit --leave-out.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything as JSON.")
@click.option("--title", help="The page's headline.")
@click.option(
    "--layout", default="auto", show_default=True, help="How DIR is laid out. See: andon data layouts"
)
@click.option("--category", help="Which part, where DIR holds several.")
@click.option("--size", type=Size(), help="What the network sees, rows x columns. Default: as in andon fit.")
@click.option(
    "--folds", default=10, show_default=True, type=click.IntRange(2), help="Parts that judge each other."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of what is drawn by chance."
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1), help="Threads that read images."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bars, no summary.")
def command(
    root: Path, output: Path, csv_path: Path | None, json_path: Path | None, quiet: bool, **how: Any
) -> int:
    """Rank the good images in DIR by how wrong they look beside the others, before a detector is fitted on them.

    Each image is judged by the others, never by a detector that saw it. What is odd is told apart: like a defect (in a
    place), other light, other sharpness, other layout, copies. The list says what to do with each: leave out, look,
    keep. Change it, then give it to andon fit --leave-out.

    Exit status: 0 nothing is to be left out, 1 something is.

    \b
    Examples:
      andon audit photos/good
      andon audit photos/good -o audit.html --csv audit.csv
      andon fit photos/good -o clip.andon --leave-out audit.csv
    """
    from andon.audit import LEAVE_OUT, LOOK
    from andon.pipeline.auditing import audit
    from andon.report.audit import conclusion

    check_outputs(output, csv_path, json_path)
    with Bars(quiet=quiet) as bars:
        found = audit(root, output, csv_path=csv_path, json_path=json_path, progress=bars, **how)
    actions = Counter(one.action for one in found.judged)
    if not quiet:
        click.echo(conclusion(found).replace("\u00a0", " "))
        for one in [one for one in found.judged if one.action in (LEAVE_OUT, LOOK)][:_FIRST]:
            click.echo(f"{one.rank:>4} {one.action:<9} {one.oddness:6.1f}  {shown(one.path)}  {one.reason}")
        click.echo(f"page: {output}")
    return int(actions[LEAVE_OUT] > 0)
