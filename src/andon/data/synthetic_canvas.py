"""What a scene is painted on: height, colour and material of every point, at twice the image's size.

Painters work in *part units*: the bracket lies in a drawing of 384 rows by 512 columns, one unit being one
pixel of the default image. A canvas knows where that drawing lies in the picture (shift, turn, scale).
Textures are filtered noise from a fixed seed, made once and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

DRAWING = (384, 512)  # (H, W) of the drawing, in part units
SUPERSAMPLING = 2

# Materials: the row of the table in synthetic_light.py that a point is shaded with.
BELT, RAIL, PLATE, CAST, ZINC, BLACK, RUBBER, STEEL, PAPER, RUST, DIRT = range(11)


@dataclass(frozen=True)
class Pose:
    """Where the part lies under the camera: shift (rows, columns) in part units, turn in radians."""

    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0


@dataclass(frozen=True)
class Patch:
    """A window of a canvas with each point's place in a local frame, in part units."""

    window: tuple[slice, slice]
    x: Floats
    y: Floats


class Canvas:
    """Height (part units), colour (linear light, 0 to 1) and material of every point of a picture of ``size``.

    >>> canvas = Canvas((96, 128), Pose())
    >>> canvas.height.shape, canvas.colour.shape
    ((192, 256), (3, 192, 256))
    """

    def __init__(self, size: tuple[int, int], pose: Pose) -> None:
        self.size = size
        self.pose = pose
        self.scale = SUPERSAMPLING * min(size[0] / DRAWING[0], size[1] / DRAWING[1])  # canvas pixels a unit
        rows, columns = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.height: Floats = np.zeros((rows, columns), np.float32)
        self.colour: Floats = np.zeros((3, rows, columns), np.float32)
        self.material: NDArray[np.uint8] = np.zeros((rows, columns), np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the canvas."""
        return self.height.shape[0], self.height.shape[1]

    def place(self, x: float | Floats, y: float | Floats) -> tuple[Floats, Floats]:
        """Canvas columns and rows of points given in part units."""
        cos, sin = np.cos(self.pose.turn), np.sin(self.pose.turn)
        dx, dy = np.asarray(x) - DRAWING[1] / 2, np.asarray(y) - DRAWING[0] / 2
        column = self.scale * (cos * dx - sin * dy + self.pose.shift[1]) + self.shape[1] / 2
        row = self.scale * (sin * dx + cos * dy + self.pose.shift[0]) + self.shape[0] / 2
        return np.asarray(column, np.float32), np.asarray(row, np.float32)

    def patch(self, x: float, y: float, reach: float | tuple[float, float], turn: float = 0.0) -> Patch:
        """The window that reaches ``reach`` (rows, columns) around (x, y), its frame turned by ``turn`` radians.

        The window itself stays upright, and may be empty at the picture's edge.
        """
        column, row = (float(value) for value in self.place(x, y))
        high, wide = reach if isinstance(reach, tuple) else (reach, reach)
        rows = slice(*_clipped(row, high * self.scale, self.shape[0]))
        columns = slice(*_clipped(column, wide * self.scale, self.shape[1]))
        angle = self.pose.turn + turn
        dx = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - column) / self.scale
        dy = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5 - row) / self.scale
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return Patch((rows, columns), cos * dx + sin * dy, cos * dy - sin * dx)

    def paint(
        self,
        window: tuple[slice, slice],
        inside: Bools,
        height: Floats | float,
        colour: tuple[float, float, float] | Floats,
        material: int,
    ) -> None:
        """Lay a surface over the points of ``window`` that are ``inside``."""
        np.copyto(self.height[window], height, where=inside, casting="same_kind")
        for channel, value in zip(self.colour, colour):
            np.copyto(channel[window], value, where=inside, casting="same_kind")
        self.material[window][inside] = material

    def whole(self, patch: Patch, inside: Bools) -> Bools:
        """``inside``, known on a patch, as an array of the canvas's shape."""
        full = np.zeros(self.shape, np.bool_)
        full[patch.window] = inside
        return full


def _clipped(middle: float, span: float, limit: int) -> tuple[int, int]:
    start = min(max(int(np.floor(middle - span)), 0), limit)
    return start, max(start, min(int(np.ceil(middle + span)) + 1, limit))


def reduce_mask(mask: Bools) -> Bools:
    """A canvas's mask at the image's size: the pixels at least half covered, or touched where none is.

    >>> reduce_mask(np.array([[1, 1, 0, 1], [0, 0, 0, 0]], np.bool_))
    array([[ True, False]])
    """
    step = SUPERSAMPLING
    counts = np.zeros((mask.shape[0] // step, mask.shape[1] // step), np.int32)
    for i in range(step):
        for j in range(step):
            counts += mask[i::step, j::step]
    half = counts * 2 >= step * step
    return half if half.any() else counts > 0


def box(x: Floats, y: Floats, half: tuple[float, float], radius: float) -> Floats:
    """Signed distance to a rounded box of half size (half width, half height); negative inside."""
    dx = np.abs(x) - np.float32(half[0] - radius)
    dy = np.abs(y) - np.float32(half[1] - radius)
    inner = np.minimum(np.maximum(dx, dy), 0) - np.float32(radius)
    np.maximum(dx, 0, out=dx)
    np.maximum(dy, 0, out=dy)
    return np.sqrt(dx * dx + dy * dy) + inner


def hexagon(x: Floats, y: Floats, apothem: float) -> Floats:
    """Signed distance (inside it exact, outside a bound) to a hexagon; negative inside."""
    half = np.float32(np.sqrt(3) / 2)
    return np.maximum(np.abs(y), np.maximum(np.abs(half * x + y / 2), np.abs(half * x - y / 2))) - apothem


@lru_cache(maxsize=32)
def noise(shape: tuple[int, int], along: float, across: float, power: float, seed: int) -> Floats:
    """Filtered noise (rows, columns), mean 0, deviation 1, periodic.

    ``along`` and ``across`` are correlation lengths in pixels along the columns' and the rows' direction;
    the spectrum falls as frequency ** -power on top of that (0: flat, 1 to 2: clouds).

    >>> texture = noise((64, 64), 8.0, 1.0, 0.0, 0)
    >>> texture.shape, round(float(texture.std()), 3), texture.flags.writeable
    ((64, 64), 1.0, False)
    """
    white = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None]
    gain = np.exp(-2 * ((fx * along) ** 2 + (fy * across) ** 2))
    radius = np.sqrt(fx**2 + fy**2)
    radius[0, 0] = 1.0
    gain = gain * np.maximum(radius, 1.0 / max(shape)) ** -power
    gain[0, 0] = 0.0
    texture = np.fft.irfft2(np.fft.rfft2(white) * gain, s=shape).astype(np.float32)
    texture /= texture.std()
    texture.setflags(write=False)
    return texture


def cut(texture: Floats, window: tuple[slice, slice], offset: tuple[int, int]) -> Floats:
    """The piece of a periodic texture that covers a window, the texture moved by ``offset``."""
    for axis, (span, moved) in enumerate(zip(window, offset, strict=True)):
        start, count = (span.start + moved) % texture.shape[axis], span.stop - span.start
        copies = -(-(start + count) // texture.shape[axis])
        texture = np.concatenate([texture] * copies, axis=axis) if copies > 1 else texture
        texture = texture[start : start + count] if axis == 0 else texture[:, start : start + count]
    return texture


def box_blur(array: Floats, radius: int) -> Floats:
    """A mean over (2 radius + 1) squared points, edges repeated."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(array, pad, mode="edge"), axis=axis, dtype=np.float64)
        ahead, behind = (
            (total[2 * radius + 1 :], total[: -2 * radius - 1])
            if axis == 0
            else (total[:, 2 * radius + 1 :], total[:, : -2 * radius - 1])
        )
        array = ((ahead - behind) / (2 * radius + 1)).astype(np.float32)
    return array
