"""What privacy costs and what it is worth: accuracy over epsilon, and two attacks on what a site sends, with and without.

    OMP_NUM_THREADS=1 python benchmarks/privacy.py ../shared/data/mvtec_transistor ../shared/data/magnetic_tile \\
        ../shared/data/mvtec_loco_juice_bottle ../shared/data/aws_cookies line
    python benchmarks/privacy.py line --draws 1 --epsilons inf 8 --times 1 --good 24 --test 8 --steps 10 --out /tmp/privacy.json   # to try it out

"line": the synthetic inspection line. Images at 128x128 through andon-s, one site with all good images.

1. Accuracy. Image AUROC and AUPRO of the private statistics, means over ``--draws`` of the noise; beside them the method as it
   is, and what the public images alone give (no image of the site: below that, privacy has left nothing). ``--times`` T:
   sums T times as large, as a site with T times as many images of the same kind would have. delta is 1e-5.
2. Private training of an autoencoder (DP-SGD), ``--steps`` steps; 0 leaves it out.
3. Membership. Half of the good images are the site's; a quarter is known to the attacker, who is to tell the site's images
   from the last quarter by what the site sends.
4. Inversion. Rows of a memory bank turned into pictures: by optimisation, by the nearest public patch, and by the nearest patch
   of another site's images of the same part; correlation with the site's own picture. Pictures of the synthetic line only.

Rows of sets that are not named again are kept in the results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from andon.errors import AndonError
from andon.federated import Contribution, Privacy
from andon.federated.attacks import loss_membership, membership
from andon.federated.privacy import PrivateBank, epsilon_of, noise_for
from andon.federated.privacy.accountant import training_noise
from andon.federated.privacy.training import descend_privately, sampling_of
from andon.files import atomic_write
from andon.models import Detector, build
from andon.models.base import Phase
from andon.models.patchcore import PatchCore
from privacy_attacks import attacks, inversion
from privacy_sets import (
    DELTA,
    LINE,
    METHODS,
    RESULTS,
    Loaded,
    Statistic,
    closed,
    figures,
    load,
    public_for,
    statistic_of,
    summed,
    table_head,
)

# --- 1. accuracy ---------------------------------------------------------------------------------------------------------


def private_figures(statistic: Statistic, images: Tensor, noise: float, times: int, draw: int, of: Loaded,
                    rounds: int = 1) -> dict[str, float] | None:  # fmt: skip
    """Of one draw of the noise; None where nothing stands out of it. ``times``: the sums, not the noise, as often."""
    begun = statistic.centres if isinstance(statistic, PrivateBank) else None
    try:
        for number in range(rounds):
            sums = summed(statistic, images)
            told = sums.released(noise * rounds**0.5, rng=np.random.default_rng([draw, times, number]))
            larger = {name: tensor + (times - 1) * sums.sums[name] for name, tensor in told.items()}
            state = statistic.merged([Contribution("site", statistic.state(larger), 1)], noise * rounds**0.5)
        return figures(closed(statistic.detector, state), of)
    except AndonError:
        return None
    finally:
        if isinstance(statistic, PrivateBank) and begun is not None:
            statistic.centres = begun


def mean_of(found: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """The mean over draws; None where any failed."""
    if any(one is None for one in found):
        return None
    return {name: float(np.mean([one[name] for one in found if one])) for name in ("auroc", "aupro")}


def accuracy(of: Loaded, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a method, number of images and bound."""
    public = public_for(of.name)
    for name, make in METHODS.items():
        own = make()
        for part in of.good.split(8):
            own.observe(part)
        own.close()
        plain = figures(own, of)
        for label, worst_case, rounds in ways_of(own):
            statistic = remembered(statistic_of(make(), public, worst_case=worst_case))
            guess = private_figures(statistic, public, 1e-9, 1, 0, of)
            for times in options.times:
                row = {"method": name, "bounds": label, "times": times, "as it is": plain, "public images alone": guess}  # fmt: skip
                for epsilon in options.epsilons:
                    noise = 1e-9 if math.isinf(epsilon) else noise_for(epsilon, DELTA)
                    draws = 1 if math.isinf(epsilon) else options.draws
                    row[str(epsilon)] = mean_of([private_figures(statistic, of.good, noise, times, draw, of, rounds) for draw in range(draws)])  # fmt: skip
                print(of.name, json.dumps(row), flush=True)
                yield row


