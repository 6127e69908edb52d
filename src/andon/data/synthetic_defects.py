"""The defects of the synthetic line: what is built wrongly, and what happens to a surface.

Logical defects change the `Build`; their mask is the area where the object should be (and where it is
instead), as in MVTec LOCO. Structural defects are stamped on the painted canvas; their mask is what they changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from andon.data.synthetic_canvas import BELT, DIRT, PLATE, RUBBER, RUST, Bools, Canvas, Floats, Patch, noise
from andon.data.synthetic_hose import clip_shape, hose_frame, hose_shape, hose_way
from andon.data.synthetic_part import HOSE, TOP, Build, Part
from andon.data.synthetic_scene import bolt_shape, label_shape


@dataclass(frozen=True)
class DefectType:
    """One kind of defect. ``saturation`` is a fraction of the mask, or pixels of the default 384 x 512 image."""

    kind: Literal["structural", "logical"]
    description: str
    saturation: float = 1.0
    relative_saturation: bool = True


DEFECTS: dict[str, DefectType] = {
    "scratch": DefectType("structural", "a long, thin scratch across the bracket's brushed face"),
    "dent": DefectType("structural", "a shallow dent with a raised rim in the bracket"),
    "rust": DefectType("structural", "a patch of rust, or of oil that went brown, on the bracket", 0.7),
    "contamination": DefectType("structural", "metal chips left on the bracket"),
    "hose_crack": DefectType("structural", "the hose's rubber is cracked"),
    "missing_bolt": DefectType("logical", "one of the four bolts and its washer are missing", 600, False),
    "wrong_bolt": DefectType("logical", "one bolt has another head than the drawing says", 300, False),
    "missing_clip": DefectType("logical", "the hose clamp is missing", 0.6),
    "displaced_clip": DefectType("logical", "the hose clamp sits away from its place", 0.4),
    "missing_label": DefectType("logical", "the part bears no label", 0.5),
    "askew_label": DefectType("logical", "the label is stuck on askew", 0.5),
    "unseated_hose": DefectType("logical", "the hose is not pushed fully on its port", 0.5),
    "misrouted_hose": DefectType("logical", "the hose takes another way over the bracket", 0.4),
}

_GOOD = Build()


def plan(name: str | None, severity: float, rng: np.random.Generator) -> Build:
    """How the part is put together when it has this defect; a good `Build` for structural ones."""
    return _PLANS[name](severity, rng) if name in _PLANS else _GOOD


def mark(
    name: str, severity: float, rng: np.random.Generator, canvas: Canvas, part: Part, build: Build
) -> Bools:
    """The defect's mask on the canvas; structural defects are stamped on it now."""
    if name in _STAMPS:
        return _STAMPS[name](severity, rng, canvas, part)
    return _AREAS[name](canvas, part, build)


# --- logical: what is built


def _one_bolt(kinds: tuple[str, ...], rng: np.random.Generator) -> Build:
    bolts = list(_GOOD.bolts)
    bolts[int(rng.integers(len(bolts)))] = str(kinds[int(rng.integers(len(kinds)))])
    return replace(_GOOD, bolts=tuple(bolts))


def _wrong_bolt(severity: float, rng: np.random.Generator) -> Build:
    return _one_bolt(("socket", "pan") if severity > 0.6 else ("pan",) if severity > 0.3 else ("small",), rng)


def _askew_label(severity: float, rng: np.random.Generator) -> Build:
    side = 1 if rng.random() < 0.5 else -1
    turn = np.radians(4 + 18 * severity) * side
    return replace(
        _GOOD, label_turn=float(turn), label_shift=(float(rng.uniform(-5, 5)), float(rng.uniform(-3, 3)))
    )


def _displaced_clip(severity: float, rng: np.random.Generator) -> Build:
    turn = np.radians(rng.uniform(-6, 6) * (1 + severity))
    return replace(_GOOD, clip_slide=float(20 + 70 * severity), clip_turn=float(turn))


