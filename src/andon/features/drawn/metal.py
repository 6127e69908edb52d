"""Scenes of metal: brushed, turned, knurled, scratched, drilled, perforated."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from andon.features.drawn.cells import plastic, plate
from andon.features.drawn.colour import TAU, Field, Pixels, Rng, frac, paint, pick, relief, smooth, unit
from andon.features.drawn.layout import axes, gradient_noise, noise, turn, white
from andon.features.drawn.noises import spectrum


def brushed(rng: Rng, size: int) -> Field:
    """Lines along one direction with a light falling across."""
    lines = (
        gradient_noise(rng, size, size / 2.2, rng.uniform(0.5, 6))
        + rng.standard_normal((size, 1), np.float32) * 0.3
    )
    field = lines * rng.uniform(0.2, 1) + 0.1 * white(rng, size) + rng.uniform(0, 3) * plate(rng, size)
    return field if rng.random() < 0.5 else field.T


def turned(rng: Rng, size: int) -> Field:
    """A face off the lathe: grooves about a centre, and two highlights across them."""
    u, v = turn(rng, size, 0)
    u, v = u * 2, v * 2
    rr = u * u + v * v + 1e-6
    r = np.sqrt(rr)
    groove = rng.standard_normal(256, np.float32).take((r * rng.uniform(10, 70)).astype(np.intp) & 255)
    groove += np.sin(r * rng.uniform(20, 120)) * rng.uniform(0, 2)
    light = (u * u / rr) ** int(rng.integers(1, 8))
    field = (0.3 + light) * (1 + rng.uniform(0.05, 0.3) * groove)
    hole = np.clip((r - rng.uniform(0, 0.4)) * size / 4, 0, 1)
    return field * hole * (0.4 + 0.6 * np.clip((rng.uniform(0.6, 2) - r) * size / 4, 0, 1))


def knurled(rng: Rng, size: int) -> Field:
    """Pyramids, ridges or lentils in a lattice, lit, on a round bar or a plate."""
    u, v = turn(rng, size)
    scale = rng.uniform(5, 20)
    shear = pick(rng, [0, 1])
    a, b = frac((u + v * shear) * scale), frac((v - u * shear) * scale * rng.uniform(0.5, 1))
    a, b = np.abs(2 * a - 1), np.abs(2 * b - 1)
    height = (np.maximum(a, b), np.minimum(a, b), a, a * b)[rng.integers(4)]
    shade = relief(rng, np.minimum(height, rng.uniform(0.5, 1)) * rng.uniform(0.05, 0.25) / scale * 8)
    y, _ = axes(size)
    round_bar = np.sqrt(np.clip(1 - (2 * y - 1) ** 2, 0.02, 1)) if rng.random() < 0.5 else 1
    return (shade + 0.05 * white(rng, size)) * round_bar


def scratched(rng: Rng, size: int) -> Field:
    """A worn plate: fine scratches every way or mostly one."""
    image = Image.new("L", (2 * size, 2 * size), 60)
    pen, spread = ImageDraw.Draw(image), pick(rng, [0.1, 0.5, 3])
    count = int(rng.integers(10, 120))
    places, main = rng.uniform(0, 2 * size, (count, 2)), rng.uniform(0, TAU)
    angles, lengths = rng.normal(main, spread, count), size * rng.exponential(0.4, count)
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
    for a, step, light in zip(places, steps, rng.integers(0, 256, count)):
        pen.line((*a, *(a + step)), fill=int(light), width=1 + int(light) % 2)
    field = np.asarray(image.reduce(2), np.float32) / 255
    return field + rng.uniform(0, 1) * plate(rng, size) + rng.uniform(0, 0.5) * noise(rng, size, 3)


def drilled(rng: Rng, size: int) -> Pixels:
    """A plate with holes, or screws with a slot, a cross or a socket, in rows or anywhere."""
    ground = (brushed, plate, spectrum, plastic)[rng.integers(4)](rng, size)
    ground, height = unit(ground) * rng.uniform(0.1, 0.4) + 0.3, np.zeros((size, size), np.float32)
    screw, (y, x), n = rng.random() < 0.6, axes(size), int(rng.integers(1, 5))
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
    shade = relief(rng, smooth(height, 0.8), 3)
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


def mesh(rng: Rng, size: int) -> Field:
    """A perforated sheet or grille: round, square or hexagonal openings in a lattice."""
    u, v = turn(rng, size)
    scale, kind = rng.uniform(4, 20), rng.integers(3)
    v = v * scale + 90
    u = u * scale + 90 + 2 * frac(np.floor(v) / 2) * pick(rng, [0, 0.5])
    a, b = np.abs(frac(u) - 0.5), np.abs(frac(v) - 0.5)
    d = (np.sqrt(a * a + b * b), np.maximum(a, b), np.maximum(a * 0.866 + b * 0.5, b))[kind] - rng.uniform(
        0.2, 0.45
    )
    sheet = np.clip(d * size / scale, 0, 1)
    ground = rng.uniform(0, 0.5) * noise(rng, size, 4)
    return sheet * (1 + ground + rng.uniform(0, 0.5) * relief(rng, smooth(sheet, 1) * 0.02)) + ground * 0.5
