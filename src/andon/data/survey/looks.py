"""How one photograph looks, in a few numbers: light, sharpness, colour, a thumbnail, and its hash.

Luma is that of ITU-R BT.601, 0 to 255. Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom
autofocusing in brightfield microscopy"): blur lowers it, noise and finer texture raise it, so it compares photographs
of the same part by the same camera, not different sizes.

H, W: the photograph. Work goes strip by strip, so that a photograph of 150 megapixels takes no more memory than its bytes.
"""

from __future__ import annotations

import datetime
import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.masks import BROKEN_IMAGE

THUMB = 32  # rows and columns of the thumbnail
_STRIP = 1 << 20  # pixels looked at together
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MIDDLE = 512  # rows and columns that a large photograph is first reduced to
_EXIF, _DATE, _DATE_TAKEN, _SUBSECOND, _ORIENTATION = 0x8769, 306, 36867, 37521, 0x0112


@dataclass(frozen=True, eq=False)
class Look:
    """One photograph in numbers.

    brightness: mean luma, 0 to 255. sharpness: variance of the Laplacian of the luma; nan below 3 x 3 pixels.
    red_green: mean of red minus green, blue_yellow: of blue minus the mean of red and green; -255 to 255, 0 in grey.
    thumb: (32, 32) float16, luma minus 128. digest: of the size and the decoded pixels.
    """

    brightness: float
    sharpness: float
    red_green: float
    blue_yellow: float
    thumb: NDArray[np.float16]
    digest: str


@dataclass(frozen=True)
class Header:
    """What an image file says of itself: ``format`` in Pillow's words, whether EXIF turns it, and when it was taken."""

    format: str = ""
    rotated: bool = False
    taken: str = ""  # ISO 8601, as the camera's clock had it; "" when it does not say


def look(pixels: NDArray[np.uint8]) -> Look:
    """The numbers of a photograph (H, W, 3) uint8 RGB.

    >>> grey = look(np.full((8, 8, 3), 100, np.uint8))
    >>> round(grey.brightness, 3), grey.sharpness, grey.red_green
    (100.0, 0.0, 0.0)
    """
    red, green, blue = (float(value) for value in pixels.mean(axis=(0, 1), dtype=np.float64))
    return Look(
        brightness=0.299 * red + 0.587 * green + 0.114 * blue,
        sharpness=sharpness(pixels),
        red_green=red - green,
        blue_yellow=blue - (red + green) / 2,
        thumb=thumbnail(pixels),
        digest=_digest(pixels),
    )


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian (4 neighbours) of the luma over all inner pixels; nan below 3 x 3 pixels."""
    height, width = pixels.shape[:2]
    if height < 3 or width < 3:
        return float("nan")
    step = max(1, _STRIP // width)
    total = squares = 0.0
    for top in range(1, height - 1, step):
        luma = pixels[top - 1 : min(top + step, height - 1) + 1] @ _LUMA
        inner = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
        total += float(inner.sum(dtype=np.float64))
        squares += float(np.square(inner, dtype=np.float64).sum())
    count = (height - 2) * (width - 2)
    return max(0.0, squares / count - (total / count) ** 2)


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(32, 32) float16: the luma minus 128, each number the mean over its part of the photograph, stretched to a square."""
    image = Image.fromarray(pixels)
    middle = (min(image.width, _MIDDLE), min(image.height, _MIDDLE))
    if middle != image.size:
        image = image.resize(middle, Image.Resampling.BOX)
    luma = Image.fromarray((np.asarray(image) @ _LUMA).astype(np.float32))
    small = luma.resize((THUMB, THUMB), Image.Resampling.BOX)
    return (np.asarray(small) - 128).astype(np.float16)


def header(data: bytes) -> Header:
    """What the image file in ``data`` says of itself; what is damaged in its EXIF block counts as not said."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = image.getexif()
            rotated = exif.get(_ORIENTATION, 1) in range(2, 9)
            return Header("JPEG" if image.format == "MPO" else image.format or "", rotated, _taken(exif))
    except BROKEN_IMAGE:
        return Header()


def _taken(exif: Image.Exif) -> str:
    inner = exif.get_ifd(_EXIF)
    text = str(inner.get(_DATE_TAKEN) or exif.get(_DATE) or "").strip("\0 ")
    try:
        moment = datetime.datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return ""
    part = str(inner.get(_SUBSECOND) or "").strip("\0 ")
    return moment.isoformat() + (f".{part}" if part.isdigit() else "")


def _digest(pixels: NDArray[np.uint8]) -> str:
    state = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()
