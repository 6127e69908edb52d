"""The report as one HTML file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from andon.errors import MissingExtraError, SettingsError
from andon.files import atomic_write
from andon.metrics import wilson
from andon.report import content, figures, tables
from andon.report.accuracy import accuracy
from andon.report.content import Outcome, Tally, number, percent
from andon.report.figures import Lane
from andon.report.gallery import Picture, choose, common_folder, galleries, split_path
from andon.report.training import training
from andon.types import Calibration, Evaluation, Verdict

MOST_REGION_IMAGES = 30
MOST_NAMES = 12  # file names listed under one reason
MOST_LANES = 8  # kinds of defect that get a row of their own in the score figure
_ICONS = {"pass": "✓", "review": "?", "fail": "✕", "none": "–"}
_WORDS = {"pass": "Pass", "review": "Review", "fail": "Fail", "none": "Not inspected"}


@dataclass(frozen=True)
class Count:
    """One of the big numbers: a ``kind`` of decision, how many images met it, and which they were."""

    kind: str
    word: str
    icon: str
    amount: int
    detail: str
    mistaken: bool = False  # whether a false alarm or an escape is among them


@dataclass(frozen=True)
class Bar:
    """One stacked bar: ``segments`` are (kind, words, share in per cent)."""

    name: str
    total: int
    segments: list[tuple[str, str, str]]
    alt: str


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    manifest: Mapping[str, object],
    calibration: Calibration,
    verdicts: Sequence[Verdict] = (),
    failures: Sequence[tuple[str, str]] = (),
    evaluation: Evaluation | None = None,
    picture: Picture | None = None,
    most: int = 6,
    footer: str = "",
    words: Mapping[str, str] | None = None,
) -> Path:
    """The path of the report written: one HTML file that loads nothing, atomically.

    ``failures``: (path, reason) of images that could not be inspected. ``evaluation``: adds false alarms,
    escapes, metrics and curves. ``picture``: path -> photo and overlay, (H, W, 3) uint8 RGB; called at most
    once for each of the images shown, up to ``most`` a gallery. No date but those in ``manifest`` and
    ``footer``: same input, same bytes. ``words``: a language's, as ``decision.<name>`` and ``language.code``, for the
    decisions (the verdicts' sentences and notes have theirs already); the rest of the page is English.

    Raises :class:`MissingExtraError` without matplotlib or jinja2, :class:`SettingsError` for ``most`` below 0.
    """
    if most < 0:
        raise SettingsError(f"most must be 0 or more pictures a gallery, got {most}")
    template = open_template("report.html.j2")
    outcomes = content.outcomes(verdicts, failures, evaluation, calibration)
    decisions = {kind: words[f"decision.{kind}"] for kind in _WORDS} if words else _WORDS
    folder = common_folder([outcome.path for outcome in outcomes])
    page = {
        "title": title,
        "footer": footer,
        "icons": _ICONS,
        "words": decisions,
        "language": words["language.code"] if words else "en",
        **_summary(outcomes, calibration, manifest, decisions),
        **_scores(outcomes, calibration),
        "galleries": galleries(choose(outcomes, most), picture, folder),
        "folder": folder,
        "split_path": lambda name: split_path(name.removeprefix(folder)),
        "pictured": picture is not None,
        **accuracy(evaluation),
        **training(manifest),
        **_details(outcomes, verdicts, manifest),
    }
    text = template.render(page)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def open_template(name: str) -> Any:
    """A template of the package, ready to be rendered. Raises :class:`MissingExtraError` without jinja2."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", extra="report", purpose="writing the report") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("andon", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["group"] = lambda value: f"{value:,}"
    return environment.get_template(name)


# --- the first screen ---------------------------------------------------------------------------------------


def _summary(
    outcomes: Sequence[Outcome],
    calibration: Calibration,
    manifest: Mapping[str, object],
    words: Mapping[str, str],
) -> dict[str, Any]:
    good = content.tally("Good parts", (o for o in outcomes if o.is_anomalous is False))
    bad = content.tally("Defective parts", (o for o in outcomes if o.is_anomalous))
    detector = manifest.get("detector")
    method = detector.get("title") or detector.get("method") if isinstance(detector, Mapping) else None
    return {
        "subtitle": " · ".join(
            filter(None, [content.count(len(outcomes), "image"), str(method) if method else ""])
        ),
        "conclusion": content.conclusion(outcomes, calibration),
        "counts": _counts(content.tally("all", outcomes), good, bad, words),
        "bars": [_bar(of, wrong, words) for of, wrong in ((good, "fail"), (bad, "pass")) if of.decided],
        "promise": _promise(calibration, good),
        "threshold_groups": _threshold_groups(calibration),
        "statement": calibration.statement[:1].upper() + calibration.statement[1:].rstrip(".") + ".",
    }


def _counts(everything: Tally, good: Tally, bad: Tally, words: Mapping[str, str]) -> list[Count]:
    amounts = {"pass": "passed", "review": "review", "fail": "failed", "none": "uninspected"}
    wrong = {"pass": (bad, "escape"), "fail": (good, "false alarm")}
    counts = []
    for kind, name in amounts.items():
        amount = getattr(everything, name)
        detail, mistakes = "", 0
        if getattr(good, name) + getattr(bad, name) and kind in ("review", "none"):
            detail = f"{getattr(good, name)} good, {getattr(bad, name)} defective"
        elif good.total + bad.total and kind in wrong:
            whose, word = wrong[kind]
            mistakes = getattr(whose, name)
            detail = f"{content.count(mistakes, word)} among them" if mistakes else f"no {word}"
        counts.append(Count(kind, words[kind], _ICONS[kind], amount, detail, mistakes > 0))
    return counts


def _bar(of: Tally, wrong: str, words: Mapping[str, str]) -> Bar:
    parts = [("pass", of.passed), ("review", of.review), ("fail", of.failed)]
    segments = [
        _segment(kind, amount, amount / of.decided, kind == wrong, words) for kind, amount in parts if amount
    ]
    said = ", ".join(f"{amount} {_inline(words[kind])}" for kind, amount in parts)
    return Bar(of.name, of.decided, segments, f"{of.name}: {said}")


def _inline(word: str) -> str:
    """A decision's word within a line: the page's own in small letters, a language's as it is written there.

    >>> _inline("Pass"), _inline("IO")
    ('pass', 'IO')
    """
    return word.lower() if word.istitle() else word


def _segment(
    kind: str, amount: int, share: float, mistake: bool, words: Mapping[str, str]
) -> tuple[str, str, str]:
    """(CSS name, words as far as there is room for them, width in per cent) of a bar's segment."""
    mistakes = {"pass": "escape", "fail": "false alarm"}
    said = (
        content.count(amount, mistakes[kind])
        if mistake
        else f"{amount:,}{content.NBSP}{_inline(words[kind])}"
    )
    said = said if share >= 0.16 else f"{amount:,}"
    return (
        "wrong" if mistake else kind,
        f"{_ICONS[kind]} {said}" if share >= 0.05 else "",
        f"{100 * share:.4f}",
    )


def _threshold_groups(calibration: Calibration) -> list[tuple[str, str, str]]:
    """(group, its threshold, what is promised of it) where groups have thresholds of their own; the others last."""
    if not calibration.groups:
        return []
    otherwise = "by the threshold of all groups together" if calibration.fall_back else "for review"
    rows = [(name, number(own.threshold), own.statement) for name, own in calibration.groups.items()]
    return [*rows, ("all others", content.DASH, otherwise)]


def _promise(calibration: Calibration, good: Tally) -> list[tuple[str, str]]:
    """What was promised of the threshold, and what was seen, as label and value."""
    if not np.isfinite(calibration.threshold):
        return [("Threshold", "none yet"), ("Good images behind it", f"{len(calibration.nominal_scores):,}")]
    pairs = [
        ("False alarms asked for", f"at most {percent(calibration.target_rate)}"),
        ("False alarms promised", f"at most {percent(content.promised(calibration))}"),
        ("Confidence", percent(calibration.confidence)),
        ("Good images behind it", f"{len(calibration.nominal_scores):,}"),
        ("Threshold (raw score)", number(calibration.threshold)),
        ("Review from (raw score)", number(calibration.review_threshold)),
    ]
    if good.decided:
        low, high = wilson(good.failed, good.decided)
        seen = f"{percent(good.failed / good.decided)} ({percent(low)} to {percent(high)})"
        pairs.insert(2, ("False alarms seen here", seen))
    return pairs


# --- scores -------------------------------------------------------------------------------------------------


def _scores(outcomes: Sequence[Outcome], calibration: Calibration) -> dict[str, Any]:
    lanes, legend = _lanes(outcomes, calibration)
    if not lanes:
        return {"score_figure": "", "legend": [], "score_alt": ""}
    threshold = calibration.threshold if np.isfinite(calibration.threshold) else None
    review = calibration.review_threshold if threshold is not None else None
    if threshold is not None:
        legend.append(("fail", "threshold"))
    if review is not None:
        legend.append(("review", "asks for a person"))
    spans = [f"{lane.name} {number(lane.scores.min())} to {number(lane.scores.max())}" for lane in lanes]
    alt = f"Histogram of image scores. {'; '.join(spans)}; threshold {number(threshold)}."
    return {
        "score_figure": figures.score_figure(lanes, threshold, review),
        "legend": legend,
        "score_alt": alt,
    }


def _lanes(outcomes: Sequence[Outcome], calibration: Calibration) -> tuple[list[Lane], list[tuple[str, str]]]:
    """The rows of the score figure and its legend, (CSS name, words)."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    kinds = {o.defect_type for o in outcomes if o.is_anomalous}
    for outcome in outcomes:
        if outcome.inspected:
            groups[_lane_of(outcome, len(kinds) <= MOST_LANES)].append(outcome.image_score)
    groups["calibration", figures.CALIBRATION] = list(calibration.nominal_scores)
    order = (figures.CALIBRATION, figures.GOOD, figures.INK, figures.BAD)
    keys = sorted((key for key in groups if groups[key]), key=lambda key: (order.index(key[1]), key[0]))
    names = {figures.CALIBRATION: ("neutral", "good, from the calibration"), figures.GOOD: ("good", "good"),
             figures.INK: ("ink", "inspected"), figures.BAD: ("bad", "defective")}  # fmt: skip
    legend = [names[colour] for colour in dict.fromkeys(key[1] for key in keys)]
    lanes = [Lane(name, np.array(groups[name, colour], dtype=np.float64), colour) for name, colour in keys]
    return lanes, legend


def _lane_of(outcome: Outcome, own: bool) -> tuple[str, str]:
    if outcome.is_anomalous is None:
        return "inspected", figures.INK
    if not outcome.is_anomalous:
        return "good", figures.GOOD
    return (outcome.defect_type or "defective") if own else "defective", figures.BAD


# --- details ------------------------------------------------------------------------------------------------


def _details(
    outcomes: Sequence[Outcome], verdicts: Sequence[Verdict], manifest: Mapping[str, object]
) -> dict[str, Any]:
    stopped = [o for kind in ("fail", "review") for o in outcomes if o.decision == kind]
    regions, left_out = tables.region_lines(sorted(stopped, key=lambda o: (o.decision != "fail", -o.image_score)),
                                            MOST_REGION_IMAGES)  # fmt: skip
    failed = [o for o in outcomes if not o.inspected]
    partly = [v.not_inspected for v in verdicts if v.not_inspected > 0]
    reasons = [(reason, names[:MOST_NAMES], len(names) - len(names[:MOST_NAMES]))
               for reason, names in tables.reason_counts(failed)]  # fmt: skip
    share = percent(len(failed) / len(outcomes)) if outcomes else ""
    return {
        "regions": regions,
        "regions_left_out": left_out,
        "failed": len(failed),
        "failed_share": share,
        "reasons": reasons,
        "partly": (len(partly), percent(max(partly))) if partly else None,
        "notes": tables.note_counts(verdicts),
        "speed": tables.speed(verdicts),
        "facts_blocks": tables.manifest_facts(manifest),
    }
