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
from andon.nuisance.zones import Mask, Zone
from andon.types import Calibration

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
Places = Callable[
    [Pixels, Sequence[Zone]], Sequence[Mask]
]  # a photograph -> the mask (H, W) of each zone in it


@dataclass(frozen=True)
class Treated:
    """A zone and what is done about it.

    colour: what its pixels are replaced by before the network sees them; None: the network sees what is there.
    halo: how far around it the map is left out, in pixels of the network's input.
    given: at the fit, or later, to a detector that has seen what is there.
    calibration: of a zone with a threshold of its own, once it has been set.
    """

    zone: Zone
    colour: Colour | None = None
    halo: int = 0
    given: Literal["fit", "later"] = "fit"
    calibration: Calibration | None = None

    def described(self) -> str:
        """What is done about the zone, in words."""
        if self.zone.treatment == "looser":
            limit = "none yet" if self.calibration is None else f"{self.calibration.threshold:.6g}"
            statement = "" if self.calibration is None else f" ({self.calibration.statement})"
            return f"a threshold of its own, {limit}{statement}"
        if self.colour is not None:
            since = "" if self.given == "fit" else ", since a calibration"
            return "not inspected; its pixels are covered with the colour " + f"{self.colour}{since}"
        return f"not inspected, nor the map within {self.halo} pixels of it, since a calibration"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        content = {"zone": self.zone.to_dict(), "colour": self.colour and list(self.colour), "halo": self.halo,
                   "given": self.given}  # fmt: skip
        return content | (
            {} if self.calibration is None else {"calibration": calibration_to_dict(self.calibration)}
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Treated:
        """What :meth:`to_dict` wrote. Raises :class:`SettingsError`, KeyError, TypeError or ValueError."""
        colour, stored = content["colour"], content.get("calibration")
        if content["given"] not in ("fit", "later") or int(content["halo"]) < 0:
            raise SettingsError("a zone's 'given' must be fit or later, its 'halo' at least 0")
        if colour is not None and (len(colour) != 3 or not all(0 <= value <= 255 for value in colour)):
            raise SettingsError(f"a zone's colour must be three numbers from 0 to 255, got {colour!r:.80}")
        return cls(
            Zone.from_dict(content["zone"]),
            None if colour is None else cast(Colour, tuple(map(int, colour))),
            int(content["halo"]),
            content["given"],
            None if stored is None else calibration_from_dict(stored),
        )


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
    """

    anomaly_map: NDArray[np.float32]
    peak: float
    zone_peaks: Mapping[str, float]
    not_inspected: float
    ignored: Mask
    own: tuple[tuple[str, Mask], ...]

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
        masks = tuple(self.places(pixels, self.zones))
        if len(masks) != len(self.treated) or any(mask.shape != pixels.shape[:2] for mask in masks):
            raise ImageError(
                f"the places of {len(self.treated)} zones in a photograph of {pixels.shape[:2]} were expected, "
                f"got masks of {[mask.shape for mask in masks]}"
            )
        return Placed(self, masks)

    def cover(self, pixels: Pixels) -> Pixels:
        """The photograph (H, W, 3) as the network is to see it."""
        return self.place(pixels).cover(pixels)

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
    """A plan on one photograph, whose zones are ``masks`` (H, W)."""

    plan: ZonePlan
    masks: tuple[Mask, ...]

    def cover(self, pixels: Pixels) -> Pixels:
        """The photograph with the pixels of each covered zone in the zone's colour; itself where none is covered."""
        covered = [
            (t.colour, mask) for t, mask in zip(self.plan.treated, self.masks, strict=True) if t.colour
        ]
        if not covered:
            return pixels
        pixels = pixels.copy()
        for colour, mask in covered:
            pixels[mask] = colour
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
        return Judged(anomaly_map, peak, peaks, float(ignored.mean()), ignored, tuple(own))


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
