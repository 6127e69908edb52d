"""The report on a data set as one HTML file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.data import LAYOUTS
from andon.data.survey import Part, Shift, Survey, surplus
from andon.data.survey.parts import MEASURES, measured
from andon.errors import MissingExtraError
from andon.files import atomic_write
from andon.report import survey_figures as figures
from andon.report.content import DASH, count, number, percent
from andon.report.gallery import split_path
from andon.report.page import open_template
from andon.report.survey_finding import NAMES, Finding, conclusion
from andon.report.survey_gallery import Picture, galleries
from andon.report.survey_words import ALPHA, INPUT, SMALL_DEFECT, findings, leaks

MOST_PARTS = 12  # categories that get figures of their own
MOST_NAMES = 12  # files named under one reason
MOST_KINDS = 24  # kinds of defect in the figure of areas
MOST_TALLIES = 6  # sizes, modes, ... listed
SCATTER_FROM = 8  # distinct sizes from which they are drawn


@dataclass(frozen=True)
class CountRow:
    """One line of the table of contents, with the width of its bar in per cent."""

    category: str
    split: str
    defect_type: str
    kind: str
    images: int
    width: str
    masked: str
    share: str


def check_report_extra() -> None:
    """Raise :class:`MissingExtraError` where matplotlib or jinja2 are missing: before the work, not after it."""
    open_template("survey.html.j2")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib", extra="report", purpose="drawing the report's figures"
        ) from error


def write_survey_report(
    path: str | os.PathLike[str],
    survey: Survey,
    *,
    picture: Picture | None = None,
    title: str | None = None,
    footer: str = "",
) -> Path:
    """The path of the report written: one HTML file that loads nothing, atomically. Same input, same bytes.

    ``picture``: path below the root -> photograph; called once for each that is shown.

    Raises :class:`MissingExtraError` without matplotlib or jinja2.
    """
    found = {finding.about: finding for finding in findings(survey)}
    page = {
        "title": title or f"Data report: {Path(survey.root).resolve().name or survey.root}",
        "subtitle": _subtitle(survey),
        "footer": footer,
        "names": NAMES,
        "found": found,
        "coded": _coded,
        "icons": {"pass": "✓", "review": "?", "fail": "✕", "none": "–"},
        "conclusion": conclusion(list(found.values())),
        "urgent": _urgent(list(found.values())),
        "counts": _counts(survey),
        "limited": _limited(survey),
        **_contents(survey),
        **_files(survey),
        **_figures(survey),
        **_copies(survey),
        **_drift(survey),
        "galleries": galleries(survey, picture),
        "facts_made": _made(survey),
    }
    text = open_template("survey.html.j2").render(page)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def _coded(text: str) -> list[tuple[str, bool]]:
    """``text`` in pieces, and whether each stood between backticks."""
    return [(piece, index % 2 == 1) for index, piece in enumerate(text.split("`")) if piece]


def _subtitle(survey: Survey) -> str:
    layout = LAYOUTS.get(survey.layout)
    parts = [
        count(survey.images, "image"),
        f"layout {survey.layout}" if layout else "no known layout",
        survey.root,
    ]
    if len(survey.parts) > 1:
        parts.insert(1, count(len(survey.parts), "category", "categories"))
    return " · ".join(parts)


def _urgent(found: Sequence[Finding]) -> list[Finding]:
    """What is to be put right or looked at, the most urgent first."""
    return [finding for level in ("fail", "review") for finding in found if finding.level == level]


def _limited(survey: Survey) -> str:
    if survey.looked_at == survey.images:
        return ""
    return (
        f"Looked at {survey.looked_at:,} of {count(survey.images, 'image')}, drawn by chance (seed {survey.seed}) from each "
        "kind in proportion. Copies among the others stay unseen."
    )


# --- what is in it --------------------------------------------------------------------------------------------


def _counts(survey: Survey) -> list[tuple[str, str, int, str]]:
    """The big numbers: (CSS name, word, amount, detail)."""
    totals: Counter[str] = Counter()
    for c in survey.counts:
        totals["bad" if c.is_anomalous else c.split] += c.images
    kinds = {c.defect_type for c in survey.counts if c.is_anomalous}
    rows = [
        ("neutral", "To train on", totals["train"], "good images"),
        ("amber", "For the threshold", totals["calibration"], "good images"),
        ("good", "To test on", totals["test"], "good images"),
        ("bad", "Defective", totals["bad"], count(len(kinds), "kind") if kinds else ""),
    ]
    return [row for row in rows if row[2] or row[0] != "amber"]


def _contents(survey: Survey) -> dict[str, Any]:
    shares: dict[tuple[str, str, str], list[float]] = {}
    for s in survey.seen():
        if s.defect_share:
            shares.setdefault((s.category, s.split, s.defect_type), []).append(s.defect_share)
    most = max((c.images for c in survey.counts), default=1)
    rows = []
    for c in survey.counts:
        own = shares.get((c.category, c.split, c.defect_type), [])
        rows.append(CountRow(c.category, c.split, c.defect_type, figures.KINDS[c.split, c.is_anomalous][0], c.images,
                             f"{100 * c.images / most:.2f}", f"{c.with_mask:,}" if c.is_anomalous else "",
                             percent(float(np.median(own))) if own else ""))  # fmt: skip
    lanes = [(_lane(survey, *key), np.array(values)) for key, values in sorted(shares.items())]
    drawn = lanes[:MOST_KINDS]
    figure = figures.areas_figure(drawn, SMALL_DEFECT / INPUT, "areas") if drawn else ""
    spans = "; ".join(f"{name} {percent(v.min())} to {percent(v.max())}" for name, v in drawn)
    return {"count_rows": rows, "several": len(survey.parts) > 1, "areas_figure": figure,
            "areas_alt": f"Share of the image that defects cover: {spans}.", "areas_left_out": len(lanes) - len(drawn)}  # fmt: skip


def _lane(survey: Survey, category: str, split: str, defect_type: str) -> str:
    name = f"{category}: {defect_type}" if len(survey.parts) > 1 else defect_type
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


# --- files ------------------------------------------------------------------------------------------------------


def _files(survey: Survey) -> dict[str, Any]:
    facts = [("Size (rows × columns)", _tally({k.replace("x", "×"): v for k, v in survey.sizes.items()})),
             ("Mode", _tally(survey.modes)), ("Bits a sample", _tally(survey.bit_depths)), ("Format", _tally(survey.formats)),
             ("Changed when read", _tally(survey.notes)), ("Turned by EXIF", f"{survey.exif_rotated:,}"),
             ("With an EXIF time", f"{sum(part.with_time for part in survey.parts):,}")]  # fmt: skip
    scatter = len(survey.sizes) >= SCATTER_FROM
    sizes = np.array([s.size for s in survey.seen()], np.int64).reshape(-1, 2)
    return {
        "facts_files": [(label, value) for label, value in facts if value not in ("", "0")],
        "sizes_figure": figures.sizes_figure(sizes, "sizes") if scatter else "",
        "sizes_alt": f"{len(survey.sizes):,} sizes, rows {_span(sizes[:, 0])}, columns {_span(sizes[:, 1])}."
        if scatter
        else "",
        "unreadable": _reasons(survey.unreadable),
        "masks_wrong": _reasons(survey.masks_wrong),
    }


def _span(values: NDArray[np.int64]) -> str:
    return f"{values.min():,} to {values.max():,}"


def _tally(tally: dict[str, int]) -> str:
    if len(tally) == 1:
        return next(iter(tally))
    shown = ", ".join(f"{value} ({amount:,})" for value, amount in list(tally.items())[:MOST_TALLIES])
    return shown if len(tally) <= MOST_TALLIES else f"{shown}, and {len(tally) - MOST_TALLIES:,} others"


def _reasons(failed: dict[str, str]) -> list[tuple[str, list[tuple[str, str]], int]]:
    """Each reason with its files, as far as they are named, and how many more there are."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in failed.items():
        by_reason.setdefault(reason, []).append(path)
    ranked = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(reason, [split_path(path) for path in paths[:MOST_NAMES]], max(0, len(paths) - MOST_NAMES))
            for reason, paths in ranked[:MOST_NAMES]]  # fmt: skip


