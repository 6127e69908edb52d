"""How many drawn labels are found on real photographs, and what is found where nothing is printed.

    python benchmarks/codes.py ../shared/data --out benchmarks/results/codes

A label (a QR code, an EAN-13 bar code, or two to four lines of text, dark on a light plate, blurred a little and turned by
up to ``TURN`` degrees) is pasted on images of real parts, enlarged to ``SIDE`` pixels. *Recall*: share of labels of which boxes
of any kind cover at least 80 %; *as its kind*: at least half by a box of the right kind. *Precision*: share of the boxes on these
images that lie by more than half on the label's plate. *Boxes where nothing is printed*: an image, on the same images without
a label. Milliseconds of the processor, median.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from alignment import about, evenly, images
from andon.image import decode
from andon.nuisance.codes import KINDS, Code, Kind, find_codes
from andon.nuisance.opencv import opencv

SETS = ("mvtec_transistor", "aws_cookies", "magnetic_tile")  # nothing is printed on these
SIDE, TURN = 768, 8.0
MODULES = (2, 3, 5)  # pixels of a code's module; a letter is ten modules tall
_LEFT = (
    "0001101",
    "0011001",
    "0010011",
    "0111101",
    "0100011",
    "0110001",
    "0101111",
    "0111011",
    "0110111",
    "0001011",
)
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Figures of one kind of label at one size on one set."""

    set: str
    kind: str
    module: int
    labels: int
    recall: float
    as_its_kind: float
    precision: float | None
    empty: float
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
    opencv("this benchmark").setNumThreads(1)
    rows = []
    for name in SETS:
        photos = [enlarged(decode(path).pixels)
                  for path in evenly(images(options.data / name / "train" / "good"), options.images)]  # fmt: skip
        empty = float(np.mean([len(find_codes(photo)) for photo in photos]))
        for kind in KINDS:
            for module in MODULES:
                rows.append(measured(name, kind, module, photos, empty, options.show))
                print(line(rows[-1]), flush=True)
    if options.out:
        write(options.out, rows)


def measured(
    name: str, kind: Kind, module: int, photos: list[Pixels], empty: float, show: Path | None
) -> Row:
    """One row: a label of this kind and size on each photograph."""
    rng = np.random.default_rng([KINDS.index(kind), module])
    covered, right, on, boxes, spent = [], [], 0, 0, []
    for number, photo in enumerate(photos):
        labelled, printed, plate = pasted(photo, label_of(kind, module, rng), rng)
        began = time.process_time()
        codes = find_codes(labelled)
        spent.append(time.process_time() - began)
        covered.append(share_covered(printed, codes) >= 0.8)
        right.append(share_covered(printed, [code for code in codes if code.kind == kind]) >= 0.5)
        boxes += len(codes)
        on += sum(plate[c.box[0] : c.box[2], c.box[1] : c.box[3]].mean() > 0.5 for c in codes)
        if show is not None and number == 0:
            draw(labelled, codes, show / f"{name}-{kind}-{module}.png")
    return Row(name, kind, module, len(photos), float(np.mean(covered)), float(np.mean(right)),
               on / boxes if boxes else None, empty, 1000 * float(np.median(spent)))  # fmt: skip


def label_of(kind: Kind, module: int, rng: np.random.Generator) -> Pixels:
    """The print (h, w) uint8, 0 ink and 255 ground."""
    digits = "".join(map(str, rng.integers(0, 10, 12)))
    if kind == "qr":
        code = opencv("this benchmark").QRCodeEncoder.create().encode(digits)
        return cropped(np.kron(code, np.ones((module, module), np.uint8)))
    if kind == "barcode":
        bars = np.array([255 * (bit == "0") for bit in ean13(digits)], np.uint8)
        return np.tile(np.repeat(bars, module), (20 * module, 1))
    lines = [
        "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXZ0123456789 :-"), 14)) for _ in range(rng.integers(2, 5))
    ]
    font = ImageFont.load_default(10 * module)
    drawing = Image.new("L", (90 * module + 20, 14 * module * len(lines)), 255)
    ImageDraw.Draw(drawing).multiline_text((2, 0), "\n".join(lines), 0, font, spacing=2 * module)
    return cropped(np.asarray(drawing))


