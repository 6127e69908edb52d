"""Good sets that are not: what the audit finds of what was planted, and what it and SoftPatch save of PatchCore.

    OMP_NUM_THREADS=1 python benchmarks/audit.py ../shared/data [--set aws_cookies ...] [--results benchmarks/results]

Of each set (folders in MVTec's layout), good training images, at most ``--good``, and defective test images, at 128x128.

1. Ranking: defective images are put among the good ones, 5 % of them, and of the good ones 2 % each (at least one) are
   made darker, blurred, shifted, and copied (saved again as JPEG). Average precision and precision at k, k being the
   number planted, of `andon audit`'s ranking; of each kind with the good images alone; and which kind it said they are.
2. Use: image AUROC of PatchCore with 0, 5 and 10 % of defective images among the good ones: as it is, with
   `odd_patches=0.15`, and fitted without what the audit says to leave out (and also without what it says to look at).
   The test is the same for all: what may be planted is not in it; at most 60 good and 60 defective images.

One seed. The good images are taken for good as they are published.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from andon.audit import KINDS, LEAVE_OUT, Audit
from andon.image import Preprocessing, prepare
from andon.metrics import auroc, average_precision
from andon.models.patchcore import PatchCore
from andon.pipeline.auditing import audit

SETS = ("aws_cookies", "mvtec_transistor", "magnetic_tile", "mvtec_loco_juice_bottle")
SIZE = Preprocessing(size=(128, 128))
LEVELS = (0.0, 0.05, 0.10)
MIXED = 0.05  # defective images in the ranking's experiment
CHANGED = 0.02  # of the good images, changed in each way
MOST = 60  # test images of each kind
SHARE = 0.15  # of the patches, discarded as odd: SoftPatch's own


def darker(image: Image.Image) -> Image.Image:
    """60 % of the light."""
    return image.point(lambda value: int(0.6 * value))


def blurred(image: Image.Image) -> Image.Image:
    """Out of focus: sigma of 1/128 of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 128))


def shifted(image: Image.Image) -> Image.Image:
    """12 % to the right; what comes in from the left repeats the edge."""
    pixels = np.asarray(image)
    by = round(0.12 * pixels.shape[1])
    return Image.fromarray(np.concatenate([np.repeat(pixels[:, :1], by, axis=1), pixels[:, :-by]], axis=1))


def saved_again(image: Image.Image) -> Image.Image:
    """Through a JPEG of quality 80."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return Image.open(data)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "light": darker, "blur": blurred, "layout": shifted, "copy": saved_again,
}  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """One set: good training images, defective ones that may be planted (in the order in which they are), and the test."""

    good: list[Path]
    plant: list[Path]
    test: list[tuple[Path, bool]]


def pool(root: Path, most_good: int, rng: np.random.Generator) -> Pool:
    """The set at ``root``; what may be planted at any level is not in the test at any."""
    good = sorted((root / "train" / "good").iterdir())
    good = [good[i] for i in sorted(rng.permutation(len(good))[:most_good])]
    bad = sorted(path for kind in (root / "test").iterdir() if kind.name != "good" for path in kind.iterdir())
    bad = [bad[i] for i in rng.permutation(len(bad))]
    most = round(max(LEVELS) * len(good))
    test_good = sorted((root / "test" / "good").iterdir())[:MOST]
    return Pool(
        good, bad[:most], [(path, False) for path in test_good] + [(p, True) for p in bad[most:][:MOST]]
    )


def planted(folder: Path, of: Pool, level: float, changed: float, rng: np.random.Generator) -> dict[str, str]:
    """Fill ``folder``; the truth of each file's name: a kind of the audit, or "good"."""
    folder.mkdir(parents=True)
    each = max(1, round(changed * len(of.good))) if changed else 0
    order = iter(rng.permutation(len(of.good)))
    fates = {int(next(order)): kind for kind in CHANGES for _ in range(each)}
    truth = {}
    for number, path in enumerate(of.good):
        image, kind = Image.open(path).convert("RGB"), fates.get(number, "good")
        name = f"{number:04d}.png"
        if kind == "copy":
            saved_again(image).save(folder / f"{number:04d}_again.png")  # after its original, by name
            truth[f"{number:04d}_again.png"] = "copy"
            kind = "good"
        (CHANGES[kind](image) if kind != "good" else image).save(folder / name)
        truth[name] = kind
    for number, path in enumerate(of.plant[: max(1, round(level * len(of.good))) if level else 0]):
        Image.open(path).convert("RGB").save(folder / f"d{number:03d}.png")
        truth[f"d{number:03d}.png"] = "defect"
    return truth


