"""The inspection station and the part on it: belt, rails, a machined bracket, bolts, a port, a label."""

from __future__ import annotations

import numpy as np
from PIL import Image

from andon.data.synthetic_canvas import (
    BELT,
    BLACK,
    CAST,
    PAPER,
    PLATE,
    RAIL,
    STEEL,
    ZINC,
    Bools,
    Canvas,
    Floats,
    Patch,
    box,
    cut,
    hexagon,
    noise,
)
from andon.data.synthetic_hose import paint_clip, paint_hose
from andon.data.synthetic_label import LABEL, engraving, label_picture
from andon.data.synthetic_part import BOLTS, LABEL_PLACE, TOP, WASHER, Build, Part, zinc

_LINEAR = (0.92 * (np.arange(256) / 255) ** 2.2).astype(np.float32)  # printed codes to linear light


def paint_scene(canvas: Canvas, part: Part, build: Build) -> None:
    """Paint the station and the part on it."""
    _paint_belt(canvas, part)
    _paint_plate(canvas, part)
    _paint_engraving(canvas)
    if build.label:
        _paint_label(canvas, part, build)
    for i, kind in enumerate(build.bolts):
        _paint_bolt(canvas, part, i, kind)
    _paint_port(canvas, part)
    paint_hose(canvas, part, build)
    if build.clip:
        paint_clip(canvas, part, build)


# --- the station


def _paint_belt(canvas: Canvas, part: Part) -> None:
    """A woven rubber belt between two aluminium rails."""
    rows, columns = canvas.shape
    window = (slice(0, rows), slice(0, columns))
    grain = cut(noise((1024, 1024), 1.0, 1.0, 0.3, 1), window, tuple(part.offsets[0]))
    wear = cut(noise((1024, 1024), 6.0, 2.0, 1.4, 2), window, tuple(part.offsets[1]))
    y = (np.arange(rows, dtype=np.float32) + part.offsets[0, 0] % 97)[:, None] / np.float32(canvas.scale)
    x = (np.arange(columns, dtype=np.float32) + part.offsets[0, 1] % 97) / np.float32(canvas.scale)
    weave = np.sin(x * np.float32(1.9)) * np.sin(y * np.float32(1.9))
    canvas.height[:] = np.float32(0.24) * weave + np.float32(0.045) * grain
    tone = 1 + np.float32(0.16) * wear + np.float32(0.07) * grain
    for channel, value in zip(canvas.colour, (0.026, 0.038, 0.042), strict=True):
        np.multiply(tone, np.float32(value), out=channel)
    canvas.material[:] = BELT
    _paint_rail(canvas, top=True)
    _paint_rail(canvas, top=False)


def _paint_rail(canvas: Canvas, top: bool) -> None:
    """An extruded aluminium profile along one edge of the picture; it belongs to the station, not the part."""
    rows, columns = canvas.shape
    depth = round(18 * canvas.scale)
    window = (slice(0, depth) if top else slice(rows - depth, rows), slice(0, columns))
    across = np.arange(depth, dtype=np.float32) / np.float32(canvas.scale)
    across = (across if top else across[::-1])[:, None]
    lines = cut(noise((1024, 1024), 60.0, 0.6, 0.0, 3), window, (0, 0))
    groove = (np.abs(across - 8) < 2.6).astype(np.float32)
    height = 16 - 1.5 * np.maximum(across - 16, 0) - 7 * groove + np.float32(0.03) * lines
    colour = np.stack([np.full_like(height, v) * (1 - 0.55 * groove) for v in (0.42, 0.43, 0.45)])
    canvas.paint(
        window, np.ones(height.shape, np.bool_), height.astype(np.float32), colour.astype(np.float32), RAIL
    )


# --- the bracket


