"""Pictures drawn by code: what photographs of nature lack and factories have, for `andon.features.crops`.

Torch-free. A *field* is (S, S) float32, painted over its own range; a *picture* is (S, S, 3) uint8 RGB. A
scene makes either from (rng, size); `SCENES` names them all, as pictures. The same generator draws the same.
Gradient noise after Perlin 2002, cellular noise after Worley 1996, fractals to learn from after Kataoka et al.
2020 (arXiv:2101.08515), shader-like fields after Baradad et al. 2022 (arXiv:2211.16412).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from andon.features.drawn.cells import cracks, grains, leather, pebbles, plastic, plate, specks, tiles
from andon.features.drawn.colour import Field, Pixels, Rng, blend, paint, painted, rgb, unit
from andon.features.drawn.fabric import fibres, knit, woven
from andon.features.drawn.layout import noise
from andon.features.drawn.metal import brushed, drilled, knurled, mesh, scratched, turned
from andon.features.drawn.noises import (
    attractor,
    clouds,
    escape,
    gratings,
    isolines,
    marble,
    spectrum,
    waves,
    wood,
)
from andon.features.drawn.overlay import add_defect, add_object, soft_mask
from andon.features.drawn.printed import label, marking, text
from andon.features.drawn.things import board, cables, discs, parts, shapes

__all__ = ["SCENES", "Field", "Pixels", "Rng", "draw_texture", "paint"]


def draw_texture(rng: Rng, size: int) -> Pixels:
    """A scene, at times two; over it at times other light, objects, defects: (size, size, 3) uint8 RGB."""
    names = list(SCENES)
    picture = SCENES[names[rng.integers(len(names))]](rng, size)
    if rng.random() < 0.2:
        other = SCENES[names[rng.integers(len(names))]](rng, size)
        picture = blend(picture, other, soft_mask(rng, size))
    if rng.random() < 0.25:
        light = rgb(unit(noise(rng, size, 1, 2)))
        picture = (picture * (1 - rng.uniform(0.2, 0.8) * light)).astype(np.uint8)
    if rng.random() < 0.25:
        image = Image.fromarray(picture)
        for _ in range(int(rng.integers(1, 12))):
            add_object(rng, ImageDraw.Draw(image), size)
        picture = np.asarray(image)
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.4 else 0):
        picture = add_defect(rng, picture)
    return picture


_FIELDS: dict[str, Callable[[Rng, int], Field]] = {
    "spectrum": spectrum,
    "clouds": clouds,
    "isolines": isolines,
    "marble": marble,
    "wood": wood,
    "waves": waves,
    "gratings": gratings,
    "julia": partial(escape, julia=True),
    "mandelbrot": partial(escape, julia=False),
    "attractor": attractor,
    "grains": grains,
    "pebbles": pebbles,
    "leather": leather,
    "cracks": cracks,
    "specks": specks,
    "tiles": tiles,
    "plastic": plastic,
    "plate": plate,
    "brushed": brushed,
    "turned": turned,
    "knurled": knurled,
    "scratched": scratched,
    "mesh": mesh,
    "woven": woven,
    "knit": knit,
    "fibres": fibres,
    "shapes": shapes,
}
SCENES: dict[str, Callable[[Rng, int], Pixels]] = {
    **{name: partial(painted, maker) for name, maker in _FIELDS.items()},
    "drilled": drilled,
    "text": text,
    "label": label,
    "marking": marking,
    "parts": parts,
    "discs": discs,
    "board": board,
    "cables": cables,
}
