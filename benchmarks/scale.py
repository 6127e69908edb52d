"""A fit in one pass over ever more good images: time, memory, coverage and accuracy, and what surrounds the fit.

    python benchmarks/scale.py [--images 1000 3000] [--methods patchcore padim fre subspacead] [--full-up-to 3000]
    python benchmarks/scale.py --images 10000 30000 100000 --methods patchcore
    python benchmarks/scale.py --images 3000 10000 30000 --methods patchcore --bank 8000 --full-up-to 0
    python benchmarks/scale.py --files 100000

Good images without end are those of a data set, varied anew each time (moved and enlarged, light, noise), or of the synthetic
line (``--line``: drawn once, then varied). A row is a fit in a process of its own, through the engine and with a checkpoint
every 20 s, as ``andon fit`` has it; making the images is not counted. The columns:

- *ms*: of CPU time an image, reading apart; *peak*: resident memory of the process in MB;
- *kept*: the checkpoint's size in MB, and the share of the time that went into writing it;
- *AUROC*: of the data set's own test images;
- *radius*: the farthest that a patch of the images seen lies from the memory bank, *99.9 %*: all but one in a thousand. Of
  3,000 images, spread evenly over all. In ``full`` rows every patch is held and nothing is thinned out.

Rows are added to those that ``scale.json`` has; the page and the plot are made from all of them. At the end a fit that is
stopped half-way and resumed is compared with one that is not. ``--files`` times what surrounds the fit, on as many files.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from andon import __version__
from andon.data import read_samples
from andon.data.augment import Augmentation
from andon.data.synthetic import DEFECTS, draw
from andon.engine import Checkpoint, Reader, fit
from andon.features.neighbours import nearest
from andon.image import Preprocessing, prepare
from andon.metrics import auroc
from andon.models import build
from andon.models.base import Detector
from andon.models.patchcore import PatchCore
from andon.training import checkpoint as checkpoints
from scale_page import BANK, page, plot, set_of, table

Row = dict[str, Any]
Picture = NDArray[np.float32]  # (3, H, W)
KINDS = "crop,light,noise"
COVERED = 3000  # images whose patches' distances are looked at
DRAWN = 300  # parts of the synthetic line that are varied
BATCH = 8
RESULTS = Path(__file__).parent / "results"


class Images:
    """Good images by number, without end, and test images with what they are."""

    def __init__(self, data: Path | None, size: int) -> None:
        self.size = size
        self.vary = Augmentation.parse(KINDS)
        if data is None:
            self.good = [draw(seed, size=(size, size)).image for seed in range(DRAWN)]
            shown = [(draw(10_000 + n, size=(size, size)).image, False) for n in range(60)]
            shown += [
                (draw(20_000 + n, size=(size, size), defect=d).image, True)
                for n, d in enumerate([*DEFECTS] * 4)
            ]
            self.test = [(_channels_first(image), bad) for image, bad in shown]
        else:
            samples = read_samples(data)
            self.good = [self._read(sample.path) for sample in samples if sample.split == "train"]
            self.test = [(self._read(s.path), s.is_anomalous) for s in samples if s.split == "test"]
        self.good = [_channels_first(image) for image in self.good]

    def _read(self, path: Path) -> Picture:
        return prepare(path, Preprocessing((self.size, self.size)))[1].images[0]

    def __call__(self, path: Path) -> Picture:
        """Good image number ``path``."""
        epoch, number = divmod(int(path.name), len(self.good))
        assert self.vary is not None
        return self.vary(self.good[number], seed=0, epoch=epoch, number=number)


def _channels_first(image: NDArray[Any]) -> Picture:
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    return image


class Clock:
    """CPU seconds that calls of a function took together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.process_time() - start

        return timed


# --- one fit, in a process of its own ----------------------------------------------------------------------------------


