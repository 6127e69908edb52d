"""``andon nuisance``: what varies from one good part to the next and is no defect."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click


@click.group("nuisance")
def command() -> None:
    """Zones with prints, labels and codes: not inspected, or by a threshold of their own.

    \b
    Example of a zones.json, places in pixels of a photograph of 1200 rows and 1600 columns:
      {"format": "andon-zones", "schema": 1, "units": "pixels", "size": [1200, 1600],
       "zones": [{"name": "label", "box": [100, 200, 300, 700]}]}
    """


@command.command("show")
@click.argument("source", metavar="ZONES", type=click.Path(path_type=Path))
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The picture to write (PNG)."
)
def show(source: Path, photo: Path, output: Path) -> None:
    """Draw zones over a photograph: red is not inspected, amber has a threshold of its own.

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
    from andon.nuisance import ZonePlan, draw_zones, read_zones

    if output.suffix.lower() != ".png" or output.resolve() in (source.resolve(), photo.resolve()):
        raise SettingsError(f"--output must be the name of a new .png file, got {output}")
    if source.suffix.lower() == ".andon":
        plan = ZonePlan.from_manifest(read_artifact(source).manifest)
        if plan is None:
            raise DataError(
                f"{source} has no zones. Give some with: andon calibrate {source} --good DIR --ignore ZONES"
            )
        zones = plan.zones
    else:
        zones = read_zones(source)
    pixels = decode(photo).pixels
    with atomic_write(output) as file:
        Image.fromarray(draw_zones(pixels, zones)).save(file, "PNG")
    for zone in zones:
        share = zone.mask((pixels.shape[0], pixels.shape[1])).mean()
        click.echo(f"zone {zone.name!r}: {zone.treatment}, {share:.1%} of the photograph")
    click.echo(f"drawn into {output}")


with suppress(ModuleNotFoundError):  # `learn` comes with a module of its own
    command.add_command(import_module("andon.cli.nuisance_learn").command)
