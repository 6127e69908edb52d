"""A server under load: N clients that send photographs as fast as they are answered, against a real ``andon serve``.

    python benchmarks/serve.py ../shared/data/mvtec_transistor [--clients 1 4 16 64] [--seconds 20] [--size 256x256] \
        [--threads 1] [--at-once 2] [--queue 16] [--artifact FILE] [--out benchmarks/results]
    python benchmarks/serve.py ../shared/data/mvtec_transistor --minutes 30 [--rate 20] [--swap-every 60]

For each number of clients a server process is started anew. Each client sends the set's test images in an order of its own
over one connection, the next one when the last has been answered; after a 503 it waits for the second that it is asked to.
Clients and server share this machine, so the clients' own time is in the figures. The last row is the second number of
clients again, while the artefact is replaced once a second by one with another threshold.

With ``--minutes``, instead of all that, one row: two clients that together send ``--rate`` photographs a second, whatever the
answers take, while the artefact is replaced every ``--swap-every`` seconds. Every request is counted: answered, refused, an
error, or not answered at all; a client that falls behind is late for the next. Memory is read once a minute. Writes serve-long.md.

- images/s: answered with 200, of all clients together;
- p50, p99: from sending a photograph to its verdict, seen by a client, in milliseconds; refused ones do not count;
- refused: answered with 503, of all; errors: any other answer, and broken connections;
- memory: resident, of the server process, before the first request and after the last, in MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from andon import __version__, load
from andon.data import read_samples
from andon.files import atomic_write
from andon.pipeline import FitOptions, fit

HEAD = """`{command}`, {date}, {cores} cores ({machine}), andon {andon}, ONNX Runtime {onnxruntime}, FastAPI {fastapi}, uvicorn {uvicorn}.

{images} photographs of {set}, {kilobytes:.0f} kB the median one; {method} at {size}, {artifact:.1f} MB; {threads} threads an image, {at_once} images
at once, a queue of {queue}. Clients and server share the machine.

| clients | images/s | p50 ms | p99 ms | longest ms | answered | refused | errors | swaps | memory MiB, start -> end |
|---|---|---|---|---|---|---|---|---|---|
{rows}

