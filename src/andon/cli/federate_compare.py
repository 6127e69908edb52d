"""``andon federate compare``: what a federation gives beside fitting alone, and beside handing over all images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from andon.cli.common import Size, assigned, check_outputs

if TYPE_CHECKING:
    from andon.federated.comparing import Cell


@click.command("compare", short_help="Fit sites alone, federated and in one place; compare.")
@click.argument(
    "partitions", metavar="PARTITION...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path),
              help="Folder for report.html, results.json, tables, and what is computed so far.")  # fmt: skip
@click.option("--method", "methods", multiple=True, default=("padim", "patchcore"), show_default=True,
              help="See: andon methods. May be given many times.")  # fmt: skip
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each partition.")
@click.option("--size", type=Size(), default="256x256", show_default=True, help="Input size, rows x columns.")
@click.option("--rounds", default=10, show_default=True, help="Of methods that train.")
@click.option("--proximal", default=0.0, show_default=True, help="FedProx's mu; 0 is FedAvg.")
@click.option("--weights", "rules", multiple=True, type=click.Choice(["size", "equal", "need"]),
              help="Also weigh the sites so; may be given many times. Default: each of these.")  # fmt: skip
@click.option("--no-weights", is_flag=True, help="Do not try other weights of the sites.")
@click.option(
    "--q", default=2.0, show_default=True, help="Of the weights by need: how much more a site in need counts."
)
@click.option(
    "--target-rate", default=0.05, show_default=True, help="Share of good parts that may fail, at each site."
)
@click.option("--confidence", default=0.95, show_default=True, help="Confidence of that promise.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting of every method."
)
@click.option("-q", "--quiet", is_flag=True, help="No line a fit.")
def command(partitions: tuple[Path, ...], output: Path, methods: tuple[str, ...], seeds: int, rules: tuple[str, ...],
            no_weights: bool, q: float, assignments: tuple[str, ...], quiet: bool, **how: Any) -> int:  # fmt: skip
    """Fit the sites of each PARTITION alone, federated and centralised, judge all on the same test images, and answer
    what a federation gives, costs, and whom it serves.

    Partitions of one recipe with other seeds count as repeated runs. What was computed is kept: the same command goes
    on where it stopped.

    Exit status: 0 all was computed, 1 something failed; the report says what.

    \b
    Examples:
      andon federate compare lines.json -o comparison
      andon federate compare alpha*.json -o curve --seeds 1 --method padim --size 128x128
    """
    from andon.federated import Plan
    from andon.federated.comparing import cells_of, compare
    from andon.federated.fairness import RULES
    from andon.federated.page import check_page_extra, write_comparison
    from andon.federated.partition_files import read_partition

    check_page_extra()
    check_outputs(output / "results.json")
    settings = assigned(assignments)
    plans = [Plan(method=method, settings=settings, **how) for method in methods]
    found = [read_partition(path) for path in partitions]
    cells = cells_of(found, plans, seeds, () if no_weights else rules or RULES, q)
    rows = compare(cells, output, say=None if quiet else lambda cell, row: _say(cell, row, len(cells)))
    for path in write_comparison(output, rows, found):
        if not quiet:
            click.echo(f"written: {path}")
    return int(any(row["status"] != "done" for row in rows))


def _say(cell: Cell, row: dict[str, Any], total: int) -> None:
    what = f"{row['scene']}, {row['method']}, {row['way']}, seed {row['seed']}"
    if row["status"] != "done":
        click.secho(f"{what}: failed: {row['error']}", fg="red", err=True)
        return
    aurocs = [site["figures"]["image_auroc"] for site in row["sites"].values()]
    known = [value for value in aurocs if value is not None]
    mean = f"{sum(known) / len(known):.3f}" if known else "not defined"
    click.echo(f"{what}: image AUROC {mean}, {row['seconds']:.1f} s")
