"""Pictures drawn by code: what photographs of nature lack and factories have, for `andon.features.crops`.

Torch-free. A *field* is (S, S) float32, painted over its own range; a *picture* is (S, S, 3) uint8 RGB. A
scene makes either from (rng, size); `SCENES` names them all, as pictures. The same generator draws the same.
Gradient noise after Perlin 2002, cellular noise after Worley 1996, fractals to learn from after Kataoka et al.
2020 (arXiv:2101.08515), shader-like fields after Baradad et al. 2022 (arXiv:2211.16412).
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Field = NDArray[Any]  # float32; NumPy's types widen what its functions return
Rng = np.random.Generator
TAU = 2 * math.pi


def draw_texture(rng: Rng, size: int) -> Pixels:
    """A scene, at times two; over it at times other light, objects, defects: (size, size, 3) uint8 RGB."""
    names = list(SCENES)
    picture = SCENES[names[rng.integers(len(names))]](rng, size)
    if rng.random() < 0.2:
        other = SCENES[names[rng.integers(len(names))]](rng, size)
        picture = _blend(picture, other, _mask(rng, size))
    if rng.random() < 0.25:
        light = _rgb(_unit(_noise(rng, size, 1, 2)))
        picture = (picture * (1 - rng.uniform(0.2, 0.8) * light)).astype(np.uint8)
    if rng.random() < 0.25:
        image = Image.fromarray(picture)
        for _ in range(int(rng.integers(1, 12))):
            _object(rng, ImageDraw.Draw(image), size)
        picture = np.asarray(image)
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.4 else 0):
        picture = _defect(rng, picture)
    return picture


# Colour, light and layout


def paint(rng: Rng, field: Field) -> Pixels:
    """The field over its range in random colours: grey half of the time, else one hue or several."""
    stops = int(rng.integers(2, 6))
    low, high = rng.uniform(0, 110), rng.uniform(120, 255)
    levels = np.linspace(low, high, stops) if rng.random() < 0.7 else rng.uniform(low, high, stops)
    colours = np.repeat(levels[:, None], 3, axis=1)
    kind = rng.random()
    if kind > 0.8:
        colours = rng.uniform(0, 255, (stops, 3))
    elif kind > 0.5:
        colours = np.clip(colours * rng.uniform(0.4, 1.3, 3), 0, 255)
    if np.ptp(colours, axis=0).max() < 25:  # never blank
        colours[0], colours[-1] = colours[0] * 0.4, 255 - (255 - colours[-1]) * 0.5
    places, steps = np.linspace(0, 1, stops), np.linspace(0, 1, 256) ** rng.uniform(0.6, 1.6)
    table = np.stack([np.interp(steps, places, channel) for channel in colours.T], axis=1)
    return table.astype(np.uint8).take((_stretch(field) * 255).astype(np.uint8), axis=0)


def _painted(maker: Callable[[Rng, int], Field], rng: Rng, size: int) -> Pixels:
    return paint(rng, maker(rng, size))


def _pick(rng: Rng, options: Sequence[Any]) -> Any:
    """One of them, as it is: NumPy's own choice makes scalars that widen float32."""
    return options[int(rng.integers(len(options)))]


def _frac(x: Field) -> Field:
    """What % 1 gives, much faster."""
    return x - np.floor(x)


def _rgb(x: Field) -> Field:
    """(S, S) three times, (S, S, 3): arithmetic over a short last axis is slow unless it is whole."""
    return np.stack([x, x, x], axis=-1)


def _unit(x: Field) -> Field:
    """x scaled to [0, 1]."""
    low = x.min()
    return (x - low) / max(float(x.max() - low), 1e-9)


