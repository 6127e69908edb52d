"""The records with many rows: what one more costs, what the pages ask, what the proof takes, what lies on the disk.

    python benchmarks/records.py [--inspections 100000] [--url postgresql://user@host/empty] [--result benchmarks/results/records.md]

Verdicts with one region each, a tenth of them fails and reviews, a hundredth decided by a person, put in as one line
would put them, but many to a transaction. Then single ones, with a photograph of 200 kB and a heatmap of 100 kB, each in
its own transaction and on the disk before the next: what a person at the page waits for. Then what ``andon watch`` brings,
one result and fifty at once; it does so in a thread of its own. Then the queries, the median of five.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy

from andon.records import ArtifactName, Filters, LineResult, Records, Session, open_records, rows
from andon.records.pictures import Kept
from andon.types import Decision, Region, Verdict

CLIP = ArtifactName("clip", "c1" * 32)
REGION = Region((100, 200, 130, 260), 1200, 0.004, 14.2, (110, 230), 1.7)
BATCH = 1000


def verdict(number: int) -> Verdict:
    """The verdict on one part: every tenth is no pass."""
    decision: Decision = ("fail", "review")[number // 10 % 2] if number % 10 == 0 else "pass"
    return Verdict(
        path=f"line3/{number:08}.png",
        decision=decision,
        score=0.5 + number % 997 / 2000,
        image_score=9.0 + number % 997 / 300,
        threshold=11.5,
        regions=(REGION,),
        sentence="A spot near the top left, 0.4 % of the image.",
        size=(480, 640),
        milliseconds=12.0 + number % 101 / 10,
    )


def fill(records: Records, session: Session, count: int) -> None:
    """``count`` inspections without pictures, a hundredth of them decided upon."""
    for first in range(0, count, BATCH):
        with records.database.writing() as connection:
            for number in range(first, min(count, first + BATCH)):
                added = rows.add_inspection(connection, session, verdict(number), CLIP, f"{number:08}.png", "", Kept(), Kept())  # fmt: skip
                if number % 100 == 0:
                    rows.add_decision(connection, session, added, "pass", "dust")


def result(number: int) -> LineResult:
    """What a line brings of one part, without pictures."""
    at = datetime.now(UTC)
    return LineResult(
        "a1b2c3d4e5f6", number, f"A{number}", at, verdict(number), CLIP, f"{number:08}.png", "5a" * 32
    )


def median_ms(call: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of a call, the median."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def measure(records: Records, count: int) -> dict[str, float]:
    """What was measured, by its name."""
    session = records.console()
    start = time.perf_counter()
    fill(records, session, count)
    found = {"fill, ms a row": 1000 * (time.perf_counter() - start) / count}
    now = datetime.now(UTC)
    queue = Filters(decisions=("fail", "review"), decided=False)
    found["add, no picture, ms"] = median_ms(lambda: records.add(session, verdict(1), CLIP), 50)
    found["add, two pictures, ms"] = median_ms(
        lambda: records.add(
            session, verdict(1), CLIP, image=os.urandom(200_000), overlay=os.urandom(100_000)
        ),
        50,
    )
    numbers = itertools.count(1)
    found["from a line, one result, ms"] = median_ms(
        lambda: records.add_from_line(session, [result(next(numbers))]), 50
    )
    found["from a line, 50 at once, ms a result"] = (
        median_ms(lambda: records.add_from_line(session, [result(next(numbers)) for _ in range(50)]), 20) / 50
    )
    found["queue, first page, ms"] = median_ms(lambda: records.find(queue))
    found["queue, page 100, ms"] = median_ms(lambda: records.find(queue, page=100))
    found["all, first page, ms"] = median_ms(lambda: records.find())
    found["one session, first page, ms"] = median_ms(lambda: records.find(Filters(session="none")))
    found["nine shifts, ms"] = median_ms(lambda: records.shifts(now - timedelta(days=3), now))
    found["CSV, ms a row"] = median_ms(lambda: records.write_csv(os.devnull), 1) / count
    start = time.perf_counter()
    proof = records.verify()
    found["verify, s"] = time.perf_counter() - start
    if not proof.fits:
        raise SystemExit(f"the trail does not fit: {proof.misfit}")
    found["entries of the trail"] = proof.anchor.entries
    if records.database.file is not None:
        found["bytes on the disk an inspection"] = records.database.file.stat().st_size / count
    return found


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inspections", type=int, default=100_000)
    parser.add_argument("--url", help="an empty PostgreSQL database; default: a new SQLite file")
    parser.add_argument(
        "--result", type=Path, help="write the table here, and the figures beside it as .json"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.url or os.path.join(folder, "station.db")
        with open_records(where, pictures=os.path.join(folder, "pictures")) as records:
            found = measure(records, options.inspections)
    database = "PostgreSQL" if options.url else f"SQLite {sqlite3.sqlite_version}"
    command = f"python benchmarks/records.py --inspections {options.inspections}" + (
        " --url URL" if options.url else ""
    )
    head = (
        f"# Records: {options.inspections:,} inspections\n\n{datetime.now(UTC):%Y-%m-%d}, {database}, "
        f"SQLAlchemy {sqlalchemy.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores "
        f"({cpu()}). `{command}`\n"
    )
    table = "\n".join(
        ["| what | |", "|---|---|", *(f"| {name} | {value:,.4g} |" for name, value in found.items())]
    )
    print(f"{head}\n{table}")
    if options.result:
        options.result.write_text(f"{head}\n{table}\n")
        options.result.with_suffix(".json").write_text(f"{json.dumps(found, indent=1)}\n")


if __name__ == "__main__":
    main()
