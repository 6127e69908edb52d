"""What a detector does about its zones, in one photograph after the other.

Shapes: H, W rows and columns of the photograph; h, w of its anomaly map, whose extent is the whole photograph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from andon.calibrate import calibration_from_dict, calibration_to_dict
from andon.data.masks import resize_nearest
from andon.errors import AndonError, ArtifactError, ImageError, SettingsError
from andon.nuisance.fill import filled
from andon.nuisance.moving import Box, CodeLimits, box_of, find_moving
from andon.nuisance.zones import Mask, Zone
from andon.types import Calibration

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
Cover = Colour | Literal["surroundings"]  # what a zone's pixels are replaced by
Places = Callable[
    [Pixels, Sequence[Zone]], Sequence[Mask]
]  # a photograph -> the mask (H, W) of each zone in it


@dataclass(frozen=True)
class Treated:
    """A zone and what is done about it.

    colour: what its pixels are replaced by before the network sees them: one colour, or what surrounds them; None: the
        network sees what is there.
    halo: how far around it the map is left out, in pixels of the network's input.
    given: at the fit, or later, to a detector that has seen what is there.
    calibration: of a zone with a threshold of its own, once it has been set.
    codes: what its codes are like on good parts, where it is a zone of codes; else None.
    """

    zone: Zone
    colour: Cover | None = None
    halo: int = 0
    given: Literal["fit", "later"] = "fit"
    calibration: Calibration | None = None
    codes: CodeLimits | None = None

    def described(self) -> str:
        """What is done about the zone, in words."""
        if self.codes is None:
            return self._done()
        return (
            f"{' and '.join(self.zone.codes)} codes wherever in it ({self.codes.described()}): {self._done()}"
        )

    def _done(self) -> str:
        if self.zone.treatment == "looser":
            limit = "none yet" if self.calibration is None else f"{self.calibration.threshold:.6g}"
            statement = "" if self.calibration is None else f" ({self.calibration.statement})"
            return f"a threshold of its own, {limit}{statement}"
        if self.colour is not None:
            since = "" if self.given == "fit" else ", since a calibration"
            what = "what surrounds them" if self.colour == "surroundings" else f"the colour {self.colour}"
            return f"not inspected; its pixels are covered with {what}{since}"
        return f"not inspected, nor the map within {self.halo} pixels of it, since a calibration"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        colour = list(self.colour) if isinstance(self.colour, tuple) else self.colour
        content = {"zone": self.zone.to_dict(), "colour": colour, "halo": self.halo, "given": self.given}
        if self.calibration is not None:
            content["calibration"] = calibration_to_dict(self.calibration)
        return content | ({} if self.codes is None else {"codes": self.codes.to_dict()})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Treated:
        """What :meth:`to_dict` wrote. Raises :class:`SettingsError`, KeyError, TypeError or ValueError."""
        colour, stored = content["colour"], content.get("calibration")
        if content["given"] not in ("fit", "later") or int(content["halo"]) < 0:
            raise SettingsError("a zone's 'given' must be fit or later, its 'halo' at least 0")
        zone, limits = Zone.from_dict(content["zone"]), content.get("codes")
        if bool(zone.codes) != (limits is not None):
            raise SettingsError(
                "what codes are like on good parts belongs to a zone of codes, and to no other"
            )
        return cls(
            zone,
            _cover(colour),
            int(content["halo"]),
            content["given"],
            None if stored is None else calibration_from_dict(stored),
            None if limits is None else CodeLimits.from_dict(limits),
        )


def _cover(colour: Any) -> Cover | None:
    if colour is None or colour == "surroundings":
        return cast(Cover | None, colour)
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise SettingsError(f"a zone's colour must be three numbers from 0 to 255, got {colour!r:.80}")
    return cast(Colour, tuple(map(int, colour)))


def fixed_places(pixels: Pixels, zones: Sequence[Zone]) -> list[Mask]:
    """The zones where they were drawn, whatever the photograph shows: for parts that always lie alike."""
    return [zone.mask((pixels.shape[0], pixels.shape[1])) for zone in zones]


@dataclass(frozen=True)
class Judged:
    """An anomaly map as its zones leave it.

    anomaly_map: (h, w), nowhere above what is inspected in what is not. peak: its largest value that is inspected
    by the detector's own threshold. zone_peaks: the largest value in each zone with a threshold of its own.
    not_inspected: share of the photograph, 0 to 1.
    ignored: (h, w) bool. own: name and (h, w) mask of each zone with a threshold of its own.
    notes: where zones lie that do not always lie alike. doubts: why a person must look at the photograph.
    """

    anomaly_map: NDArray[np.float32]
    peak: float
    zone_peaks: Mapping[str, float]
    not_inspected: float
    ignored: Mask
    own: tuple[tuple[str, Mask], ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def thresholds(self, plan: ZonePlan, map_threshold: float) -> NDArray[np.float32]:
        """The threshold (h, w) of each place: the zones' own in these, infinite where nothing is inspected."""
        limits = np.full(self.anomaly_map.shape, map_threshold, np.float32)
        of_zone = {entry.zone.name: entry.calibration for entry in plan.treated}
        for name, mask in self.own:
            if (calibration := of_zone[name]) is not None:
                limits[mask] = calibration.threshold
        limits[self.ignored] = math.inf
        return limits


