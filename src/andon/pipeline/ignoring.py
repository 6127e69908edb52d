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
from andon.nuisance import Places, Treated, Zone, ZonePlan, fixed_places, read_zones
from andon.nuisance.halo import Reach, measure_reach
from andon.nuisance.plan import Colour, mean_colours
from andon.runtime.predictor import Predictor

ZoneSource = str | os.PathLike[str] | Sequence[Zone]  # a file that read_zones reads, or zones
COLOUR_PHOTOS = 64  # good images whose mean colour covers a zone
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
    zones = zones_of(source)
    colours = mean_colours(zones, _photographs(paths, COLOUR_PHOTOS, white_level), places)
    return ZonePlan(tuple(map(_covered, zones, colours)), places)


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
    zones = zones_of(source)
    if twice := {zone.name for zone in zones} & {entry.zone.name for entry in kept}:
        raise SettingsError(
            f"the detector was fitted with zones of the same name: {', '.join(sorted(twice))}. Rename yours."
        )
    white_level = predictor.preprocessing.white_level
    colours = mean_colours(zones, _photographs(paths, COLOUR_PHOTOS, white_level), before.places)
    new = [
        replace(_covered(zone, colour), given="later") for zone, colour in zip(zones, colours, strict=True)
    ]
    ignored = replace(before, treated=tuple(entry for entry in new if entry.colour is not None))
    if not ignored.treated:
        return replace(before, treated=(*kept, *new))
    reach = reach_of(predictor, ignored, _placeable(before, _photographs(paths, REACH_PHOTOS, white_level)))
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
    """What the plan's zones do to the detector's map outside them, measured on good photographs (H, W, 3)."""
    places = [np.logical_or.reduce(plan.place(pixels).masks) for pixels in photographs]
    return measure_reach(predictor.respond, photographs, places, plan.cover)


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
    masks = fixed_places(next(_photographs(paths, 1, preprocessing.white_level)), zones)
    white = (np.where(mask[..., None], np.uint8(255), np.zeros(3, np.uint8)) for mask in masks)
    return Prints(tuple(preprocessing.apply(pixels).images[0, 0] > 0.5 for pixels in white))


def zones_of(source: ZoneSource) -> tuple[Zone, ...]:
    """The zones of ``source``. Raises :class:`DataError`."""
    return read_zones(source) if isinstance(source, str | os.PathLike) else tuple(source)


def _covered(zone: Zone, colour: Colour) -> Treated:
    return Treated(zone, colour if zone.treatment == "ignore" else None)


def _photographs(paths: Sequence[Path], most: int, white_level: int) -> Iterator[NDArray[np.uint8]]:
    """The pixels of at most ``most`` of the images, spread over them all; broken ones are left out.

    Raises :class:`DataError` where none can be read.
    """
    found = 0
    for path in paths[:: max(1, len(paths) // most)][:most]:
        with suppress(ImageError):
            pixels = decode(path, white_level=white_level).pixels
            found += 1
            yield pixels
    if not found:
        raise DataError(f"none of the {len(paths)} images can be read, so nothing is known of the zones")


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
