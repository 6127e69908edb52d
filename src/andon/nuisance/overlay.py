"""Zones drawn over a photograph, for people to check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from andon.nuisance.zones import Mask, Zone

INK = {"ignore": (214, 40, 40), "looser": (240, 160, 20)}  # red: not inspected; amber: a threshold of its own
_TINT = 0.25  # of the ink over the whole zone
_STRIPES = 0.55  # of the ink in the stripes
_PITCH = 60  # stripes in the photograph's shorter side


def draw_zones(
    pixels: NDArray[np.uint8], zones: Sequence[Zone], masks: Sequence[Mask] | None = None
) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) uint8 with each zone striped in its treatment's colour, its name beside it.

    ``masks``: where the zones lie in this photograph, (H, W) bool each; None: where they were drawn.
    """
    size = (pixels.shape[0], pixels.shape[1])
    masks = [zone.mask(size) for zone in zones] if masks is None else masks
    pitch = max(4, min(size) // _PITCH)
    stripes = (np.add.outer(np.arange(size[0]), np.arange(size[1])) // pitch) % 3 == 0
    picture = pixels.astype(np.float32)
    for zone, mask in zip(zones, masks, strict=True):
        share = np.where(stripes[mask], _STRIPES, _TINT)[:, None]
        picture[mask] = (1 - share) * picture[mask] + share * np.array(INK[zone.treatment])
    drawn = Image.fromarray(np.rint(picture).astype(np.uint8))
    for zone, mask in zip(zones, masks, strict=True):
        _write_name(drawn, zone, mask)
    return np.asarray(drawn).copy()


def _write_name(picture: Image.Image, zone: Zone, mask: Mask) -> None:
    """The zone's name in a plate at its upper left corner, above it where there is room."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    height = max(10, min(picture.size) // 24)
    font = ImageFont.load_default(height)
    text = zone.name if zone.treatment == "ignore" else f"{zone.name} (own threshold)"
    top = int(rows[0]) - height - 6 if rows[0] >= height + 6 else int(rows[0])
    pen = ImageDraw.Draw(picture)
    width = int(pen.textlength(text, font)) + 6
    left = max(0, min(int(columns[0]), picture.width - width))
    pen.rectangle((left, top, left + width, top + height + 5), fill=INK[zone.treatment])
    pen.text((left + 3, top + 1), text, (255, 255, 255), font)
