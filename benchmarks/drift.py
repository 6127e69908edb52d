"""Drift on real photographs: how soon the monitor notices it, and how often it cries wolf.

    python benchmarks/drift.py [--sets ../shared/data/magnetic_tile ...] [--streams 1000] [--scores FOLDER]

A patchcore is fitted at 128x128. The good photographs that it was not fitted on (for the threshold, and of the test) and
the test's defective ones are scored once, as they are and under each drift at each strength. A stream draws them with
replacement, two in a hundred defective. Without drift: `--streams` streams of `--parts` parts, (a) with calibration and
reference drawn from the same photographs as the line, where the guarantee holds exactly, and (b) as deployed: the
detector's own calibration and reference, the line from photographs of the test. With drift, knowledge as in (a), from the
test's photographs: it begins after 200 parts, sudden or growing over the next 200, and the stream ends 400 parts after it began. `--scores` keeps fits and scores.

Writes benchmarks/results/drift.md, drift.json and drift.png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import andon
from andon.data import read_samples
from andon.image import decode
from andon.pipeline.parts import FITTED_ON, short_digest
from andon.runtime.monitor import MEASURES, Reference
from andon.runtime.monitor.appearance import NAMES, Grey, appearance
from andon.runtime.monitor.charts import cusum_limit, cusum_run_length, ewma_limit, ewma_run_length
from andon.runtime.monitor.conformal import rounded
from andon.runtime.monitor.martingale import STAKES
from andon.runtime.predictor import Predictor
from drift_streams import FALSE_ALARM, Bets, Lines, check, play

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SETS = [
    ROOT.parent / "shared" / "data" / name for name in ("magnetic_tile", "aws_cookies", "mvtec_transistor")
]
DEFECTS = 0.02  # share of the stream
BEFORE, AFTER, GROWING = 200, 400, 200  # parts
MOST = {"good": 60, "defective": 20}  # photographs
Pixels = NDArray[np.uint8]
Row = dict[str, float]  # image_score and the numbers of the appearance


def darker(pixels: Pixels, amount: float) -> Pixels:
    """Less light, by a share."""
    return np.rint(pixels * (1 - amount)).astype(np.uint8)


def blurred(pixels: Pixels, amount: float) -> Pixels:
    """Gaussian blur, its sigma in pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(amount)))


def moved(pixels: Pixels, amount: float) -> Pixels:
    """The picture some columns farther right, its border repeated."""
    return np.pad(pixels, ((0, 0), (int(amount), 0), (0, 0)), mode="edge")[:, : pixels.shape[1]]


