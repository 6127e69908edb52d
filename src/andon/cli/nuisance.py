"""``andon nuisance``: what varies from one good part to the next and is no defect."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click


@click.group("nuisance", short_help="Zones not to inspect: prints, labels, codes.")
def command() -> None:
    """Zones with prints, labels and codes: not inspected, or by a threshold of their own.

    \b
    Example of a zones.json, places in pixels of a photograph of 1200 rows and 1600 columns:
      {"format": "andon-zones", "schema": 1, "units": "pixels", "size": [1200, 1600],
       "zones": [{"name": "label", "box": [100, 200, 300, 700]}]}
    With "codes": ["qr", "datamatrix", "aztec", "barcode"] the codes that can be read in the box are meant, wherever
    they lie, with what is around them: "around": [0.1, 0.1, 0.1, 2], above, left, below and right, in heights and
    widths of the code.
    """


@command.command("show")
@click.argument("source", metavar="ZONES", type=click.Path(path_type=Path))
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The picture to write (PNG)."
)
def show(source: Path, photo: Path, output: Path) -> None:
    """Draw zones over a photograph: red is not inspected, amber has a threshold of its own.

    Of a zone of codes the codes found in PHOTO are drawn with what is around them, and the area where they may lie is
    framed. Zones that follow the part (--align) are drawn where it lies, which only the .andon file can tell.

    ZONES is an .andon file, a zones.json, or an image whose non-zero pixels mark what to ignore.

    \b
    Examples:
      andon nuisance show zones.json photos/0001.png -o zones.png
      andon nuisance show clip.andon photos/0001.png -o zones.png
    """
    from PIL import Image

    from andon.artifact import read_artifact
    from andon.errors import DataError, SettingsError
    from andon.files import atomic_write
    from andon.image import decode
    from andon.nuisance import Treated, ZonePlan, check_zones, draw_zones, drawn_on, read_zones
    from andon.nuisance.stored import stored_plan

    if output.suffix.lower() != ".png" or output.resolve() in (source.resolve(), photo.resolve()):
        raise SettingsError(f"--output must be the name of a new .png file, got {output}")
    if source.suffix.lower() == ".andon":
        artifact = read_artifact(source)
        plan = stored_plan(artifact.manifest, artifact.members)
        if plan is None:
            raise DataError(
                f"{source} has no zones. Give some with: andon calibrate {source} --good DIR --ignore ZONES"
            )
    else:
        plan = ZonePlan(tuple(Treated(zone) for zone in read_zones(source)))
    pixels = decode(photo).pixels
    if source.suffix.lower() != ".andon":
        check_zones(plan.zones, (pixels.shape[0], pixels.shape[1]), drawn_on(source))
    placed = plan.place(pixels)
    with atomic_write(output) as file:
        Image.fromarray(draw_zones(pixels, plan.zones, placed.masks, placed.areas)).save(file, "PNG")
    for entry, mask in zip(plan.treated, placed.masks, strict=True):
        around = f" and {entry.halo} pixels of the map around it" if entry.halo else ""
        click.echo(
            f"zone {entry.zone.name!r}: {entry.zone.treatment}, {mask.mean():.1%} of the photograph{around}"
        )
    for doubt in placed.doubts:
        click.secho(doubt, fg="yellow", err=True)
    click.echo(f"drawn into {output}")


with suppress(ModuleNotFoundError):  # `learn` comes with a module of its own
    command.add_command(import_module("andon.cli.nuisance_learn").command)
