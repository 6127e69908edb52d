"""``andon methods``: the detectors there are, and their settings."""

from __future__ import annotations

import inspect

import click


@click.command("methods")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the methods, or show the settings of one.

    \b
    Examples:
      andon methods
      andon methods patchcore
    """
    from andon.errors import MissingExtraError

    try:
        from andon.models import DETECTORS, build, defaults
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", extra="fit", purpose="listing the methods") from error

    if name is None:
        for key, detector in DETECTORS.items():
            kind = "trained" if "steps" in defaults(key) else "closed form"
            click.echo(f"{key:<21} {kind:<12} {detector.paper}")
        click.echo("\nSettings of one:  andon methods NAME")
        return
    found = DETECTORS[name] if name in DETECTORS else type(build(name))
    click.echo(f"{found.title}: {found.paper}\n")
    for setting, value in defaults(name).items():
        click.echo(f"  {setting} = {value!r}")
    click.echo(f"\n{inspect.getdoc(found)}")
