"""A federation of real processes on loopback, and its failures: what `andon federate server` and `site` do about each.

    python benchmarks/federated_deployment.py [--only NAME ...] [--images 24] [--work FOLDER]

Each case is a server and its sites as a user starts them, on two drawn inspection lines; what must happen is looked for in
what they print and write. Slow: Flower starts a process for every question, and a killed site is noticed after 75 s.
Writes benchmarks/results/federated_deployment.md.

    simulation   two sites over Flower's simulation on Ray end with a file each that inspects
    together     a server and two sites: the same
    stranger     a site whose key was not invited is refused, and gives up when its patience is over
    wrong-ca     a site with another federation's ca.crt stops at once
    no-tls       without ca.crt neither a server nor a site starts
    killed       a site killed at work is named, and the round goes on with the other
    restarted    a server killed after its first round goes on with --resume, at the second
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from andon.data.synthetic import write_line

ANDON = str(Path(sys.executable).parent / "andon")
RESULTS = Path(__file__).parent / "results" / "federated_deployment.md"
FIT = ["--size", "128x128", "--target-rate", "0.2", "--set", "bank_limit=200"]
LONGEST = 900.0  # seconds that anything is waited for


class Case:
    """A folder with drawn lines and keys, a port, and the processes that were started in it."""

    def __init__(self, work: Path, plants: Path) -> None:
        self.work, self.plants = work, plants
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        self.run("keys", str(work / "secrets"), "--site", "oslo", "--site", "bergen")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``andon federate`` with these arguments, to its end."""
        return subprocess.run(
            [ANDON, "federate", *arguments], capture_output=True, text=True, timeout=LONGEST, cwd=self.work
        )

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """The same, at work; what it prints goes into ``name``.log."""
        with open(self.work / f"{name}.log", "ab") as log:
            return subprocess.Popen([ANDON, "federate", *arguments], stdout=log, stderr=log, cwd=self.work)

    def server(self, *more: str) -> subprocess.Popen[bytes]:
        """The server of both sites."""
        return self.start(
            "server",
            "server",
            "--keys",
            "secrets/server",
            "-o",
            "federation",
            "--port",
            self.port,
            *FIT,
            *more,
        )

    def site(self, name: str, keys: Path | None = None, *more: str) -> subprocess.Popen[bytes]:
        """One of the sites."""
        own = keys or self.work / "secrets" / name
        return self.start(name, "site", str(self.plants / name), "-o", f"{name}.andon", "--keys", str(own),
                          "--server", f"127.0.0.1:{self.port}", *more)  # fmt: skip

    def log(self, name: str) -> str:
        """What ``name`` has printed so far."""
        return (self.work / f"{name}.log").read_text(errors="replace")

    def inspects(self, name: str, folder: str = "") -> None:
        """Raise unless the site's file inspects its photographs."""
        photos = sorted((self.plants / name).rglob("test/*/*.png"))[:2]
        done = subprocess.run([ANDON, "inspect", f"{folder}{name}.andon", *map(str, photos)], cwd=self.work, capture_output=True,
                              text=True)  # fmt: skip
        expect(done.returncode in (0, 1) and len(done.stdout.splitlines()) >= 2, done.stdout + done.stderr)

    def outcome(self) -> dict[str, object]:
        """What the server wrote at its end."""
        found: dict[str, object] = json.loads(
            (self.work / "federation" / "federation.outcome.json").read_text()
        )
        return found


def expect(true: bool, said: object) -> None:
    """Raise, with what was said instead, unless ``true``."""
    if not true:
        raise RuntimeError(str(said)[-2000:])


