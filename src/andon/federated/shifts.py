"""How the photographs of one line differ from those of another line that makes the same part: lamps, camera, print.

A shift is drawn once for a line and changes all its photographs alike, in the ranges of :mod:`andon.data.augment`.
Photographs are (H, W, 3) uint8 RGB, masks (H, W) bool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from andon.data.augment import BRIGHTNESS, CONTRAST, VARIANCE
from andon.data.prints import draw_print
from andon.errors import SettingsError, did_you_mean

Photo = NDArray[np.uint8]
Mask = NDArray[np.bool_]

KINDS = ("light", "camera", "print")
WARMTH = 0.06  # red is multiplied by 1 + it at most, blue by 1 - it
DEGREES = 3.0  # that a camera hangs askew at most
ZOOM = 0.08  # by which a camera stands nearer at most
BLUR = 0.8  # deviation in pixels, at most
PRINT = (0.18, 0.28)  # share of the rows and columns that a print covers
_REACH = 0.2  # share of the sides that is mirrored outward before turning


@dataclass(frozen=True)
class Shift:
    """What one line does to its photographs; as made without arguments, nothing."""

    brightness: float = 1.0  # factor
    contrast: float = 1.0  # factor of the distance from the photograph's mean
    warmth: float = 0.0  # red times 1 + it, blue times 1 - it
    degrees: float = 0.0  # counter-clockwise
    zoom: float = 1.0  # at least 1
    blur: float = 0.0  # deviation in pixels
    noise: float = 0.0  # variance on the 0..255 scale
    print_seed: int | None = None  # of the print in one of the corners; None: none

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self != Shift()

    def photo(self, pixels: Photo, number: int, defect: Mask | None = None) -> Photo:
        """``pixels`` as this line shows them. ``number`` tells its noise apart; a print never covers ``defect``."""
        image = Image.fromarray(self._turned(pixels, Image.Resampling.BICUBIC))
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        seen = np.asarray(image, np.float32)
        if self.print_seed is not None:
            seen = _printed(seen, self.print_seed, None if defect is None else self.mask(defect))
        mean = seen.mean()
        seen = ((seen - mean) * self.contrast + mean) * self.brightness
        seen = seen * np.array([1 + self.warmth, 1, 1 - self.warmth], np.float32)
        if self.noise:
            rng = np.random.default_rng([number, 1 if self.print_seed is None else 2 + self.print_seed])
            seen = seen + math.sqrt(self.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8)

    def mask(self, mask: Mask) -> Mask:
        """``mask`` where this line's camera shows it."""
        return self._turned(mask.astype(np.uint8), Image.Resampling.NEAREST).astype(bool)

    def _turned(self, array: Photo, resample: Image.Resampling) -> Photo:
        """``array`` (H, W[, 3]) turned and magnified about its middle, its borders mirrored outward."""
        if self.degrees == 0 and self.zoom == 1:
            return array
        height, width = array.shape[:2]
        rows, columns = math.ceil(_REACH * height), math.ceil(_REACH * width)
        padded = np.pad(
            array, ((rows, rows), (columns, columns)) + ((0, 0),) * (array.ndim - 2), mode="symmetric"
        )
        angle = math.radians(self.degrees)
        a, b = math.cos(angle) / self.zoom, -math.sin(angle) / self.zoom
        x, y = width / 2, height / 2  # output (u, v) -> padded: R (u - x, v - y) + middle of the padded array
        matrix = (a, b, x + columns - a * x - b * y, -b, a, y + rows + b * x - a * y)
        turned = Image.fromarray(padded).transform((width, height), Image.Transform.AFFINE, matrix, resample)
        return np.asarray(turned)


def draw_shifts(lines: int, kinds: Sequence[str], strength: float, seed: int) -> list[Shift]:
    """A shift for each of ``lines``, of the ``kinds`` asked for; ``strength`` multiplies its ranges, 0 for none.

    Raises :class:`SettingsError` for an unknown kind and a strength outside [0, 2].
    """
    for kind in kinds:
        if kind not in KINDS:
            raise SettingsError(
                f"there is no shift {kind!r}.{did_you_mean(kind, KINDS)} Give some of: {', '.join(KINDS)}"
            )
    if not 0 <= strength <= 2:
        raise SettingsError(f"the strength of a shift must lie between 0 and 2, got {strength!r}")
    return [_draw(np.random.default_rng([seed, line]), set(kinds), strength) for line in range(lines)]


def _draw(rng: np.random.Generator, kinds: set[str], strength: float) -> Shift:
    """One line's shift. Everything is drawn, whatever is asked for: a kind that is left out changes no other."""
    brightness, contrast, warmth, degrees = (strength * rng.uniform(-1, 1, 4)).tolist()
    zoom, blur, noise = (strength * rng.uniform(0, 1, 3)).tolist()
    print_seed = int(rng.integers(1 << 31))
    found = {
        "light": {
            "brightness": 1 + BRIGHTNESS * brightness,
            "contrast": 1 + CONTRAST * contrast,
            "warmth": WARMTH * warmth,
        },
        "camera": {"degrees": DEGREES * degrees, "zoom": 1 + ZOOM * zoom, "blur": BLUR * blur,
                   "noise": VARIANCE[1] * noise},
        "print": {"print_seed": print_seed if strength else None},
    }  # fmt: skip
    return Shift(
        **{name: value for kind, own in found.items() if kind in kinds for name, value in own.items()}
    )


def _printed(seen: NDArray[np.float32], seed: int, defect: Mask | None) -> NDArray[np.float32]:
    """``seen`` (H, W, 3) in 0..255 with a print in the corner that ``seed`` chooses, except over the ``defect``."""
    height, width = seen.shape[:2]
    size = (max(8, round(PRINT[0] * height)), max(8, round(PRINT[1] * width)))
    size = (min(size[0], height), min(size[1], width))
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(2)) * (height - size[0]), int(rng.integers(2)) * (width - size[1])
    box = slice(top, top + size[0]), slice(left, left + size[1])
    printed = seen.copy()
    printed[box] = 255 * draw_print(rng, size).transpose(1, 2, 0)
    if defect is not None:
        printed[defect] = seen[defect]
    return printed
