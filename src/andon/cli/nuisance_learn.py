"""``andon nuisance learn``: where good parts differ from each other, as zones for a person to judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from andon.cli.common import Bars, check_outputs

if TYPE_CHECKING:
    from andon.nuisance.find import Proposal

NOTHING = 1  # exit status: no zone to propose


@click.command("learn")
@click.argument("good", type=click.Path(path_type=Path))
@click.option("-o", "--output", default="zones.json", show_default=True, type=click.Path(path_type=Path),
              help="The file of zones to write, to be edited.")  # fmt: skip
@click.option("--overlay", "picture", type=click.Path(path_type=Path),
              help="Draw the proposal over a photograph (PNG).")  # fmt: skip
@click.option("--align", is_flag=True, help="Bring the parts to one place first (andon[nuisance]).")
@click.option("--times", default=4.0, show_default=True, type=click.FloatRange(1, min_open=True),
              help="How many times the typical spread a zone has.")  # fmt: skip
@click.option("--limit", default=150, show_default=True, type=click.IntRange(8), metavar="IMAGES",
              help="Look at so many images, evenly taken.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def command(good: Path, output: Path, picture: Path | None, align: bool, times: float, limit: int,
            quiet: bool) -> int:  # fmt: skip
    """Propose zones to ignore: where the images in GOOD differ from each other far more than elsewhere.

    Look at the picture, edit the file, then pass it on: nothing is ignored that you did not see. What varies between
    good parts may still be where defects are.

    Exit status: 0 zones are written, 1 there are none to propose, 2 could not do it.

    \b
    Examples:
      andon nuisance learn photos/good -o zones.json --overlay zones.png
      andon nuisance learn photos/good --align --times 6
      andon fit photos/good --ignore zones.json -o part.andon
    """
    from andon.cli.common import images_of
    from andon.nuisance import write_zones
    from andon.nuisance.align import Aligner
    from andon.nuisance.find import find_variation

    check_outputs(output)
    _check_picture(picture, good)
    images = images_of([str(good)])
    with Bars(quiet=quiet) as bars:
        aligner = (
            Aligner.fit(images, progress=lambda done, total: bars("align", done, total)) if align else None
        )
        found = find_variation(images, times=times, limit=limit, aligner=aligner,
                               progress=lambda done, total: bars("survey", done, total))  # fmt: skip
    if picture is not None:
        _draw(found, picture)
    for line in said(found, aligned=align):
        click.echo(line)
    if not found.zones:
        return NOTHING
    write_zones(output, found.zones)
    click.echo(f"proposed in {output}: edit it, then pass it to andon fit --ignore {output}")
    return 0


def said(found: Proposal, *, aligned: bool) -> list[str]:
    """What the proposal says, one line each."""
    lines = [f"{variation.zone.name}: {variation.reason}" for variation in found.variations]
    if found.left_out:
        lines.append(f"{found.left_out} images were left out: the part in them could not be placed")
    if found.finding == "nothing":
        lines.append(f"No area stands out: nowhere do these {found.images} good parts differ {found.times:g} times as "
                     "much as is typical of them.")  # fmt: skip
    if found.finding == "everything":
        lines.append(f"Good parts differ nearly everywhere ({found.stands_out:.0%} of the image), so no zone is "
                     "proposed.")  # fmt: skip
    if found.lies_differently and not aligned:
        lines.append("They differ mostly along the part's edges, as where parts lie differently in each photograph. "
                     "Try: --align")  # fmt: skip
    return lines


def _check_picture(picture: Path | None, good: Path) -> None:
    from andon.errors import SettingsError
    from andon.files import check_writable

    if picture is None:
        return
    if picture.suffix.lower() != ".png" or (picture.exists() and good.resolve() in picture.resolve().parents):
        raise SettingsError(f"--overlay must be the name of a new .png file, got {picture}")
    check_writable(picture)


def _draw(found: Proposal, picture: Path) -> None:
    from PIL import Image

    from andon.files import atomic_write

    with atomic_write(picture) as file:
        Image.fromarray(found.overlay()).save(file, "PNG")
    click.echo(f"drawn into {picture}")
