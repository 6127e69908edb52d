"""The lamps and the camera: from a painted canvas to a photograph.

Lamps are a soft box above on the left, a strip on the right and a dim hall. A point's light depends on its
normal and material alone, so that it is a table look-up; shadows and occlusion come from the height at a
quarter of the resolution. All of it in linear light, then the sensor, then the tone curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.synthetic_canvas import SUPERSAMPLING, Canvas, Floats, box_blur

_AZIMUTH = np.radians(235.0)  # where the soft box stands in the tables
_BINS = 512  # normals a side of the table
_COARSE = 4  # canvas pixels a pixel of the shadow map
_STEP = 1.5  # pixels of the shadow map a step towards the lamp

# (share that mirrors as metal does, roughness, strength of the clear gloss, strength of the brushed sheen),
# in the order of the materials
_MATERIALS = (
    (0.0, 0.60, 0.030, 0.0),  # BELT
    (1.0, 0.34, 0.0, 0.3),  # RAIL
    (1.0, 0.26, 0.0, 1.0),  # PLATE
    (0.7, 0.45, 0.0, 0.0),  # CAST
    (1.0, 0.15, 0.0, 0.0),  # ZINC
    (0.1, 0.28, 0.035, 0.0),  # BLACK
    (0.0, 0.24, 0.085, 0.0),  # RUBBER
    (1.0, 0.10, 0.0, 0.0),  # STEEL
    (0.0, 0.40, 0.030, 0.0),  # PAPER
    (0.0, 0.60, 0.010, 0.0),  # RUST
    (0.0, 0.30, 0.060, 0.0),  # DIRT
)


@dataclass(frozen=True)
class Lamps:
    """The light of one shot."""

    intensity: float
    colour: tuple[float, float, float]
    azimuth: float  # radians; where the soft box stands
    gradient: tuple[float, float]  # change of brightness from the middle to the lower and to the right edge


@dataclass(frozen=True)
class Camera:
    """The optics and the sensor of one shot."""

    defocus: float  # deviation of the blur, in image pixels
    noise: float  # deviation of the noise at full white, linear light
    seed: np.random.SeedSequence


def lamps_at(light: float, flicker: tuple[float, float, float]) -> Lamps:
    """The lamps at ``light`` of their drift: 0 in the morning, 1 in the evening, warmer, dimmer, turned.

    >>> lamps_at(0.0, (0, 0, 0)).intensity > lamps_at(1.0, (0, 0, 0)).intensity
    True
    """
    warmth = 0.12 * (light - 0.5) + 0.010 * flicker[1]
    turn = np.radians(215.0 + 40.0 * light + 2.0 * flicker[2])
    return Lamps(
        intensity=(1.10 - 0.22 * light) * (1 + 0.012 * flicker[0]),
        colour=(1 + warmth, 1 + 0.15 * warmth, 1 - warmth),
        azimuth=float(turn),
        gradient=(float(0.16 * np.sin(turn)), float(0.16 * np.cos(turn))),
    )


def photograph(canvas: Canvas, lamps: Lamps, camera: Camera) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 that the camera takes of the canvas."""
    light = _reduced(_shaded(canvas, lamps))
    light = _blurred(light, camera.defocus * canvas.scale / SUPERSAMPLING)
    generator = np.random.default_rng(camera.seed)
    grain = generator.standard_normal(light.shape, dtype=np.float32)
    light += grain * (camera.noise * np.sqrt(np.maximum(light, 0) + np.float32(0.02)))
    codes = np.clip(light * 2047, 0, 4095).astype(np.uint16)
    return np.ascontiguousarray(np.moveaxis(_tone_curve()[codes], 0, 2))


def as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The image (H, W, 3) as it is after JPEG compression."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _shaded(canvas: Canvas, lamps: Lamps) -> Floats:
    """Linear light (3, rows, columns) that leaves every point towards the camera."""
    mirror, gloss = _tables()
    index = _table_index(canvas, lamps.azimuth - _AZIMUTH)
    field = _field(canvas, lamps)
    base = np.take(mirror, index) * field
    sheen = np.take(gloss, index) * field
    out = np.empty_like(canvas.colour)
    for channel, gain in enumerate(lamps.colour):
        np.multiply(canvas.colour[channel], base, out=out[channel])
        out[channel] += sheen
        out[channel] *= np.float32(gain * lamps.intensity)
    return out