def _stretch(x: Field) -> Field:
    """x scaled so that the middle 98 % fill [0, 1]; its whole range where those are one value."""
    some = np.sort(x[::3, ::3], axis=None)
    low, high = float(some[len(some) // 100]), float(some[-len(some) // 100])
    return np.clip((x - low) / (high - low), 0, 1) if high - low > 1e-3 else _unit(x)


def _blend(under: Pixels, over: Pixels | Field, mask: Field) -> Pixels:
    """`over` where the mask is 1, `under` where it is 0."""
    x = under.astype(np.float32)
    return (x + (np.asarray(over, np.float32) - x) * _rgb(mask.astype(np.float32))).astype(np.uint8)


def _relief(rng: Rng, height: Field, strength: float = 1.0) -> Field:
    """Surface of that height, lit from a side: Lambert plus a highlight, (S, S)."""
    angle, lift = rng.uniform(0, TAU), rng.uniform(0.4, 1.5)
    dy, dx = (gradient * strength for gradient in np.gradient(height * len(height) / 4))
    shade = (lift - dy * math.sin(angle) - dx * math.cos(angle)) / np.sqrt(
        (1 + dx**2 + dy**2) * (1 + lift**2)
    )
    shade = np.clip(shade, 0, 1)
    return shade + rng.uniform(0, 1.5) * shade**20


def _smooth(x: Field, sigma: float) -> Field:
    """x under a Gaussian of `sigma` pixels."""
    place = np.arange(len(x), dtype=np.float32)
    kernel = np.exp(np.maximum(-(((place[:, None] - place) / sigma) ** 2) / 2, -30))  # denormals are slow
    kernel /= kernel.sum(1, keepdims=True)
    return kernel @ x @ kernel.T


def _mask(rng: Rng, size: int) -> Field:
    """Parts of a picture, 0 to 1 with edges of a random softness: blots, half a plane, a disc, stripes."""
    kind, (u, v) = rng.integers(4), _turn(rng, size)
    if kind == 0:
        field = _noise(rng, size, rng.uniform(1, 5), 3)
    elif kind == 1:
        field = u + 0.05 * _noise(rng, size, 4, 2) * (rng.random() < 0.5)
    elif kind == 2:
        field = np.hypot(u, v * rng.uniform(0.5, 2))
    else:
        field = np.sin(TAU * u * rng.uniform(1, 6))
    edge = float(np.quantile(field[::4, ::4], rng.uniform(0.2, 0.8)))
    return np.clip((field - edge) * size * _pick(rng, [0.05, 0.5, 2]) + 0.5, 0, 1)


def _object(rng: Rng, pen: ImageDraw.ImageDraw, size: int) -> None:
    """One ellipse, box, line or polygon of a random colour."""
    colour = _colour(rng)
    extent = size * rng.uniform(0.03, 0.4)
    x, y = rng.uniform(0, size, 2)
    box = (x, y, x + extent * rng.uniform(0.2, 1), y + extent)
    kind = rng.integers(4)
    if kind == 0:
        pen.ellipse(box, fill=colour)
    elif kind == 1:
        pen.rectangle(box, fill=colour)
    elif kind == 2:
        pen.line((x, y, *rng.uniform(0, size, 2)), fill=colour, width=int(rng.integers(1, 8)))
    else:
        corners = rng.uniform(-extent / 2, extent / 2, (int(rng.integers(3, 8)), 2)) + np.array([x, y])
        pen.polygon([(float(a), float(b)) for a, b in corners], fill=colour)


def _colour(rng: Rng, low: int = 0, high: int = 256) -> tuple[int, ...]:
    """Three values, equal half of the time."""
    values = rng.integers(low, high, 3)
    return tuple(int(value) for value in (values if rng.random() < 0.5 else values[[0, 0, 0]]))


def _defect(rng: Rng, picture: Pixels) -> Pixels:
    """The picture with a scratch or crack, a spot, a dent, a stain, or a patch from elsewhere."""
    size, kind = len(picture), rng.integers(5)
    at, extent = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.15)
    y, x = _axes(size)
    near = np.exp(-((y - float(at[0])) ** 2 + (x - float(at[1])) ** 2) / extent**2)
    if kind == 0:
        return _blend(picture, np.array(_colour(rng)), _line(rng, size) * rng.uniform(0.4, 1))
    if kind == 1:
        sharp = _pick(rng, [1, 8, 30])
        return _blend(
            picture, np.array(_colour(rng)), np.clip((near - 0.5) * sharp + 0.5, 0, 1) * near.clip(0.3)
        )
    if kind == 2:
        dy, dx = np.gradient(near * size * extent)
        light = 1 + rng.uniform(0.3, 1) * (dy * _pick(rng, [-1, 1]) + dx * _pick(rng, [-1, 1]))
        return np.clip(picture * _rgb(light), 0, 255).astype(np.uint8)
    if kind == 3:
        blot = near**0.3 + 0.5 * _noise(rng, size, 6, 2)
        return _blend(picture, np.array(_colour(rng)), (blot > 0.6) * rng.uniform(0.2, 0.7))
    side = max(3, int(size * rng.uniform(0.05, 0.25)))
    (top, left), (to_top, to_left) = rng.integers(0, size - side + 1, (2, 2))
    out = picture.copy()
    out[to_top : to_top + side, to_left : to_left + side] = picture[top : top + side, left : left + side]
    return out


def _line(rng: Rng, size: int) -> Field:
    """A thin line that wanders, straight to jagged, (size, size) in [0, 1]."""
    steps = int(rng.integers(2, 14))
    turns = rng.uniform(0, TAU) + np.cumsum(rng.normal(0, _pick(rng, [0.05, 0.6]), steps))
    path = rng.uniform(0, 2 * size, (1, 2)) + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0) * (
        size * rng.uniform(0.1, 1) / steps * 2
    )
    image = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(image).line(path.ravel().tolist(), fill=255, width=int(rng.integers(1, 6)))
    return np.asarray(image.reduce(2), np.float32) / 255


# Coordinates and noise


def _axes(size: int) -> tuple[Field, Field]:
    """y (S, 1) and x (1, S) in [0, 1)."""
    x = np.arange(size, dtype=np.float32)[None] / size
    return x.T, x


def _turn(rng: Rng, size: int, upright: float = 0.4) -> tuple[Field, Field]:
    """Coordinates (S, S) in about [-1, 1], turned about a random place; upright with that probability."""
    y, x = _axes(size)
    angle = 0.0 if rng.random() < upright else rng.uniform(0, TAU)
    y, x = y - rng.uniform(0.2, 0.8), x - rng.uniform(0.2, 0.8)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _octave(rng: Rng, size: int, cells_y: float, cells_x: float) -> Field:
    """Perlin's gradient noise, (S, S) in about [-0.7, 0.7].

    The weight of a lattice point is a product over the axes, so all sums over the corners are products of
    matrices: with W the faded weights (S, n) and d the offsets, W_y cos(a) (W_x d)' + (W_y d) sin(a) W_x'.
    """
    weights, offsets = [], []
    for cells in (cells_y, cells_x):
        place = np.linspace(0, cells, size, dtype=np.float32) + np.float32(rng.random())
        d = place[:, None] - np.arange(int(cells) + 3, dtype=np.float32)
        near = np.clip(1 - np.abs(d), 0, 1)
        weights.append(near * near * near * (near * (near * 6 - 15) + 10))
        offsets.append(weights[-1] * d)
    a = rng.random((weights[0].shape[1], weights[1].shape[1]), dtype=np.float32) * np.float32(TAU)
    return weights[0] @ np.cos(a) @ offsets[1].T + offsets[0] @ np.sin(a) @ weights[1].T


