"""How often the promise of a threshold was kept on real photographs: split, fit and calibrate, many times over.

    python benchmarks/coverage.py ../shared/data [--repetitions 200] [--size 64] [--out benchmarks/results]

A repetition divides a set's good images anew into three parts: PatchCore is fitted on the first, each rule sets its
threshold on the second, and the false-alarm rate is that of the third, of which nothing was known. The rules:

- conditional: at most r false alarms with 95 % confidence, so the promise should be kept in 95 % of the repetitions;
- marginal: at most r on average over calibration sets, so in single repetitions it is kept about every other time;
- largest: the largest score, with what the number of images promises at 95 % confidence.

The part left over is small, so its rate scatters about the true one. If the scores are exchangeable, the number of
false alarms among m images left over is Beta-binomial(m; n + 1 - k, k), whatever the scores' distribution; the column
*expected* is the coverage that follows for this n, k and m exactly. It lies below the promised confidence (which is
about the true rate, m without end) and is what *kept* is to be compared with. The interval is Wilson's over the
repetitions; they share a set's photographs, so it tells how well these repetitions were counted, no more.

Patch features are computed once a photograph: the backbone is frozen, so nothing changes. Coreset, memory bank and
scores are made anew in each repetition.

``mixed`` draws all three parts from all good images of a set; ``own test`` fits and calibrates on its training images
and asks its own good test images, as they were published.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon import __version__
from andon.calibrate import promised_rate
from andon.calibrate.conformal import conditional_order, marginal_order
from andon.data import read_samples
from andon.features.neighbours import nearest
from andon.image import Preprocessing, prepare
from andon.metrics import wilson
from andon.models.patchcore import PatchCore

CONFIDENCE = 0.95
TARGETS = (0.01, 0.05, 0.1)
LEAST_LEFT_OVER = 10  # images; a rate of fewer says nothing
RULES = ("conditional", "marginal", "largest")


class Plan(NamedTuple):
    """One way to divide a set: images to fit on, images to calibrate on; the others are left over."""

    root: str
    fitted: int
    calibrated: int
    own_test: bool = False


PLANS = (
    Plan("aws_cookies", 13, 16),
    Plan("mvtec_loco_juice_bottle", 50, 77),
    Plan("mvtec_transistor", 60, 106),
    Plan("magnetic_tile", 60, 170),
    Plan("magnetic_tile", 40, 299),
    Plan("mvtec_loco_juice_bottle", 50, 100, own_test=True),
    Plan("mvtec_transistor", 60, 153, own_test=True),
    Plan("magnetic_tile", 60, 240, own_test=True),
)


@dataclass(frozen=True)
class Row:
    """What one rule did on one division of one set."""

    root: str
    parts: str  # mixed, or own test
    fitted: int
    calibrated: int  # n
    left_over: int  # m
    rule: str
    order: int  # k
    rate: float  # promised, 0 to 1
    promised: (
        float | None
    )  # share of repetitions that should keep it were m without end; None where none is named
    expected: float  # the same for this m
    kept: int
    repetitions: int
    mean_rate: float  # false alarms among the images left over, mean of the repetitions

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.kept, self.repetitions)


class Remembered(PatchCore):
    """PatchCore on patches that were computed before."""

    def fit(self, patches: Tensor) -> None:
        """Build the memory bank from ``patches`` (B, P, D)."""
        rows = patches.flatten(0, 1)
        self.load_statistics(
            {"patches": rows, "seen": torch.tensor(len(patches)), "patches_seen": torch.tensor(len(rows))}
        )
        self.close()

    def scores(self, patches: Tensor) -> NDArray[np.float64]:
        """Image scores (B,) of ``patches`` (B, P, D), as ``forward`` makes them from a photograph."""
        distance, index = nearest(patches.flatten(0, 1), self.memory_bank)
        grid = patches.shape[:2]
        found = self._image_score(patches, self.memory_bank, distance.reshape(grid), index.reshape(grid))
        return found.numpy().astype(np.float64)


def features(detector: PatchCore, paths: list[Path], size: int) -> Tensor:
    """The patches (N, P, D) of all photographs."""
    preprocessing = Preprocessing(size=(size, size))
    found = []
    with torch.no_grad():
        for path in paths:
            images = torch.from_numpy(prepare(path, preprocessing)[1].images)
            found.append(detector.patches(images).float().flatten(2).permute(0, 2, 1))
    return torch.cat(found)


def false_alarms(plan: Plan, detector: Remembered, train: Tensor, test: Tensor, repetitions: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:  # fmt: skip
    """Sorted calibration scores and scores left over, one pair a repetition."""
    pool = train if plan.own_test else torch.cat([train, test])
    for seed in range(repetitions):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pool)))
        fitted, calibrated, rest = order.split(
            [plan.fitted, plan.calibrated, len(pool) - plan.fitted - plan.calibrated]
        )
        detector.fit(pool[fitted])
        left_over = test if plan.own_test else pool[rest]
        yield np.sort(detector.scores(pool[calibrated])), detector.scores(left_over)


def orders(n: int) -> Iterator[tuple[str, int, float, float | None]]:
    """Each rule that n calibration images allow: its name, the order k, the rate and the confidence promised."""
    for rate in TARGETS:
        k = conditional_order(n, rate, CONFIDENCE)
        if k is not None:
            yield "conditional", k, rate, CONFIDENCE
        if marginal_order(n, rate) <= n:
            yield "marginal", marginal_order(n, rate), rate, None
    yield "largest", n, promised_rate(n, n, CONFIDENCE), CONFIDENCE


def expected_coverage(n: int, k: int, m: int, rate: float) -> float:
    """P(at most rate * m of m further scores lie above the k-th smallest of n), all n + m exchangeable, no ties.

    Of the (n + m choose m) ways to order them, C(j + n - k, j) C(m - j + k - 1, m - j) have j above.
    """
    most = math.floor(rate * m + 1e-9)
    ways = sum(math.comb(j + n - k, j) * math.comb(m - j + k - 1, m - j) for j in range(most + 1))
    return ways / math.comb(n + m, m)


def measure(plan: Plan, detector: Remembered, train: Tensor, test: Tensor, repetitions: int) -> list[Row]:
    """The rows of one division of one set."""
    pairs = list(false_alarms(plan, detector, train, test, repetitions))
    n, m = plan.calibrated, len(pairs[0][1])
    if m < LEAST_LEFT_OVER:
        raise SystemExit(f"{plan}: only {m} images are left over; expected at least {LEAST_LEFT_OVER}")
    rows = []
    for rule, k, rate, promised in orders(n):
        rates = np.array([(left_over > scores[k - 1]).mean() for scores, left_over in pairs])
        rows.append(
            Row(plan.root, "own test" if plan.own_test else "mixed", plan.fitted, n, m, rule, k, rate, promised,
                expected_coverage(n, k, m, rate), int((rates <= rate + 1e-12).sum()), repetitions,
                float(rates.mean()))
        )  # fmt: skip
    return rows


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| set | parts | fit / calibrate / left over | rule | promised rate | confidence | expected | kept | 95 % interval | mean rate |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval
        lines.append(
            f"| {row.root} | {row.parts} | {row.fitted} / {row.calibrated} / {row.left_over} | {row.rule} "
            f"| {percent(row.rate)} | {'-' if row.promised is None else percent(row.promised)} "
            f"| {percent(row.expected)} | {percent(row.kept / row.repetitions)} "
            f"| {percent(low)} to {percent(high)} | {percent(row.mean_rate)} |"
        )
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Coverage of each row with its interval, beside what was expected and what was promised."""
    from matplotlib.figure import Figure

    colours = dict(zip(RULES, ("#1b6ca8", "#c2703d", "#5d6d5f"), strict=True))
    figure = Figure(figsize=(9.5, 0.27 * len(rows) + 1.6), layout="constrained", dpi=100)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        low, high = row.interval
        axes.plot([low, high], [place, place], color=colours[row.rule], linewidth=2, solid_capstyle="butt")
        axes.plot(row.kept / row.repetitions, place, "o", color=colours[row.rule], markersize=5)
        axes.plot(row.expected, place, "|", color="black", markersize=11, markeredgewidth=1.4)
    axes.axvline(CONFIDENCE, color="#999999", linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(
        range(len(rows)),
        [f"{row.root}, {row.parts}, n = {row.calibrated}, {percent(row.rate)}" for row in rows],
        fontsize=7.5,
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.005)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("repetitions in which the images left over kept to the promised rate")
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for rule, colour in colours.items():
        axes.plot([], [], "o-", color=colour, label=f"{rule}, with 95 % interval")
    axes.plot([], [], "|", color="black", markersize=11, label="expected for so few left over")
    axes.plot([], [], "--", color="#999999", label="95 %, as promised by conditional and largest")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path)