*refused*: 503 with Retry-After, from `at_once + queue` requests on; *errors*: anything else but a verdict; *swaps*: of the
artefact, under load.
"""
PAGE = "# A server under load\n\n" + HEAD
LONG = "# A server for a long time\n\n" + HEAD


@dataclass
class Tally:
    """What one client has seen."""

    seconds: list[float] = field(default_factory=list)  # of each verdict
    refused: int = 0
    errors: int = 0
    artefacts: set[str] = field(default_factory=set)  # that answered, by their hashes
    sent: int = 0
    late: float = 0.0  # the longest that a photograph was sent after its time, in seconds


@dataclass(frozen=True)
class Load:
    """One row: how many clients, for how long, and whether the artefact is exchanged meanwhile."""

    clients: int
    seconds: float
    swap_every: float = 0.0  # seconds; 0: never
    rate: float = 0.0  # photographs a second of all clients together; 0: as fast as they are answered


@contextlib.contextmanager
def serving(artifact: Path, options: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port; stopped at the end, and found to have stopped well."""
    arguments = ["--port", 0, "--threads", options.threads, "--at-once", options.at_once, "--queue", options.queue,
                 "--check-every", 0.5, "-q"]  # fmt: skip
    command = [sys.executable, "-m", "andon", "serve", str(artifact), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().rsplit(":", 1)[1])
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def client(
    port: int, photos: Sequence[bytes], end: float, seed: int, tally: Tally, every: float = 0.0
) -> None:
    """Send ``photos`` over and over until ``end``, one ``every`` so many seconds (0: when the last was answered)."""
    order = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    due = time.monotonic()
    while time.monotonic() < end:
        if every:
            time.sleep(max(0.0, due - time.monotonic()))
            tally.late = max(tally.late, time.monotonic() - due)
            due += every
        tally.sent += 1
        start = time.perf_counter()
        try:
            connection.request("POST", "/v1/inspect", order.choice(photos), {"Content-Type": "image/png"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            tally.errors += 1
            connection.close()
            continue
        if answer.status == 200:
            tally.seconds.append(time.perf_counter() - start)
            tally.artefacts.add(json.loads(content)["artefact_sha256"])
        elif answer.status == 503:
            tally.refused += 1
            time.sleep(int(answer.headers["Retry-After"]))
        else:
            tally.errors += 1
    connection.close()


def swapping(place: Path, others: Sequence[Path], end: float, every: float) -> None:
    """Replace the artefact ``every`` so many seconds, by one after the other."""
    number = 0
    while time.monotonic() < end - every:
        time.sleep(every)
        number += 1
        fresh = shutil.copy(others[number % len(others)], place.with_suffix(".fresh"))
        os.replace(fresh, place)


def resident(process: subprocess.Popen[str]) -> float:
    """Resident memory of a process, MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def measure(
    artifacts: Sequence[Path], photos: Sequence[bytes], load: Load, options: argparse.Namespace
) -> dict[str, Any]:
    """One row's figures, of a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(shutil.copy(artifacts[0], Path(folder, "part.andon")))
        with serving(place, options) as (process, port):
            before, end = resident(process), time.monotonic() + load.seconds
            every = load.clients / load.rate if load.rate else 0.0
            tallies = [Tally() for _ in range(load.clients)]
            work = [
                threading.Thread(target=client, args=(port, photos, end, seed, tally, every))
                for seed, tally in enumerate(tallies)
            ]
            if load.swap_every:
                work.append(threading.Thread(target=swapping, args=(place, artifacts, end, load.swap_every)))
            start = time.monotonic()
            for thread in work:
                thread.start()
            each_minute = []
            while (left := end - time.monotonic()) > 60:
                time.sleep(min(60, left))
                each_minute.append(resident(process))
            for thread in work:
                thread.join()
            found = figures(
                load, tallies, time.monotonic() - start, (before, resident(process)), _swaps(port)
            )
            return found | {"memory_each_minute_mib": each_minute}


def _swaps(port: int) -> int:
    """How often the server has taken another file into use, by its own count."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    found = [line for line in lines if line.startswith('andon_artefact_changes_total{kind="swapped"}')]
    return int(float(found[0].split()[1])) if found else 0


def figures(
    load: Load, tallies: Sequence[Tally], seconds: float, memory: tuple[float, float], swaps: int
) -> dict[str, Any]:
    """What one row says."""
    times = 1000 * np.array([one for tally in tallies for one in tally.seconds])
    if not len(times):
        raise SystemExit("not one photograph was answered")
    return {
        "clients": load.clients,
        "images_per_second": len(times) / seconds,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "longest_ms": float(times.max()),
        "sent": sum(tally.sent for tally in tallies),
        "late_ms": 1000 * max(tally.late for tally in tallies),
        "answered": len(times),
        "refused": sum(tally.refused for tally in tallies),
        "errors": sum(tally.errors for tally in tallies),
        "swaps": swaps,
        "artefacts_seen": len(set.union(*(tally.artefacts for tally in tallies))),
        "memory_start_mib": memory[0],
        "memory_end_mib": memory[1],
    }


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    return (
        f"| {found['clients']} | {found['images_per_second']:.1f} | {found['p50_ms']:.1f} | {found['p99_ms']:.1f} | "
        f"{found['longest_ms']:.0f} | {found['answered']} | {found['refused']} | {found['errors']} | {found['swaps']} | "
        f"{found['memory_start_mib']:.0f} -> {found['memory_end_mib']:.0f} |"
    )


def detectors(root: Path, options: argparse.Namespace, folder: Path) -> list[Path]:
    """The artefact to serve, fitted unless given, and the same one with another threshold."""
    rows, columns = map(int, options.size.split("x"))
    if options.artifact is None:
        fit(root, options=FitOptions(size=(rows, columns))).save(folder / "part.andon")
    first = options.artifact or folder / "part.andon"
    predictor = load(first)
    other = replace(predictor.calibration, threshold=predictor.calibration.threshold * 1.01)
    return [first, predictor.recalibrated(other).save(folder / "other.andon")]


def main() -> None:
    """Serve, send, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--minutes", type=float, help="at --rate, instead of the rows of clients")
    parser.add_argument("--rate", type=float, default=20.0, help="photographs a second, with --minutes")
    parser.add_argument("--swap-every", type=float, default=60.0, help="seconds, with --minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    photos = [sample.path.read_bytes() for sample in read_samples(options.root) if sample.split == "test"]
    loads = [Load(clients, options.seconds) for clients in options.clients]
    loads.append(Load(options.clients[min(1, len(options.clients) - 1)], options.seconds, swap_every=1.0))
    if options.minutes:
        loads = [Load(2, 60 * options.minutes, options.swap_every, options.rate)]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        artifacts = detectors(options.root, options, Path(folder))
        for load_ in loads:
            found.append(measure(artifacts, photos, load_, options))
            print(row(found[-1]), flush=True)
        about = described(artifacts[0], photos, options)
    about |= {"rows": "\n".join(map(row, found))}
    name, page = ("serve-long", LONG + long_words(found[0])) if options.minutes else ("serve", PAGE)
    for ending, text in ((".md", page.format(**about)), (".json", json.dumps(found, indent=1))):
        with atomic_write(options.out / f"{name}{ending}", "w") as file:
            file.write(text)


def long_words(found: dict[str, Any]) -> str:
    """What the long run says besides its row."""
    unanswered = found["sent"] - found["answered"] - found["refused"] - found["errors"]
    memory = [f"{one:.0f}" for one in found["memory_each_minute_mib"]]
    return (
        f"\n{found['sent']:,} photographs sent, {unanswered} of them without any answer; the latest was sent "
        f"{found['late_ms']:.0f} ms after its time.\nMemory in MiB, once a minute: {', '.join(memory)}.\n"
    )


def described(artifact: Path, photos: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    """What was measured, where, with what."""
    predictor = load(artifact)
    given = " --artifact FILE" if options.artifact else f" --size {options.size}"
    load_ = f"--clients {' '.join(map(str, options.clients))} --seconds {options.seconds:g}"
    if options.minutes:
        load_ = f"--minutes {options.minutes:g} --rate {options.rate:g} --swap-every {options.swap_every:g}"
    rows, columns = predictor.preprocessing.size
    return {
        "command": f"python benchmarks/serve.py {options.root.name} {load_} --threads {options.threads} "
        f"--at-once {options.at_once} --queue {options.queue}{given}",
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "andon": __version__,
        **{name: version(name) for name in ("onnxruntime", "fastapi", "uvicorn")},
        "images": len(photos),
        "set": options.root.name,
        "kilobytes": float(np.median([len(photo) for photo in photos])) / 1000,
        "method": predictor.manifest["detector"]["title"],
        "size": f"{rows}x{columns}",
        "artifact": artifact.stat().st_size / 1e6,
        "threads": options.threads,
        "at_once": options.at_once,
        "queue": options.queue,
    }  # fmt: skip


if __name__ == "__main__":
    main()
