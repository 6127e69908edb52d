"""Flower's own processes, started, watched and ended: the SuperLink of a server, the SuperNode of a site."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from andon import __version__
from andon.errors import AndonError, DataError, SettingsError
from andon.federated.flower_messages import JOB, OURS, SETTINGS
from andon.federated.keys import AUTHORITY, CERTIFICATE, SERVER_KEY, SITE_KEY
from andon.federated.telling import add_names

WAIT_SECONDS = 300  # for a process to be up
LAST_WORD_SECONDS = 30  # that a site stays for after its file is written
LASTED_SECONDS = 120  # that a site must have run for, to have been connected
AGAIN_SECONDS = 15  # between two tries to join
WRONG_SERVER = "the server's certificate is not one of this federation's authority"
NOT_YET = "Connection to the SuperLink is unavailable"  # said with exit status 0 where JSON is asked for
LOOK_SECONDS = 20  # between two questions to Flower whether the run still runs
NAME = "plants"  # of the connection in Flower's configuration
BUNDLE = """[project]
name = "andon-federation"
version = "{version}"
description = "Fits one detector over several sites."
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "andon"
[tool.flwr.app.components]
serverapp = "andonapp.server:app"
clientapp = "andonapp.client:app"
[tool.flwr.app.config]
{job} = ""
"""


def require_files(folder: Path, *names: str) -> None:
    """Raise :class:`DataError` for the first of ``names`` that is not in ``folder``."""
    for name in names:
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name} is missing: without it nobody can tell whom one talks to, so nothing is started. Make keys "
                "with: andon federate keys FOLDER --site NAME"
            )


def write_bundle(folder: Path) -> Path:
    """The app that Flower hands to the sites: two lines that call the Andon installed there."""
    package = folder / "andon-app" / "andonapp"
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / "pyproject.toml").write_text(
        BUNDLE.format(version=__version__, job=JOB), encoding="utf-8"
    )
    (package / "__init__.py").write_text('"""Andon on Flower."""\n', encoding="utf-8")
    for part in ("server", "client"):
        line = f'from andon.federated.flower_{part} import app\n\n__all__ = ["app"]\n'
        (package / f"{part}.py").write_text(line, encoding="utf-8")
    return package.parent


def invited(keys: Path) -> list[Path]:
    """The public keys in the server's folder of keys. Raises :class:`DataError` without any."""
    found = sorted(keys.glob("*.pub"))
    if not found:
        raise DataError(f"{keys} holds no site's public key (NAME.pub), so no site could join")
    return found


def serve(
    keys: Path, work: Path, host: str, port: int, job: Path, outcome: Path, *, say: Callable[[str], None]
) -> dict[str, Any]:
    """The outcome of ``job``, run by a SuperLink of this machine with the sites whose ``.pub`` lie in ``keys``.

    ``work``: where Flower's logs and database go. Raises :class:`AndonError` where it does not start, or ends without
    an outcome.
    """
    require_files(keys, AUTHORITY, CERTIFICATE, SERVER_KEY)
    guests = invited(keys)
    outcome.unlink(missing_ok=True)
    home = _home(work, keys, host, port)
    command: list[str | Path] = [
        _program("flower-superlink"), "--ssl-ca-certfile", keys / AUTHORITY, "--ssl-certfile", keys / CERTIFICATE,
        "--ssl-keyfile", keys / SERVER_KEY, "--enable-supernode-auth", "--host", host, "--port", str(port),
        "--database", work / "superlink.db", "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    (work / "superlink.db").unlink(missing_ok=True)  # a run that was stopped is not gone on with by Flower
    with _running(command, work / "superlink.log", home) as superlink:
        names: dict[int, str] = {}
        for public in guests:
            register = partial(_flwr, home, "supernode", "register", public, NAME, "--format", "json")
            names[_node(_until(superlink, register, work / "superlink.log"))] = public.stem
            say(f"site {public.stem!r} may join")
        add_names(job, names)
        _once(
            home, "run", write_bundle(work), NAME, "--run-config", f"{JOB}={json.dumps(str(job.resolve()))}"
        )
        say(f"waiting for sites at {host}:{port}")
        look = time.monotonic() + LOOK_SECONDS
        while not outcome.is_file():
            if superlink.poll() is not None:
                raise AndonError(
                    f"Flower's server ended; its last words are in {work / 'superlink.log'}. Go on with --resume."
                )
            if time.monotonic() > look:
                _refuse_ended_run(home, outcome, work / "superlink.log")
                look = time.monotonic() + LOOK_SECONDS
            time.sleep(1)
    found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return found


def join(keys: Path, work: Path, server: str, settings: Path, *, port: int = 0, until: Path,
         patience: float = 600.0, say: Callable[[str], None] = lambda line: None) -> None:  # fmt: skip
    """Be a site until the file ``until`` is written anew: a SuperNode that answers for the site that ``settings`` describes.

    ``port`` of this machine for Flower's own processes; 0: a free one. A server that is not there, or does not know this
    site, is asked again for ``patience`` seconds: Flower takes a site that was killed for connected for a minute. Raises :class:`DataError` where a key or the authority's
    certificate is missing, :class:`AndonError` where the server is not the one that the certificate was made for, at
    once, and where it does not accept this site in time.
    """
    require_files(keys, AUTHORITY, SITE_KEY)
    last, log, before = time.monotonic() + patience, work / "site.log", _written(until)
    while True:
        began = time.monotonic()
        if _joined(keys, work, server, settings, port or _free_port(), lambda: _written(until) != before):
            return
        if time.monotonic() - began > LASTED_SECONDS:
            last = time.monotonic() + patience
        reason = _why(log)
        if WRONG_SERVER in reason or time.monotonic() > last:
            raise AndonError(f"the site's connection to {server} ended: {reason}")
        say(f"not connected: {reason} Trying again in {AGAIN_SECONDS} s")
        time.sleep(AGAIN_SECONDS)


def _joined(keys: Path, work: Path, server: str, settings: Path, port: int, done: Callable[[], bool]) -> bool:
    """Run a SuperNode until ``done`` (True), or until it ends by itself (False)."""
    command: list[str | Path] = [
        _program("flower-supernode"), "--root-certificates", keys / AUTHORITY, "--auth-supernode-private-key",
        keys / SITE_KEY, "--superlink", server, "--host", "127.0.0.1", "--port", str(port), "--node-config",
        f"{SETTINGS}={json.dumps(str(settings.resolve()))}", "--max-wait-time", str(AGAIN_SECONDS),
    ]  # fmt: skip
    with _running(command, work / "site.log", work) as node:
        while node.poll() is None:
            if done():
                time.sleep(LAST_WORD_SECONDS)  # the answer to the last question is still on its way
                return True
            time.sleep(1)
    return False


def _written(path: Path) -> int:
    """When ``path`` was written, in nanoseconds; 0 where it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _why(log: Path) -> str:
    """What to look at, from the last words of a SuperNode."""
    words = log.read_text(errors="replace")[-20_000:]
    if "CERTIFICATE_VERIFY_FAILED" in words or "certificate verify failed" in words.lower():
        return f"{WRONG_SERVER} ({AUTHORITY}). Is it the right server?"
    if any(code in words for code in ("2004", "UNAUTHENTICATED", "Unauthenticated", "401")):
        return (
            "the server does not know this site's key, or takes the site for still connected (for a minute after it was "
            "killed)."
        )
    if "Connection attempt failed" in words:
        return "nobody answers there."
    return f"see {log}."


# --- processes ------------------------------------------------------------------------------------------------------------


def _program(name: str) -> str:
    """Flower's program ``name``, of this Python's own environment first."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SettingsError(f'{name} is not to be found; install it with: pip install "andon[federated]"')
    return found


@contextlib.contextmanager
def _running(command: Sequence[str | Path], log: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with what it starts itself, ended with the block; what it prints goes into ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        process = subprocess.Popen([str(part) for part in command], stdout=file, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, env=_environment(home), start_new_session=True)  # fmt: skip
        try:
            yield process
        finally:
            for which in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, which)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)