def _paint_plate(canvas: Canvas, part: Part) -> None:
    """Brushed, chamfered all around, one corner cut off."""
    patch = canvas.patch(281, 220, (132, 200))
    outline = box(patch.x, patch.y, (189, 120), 15)
    corner = np.float32(-0.72) * patch.x - np.float32(0.69) * patch.y - np.float32(178)
    shape = np.maximum(outline, corner)
    brush = cut(noise((1024, 1024), 110.0, 0.55, 0.0, 4), patch.window, tuple(part.offsets[2]))
    cloud = cut(noise((1024, 1024), 12.0, 8.0, 1.2, 5), patch.window, tuple(part.offsets[3]))
    fine = cut(noise((1024, 1024), 9.0, 0.5, 0.0, 6), patch.window, tuple(part.offsets[3]))
    height = np.clip(shape + np.float32(2.4), 0, 2.4) * np.float32(-0.95) + np.float32(TOP)
    height += np.float32(0.022) * brush + np.float32(0.012) * fine
    tone = np.float32(part.tone) * (1 + np.float32(0.035) * brush + np.float32(0.025) * cloud)
    colour = np.stack([tone * np.float32(v) for v in (0.575, 0.580, 0.590)])
    inside = shape < 0
    slot = canvas.patch(239, 189, 46)
    hole = canvas.whole(slot, box(slot.x, slot.y, (38, 6), 6) < 0)[patch.window]
    canvas.paint(patch.window, inside & ~hole, height, colour, PLATE)
    _chamfer_slot(canvas, slot)
    _mill_pocket(canvas, part)
    _smear(canvas, part)
    for x, y in BOLTS:
        _spot_face(canvas, x, y)


def _chamfer_slot(canvas: Canvas, patch: Patch) -> None:
    edge = box(patch.x, patch.y, (38, 6), 6)
    on = (edge >= 0) & (edge < 2)
    canvas.height[patch.window] -= np.where(on, (2 - edge) * np.float32(0.9), np.float32(0))


def _smear(canvas: Canvas, part: Part) -> None:
    """The faint mark of a wiped finger; good parts have it."""
    across, down, turn, strength = part.smudge
    patch = canvas.patch(120 + 300 * float(across), 110 + 210 * float(down), 44, float(turn) * np.pi)
    film = np.exp(-((patch.x / 30) ** 2) - (patch.y / 9) ** 2) * (1 + 0.35 * np.sin(patch.y * 2.1))
    tone = (1 - 0.06 * float(strength) * film).astype(np.float32)
    canvas.colour[:, *patch.window] *= np.where(canvas.material[patch.window] == PLATE, tone, np.float32(1))


def _mill_pocket(canvas: Canvas, part: Part) -> None:
    """A pocket: the arcs that the mill left on its floor, and two ribs."""
    patch = canvas.patch(357, 262, 58)
    pocket = box(patch.x, patch.y, (42, 55), 13)
    canvas.height[patch.window] -= np.clip(-pocket * np.float32(1.6), 0, 7)
    canvas.colour[:, *patch.window] *= np.where(pocket < -4, np.float32(0.9), np.float32(1))
    floor = box(patch.x, patch.y, (37, 50), 9) < 0
    arcs = np.hypot(patch.x + 40 + part.stripe * 8, patch.y)
    height = canvas.height[patch.window]
    height += np.where(floor, np.float32(0.11) * np.sin(arcs * np.float32(2.3)), np.float32(0))
    for middle in (-17.0, 17.0):
        rib = box(patch.x, patch.y - middle, (41, 3.2), 1)
        np.maximum(height, np.where(rib < 0, TOP - 2.2 - np.maximum(rib + 1.6, 0), 0), out=height)


def _spot_face(canvas: Canvas, x: float, y: float) -> None:
    """A turned seat with rings, and the threaded hole in it."""
    patch = canvas.patch(x, y, 25)
    radius = np.hypot(patch.x, patch.y)
    depth = np.clip((22.5 - radius) * 1.2, 0, 1.6) - 0.10 * np.sin(radius * 3.1) * (radius < 21)
    canvas.height[patch.window] -= depth.astype(np.float32)
    hole = radius < 8.2
    thread = np.clip((8.2 - radius) * 2.2, 0, 13).astype(np.float32)
    angle = np.arctan2(patch.y, patch.x)
    thread += (0.5 * np.sin(radius * 4.4 + angle)).astype(np.float32)
    canvas.height[patch.window] -= np.where(hole, thread, np.float32(0))
    dark = np.where(radius < 5.2, np.float32(0.10), np.float32(0.45))
    for channel in canvas.colour:
        np.copyto(channel[patch.window], channel[patch.window] * dark, where=hole)


def _paint_engraving(canvas: Canvas) -> None:
    _press(canvas, "4F-7731-B  REV C", 8.5, (357, 329), 0.6)
    _press(canvas, "2", 12.0, (330, 196), 0.6)