def summary(rows: list[Row]) -> str:
    """Of the rows whose parts were drawn from one pool, in how many the interval holds what was expected."""
    mixed = [row for row in rows if row.parts == "mixed"]
    held = sum(low <= row.expected <= high for row in mixed for low, high in [row.interval])
    own = [row for row in rows if row.parts == "own test"]
    fewer = sum(row.interval[0] > row.expected for row in own)
    more = sum(row.interval[1] < row.expected for row in own)
    return (
        f"Of {len(mixed)} mixed rows the interval holds the expected coverage in {held}. A set's own test images are always "
        f"the same ones and need not be like its training images: of {len(own)} rows, {fewer} kept the promise more often "
        f"than expected and {more} less often."
    )


def report(rows: list[Row], options: argparse.Namespace) -> str:
    """The page: what was run, where, and the table."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"python benchmarks/coverage.py DATA --repetitions {options.repetitions} --size {options.size}"
    return "\n".join([
        "# Coverage: how often a threshold's promise was kept", "",
        f"`{command}`, {date}, {os.cpu_count()} cores ({platform.machine()}), one thread, andon {__version__}, "
        f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, NumPy {np.__version__}. "
        f"PatchCore, backbone andon-s, {options.size}x{options.size}; {options.repetitions} repetitions of split, fit and "
        "calibrate.", "",
        "*Kept*: the share of repetitions in which the good images left over had at most the promised rate of false alarms; "
        "beside it Wilson's interval over the repetitions. *Expected*: the same by the theory, for so few images left over. "
        "*Confidence*: what was promised, for images without end; the marginal rule promises only the mean rate (last column).",
        "", summary(rows), "", "![Coverage](coverage.png)", "", table(rows), "",
    ])  # fmt: skip


def main() -> None:
    """Measure, print, and write coverage.md, .json and .png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=Path, help="the folder with the sets " + ", ".join({p.root for p in PLANS})
    )
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    detector = Remembered()
    known: dict[str, tuple[Tensor, Tensor]] = {}
    rows: list[Row] = []
    for plan in PLANS:
        if plan.root not in known:
            good = [sample for sample in read_samples(options.data / plan.root) if not sample.is_anomalous]
            known[plan.root] = tuple(  # type: ignore[assignment]
                features(detector, [sample.path for sample in good if (sample.split == "test") == is_test], options.size)
                for is_test in (False, True)
            )  # fmt: skip
        found = measure(plan, detector, *known[plan.root], options.repetitions)
        print(table(found), flush=True)
        rows += found
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "coverage.md").write_text(report(rows, options))
    content = {
        "repetitions": options.repetitions,
        "size": options.size,
        "rows": [asdict(row) for row in rows],
    }
    (options.out / "coverage.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(rows, options.out / "coverage.png")


if __name__ == "__main__":
    main()
