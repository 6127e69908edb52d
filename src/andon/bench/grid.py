"""What a benchmark computes: cells, and the named grids that list them.

A cell is one fit and one evaluation: a category of a data set, a method with its settings, how it is fitted, a seed. Its key
is a hash of all that and of the images' names and sizes, so that no cell is computed twice, whichever grid asks for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from andon.data import read_samples
from andon.errors import DataError, SettingsError, did_you_mean

STUDY = ("patchcore", "padim", "efficientad", "draem", "dsr", "cflow")  # the AutoVI study's six
TEN = ("patchcore", "padim", "efficientad", "reverse_distillation", "stfpm", "fastflow", "cflow", "draem", "autoencoder", "vae")  # fmt: skip
STUDY_METRICS = ("image_auroc", "image_ap", "tpr_at_tnr_99", "tpr_at_tnr_95", "tpr_at_tnr_90", "auspro_5")
COMMON_METRICS = ("image_auroc", "image_ap", "aupro_30", "pixel_ap")
SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)
WINDOWS = (200, 400, 600)
FREE = {
    "px": ("window", int),
    "images": ("limit", int),
    "minutes": ("minutes", float),
}  # variants that may have any number


@dataclass(frozen=True)
class Source:
    """One category of a data set at ``root``; ``images`` is a digest of its files' names and sizes."""

    set: str
    category: str
    root: Path
    images: str


