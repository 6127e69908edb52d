"""``andon serve``: verdicts over HTTP."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from pathlib import Path

import click

from andon.cli.records import to_records
from andon.errors import SettingsError
from andon.runtime.server import (
    Address,
    Backing,
    KeyFile,
    Limits,
    Monitors,
    Recorder,
    Shelf,
    add_key,
    is_loopback,
    serve,
)

_CUT_OFF = 1  # exit status
_DEFAULTS = Limits()


@click.command("serve")
@click.argument("source", metavar="ARTIFACT", type=click.Path(path_type=Path), required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free."
)
@click.option("--keys", type=click.Path(path_type=Path), metavar="FILE",
              help="Answer only who has one of these API keys.")  # fmt: skip
@click.option(
    "--new-key", metavar="NAME", help="Make a key, print it this once, add its hash to --keys, and end."
)
@click.option("--no-keys", is_flag=True, help="Answer anyone, on an address that others can reach, too.")
@click.option("--threads", type=click.IntRange(1),
              help="Processor threads of one inspection; default: the machine's cores.")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1), default=_DEFAULTS.at_once, show_default=True,
              help="Images inspected at the same time.")  # fmt: skip
@click.option("--queue", type=click.IntRange(0), default=_DEFAULTS.queue, show_default=True,
              help="Requests that wait; more are refused with 503.")  # fmt: skip
@click.option("--max-mb", type=click.FloatRange(0, min_open=True), default=_DEFAULTS.request_bytes / 2**20,
              show_default=True, help="MiB of one request: one image, or all images of a batch.")  # fmt: skip
@click.option("--max-megapixels", type=click.FloatRange(0, min_open=True), default=_DEFAULTS.pixels / 1e6,
              show_default=True, help="Of one image.")  # fmt: skip
@click.option("--max-images", type=click.IntRange(1), default=_DEFAULTS.batch_images, show_default=True,
              help="Of a batch.")  # fmt: skip
@click.option("--check-every", type=click.FloatRange(0), default=2.0, show_default=True,
              help="Seconds between two looks for new artefacts; 0: only by POST /v1/reload.")  # fmt: skip
@click.option("--stop-seconds", type=click.IntRange(1), default=_DEFAULTS.stop_seconds, show_default=True,
              help="How long to wait, when told to stop, for what is in flight.")  # fmt: skip
@click.option("--monitor", type=click.Path(path_type=Path), metavar="DIR",
              help="Watch each artefact for drift; the states lie in this folder. See: andon monitor")  # fmt: skip
@to_records
@click.option("--tls-certificate", type=click.Path(path_type=Path), metavar="PEM", help="Serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="PEM", help="The certificate's key.")
@click.option("-q", "--quiet", is_flag=True, help="Log only what goes wrong.")
def command(source: Path | None, host: str, port: int, keys: Path | None, new_key: str | None, no_keys: bool,
            threads: int | None, at_once: int, queue: int, max_mb: float, max_megapixels: float, max_images: int,
            check_every: float, stop_seconds: int, monitor: Path | None, records: str | None, pictures: Path | None, tls_certificate: Path | None, tls_key: Path | None,
            quiet: bool) -> int:  # fmt: skip
    """Answer photographs with verdicts over HTTP.

    ARTIFACT is an .andon file, or a folder of them. A file that is replaced is exchanged without a request lost.
    The address /openapi.json describes what can be asked; docs/rest.md explains it.

    \b
    Exit status: 0 stopped, everything in flight answered
                 1 stopped, but requests were cut off after --stop-seconds
                 2 could not be started

    \b
    Examples:
      andon serve clip.andon
      curl --data-binary @new.png -H "Content-Type: image/png" http://127.0.0.1:8000/v1/inspect
      andon serve clip.andon --monitor drift/ --records station.db
      andon serve --new-key line3 --keys keys.txt
      andon serve artefacts/ --host 0.0.0.0 --keys keys.txt --tls-certificate me.pem --tls-key me.key
    """
    if new_key is not None:
        return _make_key(keys, new_key)
    if source is None:
        raise click.UsageError("expected an .andon file, or a folder of them: andon serve clip.andon")
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    if pictures is not None and records is None:
        raise click.UsageError("--pictures is for --records; give that, too")
    known = _keys(keys, host, no_keys)
    limits = Limits(
        request_bytes=int(max_mb * 2**20),
        pixels=int(max_megapixels * 1e6),
        batch_images=max_images,
        at_once=at_once,
        queue=queue,
        stop_seconds=stop_seconds,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("andon.serve").setLevel(logging.WARNING if quiet else logging.INFO)
    shelf = Shelf(source, threads=threads)
    for name, problem in shelf.problems.items():
        click.echo(f"{name}: not served: {problem}", err=True)

    def announce(url: str) -> None:
        click.echo(f"serving {', '.join(shelf.names)} on {url}")

    address = Address(host, port, tls_certificate, tls_key)
    with ExitStack() as stack:
        monitors = None if monitor is None else stack.enter_context(closing(Monitors(monitor, shelf)))
        recorder = None if records is None else stack.enter_context(closing(Recorder(records, pictures)))
        cut_off = serve(
            shelf, address, limits=limits, keys=known, check_every=check_every, backing=Backing(monitors, recorder), announce=announce
        )  # fmt: skip
    if cut_off:
        click.echo(f"Stopped. Requests cut off after {stop_seconds} s: {cut_off}.", err=True)
    return _CUT_OFF if cut_off else 0


def _keys(path: Path | None, host: str, none: bool) -> KeyFile | None:
    """The keys that requests must have; None where anyone may ask. Raises :class:`SettingsError`."""
    if path is not None:
        if none:
            raise click.UsageError("--keys and --no-keys contradict each other")
        return KeyFile(path)
    if not none and not is_loopback(host):
        raise SettingsError(
            f"others can reach {host}, and no API keys are asked for. Make one with: andon serve --new-key NAME --keys "
            "keys.txt; then give --keys keys.txt. Or give --no-keys, where something in front asks who they are."
        )
    return None


def _make_key(path: Path | None, name: str) -> int:
    if path is None:
        raise click.UsageError("--new-key needs --keys FILE, the file that the key's hash is added to")
    click.echo(add_key(path, name))
    click.echo(
        f"This key is shown only now. {path} has its hash; a running server takes it up by itself.", err=True
    )
    return 0
