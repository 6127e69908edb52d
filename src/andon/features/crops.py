"""Images to distil on: crops of photographs and textures drawn by code, disturbed as a factory disturbs them.

Torch-free. Images are (S, S, 3) uint8 RGB unless said otherwise; everything random takes a NumPy Generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from andon.errors import DataError

Pixels = NDArray[np.uint8]
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


def draw_texture(rng: np.random.Generator, size: int) -> Pixels:
    """A surface such as factories have: coloured noise, brushed lines, a weave, a plate; at times objects."""
    makers = (_noise, _brushed, _weave, _plate)
    grey = makers[rng.integers(len(makers))](rng, size)
    dark, bright = np.sort(rng.uniform(0, 255, (2, 3)), axis=0)
    if rng.random() < 0.5:  # a grey surface
        dark, bright = np.full(3, dark.mean()), np.full(3, bright.mean())
    x = dark + (bright - dark) * grey[..., None]
    image = Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 12))):
        _object(rng, ImageDraw.Draw(image), size)
    return np.asarray(image)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x scaled to [0, 1]."""
    return (x - x.min()) / max(float(np.ptp(x)), 1e-9)


def _noise(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Noise whose spectrum falls with a random power, (size, size) in [0, 1]."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    radius = np.hypot(fy * rng.uniform(0.3, 3), fx)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / radius ** rng.uniform(0.3, 2.2)
    return _unit(np.fft.irfft2(spectrum, s=(size, size)))


def _brushed(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Lines along one direction with a light falling across, (size, size) in [0, 1]."""
    lines = np.repeat(rng.normal(size=(size, 1)), size, axis=1) + 0.4 * rng.normal(size=(size, size))
    ramp = np.linspace(0, rng.uniform(0, 6), size)
    return _unit(lines + (ramp if rng.random() < 0.5 else ramp[:, None]))


def _weave(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Two gratings at random angles and periods, added or multiplied, (size, size) in [0, 1]."""
    y, x = np.mgrid[:size, :size]
    waves = []
    for _ in range(2):
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 48)
        waves.append(np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 6)))
    mixed = waves[0] + waves[1] if rng.random() < 0.5 else waves[0] * waves[1]
    if rng.random() < 0.4:
        mixed = np.sign(mixed)
    return _unit(mixed + rng.uniform(0, 0.3) * rng.normal(size=(size, size)))


def _plate(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A smooth plate under an uneven light, (size, size) in [0, 1]."""
    y, x = np.mgrid[:size, :size] / size - rng.uniform(0, 1, (2, 1, 1))
    return _unit(np.exp(-(x**2 + y**2) * rng.uniform(0.2, 4)) + 0.02 * rng.normal(size=(size, size)))


def _object(rng: np.random.Generator, pen: ImageDraw.ImageDraw, size: int) -> None:
    """One ellipse, box, line or polygon of a random colour."""
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
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