def one(task: Row) -> Row:
    """The row of one fit."""
    torch.set_num_threads(1)
    images = Images(Path(task["data"]) if task["data"] else None, task["size"])
    detector = build(task["method"], **task["settings"])
    if task["full"]:
        assert isinstance(detector, PatchCore)
        patches = detector.patches(torch.from_numpy(images.good[0])[None])
        detector.buffer_limit = task["images"] * patches.shape[2] * patches.shape[3] + 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reading, writing, wall, cpu = Clock(), Clock(), time.perf_counter(), time.process_time()
    write = checkpoints.write_checkpoint
    checkpoints.write_checkpoint = writing(write)
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "partial")
        kept = None if task["full"] else Checkpoint(path)
        fit(detector, paths(task["images"]), Reader(reading(images), BATCH, 0), checkpoint=kept)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = path.stat().st_size if path.exists() else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = cpu - reading.seconds
    row = {
        "ms": 1000 * spent / task["images"],
        "making_ms": 1000 * reading.seconds / task["images"],
        "wall_s": wall,
        "peak_mb": peak,
        "before_mb": before,
        "kept_mb": size / 1e6,
        "keeping": writing.seconds / spent,
        "auroc": accuracy(detector, images),
    }
    return (
        task | row | (coverage(detector, images, task["images"]) if isinstance(detector, PatchCore) else {})
    )


def paths(count: int) -> list[Path]:
    """Names that :class:`Images` knows."""
    return [Path(f"{number}") for number in range(count)]


@torch.no_grad()
def accuracy(detector: Detector, images: Images) -> float:
    """Image AUROC on the test images."""
    scores: list[float] = []
    for at in range(0, len(images.test), BATCH):
        batch = np.stack([image for image, _ in images.test[at : at + BATCH]])
        scores += detector(torch.from_numpy(batch)).image_score.tolist()
    return auroc(scores, [bad for _, bad in images.test])