def _noise(
    rng: Rng, size: int, cells: float, octaves: int = 4, stretch: float = 1.0, kind: str = "plain"
) -> Field:
    """Octaves of gradient noise, each of half the height: plain, turbulent |n| or ridged (1 - |n|)^2."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        across, along = (min(cells * 2**octave * factor, size / 2) for factor in (1, 1 / stretch))
        n = _octave(rng, size, across, along)
        n = {"plain": n, "turbulent": 2 * np.abs(n), "ridged": (1 - 2 * np.abs(n)) ** 2}[kind]
        total += n * np.float32(0.5**octave)
    return total


def _white(rng: Rng, size: int) -> Field:
    return rng.standard_normal((size, size), dtype=np.float32)


def _cellular(rng: Rng, u: Field, v: Field) -> tuple[Field, Field, NDArray[np.intp]]:
    """Distances to the nearest and second point of a jittered lattice with unit cells, and whose is nearest."""
    u, v = u - np.floor(u.min()) + 1, v - np.floor(v.min()) + 1
    whole_u, whole_v = np.floor(u), np.floor(v)
    width, rows = int(whole_u.max()) + 2, int(whole_v.max()) + 2
    jitter = rng.random((2, rows * width), dtype=np.float32) * np.float32(rng.uniform(0.5, 1))
    first, second = np.full(u.shape, 9, np.float32), np.full(u.shape, 9, np.float32)
    at = whole_v.astype(np.intp) * width + whole_u.astype(np.intp)
    u, v, owner = u - whole_u, v - whole_v, at.copy()
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            cell = at + (dj * width + di)
            d = (jitter[0].take(cell) - (u - di)) ** 2 + (jitter[1].take(cell) - (v - dj)) ** 2
            np.copyto(owner, cell, where=d < first)
            second = np.minimum(second, np.maximum(first, d))
            first = np.minimum(first, d)
    return np.sqrt(first), np.sqrt(second), owner


def _cells(rng: Rng, size: int, warp: float = 0.0) -> tuple[Field, Field, NDArray[np.intp]]:
    """`_cellular` over a picture at a random scale, its coordinates at times displaced by noise."""
    u, v = _turn(rng, size)
    scale = rng.uniform(4, 24)
    if warp:
        u, v = (x + warp / scale * _noise(rng, size, scale / 2, 1 + (warp > 1)) for x in (u, v))
    return _cellular(rng, u * scale, v * scale * rng.uniform(0.5, 1.2))


# Scenes: noise


def _spectrum(rng: Rng, size: int) -> Field:
    """Noise whose spectrum falls with a random power."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    radius = np.hypot(fy * rng.uniform(0.3, 3), fx)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(_white(rng, size)) / radius ** rng.uniform(0.3, 2.2)
    return np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)


def _clouds(rng: Rng, size: int) -> Field:
    kind = ("plain", "turbulent", "ridged")[rng.integers(3)]
    field = _noise(rng, size, rng.uniform(1.5, 12), int(rng.integers(1, 6)), _pick(rng, [1, 1, 4]), kind)
    return np.clip((field - field.mean()) * rng.uniform(2, 20), -1, 1) if rng.random() < 0.3 else field


def _isolines(rng: Rng, size: int) -> Field:
    """Lines or terraces of equal height."""
    field = _unit(_noise(rng, size, rng.uniform(1, 5), int(rng.integers(1, 4)))) * rng.uniform(3, 14)
    return np.floor(field) if rng.random() < 0.5 else np.abs(np.sin(field * np.pi)) ** rng.uniform(0.2, 2)


def _marble(rng: Rng, size: int) -> Field:
    u, _ = _turn(rng, size)
    veins = u * rng.uniform(2, 8) + rng.uniform(0.5, 3) * _noise(rng, size, 3, 5, 1, "turbulent")
    return np.abs(np.sin(veins * np.pi)) ** rng.uniform(0.3, 2)


def _wood(rng: Rng, size: int) -> Field:
    """Rings about a far centre, and fibres along them."""
    u, v = _turn(rng, size)
    rings = np.hypot(u * rng.uniform(0.05, 0.3), v + rng.uniform(-0.5, 0.5)) * rng.uniform(8, 30)
    rings = _frac(rings + rng.uniform(0.3, 1.5) * _noise(rng, size, 2, 3))
    return rings + rng.uniform(0.2, 1) * _octave(rng, size, 2, size / 3 if rng.random() < 0.5 else 2)


def _waves(rng: Rng, size: int) -> Field:
    """Sines of each other: domain warping."""
    u, v = _turn(rng, size)
    for _ in range(int(rng.integers(2, 5))):
        a, b, c = rng.uniform(2, 14, 3).tolist()
        u, v = u + np.sin(v * a + c) / a * 1.5, v + np.sin(u * b + c) / b * 1.5
    return np.sin(u * rng.uniform(3, 30)) + rng.uniform(0, 1) * np.sin(v * rng.uniform(3, 30))


def _gratings(rng: Rng, size: int) -> Field:
    """Two gratings at random angles and periods, added or multiplied, at times black and white."""
    u, v = _turn(rng, size)
    one = np.sin(TAU * u * rng.uniform(3, 40))
    angle = rng.uniform(0, np.pi)
    two = np.sin(TAU * (u * math.cos(angle) + v * math.sin(angle)) * rng.uniform(3, 40))
    mixed = one + two if rng.random() < 0.5 else one * two
    mixed = np.sign(mixed) if rng.random() < 0.3 else mixed
    return mixed + rng.uniform(0, 0.3) * _white(rng, size)


# Scenes: fractals


def _escape(rng: Rng, size: int, julia: bool) -> Field:
    """Steps until z^2 + c escapes, or how near its orbit comes to a line, about a point of the boundary."""
    y, x = _turn(rng, size, upright=0)
    angle = rng.uniform(0.3, TAU - 0.3)
    edge = cmath.exp(1j * angle) / 2 - cmath.exp(2j * angle) / 4  # the main cardioid
    width = rng.uniform(0.8, 3) if julia else 10 ** rng.uniform(-1, 0.3)
    zx, zy, c = x * width, y * width, edge * rng.uniform(1.0, 1.12)
    cx, cy = (c.real, c.imag) if julia else (zx + edge.real, zy + edge.imag)
    count, trap, slope = (
        np.zeros((size, size), np.float32),
        np.full((size, size), 4, np.float32),
        rng.normal(),
    )
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(26):
            xx, yy = zx * zx, zy * zy
            zy, zx = 2 * zx * zy + cy, xx - yy + cx
            count += xx + yy < 16
            trap = np.fmin(trap, np.abs(zx - slope * zy))
    return np.sqrt(count) - _pick(rng, [0.05, 0.3, 1.0]) * np.log(trap + 0.01)


