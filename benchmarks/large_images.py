"""Photographs of 4096 x 3072 pixels with defects of 20: in tiles, and scaled down.

    python benchmarks/large_images.py --data ../shared/data/mvtec_transistor [--good 100] [--defects 100]

Two sets of panels, composed at that size from pictures that are given to nobody else: 4 x 4 brackets of the synthetic
line, and (with ``--data``) 16 x 12 photographs of a real set. Training panels are made of other pictures than test
panels. A planted defect is a pit, a speck, a scratch or a stain, 20 pixels long, of drawn contrast, anywhere.

Printed: AUROC and recall at 1 % false alarms; how stitched maps differ from those of one pass; milliseconds an image,
and the runtime's peak memory at 1 to 24 megapixels, each in a process of its own without PyTorch. Written:
large_images.md, .json and .png beside this file's other results; the picture shows the synthetic line, never a real set
(``--picture``: it alone).
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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from andon.data import list_images
from andon.heatmap import overlay
from andon.image import Preprocessing, decode
from andon.metrics import auroc, tpr_at_tnr
from andon.runtime.predictor import Predictor
from large_panels import DEFECT, SIZE, Pixels, bracket_cells, panel, panels_to_judge, planted, real_cells

NEAR = 32  # pixels from the defect within which the map's peak has found it
WAYS = {
    "stretch": {},
    "stretch, 768x1024": {"size": (768, 1024)},
    "tiles": {"resize": "tiles"},
}
MEGAPIXELS = {1: (866, 1155), 4: (1732, 2310), 12: (3000, 4000), 24: (4243, 5657)}
RESULTS = Path(__file__).with_name("results")
LINE = "synthetic line"


# --- accuracy -----------------------------------------------------------------------------------------------


def fitted(cells: Sequence[Pixels], count: int, folder: Path) -> dict[str, tuple[Predictor, Path, float]]:
    """A detector for each way, fitted on the same ``count`` panels: itself, its file, and the seconds."""
    import andon

    photos = folder / "train"
    photos.mkdir(parents=True)
    for number in range(count):
        picture = Image.fromarray(panel(cells, np.random.default_rng((number, 0))))
        picture.save(photos / f"{number}.png", compress_level=1)
    found = {}
    for way, options in WAYS.items():
        path = folder / f"{way.replace(', ', '_')}.andon"
        start = time.perf_counter()
        predictor = andon.fit(photos, path, calibration=0.0, **options)
        found[way] = (predictor, path, time.perf_counter() - start)
    return found


def accuracy(
    predictors: dict[str, Predictor], cells: Sequence[Pixels], good: int, defects: int
) -> dict[str, dict[str, float]]:
    """AUROC, recall at 1 % false alarms, and how often the map's peak lies at the defect, for each way."""
    scores: dict[str, list[float]] = {way: [] for way in predictors}
    hits = dict.fromkeys(predictors, 0)
    for pixels, at in panels_to_judge(cells, good, defects):
        for way, predictor in predictors.items():
            measured = predictor.measure(pixels)
            scores[way].append(measured.image_score)
            hits[way] += at is not None and is_near(measured.anomaly_map, at)
    is_anomalous = np.arange(good + defects) >= good
    return {
        way: {
            "auroc": auroc(found, is_anomalous),
            "recall_at_1_percent": tpr_at_tnr(found, is_anomalous, 0.99),
            "peak_at_defect": hits[way] / defects,
        }
        for way, found in scores.items()
    }


def is_near(anomaly_map: NDArray[np.float32], at: tuple[int, int]) -> bool:
    """Whether the map's highest place lies within ``NEAR`` pixels of ``at``, or in the map's pixel that holds it."""
    place = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    steps = [side / of for side, of in zip(SIZE, anomaly_map.shape, strict=True)]
    apart = [abs((p + 0.5) * step - a) for p, step, a in zip(place, steps, at, strict=True)]
    return all(d <= max(NEAR, step) for d, step in zip(apart, steps, strict=True))


# --- seams --------------------------------------------------------------------------------------------------


