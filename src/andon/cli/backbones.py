"""``andon backbones``: the networks that features can come from."""

from __future__ import annotations

import click


@click.command("backbones", short_help="List the backbones, where they come from, their licences.")
def command() -> None:
    """List the backbones: where their weights come from and under which licence."""
    from andon.errors import MissingExtraError

    try:
        from andon.features.backbones import BACKBONES
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            error.name or "torch", extra="fit", purpose="listing the backbones"
        ) from error

    for name, info in BACKBONES.items():
        click.echo(f"{name:<18} {info.describe()}")
    click.echo("timm:<name>        any network of the package timm, where that is installed")
    click.echo("path/to/file       a local file of weights (.pt, .pth, .safetensors)")
