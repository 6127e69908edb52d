"""Colour and light: fields painted, pictures blended, surfaces lit. Letters as in `andon.features.drawn`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[Any]  # float32; NumPy's types widen what its functions return
Rng = np.random.Generator
TAU = 2 * math.pi


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


def painted(maker: Callable[[Rng, int], Field], rng: Rng, size: int) -> Pixels:
    return paint(rng, maker(rng, size))


def any_colour(rng: Rng, low: int = 0, high: int = 256) -> tuple[int, ...]:
    """Three values, equal half of the time."""
    values = rng.integers(low, high, 3)
    return tuple(int(value) for value in (values if rng.random() < 0.5 else values[[0, 0, 0]]))


def pick(rng: Rng, options: Sequence[Any]) -> Any:
    """One of them, as it is: NumPy's own choice makes scalars that widen float32."""
    return options[int(rng.integers(len(options)))]


def frac(x: Field) -> Field:
    """What % 1 gives, much faster."""
    return x - np.floor(x)


def rgb(x: Field) -> Field:
    """(S, S) three times, (S, S, 3): arithmetic over a short last axis is slow unless it is whole."""
    return np.stack([x, x, x], axis=-1)


def unit(x: Field) -> Field:
    """x scaled to [0, 1]."""
    low = x.min()
    return (x - low) / max(float(x.max() - low), 1e-9)


def _stretch(x: Field) -> Field:
    """x scaled so that the middle 98 % fill [0, 1]; its whole range where those are one value."""
    some = np.sort(x[::3, ::3], axis=None)
    low, high = float(some[len(some) // 100]), float(some[-len(some) // 100])
    return np.clip((x - low) / (high - low), 0, 1) if high - low > 1e-3 else unit(x)


def blend(under: Pixels, over: Pixels | Field, mask: Field) -> Pixels:
    """`over` where the mask is 1, `under` where it is 0."""
    x = under.astype(np.float32)
    return (x + (np.asarray(over, np.float32) - x) * rgb(mask.astype(np.float32))).astype(np.uint8)


def relief(rng: Rng, height: Field, strength: float = 1.0) -> Field:
    """Surface of that height, lit from a side: Lambert plus a highlight, (S, S)."""
    angle, lift = rng.uniform(0, TAU), rng.uniform(0.4, 1.5)
    dy, dx = (gradient * strength for gradient in np.gradient(height * len(height) / 4))
    shade = (lift - dy * math.sin(angle) - dx * math.cos(angle)) / np.sqrt(
        (1 + dx**2 + dy**2) * (1 + lift**2)
    )
    shade = np.clip(shade, 0, 1)
    return shade + rng.uniform(0, 1.5) * shade**20


def smooth(x: Field, sigma: float) -> Field:
    """x under a Gaussian of `sigma` pixels."""
    place = np.arange(len(x), dtype=np.float32)
    kernel = np.exp(np.maximum(-(((place[:, None] - place) / sigma) ** 2) / 2, -30))  # denormals are slow
    kernel /= kernel.sum(1, keepdims=True)
    return kernel @ x @ kernel.T
