"""What a photograph looks like in seven numbers, so that a drift can be given a cause.

Each number answers to one cause and, as far as it can, to no other:

- brightness   ln of the mean luma: lamp, exposure, a dirty window
- contrast     ln of deviation / mean of the luma: stray light, fog; dimming alone leaves it as it is
- sharpness    ln of the Laplacian's deviation / mean luma, in the middle of the photograph: focus, grease, movement
- red_green, blue_yellow   difference of the colours over the mean luma: a lamp's colour, the white balance
- down, right  where the picture lies against the reference, as a share of its height and width, by phase correlation
               (Kuglin & Hines 1975) of the grey picture reduced to 64 x 64

Luma is that of ITU-R BT.601. Cost: about one reading of the pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.survey.looks import sharpness

SIDE = 64  # rows and columns of the small grey picture
WINDOW = 512  # rows and columns in which sharpness is measured, at full resolution
GRID = 4096  # a number is rounded to 1/4096 (0.02 %), by a rule that no data decide
NAMES = ("brightness", "contrast", "sharpness", "red_green", "blue_yellow", "down", "right")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FLOOR = 0.5  # of a byte: below it nothing is darker

Grey = NDArray[np.float32]  # (64, 64)


def appearance(pixels: NDArray[np.uint8], reference: Grey | None = None) -> tuple[dict[str, float], Grey]:
    """The numbers of a photograph (H, W, 3) uint8 RGB by their names, and its small grey picture.

    ``down`` and ``right`` only with the grey picture of a ``reference`` to compare to.

    >>> numbers, grey = appearance(np.full((80, 80, 3), 100, np.uint8))
    >>> round(math.exp(numbers["brightness"])), numbers["red_green"], grey.shape
    (100, 0.0, (64, 64))
    """
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    grey = small @ _LUMA
    mean = max(float(grey.mean()), _FLOOR)
    red, green, blue = (float(value) for value in small.mean(axis=(0, 1)))
    numbers = {
        "brightness": math.log(mean),
        "contrast": math.log(max(float(grey.std()), _FLOOR / 8) / mean),
        "sharpness": math.log(_edges(pixels) / mean),
        "red_green": (red - green) / mean,
        "blue_yellow": (blue - (red + green) / 2) / mean,
    }
    if reference is not None:
        down, right = displacement(reference, grey)
        numbers |= {"down": down / SIDE, "right": right / SIDE}
    return {name: round(value * GRID) / GRID for name, value in numbers.items()}, grey


def _edges(pixels: NDArray[np.uint8]) -> float:
    """The standard deviation of the Laplacian in the middle, not below a sixteenth of a byte."""
    top, left = (max(0, (side - WINDOW) // 2) for side in pixels.shape[:2])
    variance = sharpness(np.ascontiguousarray(pixels[top : top + WINDOW, left : left + WINDOW]))
    return math.sqrt(max(variance, 1 / 256)) if math.isfinite(variance) else 1 / 16


def displacement(reference: Grey, grey: Grey) -> tuple[float, float]:
    """By how many pixels ``grey`` lies lower and farther right than ``reference``.

    Both (64, 64); the peak of the phase correlation, refined by a parabola. A Hann window hides the border, which makes up
    to an eighth less of a move in smooth pictures. Phases count, not the brightness: a lamp that dims moves nothing.

    >>> picture = np.random.default_rng(0).random((64, 64), np.float32)
    >>> [round(move, 1) for move in displacement(picture, np.roll(picture, (3, -2), axis=(0, 1)))]
    [3.0, -2.0]
    """
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    first, second = (np.fft.rfft2((picture - picture.mean()) * window) for picture in (reference, grey))
    cross = second * first.conj()
    strength = np.abs(cross)
    if not strength.max() > 0:
        return 0.0, 0.0
    correlation = np.fft.irfft2(cross / (strength + 1e-3 * strength.max()), s=(SIDE, SIDE))
    row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
    return _refined(correlation[:, column], int(row)), _refined(correlation[row], int(column))


def _refined(line: NDArray[np.float64], peak: int) -> float:
    """The peak's place on a ring, between its neighbours, as a displacement from -32 to 32."""
    before, at, after = (float(line[(peak + step) % SIDE]) for step in (-1, 0, 1))
    bend = before - 2 * at + after
    place = peak + (0.5 * (before - after) / bend if bend < 0 else 0.0)
    return place - SIDE if place > SIDE / 2 else place