def _table_index(canvas: Canvas, turn: float) -> NDArray[np.int32]:
    """The entry of the tables for every point: material, then normal, as seen in a hall turned by ``turn``."""
    rows, columns = canvas.shape
    slope_y = np.empty(canvas.shape, np.float32)
    slope_x = np.empty(canvas.shape, np.float32)
    half = np.float32(canvas.scale / 2)
    slope_y[1:-1] = (canvas.height[2:] - canvas.height[:-2]) * half
    slope_x[:, 1:-1] = (canvas.height[:, 2:] - canvas.height[:, :-2]) * half
    slope_y[[0, -1]] = slope_y[[1, -2]]
    slope_x[:, [0, -1]] = slope_x[:, [1, -2]]
    length = np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
    # The camera is near: a flat surface mirrors another place of the hall at every point.
    lean_x = np.linspace(-0.17, 0.17, columns, dtype=np.float32)
    lean_y = np.linspace(-0.14, 0.14, rows, dtype=np.float32)[:, None]
    ny, nx = lean_y - slope_y / length, lean_x - slope_x / length
    middle = np.float32(_BINS / 2)
    cos, sin = middle * np.float32(np.cos(turn)), middle * np.float32(np.sin(turn))
    i = np.clip(cos * ny - sin * nx + middle, 0, _BINS - 1).astype(np.int32)
    j = np.clip(cos * nx + sin * ny + middle, 0, _BINS - 1).astype(np.int32)
    return (canvas.material.astype(np.int32) * _BINS + i) * _BINS + j


@lru_cache(maxsize=1)
def _tables() -> tuple[Floats, Floats]:
    """Light returned by colour, and by gloss, for every material and normal, flattened."""
    axis = np.linspace(-1, 1, _BINS, dtype=np.float32)
    nx, ny = axis[None], axis[:, None]
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    lx, ly, lz = 0.62 * np.cos(_AZIMUTH), 0.62 * np.sin(_AZIMUTH), 0.78
    diffuse = 0.85 * np.maximum(nx * lx + ny * ly + nz * lz, 0) + 0.22 * (0.45 + 0.55 * nz)
    mirror, gloss = [], []
    # A face brushed along the rows spreads a lamp across them, into a band.
    band = np.exp(-(((2 * nz * nx + 0.10) / 0.15) ** 2)) * np.maximum(nz, 0) ** 4
    for metal, roughness, coat, sheen in _MATERIALS:
        hall = _hall(nx, ny, nz, (lx, ly), roughness)
        mirror.append(metal * hall + (1 - metal) * diffuse + 0.30 * sheen * band)
        gloss.append(coat * hall)
    return np.stack(mirror).ravel().astype(np.float32), np.stack(gloss).ravel().astype(np.float32)


def _hall(nx: Floats, ny: Floats, nz: Floats, lamp: tuple[float, float], roughness: float) -> Floats:
    """What a surface of this normal mirrors: walls, the soft box, the strip."""
    rx, ry, rz = 2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1
    walls = 0.34 - 0.18 * ry + 0.05 * rx
    floor = 1 / (1 + np.exp(-(rz + 0.05) / (0.10 + roughness)))
    soft_box = _panel(rx - 1.05 * lamp[0], ry - 1.05 * lamp[1], (0.34, 0.28), roughness)
    strip = _panel(rx - 0.78, ry + 0.05, (0.10, 0.55), roughness)
    return walls * (0.25 + 0.75 * floor) + floor * (2.4 * soft_box + 1.0 * strip)


def _panel(x: Floats, y: Floats, half: tuple[float, float], roughness: float) -> Floats:
    """A lamp's panel as a rough mirror shows it: its edges as soft as the surface is rough, its light kept."""
    soft = 0.45 * roughness + 0.01
    wide = [h + 0.6 * soft for h in half]
    level = (half[0] * half[1]) / (wide[0] * wide[1])
    sides = [
        1 / (1 + np.exp(np.clip((np.abs(v) - h) / soft, -30, 30))) for v, h in zip((x, y), wide, strict=True)
    ]
    return level * sides[0] * sides[1]