def _misrouted_hose(severity: float, rng: np.random.Generator) -> Build:
    return replace(_GOOD, hose_detour=(float(rng.uniform(-14, 4)), float(18 + 48 * severity)))


_PLANS: dict[str, Callable[[float, np.random.Generator], Build]] = {
    "missing_bolt": lambda severity, rng: _one_bolt(("none",), rng),
    "wrong_bolt": _wrong_bolt,
    "missing_clip": lambda severity, rng: replace(_GOOD, clip=False),
    "displaced_clip": _displaced_clip,
    "missing_label": lambda severity, rng: replace(_GOOD, label=False),
    "askew_label": _askew_label,
    "unseated_hose": lambda severity, rng: replace(_GOOD, hose_gap=float(7 + 16 * severity)),
    "misrouted_hose": _misrouted_hose,
}


# --- logical: where it should be, and where it is


def _bolt_area(canvas: Canvas, part: Part, build: Build) -> Bools:
    bolt = next(i for i, kind in enumerate(build.bolts) if kind != "hex")
    return canvas.whole(*bolt_shape(canvas, bolt))


def _clip_area(canvas: Canvas, part: Part, build: Build) -> Bools:
    area = canvas.whole(*clip_shape(canvas, part, _GOOD))
    return area | canvas.whole(*clip_shape(canvas, part, build)) if build.clip else area


def _label_area(canvas: Canvas, part: Part, build: Build) -> Bools:
    area = canvas.whole(*label_shape(canvas, part, _GOOD))
    return area | canvas.whole(*label_shape(canvas, part, build)) if build.label else area


def _seat_area(canvas: Canvas, part: Part, build: Build) -> Bools:
    window, along, across = hose_frame(canvas, hose_way(part, _GOOD))
    full = np.zeros(canvas.shape, np.bool_)
    full[window] = (np.abs(across) < HOSE) & (along > 0) & (along < build.hose_gap)
    return full


def _hose_area(canvas: Canvas, part: Part, build: Build) -> Bools:
    """Where the hose should be and where it is, without the part of its way that it kept to."""
    planned, planned_across = hose_shape(canvas, part, _GOOD)
    taken, taken_across = hose_shape(canvas, part, build)
    return (planned | taken) & (np.abs(planned_across - taken_across) > 2.5)


_AREAS: dict[str, Callable[[Canvas, Part, Build], Bools]] = {
    "missing_bolt": _bolt_area,
    "wrong_bolt": _bolt_area,
    "missing_clip": _clip_area,
    "displaced_clip": _clip_area,
    "missing_label": _label_area,
    "askew_label": _label_area,
    "unseated_hose": _seat_area,
    "misrouted_hose": _hose_area,
}


# --- structural: what is stamped


def _spot(canvas: Canvas, rng: np.random.Generator, margin: float, depth: float = 99) -> tuple[float, float]:
    """A place (x, y) in part units on the bare bracket, away from everything by ``margin`` if there is one.

    What lies more than ``depth`` under the bracket's face does not count as bare.
    """
    best, place = -1.0, (300.0, 196.0)
    for _ in range(60):
        x, y = float(rng.uniform(80, 462)), float(rng.uniform(80, 340))
        patch = canvas.patch(x, y, margin)
        bare = (canvas.material[patch.window] == PLATE) & (canvas.height[patch.window] > TOP - depth)
        share = float(bare.mean()) if bare.size else 0.0
        if share > best:
            best, place = share, (x, y)
        if share == 1.0:
            break
    return place


def _stamp(
    canvas: Canvas, patch: Patch, on: Bools, relief: Floats, cover: Floats, colour: tuple[float, ...]
) -> None:
    """Add relief, and blend a colour in by ``cover``, where ``on``."""
    canvas.height[patch.window] += np.where(on, relief, np.float32(0)).astype(np.float32)
    for channel, value in zip(canvas.colour, colour, strict=True):
        piece = channel[patch.window]
        piece += np.where(on, cover * (np.float32(value) - piece), np.float32(0)).astype(np.float32)


