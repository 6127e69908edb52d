"""Memory of a server that merges large memory banks: site by site from files, beside all at once in memory.

    python benchmarks/federated_memory.py [--mb 100] [--sites 2 4 8] [--dimensions 512] [--buffer-rows 60000]

Each case is a process of its own. A site's bank of ``--mb`` megabytes is drawn, travels as a parcel in chunks into a file
(as the server keeps what arrives), and is merged by the server's rule; then the memory bank is closed. Peaks are of the
process's own pages (RssAnon, looked at every 20 ms) and of all resident ones (VmHWM: mapped files included, which the
system takes back when it needs them), less what was there before the first bank.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from andon.features.trunk import LayerInfo
from andon.federated.rounds import default_aggregate
from andon.federated.types import Contribution
from andon.federated.wire import carry
from andon.models.base import State
from andon.models.patchcore import PatchCore

RESULTS = Path(__file__).parent / "results"
BANK_LIMIT = 2000


class Stand(nn.Module):
    """A backbone in shape only: patches of ``channels`` numbers. Never asked for features here."""

    name = "stand"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = {"only": LayerInfo(channels, 8)}
        self.default_layers = ("only",)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Nothing of use."""
        raise NotImplementedError


def bank(rows: int, dimensions: int, seed: int) -> State:
    """A site's state: patches like features, near a sheet of 12 directions that all sites share."""
    generator = torch.Generator().manual_seed(seed)
    sheet = torch.randn(12, dimensions, generator=torch.Generator().manual_seed(0))
    patches = torch.randn(rows, 12, generator=generator) @ sheet
    patches += 0.1 * torch.randn(rows, dimensions, generator=generator)
    return {"patches": patches, "seen": torch.tensor(rows), "patches_seen": torch.tensor(rows)}


def status(name: str) -> float:
    """A line of /proc/self/status in MB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in text.splitlines() if line.startswith(name + ":"))


class Watch:
    """The largest RssAnon while the block runs, in MB."""

    def __enter__(self) -> Watch:
        self.peak, self.over = status("RssAnon"), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(0.02):
            self.peak = max(self.peak, status("RssAnon"))

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def case(way: str, sites: int, mb: float, dimensions: int, buffer_rows: int) -> dict[str, Any]:
    """Figures of one process."""
    torch.set_num_threads(1)
    rows = int(mb * 1e6 / 4 / dimensions)
    detector = PatchCore(Stand(dimensions), bank_limit=BANK_LIMIT, buffer_limit=buffer_rows)
    bank(64, dimensions, 0)
    before_own, before_all, began = status("RssAnon"), status("VmRSS"), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        contributions = []
        for number in range(sites):
            state = bank(rows, dimensions, number + 1)
            if way == "files":
                state, _ = carry(state, f"site {number}", Path(folder) / str(number))
            contributions.append(Contribution(f"site {number}", state, rows))
            del state
        if way == "files":
            merged = default_aggregate(detector)(contributions)
        else:
            merged = PatchCore.merge([one.state for one in contributions], [1.0] * sites)
        detector.load_statistics(merged)
        del merged, contributions
        detector.close()
    return {"way": way, "sites": sites, "bank_mb": mb, "rows": rows, "bank_rows": len(detector.memory_bank),
            "own_mb": round(watch.peak - before_own), "resident_mb": round(status("VmHWM") - before_all),
            "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=100.0, help="of each site's bank")
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--buffer-rows", type=int, default=60_000, help="the detector's buffer_limit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    given = (options.mb, options.dimensions, options.buffer_rows)
    if options.one:
        way, sites = options.one.split(":")
        print(json.dumps(case(way, int(sites), *given)))
        return
    rows = []
    for sites in options.sites:
        for way in ("files", "at once"):
            command = [sys.executable, __file__, "--one", f"{way}:{sites}", "--mb", str(options.mb), "--dimensions",
                       str(options.dimensions), "--buffer-rows", str(options.buffer_rows)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            rows.append(json.loads(done.stdout))
            print(rows[-1], flush=True)
    write(rows, options)


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The table and the figures, in benchmarks/results."""
    asked = f"python benchmarks/federated_memory.py --mb {options.mb:g} --sites {' '.join(map(str, options.sites))}"
    how = {"date": datetime.date.today().isoformat(), "cpu": platform.processor() or platform.machine(),
           "torch": torch.__version__, "numpy": np.__version__, "command": asked}  # fmt: skip
    lines = [
        "# Memory of a server that merges large banks", "",
        f"`{asked}`, {how['date']}, one thread; PyTorch {how['torch']}, NumPy {how['numpy']}; patches of "
        f"{options.dimensions} numbers, at most {options.buffer_rows:,} held ({options.buffer_rows * options.dimensions * 4 / 1e6:.0f} MB), "
        f"{BANK_LIMIT:,} rows in the bank that is made. MB above what was there before the first bank.", "",
        "| sites | MB each | way | own pages, peak MB | resident, peak MB | seconds |", "|---|---|---|---|---|---|",
        *(f"| {r['sites']} | {r['bank_mb']:g} | {r['way']} | {r['own_mb']} | {r['resident_mb']} | {r['seconds']} |" for r in rows),
        "",
    ]  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "federated_memory.md").write_text("\n".join(lines), encoding="utf-8")
    (RESULTS / "federated_memory.json").write_text(
        json.dumps({**how, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
