"""What is in a data set, and what is wrong with it, before a detector is fitted on it.

Every image is read whole. One broken file does not stop the check; it is listed with the reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from andon.data.layouts import LAYOUTS, detect_layout, read_samples
from andon.data.layouts.tree import images_under, no_images, require_folder
from andon.data.masks import BROKEN_IMAGE, read_channels
from andon.errors import AndonError, DataError, ImageError
from andon.image import decode
from andon.types import Sample

Progress = Callable[[int, int], None]  # images done, images in all
_ORIENTATION = 0x0112  # EXIF tag
_SHOWN = 5


@dataclass(frozen=True)
class Count:
    """How many images a data set has of one kind."""

    category: str
    split: str
    defect_type: str
    is_anomalous: bool
    images: int
    with_mask: int


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check` found. Paths are relative to the root, with forward slashes."""

    root: str
    layout: str  # "unknown" when the layout could not be read; `problems` says why
    images: int
    counts: tuple[Count, ...]
    sizes: dict[str, int]  # "H x W", upright -> images
    modes: dict[str, int]  # Pillow's mode -> images
    bit_depths: dict[str, int]
    formats: dict[str, int]
    exif_rotated: int
    notes: dict[str, int]  # what decoding changed -> images
    unreadable: dict[str, str]  # path -> reason
    duplicates: tuple[tuple[str, ...], ...]  # byte-identical images in different splits
    repeated: int  # further copies of an image within one split
    masks_missing: tuple[str, ...]  # anomalous images without a mask
    masks_wrong: dict[str, str]  # path of the image -> what is wrong with its mask
    problems: tuple[str, ...] = field(default=())  # in words, the worst first

    @property
    def has_problems(self) -> bool:
        """True when something should be looked at before a detector is fitted."""
        return bool(self.problems)

    def to_dict(self) -> dict[str, object]:
        """The report as dicts, lists, strings and numbers, for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Finding:
    sample: Sample
    digest: str = ""
    size: tuple[int, int] | None = None
    mode: str = ""
    bits: int = 0
    format: str = ""
    rotated: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""
    mask_error: str = ""


def check(
    root: str | os.PathLike[str],
    layout: str = "auto",
    category: str | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> CheckReport:
    """What a data set holds and what is wrong with it; every image and every mask is decoded.

    ``progress(done, total)`` is called after each image, in the calling thread. A folder whose layout cannot be
    read is checked as a heap of images, and ``problems`` says why.

    Raises :class:`DataError` only when there is no such folder or no image in it.
    """
    folder = require_folder(root)
    name, samples, why = samples_or_heap(folder, layout, category)
    findings = []
    pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="andon-check")
    try:
        for finding in pool.map(_look, samples):
            findings.append(finding)
            if progress is not None:
                progress(len(findings), len(samples))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return _report(folder, name, findings, why)


def samples_or_heap(folder: Path, layout: str, category: str | None) -> tuple[str, list[Sample], str]:
    """The layout's name, its samples and "", or "unknown", all images and why the layout could not be read."""
    images: list[Path] | None = None
    try:
        name = detect_layout(folder) if layout == "auto" else layout
        return name, read_samples(folder, name, category), ""
    except (DataError, ImageError) as error:
        images = images_under(folder)
        if not images:
            raise no_images(folder) from error
        return "unknown", [Sample(path, "train", defect_type="unknown") for path in images], str(error)


def _look(sample: Sample) -> _Finding:
    """Read one image and its masks."""
    try:
        data = sample.path.read_bytes()
    except OSError as error:
        return _Finding(sample, error=error.strerror or str(error))
    digest = hashlib.blake2b(data, digest_size=20).hexdigest()
    try:
        photo = decode(data)
    except ImageError as error:
        return _Finding(sample, digest, error=reason_of(error))
    kind, rotated = _header(data)
    height, width = photo.pixels.shape[:2]
    return _Finding(
        sample,
        digest,
        (height, width),
        photo.mode,
        photo.bits,
        kind,
        rotated,
        photo.notes,
        mask_error=_mask_error(sample, (height, width)),
    )


def reason_of(error: ImageError) -> str:
    """The reason alone, without the part of the message that names the bytes."""
    text = str(error)
    return text.split(": ", 1)[1] if text.startswith("cannot read") and ": " in text else text