def warmer(pixels: Pixels, amount: float) -> Pixels:
    """More red and less blue, by a share each."""
    return np.clip(np.rint(pixels * np.array([1 + amount, 1, 1 - amount])), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Drift:
    """One kind of change: what it does, its levels, which of them are measured, and the measures that name it."""

    change: Callable[[Pixels, float], Pixels]
    levels: tuple[float, ...]
    strengths: tuple[int, ...]  # places among the levels
    gradual: bool
    causes: tuple[str, ...]
    unit: str


LIGHT = tuple(step * 0.025 for step in range(1, 9))
DRIFTS = {
    "darkening": Drift(darker, LIGHT, (1, 3, 7), True, ("brightness",), "of the light"),
    "blur growing": Drift(blurred, tuple(step / 4 for step in range(1, 9)), (1, 3, 7), True, ("sharpness",), "px sigma"),
    "colour cast growing": Drift(warmer, tuple(step * 0.015 for step in range(1, 9)), (1, 3, 7), True,
                                 ("red_green", "blue_yellow"), "of red and blue"),
    "part shifted": Drift(moved, (2.0, 4.0, 8.0), (0, 1, 2), False, ("right",), "px"),
    "lamp change": Drift(darker, LIGHT, (1, 3, 7), False, ("brightness",), "of the light"),
}  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Rows of photographs as they are and under each (kind, level); the detector's own calibration and reference."""

    name: str
    nominal: list[float]
    reference: dict[str, list[float]]
    good: list[Row]  # all that the detector was not fitted on
    tested: list[Row]  # those of the test
    defective: list[Row]
    drifted: dict[str, list[list[Row]]]  # kind -> level -> tested and defective


# --- scores, once -----------------------------------------------------------------------------------------------


def score_set(root: Path, folder: Path) -> Scored:
    """Fit, and score every photograph under every drift; kept in ``folder``, and read there if it is there."""
    kept = folder / f"{root.name}.json"
    if kept.exists():
        return Scored(**json.loads(kept.read_text()))
    predictor = andon.fit(root, folder / f"{root.name}.andon", size=(128, 128), seed=0)
    reference = Reference.from_manifest(predictor.manifest)
    if reference is None:
        sys.exit(f"{root}: too few photographs for a reference")
    samples = read_samples(root)
    fitted = set(predictor.manifest["data"][FITTED_ON])
    others = [s.path for s in samples if s.split == "train" and short_digest(s.path) not in fitted]
    tested = some([s.path for s in samples if s.split == "test" and not s.is_anomalous], MOST["good"])
    defective = some([s.path for s in samples if s.split == "test" and s.is_anomalous], MOST["defective"])
    read = partial(rows_of, predictor, reference.picture.grey())
    measured: dict[tuple[Callable[[Pixels, float], Pixels], float], list[Row]] = {}
    for drift in DRIFTS.values():
        for level in drift.levels:
            if (drift.change, level) not in measured:
                measured[drift.change, level] = read(
                    [*tested, *defective], partial(drift.change, amount=level)
                )
    drifted = {
        kind: [measured[drift.change, level] for level in drift.levels] for kind, drift in DRIFTS.items()
    }
    rows = read(tested)
    scored = Scored(root.name, list(predictor.calibration.nominal_scores), {n: list(v) for n, v in reference.values.items()},
                    [*rows, *read(others)], rows, read(defective), drifted)  # fmt: skip
    kept.write_text(json.dumps(asdict(scored)))
    return scored


def some(paths: list[Path], most: int) -> list[Path]:
    """At most so many of the paths, evenly spread."""
    return [paths[index * len(paths) // most] for index in range(most)] if len(paths) > most else paths


def rows_of(
    predictor: Predictor,
    grey: Grey | None,
    paths: list[Path],
    change: Callable[[Pixels], Pixels] = lambda pixels: pixels,
) -> list[Row]:
    """Score and appearance of each photograph after ``change``."""
    rows = []
    for path in paths:
        pixels = np.ascontiguousarray(change(decode(path).pixels))
        rows.append({"image_score": predictor.measure(pixels).image_score, **appearance(pixels, grey)[0]})
    return rows


# --- streams ----------------------------------------------------------------------------------------------------


def table_of(rows: list[Row]) -> NDArray[np.float64]:
    """(R, 8): score and numbers of each photograph, as the monitor takes them."""
    return np.array([[rounded(row["image_score"]), *(row[name] for name in NAMES)] for row in rows])


def own_knowledge(scored: Scored, streams: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The detector's own calibration (S, n) and reference (S, r, 7), the same for every stream."""
    nominal = np.sort([rounded(score) for score in scored.nominal])
    reference = np.array([scored.reference[name] for name in NAMES]).T
    return np.tile(nominal, (streams, 1)), np.tile(reference, (streams, 1, 1))


def drawn_knowledge(
    rng: np.random.Generator, good: NDArray[np.float64], scored: Scored, streams: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Calibration and reference of the detector's own size, drawn for each stream from rows of good photographs."""
    known = good[rng.integers(len(good), size=(streams, len(scored.nominal)))]
    return np.sort(known[:, :, 0], axis=1), known[:, :, 1:]


def drawn(rng: np.random.Generator, streams: int, parts: int, good: int, defective: int) -> NDArray[np.intp]:
    """(S, T) rows: one of the ``good`` first ones of a table, or of the ``defective`` next."""
    bad = rng.random((streams, parts)) < DEFECTS
    return np.where(bad, good + rng.integers(defective, size=bad.shape), rng.integers(good, size=bad.shape))


def quiet(scored: Scored, own: bool, streams: int, parts: int) -> Lines:
    """Streams without drift."""
    rng = np.random.default_rng(1)
    good = scored.tested if own else scored.good
    table = table_of([*good, *scored.defective])
    known = (
        own_knowledge(scored, streams) if own else drawn_knowledge(rng, table[: len(good)], scored, streams)
    )
    chosen = drawn(rng, streams, parts, len(good), len(scored.defective))
    return Lines(chosen, table, *known, rng.random((streams, parts, len(MEASURES))))


def drifting(scored: Scored, kind: str, strength: int, streams: int) -> Lines:
    """Streams in which a drift begins after BEFORE parts."""
    rng, drift = np.random.default_rng([2, strength]), DRIFTS[kind]
    levels = [scored.tested + scored.defective, *scored.drifted[kind]]
    after = np.arange(1, BEFORE + AFTER + 1) - BEFORE
    grown = np.clip(after / GROWING, 0, 1) if drift.gradual else after > 0
    level = np.rint(grown * (strength + 1)).astype(int)
    chosen = drawn(rng, streams, len(after), len(scored.tested), len(scored.defective))
    table = table_of([row for rows in levels for row in rows])
    known = drawn_knowledge(rng, table[: len(scored.tested)], scored, streams)
    return Lines(chosen + level * len(levels[0]), table, *known, rng.random((*chosen.shape, len(MEASURES))))


def fixed_set_alarms(calibration: int, streams: int = 1000, parts: int = 2000) -> float:
    """Share of false alarms of the same bets on p-values against a fixed calibration set: why it is not done."""
    rng = np.random.default_rng(calibration)
    kept = rng.random((streams, calibration))
    bets, zeros, everywhere = Bets(streams, STAKES), np.zeros(streams), np.ones(streams, bool)
    for part in range(1, parts + 1):
        higher = (kept > rng.random((streams, 1))).sum(1)
        bets.bet(0.5 - (higher + rng.random(streams)) / (calibration + 1), zeros, everywhere, part)
    return float((1 / bets.peak <= FALSE_ALARM).mean())


# --- the command ------------------------------------------------------------------------------------------------


def measure_set(scored: Scored, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one set."""
    check(drifting(scored, "lamp change", 7, streams=3))
    found: dict[str, Any] = {
        "calibration": len(scored.nominal),
        "good": len(scored.good),
        "tested": len(scored.tested),
    }
    for name, own in (("same source", False), ("as deployed", True)):
        noticed, _ = play(quiet(scored, own, options.streams, options.parts))
        found[name] = {
            measure: int(count) for measure, count in zip(MEASURES, np.isfinite(noticed).sum(0)) if count
        }
        found[f"{name}, alarms"] = int(np.isfinite(noticed).any(1).sum())
    found["differs"] = {name: moved for name in NAMES if abs(moved := difference(scored, name)) >= 0.5}
    found["drifts"] = [
        {"kind": kind, "level": drift.levels[strength], **outcome(*play(drifting(scored, kind, strength, options.drifting)), drift)}
        for kind, drift in DRIFTS.items()
        for strength in drift.strengths
    ]  # fmt: skip
    return found


def difference(scored: Scored, name: str) -> float:
    """How far the test's mean of a number lies from the reference's, in the reference's standard deviations."""
    reference = np.array(scored.reference[name])
    return float(
        (np.mean([row[name] for row in scored.tested]) - reference.mean()) / max(reference.std(), 1e-6)
    )


def outcome(noticed: NDArray[np.float64], began: NDArray[np.float64], drift: Drift) -> dict[str, Any]:
    """What became of streams with a drift, but for those with a false alarm before it."""
    sound = noticed.min(1) > BEFORE
    noticed, began = noticed[sound] - BEFORE, began[sound] - BEFORE
    causes = [list(MEASURES).index(name) for name in drift.causes]
    first, by = noticed.min(1), noticed.argmin(1)
    named = noticed[:, causes].min(1)
    since = np.take_along_axis(began[:, causes], noticed[:, causes].argmin(1)[:, None], 1)[:, 0]
    found = np.isfinite(first)
    return {
        "streams": int(sound.sum()), "noticed": float(found.mean()), "delays": sorted(first[found].astype(int).tolist()),
        "delay": middle(first), "by": list(MEASURES)[np.bincount(by[found]).argmax()] if found.any() else "",
        "named": float(np.isfinite(named).mean()), "cause_delay": middle(named), "since": middle(since),
        "scores": float(np.isfinite(noticed[:, :2]).any(1).mean()),
    }  # fmt: skip


def middle(values: NDArray[np.float64]) -> float | None:
    """The median of those that are finite."""
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else None


def report(results: dict, options: argparse.Namespace) -> str:
    """The page."""
    lines = [
        "# Drift: how soon it is noticed, and how often the monitor cries wolf", "",
        f"`python benchmarks/drift.py{' ' + ' '.join(options.command) if options.command else ''}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {cpu()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"andon {andon.__version__}. patchcore on andon-s at 128x128; {DEFECTS:.0%} of every stream are real defects.", "",
        f"Stated probability that a line without drift ever raises an alarm: {FALSE_ALARM:.0%}.", "",
        "## Without drift", "",
        "| set | calibration scores | good photographs drawn from | streams x parts | false alarms | stated at most | by |",
        "|---|---:|---:|---|---:|---:|---|",
    ]  # fmt: skip
    for name, found in results.items():
        for kind, pool in (("same source", found["good"]), ("as deployed", found["tested"])):
            alarms = found[f"{kind}, alarms"]
            by = ", ".join(f"{measure} {count}" for measure, count in found[kind].items())
            lines.append(f"| {name}, {kind} | {found['calibration']} | {pool} | {options.streams:,} x {options.parts:,} | "
                         f"{alarms} ({alarms / options.streams:.1%}) | {FALSE_ALARM:.0%} | {by} |")  # fmt: skip
    lines += ["", "*Same source*: calibration, reference and line are drawn from the same photographs, so nothing drifts at all. "
              "*As deployed*: the detector's own calibration and reference, and a line drawn from other photographs, those of the test. "
              "An alarm there need not be false: it says that the test's photographs differ from those of the training, " + differences(results), "",
              "The same bets on p-values against a *fixed* calibration set (1,000 streams of 2,000 parts, one measure) raise an alarm in "
              + ", ".join(f"{share:.1%} with {n} scores" for n, share in options.fixed.items())
              + ": the luck of the set is taken for drift. That is why the monitor ranks each part among all before it.", "",
              "## With drift", "",
              f"It begins after {BEFORE} parts, grows over {GROWING} where it is gradual, and the stream ends {AFTER} parts after "
              f"it began. {options.drifting} streams a line; delays are medians, in parts since the drift began (at zero strength, "
              "where it grows). *By scores*: share of streams in which the scores alone, or the share of high ones, told it. *Began*: the "
              "estimate of its beginning, from the true one."]  # fmt: skip
    for name, found in results.items():
        lines += ["", f"### {name}", "",
                  "| drift | strength | noticed | delay | first by | by scores | cause named | delay | began |",
                  "|---|---|---:|---:|---|---:|---:|---:|---:|"]  # fmt: skip
        lines += [_row(entry) for entry in found["drifts"]]
    lines += ["", "## Charts", "",
              "Average run lengths, computed (Brook and Evans 1972), of the two charts that the monitor shows beside its alarms, "
              f"at their limits (EWMA {ewma_limit():.3f}, CUSUM {cusum_limit():.1f}), by the shift of the mean in standard deviations:", "",
              "| shift | EWMA | CUSUM |", "|---:|---:|---:|"]  # fmt: skip
    lines += [f"| {shift:g} | {ewma_run_length(ewma_limit(), shift):,.0f} | {cusum_run_length(cusum_limit(), shift):,.0f} |"
              for shift in (0.0, 0.25, 0.5, 1.0, 2.0)]  # fmt: skip
    return "\n".join([*lines, "", "![Share of streams in which the drift was noticed](drift.png)", ""])


def differences(results: dict) -> str:
    """The largest differences between the training's photographs and the test's, in words."""
    found = [f"in {name} {measure} by {difference:+.1f} standard deviations"
             for name, entry in results.items() for measure, difference in entry["differs"].items()]  # fmt: skip
    return f"on average {'; '.join(found)}." if found else "though no mean by half a standard deviation."


def _row(entry: dict) -> str:
    unit = DRIFTS[entry["kind"]].unit
    level = (
        f"{entry['level']:.3g} {unit}" if unit.startswith("px") else f"{100 * entry['level']:.3g} % {unit}"
    )
    since = "" if entry["since"] is None else f"{entry['since']:+.0f}"
    return (f"| {entry['kind']} | {level} | {entry['noticed']:.0%} | {_parts(entry['delay'])} | {entry['by']} | "
            f"{entry['scores']:.0%} | {entry['named']:.0%} | {_parts(entry['cause_delay'])} | {since} |")  # fmt: skip


def _parts(delay: float | None) -> str:
    return "" if delay is None else f"{delay:.0f}"


def draw(results: dict, path: Path) -> None:
    """The share of streams in which anything was noticed, over the parts since the drift began."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 2.6 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), len(DRIFTS), sharex=True, sharey=True, squeeze=False)
    for row, (name, found) in zip(axes, results.items()):
        for place, (kind, drift) in zip(row, DRIFTS.items()):
            place.set_title(f"{name}: {kind}", fontsize=8)
            for entry in (e for e in found["drifts"] if e["kind"] == kind):
                delays = entry["delays"]
                steps = np.arange(1, len(delays) + 1) / entry["streams"]
                place.step([0, *delays, AFTER], [0, *steps, steps[-1] if len(steps) else 0], where="post",
                           label=f"{entry['level']:.3g} {drift.unit}")  # fmt: skip
            place.legend(fontsize=6)
            place.set_ylim(0, 1.02)
    for place in axes[-1]:
        place.set_xlabel("parts since the drift began", fontsize=8)
    for row in axes:
        row[0].set_ylabel("share noticed", fontsize=8)
    figure.savefig(path, dpi=110)


def cpu() -> str:
    """The processor, as the system names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=Path, nargs="+", default=SETS)
    parser.add_argument("--streams", type=int, default=1000, help="without drift")
    parser.add_argument("--parts", type=int, default=1000, help="of a stream without drift")
    parser.add_argument("--drifting", type=int, default=100, help="streams a drift and strength")
    parser.add_argument(
        "--scores", type=Path, help="folder in which fits and scores are kept; default: nowhere"
    )
    options = parser.parse_args()
    options.command = sys.argv[1:]
    options.fixed = {n: fixed_set_alarms(n) for n in (8, 75)}
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for root in options.sets:
            kept = options.scores or Path(folder)
            kept.mkdir(parents=True, exist_ok=True)
            results[root.name] = measure_set(score_set(root, kept), options)
            print(f"{root.name}: done", file=sys.stderr, flush=True)
            (RESULTS / "drift.json").write_text(json.dumps(results))
            (RESULTS / "drift.md").write_text(report(results, options))
            draw(results, RESULTS / "drift.png")
    print((RESULTS / "drift.md").read_text())


if __name__ == "__main__":
    main()
