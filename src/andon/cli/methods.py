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
      andon methods patchcore+fre
    """
    from andon.errors import MissingExtraError

    try:
        from andon.models import DETECTORS, build, defaults
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", extra="fit", purpose="listing the methods") from error

    if name is None:
        click.echo(_table())
        return
    found = DETECTORS[name] if name in DETECTORS else type(build(name))
    click.echo(f"{found.title}: {found.paper}\n")
    for setting, value in defaults(name).items():
        click.echo(f"  {setting} = {value!r}")
    click.echo(f"\n{inspect.getdoc(found)}")


def _table() -> str:
    """A line a method: how it learns, whether it shows what it expected, its file's size, the time of an image, its paper."""
    from andon.models import DETECTORS, defaults, measured

    costs = measured()
    lines = [f"{'METHOD':<21} {'LEARNS BY':<12} {'SHOWS':<14} {'MB':>6} {'MS':>6}  PAPER"]
    for key, detector in DETECTORS.items():
        kind = "training" if "steps" in defaults(key) else "closed form"
        shows = "reconstruction" if detector.reconstructs else ""
        cost = costs.get(key, {})
        size, time = (f"{cost[name]:.0f}" if name in cost else "" for name in ("artifact_mb", "p50_ms"))
        lines.append(f"{key:<21} {kind:<12} {shows:<14} {size:>6} {time:>6}  {detector.paper}")
    return "\n".join([
        *lines,
        "\nSeveral as one detector, each brought to p-values first: patchcore+fre, or any others joined by +.",
        "\nMB: of the file; MS: milliseconds from photograph to verdict, median, 2 threads, at the methods' own settings, on one",
        "machine (docs/results/methods-costs.md): they say which is slower, not how slow it is on yours.",
        "Settings of one:  andon methods NAME",
    ])  # fmt: skip
