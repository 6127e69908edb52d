"""The cells of a grid on a Ray cluster, each in a process of its own on one of its machines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from andon.bench import run
from andon.bench.cell import Row
from andon.bench.grid import Cell
from andon.bench.run import Processes, Resources, Watcher, task_of
from andon.distributed import RETRIES, cluster
from andon.files import atomic_write


def on_ray(
    cells: list[Cell], out: Path, resources: Resources, watcher: Watcher | None
) -> Iterator[tuple[Cell, Row]]:
    """Each cell with its result, as they come. The images must be at the same path on every machine.

    A worker or machine that goes away costs what it was doing: another one does it again. Raises
    :class:`SettingsError` when there is no cluster at that address, MissingExtraError without Ray.
    """
    with cluster(resources.ray or "local", resources.jobs * resources.threads_each) as ray:
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


def _on_worker(task: Row, timeout: float | None, program: Sequence[str]) -> tuple[Row, str]:
    """The result of ``task`` and what its process printed."""
    with tempfile.TemporaryDirectory(prefix="andon-ray-") as folder, Processes(program) as processes:
        log = Path(folder, "log.txt")
        row = processes.compute(task, Path(folder, "result.json"), log, timeout)
        return row, log.read_text(errors="replace")
