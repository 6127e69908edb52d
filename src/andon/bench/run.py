"""The cells of a grid, each in a process of its own; what is there already is not computed again.

    OUT/cells/<key>.json   what one cell found; whole or not there
    OUT/logs/<key>.txt     what its process printed
    OUT/<grid>.json        the grid and the results of its cells, in the grid's order

A kill, of a cell or of this process, costs the cells that were running. The same grid on the same images gives the same
file, the costs aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from andon import __version__
from andon.bench.cell import Row
from andon.bench.grid import Cell, Grid
from andon.errors import DataError, SettingsError
from andon.files import atomic_write, single_writer

FORMAT = 1
CELL = ("-m", "andon.bench.cell")  # what Python runs for a cell; the path of its result follows


@dataclass(frozen=True)
class Resources:
    """What the cells may use. ``ray``: the address of a cluster that sees the same files, "local" for one of its own."""

    jobs: int = 1  # cells side by side
    threads: int = 0  # of a cell; 0: the machine's cores shared among the jobs
    timeout: float | None = None  # minutes after which a cell is given up
    timed_images: int = 100  # how many photographs the runtime is timed on
    ray: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("threads", 0), ("timed_images", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.timeout is not None and self.timeout <= 0:
            raise SettingsError(f"timeout must be more than 0 minutes, got {self.timeout}")

    @property
    def threads_each(self) -> int:
        """Threads of one cell."""
        return self.threads or max((os.cpu_count() or 1) // self.jobs, 1)


class Watcher(Protocol):
    """Who is told of the run; from one thread."""

    def planned(self, cells: Sequence[Cell], known: Mapping[str, Row]) -> None:
        """The cells, and the results that are there already, by key."""

    def started(self, cell: Cell) -> None:
        """A cell begins."""

    def ended(self, cell: Cell, row: Row) -> None:
        """A cell has its result."""


def run(
    grid: Grid, cells: Sequence[Cell], out: Path, resources: Resources, watcher: Watcher | None = None
) -> Path:
    """The path of the grid's results in the folder ``out``, after every cell has one. A failed cell's says why.

    Cells that failed before are tried again. Raises BusyError when another process is writing there.
    """
    (out / "cells").mkdir(parents=True, exist_ok=True)
    (out / "logs").mkdir(exist_ok=True)
    with single_writer(out / "bench"):
        known = known_rows(cells, out)
        if watcher:
            watcher.planned(cells, known)
        try:
            missing = {cell.key: cell for cell in cells if cell.key not in known}
            for cell, row in _results(list(missing.values()), out, resources, watcher):
                assemble(grid, cells, out)  # so that a report can be had at any time
                if watcher:
                    watcher.ended(cell, row)
        finally:
            path = assemble(grid, cells, out)
    return path


def known_rows(cells: Sequence[Cell], out: Path) -> dict[str, Row]:
    """The results that the folder ``out`` holds of ``cells``, by key; of those that failed, none."""
    return {cell.key: row for cell in cells if (row := _read(out, cell)) and row["status"] == "done"}


def task_of(cell: Cell, resources: Resources) -> Row:
    """What the process of a cell is told."""
    return {
        "cell": cell.as_dict(), "root": str(cell.source.root), "threads": resources.threads_each,
        "timed_images": resources.timed_images,
    }  # fmt: skip


def assemble(grid: Grid, cells: Sequence[Cell], out: Path) -> Path:
    """Write what is there of the grid's results, in its order."""
    found = [(cell, _read(out, cell)) for cell in cells]
    rows = [{"grid": grid.name, "cell": cell.as_dict(), **row} for cell, row in found if row]
    content = {
        "format": FORMAT, "grid": _described(grid), "cells": len(cells), "rows": rows,
        "made": {"andon": __version__, "python": platform.python_version(), "machine": platform.machine()},
    }  # fmt: skip
    path = out / f"{grid.name}.json"
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
    return path


def read_results(path: Path) -> Row:
    """What :func:`assemble` wrote. Raises :class:`DataError` for anything else."""
    try:
        content: Row = json.loads(path.read_text())
        version = content["format"]
        rows = content["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no results of andon bench: {error}") from error
    if version != FORMAT or not isinstance(rows, list):
        raise DataError(f"{path} is of format {version}; this Andon reads {FORMAT}. Run the grid again.")
    return content


def _described(grid: Grid) -> Row:
    return {**asdict(grid), "variants": [variant.name for variant in grid.variants]}


def _cell_path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"


def _read(out: Path, cell: Cell) -> Row | None:
    path = _cell_path(out, cell)
    if not path.exists():
        return None
    try:
        row: Row = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and its cell is computed again") from error
    return row


def _results(
    cells: list[Cell], out: Path, resources: Resources, watcher: Watcher | None
) -> Iterator[tuple[Cell, Row]]:
    """Each cell with its result, as they come."""
    if resources.ray is not None:
        from andon.bench.cluster import on_ray

        yield from on_ray(cells, out, resources, watcher)
        return
    processes = Processes()
    with ThreadPoolExecutor(resources.jobs) as pool, processes:
        waiting, running = list(cells), dict[Future[Row], Cell]()
        while waiting or running:
            while waiting and len(running) < resources.jobs:
                cell = waiting.pop(0)
                if watcher:
                    watcher.started(cell)
                task = task_of(cell, resources)
                place = _cell_path(out, cell), out / "logs" / f"{cell.key}.txt"
                running[pool.submit(processes.compute, task, *place, resources.timeout)] = cell
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


class Processes:
    """The cells' processes that are running; leaving the block ends them."""

    def __init__(self, program: Sequence[str] | None = None) -> None:
        self._program = tuple(CELL if program is None else program)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()

    def compute(self, task: Row, result: Path, log: Path, timeout: float | None = None) -> Row:
        """The result of ``task``, which its process writes to ``result``; what it prints goes to ``log``.

        A process that ends without a result has failed: the reason is written in its place.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": str(task["threads"])}
        result.unlink(missing_ok=True)
        with open(log, "wb") as output, self._started(result, output, environment) as process:
            try:
                reason = _attend(process, task, timeout)
            finally:
                process.kill()
                process.wait()
                with self._lock:
                    self._running.discard(process)
        if not result.exists():
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            row = {"status": "failed", "error": ": ".join([reason or "it ended without a result", *last])}
            if self._closed:
                return row
            with atomic_write(result, "w") as file:
                json.dump(row, file, indent=1, sort_keys=True)
        found: Row = json.loads(result.read_text())
        return found

    @contextlib.contextmanager
    def _started(
        self, result: Path, output: Any, environment: dict[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, *self._program, str(result)]
        with self._lock:
            if self._closed:
                raise InterruptedError("the benchmark is ending")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            self._running.add(process)
        with process:
            yield process


def _attend(process: subprocess.Popen[bytes], task: Row, timeout: float | None) -> str:
    """Why the process gave no result, as far as its end says; the pipe stays open until then."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        status = process.wait(None if timeout is None else 60 * timeout)
    except subprocess.TimeoutExpired:
        return f"given up after {timeout:g} minutes"
    except BrokenPipeError:
        status = process.wait()
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with status {status}"
