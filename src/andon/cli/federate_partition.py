"""``andon federate partition``: divide a data set among plants, to try a federation."""

from __future__ import annotations

from pathlib import Path

import click

from andon.cli.common import Bars, check_outputs


@click.command("partition", short_help="Divide data sets among sites, to try a federation.")
@click.argument("roots", metavar="DATA...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", required=True, type=click.Choice(["category", "line", "iid", "dirichlet", "size"]),
              help="What makes the sites differ.")  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The JSON file to write."
)
@click.option("--sites", default=4, show_default=True, help="How many; by category there is one for each.")
@click.option("--alpha", default=0.5, show_default=True,
              help="Of dirichlet and size: small is uneven, 100 is nearly even.")  # fmt: skip
@click.option(
    "--modes", default=8, show_default=True, help="Of dirichlet: groups of good images that look alike."
)
@click.option("--shift", "shifts", default="light,camera,print", show_default=True,
              help="Of line: what differs from line to line.")  # fmt: skip
@click.option("--strength", default=1.0, show_default=True, help="Of line: how much, 0 to 2.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same images: same partition.")
@click.option(
    "--layout", default="auto", show_default=True, help="How DATA is laid out. See: andon data layouts"
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw who holds what, as an HTML page.")
@click.option("--write", "folder", type=click.Path(path_type=Path),
              help="Write a folder a site, with its photographs as its line shows them.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress bars, no summary.")
def command(roots: tuple[Path, ...], by: str, output: Path, shifts: str, layout: str, plot: Path | None,
            folder: Path | None, quiet: bool, **how: int | float) -> None:  # fmt: skip
    """Divide the data sets in DATA among sites, and write down which holds what.

    By category: a category a site. By line: one product on lines with lamps, cameras and prints of their own. By
    dirichlet: each site sees the looks of the good parts in a mixture of its own. By size: some sites have few images.
    By iid: alike, by chance. Test images are dealt, too.

    \b
    Examples:
      andon federate partition data/mvtec --by category -o categories.json
      andon federate partition line/bracket_line --by line --sites 4 -o lines.json --plot lines.html
      andon federate partition photos --by dirichlet --alpha 0.1 -o uneven.json --write plants
    """
    from andon.federated.partition_files import write_folders, write_partition
    from andon.federated.partitions import Recipe, draw_partition

    kinds = tuple(word for word in (part.strip() for part in shifts.split(",")) if word)
    recipe = Recipe(by=by, shifts=kinds, **how)  # type: ignore[arg-type]
    check_outputs(output, plot, folder / recipe.by if folder is not None else None)
    if plot is not None:
        from andon.federated.page import check_page_extra

        check_page_extra()
    found = draw_partition(roots, recipe, layout)
    write_partition(output, found)
    if plot is not None:
        from andon.federated.page import write_partition_page

        write_partition_page(plot, [found])
    if folder is not None:
        with Bars(quiet=quiet) as bars:
            write_folders(found, folder, lambda done, total: bars("draw", done, total))
    if not quiet:
        for share in found.shares:
            good, bad = share.tested(anomalous=False), share.tested(anomalous=True)
            click.echo(
                f"{share.name}: {len(share.train)} good images, tested on {good} good and {bad} defective"
            )
        click.echo(f"Next:  andon federate compare {output} -o comparison")