def _field(canvas: Canvas, lamps: Lamps) -> Floats:
    """Brightness (rows, columns) by shadow, occlusion, the lamps' gradient and the lens's fall-off."""
    rows, columns = canvas.shape
    coarse = (max(1, columns // _COARSE), max(1, rows // _COARSE))
    low = np.asarray(Image.fromarray(canvas.height).resize(coarse, Image.Resampling.BOX))
    unit = canvas.scale / _COARSE  # pixels of the shadow map a part unit
    shade = 1 - 0.70 * _shadow(low, lamps.azimuth, unit)
    near = np.maximum(box_blur(low, max(1, round(3 * unit))) - low, 0)
    far = np.maximum(box_blur(low, max(1, round(10 * unit))) - low, 0)
    shade *= np.maximum(1 - near / 26 - far / 40, 0.30)
    y = np.linspace(-1, 1, low.shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, low.shape[1], dtype=np.float32)
    shade *= 1 + np.float32(lamps.gradient[0]) * y + np.float32(lamps.gradient[1]) * x
    shade *= 1 - np.float32(0.10) * (x * x + y * y)
    picture = Image.fromarray(shade.astype(np.float32))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))


def _shadow(low: Floats, azimuth: float, unit: float) -> Floats:
    """How much of the soft box is hidden, 0 to 1, found by walking from each point towards it."""
    hidden = np.zeros_like(low)
    reach = int(60 * unit / _STEP)
    for k in range(1, reach + 1):
        dy, dx = round(k * _STEP * np.sin(azimuth)), round(k * _STEP * np.cos(azimuth))
        need = np.float32(k * _STEP / unit * 0.85)  # the height that hides the lamp from this far
        width = np.float32(2.0 + 0.45 * need)  # the lamp is wide, so far edges are soft
        np.maximum(hidden, (_moved(low, dy, dx) - low - need) / width + np.float32(0.35), out=hidden)
    return box_blur(box_blur(np.clip(hidden, 0, 1), 1), 1)


def _moved(array: Floats, dy: int, dx: int) -> Floats:
    """``array[y + dy, x + dx]``, zero outside."""
    out = np.zeros_like(array)
    rows, columns = array.shape
    if abs(dy) >= rows or abs(dx) >= columns:
        return out
    out[max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)] = array[
        max(0, dy) : rows + min(0, dy), max(0, dx) : columns + min(0, dx)
    ]
    return out


def _reduced(light: Floats) -> Floats:
    """The mean of each block of supersampled points."""
    step = SUPERSAMPLING
    total = sum(light[:, i::step, j::step] for i in range(step) for j in range(step))
    return np.asarray(total, np.float32) / np.float32(step * step)


def _blurred(light: Floats, sigma: float) -> Floats:
    """A Gaussian blur of five taps each way."""
    offsets = np.arange(-2, 3)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-3)) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (2, 2)
        padded = np.pad(light, pad, mode="edge")
        count = light.shape[axis]
        parts = (padded[:, k : k + count] if axis == 1 else padded[:, :, k : k + count] for k in range(5))
        light = np.asarray(
            sum(np.float32(w) * part for w, part in zip(weights, parts, strict=True)), np.float32
        )
    return light


@lru_cache(maxsize=1)
def _tone_curve() -> NDArray[np.uint8]:
    """8-bit codes for linear light 0 to 2 in 4,096 steps: gamma, a soft shoulder, a little contrast."""
    light = np.arange(4096) / 2047
    rolled = light * (1 + light / 3.2) / (1 + light)  # highlights fade into white
    encoded = (np.clip(rolled * 1.50, 0, 1)) ** (1 / 2.2)
    contrast = encoded + 0.22 * encoded * (1 - encoded) * (2 * encoded - 1)
    return np.clip(np.rint(contrast * 255), 0, 255).astype(np.uint8)
