"""Anomaly maps as pictures: colours that keep their order of lightness, laid over the photograph.

Shapes: H, W rows and columns of the photograph; h, w of the map, whose extent is the whole photograph.
Give good and defective images the same ``low`` and ``high`` (:func:`colour_range`), or they do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from andon.errors import CalibrationError, ImageError, SettingsError
from andon.image import resize_map
from andon.types import Calibration, Region

Pixels = NDArray[np.uint8]

# Control points of the colours, low to high: OKLCH lightness, chroma, hue in degrees. Lightness rises in
# equal steps, so the order survives colour blindness and a grey print; the hue goes from violet over red to
# yellow the short way round.
_CONTROL_POINTS = ((0.30, 0.13, 285.0), (0.46, 0.20, 315.0), (0.62, 0.21, 375.0), (0.78, 0.17, 420.0),
                   (0.94, 0.15, 465.0))  # fmt: skip
_BAND = 1_000_000  # pixels coloured at a time: 90 bytes each
_FADE = 0.2  # share of the scale over which the overlay fades in: from `low` to the map threshold


def colour_range(calibration: Calibration) -> tuple[float, float]:
    """``(low, high)`` for the pictures of one detector: from a quarter below its map threshold to twice that.

    With these the overlay of a good part hardly shows, and has its full opacity from the map threshold on.
    Raises :class:`CalibrationError` when there is no map threshold.
    """
    middle = calibration.map_threshold
    if not math.isfinite(middle):
        raise CalibrationError(
            "there is no map threshold to scale colours by: calibrate with good images, or give low and high."
        )
    span = abs(middle) or 1.0
    return middle - 0.25 * span, middle + span


def colourise(anomaly_map: NDArray[np.floating], low: float, high: float) -> Pixels:
    """Colours (h, w, 3) uint8 of a raw map (h, w): darkest at ``low`` and below, lightest from ``high`` on.

    Raises :class:`SettingsError` unless ``low`` < ``high``, :class:`ImageError` on a map that is not 2-D
    or not finite.

    >>> colourise(np.array([[0.0, 1.0, 2.0]]), 0.0, 2.0).shape
    (1, 3, 3)
    """
    return palette()[_levels(checked_map(anomaly_map), low, high)]


def overlay(
    pixels: Pixels, anomaly_map: NDArray[np.floating], low: float, high: float, alpha: float = 0.55
) -> Pixels:
    """The photograph (H, W, 3) uint8 with the map's colours over it wherever the map is above ``low``.

    The map is resized bilinearly; the colours fade in over the first fifth of the scale up to ``alpha``,
    0 to 1, and the photograph is untouched at ``low`` and below.
    """
    _check_pixels(pixels)
    if not 0 <= alpha <= 1:
        raise SettingsError(f"alpha: expected 0 (invisible) to 1 (opaque), got {alpha}")
    resized = resize_map(checked_map(anomaly_map), (pixels.shape[0], pixels.shape[1]))
    _check_range(low, high)
    opacity = alpha * np.minimum(np.arange(256, dtype=np.float32) / (255 * _FADE), 1)[:, None]
    kept, added = 1 - opacity, palette() * opacity  # (256, 1) and (256, 3)
    picture = pixels.copy()
    rows = max(1, _BAND // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        band, values = picture[top : top + rows], resized[top : top + rows]
        shown = values > low
        levels = _levels(values[shown], low, high)
        band[shown] = np.rint(band[shown] * kept[levels] + added[levels]).astype(np.uint8)
    return picture


def draw_regions(pixels: Pixels, regions: Sequence[Region], *, line_width: int | None = None) -> Pixels:
    """The photograph (H, W, 3) uint8 with a box around each region and a cross at its peak.

    White on black, to be seen on any part. The strongest region's box (the first) is twice as wide. The lines
    lie outside the box where there is room. line_width: in pixels, default by the photograph's size.
    """
    _check_pixels(pixels)
    height, width = pixels.shape[:2]
    line = max(1, round(min(height, width) / 300)) if line_width is None else line_width
    if line < 1:
        raise SettingsError(f"line_width: expected at least 1 pixel, got {line}")
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for rank, region in reversed(list(enumerate(regions))):
        _draw_box(draw, region.box, (height, width), line, 2 * line if rank == 0 else line)
        _draw_cross(draw, region.peak_position, line)
    return np.asarray(picture).copy()


@lru_cache(maxsize=1)
def palette() -> Pixels:
    """The 256 colours (256, 3) uint8 RGB, from dark violet to light yellow, not to be written to."""
    points = np.array(_CONTROL_POINTS)
    at = np.linspace(0, len(points) - 1, 256)
    lightness, chroma, hue = (np.interp(at, np.arange(len(points)), column) for column in points.T)
    lab = np.stack([lightness, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))], axis=-1)
    colours = np.rint(255 * _oklab_to_srgb(lab)).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def _oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) Oklab -> (n, 3) sRGB in [0, 1], clipped to the gamut (Ottosson 2020)."""
    to_lms = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                       [1, -0.0894841775, -1.2914855480]])  # fmt: skip
    to_rgb = np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                       [-1.2684380046, 2.6097574011, -0.3413193965],
                       [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _levels(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.intp]:
    """0 ... 255 for ``values`` from ``low`` to ``high``."""
    _check_range(low, high)
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.intp)


def _draw_box(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: tuple[int, int], edge: int, line: int
) -> None:
    """A white box of ``line`` pixels around ``box``, with a black edge on both sides."""
    top, left, bottom, right = box
    for colour, reach, thick in (("black", 2 * edge + line, 2 * edge + line), ("white", edge + line, line)):
        corners = (max(left - reach, 0), max(top - reach, 0),
                   min(right - 1 + reach, size[1] - 1), min(bottom - 1 + reach, size[0] - 1))  # fmt: skip
        draw.rectangle(corners, outline=colour, width=thick)


def _draw_cross(draw: ImageDraw.ImageDraw, position: tuple[int, int], line: int) -> None:
    row, column = position
    for colour, arm, thick in (("black", 4 * line, 3 * line), ("white", 3 * line, line)):
        half = thick // 2
        draw.rectangle((column - arm, row - half, column + arm, row + half), fill=colour)
        draw.rectangle((column - half, row - arm, column + half, row + arm), fill=colour)


def checked_map(anomaly_map: NDArray[np.floating]) -> NDArray[np.float32]:
    """``anomaly_map`` as (h, w) float32. Raises :class:`ImageError` unless it is 2-D and finite."""
    values = np.asarray(anomaly_map, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ImageError(f"anomaly_map: expected shape (h, w), got {values.shape}")
    if not np.isfinite(values).all():
        raise ImageError("anomaly_map: expected finite values, got nan or infinity")
    return values


def _check_range(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SettingsError(f"low, high: expected finite numbers with low < high, got {low} and {high}")


def _check_pixels(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ImageError(f"pixels: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
