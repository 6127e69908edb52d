"""The audit of the good images: who looks wrong among them, as one HTML page, and as a list to act on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from andon.audit import Audit, rank
from andon.audit.folds import FOLDS, deal
from andon.audit.signals import signals
from andon.data import read_samples
from andon.data.layouts.tree import require_folder
from andon.data.survey import Copy, Embedder
from andon.data.survey.alike import Item, find_copies, leaders
from andon.data.survey.reading import Gathered, gather
from andon.errors import DataError
from andon.files import atomic_write
from andon.image import Preprocessing, decode
from andon.pipeline.options import FitOptions
from andon.pipeline.parts import choose_preprocessing
from andon.report.audit import check_audit_extra, write_audit_report
from andon.report.audit_rows import write_audit_csv
from andon.types import Sample

if TYPE_CHECKING:
    from andon.audit.crossfit import PatchStore

Progress = Callable[[str, int, int], None]  # phase, done, total
BLOCKS = 16  # rows and columns of blocks that light and colour are read from
LEAST = 8  # images, below which nothing is known of what is usual


def audit(
    root: str | os.PathLike[str],
    output: Path | None = None,
    *,
    csv_path: Path | None = None,
    json_path: Path | None = None,
    layout: str = "auto",
    category: str | None = None,
    size: tuple[int, int] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    workers: int = 2,
    title: str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """The good training images of ``root`` ranked by how odd they are; the page goes to ``output``, the list to
    ``csv_path``, all numbers to ``json_path``, where given.

    ``size`` (H, W): what the backbone sees; None as in a fit. Nothing is fitted: each image is scored by the others.

    Raises :class:`MissingExtraError` without PyTorch, or without jinja2 where a page is asked for; :class:`DataError`
    for fewer than eight images that can be read, or several categories of which none is chosen.
    """
    if output is not None:
        check_audit_extra()
    folder = require_folder(root)
    samples = _good(folder, layout, category)
    preprocessing = choose_preprocessing([sample.path for sample in samples], FitOptions(size=size))
    found = _judged(folder, samples, preprocessing, folds, seed, workers, progress)
    if output is not None:
        write_audit_report(output, found, title=title, picture=lambda path: decode(folder / path).pixels)
    if csv_path is not None:
        write_audit_csv(csv_path, found)
    if json_path is not None:
        with atomic_write(json_path, "w") as file:
            json.dump(found.to_dict(), file, indent=1, allow_nan=False)
    return found


def _good(folder: Path, layout: str, category: str | None) -> list[Sample]:
    samples = read_samples(folder, layout, category=category)
    good = [sample for sample in samples if sample.split == "train" and not sample.is_anomalous]
    categories = sorted({sample.category for sample in good})
    if len(categories) > 1:
        raise DataError(
            f"{folder} holds {len(categories)} categories ({', '.join(categories[:8])}); images of one are compared. "
            f"Choose it with --category {categories[0]} (category={categories[0]!r} in Python)."
        )
    return good


def _judged(folder: Path, samples: list[Sample], preprocessing: Preprocessing, folds: int, seed: int, workers: int,
            progress: Progress | None) -> Audit:  # fmt: skip
    from andon.audit.crossfit import free_distances, placed_distances

    say = progress or (lambda phase, done, total: None)
    with _store(len(samples)) as store:
        blocks: list[NDArray[np.float32]] = []
        embedder = _embedder(preprocessing, store, blocks)
        found = gather(
            folder, samples, embedder, workers=workers, progress=lambda *done: say("survey", *done)
        )
        if len(found.seen) < LEAST:
            raise DataError(
                f"{folder} has {len(found.seen)} good images that can be read, at least {LEAST} are needed to know what is "
                "usual among them."
            )
        copies = _copies(found)
        leader = leaders(copies)
        fold = deal([leader.get(seen.path, seen.path) for seen in found.seen], folds, seed)
        free = free_distances(store, fold, seed, lambda *done: say("audit", *done))
        placed = placed_distances(store, fold, seed)
    paths = [seen.path for seen in found.seen]
    sharpness = np.array([seen.sharpness for seen in found.seen])
    return Audit(
        root=str(folder),
        images=len(samples),
        judged=rank(paths, signals(sharpness, np.concatenate(blocks), free, placed), copies),
        unreadable=found.unreadable,
        folds=int(fold.max()) + 1,
        size=preprocessing.size,
        seed=seed,
        maps=dict(zip(paths, free, strict=True)),
    )


def _copies(found: Gathered) -> tuple[Copy, ...]:
    items = [Item(s.path, s.category, s.split, s.file_digest, s.pixel_digest) for s in found.seen]
    return find_copies(items, found.thumbs, found.descriptors)


@contextlib.contextmanager
def _store(images: int) -> Iterator[PatchStore]:
    from andon.audit.crossfit import PatchStore

    store = PatchStore(images)
    try:
        yield store
    finally:
        store.close()


def _embedder(preprocessing: Preprocessing, store: PatchStore, blocks: list[NDArray[np.float32]]) -> Embedder:
    """Describes photographs by andon-s; on the way ``store`` keeps the patches and ``blocks`` the pictures, reduced."""
    import torch
    import torch.nn.functional as F

    from andon.features.backbones import load_backbone
    from andon.features.patches import aggregate, join, pooled

    net = load_backbone("andon-s")
    layers = net.default_layers

    def prepare(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return preprocessing.apply(pixels).images[0]

    def embed(batch: NDArray) -> NDArray[np.float32]:
        with torch.inference_mode():
            images = torch.from_numpy(batch)
            features = net(images)
            blocks.append(255 * F.adaptive_avg_pool2d(images, BLOCKS).numpy())
            store.append(join({layer: aggregate(features[layer]) for layer in layers}, layers))
            return cast(NDArray[np.float32], pooled(features).numpy())

    return Embedder(prepare, embed, "the features of andon-s")
