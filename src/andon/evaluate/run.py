"""The loop: every sample is scored once, and its map is tallied and dropped."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from andon.errors import AndonError, MetricError, SettingsError
from andon.evaluate.figures import Options, group_figures
from andon.image import photo_size, resize_map
from andon.metrics.tally import MapTally
from andon.types import Curve, Decision, DefectChannel, Evaluation, Metric, Sample, ScoreRow

Score = Callable[[Sample], tuple[float, NDArray[Any] | None]]
Channels = Callable[[Sample, tuple[int, int]], Sequence[DefectChannel]]
Decide = Callable[[Sample, float], Decision | None]
Kind = tuple[str, str, bool]  # category, defect type, whether anomalous
MOST_PIXELS = 4_000_000  # of a map in pixel metrics, whose memory grows with the distinct values of all maps


@dataclass
class Cell:
    """The images of one category and defect type."""

    rows: list[ScoreRow] = field(default_factory=list)
    tally: MapTally = field(default_factory=MapTally)
    without_masks: int = 0  # anomalous images that enter image metrics only
    without_map: int = 0
    reduced: int = 0  # images whose pixel figures are at a smaller size than the photograph's
    unusable: list[str] = field(default_factory=list)  # why masks could not be used, an image each


def evaluate(
    samples: Sequence[Sample],
    score: Score,
    *,
    threshold: float | None = None,
    review_threshold: float | None = None,
    decide: Decide | None = None,
    channels: Channels | None = None,
    spro_limits: Sequence[float] = (0.05, 0.01, 0.1, 0.3, 1.0),
    pro_limit: float = 0.3,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Every figure of ``samples``, over all, per category where there are several, and per defect type.

    ``score`` gives the raw image score and the raw anomaly map (h, w), or None for no map. ``channels`` gives the
    defects of an anomalous sample as masks of the size asked for; None leaves pixel metrics out. Maps are resized
    (bilinear) to the photograph's own size before pixel metrics (of more than four megapixels, to four, and a note says
    so), or to ``size`` (H, W) where given. ``bootstrap``: resamples for the intervals, 0 for none. ``decide`` says what was decided on a sample of a score, where that is more
    than a comparison with ``threshold`` and ``review_threshold``. ``progress`` is called with images done and in all.

    An image that cannot be read becomes a row with its ``error`` and enters no metric; a metric that is not
    defined is None and its note says why. Raises :class:`MetricError` when there is no sample or none could be
    scored, :class:`SettingsError` for options that make no sense.
    """
    options = Options(threshold, review_threshold, tuple(spro_limits), pro_limit, bootstrap, confidence, seed)
    _check_size(size)
    if not samples:
        raise MetricError("there are no samples to evaluate: is this the data set's test split?")
    cells: dict[Kind, Cell] = defaultdict(Cell)
    rows: list[ScoreRow] = []
    for done, sample in enumerate(samples, start=1):
        cell = cells[sample.category, sample.defect_type, sample.is_anomalous]
        row, anomaly_map = _scored(sample, score, decide or (lambda _, value: options.decide(value)))
        rows.append(row)
        cell.rows.append(row)
        if channels is not None and not row.error:
            _tally(cell, sample, anomaly_map, channels, size)
        if progress is not None:
            progress(done, len(samples))
    if all(row.error for row in rows):
        raise MetricError(
            f"none of {len(rows)} images could be scored; the first: {rows[0].path}: {rows[0].error}"
        )
    return _summary(rows, cells, options, with_pixels=channels is not None)


def _scored(sample: Sample, score: Score, decide: Decide) -> tuple[ScoreRow, NDArray[Any] | None]:
    try:
        value, anomaly_map = score(sample)
        if not math.isfinite(value):
            raise MetricError(f"its image score is {value}")
    except (AndonError, OSError) as error:
        return _row(sample, math.nan, None, str(error) or type(error).__name__), None
    return _row(sample, float(value), decide(sample, float(value)), ""), anomaly_map


def _row(sample: Sample, value: float, decision: Decision | None, error: str) -> ScoreRow:
    return ScoreRow(
        str(sample.path), sample.category, sample.defect_type, sample.is_anomalous, value, decision, error
    )