def _attractor(rng: Rng, size: int) -> Field:
    """The density of an iterated function system's points: all its maps applied to all points, again and again."""
    maps = int(rng.integers(2, 5))
    angle, scale = rng.uniform(0, TAU, maps), rng.uniform(0.35, 0.95, (maps, 2))
    scale = (scale * np.sqrt(rng.uniform(0.9, 1.4) / scale.prod(1).sum())).clip(0.2, 0.92).T
    cos, sin = np.cos(angle), np.sin(angle)
    parts = np.stack([cos * scale[0], -sin * scale[1], sin * scale[0], cos * scale[1]])
    a, b, c, d = parts.astype(np.float32)[:, :, None]
    e, f = rng.uniform(-1, 1, (2, maps, 1)).astype(np.float32)
    x = y = np.zeros(1, np.float32)
    while len(x) < 16000:
        x, y = (a * x + b * y + e).ravel(), (c * x + d * y + f).ravel()
    i, j = ((_unit(place) * (0.9 * size) + 0.05 * size).astype(np.intp) for place in (x, y))
    density = np.bincount(i * size + j, minlength=size * size).reshape(size, size)
    density = np.log1p(density.astype(np.float32))
    return _smooth(density, rng.uniform(0.5, 2)) if rng.random() < 0.7 else density.clip(0, 1.5)


# Scenes: cells and grains


def _grains(rng: Rng, size: int) -> Field:
    """Crystals: each cell its own grey, its border darker."""
    first, second, owner = _cells(rng, size, rng.uniform(0, 0.5))
    border = np.clip((second - first) * rng.uniform(4, 20), 0, 1)
    return rng.random(owner.max() + 1, dtype=np.float32).take(owner) * (1 - rng.uniform(0, 1) * (1 - border))


def _pebbles(rng: Rng, size: int) -> Field:
    """Domes or bumps at the cells' points, lit: granulate, foam, blasted surfaces."""
    first, second, _ = _cells(rng, size)
    return _relief(rng, (1 - first**2 if rng.random() < 0.5 else second - first) * rng.uniform(0.03, 0.15))


def _leather(rng: Rng, size: int) -> Field:
    first, second, _ = _cells(rng, size, rng.uniform(0.5, 1.5))
    height = np.minimum(second - first, rng.uniform(0.15, 0.5)) + 0.1 * _octave(rng, size, size / 5, size / 5)
    return _relief(rng, height * rng.uniform(0.05, 0.15)) + 0.3 * _noise(rng, size, 2, 2)


def _cracks(rng: Rng, size: int) -> Field:
    """Dark lines along the cells' borders, on a rough ground."""
    first, second, _ = _cells(rng, size, rng.uniform(0.5, 2))
    line = np.clip((second - first) * rng.uniform(4, 15), 0, 1)
    return line + rng.uniform(0.2, 0.8) * _noise(rng, size, 6, 5)


def _specks(rng: Rng, size: int) -> Field:
    """Terrazzo, granite, recycled plastic: chips of several sizes on a plain ground."""
    field, layers = 0.2 * _noise(rng, size, 10, 3), int(rng.integers(1, 3))
    for _ in range(layers):
        first, _, owner = _cells(rng, size, 0.4 if layers == 1 else 0)
        chip = (rng.random(owner.max() + 1, dtype=np.float32) * rng.uniform(0.4, 1)).take(owner)
        np.copyto(field, rng.uniform(-1, 1) * chip, where=first < chip - 0.1)
    return field


def _tiles(rng: Rng, size: int) -> Field:
    """Tiles or bricks in rows, each its own grey, with joints and specks."""
    u, v = _turn(rng, size, 0.7)
    scale, aspect, joint = rng.uniform(2, 8), _pick(rng, [0.35, 0.5, 1]), rng.uniform(0.02, 0.08)
    v = v * scale / aspect + 90
    row = np.floor(v)
    u = u * scale + 90 + 2 * _frac(row / 2) * _pick(rng, [0, 0.5])
    shade = rng.random(4096, dtype=np.float32).take((row * 31 + np.floor(u)).astype(np.intp) & 4095)
    inside = np.clip((0.5 - np.maximum(np.abs(_frac(u) - 0.5), np.abs(_frac(v) - 0.5)) - joint) * 30, 0, 1)
    speck = (_noise(rng, size, size / 4, 2) > 0.4).astype(np.float32) * rng.uniform(-1, 1)
    return inside * (1 + rng.uniform(0, 0.7) * shade + speck) + 0.1 * _white(rng, size)


def _plastic(rng: Rng, size: int) -> Field:
    """A moulded part: a smooth surface with ribs or ripples, glossy under a soft light."""
    u, v = _turn(rng, size)
    height = rng.uniform(0.1, 0.6) * _noise(rng, size, rng.uniform(0.7, 2), 1)
    if rng.random() < 0.6:
        place = (u if rng.random() < 0.5 else np.hypot(u, v)) * rng.uniform(3, 14)
        height += rng.uniform(0.01, 0.03) * np.clip(np.sin(TAU * place) * rng.uniform(1, 8), -1, 1)
    return _relief(rng, height) + rng.uniform(0, 0.02) * _white(rng, size)


def _plate(rng: Rng, size: int) -> Field:
    """A smooth plate under an uneven light."""
    u, v = _turn(rng, size)
    light = np.exp(-(u**2 + v**2 * rng.uniform(0.2, 1)) * rng.uniform(0.3, 4))
    return light + rng.uniform(0, 0.03) * _white(rng, size)


# Scenes: metal


def _brushed(rng: Rng, size: int) -> Field:
    """Lines along one direction with a light falling across."""
    lines = (
        _octave(rng, size, size / 2.2, rng.uniform(0.5, 6)) + rng.standard_normal((size, 1), np.float32) * 0.3
    )
    field = lines * rng.uniform(0.2, 1) + 0.1 * _white(rng, size) + rng.uniform(0, 3) * _plate(rng, size)
    return field if rng.random() < 0.5 else field.T