def wait(until: Callable[[], bool], what: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until something has happened; no longer than the server lives."""
    end = time.monotonic() + LONGEST
    while not until():
        expect(server.poll() is None, f"the server ended before {what}")
        expect(time.monotonic() < end, f"waited {LONGEST:.0f} s for {what}")
        time.sleep(0.5)


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process that ends by itself."""
    return process.wait(LONGEST)


@contextlib.contextmanager
def over(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """End ``processes`` with the block, as Ctrl-C would."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            process.poll() is None and process.kill()


def simulation(case: Case) -> str:
    """Two sites over Ray."""
    done = case.run(
        "simulate",
        str(case.plants / "oslo"),
        str(case.plants / "bergen"),
        "-o",
        "fitted",
        "--cpus",
        "2",
        *FIT,
    )
    expect(done.returncode == 0, done.stdout + done.stderr)
    case.inspects("oslo", "fitted/")
    case.inspects("bergen", "fitted/")
    return next(line.strip() for line in done.stdout.splitlines() if "round 2" in line)


def together(case: Case) -> str:
    """A server and two sites."""
    server, sites = case.server("--min-sites", "2"), [case.site("oslo"), case.site("bergen")]
    with over(server, *sites):
        expect(ended(server) == 0, case.log("server"))
        expect([ended(site) for site in sites] == [0, 0], case.log("oslo") + case.log("bergen"))
    case.inspects("oslo")
    case.inspects("bergen")
    return next(line.strip() for line in case.log("server").splitlines() if "round 1" in line)


def stranger(case: Case) -> str:
    """A key of nobody's, with the right authority."""
    other = case.run("keys", str(case.work / "others"), "--site", "oslo")
    expect(other.returncode == 0, other.stderr)
    keys = case.work / "others" / "oslo"
    shutil.copy(case.work / "secrets" / "oslo" / "ca.crt", keys / "ca.crt")
    server = case.server()
    with over(server):
        wait(lambda: "waiting for sites" in case.log("server"), "it waits for sites", server)
        site = case.site("oslo", keys, "--patience", "0")
        with over(site):
            expect(ended(site) == 2 and "does not know this site's key" in case.log("oslo"), case.log("oslo"))
    return case.log("oslo").strip().splitlines()[-1]


def wrong_ca(case: Case) -> str:
    """The authority of another federation."""
    case.run("keys", str(case.work / "others"), "--site", "oslo")
    server = case.server()
    with over(server):
        wait(lambda: "waiting for sites" in case.log("server"), "it waits for sites", server)
        site = case.site("oslo", case.work / "others" / "oslo")
        with over(site):
            expect(ended(site) == 2 and "certificate is not one" in case.log("oslo"), case.log("oslo"))
    return case.log("oslo").strip().splitlines()[-1]


def no_tls(case: Case) -> str:
    """No certificate of an authority."""
    (case.work / "secrets" / "server" / "ca.crt").unlink()
    (case.work / "secrets" / "oslo" / "ca.crt").unlink()
    server, site = case.server(), case.site("oslo")
    expect(ended(server) == 2 and ended(site) == 2, case.log("server") + case.log("oslo"))
    expect(
        "nothing is started" in case.log("server") and "nothing is started" in case.log("oslo"),
        case.log("server"),
    )
    return case.log("oslo").strip().splitlines()[-1]


def killed(case: Case) -> str:
    """A site that is killed, with all of its processes, while it is asked."""
    server = case.server("--timeout", "240", "--min-sites", "1")
    sites = [case.site("oslo"), case.site("bergen")]
    with over(server, *sites):
        log = case.work / "bergen.andon.flower" / "site.log"
        wait(
            lambda: log.is_file() and "Received" in log.read_text(errors="replace"),
            "the first question",
            server,
        )
        children = subprocess.run(
            ["pgrep", "-P", str(sites[1].pid)], capture_output=True, text=True
        ).stdout.split()
        sites[1].kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(child), signal.SIGKILL)
        expect(ended(server) == 0, case.log("server"))
        expect(ended(sites[0]) == 0, case.log("oslo"))
    refused = case.outcome()["reports"][0]["refused"]  # type: ignore[index]
    expect(len(refused) == 1, case.outcome())
    case.inspects("oslo")
    return str(refused[0]["reason"])


def restarted(case: Case) -> str:
    """A server killed when its first round is kept; the sites go on trying."""
    server, sites = case.server("--min-sites", "2"), [case.site("oslo"), case.site("bergen")]
    with over(server, *sites):
        wait((case.work / "federation" / "federation.rounds").is_file, "the first round", server)
        server.send_signal(signal.SIGTERM)
        ended(server)
        again = case.server("--min-sites", "2", "--resume")
        with over(again):
            expect(ended(again) == 0, case.log("server"))
            expect([ended(site) for site in sites] == [0, 0], case.log("oslo") + case.log("bergen"))
    case.inspects("oslo")
    kinds = [report["kind"] for report in case.outcome()["reports"]]  # type: ignore[union-attr,attr-defined]
    expect(kinds == ["observe", "finish"], kinds)
    return "rounds kept and made: observe, finish"


CASES: dict[str, Callable[[Case], str]] = {
    "no-tls": no_tls, "wrong-ca": wrong_ca, "stranger": stranger, "simulation": simulation, "together": together,
    "restarted": restarted, "killed": killed,
}  # fmt: skip


def main() -> None:
    """Run the cases and write what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--images", type=int, default=24, help="good images of each site")
    parser.add_argument(
        "--work", type=Path, help="where to keep everything; default: a folder that is removed"
    )
    options = parser.parse_args()
    lines = ["# A federation of real processes on loopback", "",
             f"`python benchmarks/federated_deployment.py`, {datetime.date.today().isoformat()}; seconds on a machine that may be "
             "busy.", "", "| case | as expected | seconds | what was said |", "|---|---|---|---|"]  # fmt: skip
    failed = False
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, name in enumerate(("oslo", "bergen")):
            if not (work / "plants" / name).is_dir():
                write_line(
                    work / "plants" / name,
                    train=options.images,
                    test_good=4,
                    per_defect=1,
                    size=(192, 256),
                    seed=number,
                )
        for name in options.only:
            folder = work / name
            folder.mkdir(parents=True)
            began, ok = time.monotonic(), "yes"
            try:
                said = CASES[name](Case(folder, (work / "plants").resolve()))
            except (RuntimeError, subprocess.TimeoutExpired, OSError, KeyError) as error:
                ok, said, failed = "NO", str(error), True
            short = " ".join(said.replace(str(work), "").split())[-300:]
            lines.append(f"| {name} | {ok} | {time.monotonic() - began:.0f} | {short} |")
            print(lines[-1], flush=True)
    if set(options.only) == set(CASES):
        RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
