"""The rubber hose of the synthetic line, the way it takes, and the worm-drive clamp on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.synthetic_canvas import RUBBER, STEEL, ZINC, Bools, Canvas, Floats, Patch, box, cut, noise
from andon.data.synthetic_part import CLIP_FROM_END, HOSE, ROUTE, TOP, Build, Part, zinc


def hose_way(part: Part, build: Build) -> NDArray[np.float64]:
    """The hose's middle line (points, 2) as x, y in part units, from the left edge to its end."""
    knots = np.array(ROUTE, float) + part.sway
    bend = np.array([0, 0, 0.35, 0.9, 1.0, 0.75, 0.1, 0])[:, None]
    knots = knots + bend * np.array(build.hose_detour)
    knots[-1, 0] -= build.hose_gap
    return _through(knots, 9)


def _through(knots: NDArray[np.float64], pieces: int) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the knots."""
    ends = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    a, b, c, d = (ends[i : len(ends) - 3 + i, None] for i in range(4))
    t = (np.arange(pieces) / pieces)[None, :, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.vstack([curve.reshape(-1, 2), knots[-1:]])


def hose_frame(canvas: Canvas, way: NDArray[np.float64]) -> tuple[tuple[slice, slice], Floats, Floats]:
    """A window around the hose; how far each of its points is from the hose's end, and from its middle line.

    Distances in part units, the one from the end growing backwards, the one from the line signed. They are
    smooth near the hose, so they are found on a coarse grid and interpolated.
    """
    columns, rows = canvas.place(way[:, 0], way[:, 1])
    margin, step = 26 * canvas.scale, 8
    top, bottom = (int(np.clip(v, 0, canvas.shape[0])) for v in (rows.min() - margin, rows.max() + margin))
    left, right = (
        int(np.clip(v, 0, canvas.shape[1])) for v in (columns.min() - margin, columns.max() + margin)
    )
    grid_y = np.arange(top - step / 2, bottom + step, step)
    grid_x = np.arange(left - step / 2, right + step, step)
    along, across = _nearest(grid_x, grid_y, np.stack([columns, rows], 1).astype(np.float64))
    window = (slice(top, bottom), slice(left, right))
    size = (len(grid_x) * step, len(grid_y) * step)
    fields = []
    for field in (along, across):
        picture = Image.fromarray((field / canvas.scale).astype(np.float32))
        wide = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        fields.append(wide[step : step + bottom - top, step : step + right - left])
    return window, fields[0], fields[1]


def _nearest(
    x: NDArray[np.float64], y: NDArray[np.float64], way: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each point of a grid: way left to the polyline's end, and signed distance to it."""
    steps = np.diff(way, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    left = np.append(np.cumsum(lengths[::-1])[::-1], 0)
    best = np.full((len(y), len(x)), np.inf)
    along, across = np.zeros_like(best), np.zeros_like(best)
    for i, (step, length) in enumerate(zip(steps / lengths[:, None], lengths, strict=True)):
        dx, dy = x - way[i, 0], (y - way[i, 1])[:, None]
        t = dx * step[0] + dy * step[1]
        u = dy * step[0] - dx * step[1]
        over = np.maximum(np.maximum(-t if i else 0 * t, t - length if i < len(steps) - 1 else 0 * t), 0)
        far = u * u + over * over
        closer = far < best
        best[closer], along[closer], across[closer] = far[closer], (left[i] - t)[closer], u[closer]
    return along, across


def hose_shape(canvas: Canvas, part: Part, build: Build) -> tuple[Bools, Floats]:
    """Where the hose lies, and the signed distance to its middle line (part units; 99 far away), on the canvas."""
    window, along, across = hose_frame(canvas, hose_way(part, build))
    inside = np.zeros(canvas.shape, np.bool_)
    inside[window] = (np.abs(across) < HOSE) & (along > 0)
    distance = np.full(canvas.shape, 99, np.float32)
    distance[window] = across
    return inside, distance


def paint_hose(canvas: Canvas, part: Part, build: Build) -> None:
    """Paint the hose with its printed line, swollen before the clamp."""
    window, along, across = hose_frame(canvas, hose_way(part, build))
    grain = cut(noise((1024, 1024), 2.0, 1.2, 0.3, 9), window, tuple(part.offsets[0]))
    bulge = 1.3 * np.exp(-0.5 * ((along + build.hose_gap - CLIP_FROM_END + 12) / 5) ** 2)
    radius = np.float32(HOSE - 1.0) + bulge.astype(np.float32)
    radius -= np.clip(1.2 - along, 0, 1.2)
    inside = (np.abs(across) < radius) & (along > 0)
    height = TOP + 16 + np.sqrt(np.maximum(radius**2 - across**2, 0)) + np.float32(0.022) * grain
    stripe = np.abs(across / HOSE - np.float32(0.30 + part.stripe)) < 0.075
    tone = 1 + np.float32(0.10) * grain
    ink = (stripe & (np.mod(along + build.hose_gap + part.dash, 46) > 9)).astype(np.float32) * 0.5
    colour = np.stack([tone * (0.012 * (1 - ink) + v * ink) for v in (0.42, 0.40, 0.32)])
    canvas.paint(window, inside, height.astype(np.float32), colour.astype(np.float32), RUBBER)


def _clip_patch(canvas: Canvas, part: Part, build: Build) -> Patch:
    """A window around the clamp, x along the hose and y across it."""
    way = hose_way(part, build)
    steps = np.diff(way, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    left = np.append(np.cumsum(lengths[::-1])[::-1], 0)
    wanted = CLIP_FROM_END + part.clip_slide + build.clip_slide - build.hose_gap
    i = int(np.clip(np.searchsorted(-left, -wanted) - 1, 0, len(steps) - 1))
    place = way[i] + (left[i] - wanted) / lengths[i] * steps[i]
    turn = float(np.arctan2(steps[i, 1], steps[i, 0])) + part.clip_turn + build.clip_turn
    return canvas.patch(float(place[0]), float(place[1]), 34, turn)


def clip_shape(canvas: Canvas, part: Part, build: Build) -> tuple[Patch, Bools]:
    """Where the clamp lies: its band, housing and screw."""
    patch = _clip_patch(canvas, part, build)
    band = box(patch.x, patch.y, (7.5, HOSE + 1.6), 0.5) < 0
    housing = box(patch.x, patch.y - 2, (10.5, 11.0), 2) < 0
    screw = box(patch.x, patch.y - 17, (6.6, 9.0), 1) < 0
    return patch, band | housing | screw


def paint_clip(canvas: Canvas, part: Part, build: Build) -> None:
    """Paint the clamp: a slotted band, its housing, its screw."""
    patch = _clip_patch(canvas, part, build)
    x, y = patch.x, patch.y
    surface = TOP + 17.5 + np.sqrt(np.maximum((HOSE + 1.6) ** 2 - y**2, 0))
    band = box(x, y, (7.5, HOSE + 1.6), 0.5)
    slots = (np.abs(np.mod(y * 1.05 + 0.25 * x, 3.6) - 1.8) < 0.8) & (np.abs(x) < 4.0)
    height = surface + 0.7 * (np.abs(x) > 6.0) - 0.9 * slots
    shade = np.where(slots, 0.05, 0.60)
    canvas.paint(patch.window, band < 0, height.astype(np.float32), np.stack([shade] * 3), STEEL)
    _paint_worm(canvas, patch, float(TOP + 17.5 + HOSE))


def _paint_worm(canvas: Canvas, patch: Patch, crown: float) -> None:
    """The clamp's housing and its slotted hexagonal screw, which lies across the hose."""
    x, y = patch.x, patch.y
    housing = box(x, y - 2, (10.5, 11.0), 2)
    arch = crown + 2 + np.sqrt(np.maximum(11.0**2 - x**2, 0)) * 0.75 - 0.5 * np.maximum(housing + 1.5, 0)
    canvas.paint(patch.window, housing < 0, arch.astype(np.float32), (0.58, 0.58, 0.59), STEEL)
    shank = (np.abs(x) < 4.6) & (np.abs(y - 15.5) < 4)
    height = crown + 3 + np.sqrt(np.maximum(4.6**2 - x**2, 0)) + 0.4 * np.sin(y * 3)
    canvas.paint(patch.window, shank, height.astype(np.float32), (0.45, 0.45, 0.44), STEEL)
    head = box(x, y - 21.5, (6.6, 4.5), 1)
    facets = 6.0 - 1.1 * np.maximum(np.abs(x) - 3.3, 0)
    canvas.paint(patch.window, head < 0, (crown + 2 + facets).astype(np.float32), zinc(1.0), ZINC)
    slot = (np.abs(x) < 1.0) & (y > 23) & (head < 0)
    canvas.colour[:, *patch.window] *= np.where(slot, np.float32(0.25), np.float32(1))