def _tally(
    cell: Cell,
    sample: Sample,
    anomaly_map: NDArray[Any] | None,
    channels: Channels,
    size: tuple[int, int] | None,
) -> None:
    """Take the map of one image into its cell, at the size of its masks."""
    if anomaly_map is None:
        cell.without_map += 1
        return
    try:
        own = size or photo_size(sample.path)
        full = size or _bounded(own)
        found = [c for c in channels(sample, full) if c.anomaly_mask.any()] if sample.is_anomalous else []
        if sample.is_anomalous and not found:
            cell.without_masks += 1
            return
        same = anomaly_map.shape == tuple(full)
        cell.tally.add(anomaly_map if same else resize_map(anomaly_map, full), found)
        cell.reduced += full != own
    except (AndonError, OSError) as error:
        cell.unusable.append(f"{sample.path}: {error}")


def _bounded(size: tuple[int, int]) -> tuple[int, int]:
    """``size`` (H, W), in its shape reduced to four megapixels where it is more.

    >>> _bounded((3072, 4096)), _bounded((1000, 750))
    ((1732, 2309), (1000, 750))
    """
    factor = min(1.0, math.sqrt(MOST_PIXELS / (size[0] * size[1])))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _summary(
    rows: Sequence[ScoreRow], cells: Mapping[Kind, Cell], options: Options, *, with_pixels: bool
) -> Evaluation:
    groups: dict[str, dict[str, Metric]] = {}
    curves: dict[str, Curve] = {}
    sizes: dict[str, dict[str, int]] = {}
    for name, kinds in _groups(cells).items():
        part = [cells[kind] for kind in kinds]
        found = [row for cell in part for row in cell.rows if not row.error]
        good, anomalous = ([cells[k].tally for k in kinds if k[2] is bad] for bad in (False, True))
        groups[name], drawn = group_figures(
            found, good, anomalous, options, with_pixels=with_pixels, note=_note(part)
        )
        for curve in drawn:
            curves[curve.name if name == "all" else f"{curve.name}:{name}"] = curve
        bad = sum(row.is_anomalous for row in found)
        sizes[name] = {"good": len(found) - bad, "anomalous": bad}
    settings = {**options.as_dict(), "images": sizes, "notes": _notes(cells)}
    return Evaluation(tuple(rows), groups, curves, options.threshold, settings)


def _groups(cells: Mapping[Kind, Cell]) -> dict[str, list[Kind]]:
    """Which cells belong to each group: a defect type is set against all good images."""
    groups = {"all": list(cells)}
    categories = sorted({category for category, _, _ in cells})
    if len(categories) > 1:
        groups |= {category: [kind for kind in cells if kind[0] == category] for category in categories}
    for defect_type in sorted({kind[1] for kind in cells if kind[2]}):
        groups[f"defect:{defect_type}"] = [k for k in cells if not k[2] or k[1] == defect_type]
    return groups


def _note(cells: Sequence[Cell]) -> str:
    """What the pixel metrics of some cells leave out, in words."""
    anomalous = sum(row.is_anomalous and not row.error for cell in cells for row in cell.rows)
    parts = []
    if without := sum(cell.without_masks for cell in cells):
        parts.append(f"{without} of {anomalous} anomalous images have no mask and enter image metrics only")
    if maps := sum(cell.without_map for cell in cells):
        parts.append(f"{maps} images have no anomaly map")
    if unusable := sum(len(cell.unusable) for cell in cells):
        parts.append(f"the map or mask of {unusable} images could not be used")
    return "; ".join(parts)


def _notes(cells: Mapping[Kind, Cell]) -> list[str]:
    broken = sum(bool(row.error) for cell in cells.values() for row in cell.rows)
    notes = [f"{broken} images could not be scored and enter no metric"] if broken else []
    if reduced := sum(cell.reduced for cell in cells.values()):
        notes.append(f"pixel figures of {reduced} images are of maps reduced to {MOST_PIXELS:,} pixels")
    notes += [note] if (note := _note(list(cells.values()))) else []
    return notes + [reason for cell in cells.values() for reason in cell.unusable]


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise SettingsError(f"size must be (rows, columns), both at least 1, not {size!r}")
