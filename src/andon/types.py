"""What the parts of Andon hand to each other: frozen dataclasses, NumPy arrays, no behaviour.

Sizes are (rows, columns) and boxes are (top, left, bottom, right) in pixels of the original image,
bottom and right excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Decision = Literal["pass", "review", "fail"]
Split = Literal["train", "calibration", "test"]


@dataclass(frozen=True)
class MaskSource:
    """Where one annotated defect's pixels are found, and when it counts as found.

    kind ``image``: the pixels of ``path`` that equal ``pixel_value`` (any non-zero pixel if None);
    kind ``boxes``: ``boxes`` as (top, left, bottom, right); kind ``rle``: ``rle`` as (start, length) pairs,
    1-based, column by column (Severstal's coding), for an image of ``size`` (H, W).
    kind ``ellipse``: ``ellipse`` as (row, column, semi-axis, semi-axis, angle in radians) (DAGM's coding).

    saturation: the area after which the defect counts as wholly found (sPRO, Bergmann et al. 2022, eq. 1),
    in pixels of the mask, or as a fraction of the defect's own area when ``relative_saturation``.
    """

    kind: Literal["image", "boxes", "rle", "ellipse"]
    path: Path | None = None
    pixel_value: int | None = None
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    rle: tuple[tuple[int, int], ...] = ()
    ellipse: tuple[float, float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    name: str = "defect"
    saturation: float = 1.0
    relative_saturation: bool = True


@dataclass(frozen=True)
class Sample:
    """One photograph of a data set and what is known of it."""

    path: Path
    split: Split
    is_anomalous: bool = False
    category: str = ""
    defect_type: str = "good"
    masks: tuple[MaskSource, ...] = ()


@dataclass(frozen=True)
class DefectChannel:
    """One annotated defect: ``anomaly_mask`` (H, W) bool, and the area in pixels at which it counts as found."""

    anomaly_mask: NDArray[np.bool_]
    saturation_area: float
    name: str = "defect"


@dataclass(frozen=True)
class Calibration:
    """A threshold and what can be promised of it.

    ``image_score > threshold`` fails; ``review_threshold < image_score <= threshold`` asks for a person.
    """

    threshold: float  # nan where there is none
    review_threshold: float | None
    map_threshold: float  # raw, nan where there is none; pixels above it form the regions that are reported
    target_rate: float  # share of good parts that may fail, the rate asked for
    promised_rate: float  # share of good parts that will fail at most, at `confidence`
    confidence: float
    nominal_scores: tuple[float, ...]  # raw, sorted upwards; of good images that the detector never saw
    method: (
        str  # "conformal", "max", "extrapolated", "tpr", "f1", "cost", "youden"; "none" without a threshold
    )
    statement: str  # the guarantee in words
    group_by: str = ""  # pattern of an image's path that names its group; "" where one threshold is for all
    groups: Mapping[str, Calibration] = field(default_factory=dict)  # nan as threshold: none of its own
    fall_back: bool = False  # groups without a threshold: by the one above; else for review


@dataclass(frozen=True)
class Region:
    """One connected area of an image whose anomaly map lies above the map threshold."""

    box: tuple[int, int, int, int]  # top, left, bottom, right; pixels of the original image
    area: int  # pixels of the original image
    area_fraction: float  # of the original image, 0 to 1
    peak: float  # largest raw value of the anomaly map inside
    peak_position: tuple[int, int]  # row, column
    elongation: float = 1.0  # major over minor axis, from the second moments; 1 is round or square


@dataclass(frozen=True)
class Verdict:
    """The answer for one image."""

    path: str
    decision: Decision
    score: float  # 0 to 1: the share of good calibration images that scored lower
    image_score: float  # raw
    threshold: float
    regions: tuple[Region, ...]
    sentence: str
    size: tuple[int, int]  # (H, W) of the original image, after its EXIF orientation
    not_inspected: float = 0.0  # share of the image that no threshold looked at, 0 to 1
    milliseconds: float = 0.0  # decode to verdict
    notes: tuple[str, ...] = ()  # e.g. "multi-page TIFF: the first of 3 pages"
    anomaly_map: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # (H, W) raw


@dataclass(frozen=True)
class Failure:
    """One image that could not be inspected, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ScoreRow:
    """One image's raw score in an evaluation."""

    path: str
    category: str
    defect_type: str
    is_anomalous: bool
    image_score: float  # raw; nan when the image could not be read
    decision: Decision | None = None  # None when there is no deployed threshold
    error: str = ""  # why the image could not be scored; such rows enter no metric


@dataclass(frozen=True)
class Metric:
    """One figure with its bootstrap confidence interval; None where it is not defined, and ``note`` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve to draw: ROC, PRO or sPRO over the false-positive rate."""

    name: str  # "roc", "pro", "spro"
    x: tuple[float, ...]  # false-positive rate, 0 to 1, upwards
    y: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found. ``groups`` maps a group's name to its metrics.

    Group names: ``"all"``, ``"<category>"`` when there are several, and ``"defect:<defect_type>"``.
    Metric names: ``image_auroc``, ``image_ap``, ``f1_max``, ``fpr``, ``fnr`` (at the deployed threshold),
    ``tpr_at_tnr_99``, ``tpr_at_tnr_95``, ``tpr_at_tnr_90``, ``pixel_auroc``, ``pixel_ap``, ``aupro_30``,
    ``auspro_5`` (and other limits, in per cent), ``review_rate``.
    """

    rows: tuple[ScoreRow, ...]
    groups: dict[str, dict[str, Metric]]
    curves: dict[str, Curve]  # "roc", "pro", "spro" over all images; "roc:<group>" and so on for a group
    threshold: float | None = None
    settings: dict[str, object] = field(default_factory=dict)  # how it was computed: limits, bootstrap, seed
