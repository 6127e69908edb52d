"""Good images varied a little, as the line varies them: turned, mirrored, cut, lit and disturbed. NumPy and Pillow.

Rotation and noise are those of the AutoVI study (Carvalho et al. 2024, The Automotive Visual Inspection Dataset):
within 15 degrees, and Gaussian with a variance drawn from U(10, 120) on the 0..255 scale, each with probability 0.5.
A rotated image's corners are filled by reflection at the borders, so that no black wedge is learnt as good.

An image (3, H, W) float32 in [0, 1] stays one. What is drawn depends on (seed, epoch, image, tile) and the kind alone:
neither on the order in which images are read nor on the other kinds that are on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.prints import Prints
from andon.errors import SettingsError, did_you_mean

Picture = NDArray[np.float32]  # (3, H, W) in [0, 1]

CHANCE = 0.5  # of each kind
DEGREES = 15.0
VARIANCE = (10.0, 120.0)  # of the noise, on the 0..255 scale
BRIGHTNESS = 0.15  # factor 1 - 0.15 to 1 + 0.15
CONTRAST = 0.1  # the same, of the distance from the image's mean
LEAST_SIDE = 0.85  # share of the sides that a crop leaves


def flip(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` mirrored left to right."""
    return image[:, :, ::-1]


def flip_vertical(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` mirrored top to bottom."""
    return image[:, ::-1]


def crop(image: Picture, rng: np.random.Generator) -> Picture:
    """A part of ``image`` of its own shape, at least ``LEAST_SIDE`` of each side, at its size again (bicubic)."""
    height, width = image.shape[1:]
    share = rng.uniform(LEAST_SIDE, 1.0)
    top, left = rng.uniform(0, (1 - share) * height), rng.uniform(0, (1 - share) * width)
    box = (left, top, left + share * width, top + share * height)
    bicubic = Image.Resampling.BICUBIC
    return _by_channel(image, lambda channel: channel.resize((width, height), bicubic, box=box))


def rotation(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` turned about its middle by U(-15, 15) degrees (bicubic), its borders reflected into the corners."""
    height, width = image.shape[1:]
    radians = math.radians(DEGREES)
    rows = math.ceil((height * math.cos(radians) + width * math.sin(radians) - height) / 2) + 3
    columns = math.ceil((width * math.cos(radians) + height * math.sin(radians) - width) / 2) + 3
    padded = np.pad(image, ((0, 0), (rows, rows), (columns, columns)), mode="symmetric")
    degrees = rng.uniform(-DEGREES, DEGREES)
    turned = _by_channel(padded, lambda channel: channel.rotate(degrees, Image.Resampling.BICUBIC))
    return turned[:, rows : rows + height, columns : columns + width]


def light(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` as a lamp of another strength shows it, and with another contrast about its own mean."""
    brightness = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    contrast = rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    mean = np.float32(image.mean())
    return ((image - mean) * np.float32(contrast) + mean) * np.float32(brightness)


def noise(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` with Gaussian noise, independent in every pixel and channel, of a variance from U(10, 120) / 255^2."""
    sigma = math.sqrt(rng.uniform(*VARIANCE)) / 255
    return image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)


# name -> what it does, in the order in which they are applied: the noise last, so that nothing smooths it
KINDS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "flip": flip, "flip-vertical": flip_vertical, "crop": crop, "rotation": rotation, "light": light, "noise": noise,
}  # fmt: skip
STUDY = ("rotation", "noise")


@dataclass(frozen=True)
class Augmentation:
    """Some of the kinds of ``KINDS``, each applied with probability ``CHANCE``; ``prints`` likewise, before them."""

    kinds: tuple[str, ...]
    prints: Prints | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                hint = did_you_mean(kind, KINDS)
                raise SettingsError(
                    f"there is no augmentation {kind!r}.{hint} Give 'study' or some of: {', '.join(KINDS)}"
                )

    @classmethod
    def parse(cls, text: str) -> Augmentation | None:
        """The augmentation that ``text`` names: ``study``, kinds separated by commas, or none for an empty text.

        >>> Augmentation.parse("study").kinds
        ('rotation', 'noise')
        >>> Augmentation.parse("noise, flip").kinds
        ('flip', 'noise')
        """
        words = {word.strip() for word in text.split(",")} - {""}
        if "study" in words:
            words = words - {"study"} | set(STUDY)
        order = list(KINDS)
        return (
            cls(tuple(sorted(words, key=lambda word: order.index(word) if word in KINDS else -1)))
            if words
            else None
        )

    def __call__(self, image: Picture, *, seed: int, epoch: int, number: int, tile: int = 0) -> Picture:
        """``image`` (3, H, W) varied: always the same for the same four numbers."""
        if self.prints is not None:
            rng = np.random.default_rng([seed, epoch, number, tile, len(KINDS)])
            if rng.random() < CHANCE:
                image = self.prints(image, rng)
        for index, kind in enumerate(KINDS):
            if kind in self.kinds:
                rng = np.random.default_rng([seed, epoch, number, tile, index])
                if rng.random() < CHANCE:
                    image = KINDS[kind](image, rng)
        return np.ascontiguousarray(image.clip(0, 1), dtype=np.float32)

    def tiles(self, images: Picture, *, seed: int, epoch: int, number: int) -> Picture:
        """The tiles (n, 3, H, W) of one photograph, each varied on its own."""
        return np.stack([self(image, seed=seed, epoch=epoch, number=number, tile=tile)
                         for tile, image in enumerate(images)])  # fmt: skip

    def described(self) -> dict[str, str]:
        """Each kind with what it does, in words for people."""
        low, high = VARIANCE
        words = {
            "flip": "left to right",
            "flip-vertical": "top to bottom",
            "crop": f"to {LEAST_SIDE:.0%} of the sides at least",
            "rotation": f"within {DEGREES:g} degrees, borders reflected",
            "light": f"brightness within {BRIGHTNESS:.0%}, contrast within {CONTRAST:.0%}",
            "noise": f"Gaussian, variance {low:g} to {high:g} on the 0..255 scale",
        }
        kinds = {kind: words[kind] for kind in self.kinds}
        if self.prints is not None:
            kinds["print"] = self.prints.described()
        return {kind: f"{what}, probability {CHANCE:g}" for kind, what in kinds.items()}


def _by_channel(image: Picture, change: Callable[[Image.Image], Image.Image]) -> Picture:
    """``image`` with ``change`` applied to each of its channels, as a Pillow image of floats."""
    return np.stack([np.asarray(change(Image.fromarray(channel)), dtype=np.float32)
                     for channel in np.ascontiguousarray(image)])  # fmt: skip