def _press(canvas: Canvas, words: str, size: float, place: tuple[float, float], depth: float) -> None:
    resolution = canvas.scale
    picture = engraving(words, size, resolution)
    patch = canvas.patch(*place, picture.width / 2 / resolution + 1)
    if min(patch.x.shape) < 2:
        return
    pressed = np.asarray(_laid(picture, patch, resolution), np.float32) / 255
    canvas.height[patch.window] -= pressed * np.float32(depth)
    for channel in canvas.colour:
        channel[patch.window] *= 1 - np.float32(0.5) * pressed


def _laid(picture: Image.Image, patch: Patch, resolution: float) -> Image.Image:
    """A picture laid with its middle on the patch's origin; black where it does not reach."""
    x, y = patch.x, patch.y
    right = ((x[0, 1] - x[0, 0]) * resolution, (y[0, 1] - y[0, 0]) * resolution)
    down = ((x[1, 0] - x[0, 0]) * resolution, (y[1, 0] - y[0, 0]) * resolution)
    start = (x[0, 0] * resolution + picture.width / 2, y[0, 0] * resolution + picture.height / 2)
    # Pillow asks for pixel corners, the patch holds pixel centres.
    start = tuple(s - (r + d) / 2 for s, r, d in zip(start, right, down, strict=True))
    affine = tuple(float(v) for v in (right[0], down[0], start[0], right[1], down[1], start[1]))
    return picture.transform(x.shape[::-1], Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


# --- the label


def label_shape(canvas: Canvas, part: Part, build: Build) -> tuple[Patch, Bools]:
    """Where the label lies."""
    x = LABEL_PLACE[0] + part.label_shift[0] + build.label_shift[0]
    y = LABEL_PLACE[1] + part.label_shift[1] + build.label_shift[1]
    patch = canvas.patch(x, y, 92, part.label_turn + build.label_turn)
    return patch, box(patch.x, patch.y, (LABEL[1] / 2, LABEL[0] / 2), 4) < 0


def _paint_label(canvas: Canvas, part: Part, build: Build) -> None:
    patch, inside = label_shape(canvas, part, build)
    resolution = canvas.scale * 1.5
    if min(inside.shape) < 2:
        return
    laid = np.asarray(_laid(label_picture(part.text, resolution), patch, resolution))
    ink = np.moveaxis(_LINEAR[laid], 2, 0)
    curl = cut(noise((1024, 1024), 30.0, 30.0, 1.0, 7), patch.window, tuple(part.offsets[1]))
    height = TOP + 0.7 + np.float32(0.10) * curl
    canvas.paint(patch.window, inside, height.astype(np.float32), ink, PAPER)


# --- bolts


def bolt_shape(canvas: Canvas, bolt: int) -> tuple[Patch, Bools]:
    """Where a bolt with its washer lies."""
    patch = canvas.patch(*BOLTS[bolt], 26)
    return patch, np.hypot(patch.x, patch.y) < WASHER


def _paint_bolt(canvas: Canvas, part: Part, bolt: int, kind: str) -> None:
    if kind == "none":
        return
    patch = canvas.patch(*BOLTS[bolt], 26, float(part.bolt_turns[bolt]))
    radius = np.hypot(patch.x, patch.y)
    tone = float(part.bolt_tones[bolt])
    seat = TOP - 1.6
    ring = seat + 2.6 - 0.5 * np.maximum(radius - 16.3, 0) + 0.03 * np.sin(radius * 5)
    canvas.paint(patch.window, radius < WASHER, ring.astype(np.float32), zinc(tone * 0.92), ZINC)
    _HEADS[kind](canvas, patch, radius, seat + 2.6, tone)


def _hex_head(canvas: Canvas, patch: Patch, radius: Floats, seat: float, tone: float) -> None:
    flat = hexagon(patch.x, patch.y, 11.6)
    top = seat + 9.5 - 0.50 * np.maximum(radius - 10.2, 0) - 0.35 * np.maximum(flat + 0.8, 0)
    angle = np.arctan2(patch.y, patch.x)
    top += 0.45 * ((np.abs(np.sin(1.5 * angle)) * radius < 0.9) & (radius > 3.2) & (radius < 8.2))
    top += 0.05 * np.sin(radius * 3.3)
    canvas.paint(patch.window, flat < 0, top.astype(np.float32), zinc(tone), ZINC)


def _socket_head(canvas: Canvas, patch: Patch, radius: Floats, seat: float, tone: float) -> None:
    knurl = 0.35 * np.cos(36 * np.arctan2(patch.y, patch.x)) * (radius > 9.6)
    top = seat + 12 - 1.1 * np.maximum(radius - 9.4, 0)
    key = hexagon(patch.x, patch.y, 5.2)
    top = np.where(key < 0, seat + 3, top)
    dark = (0.022 * tone, 0.022 * tone, 0.024 * tone)
    canvas.paint(patch.window, radius < 11.2 + knurl, top.astype(np.float32), dark, BLACK)
    canvas.colour[:, *patch.window] *= np.where(key < 0, np.float32(0.35), np.float32(1))


def _pan_head(canvas: Canvas, patch: Patch, radius: Floats, seat: float, tone: float) -> None:
    top = seat + 7.5 - 0.030 * radius**2
    arm = np.minimum(np.abs(patch.x), np.abs(patch.y))
    cross = (arm < 1.7 - 0.08 * radius) & (radius < 7.0)
    top = np.where(cross, top - 3.5, top)
    canvas.paint(patch.window, radius < 12.4, top.astype(np.float32), zinc(tone), ZINC)
    canvas.colour[:, *patch.window] *= np.where(cross, np.float32(0.4), np.float32(1))


def _small_head(canvas: Canvas, patch: Patch, radius: Floats, seat: float, tone: float) -> None:
    flat = hexagon(patch.x, patch.y, 9.4)
    top = seat + 7 - 0.62 * np.maximum(radius - 8.6, 0)
    canvas.paint(patch.window, flat < 0, top.astype(np.float32), zinc(tone), ZINC)


_HEADS = {"hex": _hex_head, "socket": _socket_head, "pan": _pan_head, "small": _small_head}


# --- the port


def _paint_port(canvas: Canvas, part: Part) -> None:
    """A cast body with a plug on top, and the pipe that the hose is pushed on."""
    patch = canvas.patch(388, 148, 76)
    grain = cut(noise((1024, 1024), 1.6, 1.6, 0.2, 8), patch.window, tuple(part.offsets[2]))
    pipe = np.abs(patch.y)
    bead = 1.6 * np.exp(-0.5 * ((patch.x + 62) / 2.0) ** 2) + 2.4 * np.exp(-0.5 * ((patch.x + 46) / 1.8) ** 2)
    radius = (11.5 + bead).astype(np.float32)
    inside = (pipe < radius) & (patch.x > -68) & (patch.x < -30)
    height = TOP + 18 + np.sqrt(np.maximum(radius**2 - patch.y**2, 0))
    canvas.paint(patch.window, inside, height.astype(np.float32), (0.50, 0.50, 0.49), STEEL)
    body = box(patch.x - 4, patch.y, (42, 34), 9)
    height = TOP + 22 - np.clip(body + 4, 0, 4) * 1.3 + np.float32(0.10) * grain
    tone = 0.36 * (1 + 0.05 * grain)
    canvas.paint(patch.window, body < 0, height.astype(np.float32), np.stack([tone] * 3), CAST)
    collar = box(patch.x + 38, patch.y, (6, 19), 3)
    height = TOP + 25 + np.sqrt(np.maximum(20.0**2 - patch.y**2, 0)) * 0.6
    canvas.paint(patch.window, collar < 0, height.astype(np.float32), (0.34, 0.34, 0.35), CAST)
    _paint_plug(canvas)


def _paint_plug(canvas: Canvas) -> None:
    patch = canvas.patch(402, 148, 26, 0.35)
    radius = np.hypot(patch.x, patch.y)
    ring = TOP + 25 - 0.9 * np.maximum(radius - 20, 0) + 0.05 * np.sin(radius * 4)
    canvas.paint(patch.window, radius < 22, ring.astype(np.float32), (0.50, 0.40, 0.22), ZINC)
    socket = hexagon(patch.x, patch.y, 9.0)
    height = TOP + 25 - np.clip(-socket * 3, 0, 8)
    colour = np.where(socket < -2, 0.10, 0.34)
    canvas.paint(
        patch.window,
        socket < 0,
        height.astype(np.float32),
        np.stack([colour, colour * 0.8, colour * 0.45]),
        ZINC,
    )