def _scratch(severity: float, rng: np.random.Generator, canvas: Canvas, part: Part) -> Bools:
    x, y = _spot(canvas, rng, 11, depth=2)
    length, width = 22 + 48 * severity, 0.55 + 0.75 * severity
    patch = canvas.patch(x, y, length + 4, float(rng.uniform(0, np.pi)))
    bow = rng.uniform(-0.004, 0.004)
    across = patch.y - bow * patch.x**2 - 0.6 * np.sin(patch.x * rng.uniform(0.05, 0.12))
    taper = np.sqrt(np.clip(1 - (patch.x / length) ** 2, 0, 1)) * (0.8 + 0.2 * np.sin(patch.x * 0.17 + y))
    wide = np.maximum(width * taper, 0.05)
    groove = -0.9 * np.exp(-((across / wide) ** 2)) + 0.35 * np.exp(
        -(((np.abs(across) - 1.9 * wide) / wide) ** 2)
    )
    on = (canvas.material[patch.window] == PLATE) & (np.abs(patch.x) < length) & (np.abs(across) < 3.2 * wide)
    bright = 0.75 * np.exp(-((across / wide) ** 2)) * (0.4 + 0.6 * severity)
    colour = (0.10, 0.09, 0.08) if rng.random() < 0.35 else (0.98, 0.98, 1.0)  # dirt in it, or bare metal
    _stamp(canvas, patch, on, groove * (0.4 + 0.6 * severity), bright, colour)
    return canvas.whole(patch, on & (np.abs(across) < np.maximum(2.2 * wide, 0.8)))


def _dent(severity: float, rng: np.random.Generator, canvas: Canvas, part: Part) -> Bools:
    radius = 6 + 8 * severity
    patch = canvas.patch(*_spot(canvas, rng, radius * 1.3), radius * 2.4, float(rng.uniform(0, np.pi)))
    away = np.hypot(patch.x / 1.15, patch.y * 1.15) / radius
    bowl = -np.exp(-((away / 0.62) ** 4)) + 0.16 * np.exp(-(((away - 1.05) / 0.22) ** 2))
    on = (canvas.material[patch.window] == PLATE) & (away < 1.7)
    depth = radius * (0.10 + 0.16 * severity)
    _stamp(canvas, patch, on, bowl * depth, np.zeros_like(away), (0, 0, 0))
    return canvas.whole(patch, on & (away < 1.25))


def _rust(severity: float, rng: np.random.Generator, canvas: Canvas, part: Part) -> Bools:
    radius = 9 + 17 * severity
    patch = canvas.patch(*_spot(canvas, rng, radius * 0.8), radius * 2)
    rows, columns = int(rng.integers(512)), int(rng.integers(512))
    window = (slice(rows, rows + patch.x.shape[0]), slice(columns, columns + patch.x.shape[1]))
    cloud = np.tile(noise((512, 512), 3.0, 3.0, 1.3, 11), (3, 3))[window]
    cloud = cloud - cloud[np.hypot(patch.x, patch.y) < radius / 2].mean()
    speck = np.tile(noise((512, 512), 1.2, 1.2, 0.4, 12), (3, 3))[window]
    level = 1 - np.hypot(patch.x, patch.y) / radius + 0.34 * cloud + 0.05 * speck
    cover = np.clip(level * 1.8, 0, 1) * (0.45 + 0.50 * severity)
    cover = np.where(cover > 0.35, np.sqrt(cover), cover)  # what no longer shines is covered well
    on = (canvas.material[patch.window] == PLATE) & (cover > 0)
    tone = np.clip(1.25 + 0.22 * speck + 0.18 * cloud - 0.45 * np.clip(level, 0, 1.4), 0.35, 1.9).astype(
        np.float32
    )
    _stamp(canvas, patch, on, 0.16 * speck * cover, cover, (0.0, 0.0, 0.0))
    for channel, value in zip(canvas.colour, (0.150, 0.052, 0.016), strict=True):
        channel[patch.window] += np.where(on, cover * tone * value, 0).astype(np.float32)
    canvas.material[patch.window][on & (cover > 0.35)] = RUST
    return canvas.whole(patch, on & (cover > 0.12))