def _turned(rng: Rng, size: int) -> Field:
    """A face off the lathe: grooves about a centre, and two highlights across them."""
    u, v = _turn(rng, size, 0)
    u, v = u * 2, v * 2
    rr = u * u + v * v + 1e-6
    r = np.sqrt(rr)
    groove = rng.standard_normal(256, np.float32).take((r * rng.uniform(10, 70)).astype(np.intp) & 255)
    groove += np.sin(r * rng.uniform(20, 120)) * rng.uniform(0, 2)
    light = (u * u / rr) ** int(rng.integers(1, 8))
    field = (0.3 + light) * (1 + rng.uniform(0.05, 0.3) * groove)
    hole = np.clip((r - rng.uniform(0, 0.4)) * size / 4, 0, 1)
    return field * hole * (0.4 + 0.6 * np.clip((rng.uniform(0.6, 2) - r) * size / 4, 0, 1))


def _knurled(rng: Rng, size: int) -> Field:
    """Pyramids, ridges or lentils in a lattice, lit, on a round bar or a plate."""
    u, v = _turn(rng, size)
    scale = rng.uniform(5, 20)
    shear = _pick(rng, [0, 1])
    a, b = _frac((u + v * shear) * scale), _frac((v - u * shear) * scale * rng.uniform(0.5, 1))
    a, b = np.abs(2 * a - 1), np.abs(2 * b - 1)
    height = (np.maximum(a, b), np.minimum(a, b), a, a * b)[rng.integers(4)]
    shade = _relief(rng, np.minimum(height, rng.uniform(0.5, 1)) * rng.uniform(0.05, 0.25) / scale * 8)
    y, _ = _axes(size)
    round_bar = np.sqrt(np.clip(1 - (2 * y - 1) ** 2, 0.02, 1)) if rng.random() < 0.5 else 1
    return (shade + 0.05 * _white(rng, size)) * round_bar


def _scratched(rng: Rng, size: int) -> Field:
    """A worn plate: fine scratches every way or mostly one."""
    image = Image.new("L", (2 * size, 2 * size), 60)
    pen, spread = ImageDraw.Draw(image), _pick(rng, [0.1, 0.5, 3])
    count = int(rng.integers(10, 120))
    places, main = rng.uniform(0, 2 * size, (count, 2)), rng.uniform(0, TAU)
    angles, lengths = rng.normal(main, spread, count), size * rng.exponential(0.4, count)
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
    for a, step, light in zip(places, steps, rng.integers(0, 256, count)):
        pen.line((*a, *(a + step)), fill=int(light), width=1 + int(light) % 2)
    field = np.asarray(image.reduce(2), np.float32) / 255
    return field + rng.uniform(0, 1) * _plate(rng, size) + rng.uniform(0, 0.5) * _noise(rng, size, 3)


def _drilled(rng: Rng, size: int) -> Pixels:
    """A plate with holes, or screws with a slot, a cross or a socket, in rows or anywhere."""
    ground = (_brushed, _plate, _spectrum, _plastic)[rng.integers(4)](rng, size)
    ground, height = _unit(ground) * rng.uniform(0.1, 0.4) + 0.3, np.zeros((size, size), np.float32)
    screw, (y, x), n = rng.random() < 0.6, _axes(size), int(rng.integers(1, 5))
    centres = (np.indices((n, n)).reshape(2, -1).T[:9] + 0.5) / n
    if rng.random() < 0.5:
        centres = rng.uniform(0, 1, (int(rng.integers(1, 8)), 2))
    radius = rng.uniform(0.08, 0.35) / n
    dark = np.zeros_like(height)
    for cy, cx in centres.tolist():
        dy, dx = y - cy, x - cx
        head = np.clip((radius - np.sqrt(dy * dy + dx * dx)) * size * 0.7, 0, 1)
        height = np.maximum(height, head * radius)
        dark = np.maximum(
            dark, head if not screw else head * _socket(rng, dy / radius, dx / radius, size * radius)
        )
    shade = _relief(rng, _smooth(height, 0.8), 3)
    return paint(rng, (ground + (shade - shade[0, 0]) * 0.6) * (1 - rng.uniform(0.6, 1) * dark))


def _socket(rng: Rng, y: Field, x: Field, sharp: float) -> Field:
    """The drive of a screw of radius 1: slot, cross or hexagon, at a random angle."""
    angle, kind = rng.uniform(0, TAU), rng.integers(3)
    u, v = (
        np.abs(x * math.cos(angle) + y * math.sin(angle)),
        np.abs(y * math.cos(angle) - x * math.sin(angle)),
    )
    d = (
        np.maximum(v - 0.13, u - 0.9),
        np.maximum(np.minimum(u, v) - 0.12, np.maximum(u, v) - 0.6),
        np.maximum(u * 0.866 + v * 0.5, v) - 0.5,
    )[kind]
    return np.clip(-d * sharp + 0.5, 0, 1)


def _mesh(rng: Rng, size: int) -> Field:
    """A perforated sheet or grille: round, square or hexagonal openings in a lattice."""
    u, v = _turn(rng, size)
    scale, kind = rng.uniform(4, 20), rng.integers(3)
    v = v * scale + 90
    u = u * scale + 90 + 2 * _frac(np.floor(v) / 2) * _pick(rng, [0, 0.5])
    a, b = np.abs(_frac(u) - 0.5), np.abs(_frac(v) - 0.5)
    d = (np.sqrt(a * a + b * b), np.maximum(a, b), np.maximum(a * 0.866 + b * 0.5, b))[kind] - rng.uniform(
        0.2, 0.45
    )
    sheet = np.clip(d * size / scale, 0, 1)
    ground = rng.uniform(0, 0.5) * _noise(rng, size, 4)
    return sheet * (1 + ground + rng.uniform(0, 0.5) * _relief(rng, _smooth(sheet, 1) * 0.02)) + ground * 0.5


# Scenes: fabric


