"""Images to distil on: crops of photographs and pictures drawn by code, disturbed as a factory disturbs them.

Torch-free. Images are (S, S, 3) uint8 RGB unless said otherwise; everything random takes a NumPy Generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from andon.errors import DataError
from andon.features.drawn import Pixels, draw_texture

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class CropSource:
    """Square crops of side `size`, an endless supply: `source.draw(rng)` -> (size, size, 3) uint8.

    Folders are drawn from with equal probability whatever their number of images; `drawn` is the share of
    textures drawn by code.
    """

    def __init__(self, folders: Sequence[str | Path], size: int = 160, drawn: float = 0.15) -> None:
        self.size, self.drawn = size, drawn
        self.images = [list_images(folder) for folder in folders]

    def draw(self, rng: np.random.Generator) -> Pixels:
        """One crop, disturbed."""
        if not self.images or rng.random() < self.drawn:
            crop = draw_texture(rng, self.size)
        else:
            paths = self.images[int(rng.integers(len(self.images)))]
            crop = self._photograph(rng, paths)
        return disturb(rng, crop)

    def batch(self, rng: np.random.Generator, count: int) -> Pixels:
        """(count, 3, size, size) uint8."""
        return np.stack([self.draw(rng) for _ in range(count)]).transpose(0, 3, 1, 2).copy()

    def _photograph(self, rng: np.random.Generator, paths: Sequence[Path]) -> Pixels:
        """A random-resized crop of a large image, or four small images side by side."""
        image = open_rgb(paths[int(rng.integers(len(paths)))])
        if min(image.size) >= 96:
            return random_crop(rng, image, self.size)
        if rng.random() < 0.5:
            return random_crop(rng, image, self.size, smallest=40)
        tile = self.size // 2
        tiles = [image] + [open_rgb(paths[int(rng.integers(len(paths)))]) for _ in range(3)]
        small = [random_crop(rng, tile_image, tile, smallest=48) for tile_image in tiles]
        return np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])


def list_images(folder: str | Path) -> list[Path]:
    """Every image below `folder`, sorted; DataError when there is none."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(f"expected images ({kinds}) below {folder}, found none; name a folder with images")
    return paths


def open_rgb(path: Path) -> Image.Image:
    """The image as RGB; large JPEGs are decoded at a reduced size, which is faster."""
    image = Image.open(path)
    image.draft("RGB", (320, 320))
    return image.convert("RGB")


def random_crop(rng: np.random.Generator, image: Image.Image, size: int, smallest: int = 96) -> Pixels:
    """A square of random place and side (at least `smallest` pixels), resized to `size`, flipped or not."""
    short = min(image.size)
    side = int(rng.integers(min(smallest, short), short + 1))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
    box = (left, top, left + side, top + side)
    crop = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0))
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def disturb(rng: np.random.Generator, crop: Pixels) -> Pixels:
    """The crop with other light, contrast and colour, at times grey, blurred, noisy or turned."""
    x = crop.astype(np.float32) / 255
    if rng.random() < 0.2:
        x = np.repeat(x @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if rng.random() < 0.6:
        gain, shift = rng.uniform(0.6, 1.4), rng.uniform(-0.15, 0.15)
        tint = 1 + rng.uniform(-0.1, 0.1, 3) * (rng.random() < 0.5)
        x = (x - 0.5) * gain * tint + 0.5 + shift
    if rng.random() < 0.2:
        x = np.clip(x, 0, 1) ** rng.uniform(0.6, 1.7)
    if rng.random() < 0.25:
        x = x + rng.normal(0, rng.uniform(0.005, 0.06), x.shape)
    out = (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.2:
        out = np.asarray(Image.fromarray(out).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5))))
    return np.rot90(out, int(rng.integers(4))) if rng.random() < 0.25 else out
