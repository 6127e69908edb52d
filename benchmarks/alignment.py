"""How exactly parts are placed: real photographs moved by known amounts, good and defective, and foreign ones.

    python benchmarks/alignment.py ../shared/data --out benchmarks/results/alignment

For each set an :class:`andon.nuisance.align.Aligner` is fitted on ``train/good``. Then test images are turned and shifted by
known amounts (edges repeated where nothing was photographed), and located before and after: the error is how far the two
places differ once the move is taken into account, on average over nine points, in pixels of the photograph. Errors are
of the images that were not refused, before or after; *wrong* are those among them with more than 2 % of the longest side. *Foreign* are good images of
the other sets, brought to the set's size. Milliseconds are of the processor, median over the moved images, decoding left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import DataError
from andon.image import decode
from andon.nuisance.align import WRONG, Aligner, Motion, Placement, mean_distance
from andon.nuisance.opencv import opencv
from andon.nuisance.phase import Matrix, chain, turn

SETS = ("mvtec_transistor", "mvtec_loco_juice_bottle", "aws_cookies")
FOREIGN = (*SETS, "magnetic_tile")
TURN, SHIFT = 10.0, 0.05  # degrees and share of the sides by which test images are moved, either way at most
ENLARGED = 1024  # pixels of the longest side: "full size", as the sets here are reduced copies

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Figures of one kind of image of one set. Errors in pixels of the photograph."""

    set: str
    motion: str
    kind: str
    images: int
    refused: float
    wrong: float
    error_median: float
    error_95: float
    milliseconds: float
    milliseconds_enlarged: float