def _environment(home: Path) -> dict[str, str]:
    """This process's, with Flower told to call nobody, and to find its programs and this Andon."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **OURS, "FLWR_HOME": str(home), "PATH": path}


def _home(work: Path, keys: Path, host: str, port: int) -> Path:
    """Flower's own folder, with the connection to the server."""
    home = work / "flower"
    home.mkdir(parents=True, exist_ok=True)
    reached = "127.0.0.1" if host == "0.0.0.0" else host  # (what is listened on everywhere is reached here)
    text = (f"[superlink]\ndefault = \"{NAME}\"\n[superlink.{NAME}]\naddress = \"{reached}:{port}\"\n"
            f"root-certificates = {json.dumps(str((keys / AUTHORITY).resolve()))}\n")  # fmt: skip
    (home / "config.toml").write_text(text, encoding="utf-8")
    return home


def _flwr(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What Flower's own command line answered; one that takes too long has failed."""
    command = [_program("flwr"), *map(str, arguments)]
    try:
        return subprocess.run(command, env=_environment(home), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=WAIT_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {WAIT_SECONDS} s")


def _once(home: Path, *arguments: str | Path) -> str:
    done = _flwr(home, *arguments)
    if done.returncode:
        raise AndonError(f"Flower refused {arguments[0]!r}: {(done.stdout + done.stderr).strip()[-800:]}")
    return done.stdout


def _until(
    process: subprocess.Popen[bytes], work: Callable[[], subprocess.CompletedProcess[str]], log: Path
) -> str:
    """What ``work`` prints once it succeeds; raise :class:`AndonError` when ``process`` ends first, or it takes too long."""
    until = time.monotonic() + WAIT_SECONDS
    while (done := work()).returncode or NOT_YET in done.stdout:
        if process.poll() is not None or time.monotonic() > until:
            said = (done.stdout + done.stderr).strip()[-400:]
            raise AndonError(
                f"Flower's server did not start; is the port taken? Its last words are in {log}. {said}"
            )
        time.sleep(1)
    return done.stdout


def _node(said: str) -> int:
    """The number that Flower gave a site, from what it said when the site's key was registered."""
    try:
        return int(json.loads(said[said.index("{") :])["node-id"])
    except (ValueError, KeyError) as error:
        raise AndonError(f"Flower did not register a site's key: {said.strip()[-400:]}") from error


def _refuse_ended_run(home: Path, outcome: Path, log: Path) -> None:
    """Raise :class:`AndonError` where the run ended without an outcome, for its process was killed."""
    listed = _flwr(home, "list", NAME, "--format", "json")
    if listed.returncode or '"finished:' not in listed.stdout:
        return
    time.sleep(1)
    if not outcome.is_file():
        raise AndonError(
            f"the run ended without an outcome (out of memory?); see {log}. Go on with --resume."
        )
