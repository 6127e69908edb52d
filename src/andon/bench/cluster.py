"""The cells of a grid on a Ray cluster, each in a process of its own on one of its machines."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from andon.bench import run
from andon.bench.cell import Row
from andon.bench.grid import Cell
from andon.bench.run import Processes, Resources, Watcher, task_of
from andon.errors import MissingExtraError, SettingsError
from andon.files import atomic_write

KNOCK_SECONDS = 10
RETRIES = 3  # of a cell whose machine or worker went away


def on_ray(
    cells: list[Cell], out: Path, resources: Resources, watcher: Watcher | None
) -> Iterator[tuple[Cell, Row]]:
    """Each cell with its result, as they come. The images must be at the same path on every machine.

    A worker or machine that goes away costs what it was doing: another one does it again. Raises
    :class:`SettingsError` when there is no cluster at that address, MissingExtraError without Ray.
    """
    ray = _connected(resources)
    try:
        remote = ray.remote(num_cpus=resources.threads_each, max_retries=RETRIES)(_on_worker)
        running = {}
        for cell in cells:
            if watcher:
                watcher.started(cell)
            running[remote.remote(task_of(cell, resources), resources.timeout, run.CELL)] = cell
        while running:
            for future in ray.wait(list(running), num_returns=1)[0]:
                cell = running.pop(future)
                try:
                    row, printed = ray.get(future)
                except ray.exceptions.RayError as error:
                    row, printed = (
                        {"status": "failed", "error": f"Ray: {str(error).splitlines()[0]}"},
                        str(error),
                    )
                (out / "logs" / f"{cell.key}.txt").write_text(printed)
                with atomic_write(out / "cells" / f"{cell.key}.json", "w") as file:
                    json.dump(row, file, indent=1, sort_keys=True)
                yield cell, row
    finally:
        ray.shutdown()


def _connected(resources: Resources) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", extra="ray", purpose="running on a Ray cluster") from error
    address = resources.ray or "local"
    own = address == "local"
    cpus: dict[str, Any] = {"num_cpus": resources.jobs * resources.threads_each} if own else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, include_dashboard=False, **cpus)
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"there is no Ray cluster at {address!r} ({error}); start one with: ray start --head, or give --ray local"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at ``address``, if it is host:port; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "//" not in address:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _on_worker(task: Row, timeout: float | None, program: Sequence[str]) -> tuple[Row, str]:
    """The result of ``task`` and what its process printed."""
    with tempfile.TemporaryDirectory(prefix="andon-ray-") as folder, Processes(program) as processes:
        log = Path(folder, "log.txt")
        row = processes.compute(task, Path(folder, "result.json"), log, timeout)
        return row, log.read_text(errors="replace")