def cropped(ink: Pixels) -> Pixels:
    """The print (h, w) without the empty ground around it."""
    rows, columns = np.flatnonzero((ink < 128).any(1)), np.flatnonzero((ink < 128).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def ean13(digits: str) -> str:
    """The 95 modules of an EAN-13 code of 12 ``digits`` and their check digit, 1 where a bar is (ISO/IEC 15420)."""
    check = -sum((1, 3)[k % 2] * int(digit) for k, digit in enumerate(digits)) % 10
    numbers = [int(digit) for digit in f"{digits}{check}"]
    flip = str.maketrans("01", "10")
    right = [_LEFT[n].translate(flip) for n in range(10)]
    left = [right[n][::-1] if side == "G" else _LEFT[n] for n, side in zip(numbers[1:7], _PARITY[numbers[0]])]
    return "101" + "".join(left) + "01010" + "".join(right[n] for n in numbers[7:]) + "101"


def pasted(
    photo: Pixels, ink: Pixels, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.bool_], NDArray[np.bool_]]:
    """The photograph with the print on a plate somewhere, and where the print and the plate lie (H, W) bool."""
    edge = max(6, round(0.15 * min(ink.shape)))
    plate = Image.fromarray(np.pad(ink, edge, constant_values=255))
    turned = rng.uniform(-TURN, TURN)
    moved = plate.rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    shape = Image.new("L", plate.size, 255).rotate(turned, expand=True, fillcolor=0)
    inner = Image.fromarray(np.pad(np.full(ink.shape, 255, np.uint8), edge)).rotate(
        turned, expand=True, fillcolor=0
    )
    top = int(rng.integers(0, photo.shape[0] - moved.height + 1))
    left = int(rng.integers(0, photo.shape[1] - moved.width + 1))
    ground, dark = rng.uniform(190, 240), rng.uniform(20, 80)
    grey = dark + (ground - dark) * np.asarray(moved.filter(ImageFilter.GaussianBlur(0.7))) / 255
    grey += rng.normal(0, 3, grey.shape)
    canvas = Image.fromarray(photo.copy())
    canvas.paste(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB"), (left, top), shape)
    masks = []
    for part in (inner, shape):
        whole = Image.new("L", canvas.size)
        whole.paste(part, (left, top))
        masks.append(np.asarray(whole) > 127)
    return np.asarray(canvas), masks[0], masks[1]


def share_covered(printed: NDArray[np.bool_], codes: list[Code]) -> float:
    """Share of the print that lies in boxes."""
    inside = np.zeros_like(printed)
    for code in codes:
        top, left, bottom, right = code.box
        inside[top:bottom, left:right] = True
    return float(inside[printed].mean())


def enlarged(pixels: Pixels) -> Pixels:
    """The photograph with its longest side at ``SIDE``, its shorter at least 560 so that every label has room."""
    photo = Image.fromarray(pixels)
    factor = SIDE / max(photo.size)
    size = (max(560, round(photo.width * factor)), max(560, round(photo.height * factor)))
    return np.asarray(photo.resize(size, Image.Resampling.BICUBIC))


def draw(photo: Pixels, codes: list[Code], path: Path) -> None:
    """The photograph with its boxes, to look at."""
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    colours = {"qr": "red", "barcode": "lime", "text": "cyan"}
    for code in codes:
        top, left, bottom, right = code.box
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colours[code.kind], width=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def line(row: Row) -> str:
    """A row of the table."""
    precision = "" if row.precision is None else f"{row.precision:.0%}"
    return (f"| {row.set} | {row.kind} | {row.module} | {row.labels} | {row.recall:.0%} | {row.as_its_kind:.0%} | {precision} | "
            f"{row.empty:.1f} | {row.milliseconds:.0f} |")  # fmt: skip


def write(out: Path, rows: list[Row]) -> None:
    """The table as Markdown and the figures as JSON."""
    when, command = about()
    head = ("| set | label | module px | labels | recall | as its kind | precision | boxes where nothing is printed | ms |\n"
            "|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    text = "\n".join(["# Finding printed codes and text\n", f"`{command}`\n\n{when}.\n", head, *map(line, rows), "",
                      __doc__.split("\n\n", 2)[2].strip()])  # fmt: skip
    out.with_suffix(".md").write_text(text + "\n")
    content = {"about": when, "command": command, "rows": [asdict(row) for row in rows]}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