def _woven(rng: Rng, size: int) -> Field:
    """Cloth: threads of two directions, each with its own brightness; plain, twill, satin or basket."""
    u, v = _turn(rng, size)
    scale = rng.uniform(8, 34)
    wobble = rng.uniform(0, 0.5)
    u = u * scale + wobble * _noise(rng, size, 3, 2) + 90
    v = v * scale * rng.uniform(0.7, 1.3) + wobble * _noise(rng, size, 3, 2) + 90
    i, j = u.astype(np.int32), v.astype(np.int32)
    fu, fv = _frac(u), _frac(v)
    kind = rng.integers(4)
    over = ((i + j) & 1, ((i + j) >> 1) & 1, (3 * i + j) & 7 == 0, ((i >> 1) + (j >> 1)) & 1)[kind].astype(
        bool
    )
    spread = rng.uniform(0, 0.6)
    light = 1 + spread / 2 * rng.standard_normal((2, 256), np.float32).clip(-2, 2)
    warp = light[0].take(i) * np.sin(np.pi * fu) * (0.7 + 0.3 * np.sin(np.pi * fv))
    weft = rng.uniform(0.4, 1.2) * light[1].take(j) * np.sin(np.pi * fv) * (0.7 + 0.3 * np.sin(np.pi * fu))
    return weft + (warp - weft) * over + rng.uniform(0, 0.2) * _white(rng, size)


def _knit(rng: Rng, size: int) -> Field:
    """Wales of V-shaped stitches."""
    u, v = _turn(rng, size)
    scale = rng.uniform(5, 18)
    u = u * scale + rng.uniform(0, 0.3) * _noise(rng, size, 3, 2)
    v = v * scale * rng.uniform(0.8, 1.6) + rng.uniform(0, 0.3) * _noise(rng, size, 3, 2)
    a = np.abs(_frac(u) - 0.5)
    strand = np.abs(np.sin(np.pi * (v + rng.uniform(0.8, 1.8) * a))) ** rng.uniform(0.3, 1)
    row = rng.standard_normal(64, np.float32).take(np.floor(v).astype(np.intp) & 63)
    yarn = strand * np.sin(TAU * a.clip(0.02, 0.48)) ** 0.5 * (1 + rng.uniform(0, 0.3) * row)
    return yarn + rng.uniform(0, 0.2) * _white(rng, size)


def _fibres(rng: Rng, size: int) -> Field:
    """Felt, paper, carpet, wool: many short curls."""
    image = Image.new("L", (size, size), 90)
    pen, width = ImageDraw.Draw(image), int(rng.integers(1, 3))
    count = 150
    turns = rng.uniform(0, TAU, (count, 1)) + np.cumsum(rng.normal(0, rng.uniform(0.1, 1), (count, 4)), 1)
    steps = np.stack([np.cos(turns), np.sin(turns)], -1) * (size * rng.uniform(0.02, 0.1))
    paths = rng.uniform(0, size, (count, 1, 2)) + np.cumsum(steps, 1)
    for path, light in zip(paths.reshape(count, -1).tolist(), rng.integers(0, 256, count).tolist()):
        pen.line(path, fill=light, width=width)
    return np.asarray(image, np.float32) / 255 + rng.uniform(0.05, 0.2) * _white(rng, size)


# Scenes: print


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _word(rng: Rng, longest: int = 12) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789abcdefghkmnprstuwxyz-./:%"
    return "".join(letters[i] for i in rng.integers(0, len(letters), int(rng.integers(1, longest))))


def _printed(rng: Rng, mask: Image.Image, size: int) -> Pixels:
    """The mask (larger than the picture) turned and cut out, as ink of a colour or as an embossing."""
    angle = _pick(rng, [0, 90, 180, 270, rng.uniform(-12, 12), rng.uniform(0, 360)])
    centre = (mask.width - size) // 2
    mask = mask.rotate(angle, Image.Resampling.BILINEAR).crop((centre, centre, centre + size, centre + size))
    ink = np.asarray(mask, np.float32) / 255
    ground = _ground(rng, size)
    if rng.random() < 0.2:
        shade = _relief(rng, _smooth(ink, rng.uniform(0.5, 1.2)) * _pick(rng, [-0.06, 0.06]))
        return np.clip(ground * _rgb(0.3 + shade), 0, 255).astype(np.uint8)
    dark = ground.mean() > 128
    return _blend(
        ground, np.array(_colour(rng, 0, 80) if dark else _colour(rng, 170)), ink * rng.uniform(0.7, 1)
    )


def _ground(rng: Rng, size: int) -> Pixels:
    """Something plain to print on or to lay parts on: low in contrast, of any brightness."""
    field = (_plate, _spectrum, _brushed, _clouds)[rng.integers(4)](rng, size)
    spread = rng.uniform(0.03, 0.4)
    middle = rng.uniform(0.15 + spread / 2, 1 - spread / 2)
    levels = np.linspace(middle - spread / 2, middle + spread / 2, 256)[:, None]
    table = np.clip(levels * np.array(_colour(rng, 120)) * 1.3, 0, 255).astype(np.uint8)
    return table.take((_unit(field) * 255).astype(np.uint8), axis=0)