@dataclass(frozen=True)
class ZonePlan:
    """All zones of a detector. ``places`` finds them in a photograph; an alignment puts its own in its place."""

    treated: tuple[Treated, ...]
    places: Places = field(default=fixed_places, compare=False)

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones alone."""
        return tuple(entry.zone for entry in self.treated)

    def place(self, pixels: Pixels) -> Placed:
        """The plan on one photograph (H, W, 3)."""
        areas = tuple(self.places(pixels, self.zones))
        if len(areas) != len(self.treated) or any(area.shape != pixels.shape[:2] for area in areas):
            raise ImageError(
                f"the places of {len(self.treated)} zones in a photograph of {pixels.shape[:2]} were expected, "
                f"got masks of {[area.shape for area in areas]}"
            )
        masks: list[Mask] = []
        boxes: list[tuple[str, Box]] = []
        doubts: list[str] = []
        for entry, area in zip(self.treated, areas, strict=True):
            if entry.zone.codes:
                found = find_moving(pixels, area, entry.zone, entry.codes)
                masks.append(found.mask)
                boxes += [(entry.zone.name, box) for box in found.boxes]
                doubts += [found.doubt] if found.doubt else []
            else:
                masks.append(area)
                if self.places is not fixed_places and area.any():
                    boxes.append((entry.zone.name, box_of(area)))
        return Placed(self, tuple(masks), tuple(boxes), tuple(doubts), areas)

    def cover(self, pixels: Pixels) -> Pixels:
        """The photograph (H, W, 3) as the network is to see it at the fit.

        Raises :class:`ImageError` where codes are not as on good parts: what is learnt there would be what is printed.
        """
        placed = self.place(pixels)
        if placed.doubts:
            raise ImageError("; ".join(placed.doubts))
        return placed.cover(pixels)

    def with_calibrations(self, calibrations: Mapping[str, Calibration]) -> ZonePlan:
        """The plan with these thresholds, by the zones' names."""
        treated = (replace(t, calibration=calibrations.get(t.zone.name, t.calibration)) for t in self.treated)
        return replace(self, treated=tuple(treated))

    def to_list(self) -> list[dict[str, Any]]:
        """What a manifest keeps."""
        return [entry.to_dict() for entry in self.treated]

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ZonePlan | None:
        """The plan in an artefact's manifest, None where it has no zones. Raises :class:`ArtifactError`."""
        part = manifest.get("nuisance", {})
        try:
            treated = tuple(Treated.from_dict(entry) for entry in part.get("zones", ()))
        except (AndonError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(
                f"the artefact's zones cannot be read ({error}). Fit or calibrate again."
            ) from error
        return cls(treated) if treated else None


@dataclass(frozen=True)
class Placed:
    """A plan on one photograph, whose zones are ``masks`` (H, W).

    boxes: name and place of what does not always lie alike. doubts: why codes are inspected after all. areas: (H, W),
    where zones of codes may lie; of the others they are the masks.
    """

    plan: ZonePlan
    masks: tuple[Mask, ...]
    boxes: tuple[tuple[str, Box], ...] = ()
    doubts: tuple[str, ...] = ()
    areas: tuple[Mask, ...] = ()

    def cover(self, pixels: Pixels) -> Pixels:
        """The photograph with the pixels of each covered zone replaced; itself where none is covered."""
        covered = [
            (t.colour, mask) for t, mask in zip(self.plan.treated, self.masks, strict=True) if t.colour
        ]
        if not covered:
            return pixels
        for colour, mask in covered:
            if colour == "surroundings":
                pixels = filled(pixels, mask)
            else:
                pixels = np.where(mask[..., None], np.array(colour, np.uint8), pixels)
        return pixels

    def judge(self, anomaly_map: NDArray[np.float32]) -> Judged:
        """The map (h, w) as the zones leave it. Raises :class:`ImageError` when they leave nothing of it."""
        size = (anomaly_map.shape[0], anomaly_map.shape[1])
        ignored, own = np.zeros(size, bool), []
        for treated, mask in zip(self.plan.treated, self.masks, strict=True):
            small = grown(resize_nearest(mask, size), treated.halo)
            if treated.zone.treatment == "ignore":
                ignored |= small
            else:
                own.append((treated.zone.name, small))
        own = [(name, mask & ~ignored) for name, mask in own]
        inspected = ~np.logical_or.reduce([ignored, *(mask for _, mask in own)])
        if not inspected.any():
            raise ImageError("the zones leave nothing of this photograph to inspect. Draw them smaller.")
        peak = float(anomaly_map[inspected].max())
        if ignored.any():
            anomaly_map = np.where(ignored, anomaly_map[inspected].min(), anomaly_map)
        peaks = {name: float(anomaly_map[mask].max()) for name, mask in own if mask.any()}
        notes = tuple(_where(name, box) for name, box in self.boxes if name not in dict(own))
        return Judged(
            anomaly_map, peak, peaks, float(ignored.mean()), ignored, tuple(own), notes, self.doubts
        )


def _where(name: str, box: Box) -> str:
    """The note that a zone lies at ``box`` in this photograph."""
    return f"zone {name!r}: not inspected within {list(box)} (top, left, bottom, right)"


def grown(mask: Mask, reach: int) -> Mask:
    """``mask`` and all within ``reach`` pixels of it, in both directions: a square window.

    >>> grown(np.eye(5, dtype=bool)[2:3], 1).tolist()
    [[False, True, True, True, False]]
    """
    if reach < 1 or not mask.any():
        return mask
    for axis in (0, 1):
        counts = np.cumsum(mask, axis=axis, dtype=np.int64)
        length = mask.shape[axis]
        last = np.minimum(np.arange(length) + reach, length - 1)
        before = np.arange(length) - reach - 1
        upto = np.take(counts, last, axis=axis)
        earlier = np.take(counts, np.maximum(before, 0), axis=axis)
        shape = [1, 1]
        shape[axis] = length
        mask = upto > np.where((before < 0).reshape(shape), 0, earlier)
    return mask


def distance_steps(mask: Mask) -> NDArray[np.int64]:
    """How far each pixel lies from ``mask``, in steps over rows, columns and diagonals: 0 inside (chessboard distance).

    >>> distance_steps(np.array([[True, False, False]])).tolist()
    [[0, 1, 2]]
    """
    if not mask.any():
        raise SettingsError("there is no pixel to measure a distance from")
    distance = np.zeros(mask.shape, np.int64)
    while not mask.all():
        distance += ~mask
        mask = grown(mask, 1)
    return distance


def mean_colours(
    zones: Sequence[Zone], photographs: Iterable[Pixels], places: Places = fixed_places
) -> list[Colour]:
    """The mean colour of the photographs (H, W, 3) in each zone, each photograph counting alike; grey without any.

    ``places`` may refuse a photograph by an :class:`ImageError`; it is left out then.
    """
    means: list[list[NDArray[np.float64]]] = [[] for _ in zones]
    for pixels in photographs:
        with suppress(ImageError):
            for found, mask in zip(means, places(pixels, zones), strict=True):
                if mask.any():
                    found.append(pixels[mask].mean(axis=0))
    return [_rounded(np.mean(found, axis=0) if found else np.full(3, 128.0)) for found in means]


def _rounded(colour: NDArray[np.float64]) -> Colour:
    red, green, blue = (int(value) for value in np.rint(colour))
    return red, green, blue