def _contamination(severity: float, rng: np.random.Generator, canvas: Canvas, part: Part) -> Bools:
    """One to four curled chips of metal or plastic."""
    x, y = _spot(canvas, rng, 16)
    mask = np.zeros(canvas.shape, np.bool_)
    colours = ((0.78, 0.80, 0.84), (0.62, 0.44, 0.16), (0.03, 0.03, 0.035))
    colour = colours[int(rng.integers(len(colours)))]
    for _ in range(1 + int(3 * severity)):
        place = (x + float(rng.normal(0, 8)), y + float(rng.normal(0, 8)))
        bend, half = float(rng.uniform(4.0, 7.5)) * (0.8 + 0.8 * severity), float(rng.uniform(1.1, 2.3))
        patch = canvas.patch(*place, bend + 4, float(rng.uniform(0, 2 * np.pi)))
        ring = np.abs(np.hypot(patch.x, patch.y) - bend)
        angle = np.arctan2(patch.y, patch.x)
        thick = (1.2 + 1.0 * severity) * np.sqrt(np.clip(1 - (angle / half) ** 2, 0, 1))
        on = (ring < thick) & (canvas.material[patch.window] == PLATE)
        ground = float(np.median(canvas.height[patch.window]))
        lift = ground + 2.0 + 1.6 * np.sqrt(np.clip(thick**2 - ring**2, 0, None)) + 2.2 * np.abs(angle)
        canvas.paint(patch.window, on, lift.astype(np.float32), colour, DIRT)
        mask[patch.window] |= on
    return mask


def _hose_crack(severity: float, rng: np.random.Generator, canvas: Canvas, part: Part) -> Bools:
    """Cracks across the hose, dark inside, with light, torn lips."""
    window, along, across = hose_frame(canvas, hose_way(part, _GOOD))
    patch = Patch(window, along, across)
    middle, side = float(rng.uniform(75, 235)), float(rng.uniform(-0.35, 0.35)) * HOSE
    mask = np.zeros(along.shape, np.bool_)
    for i in range(1 + int(2.4 * severity)):
        reach = (5.0 + 9.0 * severity) * (1.0 if i == 0 else 0.6)
        place = middle + i * float(rng.uniform(8, 12)) * (1 if i % 2 else -1)
        phase = float(rng.uniform(0, 6))
        jag = 1.1 * np.sin(across * 0.45 + phase) + 0.45 * np.sin(across * 1.5 + 2 * phase)
        away = np.abs(along - place - jag)
        wide = (0.8 + 1.0 * severity) * np.sqrt(np.clip(1 - ((across - side) / reach) ** 2, 0, 1))
        on = (away < 2.4 * wide) & (canvas.material[window] == RUBBER) & (wide > 0.2)
        gap = np.exp(-((away / np.maximum(wide, 0.1)) ** 4))
        lip = np.exp(-(((away - 1.6 * wide) / np.maximum(0.5 * wide, 0.1)) ** 2))
        _stamp(canvas, patch, on, 0.7 * lip - 3.5 * gap, (0.3 + 0.5 * severity) * lip, (0.16, 0.15, 0.14))
        _stamp(canvas, patch, on, np.zeros_like(gap), 0.95 * gap, (0.001, 0.001, 0.001))
        canvas.material[window][on & (gap > 0.5)] = BELT
        mask |= on
    full = np.zeros(canvas.shape, np.bool_)
    full[window] = mask
    return full


_STAMPS: dict[str, Callable[[float, np.random.Generator, Canvas, Part], Bools]] = {
    "scratch": _scratch,
    "dent": _dent,
    "rust": _rust,
    "contamination": _contamination,
    "hose_crack": _hose_crack,
}
