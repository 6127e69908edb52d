"""The report's tables of facts: regions of failed images, notes, and how the detector was made."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from andon.components import third
from andon.report.content import DASH, NBSP, Outcome, number, percent
from andon.types import Region, Verdict

REGIONS_PER_IMAGE = 3
_DRAWN = "curve"  # of a fit: the report draws it
_SKIPPED = ("calibration", "history", "members", "format", "schema")
_TITLES = {
    "detector": "Method", "data": "Good images", "fit": "Fit", "preprocessing": "Preparing an image",
    "versions": "Software", "members": "Contents and their SHA-256", "about": "File",
}  # fmt: skip
_LABELS = {
    "andon_version": "Andon", "created": "made on", "method": "name", "train": "learned from", "seed": "seed",
    "held_out": "kept out to tune", "calibration": "kept out for the threshold", "skipped": "could not be read",
    "onnxruntime": "ONNX Runtime", "numpy": "NumPy", "pillow": "Pillow", "torch": "PyTorch", "python": "Python",
    "minutes": "minutes allowed to train", "early_stop": "patience (evaluations)", "copies": "varied copies of an image",
    "kept": "images in the feature cache", "gigabytes": "feature cache (GB)", "computed": "passes of the frozen network",
    "hits": "passes saved by the cache", "seconds_computing": "seconds for the frozen network",
    "seconds_saved": "seconds saved by the cache", "resumed_at": "images seen before a resume",
    "resumed_steps": "steps taken before a resume", "seconds": "seconds", "size": "size (rows × columns)", "title": "method",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """One block of facts: (label, value) pairs under a ``title``."""

    title: str
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class RegionLine:
    """One region of the image at ``path`` in words.

    ``of``: how many lines its image has, on the first of them, else 0; ``more``: regions that have no line, on the
    last.
    """

    path: str
    of: int
    place: str
    extent: str
    share: str
    peak: str
    at: str
    more: int = 0


def region_lines(of: Iterable[Outcome], most: int) -> tuple[list[RegionLine], int]:
    """Lines for the regions of the first ``most`` images that have any, and how many images were left out."""
    verdicts = [outcome.verdict for outcome in of if outcome.verdict is not None and outcome.verdict.regions]
    lines: list[RegionLine] = []
    for verdict in verdicts[:most]:
        shown = verdict.regions[:REGIONS_PER_IMAGE]
        more = len(verdict.regions) - len(shown)
        for index, region in enumerate(shown):
            last = index == len(shown) - 1
            lines.append(_region_line(verdict, region, len(shown) if index == 0 else 0, more if last else 0))
    return lines, max(0, len(verdicts) - most)


def _region_line(verdict: Verdict, region: Region, of: int, more: int) -> RegionLine:
    top, left, bottom, right = region.box
    return RegionLine(
        path=verdict.path,
        of=of,
        place=place(region, verdict.size),
        extent=f"{bottom - top} × {right - left}",
        share=percent(region.area_fraction),
        peak=number(region.peak),
        at=f"{region.peak_position[0]}, {region.peak_position[1]}",
        more=more,
    )


def place(region: Region, size: tuple[int, int]) -> str:
    """Where the middle of ``region`` lies in an image of ``size`` (H, W), on a grid of 3 x 3.

    >>> place(Region(box=(0, 90, 10, 100), area=100, area_fraction=0.01, peak=1.0, peak_position=(5, 95)), (100, 100))
    'upper right'
    >>> place(Region(box=(0, 40, 10, 60), area=200, area_fraction=0.02, peak=1.0, peak_position=(5, 50)), (100, 100))
    'upper middle'
    """
    row, column = third(region.box, size)
    if row == 1:
        return ("left", "centre", "right")[column]
    return f"{('upper', '', 'lower')[row]} {('left', 'middle', 'right')[column]}"


def note_counts(verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    """The notes of all verdicts with the number of images each was made on, the most frequent first."""
    found = Counter(note for verdict in verdicts for note in dict.fromkeys(verdict.notes))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def reason_counts(failures: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    """The reasons why images could not be inspected, each with its images, the most frequent first."""
    found: dict[str, list[str]] = {}
    for outcome in failures:
        found.setdefault(_without_path(outcome.error, outcome.path), []).append(outcome.path)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def _without_path(reason: str, path: str) -> str:
    """``reason`` without the image's own name, so that the same reason is the same text."""
    for name in (path, re.split(r"[\\/]", path)[-1]):
        for lead in (f"{name}: ", f"cannot read {name}: "):
            reason = reason.removeprefix(lead)
    return reason


def speed(verdicts: Sequence[Verdict]) -> str:
    """How long an image took, in words; empty when no verdict says."""
    times = sorted(v.milliseconds for v in verdicts if v.milliseconds > 0)
    if not times:
        return ""
    middle, late = times[len(times) // 2], times[min(len(times) - 1, math.ceil(0.99 * len(times)) - 1)]
    return f"{middle:.3g}{NBSP}ms from file to verdict (median); 99{NBSP}% within {late:.3g}{NBSP}ms"


# --- how it was made ----------------------------------------------------------------------------------------


def manifest_facts(manifest: Mapping[str, object]) -> list[Facts]:
    """The manifest as blocks of label and value, known blocks first; long lists become their length."""
    loose = {
        key: value
        for key, value in manifest.items()
        if key not in _SKIPPED and not isinstance(value, Mapping)
    }
    blocks = {
        key: value for key, value in manifest.items() if key not in _SKIPPED and isinstance(value, Mapping)
    }
    order = [key for key in _TITLES if key in blocks] + sorted(key for key in blocks if key not in _TITLES)
    facts = [Facts(_TITLES.get(key, _label(key).capitalize()), _pairs(blocks[key])) for key in order]
    history = manifest.get("history")
    if isinstance(history, Sequence) and not isinstance(history, str) and history:
        loose["earlier thresholds"] = len(history)
    facts.append(Facts(_TITLES["about"], _pairs(loose)))
    members = manifest.get("members")
    if isinstance(members, Mapping):
        facts.append(
            Facts(_TITLES["members"], [_member(str(name), entry) for name, entry in sorted(members.items())])
        )
    return [block for block in facts if block.pairs]


def _pairs(block: Mapping[str, object]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in block.items():
        if key == _DRAWN or (key == "method" and "title" in block):
            continue
        if key == "groups" and isinstance(value, Mapping):  # of a calibration; each is one of its own
            pairs.append((_label(key), ", ".join(map(str, value))))
        elif isinstance(value, Mapping):
            pairs += _pairs(value)
        elif (text := _text(str(key), value)) != "":
            pairs.append((_label(str(key)), text))
    return pairs


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " "))


def _text(key: str, value: object) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else DASH
    if isinstance(value, int):
        return f"{value:,}" if key not in ("seed", "schema") else str(value)
    if isinstance(value, list | tuple):
        if key == "size" and len(value) == 2:
            return f"{value[0]} × {value[1]}"
        if key == "skipped":
            return f"{len(value):,}"
        if len(value) > 8 or any(isinstance(item, list | tuple | Mapping) for item in value):
            return f"{len(value):,} values"
        return ", ".join(_text("", item) for item in value) or DASH
    return str(value)


def _member(name: str, entry: object) -> tuple[str, str]:
    digest = entry.get("sha256", "") if isinstance(entry, Mapping) else entry
    return name, str(digest)