@torch.no_grad()
def coverage(detector: PatchCore, images: Images, count: int) -> Row:
    """How far patches of the images seen lie from the memory bank."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, COVERED)).astype(int))
    found = []
    for at in range(0, len(chosen), BATCH):
        batch = np.stack([images(Path(str(number))) for number in chosen[at : at + BATCH]])
        rows = detector.patches(torch.from_numpy(batch)).permute(0, 2, 3, 1).flatten(0, 2)
        found.append(nearest(rows, detector.memory_bank)[0][:, 0].numpy())
    distances = np.concatenate(found)
    return {"radius": float(distances.max()), "most": float(np.quantile(distances, 0.999)),
            "median": float(np.median(distances)), "bank": len(detector.memory_bank)}  # fmt: skip


def resumed_is_uninterrupted(task: Row) -> Row:
    """Whether a fit that is stopped half-way and resumed ends at the same bits."""
    torch.set_num_threads(1)
    images = Images(Path(task["data"]) if task["data"] else None, task["size"])
    whole, halves = (build(task["method"], **task["settings"]) for _ in range(2))
    names, reader = paths(task["images"]), Reader(images, BATCH, 0)
    fit(whole, names, reader)

    def stop(phase: str, done: int, total: int) -> None:
        if done * 2 >= total:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "partial")
        try:
            fit(halves, names, reader, checkpoint=Checkpoint(path), progress=stop)
        except KeyboardInterrupt:
            report = fit(halves, names, reader, checkpoint=Checkpoint(path, resume=True))
    a, b = whole.fitted_state(), halves.fitted_state()
    return task | {"resumed_at": report.resumed_at, "same": all(torch.equal(a[name], b[name]) for name in a)}


# --- what surrounds a fit ----------------------------------------------------------------------------------------------


def around(task: Row) -> Row:
    """Seconds, and peak memory after, of what is done with the files before and after the images are looked at."""
    from andon.engine import fingerprint
    from andon.pipeline.options import FitOptions
    from andon.pipeline.parts import choose_preprocessing, parts_of, short_digest

    steps: dict[str, tuple[float, float]] = {}

    def step(name: str, function: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = function()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        steps[name] = (time.process_time() - start, peak)
        return result

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "good")
        write_files(root, task["files"])
        step("list the files", lambda: read_samples(root))
        parts = step("list and divide them", lambda: parts_of(root, FitOptions(), uses_held_out=False))
        step("choose the input's size", lambda: choose_preprocessing(parts.train, FitOptions()))
        detector = build("patchcore")
        step("fingerprint of the fit", lambda: fingerprint(detector, parts.train))
        digests = step("digests for the manifest", lambda: sorted({short_digest(p) for p in parts.train}))
    return task | {"steps": steps, "digests_mb": len(json.dumps(digests)) / 1e6}


def write_files(root: Path, count: int) -> None:
    """So many small photographs, no two of them the same file."""
    root.mkdir()
    pictures = []
    for number in range(20):
        path = root / "part.jpg"
        Image.fromarray(draw(number, size=(64, 64)).image).save(path, quality=80)
        pictures.append(path.read_bytes())
        path.unlink()
    for number in range(count):  # a decoder reads up to the end of the picture
        (root / f"{number:06}.jpg").write_bytes(pictures[number % len(pictures)] + number.to_bytes(8))


# --- the runs ----------------------------------------------------------------------------------------------------------


JOBS = {"fit": one, "resume": resumed_is_uninterrupted, "files": around}


def in_own_process(job: str, task: Row) -> Row:
    """What ``job`` answers to ``task``."""
    command = [sys.executable, __file__, "--job", job]
    done = subprocess.run(command, input=json.dumps(task), text=True, stdout=subprocess.PIPE, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def tasks(options: argparse.Namespace) -> Iterator[Row]:
    """The fits to be made."""
    data = None if options.line else str(options.data)
    for count in options.images:
        for method in options.methods:
            settings = (
                {"bank_limit": options.bank, "buffer_limit": options.buffer} if method == "patchcore" else {}
            )
            task = {
                "data": data,
                "size": options.size,
                "images": count,
                "method": method,
                "settings": settings,
            }
            yield task | {"full": False}
            if method == "patchcore" and count <= options.full_up_to:
                yield task | {"full": True}


def identity(row: Row) -> str:
    """What makes two rows the same measurement."""
    data = Path(row["data"]).name if row["data"] else "line"
    return json.dumps([data, row["size"], row["images"], row["method"], row["settings"], row["full"]])


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def write(content: Row, out: Path) -> None:
    """scale.json, .md and .svg."""
    content["made"] = (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {cpu_name()}, one thread, andon {__version__}, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}. Command: `python benchmarks/scale.py`."
    )
    content["rows"].sort(
        key=lambda row: (set_of(row), row["method"], row["full"], *row["settings"].values(), row["images"])
    )
    (out / "scale.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "scale.md").write_text(page(content, __doc__ or ""))
    if content["rows"]:
        plot(content["rows"], out / "scale.svg")


def main() -> None:
    """Measure, print, and write the results after every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 3000])
    parser.add_argument("--methods", nargs="+", default=["patchcore", "padim", "fre", "subspacead"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mvtec_transistor"))
    parser.add_argument("--line", action="store_true", help="the synthetic line in place of --data")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--bank", type=int, default=BANK)
    parser.add_argument("--buffer", type=int, default=50_000)
    parser.add_argument(
        "--full-up-to", type=int, default=3000, help="images up to which the full bank is made, too"
    )
    parser.add_argument(
        "--files", type=int, default=0, help="time what surrounds a fit of so many files, and nothing else"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(JOBS[options.job](json.load(sys.stdin))))
        return
    known = options.out / "scale.json"
    content: Row = (
        json.loads(known.read_text()) if known.exists() else {"rows": [], "resumed": [], "files": []}
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.files:
        content["files"] = [in_own_process("files", {"files": options.files})]
        print(content["files"])
        write(content, options.out)
        return
    for task in tasks(options):
        row = in_own_process("fit", task)
        print(table([row]).splitlines()[-1], flush=True)
        content["rows"] = [old for old in content["rows"] if identity(old) != identity(row)] + [row]
        write(content, options.out)
    first = next(task for task in tasks(options) if task["method"] == options.methods[0])
    content["resumed"] = [in_own_process("resume", first | {"images": min(options.images)})]
    print(content["resumed"])
    write(content, options.out)


if __name__ == "__main__":
    main()
