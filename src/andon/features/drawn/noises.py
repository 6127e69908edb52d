"""Scenes of noise and fractals: clouds, marble, wood, waves; escape times and attractors."""

from __future__ import annotations

import cmath
import math

import numpy as np

from andon.features.drawn.colour import TAU, Field, Rng, frac, pick, smooth, unit
from andon.features.drawn.layout import gradient_noise, noise, turn, white


def spectrum(rng: Rng, size: int) -> Field:
    """Noise whose spectrum falls with a random power."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    radius = np.hypot(fy * rng.uniform(0.3, 3), fx)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(white(rng, size)) / radius ** rng.uniform(0.3, 2.2)
    return np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)


def clouds(rng: Rng, size: int) -> Field:
    kind = ("plain", "turbulent", "ridged")[rng.integers(3)]
    field = noise(rng, size, rng.uniform(1.5, 12), int(rng.integers(1, 6)), pick(rng, [1, 1, 4]), kind)
    return np.clip((field - field.mean()) * rng.uniform(2, 20), -1, 1) if rng.random() < 0.3 else field


def isolines(rng: Rng, size: int) -> Field:
    """Lines or terraces of equal height."""
    field = unit(noise(rng, size, rng.uniform(1, 5), int(rng.integers(1, 4)))) * rng.uniform(3, 14)
    return np.floor(field) if rng.random() < 0.5 else np.abs(np.sin(field * np.pi)) ** rng.uniform(0.2, 2)


def marble(rng: Rng, size: int) -> Field:
    u, _ = turn(rng, size)
    veins = u * rng.uniform(2, 8) + rng.uniform(0.5, 3) * noise(rng, size, 3, 5, 1, "turbulent")
    return np.abs(np.sin(veins * np.pi)) ** rng.uniform(0.3, 2)


def wood(rng: Rng, size: int) -> Field:
    """Rings about a far centre, and fibres along them."""
    u, v = turn(rng, size)
    rings = np.hypot(u * rng.uniform(0.05, 0.3), v + rng.uniform(-0.5, 0.5)) * rng.uniform(8, 30)
    rings = frac(rings + rng.uniform(0.3, 1.5) * noise(rng, size, 2, 3))
    return rings + rng.uniform(0.2, 1) * gradient_noise(rng, size, 2, size / 3 if rng.random() < 0.5 else 2)


def waves(rng: Rng, size: int) -> Field:
    """Sines of each other: domain warping."""
    u, v = turn(rng, size)
    for _ in range(int(rng.integers(2, 5))):
        a, b, c = rng.uniform(2, 14, 3).tolist()
        u, v = u + np.sin(v * a + c) / a * 1.5, v + np.sin(u * b + c) / b * 1.5
    return np.sin(u * rng.uniform(3, 30)) + rng.uniform(0, 1) * np.sin(v * rng.uniform(3, 30))


def gratings(rng: Rng, size: int) -> Field:
    """Two gratings at random angles and periods, added or multiplied, at times black and white."""
    u, v = turn(rng, size)
    one = np.sin(TAU * u * rng.uniform(3, 40))
    angle = rng.uniform(0, np.pi)
    two = np.sin(TAU * (u * math.cos(angle) + v * math.sin(angle)) * rng.uniform(3, 40))
    mixed = one + two if rng.random() < 0.5 else one * two
    mixed = np.sign(mixed) if rng.random() < 0.3 else mixed
    return mixed + rng.uniform(0, 0.3) * white(rng, size)


def escape(rng: Rng, size: int, julia: bool) -> Field:
    """Steps until z^2 + c escapes, or how near its orbit comes to a line, about a point of the boundary."""
    y, x = turn(rng, size, upright=0)
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
    return np.sqrt(count) - pick(rng, [0.05, 0.3, 1.0]) * np.log(trap + 0.01)


def attractor(rng: Rng, size: int) -> Field:
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
    i, j = ((unit(place) * (0.9 * size) + 0.05 * size).astype(np.intp) for place in (x, y))
    density = np.bincount(i * size + j, minlength=size * size).reshape(size, size)
    density = np.log1p(density.astype(np.float32))
    return smooth(density, rng.uniform(0.5, 2)) if rng.random() < 0.7 else density.clip(0, 1.5)