def _header(data: bytes) -> tuple[str, bool]:
    """The file's format in Pillow's words, and whether its EXIF orientation turns it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format or "", image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except BROKEN_IMAGE:
        return "", False  # decode() has read it; only its EXIF block is damaged


def _mask_error(sample: Sample, size: tuple[int, int]) -> str:
    try:
        read_channels(sample, size)
    except AndonError as error:
        return str(error)
    return ""


def _report(root: Path, layout: str, findings: list[_Finding], why: str) -> CheckReport:
    read = [finding for finding in findings if not finding.error]
    duplicates, repeated = _duplicates(findings, root)
    report = CheckReport(
        root=str(root),
        layout=layout,
        images=len(findings),
        counts=counts_of(finding.sample for finding in findings),
        sizes=tallied(f"{f.size[0]} x {f.size[1]}" for f in read if f.size),
        modes=tallied(finding.mode for finding in read),
        bit_depths=tallied(str(finding.bits) for finding in read),
        formats=tallied(finding.format or "unknown" for finding in read),
        exif_rotated=sum(finding.rotated for finding in read),
        notes=tallied(note for finding in read for note in finding.notes),
        unreadable={relative_path(f.sample.path, root): f.error for f in findings if f.error},
        duplicates=duplicates,
        repeated=repeated,
        masks_missing=_masks_missing(findings, root, layout),
        masks_wrong={relative_path(f.sample.path, root): f.mask_error for f in read if f.mask_error},
    )
    return dataclasses.replace(report, problems=tuple(_problems(report, why)))


def tallied(values: Iterable[str]) -> dict[str, int]:
    """Each value with how often it came, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def relative_path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def counts_of(samples: Iterable[Sample]) -> tuple[Count, ...]:
    images: Counter[tuple[str, str, str, bool]] = Counter()
    masked: Counter[tuple[str, str, str, bool]] = Counter()
    for sample in samples:
        key = (sample.category, sample.split, sample.defect_type, sample.is_anomalous)
        images[key] += 1
        masked[key] += bool(sample.masks)
    order = ("train", "calibration", "test")
    keys = sorted(images, key=lambda key: (key[0], order.index(key[1]), key[3], key[2]))
    return tuple(Count(*key, images[key], masked[key]) for key in keys)


def _duplicates(findings: list[_Finding], root: Path) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Groups of identical images that lie in more than one split, and how many copies lie within one."""
    alike: dict[str, list[Sample]] = defaultdict(list)
    for finding in findings:
        if finding.digest:
            alike[finding.digest].append(finding.sample)
    across = []
    repeated = 0
    for samples in alike.values():
        splits = Counter(sample.split for sample in samples)
        repeated += sum(count - 1 for count in splits.values())
        if len(splits) > 1:
            across.append(tuple(sorted(relative_path(sample.path, root) for sample in samples)))
    return tuple(sorted(across)), repeated


def _masks_missing(findings: list[_Finding], root: Path, layout: str) -> tuple[str, ...]:
    if layout == "good_bad":  # has no masks by its nature
        return ()
    samples = [finding.sample for finding in findings]
    return tuple(relative_path(s.path, root) for s in samples if s.is_anomalous and not s.masks)


def _problems(report: CheckReport, why: str) -> list[str]:
    """What is wrong, in words, the worst first."""
    found = [f"the layout could not be read: {why}"] if why else []
    if not why and not any(c.split == "train" and not c.is_anomalous for c in report.counts):
        found.append("no good training images: this set can test a detector, not fit one")
    lists: list[tuple[Iterable[str], str]] = [
        ((f"{path} ({reason})" for path, reason in report.unreadable.items()), "{} cannot be read"),
        ((" = ".join(group) for group in report.duplicates), "{} images lie in more than one split"),
        ((f"{path} ({reason})" for path, reason in report.masks_wrong.items()), "{} masks are wrong"),
        (report.masks_missing, "{} anomalous images have no mask"),
    ]
    for items, text in lists:
        lines = list(items)
        if lines:
            more = f", and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
            found.append(f"{text.format(len(lines))}: {'; '.join(lines[:_SHOWN])}{more}")
    if report.repeated:
        found.append(f"{report.repeated} images are copies of another of the same split")
    return found


def format_check(report: CheckReport) -> str:
    """The report as a few dozen lines of text, for a terminal."""
    layout = LAYOUTS.get(report.layout)
    lines = [f"{report.root}: {report.images} images, layout {report.layout}"]
    if layout is not None and layout.licence != layout.publisher:
        lines.append(f"  the layout of data by {layout.publisher}, whose licence is {layout.licence}")
    lines += ["", *_table(report.counts), ""]
    for title, tally in (
        ("size (H x W)", report.sizes),
        ("mode", report.modes),
        ("bits", report.bit_depths),
        ("format", report.formats),
        ("changed when read", report.notes),
    ):
        if tally:
            lines.append(f"  {title}: {_tally_line(tally)}")
    if report.exif_rotated:
        lines.append(f"  turned by EXIF: {report.exif_rotated}")
    lines.append("")
    lines += [f"  ! {problem}" for problem in report.problems] or ["  nothing wrong was found"]
    return "\n".join(lines)


def _tally_line(tally: dict[str, int]) -> str:
    shown = ", ".join(f"{value} ({count})" for value, count in list(tally.items())[:_SHOWN])
    return shown if len(tally) <= _SHOWN else f"{shown}, and {len(tally) - _SHOWN} others"


def _table(counts: tuple[Count, ...]) -> list[str]:
    rows = [("category", "split", "defect type", "images", "with mask")]
    for count in counts:
        masked = str(count.with_mask) if count.is_anomalous else ""
        rows.append((count.category or "-", count.split, count.defect_type, str(count.images), masked))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
