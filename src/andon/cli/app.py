"""``andon app``: the operators' page in a browser."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path

import click

from andon.app.settings import DATABASE, AppSettings, UploadLimits
from andon.cli.records import ENVIRONMENT
from andon.errors import AndonError, DataError, MissingExtraError, SettingsError
from andon.runtime.server import is_loopback
from andon.runtime.words import LANGUAGES

_DEFAULTS = UploadLimits()


@click.command("app", short_help="Open the operators' page in a browser.")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--records", envvar=ENVIRONMENT, metavar="WHERE",
              help=f"SQLite file or URL of the records. Default: {DATABASE} in FOLDER.")  # fmt: skip
@click.option("--pictures", type=click.Path(path_type=Path), metavar="DIR",
              help="Where records keep pictures. Default: beside the file; PostgreSQL has none.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="To listen on.")
@click.option("--no-login", is_flag=True, help="Without accounts on an address that others can reach, too.")
@click.option("--language", type=click.Choice(LANGUAGES), help="To begin with. Default: the browser's.")
@click.option("--threads", type=click.IntRange(1),
              help="Processor threads of one inspection; default: the machine's cores.")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1), default=_DEFAULTS.at_once, show_default=True,
              help="Photographs inspected at the same time.")  # fmt: skip
@click.option("--max-mb", type=click.IntRange(1), default=_DEFAULTS.image_bytes // 2**20, show_default=True,
              help="MiB of one photograph.")  # fmt: skip
@click.option("--max-megapixels", type=click.FloatRange(0, min_open=True), default=_DEFAULTS.pixels / 1e6,
              show_default=True, help="Of one photograph.")  # fmt: skip
@click.option("--max-images", type=click.IntRange(1), default=_DEFAULTS.images, show_default=True,
              help="Sent at one time.")  # fmt: skip
@click.option("--shift", "shifts", multiple=True, metavar="HH:MM",
              help="When a shift begins; give it once a shift. Default: 06:00, 14:00, 22:00.")  # fmt: skip
@click.option("--monitor", "monitors", type=click.Path(path_type=Path), multiple=True, metavar="STATE.json",
              help="Show what this line's monitor has noticed; may be given several times.")  # fmt: skip
@click.option("--bench", "benchmarks", type=click.Path(path_type=Path), multiple=True, metavar="DIR",
              help="Show these results of andon bench; may be given several times.")  # fmt: skip
@click.option("--tls-certificate", type=click.Path(path_type=Path), metavar="PEM", help="Serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="PEM", help="The certificate's key.")
def command(folder: Path, records: str | None, pictures: Path | None, host: str, port: int, no_login: bool,
            language: str | None, threads: int | None, at_once: int, max_mb: int, max_megapixels: float,
            max_images: int, shifts: tuple[str, ...], monitors: tuple[Path, ...], benchmarks: tuple[Path, ...],
            tls_certificate: Path | None, tls_key: Path | None) -> None:  # fmt: skip
    """Open the operators' page: inspect, review, monitor; and for engineers teach, calibrate, compare.

    FOLDER holds the detectors, .andon files; one that is added or replaced is taken up by itself. The page works without
    a login until the first account is made: andon users add NAME --role engineer --records FOLDER/station.db

    \b
    Examples:
      andon app detectors/
      andon app detectors/ --records station.db --language de
      andon app detectors/ --host 0.0.0.0 --tls-certificate me.pem --tls-key me.key
    """
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}. Give the folder that holds, or shall hold, the .andon files."
        )
    limits = UploadLimits(
        image_bytes=max_mb * 2**20, pixels=int(max_megapixels * 1e6), images=max_images, at_once=at_once
    )
    settings = AppSettings(
        folder=folder.resolve(),
        records=records or str(folder.resolve() / DATABASE),
        pictures=pictures,
        limits=limits,
        threads=threads,
        language=language,
        shifts=shifts or AppSettings.shifts,
        monitors=monitors,
        benchmarks=benchmarks,
    )
    _require_streamlit()
    _check_port(host, port)
    _check_login(settings, host, no_login)
    scheme = "https" if tls_certificate else "http"
    click.echo(
        f"The page is at {scheme}://{'localhost' if is_loopback(host) else host}:{port}; Ctrl-C ends it."
    )
    _serve(settings, host, port, tls_certificate, tls_key)


def _require_streamlit() -> None:
    if find_spec("streamlit") is None:
        raise MissingExtraError("streamlit", extra="app", purpose="the operators' page")


def _check_port(host: str, port: int) -> None:
    """Refuse an address that is taken: Streamlit would share it, and browsers would come to either."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended does not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AndonError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}. Is the app running already? "
                "Stop it, or give another --port."
            ) from error


def _check_login(settings: AppSettings, host: str, no_login: bool) -> None:
    """Make the records where there are none, and refuse to let strangers in without a login."""
    from andon.records import open_records

    with open_records(settings.records, pictures=settings.pictures) as records:
        has_users = records.has_users()
    if not has_users and not no_login and not is_loopback(host):
        raise SettingsError(
            f"others can reach {host}, and there are no accounts, so that anybody could do anything. Make one with: "
            f"andon users add NAME --role engineer --records {settings.records}. Or give --no-login."
        )


def _serve(settings: AppSettings, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Run Streamlit in this process until it is told to end."""
    from streamlit.web import bootstrap

    from andon.app import main_script

    flags: dict[str, object] = {
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_maxUploadSize": settings.limits.image_bytes // 2**20,
        "browser_gatherUsageStats": False,
        "client_toolbarMode": "minimal",
        "client_showErrorDetails": "none",
        "logger_hideWelcomeMessage": True,
        "theme_primaryColor": "#0b6fa4",  # Streamlit's own red is kept for what failed
    }
    if certificate is not None and key is not None:
        flags |= {"server_sslCertFile": str(certificate), "server_sslKeyFile": str(key)}
    bootstrap.load_config_options(flags)
    bootstrap.run(str(main_script()), False, [settings.to_text()], flags)
