"""The command line. Each command lives in a file of its own, imported when it is called."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType

import click

from andon import __version__
from andon.errors import AndonError

CANNOT = 2  # exit status: could not do what was asked
INTERRUPTED = 130  # exit status: stopped by Ctrl-C
TERMINATED = 143  # exit status: asked to end by SIGTERM
COMMANDS = {  # name -> module; the order is the help's
    "fit": "andon.cli.fit",
    "inspect": "andon.cli.inspect",
    "watch": "andon.cli.watch",
    "evaluate": "andon.cli.evaluate",
    "calibrate": "andon.cli.calibrate",
    "report": "andon.cli.report",
    "annotate": "andon.cli.annotate",
    "monitor": "andon.cli.monitor",
    "serve": "andon.cli.serve",
    "app": "andon.cli.app",
    "records": "andon.cli.records",
    "users": "andon.cli.users",
    "demo": "andon.cli.demo",
    "doctor": "andon.cli.doctor",
    "methods": "andon.cli.methods",
    "backbones": "andon.cli.backbones",
    "backbone": "andon.cli.backbone",
    "data": "andon.cli.data",
    "audit": "andon.cli.audit",
    "bench": "andon.cli.bench",
    "federate": "andon.cli.federate",
    "nuisance": "andon.cli.nuisance",
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
        with _stopped_politely():
            status = _run(sys.argv[1:] if arguments is None else arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt) as stop:
        click.echo("Stopped.", err=True)
        sys.exit(TERMINATED if isinstance(stop.__cause__ or stop, _Terminated) else INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(CANNOT)
    except AndonError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(CANNOT)
    except BrokenPipeError:  # whoever read has read enough, as in: andon inspect ... | head
        _discard_output()
        sys.exit(CANNOT)
    except MemoryError:
        click.echo(
            "Error: there is not enough memory for this. Try a smaller --size or smaller images.", err=True
        )
        sys.exit(CANNOT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: cannot go on: {place}{error.strerror or error}.", err=True)
        _discard_output()
        sys.exit(CANNOT)
    sys.exit(status if isinstance(status, int) else 0)


def _run(arguments: list[str]) -> object:
    if "" in arguments:
        raise click.UsageError("one of the arguments is empty; is a variable of your shell not set?")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text in this locale
    return andon.main(args=arguments, prog_name="andon", standalone_mode=False)


class _Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM): ends like Ctrl-C, with nothing half-written."""


@contextmanager
def _stopped_politely() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C inside the block, where this is the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _discard_output() -> None:
    """Send what is still to be printed nowhere, so that Python does not complain about it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
