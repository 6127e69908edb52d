"""The command line. Each command lives in a file of its own, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from andon import __version__
from andon.errors import AndonError

CANNOT = 2  # exit status: could not do what was asked
COMMANDS = {  # name -> module; the order is the help's
    "fit": "andon.cli.fit",
    "inspect": "andon.cli.inspect",
    "evaluate": "andon.cli.evaluate",
    "calibrate": "andon.cli.calibrate",
    "report": "andon.cli.report",
    "demo": "andon.cli.demo",
    "doctor": "andon.cli.doctor",
    "methods": "andon.cli.methods",
    "backbones": "andon.cli.backbones",
    "data": "andon.cli.data",
    "show": "andon.cli.show",
    "completion": "andon.cli.completion",
}


class _Lazy(click.Group):
    """A group whose commands are imported only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"there is no command '{args[0]}'.{hint} See: andon --help", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="andon %(version)s")
def andon() -> None:
    """Find defective parts after seeing only good ones.

    \b
    Show it good parts, then ask about new ones:
      andon fit photos/good -o part.andon
      andon inspect part.andon photos/today

    \b
    See how good it is, on photographs with known answers:
      andon evaluate part.andon data/part
      andon report part.andon data/part -o report.html

    \b
    No photographs at hand?  andon demo
    Something odd?           andon doctor
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status: an :class:`AndonError` is said in one line, status 2."""
    try:
        status = andon.main(args=arguments, prog_name="andon", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(CANNOT)
    except AndonError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(CANNOT)
    except BrokenPipeError:
        sys.exit(CANNOT)
    sys.exit(status if isinstance(status, int) else 0)
