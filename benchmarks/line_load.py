"""A watched folder under load: nothing lost, nothing twice, the queue, resident memory, and how long a result takes.

    python benchmarks/line_load.py ../shared/data/mvtec_transistor [--minutes 60] [--cycle 1.0] [--kills 3] [--records]

Photographs of the set's test folders are written into a folder, two a cycle (twice the rate of a line that makes one
part a cycle), every second one in two halves with a pause; ``andon watch`` runs as a process of its own, and is killed
(kill -9) and started again ``--kills`` times on the way. From the moment a file is complete to the moment its JSON lies
there is one time a part; those of parts that a restart delayed are told apart. Resident memory and queue (files
complete, results not there yet) are taken once a second. With ``--records`` every verdict also goes into records, which
must hold each once, and fit their audit trail, at the end. Writes benchmarks/results/line_load.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from andon.records import open_records

RESULTS = Path(__file__).resolve().parent / "results"
PAUSE_S = 0.05  # between the halves of a file
SETTLED_S = 5.0  # after a start: how long memory is let grow before the first figure
PATIENCE_S = 120.0  # for the last results


@dataclass
class Writer:
    """Writes photographs into ``folder``, ``rate`` a second until ``end`` (monotonic)."""

    folder: Path
    photos: list[bytes]
    rate: float
    end: float
    complete: dict[str, float] = field(default_factory=dict)  # name -> Unix seconds

    def run(self) -> None:
        """Write until the end; what comes late is caught up."""
        start = time.monotonic()
        for number in itertools.count():
            due = start + number / self.rate
            if due >= self.end:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            self.write(f"{number:07}.png", self.photos[number % len(self.photos)], halves=number % 2 == 1)

    def write(self, name: str, data: bytes, *, halves: bool) -> None:
        """One file, unbuffered, and when it was complete."""
        with open(self.folder / name, "wb", buffering=0) as file:
            if halves:
                file.write(data[: len(data) // 2])
                time.sleep(PAUSE_S)
                file.write(data[len(data) // 2 :])
            else:
                file.write(data)
        self.complete[name] = time.time()


@dataclass
class Watch:
    """``andon watch`` as a process that is killed and started again."""

    command: list[str]
    starts: list[float] = field(default_factory=list)  # Unix seconds
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin."""
        self.starts.append(time.time())
        self.process = subprocess.Popen(self.command)

    def end(self, how: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    def resident_mb(self) -> float:
        """The process's resident memory, in 10^6 bytes."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmRSS")), 0.0)


def documents(out: Path) -> list[tuple[dict[str, Any], float]]:
    """Every result below ``out`` with the time at which its file was written, by their numbers."""
    return [
        (json.loads(path.read_text()), path.stat().st_mtime)
        for path in sorted((out / "parts").rglob("*.json"))
    ]


def follow(watch: Watch, writer: Writer, out: Path, kills: list[float], end: float) -> dict[str, list[float]]:
    """Memory and queue once a second until ``end``, with kill -9 at ``kills`` (monotonic) on the way."""
    seen: dict[str, list[float]] = {"resident_mb": [], "queue": []}
    begun = time.monotonic()
    while time.monotonic() < end:
        if kills and time.monotonic() >= kills[0]:
            kills.pop(0)
            watch.end(signal.SIGKILL)
            watch.start()
            begun = time.monotonic()
        if time.monotonic() - begun >= SETTLED_S:
            seen["resident_mb"].append(watch.resident_mb())
        seen["queue"].append(len(writer.complete) - results_in(out))
        time.sleep(1.0)
    deadline = time.monotonic() + PATIENCE_S
    while results_in(out) < len(writer.complete) and time.monotonic() < deadline:
        time.sleep(0.2)
    seen["resident_mb"].append(watch.resident_mb())
    return seen


def results_in(out: Path) -> int:
    """How many results lie there."""
    return sum(len(os.listdir(day)) for day in (out / "parts").glob("*")) if (out / "parts").exists() else 0


def figures(
    writer: Writer, watch: Watch, out: Path, seen: dict[str, list[float]], station: Path
) -> dict[str, Any]:
    """What came out: losses, doubles, order, times, memory, queue, and records where there are some."""
    found = documents(out)
    times = Counter(document["name"] for document, _ in found)
    logged = [
        int(line.split(",")[0])
        for path in sorted((out / "log").glob("*.csv"))
        for line in path.read_text().splitlines()[1:]
    ]
    numbers = [document["sequence"] for document, _ in found]
    waits = {document["name"]: written - writer.complete[document["name"]] for document, written in found}
    # a part that was complete while nobody watched, or within ten seconds of a new start, says nothing of the line's pace
    steady = [
        wait
        for name, wait in waits.items()
        if not any(-wait - 5.0 <= writer.complete[name] - start < 10.0 for start in watch.starts)
    ]
    memory = seen["resident_mb"]
    return {
        "photographs": len(writer.complete),
        "results": len(found),
        "lost": len(writer.complete.keys() - times.keys()),
        "twice": sum(count > 1 for count in times.values()),
        "errors": sum(document["decision"] == "error" for document, _ in found),
        "numbers_without_gap": numbers == list(range(1, len(numbers) + 1)),
        "log_is_the_same": logged == numbers,
        "ms_p50": 1e3 * float(np.quantile(steady, 0.5)),
        "ms_p99": 1e3 * float(np.quantile(steady, 0.99)),
        "ms_longest": 1e3 * max(steady),
        "seconds_longest_with_restarts": max(waits.values()),
        "queue_median": float(np.median(seen["queue"])),
        "queue_longest": max(seen["queue"]),
        "resident_mb_start": memory[0],
        "resident_mb_end": memory[-1],
        "resident_mb_most": max(memory),
        **(recorded(station, found) if station.exists() else {}),
    }


def recorded(station: Path, found: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
    """Whether the records hold each verdict once, in order, and fit."""
    with open_records(station, create=False) as records:
        numbers = [row.sequence for row in records.each()]
        fits = records.verify().fits
    verdicts = [document["sequence"] for document, _ in found if document["decision"] != "error"]
    return {"recorded": len(numbers), "records_are_the_same": numbers == verdicts, "records_fit": fits}


def page(found: dict[str, Any], options: argparse.Namespace, command: str) -> str:
    """The figures as Markdown."""
    return "\n".join([
        "# A watched folder under load", "", f"`{command}`", "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, "
        f"ONNX Runtime {onnxruntime.__version__}.", "",
        f"{options.minutes:g} min, {2 / options.cycle:g} photographs a second ({options.root.name}), kill -9 and a new start: {options.kills}.",
        "",
        "| photographs | lost | twice | errors | numbers without a gap | log the same |", "|---|---|---|---|---|---|",
        f"| {found['photographs']:,} | {found['lost']} | {found['twice']} | {found['errors']} | "
        f"{'yes' if found['numbers_without_gap'] else 'NO'} | {'yes' if found['log_is_the_same'] else 'NO'} |", "",
        "| file complete to result, p50 | p99 | longest | longest with restarts | queue, median | longest | resident, start | end | most |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {found['ms_p50']:.0f} ms | {found['ms_p99']:.0f} ms | {found['ms_longest']:.0f} ms | {found['seconds_longest_with_restarts']:.1f} s | "
        f"{found['queue_median']:.0f} | {found['queue_longest']} | {found['resident_mb_start']:.0f} MB | {found['resident_mb_end']:.0f} MB | "
        f"{found['resident_mb_most']:.0f} MB |", "",
        *([f"Records: {found['recorded']:,} verdicts, {'the same' if found['records_are_the_same'] else 'NOT THE SAME'} as the results; "
           f"the audit trail {'fits' if found['records_fit'] else 'DOES NOT FIT'}.", ""] if "recorded" in found else []),
        "Until a file counts as whole it must not have changed for 0.2 s (`--settle`), seen at looks 0.1 s apart (`--poll`): 0.2 to 0.4 s of "
        "each time are that. All files stay in the folder, so its listing grows with the run.", "",
    ])  # fmt: skip


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def fitted(root: Path, folder: Path) -> Path:
    """A detector of the set's good photographs."""
    artifact = folder / "part.andon"
    fit = [sys.executable, "-m", "andon", "fit", str(root), "--size", "128x128", "-o", str(artifact), "-q"]
    subprocess.run(fit, check=True)
    return artifact


def main() -> int:
    """Run it, print and write the figures; 1 where something was lost or came twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a set in MVTec layout")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--cycle",
        type=float,
        default=1.0,
        help="seconds a part of the line; two photographs are written a cycle",
    )
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--artifact", type=Path, help="default: fitted on the set at 128x128")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--records", action="store_true", help="write the verdicts into records, too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()  # fmt: skip
    photos = [path.read_bytes() for path in sorted((options.root / "test").rglob("*.png"))]
    with tempfile.TemporaryDirectory() as name:
        folder, out, station = Path(name, "in"), Path(name, "out"), Path(name, "station.db")
        folder.mkdir()
        artifact = options.artifact or fitted(options.root, Path(name))
        watch = Watch([
            sys.executable, "-m", "andon", "watch", str(folder), "--artifact", str(artifact), "-o", str(out), "-q",
            "--threads", str(options.threads), *(["--records", str(station)] if options.records else []),
        ])  # fmt: skip
        watch.start()
        time.sleep(5.0)
        seconds = 60 * options.minutes
        start = time.monotonic()
        writer = Writer(folder, photos, 2 / options.cycle, start + seconds)
        kills = [start + seconds * (number + 1) / (options.kills + 1) for number in range(options.kills)]
        thread = threading.Thread(target=writer.run)
        thread.start()
        seen = follow(watch, writer, out, kills, start + seconds)
        thread.join()
        watch.end(signal.SIGTERM)
        found = figures(writer, watch, out, seen, station)
    command = f"python benchmarks/line_load.py {shlex.join(sys.argv[1:])}"
    text = page(found, options, command)
    print(text)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "line_load.md").write_text(text, encoding="utf-8")
    (options.results / "line_load.json").write_text(json.dumps({"command": command, **found}, indent=1), encoding="utf-8")  # fmt: skip
    records_hold = found.get("records_are_the_same", True) and found.get("records_fit", True)
    return int(bool(found["lost"] or found["twice"]) or not (found["log_is_the_same"] and records_hold))


if __name__ == "__main__":
    sys.exit(main())
