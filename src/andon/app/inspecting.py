"""One photograph inspected for one browser: what is shown of it, what is recorded, and how another threshold decides."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.app.station import Station, artifact_name
from andon.app.trial import at_rate
from andon.app.uploads import Upload
from andon.calibrate import calibration_for, group_of
from andon.errors import AndonError
from andon.heatmap import colour_range, draw_regions, overlay
from andon.nuisance import Judged, ZonePlan
from andon.records import ArtifactName, Decided, Session
from andon.runtime.explain import main_region
from andon.runtime.explain_difference import UNCLEAR
from andon.runtime.predictor import Measurement, Predictor
from andon.runtime.server.shelf import Shelved
from andon.runtime.words import Words
from andon.runtime.zoned import Ruling, rule
from andon.types import Calibration, Decision, Region, Verdict

LONGEST = 1024  # pixels of the longer side of what is shown
Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is shown of one photograph; reduced, so that a browser's last ones fit into memory."""

    photo: Pixels
    anomaly_map: NDArray[np.float32]  # (h, w) raw
    regions: tuple[Region, ...]  # in pixels of the reduced photograph
    expected: Pixels | None  # what it should look like; None where the detector cannot tell
    kind: str  # key of the words that say what `expected` is


@dataclass(frozen=True, eq=False)
class Shot:
    """One photograph of this browser's session, and all that a decision on it needs."""

    number: int  # in this session, from 1
    name: str
    at: datetime
    detector: ArtifactName
    language: str  # of the verdict's sentence
    verdict: Verdict  # at the detector's own threshold, without the map
    calibration: Calibration  # that decided, of its group where there are groups
    group: str  # the note that says so
    plan: ZonePlan | None
    judged: Judged | None
    pictures: Pictures | None  # None once there are many newer ones
    record: int | None = None  # its number in the records
    unrecorded: str = ""  # why it has none
    decided: Decided | None = None

    def ruling(self, rate: float | None = None) -> Ruling:
        """What is decided at another false-alarm ``rate``; at the detector's own without one."""
        calibration = self.calibration if rate is None else at_rate(self.calibration, rate)
        return rule(self.verdict.image_score, calibration, self.plan, self.judged, self.group)

    def decision(self, rate: float | None = None) -> Decision:
        """The decision at ``rate``; what was recorded without one, or at the detector's own."""
        if rate is None or rate == self.calibration.target_rate:
            return self.verdict.decision
        return self.ruling(rate).decision

    def sentence(self, words: Words, rate: float | None = None) -> str:
        """The note in words on the decision at ``rate``: the recorded one where it is still true, in its language."""
        own = self.decision(rate) == self.verdict.decision
        if own and self.language == words["language.code"]:
            return self.verdict.sentence
        return self.ruling(rate).sentence(
            self.verdict.regions,
            self.verdict.size,
            self.verdict.not_inspected,
            words=words,
            difference=UNCLEAR,
        )

    def without_pictures(self) -> Shot:
        """This shot with what decisions need, and nothing that is large."""
        small = None
        if self.judged is not None:
            none = np.zeros((1, 1), np.float32)
            small = replace(self.judged, anomaly_map=none, ignored=none.astype(np.bool_), own=())
        return replace(self, pictures=None, judged=small)


def inspect_upload(station: Station, session: Session, shelved: Shelved, predictor: Predictor, upload: Upload, number: int) -> Shot:  # fmt: skip
    """The shot of ``upload``, recorded; where it cannot be recorded it says why, and the verdict stands all the same.

    ``predictor``: that of ``shelved``, in the browser's language. Raises :class:`ImageError` where it cannot be read, :class:`ArtifactError` where the graph does not answer.
    """
    with station.busy:
        seen: list[Measurement] = []
        verdict = predictor.inspect(upload.data, watch=seen.append, path=upload.name)
        pictures = pictures_of(predictor, seen[0], verdict)
    calibration, group = calibration_for(predictor.calibration, upload.name)
    shot = Shot(
        number, upload.name, datetime.now(UTC), artifact_name(shelved), predictor.words["language.code"],
        replace(verdict, anomaly_map=None), calibration, group, predictor.zone_plan, seen[0].judged, pictures,
    )  # fmt: skip
    try:
        record = station.records.add(
            session, verdict, shot.detector, image_name=upload.name, image=upload.data,
            overlay=as_png(overlaid(pictures, predictor.calibration)), group=group_of(predictor.calibration, upload.name) or "",
        )  # fmt: skip
    except AndonError as error:
        return replace(shot, unrecorded=str(error))
    return replace(shot, record=record)


def worst(shots: Sequence[Shot]) -> Shot:
    """The shot that a person should see first: one that failed before one for review, and the oddest of these."""
    order = ("pass", "review", "fail")
    return max(shots, key=lambda shot: (order.index(shot.verdict.decision), shot.verdict.score, -shot.number))


def pictures_of(predictor: Predictor, measured: Measurement, verdict: Verdict) -> Pictures:
    """What is shown of a photograph that was measured: itself, its map, and what it should look like."""
    photo = reduced(measured.photo.pixels)
    scale = photo.shape[0] / verdict.size[0], photo.shape[1] / verdict.size[1]
    region = main_region(verdict.regions) if verdict.regions else _everything(verdict.size)
    expected = None if measured.seen is None else predictor.comparer.expected(measured.seen, region)
    return Pictures(
        photo,
        measured.anomaly_map,
        tuple(scaled(each, *scale) for each in verdict.regions),
        None if expected is None else reduced(expected.pixels),
        "picture.none" if expected is None else f"picture.{expected.kind}",
    )


def _everything(size: tuple[int, int]) -> Region:
    return Region((0, 0, *size), size[0] * size[1], 1.0, 0.0, (size[0] // 2, size[1] // 2))


def overlaid(
    pictures: Pictures, calibration: Calibration, opacity: float = 0.55, *, boxes: bool = True
) -> Pixels:
    """The photograph under its heatmap, ``opacity`` 0 to 1, with a box around each region."""
    low, high = colour_range(calibration) if math.isfinite(calibration.map_threshold) else (0.0, 1.0)
    picture = overlay(pictures.photo, pictures.anomaly_map, low, high, opacity)
    return draw_regions(picture, pictures.regions) if boxes else picture


def reduced(pixels: Pixels, longest: int = LONGEST) -> Pixels:
    """``pixels`` (H, W, 3), made smaller where the longer side has more than ``longest``."""
    scale = longest / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def scaled(region: Region, down: float, right: float) -> Region:
    """``region`` in the pixels of a picture whose rows are ``down`` and columns ``right`` times those of the photograph.

    >>> scaled(Region((10, 20, 30, 40), 400, 0.01, 1.0, (15, 25)), 0.5, 0.1).box
    (5, 2, 15, 4)
    """
    top, left, bottom, end = region.box
    box = math.floor(top * down), math.floor(left * right), math.ceil(bottom * down), math.ceil(end * right)
    return replace(region, box=box, peak_position=(int(region.peak_position[0] * down), int(region.peak_position[1] * right)))  # fmt: skip


def as_png(pixels: Pixels) -> bytes:
    """The PNG file of ``pixels`` (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
