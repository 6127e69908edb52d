"""Zones drawn over a photograph, for people to check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from andon.nuisance.moving import Box, box_of
from andon.nuisance.plan import grown
from andon.nuisance.zones import Mask, Zone

INK = {"ignore": (214, 40, 40), "looser": (240, 160, 20)}  # red: not inspected; amber: a threshold of its own
_TINT = 0.25  # of the ink over the whole zone
_STRIPES = 0.55  # of the ink in the stripes
_PITCH = 60  # stripes in the photograph's shorter side


def draw_zones(
    pixels: NDArray[np.uint8],
    zones: Sequence[Zone],
    masks: Sequence[Mask] | None = None,
    areas: Sequence[Mask] = (),
) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) uint8 with each zone striped in its treatment's colour, its name beside it.

    ``masks``: where the zones lie in this photograph, (H, W) bool each; None: where they were drawn. ``areas``: where
    those of codes may lie, which is framed.
    """
    size = (pixels.shape[0], pixels.shape[1])
    masks = [zone.mask(size) for zone in zones] if masks is None else masks
    pitch = max(4, min(size) // _PITCH)
    stripes = (np.add.outer(np.arange(size[0]), np.arange(size[1])) // pitch) % 3 == 0
    picture = pixels.astype(np.float32)
    for zone, mask in zip(zones, masks, strict=True):
        share = np.where(stripes[mask], _STRIPES, _TINT)[:, None]
        picture[mask] = (1 - share) * picture[mask] + share * np.array(INK[zone.treatment])
    wide = max(1, pitch // 4)
    for zone, area in zip(zones, areas, strict=False):
        if zone.codes:
            inner = ~grown(~np.pad(area, wide), wide)[wide:-wide, wide:-wide]
            picture[area & ~inner] = INK[zone.treatment]
    drawn = Image.fromarray(np.rint(picture).astype(np.uint8))
    taken: list[Box] = []
    for number, (zone, mask) in enumerate(zip(zones, masks, strict=True)):
        place = mask if mask.any() or not areas else areas[number]
        if place.any():
            taken.append(
                _write_name(
                    drawn, _title(zone, found=bool(mask.any())), INK[zone.treatment], box_of(place), taken
                )
            )
    return np.asarray(drawn).copy()


def _title(zone: Zone, *, found: bool) -> str:
    own = " (own threshold)" if zone.treatment == "looser" else ""
    return zone.name + own + (" (no code)" if zone.codes and not found else "")


def _write_name(
    picture: Image.Image, text: str, ink: tuple[int, int, int], zone: Box, taken: Sequence[Box]
) -> Box:
    """``text`` in a plate above, in or below the zone's box, where no other plate is ``taken``; the plate's box."""
    height = max(10, min(picture.size) // 24)
    font = ImageFont.load_default(height)
    pen = ImageDraw.Draw(picture)
    width, tall = int(pen.textlength(text, font)) + 6, height + 6
    left = max(0, min(zone[1], picture.width - width))
    tops = (zone[0] - tall, zone[0], zone[2], zone[0] + tall, zone[2] - tall)
    plates = [(top, left, top + tall, left + width) for top in tops if 0 <= top <= picture.height - tall]
    free = (plate for plate in plates if not any(_meet(plate, other) for other in taken))
    plate = next(free, plates[0] if plates else (0, left, tall, left + width))
    pen.rectangle((plate[1], plate[0], plate[3] - 1, plate[2] - 1), fill=ink)
    pen.text((plate[1] + 3, plate[0] + 1), text, (255, 255, 255), font)
    return plate


def _meet(one: Box, other: Box) -> bool:
    """Whether two boxes share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
