"""Labels that lie elsewhere on every part, measured: false alarms from them, and defects that are still found.

    python benchmarks/moving_zones.py [--sets line transistor cookies] [--methods patchcore padim autoencoder]
        [--size 128x128] [--train 40] [--test 30]

On the sets of photographs a label with a Data Matrix of eight digits (3 pixels a module) and two lines of text beside it is
pasted somewhere in the middle 70 % of every image, good and bad alike, turned by up to 8 degrees; photographs are enlarged to twice their size
before. The synthetic line has labels with a Code 128 bar code of its own, which lie where the part does. Each detector is
judged as it is (``none``), fitted with a zone of codes (``codes``: anywhere in the image, the code and the label around it
covered by what surrounds it), and with that zone given later by ``andon calibrate`` (``codes, later``), or with a threshold of
its own (``codes, looser``). *Unread*: good photographs in which no code was read, which are for a person.

Blots (dark, 1/10 of the shorter side across) are planted half a blot beside the label, on its text, and on its code. Cells:
share that fails + share for a person (AUROC of the raw score against the good).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import andon
from andon.data.synthetic import DEFECTS, draw
from andon.metrics import auroc
from andon.nuisance import Zone
from andon.nuisance.codes import find_codes
from andon.pipeline import recalibrate
from andon.runtime.predictor import Predictor
from nuisance import RESULTS, SETTINGS, TARGET_RATE, head_of, read

Pixels = NDArray[np.uint8]
Point = tuple[float, float]
MODULE, TURN = 3, 8.0  # pixels, degrees
GROUPS = ("good", "defects", "blots beside", "blots on the text", "blots on the code")
AROUND = {
    "label": (0.35, 0.35, 0.35, 3.3),
    "line": (2.8, 0.15, 0.75, 0.15),
}  # above, left, below, right of the code


@dataclass(frozen=True)
class Labelled:
    """A photograph with a label: the middles (row, column) of its code and text, and a place beside it."""

    pixels: Pixels
    code: Point
    text: Point
    beside: Point


def label_picture(seed: int) -> tuple[Pixels, Point, Point]:
    """A label (h, w) uint8, 0 ink and 255 ground, and the middles of its code and its text."""
    import zxingcpp

    rng = np.random.default_rng([seed, 5])
    digits = f"{rng.integers(10**7, 10**8)}"
    code = zxingcpp.create_barcode(digits, zxingcpp.BarcodeFormat.DataMatrix)
    ink = np.asarray(code.to_image(scale=MODULE, add_quiet_zones=False)).reshape(12 * MODULE, -1)
    quiet = 3 * MODULE
    label = np.full((ink.shape[0] + 2 * quiet, int(ink.shape[1] * 4.2) + quiet), 255, np.uint8)
    label[quiet:-quiet, quiet : quiet + ink.shape[1]] = ink
    picture = Image.fromarray(label)
    text = f"SN {digits}\nL{rng.integers(10, 60)}-{rng.integers(1000, 9999)}"
    left = 2 * quiet + ink.shape[1]
    ImageDraw.Draw(picture).multiline_text((left, quiet - 2), text, 0, ImageFont.load_default(14), spacing=4)
    middle = label.shape[0] / 2
    return np.asarray(picture), (middle, quiet + ink.shape[1] / 2), (middle, (left + label.shape[1]) / 2)


def labelled(pixels: Pixels, seed: int) -> Labelled:
    """The photograph at twice its size with the label number ``seed`` somewhere."""
    photo = Image.fromarray(pixels).resize(
        (2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.BICUBIC
    )
    ink, code, text = label_picture(seed)
    rng = np.random.default_rng([seed, 6])
    turned = float(rng.uniform(-TURN, TURN))
    grey = Image.fromarray(ink).rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    shape = Image.new("L", ink.shape[::-1], 255).rotate(turned, expand=True, fillcolor=0)
    top, left = (
        int(room * rng.uniform(0.15, 0.85)) for room in (photo.height - grey.height, photo.width - grey.width)
    )
    dark, light = rng.uniform(10, 70, 3), rng.uniform(200, 245, 3)
    plate = Image.fromarray(
        np.rint(dark + np.asarray(grey)[..., None] / 255 * (light - dark)).astype(np.uint8)
    )
    photo.paste(plate, (left, top), shape)
    centre = np.array([top + grey.height / 2, left + grey.width / 2])
    sine, cosine = np.sin(np.radians(turned)), np.cos(np.radians(turned))

    def moved(place: Point) -> Point:
        row, column = np.array(place) - np.array(ink.shape) / 2
        return float(centre[0] + row * cosine - column * sine), float(
            centre[1] + row * sine + column * cosine
        )

    radius = min(photo.size) / 20
    away = ink.shape[0] / 2 + 2 * radius
    upper = ink.shape[0] / 2 + (-away if top > 3 * radius else away)
    beside = moved((upper, ink.shape[1] / 2))
    return Labelled(np.asarray(photo), moved(code), moved(text), beside)


def line_parts(number: int, *, bad: bool) -> list[Labelled]:
    """``number`` parts of the synthetic line, found by the code on their labels; those without one are drawn anew."""
    kinds = [kind for kind in DEFECTS if "label" not in kind]
    found: list[Labelled] = []
    for seed in range(2 * number):
        defect = kinds[seed % len(kinds)] if bad else None
        pixels = draw((12 if bad else 11, seed), size=(576, 768), defect=defect).image
        codes = find_codes(pixels, ("barcode",))
        if codes and len(found) < number:
            corners = np.array(codes[0].outline())
            middle, down = corners.mean(0), corners[3] - corners[0]
            found.append(
                Labelled(pixels, tuple(middle), tuple(middle - 1.2 * down), tuple(middle + 2.4 * down))
            )  # type: ignore[arg-type]
    return found


def blotted(photo: Labelled, place: Point) -> Pixels:
    """The photograph with a dark round blot there."""
    y, x = np.ogrid[: photo.pixels.shape[0], : photo.pixels.shape[1]]
    changed = photo.pixels.copy()
    changed[(y - place[0]) ** 2 + (x - place[1]) ** 2 <= (min(photo.pixels.shape[:2]) / 20) ** 2] //= 4
    return changed


def prepare(name: str, folder: Path, train: int, test: int) -> dict[str, list[Pixels]]:
    """The images to judge by; those to fit and calibrate on as files in ``folder``."""
    if name == "line":
        good_parts = line_parts(train + test, bad=False)
        fitted, good, bad = good_parts[:train], good_parts[train:], line_parts(test, bad=True)
    else:
        seeds = iter(range(100_000))
        fitted, good, bad = (
            [labelled(pixels, next(seeds)) for pixels in part] for part in read(name, train, test)
        )
    for number, photo in enumerate(fitted):
        part = folder / ("fit" if number < len(fitted) * 2 // 3 else "calibration")
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo.pixels).save(part / f"{number:03}.png", compress_level=1)
    return {
        "good": [photo.pixels for photo in good],
        "defects": [photo.pixels for photo in bad],
        "blots beside": [blotted(photo, photo.beside) for photo in good],
        "blots on the text": [blotted(photo, photo.text) for photo in good],
        "blots on the code": [blotted(photo, photo.code) for photo in good],
    }


def variants(name: str, method: str, folder: Path, size: tuple[int, int]) -> Iterator[tuple[str, Predictor]]:
    """Every way to treat the labels, by name."""
    zone = Zone.box("label", (0, 0, 1, 1), codes=("barcode",) if name == "line" else ("datamatrix",),
                    around=AROUND.get(name, AROUND["label"]))  # fmt: skip
    options = {"method": method, "size": size, "calibration": folder / "calibration", "target_rate": TARGET_RATE,
               "device": "cpu", "workers": 0, **SETTINGS[method]}  # fmt: skip
    plain = andon.fit(folder / "fit", **options)
    yield "none", plain
    yield "codes", andon.fit(folder / "fit", ignore=(zone,), **options)
    try:
        later = recalibrate(plain, folder / "calibration", ignore=(zone,)).predictor
        treated = later.zone_plan.treated[0] if later.zone_plan else None
        way = "covered" if treated and treated.colour else f"halo of {treated.halo if treated else 0} px"
        yield f"codes, later ({way})", later
    except andon.SettingsError as error:
        print(f"  refused: {error}", flush=True)
    looser = replace(zone, treatment="looser", rate=TARGET_RATE)
    yield "codes, looser", andon.fit(folder / "fit", ignore=(looser,), **options)


def judged(predictor: Predictor, groups: dict[str, list[Pixels]]) -> dict[str, Any]:
    """Shares that fail and that are for a person, and the AUROC, of each group; the mean share not inspected."""
    figures: dict[str, Any] = {}
    scores: dict[str, list[float]] = {}
    for group, photographs in groups.items():
        verdicts = [predictor.inspect(pixels) for pixels in photographs]
        scores[group] = [verdict.image_score for verdict in verdicts]
        figures[group] = {"images": len(verdicts)} | {
            word: sum(verdict.decision == word for verdict in verdicts) for word in ("fail", "review")
        }
        if group == "good":
            figures["not_inspected"] = round(
                float(np.mean([verdict.not_inspected for verdict in verdicts])), 4
            )
            figures["unread"] = sum("no code can be read" in " ".join(verdict.notes) for verdict in verdicts)
        else:
            truth = np.repeat([False, True], [len(scores["good"]), len(verdicts)])
            figures[group]["auroc"] = round(auroc(np.array(scores["good"] + scores[group]), truth), 4)
    return figures


def table(rows: list[dict[str, Any]], head: dict[str, str]) -> str:
    """The page, as Markdown."""
    text = ["# Zones of codes", "", *(__doc__ or "").split("\n\n", 2)[2].splitlines(), "",
            f"`{head['command']}`, {head['date']}, {head['cpu']}, {head['versions']}. Threshold: target rate "
            f"{TARGET_RATE:.0%}, from a third of the images to fit on.", "",
            "| set | method | zone | not inspected | unread | false alarms | " + " | ".join(GROUPS[1:]) + " |",
            "|" + "---|" * (6 + len(GROUPS[1:]))]  # fmt: skip
    for row in rows:
        cells = [row["set"], row["method"], row["zone"], f"{row['not_inspected']:.1%}", str(row["unread"])]
        for group in GROUPS:
            found = row[group]
            area = f" ({found['auroc']:.3f})" if "auroc" in found else ""
            cells.append(f"{found['fail']}+{found['review']}/{found['images']}{area}")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, and write the table after every detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sets = ["line", "transistor", "cookies"]
    parser.add_argument("--sets", nargs="+", default=sets, choices=sets)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--test", type=int, default=30)
    parser.add_argument("--show", type=Path, help="folder for pictures of what is covered")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "moving_zones.json")
    options = parser.parse_args()
    rows, head = [], head_of("moving_zones.py")
    rows_size, columns = map(int, options.size.split("x"))
    for name in options.sets:
        with tempfile.TemporaryDirectory() as folder:
            groups = prepare(name, Path(folder), options.train, options.test)
            for method in options.methods:
                print(name, method, flush=True)
                for treatment, predictor in variants(name, method, Path(folder), (rows_size, columns)):
                    rows.append(
                        {"set": name, "method": method, "zone": treatment} | judged(predictor, groups)
                    )
                    print(" ", json.dumps(rows[-1]), flush=True)
                    if options.show and treatment == "codes" and predictor.zone_plan:
                        show(groups, predictor, options.show / f"{name}-{method}")
                options.output.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
                options.output.with_suffix(".md").write_text(table(rows, head))


def show(groups: dict[str, list[Pixels]], predictor: Predictor, folder: Path) -> None:
    """The first three images of each group, each beside what the network sees of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for group, photographs in groups.items():
        for number, pixels in enumerate(photographs[:3]):
            covered = predictor.zone_plan.place(pixels).cover(pixels) if predictor.zone_plan else pixels
            picture = Image.fromarray(np.concatenate([pixels, covered], axis=1))
            picture.save(folder / f"{group.replace(' ', '-')}-{number}.png")


if __name__ == "__main__":
    main()
