"""Panels of 4096 x 3072 pixels composed from smaller pictures, and small defects planted on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.synthetic import draw
from andon.image import decode

Pixels = NDArray[np.uint8]  # (H, W, 3)
Rng = np.random.Generator

SIZE = (3072, 4096)
DEFECT = 20  # pixels
FRAME = 8  # pixels around each photograph of a real set


def bracket_cells(seeds: Sequence[int]) -> list[Pixels]:
    """Pictures of good brackets, a quarter of a panel's rows and columns each."""
    return [draw((seed, 9), size=(SIZE[0] // 4, SIZE[1] // 4), light=0.5).image for seed in seeds]


def real_cells(paths: Sequence[Path]) -> list[Pixels]:
    """Photographs at 256 x 256, each in a frame: where two meet would be new on every panel."""
    cells = [np.array(Image.fromarray(decode(path).pixels).resize((256, 256))) for path in paths]
    for cell in cells:
        cell[:FRAME] = cell[-FRAME:] = cell[:, :FRAME] = cell[:, -FRAME:] = 60
    return cells


def panel(cells: Sequence[Pixels], rng: Rng) -> Pixels:
    """A panel of ``SIZE`` made of ``cells``, drawn with replacement, in light that varies by 5 %."""
    height, width = cells[0].shape[:2]
    rows, columns = SIZE[0] // height, SIZE[1] // width
    picked = rng.choice(len(cells), (rows, columns))
    whole = np.concatenate([np.concatenate([cells[i] for i in row], axis=1) for row in picked])
    table = np.clip(np.arange(256) * rng.uniform(0.95, 1.05), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(table[whole])


def planted(pixels: Pixels, rng: Rng) -> tuple[Pixels, tuple[int, int]]:
    """The panel with one defect of ``DEFECT`` pixels, and the defect's middle."""
    row, column = (int(rng.integers(DEFECT, side - DEFECT)) for side in pixels.shape[:2])
    y, x = np.mgrid[-DEFECT : DEFECT + 1, -DEFECT : DEFECT + 1].astype(np.float64)
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kind = rng.choice(["pit", "speck", "scratch", "stain"])
    radius = DEFECT / 2
    if kind == "scratch":
        cover = (np.abs(along) <= radius) * np.clip(2.5 - np.abs(across), 0, 1)
    elif kind == "stain":
        cover = np.clip(1.5 - 1.5 * np.hypot(x, y) / radius, 0, 1)
    else:
        cover = np.clip(radius + 0.5 - np.hypot(x, y / 0.7), 0, 1)
    tone = {"pit": 0, "speck": 255, "scratch": 230, "stain": 60}[str(kind)]
    share = (rng.uniform(0.3, 0.8) * cover)[..., None]
    changed = pixels.copy()
    window = (
        slice(row - DEFECT, row + DEFECT + 1),
        slice(column - DEFECT, column + DEFECT + 1),
    )
    changed[window] = np.rint(pixels[window] * (1 - share) + tone * share)
    return changed, (row, column)


def panels_to_judge(
    cells: Sequence[Pixels], good: int, defects: int
) -> Iterator[tuple[Pixels, tuple[int, int] | None]]:
    """Good panels, then panels with a defect and where it is; no two alike."""
    for number in range(good + defects):
        rng = np.random.default_rng((number, 1))
        pixels = panel(cells, rng)
        yield (pixels, None) if number < good else planted(pixels, rng)
