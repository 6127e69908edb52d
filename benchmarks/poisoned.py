"""Sites that mean harm, or got it wrong: what each rule makes of them, and whom the server's own images find.

    OMP_NUM_THREADS=1 python benchmarks/poisoned.py ../shared/data/mvtec_transistor ../shared/data/magnetic_tile line
    python benchmarks/poisoned.py line --good 42 --test 8 --seeds 1 --out /tmp/poisoned.json   # to try it out

"line": the synthetic inspection line. Images at 128x128 through andon-s. Seven sites share the good images alike; before
that 12 of them are the server's own. Two of the seven are bad:

    honest               nobody is
    scaled               sums ten times as large, the count as it was
    many                 sums and count a hundred times as large: sites that say they have more
    noised               noise as large as the numbers' own deviation
    inflated             second moments three times as large (a detector that finds nothing odd)
    defects              as many defective images among their good ones, none of them in the test
    replaced             features of something else: drawn textures
    flood                (banks) 2,000 random rows beside their own

Image AUROC (mean over ``--seeds`` of the division into sites) of PaDiM, SubspaceAD and PatchCore under each rule, and how many of
the bad and of the good sites each check named.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from andon.errors import AndonError
from andon.federated import Aggregate, Contribution, Refused, default_aggregate
from andon.federated.attacks import flooding, noised, replaced, scaled
from andon.federated.privacy.public import public_images
from andon.federated.robust import checked, checked_rows, coordinate_median, krum, robust, trimmed_mean
from andon.files import atomic_write
from andon.models import Detector
from andon.models.base import State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD
from privacy_sets import RESULTS, SIZE, Loaded, closed, figures, load, table_head

SITES, BAD, OWN = 7, 2, 12
KINDS = ("honest", "scaled", "many", "noised", "inflated", "defects", "replaced")
MAKERS: dict[str, Callable[[], Detector]] = {"padim": PaDiM, "subspacead": SubspaceAD, "patchcore": PatchCore}


def state_of(detector: Detector, images: Tensor) -> State:
    """What a site sends of ``images``: moments, or its own coreset."""
    detector.reset()
    for part in images.split(8):
        detector.observe(part)
    if isinstance(detector, PatchCore):
        detector.close()
        return detector.kept_statistics()
    return detector.statistics()


def spoiled(kind: str, detector: Detector, one: Contribution, images: Tensor, defective: Tensor, textures: Tensor) -> Contribution:  # fmt: skip
    """``one``, of ``images``, as a bad site of ``kind`` sends it."""
    if kind in ("defects", "replaced"):
        other = (
            textures[: len(images)] if kind == "replaced" else torch.cat([images, defective[: len(images)]])
        )
        return replaced(state_of(detector, other))(one)
    if kind == "inflated":
        return replace(one, state={**one.state, "second": 3 * one.state["second"]})
    if kind == "scaled" and "count" in one.state:
        return replace(scaled(10.0)(one), state={**scaled(10.0)(one).state, "count": one.state["count"]})
    changes = {"scaled": scaled(10.0), "many": scaled(100.0), "noised": noised(1.0, seed=len(one.site)), "flood": flooding(2000, 2.0)}  # fmt: skip
    return changes[kind](one) if kind in changes else one


def rules(detector: Detector, good: list[Tensor], tell: Callable[[Refused], None]) -> dict[str, Aggregate]:
    """By name; ``tell`` is told by the last one, which looks at sites."""
    mean = default_aggregate(detector)
    if isinstance(detector, PatchCore):
        return {
            "all rows": mean,
            "quota": lambda them: mean([quota(one, 500) for one in them]),
            "checked rows": checked_rows(detector, good, quota=500, tell=tell),
        }
    return {
        "mean": mean,
        "trimmed mean": robust(detector, trimmed_mean(BAD)),
        "median": robust(detector, coordinate_median),
        "Krum": robust(detector, krum(BAD)),
        "multi-Krum": robust(detector, krum(BAD, keep=SITES - BAD)),
        "checked, then mean": checked(detector, good, mean, tell=tell),
    }


def quota(one: Contribution, rows: int) -> Contribution:
    """Its first ``rows`` rows."""
    return replace(one, state={**one.state, "patches": one.state["patches"][:rows]})


def cases(of: Loaded, method: str, seed: int) -> list[dict[str, Any]]:
    """One row a kind of harm: AUROC by rule, and who was named."""
    detector = MAKERS[method]()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(of.good)))
    good = list(of.good[order[:OWN]].split(4))
    shares = of.good[order[OWN:]].tensor_split(SITES)
    defective, test = without_planted(of, len(shares[0]))
    textures = public_images(SIZE.size, 32)
    textures = textures[[n for n in range(32) if n % 4]]  # no pictures of the line
    honest = [
        Contribution(f"site {n}", state_of(detector, share), len(share)) for n, share in enumerate(shares)
    ]
    rows = []
    for kind in (*[k for k in KINDS if method != "patchcore" or k not in ("many", "inflated")], *(["flood"] if method == "patchcore" else [])):  # fmt: skip
        sent = [spoiled(kind, detector, one, shares[n], defective, textures) if n < BAD else one for n, one in enumerate(honest)]  # fmt: skip
        told: list[Refused] = []
        row: dict[str, Any] = {"method": method, "kind": kind, "seed": seed}
        for name, rule in rules(detector, good, told.append).items():
            try:
                row[name] = figures(closed(detector, rule(sent)), test)["auroc"]
            except AndonError:
                row[name] = None
        named = {one.site for one in told}
        row["bad named"] = sum(f"site {n}" in named for n in range(BAD)) if kind != "honest" else None
        row["good named"] = sum(f"site {n}" in named for n in range(0 if kind == "honest" else BAD, SITES))
        row["told"] = {one.site: one.reason for one in told}
        rows.append(row)
        print(of.name, json.dumps({k: v for k, v in row.items() if k != "told"}), flush=True)
    return rows


def without_planted(of: Loaded, each: int) -> tuple[Tensor, Loaded]:
    """Defective images to put among the good ones, and the rest of the test."""
    bad = np.flatnonzero(of.truth)
    planted = bad[:: max(2, len(bad) // each)]
    rest = [n for n in range(len(of.truth)) if n not in set(planted.tolist())]
    left = of._replace(test=of.test[rest], truth=of.truth[rest], masks=[of.masks[n] for n in rest])
    return of.test[planted], left


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", help="folders, or line")
    parser.add_argument("--methods", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--good", type=int, default=200, help="good images, at most")
    parser.add_argument("--test", type=int, default=60, help="test images of each kind, at most")
    parser.add_argument("--out", type=Path, default=RESULTS / "poisoned.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        of = load(name, options.good, options.test)
        rows = [
            row
            for method in options.methods
            for seed in range(options.seeds)
            for row in cases(of, method, seed)
        ]
        kept = json.loads(options.out.read_text()) if options.out.exists() else {}
        kept[of.name] = {"rows": rows, "good": len(of.good), "test": len(of.test), "how": f"{datetime.date.today()}, "
                         f"{platform.processor() or platform.machine()}, torch {torch.__version__}, --seeds {options.seeds} "
                         f"--good {options.good} --test {options.test}"}  # fmt: skip
        with atomic_write(options.out, "w") as file:
            json.dump(kept, file, indent=1)
        with atomic_write(options.out.with_suffix(".md"), "w") as file:
            file.write(page(kept))


def page(kept: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["# Sites that mean harm", "", "`OMP_NUM_THREADS=1 python benchmarks/poisoned.py SETS`", "",
             f"Image AUROC; {SITES} sites, {BAD} of them bad in the way named, {OWN} good images at the server. In brackets beside a "
             "kind: bad sites that the last rule named, of all; good sites that it named."]  # fmt: skip
    for name, found in kept.items():
        lines += ["", f"## {name}", "", f"{found['good']} good images, {found['test']} test images at 128x128, andon-s; {found['how']}."]  # fmt: skip
        for method in dict.fromkeys(row["method"] for row in found["rows"]):
            lines += ["", *method_table(method, [row for row in found["rows"] if row["method"] == method])]
    return "\n".join(lines) + "\n"


def method_table(method: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a kind of harm, means over the seeds."""
    names = [n for n in rows[0] if n not in ("method", "kind", "seed", "bad named", "good named", "told")]
    lines = table_head([method, *names])
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        bad = "" if kind == "honest" else f"{sum(row['bad named'] for row in of)}/{BAD * len(of)} bad, "
        good = f"{sum(row['good named'] for row in of)}/{(SITES - (0 if kind == 'honest' else BAD)) * len(of)} good"
        values = [[row[name] for row in of] for name in names]
        lines.append("| " + " | ".join([f"{kind} ({bad}{good})", *map(mean_word, values)]) + " |")
    return lines


def mean_word(values: Sequence[float | None]) -> str:
    """The mean, or how often there was none."""
    there = [value for value in values if value is not None]
    return (
        f"{np.mean(there):.3f}"
        if len(there) == len(values)
        else f"refused {len(values) - len(there)} of {len(values)}"
    )


if __name__ == "__main__":
    main()
