"""From pixels to what the network sees, and from its anomaly maps back to the photograph.

The only preprocessing there is: fitting, evaluation and the line all call :meth:`Preprocessing.apply`.
Scaling happens on bytes, in Pillow's fixed-point arithmetic, so that every machine gets the same bytes;
only then are they divided by 255.

Shapes: (H0, W0) the photograph, (H, W) the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from andon.errors import ImageError, SettingsError
from andon.image.prepared import Prepared
from andon.image.resample import Size, pad, scale, whole_numbers
from andon.image.tiles import MARGIN, tile_offsets

MULTIPLE = 32  # the stride of the deepest feature map; sizes are multiples of it
TILE = (
    512  # rows and columns of a tile: with the overlap of a quarter, as large as stitched maps need to agree
)
MAX_SIDE = 8192  # rows or columns of the network's input
MAX_INPUT = 2048 * 2048  # pixels of one network input: fitting on more takes tens of gigabytes
MAX_CANVAS = (
    160_000_000  # pixels of a photograph scaled for its tiles: 0.5 GB, the largest photograph there is
)
RESIZES = ("stretch", "letterbox", "tiles")


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the network's input.

    size: (H, W) of that input, multiples of 32.
    resize: ``stretch`` scales rows and columns each to fit; ``letterbox`` keeps the shape of the part, and
        repeats the photograph's edge pixels in the rest, since a grey bar would be an edge that no part
        has; ``tiles`` cuts the photograph into overlapping pieces of (H, W), for small defects on large
        parts.
    white_level: the 16-bit value that counts as white: 4095 for 12-bit cameras. Used when decoding.
    overlap: of neighbouring tiles, at least; fraction of the tile in [0, 0.75].
    tile_scale: the photograph is scaled by this before it is cut into tiles; 1 keeps its pixels; (0, 4].
    interpolation: ``bilinear``, widened when shrinking (antialiased) so that no pixel is skipped.

    Raises :class:`SettingsError`.

    >>> Preprocessing(size=(256, 352), resize="letterbox").to_dict()["size"]
    [256, 352]
    >>> Preprocessing(resize="crop")
    Traceback (most recent call last):
        ...
    andon.errors.SettingsError: resize must be one of stretch, letterbox, tiles, got 'crop'
    """

    size: Size = (256, 256)
    resize: Literal["stretch", "letterbox", "tiles"] = "stretch"
    white_level: int = 65535
    overlap: float = 0.25
    tile_scale: float = 1.0
    interpolation: Literal["bilinear"] = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _network_size(self.size))
        object.__setattr__(self, "white_level", require_white_level(self.white_level))
        object.__setattr__(self, "overlap", _fraction("overlap", self.overlap, 0.0, 0.75))
        object.__setattr__(self, "tile_scale", _fraction("tile_scale", self.tile_scale, 0.001, 4.0))
        if self.resize not in RESIZES:
            raise SettingsError(f"resize must be one of {', '.join(RESIZES)}, got {self.resize!r}")
        if self.interpolation != "bilinear":
            raise SettingsError(f"interpolation must be bilinear, got {self.interpolation!r}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return {
            "size": list(self.size),
            "resize": self.resize,
            "white_level": self.white_level,
            "overlap": self.overlap,
            "tile_scale": self.tile_scale,
            "interpolation": self.interpolation,
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that :meth:`to_dict` wrote down. Raises :class:`SettingsError`.

        >>> Preprocessing.from_dict({"size": [256, 320], "resize": "tiles"}).size
        (256, 320)
        """
        if not isinstance(settings, Mapping):
            raise SettingsError(f"preprocessing must be a table of settings, got {type(settings).__name__}")
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise SettingsError(f"unknown preprocessing setting {name!r}; there are: {', '.join(names)}")
        if "size" not in settings:
            raise SettingsError("the preprocessing settings have no size (rows, columns)")
        return cls(**settings)

    @classmethod
    def for_tiles(cls, sizes: Sequence[tuple[float, float]]) -> Preprocessing:
        """Tiles of 512 x 512; smaller where the median photograph of ``sizes`` (H0, W0) has fewer rows or columns.

        >>> Preprocessing.for_tiles([(3072, 4096)]).size, Preprocessing.for_tiles([(300, 900)]).size
        ((512, 512), (288, 512))
        """
        middle = np.median(np.asarray(sizes), axis=0)
        rows, columns = (max(MULTIPLE, min(TILE, int(side) // MULTIPLE * MULTIPLE)) for side in middle)
        return cls(size=(rows, columns), resize="tiles")

    @classmethod
    def for_photos(
        cls, sizes: Sequence[Size], area: int = 256 * 256, multiple: int = MULTIPLE
    ) -> Preprocessing:
        """Stretching to about ``area`` pixels at the median shape of photographs of ``sizes`` (H0, W0).

        >>> Preprocessing.for_photos([(400, 200)]).size, Preprocessing.for_photos([(900, 900)]).size
        ((352, 192), (256, 256))
        """
        if len(sizes) == 0 or min(min(size) for size in sizes) < 1:
            raise SettingsError(
                f"sizes must be (rows, columns) of at least one photograph, got {list(sizes)!r:.80}"
            )
        if multiple < MULTIPLE or multiple % MULTIPLE or area < multiple * multiple:
            raise SettingsError(
                f"multiple must be a multiple of {MULTIPLE} and area at least its square, "
                f"got {multiple} and {area}"
            )
        ratio = float(np.median([rows / columns for rows, columns in sizes]))
        steep = min(max(ratio, multiple**2 / area), area / multiple**2)  # neither side below `multiple`
        rows, columns = math.sqrt(area * steep), math.sqrt(area / steep)
        return cls(size=(_nearest(rows, multiple), _nearest(columns, multiple)))

    def apply(self, pixels: NDArray[np.uint8]) -> Prepared:
        """The network's input made of ``pixels`` (H0, W0, 3) uint8 RGB. Raises :class:`ImageError`.

        >>> prepared = Preprocessing(size=(64, 96)).apply(np.full((50, 70, 3), 255, np.uint8))
        >>> prepared.images.shape, prepared.images.dtype.name, float(prepared.images.max())
        ((1, 3, 64, 96), 'float32', 1.0)
        """
        _require_pixels(pixels)
        original = (pixels.shape[0], pixels.shape[1])
        scaled = self._scaled(original)
        canvas = (max(scaled[0], self.size[0]), max(scaled[1], self.size[1]))
        self._require_room(canvas, original)
        tops = tile_offsets(canvas[0], self.size[0], self.overlap)
        lefts = tile_offsets(canvas[1], self.size[1], self.overlap)
        top, left = (canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2
        content = (top, left, top + scaled[0], left + scaled[1])
        laid = pad(scale(pixels, scaled), canvas, content)
        margin = int(MARGIN * int(min(self.size) * self.overlap))
        return Prepared(laid, self.size, original, tops, lefts, content, margin)

    def _scaled(self, original: Size) -> Size:
        """The photograph's (rows, columns) on the canvas that the tiles are cut from."""
        if self.resize == "stretch":
            return self.size
        if self.resize == "tiles":
            return _times(original, self.tile_scale)
        factor = min(self.size[0] / original[0], self.size[1] / original[1])
        rows, columns = _times(original, factor)
        return min(rows, self.size[0]), min(columns, self.size[1])

    def _require_room(self, canvas: Size, original: Size) -> None:
        if canvas[0] * canvas[1] > MAX_CANVAS:
            raise ImageError(
                f"a photo of {original[0]} rows and {original[1]} columns becomes {canvas[0]} x {canvas[1]} pixels "
                f"before it is cut into tiles, more than {MAX_CANVAS:,}. Choose a tile_scale below "
                f"{self.tile_scale:g}, or resize='stretch'."
            )


def _require_pixels(pixels: NDArray[np.uint8]) -> None:
    if not isinstance(pixels, np.ndarray):
        raise ImageError(f"pixels of shape (rows, columns, 3) uint8 expected, got {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ImageError(
            f"pixels of shape (rows, columns, 3) uint8 expected, got {pixels.shape} {pixels.dtype}"
        )


def _times(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _nearest(length: float, multiple: int) -> int:
    return min(max(multiple, multiple * round(length / multiple)), MAX_SIDE)


def _network_size(size: object) -> Size:
    pair = whole_numbers(size)
    if (
        pair is None
        or len(pair) != 2
        or any(side % MULTIPLE or not MULTIPLE <= side <= MAX_SIDE for side in pair)
    ):
        raise SettingsError(
            f"size must be (rows, columns), each a multiple of {MULTIPLE} from {MULTIPLE} to {MAX_SIDE}, "
            f"got {size!r}"
        )
    if pair[0] * pair[1] > MAX_INPUT:
        raise SettingsError(
            f"size {pair[0]}x{pair[1]} has more than {MAX_INPUT:,} pixels, too many for a network at once. "
            "Take a smaller one, or the size of a tile with resize 'tiles'."
        )
    return pair[0], pair[1]


def require_white_level(level: object) -> int:
    """``level`` as an int; :class:`SettingsError` unless it is a whole number from 255 to 65535."""
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 255 <= level <= 65535:
        raise SettingsError(f"white_level must be a whole number from 255 to 65535, got {level!r}")
    return int(level)


def _fraction(name: str, value: object, low: float, high: float) -> float:
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not number or not low <= cast(float, value) <= high:
        raise SettingsError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(cast(float, value))