def _text(rng: Rng, size: int) -> Pixels:
    """Lines of letters and digits."""
    side = int(size * 1.5)
    mask = Image.new("L", (side, side))
    pen, y = ImageDraw.Draw(mask), 0
    height = max(6, int(size * _pick(rng, [0.07, 0.09, 0.12, 0.2, 0.35])))
    while y < side:
        line = " ".join(_word(rng) for _ in range(max(1, size // height // 4)))
        pen.text((int(rng.integers(-height, height)), y), line, fill=255, font=_font(height))
        y += int(height * rng.uniform(1.1, 2))
    return _printed(rng, mask, size)


def _label(rng: Rng, size: int) -> Pixels:
    """A sticker: bars or a matrix of dots, words above and below, a frame."""
    side = int(size * 1.5)
    mask = Image.new("L", (side, side))
    pen, low, extent = (
        ImageDraw.Draw(mask),
        int(side * rng.uniform(0.15, 0.3)),
        int(side * rng.uniform(0.25, 0.6)),
    )
    modules = int(rng.integers(10, 40))
    bits = rng.random((modules if rng.random() < 0.5 else 1, modules)) < rng.uniform(0.35, 0.6)
    code = Image.fromarray(bits.astype(np.uint8) * 255)
    box = (extent, extent if rng.random() < 0.5 else extent // 2)
    mask.paste(code.resize(box, Image.Resampling.NEAREST), (low, low))
    height = max(6, int(size * rng.uniform(0.06, 0.14)))
    for y in range(low + box[1] + height // 2, side, int(height * 1.3)):
        pen.text((low, y), _word(rng, 16), fill=255, font=_font(height))
    pen.text((low, low - int(height * 1.4)), _word(rng, 16), fill=255, font=_font(height))
    if rng.random() < 0.5:
        frame = (low - 2 * height, low - 2 * height, low + extent + height, low + box[1] + 4 * height)
        pen.rectangle(frame, outline=255, width=int(rng.integers(1, 4)))
    return _printed(rng, mask, size)


def _marking(rng: Rng, size: int) -> Pixels:
    """Warning stripes, chequers, rulers, grids of lines or dots, over half or all of a surface."""
    u, v = _turn(rng, size, 0.3)
    scale, kind = rng.uniform(3, 16), rng.integers(4)
    a, b = np.abs(_frac(u * scale) - 0.5), np.abs(_frac(v * scale) - 0.5)
    thick = rng.uniform(0.05, 0.25)
    stripes, lines, dots = a - 0.25, np.minimum(a, b) - thick, np.sqrt(a * a + b * b) - thick
    d = (stripes, stripes * np.sign(b - 0.25), lines, dots)[kind]
    ink = np.clip(-d * size / scale + 0.5, 0, 1)
    if rng.random() < 0.4:
        ink = ink * (np.abs(v) < rng.uniform(0.1, 0.3))
    ground, colour = _ground(rng, size), np.array(_colour(rng, 90))
    if rng.random() < 0.4:
        colour = np.array([rng.integers(150, 256), rng.integers(100, 256), 0])  # warning yellow to red
    return _blend(_blend(ground, colour, np.full_like(ink, 0.7)), ground // 4, ink)


# Scenes: things


def _shapes(rng: Rng, size: int) -> Field:
    """Distance fields of discs, boxes, rings and stars, joined and cut, as bands, fillings or outlines."""
    total = np.full((size, size), 9, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        u, v = _turn(rng, size, 0.3)
        a, kind = rng.uniform(0.1, 0.35), rng.integers(4)
        r = np.maximum(np.abs(u) - a, np.abs(v) - a * 0.6) if kind == 1 else np.sqrt(u * u + v * v) - a
        if kind == 2:
            r = np.abs(r) - a * 0.3
        elif kind == 3:
            r = r + a * 0.4 * np.cos(np.arctan2(v, u) * int(rng.integers(3, 9)))
        total = np.maximum(total, -r) if rng.random() < 0.25 else np.minimum(total, r)
    filled = np.clip(-total * size * _pick(rng, [0.03, 1]), 0, 1)
    bands = np.sin(total * rng.uniform(20, 120)) * np.exp(-np.abs(total) * rng.uniform(0, 8))
    outline = np.clip(1.5 - np.abs(total) * size / rng.uniform(1, 4), 0, 1)
    return (filled, bands, outline + 0.5 * filled, filled * (1 + 0.3 * bands))[rng.integers(4)]


def _parts(rng: Rng, size: int) -> Pixels:
    """Pills, boxes, balls lying on a ground: Lambert's shading, a highlight and a shadow; in a tray at times."""
    y, x = _axes(size)
    height, owner = np.zeros((size, size), np.float32), np.zeros((size, size), np.intp)
    if rng.random() < 0.35:
        n = rng.uniform(2, 7)
        places = [(_frac(x * n) - 0.5, _frac(y * n) - 0.5, rng.uniform(0.25, 0.45) / n, n)]
    else:
        centres = rng.uniform(0, 1, (int(rng.integers(1, 9)), 2)).tolist()
        places = [(x - cx, y - cy, rng.uniform(0.06, 0.25), 1.0) for cy, cx in centres]
    squarings, same, angle = _pick(rng, [1, 1, 2, 3]), rng.random() < 0.5, rng.uniform(0, TAU)
    shape = rng.uniform(0.4, 1, 2).tolist()
    for n, (dx, dy, radius, scale) in enumerate(places):
        if not same:
            angle, shape = rng.uniform(0, TAU), rng.uniform(0.4, 1, 2).tolist()
        a, b = (radius * scale * part for part in shape)
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / a
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / b
        for _ in range(squarings):
            u, v = u * u, v * v
        dome = np.sqrt(np.clip(1 - u - v, 0, None)) * (radius * min(shape))
        owner += (n + 1 - owner) * (dome > height)
        height = np.maximum(height, dome)
    tones = np.array([_colour(rng, 40) for _ in range(len(places) + 1)], np.float32)
    if same:
        tones[1:] = tones[1]
    ground = _ground(rng, size)
    shift = int(size * rng.uniform(0.01, 0.06))
    shadow = np.roll(_smooth((height > 0).astype(np.float32), rng.uniform(1, 4)), (shift, shift), (0, 1))
    under = ground * _rgb(1 - rng.uniform(0.2, 0.8) * shadow)
    shade = _relief(rng, height * 4, rng.uniform(0.4, 1.2)) + 0.15
    top = (tones.take(owner, axis=0) * _rgb(shade)).clip(0, 255)
    return _blend(under.astype(np.uint8), top, (owner > 0))


def _discs(rng: Rng, size: int) -> Pixels:
    """Round goods from above: bottles, caps, biscuits, bearings: rings of other tones, gloss, crumbs or teeth."""
    y, x = _axes(size)
    n = _pick(rng, [1, 1, 2, 3]) * rng.uniform(0.8, 1.1)
    u, v = _frac(x * n) - 0.5, _frac(y * n) - 0.5
    r = np.sqrt(u * u + v * v) * 2
    if rng.random() < 0.4:
        r = r * (1 + rng.uniform(0.01, 0.06) * np.cos(np.arctan2(v, u) * int(rng.integers(6, 40))))
    r = r + rng.uniform(0, 0.08) * _noise(rng, size, 4, 3)
    count = int(rng.integers(2, 8))
    edges = np.sort(rng.uniform(0.1, 0.95, count)).astype(np.float32)
    tones = np.array([_colour(rng) for _ in range(count + 1)], np.float32)
    radii = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = tones[0] + np.clip((radii - edges) * (size / 3 / n), 0, 1) @ np.diff(tones, axis=0)
    picture = table.take((r * 255).clip(0, 255).astype(np.uint8), axis=0)
    light = (
        0.75 + rng.uniform(0, 0.4) * _noise(rng, size, _pick(rng, [2, 12]), 3) + 0.3 * np.cos(u * 2 + v * 3)
    )
    gloss = np.exp(-((u - 0.12) ** 2 + (v + 0.15) ** 2) * 200) * rng.uniform(0, 200)
    inside = picture * _rgb(light) + _rgb(gloss)
    return _blend(_ground(rng, size), inside.clip(0, 255), np.clip((0.97 - r) * size / 3 / n, 0, 1))


def _board(rng: Rng, size: int) -> Pixels:
    """A printed circuit: traces with bends of 45 degrees, pads with holes, chips with pins, printed words."""
    side = 2 * size
    base = np.array([(20, 80, 40), (20, 40, 90), (90, 20, 20), (25, 25, 25), (180, 170, 120)])[
        rng.integers(5)
    ]
    image = Image.new("RGB", (side, side), tuple(int(c) for c in base))
    pen, step = ImageDraw.Draw(image), side / rng.integers(10, 24)
    trace = tuple(int(c) for c in np.clip(base * 1.5 + 20, 0, 255))
    metal = (215, 200, 150) if rng.random() < 0.5 else (205, 205, 210)
    for _ in range(int(rng.integers(10, 30))):
        corners = [rng.integers(-1, 25, 2) * step]
        for way in rng.integers(0, 8, 4):
            move = np.round([np.cos(way * TAU / 8), np.sin(way * TAU / 8)])
            corners.append(corners[-1] + move * step * rng.integers(1, 6))
        pen.line(
            [float(c) for p in corners for c in p], fill=trace, width=max(1, int(step / 4)), joint="curve"
        )
        for cx, cy in (corners[0], corners[-1]):
            pen.ellipse((cx - step / 2, cy - step / 2, cx + step / 2, cy + step / 2), fill=metal)
            pen.ellipse((cx - step / 5, cy - step / 5, cx + step / 5, cy + step / 5), fill=(15, 15, 15))
    for _ in range(int(rng.integers(0, 4))):
        _chip(rng, pen, rng.integers(0, 20, 2) * step, step, metal)
    for _ in range(int(rng.integers(0, 4))):
        pen.text(
            tuple(rng.uniform(0, side, 2)),
            _word(rng, 6),
            fill=(235, 235, 235),
            font=_font(max(8, side // 20)),
        )
    return (np.asarray(image.reduce(2)) * _rgb(0.7 + 0.3 * _unit(_noise(rng, size, 2, 2)))).astype(np.uint8)


def _chip(rng: Rng, pen: ImageDraw.ImageDraw, at: Field, step: float, metal: tuple[int, ...]) -> None:
    """A dark case with pins on two sides."""
    x, y, pins = float(at[0]), float(at[1]), int(rng.integers(1, 7))
    wide = step * float(rng.integers(1, 6))
    for pin in range(pins):
        low = y + pin * step + step * 0.3
        pen.rectangle((x - step / 2, low, x + wide + step / 2, low + step * 0.4), fill=metal)
    dark = _colour(rng, 15, 60) if rng.random() < 0.8 else _colour(rng, 120)
    pen.rectangle((x, y, x + wide, y + pins * step), fill=dark)


def _cables(rng: Rng, size: int) -> Pixels:
    """Bundles of round wires that sway together, some crossing others."""
    picture = _ground(rng, size)
    for _ in range(int(rng.integers(1, 3))):
        u, v = _turn(rng, size, 0.2)
        count, wide = int(rng.integers(2, 9)), rng.uniform(0.03, 0.12)
        sway = rng.uniform(0.02, 0.15) * np.sin(u * rng.uniform(2, 9) + rng.uniform(0, TAU))
        place = (v + sway) / wide + count / 2
        wire = np.clip(np.floor(place), 0, count - 1)
        across = 2 * (place - wire) - 1
        shade = np.sqrt(np.clip(1 - across**2, 0, 1))
        gloss = rng.uniform(0, 150) * np.clip(1 - np.abs(across + 0.4) * 6, 0, 1)
        tones = np.array([_colour(rng, 30) for _ in range(count)], np.float32)
        twist = 1 - 0.4 * (np.sin(u / wide * 4 + across * 2) > 0) * (rng.random() < 0.3)
        wires = (tones.take(wire.astype(np.intp), axis=0) * _rgb(shade * twist) + _rgb(gloss)).clip(0, 255)
        inside = np.clip((count / 2 - np.abs(place - count / 2)) * size * wide, 0, 1)
        near = np.clip(1 - (np.abs(place - count / 2 - 0.4) - count / 2).clip(0) * 2, 0, 1)
        shaded = picture * _rgb((1 - 0.5 * near) * (1 - inside))
        picture = (shaded + wires * _rgb(inside)).astype(np.uint8)
    return picture


_FIELDS: dict[str, Callable[[Rng, int], Field]] = {
    "spectrum": _spectrum,
    "clouds": _clouds,
    "isolines": _isolines,
    "marble": _marble,
    "wood": _wood,
    "waves": _waves,
    "gratings": _gratings,
    "julia": partial(_escape, julia=True),
    "mandelbrot": partial(_escape, julia=False),
    "attractor": _attractor,
    "grains": _grains,
    "pebbles": _pebbles,
    "leather": _leather,
    "cracks": _cracks,
    "specks": _specks,
    "tiles": _tiles,
    "plastic": _plastic,
    "plate": _plate,
    "brushed": _brushed,
    "turned": _turned,
    "knurled": _knurled,
    "scratched": _scratched,
    "mesh": _mesh,
    "woven": _woven,
    "knit": _knit,
    "fibres": _fibres,
    "shapes": _shapes,
}
SCENES: dict[str, Callable[[Rng, int], Pixels]] = {
    **{name: partial(_painted, maker) for name, maker in _FIELDS.items()},
    "drilled": _drilled,
    "text": _text,
    "label": _label,
    "marking": _marking,
    "parts": _parts,
    "discs": _discs,
    "board": _board,
    "cables": _cables,
}
