"""Textures to plant as defects: drawn by code or cut from a folder of pictures, and disturbed.

Zavrtanik, Kristan, Skočaj 2021 (DRAEM, arXiv:2108.07610), section 3.2: a random texture, changed by three random
operations out of posterise, sharpen, solarise, equalise, brightness, colour, autocontrast (here also gamma, inversion
and rotation, as in the authors' code), shows through a mask.

Torch-free. Pictures are (H, W, 3) uint8 RGB; everything random takes a NumPy Generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from andon.errors import SettingsError
from andon.features.crops import Pixels, list_images, open_rgb, random_crop
from andon.features.drawn import draw_texture

DRAWN = "drawn"
Rng = np.random.Generator


class TextureSource:
    """An endless supply of textures: ``source.draw(rng, (H, W))`` -> (H, W, 3) uint8.

    ``textures``: "drawn" for those that `andon.features.drawn` draws, or a folder of pictures. Raises
    :class:`SettingsError` where that is no folder, :class:`DataError` where it holds no picture.
    """

    def __init__(self, textures: str | os.PathLike[str]) -> None:
        self.paths: list[Path] = []
        if os.fspath(textures) != DRAWN:
            if not Path(textures).is_dir():
                raise SettingsError(
                    f'textures must be "{DRAWN}" or a folder of pictures, got {os.fspath(textures)!r}'
                )
            self.paths = list_images(Path(textures))

    def draw(self, rng: Rng, size: tuple[int, int]) -> Pixels:
        """One texture of ``size`` (H, W), as it is."""
        side = max(size)
        if self.paths:
            picture = random_crop(rng, open_rgb(self.paths[int(rng.integers(len(self.paths)))]), side)
        else:
            picture = draw_texture(rng, side)
        return np.ascontiguousarray(picture[: size[0], : size[1]])


def disturbed(rng: Rng, picture: Pixels) -> Pixels:
    """The picture after three different :data:`OPERATIONS`, in random order."""
    image = Image.fromarray(picture)
    for number in rng.choice(len(OPERATIONS), 3, replace=False):
        image = OPERATIONS[number](rng, image)
    return np.asarray(image)


def _gamma(rng: Rng, image: Image.Image) -> Image.Image:
    """Each channel to a power of its own, 1/2 to 2."""
    steps = np.linspace(0, 1, 256)
    tables = [255 * steps**power for power in rng.uniform(0.5, 2.0, 3)]
    return image.point(np.concatenate(tables).astype(int).tolist())


def _brightness(rng: Rng, image: Image.Image) -> Image.Image:
    gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return image.point((np.arange(256) * gain + shift).clip(0, 255).astype(int).tolist() * 3)


def _sharpness(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(rng.uniform(0.1, 1.9))


def _colour(rng: Rng, image: Image.Image) -> Image.Image:
    """Hue and saturation shifted, by up to 50 of 255 each."""
    hue, saturation, value = image.convert("HSV").split()
    steps, (turn, shift) = np.arange(256), rng.integers(-50, 51, 2)
    hue = hue.point(((steps + turn) % 256).tolist())
    saturation = saturation.point((steps + shift).clip(0, 255).tolist())
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _solarise(rng: Rng, image: Image.Image) -> Image.Image:
    """Half of the time, what is brighter than a threshold inverted."""
    return ImageOps.solarize(image, int(rng.integers(32, 129))) if rng.random() < 0.5 else image


def _posterise(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageOps.posterize(image, int(rng.integers(1, 9)))


def _invert(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageOps.invert(image)


def _autocontrast(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(image, cutoff=rng.uniform(0, 20))


def _equalise(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageOps.equalize(image)


def _rotate(rng: Rng, image: Image.Image) -> Image.Image:
    """Turned by up to 45 degrees; the corners are black."""
    return image.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)


# The authors' ten, with the ranges of their code.
OPERATIONS: list[Callable[[Rng, Image.Image], Image.Image]] = [
    _gamma, _brightness, _sharpness, _colour, _solarise, _posterise, _invert, _autocontrast, _equalise, _rotate,
]  # fmt: skip