@dataclass(frozen=True)
class Variant:
    """One of the ways in which a grid fits each method: settings of the method, options of the fit."""

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One fit and one evaluation. ``variant`` is its name in the grid and no part of its key."""

    source: Source
    method: str
    seed: int
    settings: Mapping[str, Any]
    options: Mapping[str, Any]  # fields of FitOptions, and "window": pixels of the photograph's middle
    variant: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What a result says of its cell."""
        return {
            "set": self.source.set, "category": self.source.category, "method": self.method, "variant": self.variant,
            "settings": dict(self.settings), "options": dict(self.options), "seed": self.seed,
        }  # fmt: skip

    @property
    def key(self) -> str:
        """A name for what is computed: 20 hexadecimal digits."""
        said = {**self.as_dict(), "images": self.source.images}
        del said["variant"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Grid:
    """A question put to many cells: ``methods`` in ``variants``, ``seeds`` times, in every category."""

    name: str
    title: str
    methods: tuple[str, ...]
    seeds: int = 1
    variants: tuple[Variant, ...] = (Variant(),)
    metrics: tuple[str, ...] = COMMON_METRICS
    baseline: str = ""  # the variant that the others are set against


def _named(name: str, **options: Any) -> Variant:
    return Variant(name, options=options)


_GRIDS = (
    Grid("autovi-main", "The AutoVI study's main comparison", STUDY, 8, metrics=STUDY_METRICS),
    Grid(
        "autovi-augmentation", "What rotation and noise in training do", STUDY, 8,
        (Variant("none"), _named("rotation", augment="rotation"), _named("noise", augment="noise"), _named("study", augment="study")),
        STUDY_METRICS, "none",
    ),
    Grid(
        "autovi-window", "How much of the photograph the detector should see", STUDY, 8,
        (Variant("whole"), *(_named(f"{side} px", window=side) for side in WINDOWS)), STUDY_METRICS, "whole",
    ),
    Grid(
        "autovi-fewshot", "How many good images are enough", STUDY, 8,
        (*(_named(f"{n} images", limit=n) for n in SHOTS), Variant("all images")), STUDY_METRICS, "all images",
    ),
    Grid(
        "autovi-efficientad-normalisation", "Which good images set the scale of EfficientAD's maps", ("efficientad",), 8,
        tuple(Variant(where, {"normalise_on": where}) for where in ("held_out", "train")), STUDY_METRICS, "held_out",
    ),
    Grid("ten-models", "Ten models on images of any shape", TEN, 3, metrics=("image_auroc", "aupro_30", "pixel_ap", "entropy_outside")),
    Grid(
        "int8", "What 8-bit convolutions cost and gain", ("patchcore", "padim"), 3,
        (Variant("float32"), _named("int8", int8=True)), COMMON_METRICS, "float32",
    ),
    Grid("mvtec", "MVTec AD", STUDY, 3),
    Grid("loco", "MVTec LOCO AD, structural and logical defects apart", STUDY, 3, metrics=("image_auroc", "auspro_5")),
    Grid("visa", "VisA", STUDY, 3),
    Grid("folder", "Your own images", ("patchcore", "padim", "subspacead"), 3),
)  # fmt: skip
GRIDS = {grid.name: grid for grid in _GRIDS}


def find_grid(name: str) -> Grid:
    """The grid of that name. Raises :class:`SettingsError`.

    >>> find_grid("autovi-main").seeds
    8
    """
    if name not in GRIDS:
        raise SettingsError(
            f"there is no grid {name!r}.{did_you_mean(name, GRIDS)} The grids are: {', '.join(GRIDS)}"
        )
    return GRIDS[name]


def find_sources(roots: Iterable[Path], categories: Sequence[str] = (), layout: str = "auto") -> list[Source]:
    """Every category with test images below ``roots``, or those of ``categories``.

    Raises :class:`DataError` when a root is no data set, holds nothing to test on or none of the categories, and when two
    roots would go by one name.
    """
    found: dict[tuple[str, str], Source] = {}
    for root in roots:
        samples: dict[str, list[Any]] = {}
        for sample in read_samples(root, layout):
            samples.setdefault(sample.category, []).append(sample)
        for category, own in sorted(samples.items()):
            if not any(sample.split == "test" for sample in own) or (
                categories and category not in categories
            ):
                continue
            name = (root.resolve().name, category)
            if name in found:
                raise DataError(
                    f"{root} and {found[name].root} are both called {name[0]}: rename one of the folders"
                )
            listed = sorted(
                (str(s.path.relative_to(root)), s.path.stat().st_size, s.split, s.is_anomalous) for s in own
            )
            digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
            found[name] = Source(*name, root.resolve(), digest)
    if not found:
        wanted = f"no category {', '.join(categories)}" if categories else "no data set with test images"
        raise DataError(f"there is {wanted} in {', '.join(map(str, roots))}. See: andon data layouts")
    return list(found.values())


def expand(
    grid: Grid, sources: Sequence[Source], options: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[Cell]:
    """The cells of ``grid``: by category, method, variant, seed. What a variant says comes before ``options``.

    Each of ``settings`` goes to the methods that have it. Raises :class:`SettingsError` for a method that there is not, a
    setting that none of them has, or a grid without methods, seeds or variants.
    """
    from andon.models import defaults

    if not (grid.methods and grid.variants and grid.seeds > 0):
        raise SettingsError(
            f"the grid {grid.name} is empty: expected at least one method, one variant and one seed"
        )
    known = {method: defaults(method) for method in grid.methods}
    for name in settings:
        if not any(name in own for own in known.values()):
            raise SettingsError(
                f"none of {', '.join(grid.methods)} has a setting {name!r}. See: andon methods NAME"
            )
    return [
        Cell(
            source, method, seed,
            {**{name: value for name, value in settings.items() if name in known[method]}, **variant.settings},
            {**options, **variant.options},
            variant.name,
        )
        for source in sources
        for method in grid.methods
        for variant in grid.variants
        for seed in range(grid.seeds)
    ]  # fmt: skip


def narrowed(
    grid: Grid, methods: Sequence[str] = (), seeds: int | None = None, variants: Sequence[str] = ()
) -> Grid:
    """``grid`` with other methods ("all": every one), fewer seeds, or other variants: its own by name, or
    "<number> px" for a window, "<number> images" for a limit, "<number> minutes" for a training budget.

    Raises :class:`SettingsError` for any other variant.
    """
    if list(methods) == ["all"]:
        from andon.models import DETECTORS

        methods = list(DETECTORS)
    return replace(
        grid,
        methods=tuple(methods) or grid.methods,
        seeds=grid.seeds if seeds is None else seeds,
        variants=tuple(_variant(grid, name) for name in variants) or grid.variants,
    )


def _variant(grid: Grid, name: str) -> Variant:
    own = {variant.name: variant for variant in grid.variants}
    number, _, unit = name.partition(" ")
    if name not in own and number.isdigit() and unit in FREE:
        option, kind = FREE[unit]
        return _named(name, **{option: kind(number)})
    if name not in own:
        raise SettingsError(
            f"{grid.name} has no variant {name!r}; it has: {', '.join(own)}. Also: '300 px', '5 images', '10 minutes' and other numbers"
        )
    return own[name]