def main() -> None:
    """Measure, print and write ``<out>.md`` and ``<out>.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="path of the results without ending")
    parser.add_argument("--images", type=int, default=20, help="of each kind and set")
    parser.add_argument("--fit", type=int, default=80, help="good images that an aligner is fitted on")
    parser.add_argument("--motion", nargs="+", default=["rigid", "shift"])
    options = parser.parse_args()
    opencv("this benchmark").setNumThreads(1)
    rows: list[Row] = []
    said: list[str] = []
    for name in SETS:
        for motion in options.motion:
            found, told = measured(options.data, name, motion, options.images, options.fit)
            rows += found
            said.append(told)
            print(told, *map(line, found), sep="\n", flush=True)
    if options.out:
        write(options.out, rows, said)


def measured(data: Path, name: str, motion: Motion, count: int, fitted: int) -> tuple[list[Row], str]:
    """The rows of one set, and what its fit says."""
    started = time.process_time()
    try:
        aligner = Aligner.fit(images(data / name / "train" / "good"), motion=motion, limit=fitted)
    except DataError as error:
        return [], f"{name}, {motion}: the fit refuses: {error}"
    seconds = time.process_time() - started
    said = (f"{name}, {motion}: threshold {aligner.threshold:.2f}, good parts reach {aligner.ordinary:.2f}; errors of good "
            f"parts at the fit {aligner.errors[0]:.2f} px (median), {aligner.errors[1]:.2f} px (95 %); fit "
            f"{seconds:.0f} s, {len(aligner.to_bytes()) / 1024:.0f} KiB")  # fmt: skip
    rng = np.random.default_rng(0)
    kinds = sorted((data / name / "test").iterdir())
    good = [path for kind in kinds if kind.name == "good" for path in images(kind)]
    bad = [path for kind in kinds if kind.name != "good" for path in images(kind)]
    rows = [moved_row(aligner, name, kind, evenly(paths, count), rng)
            for kind, paths in (("good", good), ("defective", bad))]  # fmt: skip
    others = [path for other in FOREIGN if other != name
              for path in evenly(images(data / other / "train" / "good"), count)]  # fmt: skip
    return [*rows, foreign_row(aligner, name, others)], said


def moved_row(aligner: Aligner, name: str, kind: str, paths: list[Path], rng: np.random.Generator) -> Row:
    """Errors of images moved by known amounts."""
    errors, spent, spent_large = [], [], []
    for path in paths:
        pixels = decode(path).pixels
        size = (pixels.shape[0], pixels.shape[1])
        move = turn(rng.uniform(-TURN, TURN) if aligner.motion != "shift" else 0.0, size)
        move[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * size[::-1]
        moved = moved_by(pixels, move)
        before = aligner.locate(pixels)
        began = time.process_time()
        after = aligner.locate(moved)
        spent.append(time.process_time() - began)
        spent_large.append(enlarged_seconds(aligner, moved))
        if isinstance(before, Placement) and isinstance(after, Placement):
            errors.append(mean_distance(chain(move, after.matrix), before.matrix, size))
    side = max(aligner.size)
    return Row(name, aligner.motion, kind, len(paths), 1 - len(errors) / len(paths),
               float(np.mean(np.array(errors) > WRONG * side)) if errors else 0.0,
               *(float(np.quantile(errors, q)) if errors else np.nan for q in (0.5, 0.95)),
               1000 * float(np.median(spent)), 1000 * float(np.median(spent_large)))  # fmt: skip


def foreign_row(aligner: Aligner, name: str, paths: list[Path]) -> Row:
    """How many images of other sets are refused."""
    accepted = 0
    for path in paths:
        rows, columns = aligner.size
        photo = Image.fromarray(decode(path).pixels).resize((columns, rows), Image.Resampling.BILINEAR)
        accepted += isinstance(aligner.locate(np.asarray(photo)), Placement)
    share = accepted / len(paths)
    return Row(name, aligner.motion, "foreign", len(paths), 1 - share, share, *[np.nan] * 4)


def enlarged_seconds(aligner: Aligner, pixels: Pixels) -> float:
    """Processor time to locate the photograph at ``ENLARGED`` pixels."""
    factor = ENLARGED / max(pixels.shape[:2])
    photo = Image.fromarray(pixels)
    large = np.asarray(photo.resize((round(photo.width * factor), round(photo.height * factor))))
    began = time.process_time()
    aligner.locate(large)
    return time.process_time() - began


def moved_by(pixels: Pixels, matrix: Matrix) -> Pixels:
    """The photograph moved by ``matrix``, its edges repeated."""
    cv2 = opencv("this benchmark")
    size = (pixels.shape[1], pixels.shape[0])
    moved: Pixels = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return moved


def images(folder: Path) -> list[Path]:
    """The images of a folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def evenly(paths: list[Path], count: int) -> list[Path]:
    """At most ``count`` of ``paths``, evenly taken."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))]


def line(row: Row) -> str:
    """A row of the table."""
    shares = f"{row.refused:.0%} | {row.wrong:.0%}"
    rest = [f"{value:.2f}" for value in (row.error_median, row.error_95)]
    rest += [f"{value:.0f}" for value in (row.milliseconds, row.milliseconds_enlarged)]
    return f"| {row.set} | {row.motion} | {row.kind} | {row.images} | {shares} | " + " | ".join(
        "" if value == "nan" else value for value in rest
    ) + " |"  # fmt: skip


def about() -> Iterator[str]:
    """Date, machine, versions and command."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {opencv('this benchmark').__version__}"
    yield f"{date.today()}, one core of {cpu()}, {versions}"
    yield f"python {' '.join(sys.argv)}"


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [row.split(":")[1].strip() for row in info.read_text().splitlines() if row.startswith("model name")] \
        if info.exists() else []  # fmt: skip
    return names[0] if names else platform.machine()


def write(out: Path, rows: list[Row], said: list[str]) -> None:
    """The table as Markdown and the figures as JSON."""
    when, command = about()
    head = ("| set | motion | images | n | refused | wrong | error px, median | 95 % | ms | "
            f"ms at {ENLARGED} |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    text = "\n".join(["# Placing parts\n", f"`{command}`\n\n{when}.\n", head, *map(line, rows), "",
                      "What the fits say:\n", *(f"- {told}" for told in said), "",
                      __doc__.split("\n\n", 2)[2].strip()])  # fmt: skip
    out.with_suffix(".md").write_text(text + "\n")
    values = [{key: None if value != value else value for key, value in asdict(row).items()} for row in rows]
    content = {"about": when, "command": command, "rows": values, "fits": said}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