def ranking(found: Audit, truth: dict[str, str]) -> dict[str, Any]:
    """Precision of the list, over all kinds and of each beside the good images, and what each was said to be."""
    kinds = [truth[one.path] for one in found.judged]
    wrong = np.array([kind != "good" for kind in kinds])
    order = -np.arange(len(kinds), dtype=np.float64)
    each = {}
    for kind in KINDS:
        members = np.array([one in (kind, "good") for one in kinds])
        own = wrong[members]
        said = Counter(one.kind for one, is_ in zip(found.judged, kinds, strict=True) if is_ == kind)
        if own.any():
            each[kind] = {"images": int(own.sum()), "average_precision": average_precision(order[members], own),
                          "precision_at_k": float(own[: own.sum()].mean()), "said": dict(said)}  # fmt: skip
    return {"images": len(kinds), "planted": int(wrong.sum()), "average_precision": average_precision(order, wrong),
            "precision_at_k": float(wrong[: wrong.sum()].mean()), "kinds": each}  # fmt: skip


class Remembering(PatchCore):
    """PatchCore that is shown numbers in the place of images: the patches of each are computed once."""

    def __init__(self, patches: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(**settings)
        self.remembered = patches

    def patches(self, images: Tensor) -> Tensor:
        """The patches of the images whose numbers stand in the first pixel."""
        return torch.stack([self.remembered[int(image[0, 0, 0])] for image in images])


def numbered(number: int) -> Tensor:
    """A stand-in for an image (1, 3, H, W)."""
    return torch.full((1, 3, *SIZE.size), float(number))


def image_auroc(
    patches: dict[str, Tensor], train: Sequence[str], test: Sequence[tuple[Path, bool]], **settings: Any
) -> float:
    """Of PatchCore fitted on the images named in ``train``."""
    numbers = {name: number for number, name in enumerate(patches)}
    detector = Remembering(list(patches.values()), **settings)
    with torch.inference_mode():
        for name in train:
            detector.observe(numbered(numbers[name]))
        detector.close()
        scores = [detector(numbered(numbers[str(path)])).image_score for path, _ in test]
    return auroc(torch.cat(scores).numpy(), np.array([bad for _, bad in test]))


def remember(patches: dict[str, Tensor], named: dict[str, Path]) -> None:
    """Add the patches (D, h, w) of the images that are not among ``patches`` yet."""
    detector = PatchCore()
    with torch.inference_mode():
        for name, path in named.items():
            if name not in patches:
                patches[name] = detector.patches(torch.from_numpy(prepare(path, SIZE)[1].images))[0]


def use(
    folder: Path, of: Pool, found: Audit, truth: dict[str, str], patches: dict[str, Tensor]
) -> dict[str, Any]:
    """What a fit on ``folder`` reaches in each way, and whom the audit left out."""
    everyone = sorted(path.name for path in folder.iterdir())
    remember(
        patches, {**{name: folder / name for name in everyone}, **{str(path): path for path, _ in of.test}}
    )
    out = {one.path for one in found.judged if one.action == LEAVE_OUT}
    marked = {one.path for one in found.judged if one.is_marked}
    ways: dict[str, tuple[set[str], dict[str, Any]]] = {
        "as it is": (set(), {}), "odd_patches": (set(), {"odd_patches": SHARE}), "left out": (out, {}),
        "left out or looked at": (marked, {}),
    }  # fmt: skip
    aurocs = {
        name: image_auroc(patches, [one for one in everyone if one not in without], of.test, **settings)
        for name, (without, settings) in ways.items()
    }
    bad = {name for name, kind in truth.items() if kind == "defect"}
    return {"planted": len(bad), "left_out": len(out), "of_them_planted": len(out & bad), "marked": len(marked),
            "of_marked_planted": len(marked & bad), "auroc": aurocs}  # fmt: skip


def measured(root: Path, scratch: Path, most_good: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The experiments on one set, one after the other."""
    of, patches = pool(root, most_good, np.random.default_rng(seed)), {}  # type: tuple[Pool, dict[str, Tensor]]
    for level in (None, *LEVELS):
        name = "mixed" if level is None else f"{100 * level:.0f} %"
        folder, rng = scratch / root.name / name.replace(" ", ""), np.random.default_rng([seed, 1])
        truth = planted(folder, of, MIXED if level is None else level, CHANGED if level is None else 0, rng)
        start = time.perf_counter()
        found = audit(folder, size=SIZE.size, seed=seed)
        seconds = time.perf_counter() - start
        entry = {
            "seconds": round(seconds, 1),
            "ranking": ranking(found, truth) if set(truth.values()) != {"good"} else None,
        }
        if level is not None:
            entry["use"] = use(folder, of, found, truth, patches)
        shutil.rmtree(folder)
        yield name, entry


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder with the sets")
    parser.add_argument("--set", nargs="+", default=list(SETS), dest="sets")
    parser.add_argument(
        "--good", type=int, default=100, help="good training images of a set, at most, drawn by the seed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="write audit.md and audit.json there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="audit-") as scratch:
        for name in options.sets:
            found[name] = {}
            for experiment, entry in measured(options.data / name, Path(scratch), options.good, options.seed):
                found[name][experiment] = entry
                print(name, experiment, json.dumps(entry), flush=True)
    text = page(found, options.good, options.seed)
    print(text)
    if options.results:
        (options.results / "audit.md").write_text(text, encoding="utf-8")
        (options.results / "audit.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


# --- the page -------------------------------------------------------------------------------------------------


def page(found: dict[str, dict[str, Any]], good: int, seed: int) -> str:
    """The result as Markdown."""
    made = f"{time.strftime('%Y-%m-%d')}, {processor()}, Python {platform.python_version()}, torch {torch.__version__}"
    return "\n".join([
        "# Good sets that are not: the audit and SoftPatch", "",
        f"`OMP_NUM_THREADS=1 python benchmarks/audit.py DATA --good {good} --seed {seed} --results benchmarks/results`", "",
        f"{made}. andon-s at 128x128, at most {good} good training images of a set,",
        "one seed: with so few planted images the figures are coarse.", "",
        "## What the ranking finds", "",
        "Planted: 5 % defective images, and 2 % each (at least one) of darker, blurred, shifted and copied good ones. AP:",
        "average precision of the ranked list; each kind beside the good images alone. P@k: of the first k, k as many as",
        "were planted.", "",
        *table(["set", "images", "planted", "AP", "P@k", *(f"AP {kind}" for kind in KINDS), "seconds"], ranking_rows(found)),
        "", "## Which kind it says", "", "Rows: what was planted, over all sets; columns: what the audit says.", "",
        *table(["", *KINDS], confusion_rows(found)), "",
        "## What it saves", "",
        "Image AUROC of PatchCore; in brackets how many images were left out and how many of them were planted.", "",
        *table(["set", "defective among the good", "AP of the defective", "as it is", f"odd_patches={SHARE}", "left out",
                "left out or looked at"], use_rows(found)), "",
    ])  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def ranking_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row a set."""
    rows = []
    for name, of in found.items():
        r = of["mixed"]["ranking"]
        each = [
            f"{r['kinds'][kind]['average_precision']:.2f} ({r['kinds'][kind]['images']})" for kind in KINDS
        ]
        rows.append([name, str(r["images"]), str(r["planted"]), f"{r['average_precision']:.2f}",
                     f"{r['precision_at_k']:.2f}", *each, str(of["mixed"]["seconds"])])  # fmt: skip
    return rows


def confusion_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row a planted kind."""
    rows = []
    for kind in KINDS:
        said: Counter[str] = Counter()
        for of in found.values():
            said.update(of["mixed"]["ranking"]["kinds"][kind]["said"])
        rows.append([kind, *(str(said[other]) for other in KINDS)])
    return rows


def use_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row a set and level."""
    rows = []
    for name, of in found.items():
        for level, entry in of.items():
            if "use" not in entry:
                continue
            u, r = entry["use"], entry["ranking"]
            precision = f"{r['average_precision']:.2f}" if r else ""
            a = u["auroc"]
            rows.append([name, f"{level} ({u['planted']})", precision, f"{a['as it is']:.3f}", f"{a['odd_patches']:.3f}",
                         f"{a['left out']:.3f} ({u['left_out']}, {u['of_them_planted']})",
                         f"{a['left out or looked at']:.3f} ({u['marked']}, {u['of_marked_planted']})"])  # fmt: skip
    return rows


def processor() -> str:
    """The processor's name, as the system has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
