"""How many drawn codes are found on real photographs and how exactly, and what is found where nothing is printed.

    python benchmarks/codes.py ../shared/data --out benchmarks/results/codes

A code of eight digits (with the quiet zone that its standard asks for, on a light plate, blurred a little and turned by up to
``TURN`` degrees) is pasted on images of real parts, enlarged to ``SIDE`` pixels. *Found*: share of codes that a box of their
kind overlaps by more than half (intersection over union). *Covered*: share of the print's pixels inside, the mean over codes found;
*beside*: pixels of the boxes outside the print, as a share of it. *Boxes elsewhere*: on all images together. The last rows are
all images of each set as they are, good and bad, where nothing is printed. Milliseconds of the processor, median.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from alignment import about, evenly, images
from andon.data import read_samples
from andon.image import decode
from andon.nuisance.codes import FORMATS, KINDS, Code, Kind, find_codes
from andon.nuisance.zones import polygon_mask

SETS = ("mvtec_transistor", "aws_cookies", "magnetic_tile")  # nothing is printed on these
SIDE, TURN = 768, 8.0
MODULES = (1.5, 2.0, 3.0, 5.0)  # pixels of a code's module
QUIET = {"qr": 4, "datamatrix": 2, "aztec": 1, "barcode": 11}  # modules around it
TALL = 20  # modules of a bar code's height

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """Figures of one kind of code at one size on one set; None where there is nothing to say."""

    set: str
    kind: str
    module: float | None
    images: int
    found: float | None
    covered: float | None
    beside: float | None
    elsewhere: int
    milliseconds: float


def main() -> None:
    """Measure, print and write ``<out>.md`` and ``<out>.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="path of the results without ending")
    parser.add_argument("--images", type=int, default=12, help="of each set")
    parser.add_argument("--show", type=Path, help="folder for the first picture of each row, with its boxes")
    options = parser.parse_args()
    rows = []
    for name in SETS:
        photos = [enlarged(decode(path).pixels)
                  for path in evenly(images(options.data / name / "train" / "good"), options.images)]  # fmt: skip
        rows += [measured(name, kind, module, photos, options.show) for kind in KINDS for module in MODULES]
        rows.append(unprinted(name, [sample.path for sample in read_samples(options.data / name)]))
        print(*map(line, rows[-len(KINDS) * len(MODULES) - 1 :]), sep="\n", flush=True)
    if options.out:
        write(options.out, rows)


def measured(name: str, kind: Kind, module: float, photos: list[Pixels], show: Path | None) -> Row:
    """One row: a code of this kind and size on each photograph that has room for it."""
    rng = np.random.default_rng([KINDS.index(kind), int(10 * module)])
    found, covered, beside, spent, elsewhere = [], [], [], [], 0
    for number, photo in enumerate(photos):
        placed = pasted(photo, code_of(kind, rng), module, QUIET[kind], rng)
        if placed is None:
            continue
        labelled, printed = placed
        began = time.process_time()
        codes = find_codes(labelled)
        spent.append(1000 * (time.process_time() - began))
        masks = [polygon_mask(code.corners, (labelled.shape[0], labelled.shape[1])) for code in codes]
        right = [
            mask
            for code, mask in zip(codes, masks, strict=True)
            if code.kind == kind and alike(mask, printed) > 0.5
        ]
        found.append(bool(right))
        elsewhere += len(codes) - len(right)
        if right:
            covered.append(float((right[0] & printed).sum() / printed.sum()))
            beside.append(float((right[0] & ~printed).sum() / printed.sum()))
        if show is not None and number == 0:
            draw(labelled, codes, show / f"{name}-{kind}-{module:g}.png")
    some = bool(covered)
    return Row(name, kind, module, len(found), float(np.mean(found)) if found else None,
               float(np.mean(covered)) if some else None, float(np.mean(beside)) if some else None, elsewhere,
               float(np.median(spent)) if spent else 0.0)  # fmt: skip


def unprinted(name: str, paths: list[Path]) -> Row:
    """The row of all images as they are."""
    counts, spent = [], []
    for path in paths:
        pixels = decode(path).pixels
        began = time.process_time()
        counts.append(len(find_codes(pixels)))
        spent.append(1000 * (time.process_time() - began))
    return Row(name, "none", None, len(paths), None, None, None, sum(counts), float(np.median(spent)))


