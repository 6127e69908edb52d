"""How often each word of an explanation is right, on real defects.

    python benchmarks/explain.py ../shared/data [--artifacts DIR] [--method patchcore]

For each set a detector is fitted with ``--keep-patches`` (or taken from DIR), and every defective test image with a region
above the map threshold is judged, whatever the decision: words are asked of regions here. A region that does not touch
the annotated defect enters no word, only the count below the table. What is true is read from the annotation: the mask says place, shape and lightness, the defect type says the cause (table TYPES). A word stays in the
language files' sentences when it is right in a clear majority: at least two thirds, of at least ten occasions.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray

import andon
from andon.artifact import MODEL
from andon.data import read_channels, read_samples
from andon.files import atomic_write
from andon.image import decode
from andon.runtime.explain import find_regions, main_region, place_of, shape_of
from andon.runtime.explain_difference import LEAST, beyond, canvas_size, look, on_canvas, region_mask
from andon.runtime.predictor import Predictor
from andon.types import Region, Sample

SETS = {
    "mvtec_transistor": (256, 256),
    "mvtec_loco_juice_bottle": (352, 192),
    "magnetic_tile": (256, 256),
    "aws_cookies": (192, 256),
}
ENOUGH, MAJORITY = 10, 2 / 3
SCRATCHES, DIRT, MOVED = (
    {"crack", "scratch"},
    {"contamination", "rust"},
    {"misplaced", "bent_lead", "moved", "swapped", "uneven"},
)
MISSING = {"cut_lead", "break", "missing"}
STAINS = {"uneven", "contamination", "rust"}
# mvtec_loco_juice_bottle has one folder of logical anomalies; sorted by eye, first image of each kind
LOCO = {
    0: "missing",
    36: "moved",
    46: "missing",
    51: "moved",
    60: "swapped",
    72: "missing",
    84: "level",
    120: "fruit",
}
NO_TRANSISTOR = {"002", "003"}  # of `misplaced`: the part is not there at all


@dataclass(frozen=True)
class Case:
    """One defective image: what was found, and what is true."""

    kind: str  # of defect
    region: Region
    regions: tuple[Region, ...]
    size: tuple[int, int]
    truth: NDArray[np.bool_]  # (H, W)
    light: int  # what the rule says of the region: -1 darker, 1 brighter
    edges: int  # -1 fewer edges than any good part, 1 more
    true_light: float  # inside the true mask, lightness minus the median of good parts there

    @property
    def parts(self) -> tuple[Region, ...]:
        """The annotated areas, as regions."""
        return find_regions(self.truth.astype(np.float32), 0.5, self.size)

    @property
    def hit(self) -> bool:
        """Whether the region that is spoken of touches the annotated area."""
        top, left, bottom, right = self.region.box
        return bool(self.truth[top:bottom, left:right].any())


def kind_of(data: str, sample: Sample) -> str:
    """The kind of defect, finer than the folder where that holds several."""
    if data == "mvtec_loco_juice_bottle":
        return next(kind for first, kind in reversed(LOCO.items()) if int(sample.path.stem) >= first)
    if sample.defect_type == "misplaced" and sample.path.stem in NO_TRANSISTOR:
        return "missing"
    return sample.defect_type


def cases(data: str, root: Path, predictor: Predictor) -> Iterator[Case]:
    """The defective test images of ``root`` that have a mask and a region."""
    good = predictor.good_pictures
    samples = [s for s in read_samples(root) if s.split == "test" and s.is_anomalous and s.masks]
    for sample in samples:
        verdict = predictor.inspect(sample.path)
        channels = read_channels(sample, verdict.size)
        if not verdict.regions or verdict.anomaly_map is None or not channels:
            continue
        truth = np.any([channel.anomaly_mask for channel in channels], axis=0)
        region = main_region(verdict.regions)
        photo, looks = look(decode(sample.path).pixels, canvas_size(verdict.size)), good.looks(verdict.size)
        mask = region_mask(verdict.anomaly_map, predictor.calibration.map_threshold, region, verdict.size)
        inside = on_canvas(truth, canvas_size(verdict.size)) | False
        if not inside.any():
            inside = mask
        yield Case(
            kind_of(data, sample),
            region,
            verdict.regions,
            verdict.size,
            truth,
            beyond(float(photo.light[mask].mean()), [float(one.light[mask].mean()) for one in looks]),
            beyond(float(photo.edges[mask].mean()), [float(one.edges[mask].mean()) for one in looks]),
            float(photo.light[inside].mean() - np.median([one.light[inside].mean() for one in looks])),
        )


def true_shape(case: Case) -> str:
    """The word for the shape of what is annotated."""
    return shape_of(case.parts)


WORDS: dict[str, tuple[Callable[[Case], bool], Callable[[Case], bool]]] = {  # word: (is said, is right)
    "place (3 x 3, edges)": (lambda c: True, lambda c: place_of(c.region, c.size) in {place_of(p, c.size) for p in c.parts}),
    "long and thin": (lambda c: shape_of(c.regions) == "thin", lambda c: main_region(c.parts).elongation >= 3),
    "compact": (lambda c: shape_of(c.regions) == "compact", lambda c: main_region(c.parts).elongation < 4),
    "a large area": (lambda c: shape_of(c.regions) == "large", lambda c: true_shape(c) in ("large", "most")),
    "several spots": (lambda c: shape_of(c.regions) == "several", lambda c: len(c.parts) > 1),
    "darker": (lambda c: c.light < 0, lambda c: c.true_light < -LEAST),
    "brighter": (lambda c: c.light > 0, lambda c: c.true_light > LEAST),
    "something missing (fewer edges)": (lambda c: c.edges < 0, lambda c: c.kind in MISSING),
    "an extra part (more edges)": (lambda c: c.edges > 0, lambda c: c.kind in DIRT | {"extra"}),
    "a scratch (thin)": (lambda c: shape_of(c.regions) == "thin", lambda c: c.kind in SCRATCHES),
    "a stain or a missing part (compact, large)": (
        lambda c: shape_of(c.regions) in ("compact", "large"),
        lambda c: c.kind in MISSING | STAINS,
    ),
    "dirt or scattered damage (several)": (
        lambda c: shape_of(c.regions) == "several",
        lambda c: c.kind in DIRT or len(c.parts) > 1,
    ),
    "a shifted part or changed light (most)": (lambda c: shape_of(c.regions) == "most", lambda c: c.kind in MOVED),
}  # fmt: skip

DESCRIBING = list(WORDS)[:5]


def fitted(root: Path, name: str, folder: Path, method: str, minutes: float | None) -> Predictor:
    """The detector for the set ``name``: from ``folder``, or fitted and put there."""
    path = folder / f"{name}-kept.andon"
    if path.exists():
        return Predictor.open(path)
    settings = {"bank_limit": 2000, "buffer_limit": 60_000} if method == "patchcore" else {}
    return andon.fit(
        root / name, path, method=method, size=SETS[name], keep_patches=True, minutes=minutes, **settings
    )


def costs(root: Path, predictor: Predictor, repetitions: int = 20) -> dict[str, float]:
    """CPU milliseconds on one thread, the fastest of ``repetitions``: the graph for map and score alone and with all answers, and a comparison."""
    sample = next(s for s in read_samples(root) if s.split == "test" and s.is_anomalous)
    seen = predictor.measure(sample.path).seen
    verdict = predictor.inspect(sample.path)
    if seen is None or not verdict.regions or verdict.anomaly_map is None:
        return {}
    images, comparer = {"images": seen.prepared.images}, predictor.comparer
    threshold, region = predictor.calibration.map_threshold, main_region(verdict.regions)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(predictor.artifact.members[MODEL], settings)
    jobs: dict[str, Callable[[], object]] = {
        "graph": lambda: session.run(["anomaly_map", "image_score"], images),
        "graph with all its answers": lambda: session.run(None, images),
        "comparison in words": lambda: comparer.difference(seen, verdict.anomaly_map, threshold, region),
        "picture beside": lambda: comparer.expected(seen, region),
    }
    return {name: 1000 * min(_seconds(job) for _ in range(repetitions)) for name, job in jobs.items()}


def _seconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def counts(found: list[Case]) -> dict[str, tuple[int, int]]:
    """Word -> (times said, times right)."""
    table = {}
    for word, (said, right) in WORDS.items():
        of = [case for case in found if case.hit and said(case)]
        table[word] = (len(of), sum(right(case) for case in of))
    return table


def page(found: dict[str, list[Case]], spent: dict[str, float], command: str) -> str:
    """The results as Markdown."""
    everything = [case for part in found.values() for case in part]
    names = list(found)
    lines = [
        "# How often each word of an explanation is right",
        "",
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Pillow {PIL.__version__}, ONNX Runtime {onnxruntime.__version__}. `{command}`",
        "",
        "right / said, against the annotation. Place and shape describe the region that was found, as large and as many as the "
        f"map has it. The others say something of the part: such a word stays from {MAJORITY:.0%} right of at least {ENOUGH}.",
        "",
        "| word | " + " | ".join(names) + " | all | stays |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    by_set = {name: counts(part) for name, part in found.items()}
    for word, (said, right) in counts(everything).items():
        cells = [f"{by_set[name][word][1]} / {by_set[name][word][0]}" for name in names]
        share = f"{right} / {said}" + (f" = {right / said:.0%}" if said else "")
        stays = "yes" if said >= ENOUGH and right >= MAJORITY * said else "no"
        shown = "describes" if word in DESCRIBING else stays
        lines.append(f"| {word} | " + " | ".join(cells) + f" | {share} | {shown} |")
    hits = [f"{sum(case.hit for case in part)} / {len(part)}" for part in found.values()]
    touches = ", ".join(f"{name} {hit}" for name, hit in zip(names, hits))
    lines += ["", f"The region spoken of touches the defect: {touches}.", ""]
    if spent:
        lines += ["What it costs, CPU milliseconds on one thread, the fastest of 20:", ""]
        lines += [f"- {name}: {milliseconds:.2f}" for name, milliseconds in spent.items()]
        lines += [""]
    return "\n".join(lines)


def main() -> None:
    """Write benchmarks/results/explain.md and .json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--artifacts", type=Path, default=Path("explain-artifacts"))
    parser.add_argument("--method", default="patchcore")
    parser.add_argument("--minutes", type=float, help="of training, for methods that train")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "explain")
    options = parser.parse_args()
    found: dict[str, list[Case]] = {}
    spent: dict[str, float] = {}
    for name in options.sets:
        predictor = fitted(
            options.data, name, options.artifacts / options.method, options.method, options.minutes
        )
        found[name] = list(cases(name, options.data / name, predictor))
        spent = spent or costs(options.data / name, predictor)
        print(name, len(found[name]), counts(found[name]), flush=True)
    command = f"python benchmarks/explain.py DATA --method {options.method} --sets {' '.join(options.sets)}"
    with atomic_write(options.out.with_suffix(".md"), "w") as file:
        file.write(page(found, spent, command))
    with atomic_write(options.out.with_suffix(".json"), "w") as file:
        json.dump(
            {"counts": {name: counts(part) for name, part in found.items()}, "milliseconds": spent},
            file,
            indent=1,
        )


if __name__ == "__main__":
    main()