def seams(cells: Sequence[Pixels], side: int) -> tuple[list[dict[str, float]], dict[int, float]]:
    """Stitched maps against those of one pass over ``side`` x ``side`` pixels, for tiles and overlaps.

    Also the mean error of a single tile's map by the distance from its border. ``side``: 768 at least, a multiple of 32.
    """
    import torch

    from andon.models import build

    detector = build("patchcore")
    rng = np.random.default_rng(3)
    corner = panel(cells, rng)[:side, :side]
    for images in Preprocessing((256, 256), "tiles").apply(panel(cells, rng)[:side, :side]).batches():
        detector.observe(torch.from_numpy(images))
    detector.close()

    def maps(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            answer: NDArray[np.float32] = detector(torch.from_numpy(images)).anomaly_map.numpy()
        return answer

    whole = maps(np.moveaxis(corner, 2, 0)[None].astype(np.float32) / 255)[0, 0]
    middle = corner[256:512, 256:512]
    alone = maps(np.moveaxis(middle, 2, 0)[None].astype(np.float32) / 255)[0, 0]
    error = np.abs(alone - whole[256:512, 256:512]) / whole.std()
    border = np.minimum(np.arange(256), np.arange(256)[::-1])
    distance = np.minimum(border[:, None], border)
    reach = {int(step): float(error[distance == step].mean()) for step in range(0, 128, 16)}
    rows = []
    for tile, overlap in ((256, 0.25), (256, 0.5), (512, 0.125), (512, 0.25), (512, 0.5)):
        prepared = Preprocessing((tile, tile), "tiles", overlap=overlap).apply(corner)
        stitcher = prepared.stitcher()
        for images in prepared.batches():
            stitcher.add(maps(images))
        stitched = stitcher.picture[0]
        apart = np.abs(stitched - whole) / whole.std()
        borders = sorted({x + d for x in prepared.lefts[1:] for d in (-1, prepared.margin - 1)})
        steps = [np.abs(np.diff(values, axis=1)) for values in (stitched, whole)]
        rows.append({
            "tile": tile, "overlap": overlap, "tiles": prepared.count,
            "network_pixels": prepared.count * tile * tile / corner[..., 0].size,
            "mean": float(apart.mean()), "p99": float(np.quantile(apart, 0.99)), "most": float(apart.max()),
            "step_stitched": float(steps[0][:, borders].mean() / steps[0].mean()),
            "step_whole": float(steps[1][:, borders].mean() / steps[1].mean()),
        })  # fmt: skip
    return rows, reach


# --- time and memory ----------------------------------------------------------------------------------------


def status(name: str) -> float:
    """An entry of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def probe(artifact: Path, photo: Path, images: int, threads: int) -> dict[str, float]:
    """Milliseconds and peak memory of inspecting ``photo``; for a process of its own."""
    predictor = Predictor.open(artifact, threads=threads)
    idle = status("VmRSS")
    times = [predictor.inspect(photo).milliseconds for _ in range(images + 1)][1:]
    peak = status("VmHWM")
    decoding = [seconds(lambda: decode(photo)) for _ in range(3)]
    p50, p99 = np.percentile(times, [50, 99])
    return {"idle_mb": idle, "peak_mb": peak, "p50_ms": float(p50), "p99_ms": float(p99),
            "decode_ms": 1000 * min(decoding), "torch": float("torch" in sys.modules)}  # fmt: skip


def decode_probe(photo: Path) -> dict[str, float]:
    """Milliseconds and peak memory of decoding ``photo`` alone; for a process of its own."""
    idle = status("VmRSS")
    times = [seconds(lambda: decode(photo)) for _ in range(3)]
    return {"decode_ms": 1000 * min(times), "peak_mb": status("VmHWM") - idle}


def seconds(job: Callable[[], object]) -> float:
    """Wall seconds of ``job``."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def in_process(*arguments: str) -> dict[str, float]:
    """What this file prints as JSON when it is started with ``arguments``."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def costs(cells: Sequence[Pixels], artifacts: dict[str, Path], folder: Path, images: int, threads: int,
          megapixels: Sequence[int]) -> dict[str, list[dict[str, float]]]:  # fmt: skip
    """For each way, and for decoding alone, a row a size."""
    whole = panel(cells, np.random.default_rng(5))
    rows: dict[str, list[dict[str, float]]] = {}
    for size in megapixels:
        height, width = MEGAPIXELS[size]
        pixels = np.tile(whole, (2, 2, 1))[:height, :width]
        photo = folder / f"{size}.jpg"
        Image.fromarray(pixels).save(photo, quality=92)
        Image.fromarray(pixels).save(photo.with_suffix(".png"), compress_level=2)
        mine = {"megapixels": height * width / 1e6}
        for way, artifact in artifacts.items():
            found = in_process("--probe", str(artifact), str(photo), "--images", str(images), "--threads",
                               str(threads))  # fmt: skip
            rows.setdefault(way, []).append(mine | found)
        for kind in (".jpg", ".png"):
            found = in_process("--probe-decoding", str(photo.with_suffix(kind)))
            rows.setdefault(f"decode {kind[1:]}", []).append(mine | found)
    return rows


# --- results ------------------------------------------------------------------------------------------------


def picture(predictors: dict[str, Predictor], cells: Sequence[Pixels]) -> Image.Image:
    """A panel with a defect under each way's heatmap, and the defect's surroundings above."""
    rng = np.random.default_rng(11)
    good = panel(cells, rng)
    pixels, (row, column) = planted(panel(cells, rng), rng)
    views = [("photograph", pixels)]
    for way, predictor in predictors.items():
        usual = predictor.measure(good).anomaly_map
        low, high = float(np.quantile(usual, 0.999)), float(usual.max()) * 1.3
        views.append(
            (way, overlay(pixels, predictor.measure(pixels).anomaly_map, low, max(high, low + 1e-6)))
        )
    half = 128
    top = min(max(row - half, 0), SIZE[0] - 2 * half)
    left = min(max(column - half, 0), SIZE[1] - 2 * half)
    sheet = Image.new("RGB", (340 * len(views), 600), "white")
    write = ImageDraw.Draw(sheet)
    for number, (title, view) in enumerate(views):
        x = 340 * number + 10
        small = Image.fromarray(view).resize((320, 240), Image.Resampling.LANCZOS)
        ring = ImageDraw.Draw(small)
        at = (column * 320 / SIZE[1], row * 240 / SIZE[0])
        ring.ellipse((at[0] - 9, at[1] - 9, at[0] + 9, at[1] + 9), outline="white", width=2)
        sheet.paste(small, (x, 30))
        close = Image.fromarray(np.ascontiguousarray(view[top : top + 2 * half, left : left + 2 * half]))
        sheet.paste(close.resize((300, 300), Image.Resampling.LANCZOS), (x + 10, 290))
        write.text((x, 8), title, fill="black", font_size=16)
    return sheet


def table(rows: Sequence[dict[str, Any]], heads: dict[str, tuple[str, str]]) -> list[str]:
    """``rows`` as Markdown: key -> (heading, format)."""
    lines = ["| " + " | ".join(head for head, _ in heads.values()) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        lines.append("| " + " | ".join(f"{row[key]:{shape}}" for key, (_, shape) in heads.items()) + " |")
    return lines


def page(found: dict[str, Any], options: argparse.Namespace) -> str:
    """The results as Markdown."""
    import onnxruntime
    import torch

    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    lines = [
        "# Large photographs: in tiles, and scaled down", "",
        f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}. "
        f"`python benchmarks/large_images.py {' '.join(sys.argv[1:])}`", "",
        f"Panels of {SIZE[1]} x {SIZE[0]} pixels, one defect of {DEFECT} pixels (pit, speck, scratch, stain; contrast "
        f"0.3 to 0.8). PatchCore on andon-s, {options.train} panels to fit on, {options.good} good ones and "
        f"{options.defects} with a defect to judge. *Peak*: the map is highest within {NEAR} pixels of the defect.", "",
    ]  # fmt: skip
    heads = {"set": ("set", ""), "way": ("", ""), "auroc": ("AUROC", ".3f"),
             "recall_at_1_percent": ("recall at 1 % false alarms", ".2f"), "peak_at_defect": ("peak at the defect", ".2f"),
             "fit_seconds": ("fit, s", ".0f")}  # fmt: skip
    lines += table(found["accuracy"], heads)
    shown = [] if options.no_line else ["", "![The same defect by each way](large_images.png)"]
    lines += [*shown, "", "## Seams", "",
              f"Stitched maps against one pass over {options.seam} x {options.seam} pixels, differences in standard "
              "deviations of the map. *Step*: the mean step between neighbouring columns where a tile begins, or begins "
              "to count, over the mean step everywhere; a seam would raise it above that of one pass.", ""]  # fmt: skip
    heads = {"set": ("set", ""), "tile": ("tile", "d"), "overlap": ("overlap", ".3f"), "tiles": ("tiles", "d"),
             "network_pixels": ("network pixels a pixel", ".2f"), "mean": ("mean", ".4f"), "p99": ("99 %", ".3f"),
             "most": ("most", ".3f"), "step_stitched": ("step, stitched", ".3f"), "step_whole": ("step, one pass", ".3f")}  # fmt: skip
    lines += table(found["seams"], heads)
    for name, reach in found["reach"].items():
        errors = ", ".join(f"{error:.3f} at {distance}" for distance, error in reach.items())
        lines += [
            "",
            f"{name}: a tile's own map, by the distance from its border in pixels, is off by {errors}.",
        ]
    lines += ["", "## Time and memory", "",
              f"One process each, without PyTorch, {options.threads} threads, JPEG in, verdict out, {options.images} images. "
              "*Peak*: resident, above that of the idle runtime. *Rest*: less the photograph (3 bytes a pixel) and its map "
              "(4 bytes a pixel of the map).", ""]  # fmt: skip
    heads = {"way": ("", ""), "megapixels": ("megapixels", ".1f"), "decode_ms": ("decode, ms", ".0f"),
             "p50_ms": ("p50, ms", ".0f"), "p99_ms": ("p99, ms", ".0f"), "idle_mb": ("idle, MB", ".0f"),
             "above_mb": ("peak, MB", ".0f"), "rest_mb": ("rest, MB", ".0f")}  # fmt: skip
    lines += table([row for row in found["costs"] if "p50_ms" in row], heads)
    lines += ["", "Decoding alone:", ""]
    heads = {
        "way": ("", ""),
        "megapixels": ("megapixels", ".1f"),
        "decode_ms": ("ms", ".0f"),
        "peak_mb": ("peak, MB", ".0f"),
    }
    lines += table([row for row in found["costs"] if "p50_ms" not in row], heads)
    return "\n".join(lines) + "\n"


def with_rest(way: str, row: dict[str, float]) -> dict[str, Any]:
    """The row with the peak above idle, and what of it is neither photograph nor map."""
    if "p50_ms" not in row:
        return {"way": way, **row}
    above = row["peak_mb"] - row["idle_mb"]
    own = row["megapixels"] * 1e6 * (3 + (4 if way == "tiles" else 0)) / 2**20
    return {"way": way, **row, "above_mb": above, "rest_mb": above - own}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a real set in MVTec's layout; its good images make panels")
    parser.add_argument("--train", type=int, default=6)
    parser.add_argument("--good", type=int, default=100)
    parser.add_argument("--defects", type=int, default=100)
    parser.add_argument(
        "--cells", type=int, default=32, help="brackets drawn, for training and for testing each"
    )
    parser.add_argument("--seam", type=int, default=1536)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--megapixels", type=int, nargs="+", default=list(MEGAPIXELS), choices=list(MEGAPIXELS)
    )
    parser.add_argument("--picture", action="store_true", help="draw large_images.png, and nothing else")
    parser.add_argument("--no-line", action="store_true", help="leave the synthetic line out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--probe", type=Path, nargs=2, metavar=("ARTIFACT", "PHOTO"), help=argparse.SUPPRESS)
    parser.add_argument("--probe-decoding", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def sets_of(options: argparse.Namespace) -> dict[str, tuple[list[Pixels], list[Pixels]]]:
    """Cells to train and to test on, by the set's name."""
    sets = {}
    if options.data:
        train = list_images(options.data / "train" / "good")
        sets[options.data.name] = (real_cells(train), real_cells(list_images(options.data / "test" / "good")))
    if not options.no_line:
        sets[LINE] = line_cells(options.cells)
    return sets


def line_cells(count: int) -> tuple[list[Pixels], list[Pixels]]:
    """Cells of the synthetic line, ``count`` to train and as many to test on."""
    cells = bracket_cells(range(2 * count))
    return cells[:count], cells[count:]


def main() -> None:
    """Measure everything, print it, and write the results."""
    options = arguments()
    if options.probe:
        print(json.dumps(probe(*options.probe, options.images, options.threads)))
        return
    if options.probe_decoding:
        print(json.dumps(decode_probe(options.probe_decoding)))
        return
    options.results.mkdir(parents=True, exist_ok=True)
    if options.picture:
        with tempfile.TemporaryDirectory() as work:
            train, test = line_cells(options.cells)
            detectors = fitted(train, options.train, Path(work))
            predictors = {way: predictor for way, (predictor, _, _) in detectors.items()}
            picture(predictors, test).save(options.results / "large_images.png", optimize=True)
        return
    found: dict[str, Any] = {"accuracy": [], "seams": [], "reach": {}, "costs": []}
    with tempfile.TemporaryDirectory() as work:
        for name, (train, test) in sets_of(options).items():
            folder = Path(work) / name.replace(" ", "_")
            detectors = fitted(train, options.train, folder)
            predictors = {way: predictor for way, (predictor, _, _) in detectors.items()}
            for way, row in accuracy(predictors, test, options.good, options.defects).items():
                mine = {"set": name, "way": way, "fit_seconds": detectors[way][2]}
                found["accuracy"].append(mine | row)
                print(found["accuracy"][-1], flush=True)
            rows, found["reach"][name] = seams(test, options.seam)
            found["seams"] += [{"set": name, **row} for row in rows]
            if not found["costs"]:
                artifacts = {way: path for way, (_, path, _) in detectors.items()}
                spent = costs(test, artifacts, folder, options.images, options.threads, options.megapixels)
                found["costs"] = [with_rest(way, row) for way, some in spent.items() for row in some]
            if name == LINE:
                picture(predictors, test).save(options.results / "large_images.png", optimize=True)
    (options.results / "large_images.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.results / "large_images.md").write_text(page(found, options))
    print(page(found, options))


if __name__ == "__main__":
    main()