def code_of(kind: Kind, rng: np.random.Generator) -> Pixels:
    """The code alone, a pixel a module, 0 ink and 255 ground; bar codes are Code 128."""
    import zxingcpp

    drawn = zxingcpp.create_barcode(
        f"{rng.integers(10**7, 10**8)}", getattr(zxingcpp.BarcodeFormat, FORMATS[kind][0])
    )
    ink = np.asarray(drawn.to_image(scale=1, add_quiet_zones=False))
    ink = ink.reshape(ink.shape[0], ink.shape[1])
    return np.tile(ink[:1], (TALL, 1)) if kind == "barcode" else ink


def pasted(
    photo: Pixels, code: Pixels, module: float, quiet: int, rng: np.random.Generator
) -> tuple[Pixels, Mask] | None:
    """The photograph with the code on a plate somewhere, and where the print lies (H, W); None where it has no room."""
    edge = max(quiet, 2)
    times = 4  # finer than the photograph, then reduced, as a camera does
    fine = np.kron(np.pad(code, edge, constant_values=255), np.ones((round(times * module),) * 2, np.uint8))
    inner = np.kron(np.pad(np.full_like(code, 255), edge), np.ones((round(times * module),) * 2, np.uint8))
    turned = rng.uniform(-TURN, TURN)
    plate, printed, shape = (
        reduced(
            Image.fromarray(part).rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor=fill), times
        )
        for part, fill in ((fine, 255), (inner, 0), (np.full_like(fine, 255), 0))
    )
    if plate.height > photo.shape[0] or plate.width > photo.shape[1]:
        return None
    top = int(rng.integers(0, photo.shape[0] - plate.height + 1))
    left = int(rng.integers(0, photo.shape[1] - plate.width + 1))
    ground, dark = rng.uniform(190, 240), rng.uniform(20, 80)
    grey = dark + (ground - dark) * np.asarray(plate.filter(ImageFilter.GaussianBlur(0.7))) / 255
    grey += rng.normal(0, 3, grey.shape)
    canvas, where = Image.fromarray(photo.copy()), Image.new("L", photo.shape[1::-1])
    canvas.paste(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB"), (left, top),
                 shape.point(lambda value: 255 * (value > 127)))  # fmt: skip
    where.paste(printed, (left, top))
    return np.asarray(canvas), np.asarray(where) > 127


def reduced(picture: Image.Image, times: int) -> Image.Image:
    """The picture with its sides divided by ``times``, averaged."""
    return picture.resize((picture.width // times, picture.height // times), Image.Resampling.BOX)


def alike(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def enlarged(pixels: Pixels) -> Pixels:
    """The photograph with its longest side at ``SIDE``, its shorter at least 560 so that every code has room."""
    photo = Image.fromarray(pixels)
    factor = SIDE / max(photo.size)
    size = (max(560, round(photo.width * factor)), max(560, round(photo.height * factor)))
    return np.asarray(photo.resize(size, Image.Resampling.BICUBIC))


def draw(photo: Pixels, codes: list[Code], path: Path) -> None:
    """The photograph with the corners of its codes, to look at."""
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    for code in codes:
        pen.polygon([(column, row) for row, column in code.corners], outline="red", width=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def line(row: Row) -> str:
    """A row of the table."""
    shares = ["" if share is None else f"{share:.0%}" for share in (row.found, row.covered, row.beside)]
    module = "" if row.module is None else f"{row.module:g}"
    return (f"| {row.set} | {row.kind} | {module} | {row.images} | {' | '.join(shares)} | {row.elsewhere} | "
            f"{row.milliseconds:.0f} |")  # fmt: skip


def write(out: Path, rows: list[Row]) -> None:
    """The table as Markdown and the figures as JSON."""
    when, command = about()
    when += f", zxing-cpp {version('zxing-cpp')}"
    head = ("| set | code | module px | images | found | covered | beside | boxes elsewhere | ms |\n"
            "|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    text = "\n".join(["# Finding printed codes\n", f"`{command}`\n\n{when}.\n", head, *map(line, rows), "",
                      __doc__.split("\n\n", 2)[2].strip()])  # fmt: skip
    out.with_suffix(".md").write_text(text + "\n")
    content = {"about": when, "command": command, "rows": [asdict(row) for row in rows]}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