def ways_of(detector: Detector) -> list[tuple[str, bool, int]]:
    """How the private statistic is taken: label, whether by the worst case's bounds, rounds."""
    if isinstance(detector, PatchCore):
        return [("1 round", True, 1), ("3 rounds", True, 3)]
    return [("typical", False, 1), ("worst case", True, 1)]


def remembered(statistic: Statistic) -> Statistic:
    """``statistic``, which remembers the features of images that it has met, and moments their sums."""
    kept: dict[int, Tensor] = {}
    features = statistic.features

    def look(images: Tensor) -> Tensor:
        if images.data_ptr() not in kept:
            kept[images.data_ptr()] = features(images)
        return kept[images.data_ptr()]

    statistic.features = look  # type: ignore[method-assign]
    statistic.known_sums = {}  # type: ignore[union-attr]
    return statistic


# --- 2. private training -------------------------------------------------------------------------------------------------


class InMemory:
    """Training images in memory."""

    drawn = False

    def __init__(self, images: Tensor) -> None:
        self.images, self.count = images, len(images)

    def batches(self, wanted: Any) -> Any:
        """For each batch that is wanted its images."""
        for picks in wanted:
            yield [self.images[pick.number : pick.number + 1] for pick in picks]


def autoencoder(steps: int, norm: str, images: int) -> Detector:
    """Small, so that the noise has few weights to hide; images are drawn by twos of five."""
    batch = max(4, round(0.2 * images))
    return build("autoencoder", steps=steps, norm=norm, width=8, latent=16, batch_size=batch, ssim_share=0.0,
                 score="peak")  # fmt: skip


def trained(of: Tensor, steps: int, norm: str, epsilon: float | None) -> Detector:
    """An autoencoder on images ``of``; ``epsilon`` None: as it is trained without privacy; inf: gradients cut, no noise."""
    detector = autoencoder(steps, norm, len(of))
    detector.observe(of[:1])
    if epsilon is None:
        from andon.training import train

        train(detector, lambda numbers: of[list(numbers)], len(of), lambda *told: None)
    else:
        (phase,) = detector.phases()
        assert isinstance(phase, Phase)
        share = sampling_of(detector, len(of))
        noise = 1e-9 if math.isinf(epsilon) else training_noise(epsilon, DELTA, share, steps)
        descend_privately(detector, InMemory(of), phase, phase.turns[0], Privacy(1e4, clip=0.1), share, noise, np.random.default_rng(0))  # fmt: skip
    detector.close()
    return detector