# --- figures of the categories ------------------------------------------------------------------------------------


def _figures(survey: Survey) -> dict[str, Any]:
    drawn = [part for part in survey.parts if part.seen][:MOST_PARTS]
    kinds = dict.fromkeys(group.kind for part in drawn for group in figures.groups_of(part.seen))
    return {
        "legend": list(dict.fromkeys(figures.KINDS[kind][:2] for kind in kinds)),
        "orders": [_order(part, f"order{i}") for i, part in enumerate(drawn)],
        "maps": [drawing for i, part in enumerate(drawn) for drawing in _maps(part, f"map{i}")],
        "parts_left_out": len(survey.parts) - len(drawn),
        "descriptor": survey.descriptor,
        "fallback": survey.fallback,
    }


def _order(part: Part, identifier: str) -> tuple[str, str, str]:
    """(category, SVG, words for who does not see it)."""
    spans = [
        f"{group.words}: brightness {number(float(np.median(values)))} in the middle"
        for group in figures.groups_of(part.seen)
        if (values := measured(part.seen[group.members], "brightness")).size
    ]
    return part.category, figures.order_figure(part, identifier), "; ".join(spans)


def _maps(part: Part, identifier: str) -> list[tuple[str, str, str]]:
    if len(part.seen) < 3:
        return []
    drawn = [
        (
            part.category,
            figures.map_figure(part, identifier),
            "Map of the images: those that look alike lie together.",
        )
    ]
    if np.isfinite(part.distance).any():
        alt = "How far the images of each group lie from the nearest training images."
        drawn.append((part.category, figures.distance_figure(part, f"{identifier}d"), alt))
    return drawn


