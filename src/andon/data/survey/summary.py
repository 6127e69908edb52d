"""The survey of a whole data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from andon.data.check import Count, counts_of, relative_path, samples_or_heap, tallied
from andon.data.layouts.tree import require_folder
from andon.data.survey.alike import Copy, Item, find_copies
from andon.data.survey.parts import Part, Shift, part_of
from andon.data.survey.reading import Embedder, Gathered, Progress, Seen, gather, sampled, small_pictures
from andon.metrics.holm import holm
from andon.types import Sample


@dataclass(frozen=True, eq=False)
class Survey:
    """What :func:`survey` found. Paths are relative to the root, with forward slashes."""

    root: str
    layout: str  # "unknown" when it could not be read; `layout_error` says why
    layout_error: str
    counts: tuple[Count, ...]  # of all images, looked at or not
    images: int  # in all
    looked_at: int  # fewer where a limit was given
    limit: int | None
    seed: int
    descriptor: str  # in words
    fallback: str  # why the descriptor is not the backbone's; "" when it is
    unreadable: dict[str, str]  # path -> reason
    unreadable_train: int  # of these, good images to train on
    sizes: dict[str, int]  # "H x W", upright -> images
    modes: dict[str, int]
    bit_depths: dict[str, int]
    formats: dict[str, int]
    exif_rotated: int
    notes: dict[str, int]  # what decoding changed -> images
    masks_wrong: dict[str, str]  # path of the image -> what is wrong with its mask
    parts: tuple[Part, ...]  # one a category
    copies: tuple[Copy, ...]  # across splits first, then the most alike first

    def seen(self) -> Iterator[Seen]:
        """Every photograph that could be read."""
        return (seen for part in self.parts for seen in part.seen)

    def to_dict(self) -> dict[str, object]:
        """The survey as dicts, lists, strings and numbers, for strict JSON: what is not finite is None."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts, copies, counts = own.pop("parts"), own.pop("copies"), own.pop("counts")
        return {
            **own,
            "counts": [dataclasses.asdict(count) for count in counts],
            "copies": [dataclasses.asdict(copy) for copy in copies],
            "categories": [part.to_dict() for part in parts],
        }


def survey(
    root: str | os.PathLike[str],
    layout: str = "auto",
    category: str | None = None,
    *,
    embedder: Embedder | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> Survey:
    """What the data set at ``root`` looks like. ``progress(done, total)`` is called in the calling thread.

    ``limit``: look at so many photographs at most, drawn with ``seed`` from each kind in proportion; the counts are
    still of all. ``embedder``: :func:`small_pictures` when None. A folder whose layout cannot be read is taken as a
    heap of images, and ``layout_error`` says why.

    Raises :class:`DataError` when there is no such folder or no image in it, :class:`SettingsError` for a ``limit``
    below 1.
    """
    folder = require_folder(root)
    name, samples, why = samples_or_heap(folder, layout, category)
    chosen = sampled(samples, limit, seed)
    embedder = embedder or small_pictures()
    found = gather(folder, chosen, embedder, workers=workers, progress=progress)
    seen = found.seen
    return Survey(
        root=str(folder),
        layout=name,
        layout_error=why,
        counts=counts_of(samples),
        images=len(samples),
        looked_at=len(chosen),
        limit=limit,
        seed=seed,
        descriptor=embedder.title,
        fallback=embedder.fallback,
        unreadable=found.unreadable,
        unreadable_train=_unreadable_train(folder, chosen, found),
        sizes=tallied(f"{s.size[0]} x {s.size[1]}" for s in seen),
        modes=tallied(s.mode for s in seen),
        bit_depths=tallied(str(s.bits) for s in seen),
        formats=tallied(s.format or "unknown" for s in seen),
        exif_rotated=sum(s.rotated for s in seen),
        notes=tallied(note for s in seen for note in s.notes),
        masks_wrong={s.path: s.mask_error for s in seen if s.mask_error},
        parts=_parts(found, seed),
        copies=find_copies(
            [_item(s) for s in seen], found.thumbs, None if embedder.fallback else found.descriptors
        ),
    )


def _item(seen: Seen) -> Item:
    return Item(seen.path, seen.category, seen.split, seen.file_digest, seen.pixel_digest)


def _unreadable_train(folder: Path, samples: Sequence[Sample], found: Gathered) -> int:
    return sum(s.split == "train" and not s.is_anomalous and relative_path(s.path, folder) in found.unreadable
               for s in samples)  # fmt: skip


def _parts(found: Gathered, seed: int) -> tuple[Part, ...]:
    """The categories, their p-values corrected for all tests of the same kind together."""
    members: dict[str, list[int]] = {}
    for index, seen in enumerate(found.seen):
        members.setdefault(seen.category, []).append(index)
    parts = [
        part_of(name, [found.seen[i] for i in at], found.descriptors[np.array(at)], seed)
        for name, at in members.items()
    ]
    trends = _corrected([part.trends for part in parts])
    shifts = _corrected([part.shifts for part in parts])
    return tuple(
        dataclasses.replace(part, trends=trend, shifts=shift)
        for part, trend, shift in zip(parts, trends, shifts, strict=True)
    )


def _corrected(groups: Sequence[Sequence[Shift]]) -> list[tuple[Shift, ...]]:
    adjusted = iter(holm([shift.p_value for group in groups for shift in group]))
    return [tuple(dataclasses.replace(shift, p_holm=next(adjusted)) for shift in group) for group in groups]