def training(of: Loaded, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a way of training: accuracy, and membership by the loss."""
    half = len(of.good) // 2
    ways: list[tuple[str, str, float | None]] = [("batch normalisation", "batch", None), ("group normalisation", "group", None)]  # fmt: skip
    ways += [(f"epsilon {epsilon:g}", "group", epsilon) for epsilon in options.epsilons]
    for label, norm, epsilon in ways:
        detector = trained(of.good[:half], options.steps, norm, epsilon)
        found = membership(
            loss_membership(detector, of.good[:half]), loss_membership(detector, of.good[half:]), DELTA
        )
        row = {"way": label, **figures(detector, of), "membership": found.auroc}
        print(of.name, json.dumps(row), flush=True)
        yield row


# --- the page ------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", help="folders, or line")
    parser.add_argument("--epsilons", nargs="+", type=float, default=[math.inf, 32, 8, 4, 2, 1])
    parser.add_argument("--times", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--good", type=int, default=300, help="good images, at most")
    parser.add_argument("--test", type=int, default=60, help="test images of each kind, at most")
    parser.add_argument("--steps", type=int, default=300, help="of the autoencoder; 0: none")
    parser.add_argument("--invert", type=int, default=200, help="steps of the inversion; 0: none")
    parser.add_argument("--out", type=Path, default=RESULTS / "privacy.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in options.sets:
        of = load(name, options.good, options.test)
        picture = options.out.with_name("privacy_inversion.png") if name == LINE else None
        found = {
            "good": len(of.good),
            "test": len(of.test),
            "accuracy": list(accuracy(of, options)),
            "training": list(training(of, options)) if options.steps else [],
            "membership": list(attacks(of, options)),
            "inversion": inversion(of, options, picture) if options.invert else [],
            "how": f"{datetime.date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}, "
            f"--draws {options.draws} --good {options.good} --test {options.test} --steps {options.steps}",
        }
        kept = json.loads(options.out.read_text()) if options.out.exists() else {}
        kept[of.name] = found
        with atomic_write(options.out, "w") as file:
            json.dump(kept, file, indent=1)
        with atomic_write(options.out.with_suffix(".md"), "w") as file:
            file.write(page(kept))


def page(kept: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["# What privacy costs, and what it is worth", "", "`OMP_NUM_THREADS=1 python benchmarks/privacy.py SETS`", ""]  # fmt: skip
    for name, found in kept.items():
        lines += [f"## {name}", "", f"{found['good']} good images, {found['test']} test images at 128x128, andon-s; {found['how']}.", ""]  # fmt: skip
        lines += accuracy_table(found["accuracy"])
        lines += training_table(found["training"]) + membership_table(found["membership"]) + inversion_table(found["inversion"])  # fmt: skip
    return "\n".join(lines) + "\n"


def accuracy_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Image AUROC / AUPRO."""
    if not rows:
        return []
    told = [name for name in rows[0] if name not in ("method", "bounds", "times", "weight", "as it is", "public images alone")]  # fmt: skip
    head = ["method", "bounds", "images", "as it is", "public alone", *(epsilon_word(float(e)) for e in told)]
    lines = ["Image AUROC / AUPRO; epsilon at delta 1e-5 for adding or removing one image.", "", *table_head(head)]  # fmt: skip
    for row in rows:
        figures = [row["as it is"], row["public images alone"], *(row[e] for e in told)]
        lines.append("| " + " | ".join([row["method"], row["bounds"], f"x{row['times']}", *map(both, figures)]) + " |")  # fmt: skip
    return [*lines, ""]


def training_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The autoencoder."""
    if not rows:
        return []
    lines = ["Autoencoder on half of the good images; membership by the loss (AUROC of the attack, 0.5 is guessing).", "", *table_head(["training", "AUROC / AUPRO", "membership"])]  # fmt: skip
    lines += [f"| {row['way']} | {both(row)} | {row['membership']:.3f} |" for row in rows]
    return [*lines, ""]


def membership_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The attack's figures."""
    lines = ["Membership of one image, told by what is sent: AUROC of the attack; share of the site's images found at 5 % false ones; the epsilon that this proves.", "", *table_head(["method", "sent", "AUROC", "found at 5 %", "epsilon is at least"])]  # fmt: skip
    for row in rows:
        sent = "as it is" if row["epsilon"] is None else epsilon_word(row["epsilon"])
        lines.append(f"| {row['method']} | {sent} | {row['auroc']:.3f} | {row['found_at_5']:.2f} | {row['implied_epsilon']:.2f} |")  # fmt: skip
    return [*lines, ""]


def inversion_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Correlations."""
    if not rows:
        return []
    ways = [name for name in rows[0] if name != "rows"]
    lines = ["Pictures made of rows: correlation with the site's own picture (1: the same).", "", *table_head(["rows", *ways])]  # fmt: skip
    lines += ["| " + " | ".join([row["rows"], *(f"{row[way]:.2f}" for way in ways)]) + " |" for row in rows]
    return [*lines, ""]


def both(found: dict[str, float] | None) -> str:
    """Two figures, or what there is none of."""
    return "nothing left" if found is None else f"{found['auroc']:.3f} / {found['aupro']:.3f}"


def epsilon_word(epsilon: float) -> str:
    """A column's head."""
    if math.isinf(epsilon):
        return "clipped, no noise"
    return f"{epsilon:g} (replace: {epsilon_of(noise_for(epsilon, DELTA) / 2, DELTA):.3g})"


if __name__ == "__main__":
    main()