# --- copies and drift ---------------------------------------------------------------------------------------------


def _copies(survey: Survey) -> dict[str, Any]:
    """A line for each pair of splits: what is a copy of what, and how many are the same and how many near."""
    lines = []
    totals = Counter(s.split for s in survey.seen())
    for split, of_split in (("test", "train"), ("test", "calibration"), ("calibration", "train"), ("train", "train"),
                            ("calibration", "calibration"), ("test", "test")):  # fmt: skip
        copies = leaks(survey.copies, split, of_split)
        if not totals[split] or not totals[of_split]:
            continue
        images = surplus(copies) if split == of_split else len(copies)
        kinds = Counter(copy.kind for copy in copies)
        lines.append((split, of_split, totals[split], images, kinds["file"], kinds["pixels"], kinds["near"]))
    return {"copy_lines": lines}


def _drift(survey: Survey) -> dict[str, Any]:
    shifts = [shift for part in survey.parts for shift in part.shifts]
    return {
        "halves": all(part.compared != "splits" for part in survey.parts),
        "shift_lines": [_shift_line(shift) for shift in shifts],
        "trend_lines": [_shift_line(shift) for part in survey.parts for shift in part.trends],
        "drifts": [
            d for i, part in enumerate(survey.parts[:MOST_PARTS]) if (d := _drift_figure(part, f"drift{i}"))
        ],
    }


def _shift_line(shift: Shift) -> dict[str, Any]:
    return {
        "category": shift.category,
        "measure": MEASURES[shift.measure],
        "first": number(shift.first),
        "second": number(shift.second),
        "images": shift.images,
        "statistic": f"{shift.statistic:.2f}",
        "p": _p(shift.p_value),
        "p_holm": _p(shift.p_holm),
        "moved": shift.p_holm < ALPHA,
    }


def _p(value: float) -> str:
    return DASH if not np.isfinite(value) else f"{value:.4f}" if value < 0.01 else f"{value:.2f}"


def _drift_figure(part: Part, identifier: str) -> tuple[str, str, str] | None:
    if not part.shifts:
        return None
    pairs = [
        (MEASURES[shift.measure].removesuffix(" to training images"), *shift.values) for shift in part.shifts
    ]
    names = ", ".join(name for name, _, _ in pairs)
    return part.category, figures.drift_figure(pairs, identifier), f"Histograms of two groups: {names}."


# --- how it was made ----------------------------------------------------------------------------------------------


def _made(survey: Survey) -> list[tuple[str, str]]:
    ordered = Counter("EXIF time" if part.timed else "file name" for part in survey.parts)
    return [
        ("Folder", survey.root),
        ("Layout", survey.layout),
        (
            "Images looked at",
            f"{survey.looked_at:,} of {survey.images:,}" if survey.limit else f"all {survey.images:,}",
        ),
        (
            "Order",
            ", ".join(f"{how} ({amount})" if len(ordered) > 1 else how for how, amount in ordered.items()),
        ),
        ("Brightness", "mean luma (ITU-R BT.601), 0 to 255"),
        ("Sharpness", "variance of the Laplacian of the luma, at the photograph's own size"),
        ("Features", survey.descriptor),
        ("Seed", str(survey.seed)),
    ]
