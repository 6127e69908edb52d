"""Zones to ignore, from good images to what a detector does about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from andon.artifact import Artifact
from andon.calibrate import calibrate
from andon.data.prints import Prints
from andon.errors import DataError, ImageError, SettingsError
from andon.image import Preprocessing, decode
from andon.nuisance import (
    Places,
    Treated,
    Zone,
    ZonePlan,
    check_zones,
    drawn_on,
    fixed_places,
    read_zones,
)
from andon.nuisance.halo import Reach, measure_reach
from andon.nuisance.moving import learn_limits
from andon.nuisance.plan import Cover, mean_colours
from andon.runtime.predictor import Predictor

ZoneSource = str | os.PathLike[str] | Sequence[Zone]  # a file that read_zones reads, or zones
COLOUR_PHOTOS = 64  # good images whose mean colour covers a zone, and whose codes say what codes are like
REACH_PHOTOS = 8  # good images on which it is measured how far a zone reaches
LEAST_FOUND = 0.5  # of the planted spots found before, for a cover where there is no other way


def fit_plan(
    source: ZoneSource | None, paths: Sequence[Path], white_level: int, places: Places = fixed_places
) -> ZonePlan | None:
    """The plan for zones given before the fit: those to ignore are covered, before the network sees any image.

    ``paths``: the good images to fit on, whose mean colour covers a zone. ``places``: where zones lie in a photograph. None
    where there are no zones.
    """
    if source is None:
        return None
    return ZonePlan(
        tuple(_treated(zones_for(source, paths, white_level), paths, white_level, places)), places
    )


def later_plan(predictor: Predictor, source: ZoneSource, paths: Sequence[Path]) -> ZonePlan:
    """The plan for zones given to a fitted detector; zones of the fit stay.

    Of two ways that is taken by which more spots planted on good photographs are found at the highest score of the
    good ones: to cover the zones like those of a fit, or to leave out the map in them and in a halo around them, as
    wide as another print is noticed. ``paths``: good images, with the prints that are to be ignored. Raises
    :class:`SettingsError` when neither can be done.
    """
    before = predictor.zone_plan or ZonePlan(())
    kept = tuple(entry for entry in before.treated if entry.given == "fit")
    before = replace(before, treated=kept)
    white_level = predictor.preprocessing.white_level
    zones = zones_for(source, paths, white_level)
    if twice := {zone.name for zone in zones} & {entry.zone.name for entry in kept}:
        raise SettingsError(
            f"the detector was fitted with zones of the same name: {', '.join(sorted(twice))}. Rename yours."
        )
    new = [replace(entry, given="later") for entry in _treated(zones, paths, white_level, before.places)]
    ignored = replace(before, treated=tuple(entry for entry in new if entry.colour is not None))
    if not ignored.treated:
        return replace(before, treated=(*kept, *new))
    photographs = _placeable(before, _photographs(paths, REACH_PHOTOS, white_level))
    reach = reach_of(predictor, ignored, photographs)
    if reach.halo is None and reach.found_covered < LEAST_FOUND * reach.found_before:
        raise SettingsError(
            "these zones cannot be cut out of this detector: what is in them changes its map nearly everywhere, and "
            f"with the zones covered it finds {reach.found_covered:.0%} of planted spots instead of "
            f"{reach.found_before:.0%}. Fit again with --ignore."
        )
    if reach.halo is not None and reach.found_left > reach.found_covered:
        new = [replace(t, colour=None, halo=reach.halo) if t.zone.treatment == "ignore" else t for t in new]
    return replace(before, treated=(*kept, *new))


def reach_of(predictor: Predictor, plan: ZonePlan, photographs: Sequence[NDArray[np.uint8]]) -> Reach:
    """What the plan's zones do to the detector's map outside them, measured on good photographs (H, W, 3).

    Those whose codes are not as on good parts are left out. Raises :class:`DataError` where none is left.
    """
    placed = [(pixels, place) for pixels in photographs if not (place := plan.place(pixels)).doubts]
    if not placed:
        raise DataError("in none of the good images looked at codes are as on good parts")
    masks = [np.logical_or.reduce(place.masks) for _, place in placed]

    def cover(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return plan.place(pixels).cover(pixels)

    return measure_reach(predictor.respond, [pixels for pixels, _ in placed], masks, cover)


def own_thresholds(
    plan: ZonePlan, peaks: Mapping[str, Sequence[float]], *, target_rate: float, confidence: float
) -> ZonePlan:
    """The plan with a threshold for each zone that has one of its own, from the ``peaks`` of good images in it."""
    rates = {t.zone.name: t.zone.rate or target_rate for t in plan.treated if t.zone.treatment == "looser"}
    return plan.with_calibrations({
        name: calibrate(peaks[name], target_rate=rate, confidence=confidence)
        for name, rate in rates.items()
        if peaks.get(name)
    })  # fmt: skip


def with_plan(artifact: Artifact, plan: ZonePlan | None) -> Artifact:
    """The artefact with this plan in its manifest; itself where there is none."""
    if plan is None:
        return artifact
    return artifact.with_manifest(nuisance={**artifact.manifest.get("nuisance", {}), "zones": plan.to_list()})


def prints_into(zones: Sequence[Zone], preprocessing: Preprocessing, paths: Sequence[Path]) -> Prints:
    """What draws random prints into ``zones`` of the network's inputs. ``paths``: photographs of the size that all have.

    Raises :class:`SettingsError` for tiles, which see another part of a zone each.
    """
    if preprocessing.resize == "tiles":
        raise SettingsError(
            "print_into does not go with resize 'tiles': a print would be cut by them. Use ignore instead."
        )
    if moving := [zone.name for zone in zones if zone.codes]:
        raise SettingsError(
            f"print_into draws into zones that lie fixed; {moving[0]!r} is one of codes, which lie anywhere in it"
        )
    masks = fixed_places(next(_photographs(paths, 1, preprocessing.white_level)), zones)
    white = (np.where(mask[..., None], np.uint8(255), np.zeros(3, np.uint8)) for mask in masks)
    return Prints(tuple(preprocessing.apply(pixels).images[0, 0] > 0.5 for pixels in white))


def zones_of(source: ZoneSource) -> tuple[Zone, ...]:
    """The zones of ``source``. Raises :class:`DataError`."""
    return read_zones(source) if isinstance(source, str | os.PathLike) else tuple(source)


def zones_for(source: ZoneSource, paths: Sequence[Path], white_level: int) -> tuple[Zone, ...]:
    """The zones of ``source``, which suit the photographs ``paths``. Raises :class:`DataError`."""
    zones = zones_of(source)
    first = next(_photographs(paths, 1, white_level))
    drawn = drawn_on(source) if isinstance(source, str | os.PathLike) else None
    check_zones(zones, (first.shape[0], first.shape[1]), drawn)
    return zones


def _treated(
    zones: Sequence[Zone], paths: Sequence[Path], white_level: int, places: Places
) -> Iterator[Treated]:
    """Each zone as a fit treats it: covered where it is to be ignored, its codes limited to what good images show."""
    fixed = [zone for zone in zones if not zone.codes]
    photographs = _photographs(paths, COLOUR_PHOTOS, white_level) if fixed else ()
    colours = iter(mean_colours(fixed, photographs, places))
    for zone in zones:
        cover: Cover = "surroundings" if zone.codes else next(colours)
        limits = learn_limits(zone, _areas(zone, paths, white_level, places)) if zone.codes else None
        yield Treated(zone, cover if zone.treatment == "ignore" else None, codes=limits)


def _areas(
    zone: Zone, paths: Sequence[Path], white_level: int, places: Places
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Good photographs, each with the (H, W) area of the zone; those in which the part is not found are left out."""
    for pixels in _photographs(paths, COLOUR_PHOTOS, white_level):
        try:
            (area,) = places(pixels, (zone,))
        except ImageError:
            continue
        yield pixels, area


def _photographs(paths: Sequence[Path], most: int, white_level: int) -> Iterator[NDArray[np.uint8]]:
    """The pixels of at most ``most`` of the images, spread over them all; broken ones are left out.

    Raises :class:`DataError` where none can be read.
    """
    found, reason = 0, ""
    for path in paths[:: max(1, len(paths) // most)][:most]:
        try:
            pixels = decode(path, white_level=white_level).pixels
        except ImageError as error:
            reason = str(error)
            continue
        found += 1
        yield pixels
    if not found:
        raise DataError(
            f"none of the {len(paths)} images can be read, so nothing is known of the zones: {reason}"
        )


def _placeable(plan: ZonePlan, photographs: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The photographs as the network sees them, but for those in which the part is not found.

    Raises :class:`DataError` where it is found in none.
    """
    found = []
    for pixels in photographs:
        with suppress(ImageError):
            found.append(plan.cover(pixels))
    if not found:
        raise DataError("the part is found in none of the good images, so nothing is known of the zones")
    return found
