"""From pixels to what the network sees, and from its anomaly maps back to the photograph.

The only preprocessing there is: fitting, evaluation and the line all call :meth:`Preprocessing.apply`.
Scaling happens on bytes, in Pillow's fixed-point arithmetic, so that every machine gets the same bytes;
only then are they divided by 255.

Shapes: (H0, W0) the photograph, (H, W) the network's input, (h, w) an anomaly map, N tiles.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError, SettingsError

Size = tuple[int, int]  # (rows, columns)

MULTIPLE = 32  # the stride of the deepest feature map; sizes are multiples of it
MAX_SIDE = 8192  # rows or columns of the network's input
MAX_INPUT = 2048 * 2048  # pixels of one network input: fitting on more takes tens of gigabytes
MAX_TILE_PIXELS = 80_000_000  # of all tiles of a photograph together: 0.96 GB as float32
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
        tops = _offsets(canvas[0], self.size[0], self.overlap)
        lefts = _offsets(canvas[1], self.size[1], self.overlap)
        self._require_few(len(tops) * len(lefts), original)
        top, left = (canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2
        content = (top, left, top + scaled[0], left + scaled[1])
        laid = _pad(_scale(pixels, scaled), canvas, content)
        return Prepared(_floats(laid, tops, lefts, self.size), original, tops, lefts, content)

    def _scaled(self, original: Size) -> Size:
        """The photograph's (rows, columns) on the canvas that the tiles are cut from."""
        if self.resize == "stretch":
            return self.size
        if self.resize == "tiles":
            return _times(original, self.tile_scale)
        factor = min(self.size[0] / original[0], self.size[1] / original[1])
        rows, columns = _times(original, factor)
        return min(rows, self.size[0]), min(columns, self.size[1])

    def _require_few(self, tiles: int, original: Size) -> None:
        if tiles * self.size[0] * self.size[1] > MAX_TILE_PIXELS:
            limit = MAX_TILE_PIXELS // (self.size[0] * self.size[1])
            raise ImageError(
                f"a photo of {original[0]} rows and {original[1]} columns needs {tiles} tiles of "
                f"{self.size}, more than {limit}. Choose a tile_scale below {self.tile_scale:g}, "
                "or resize='stretch'."
            )


@dataclass(frozen=True, eq=False)
class Prepared:
    """One photograph as the network takes it, and the way back.

    images: (N, 3, H, W) float32 RGB in [0, 1], contiguous; N = 1 unless there are tiles. A detector's
        image score for the photograph is the largest of its tiles.
    original_size: (H0, W0).
    inspected: the share of the photograph that is in ``images``, 0 to 1. No mode leaves anything out today.
    """

    images: NDArray[np.float32]
    original_size: Size
    tops: tuple[int, ...]  # of the tiles, on the canvas that they were cut from
    lefts: tuple[int, ...]
    content: tuple[int, int, int, int]  # top, left, bottom, right of the photograph on that canvas
    inspected: float = 1.0

    def stitch(self, maps: NDArray[np.floating]) -> NDArray[np.float32]:
        """One anomaly map (h', w') float32 whose extent is exactly the whole photograph.

        ``maps``: (N, 1, h, w) or (N, h, w), one per image, at any resolution. One map stays at its
        resolution, with the letterbox's padding cut off; several are brought to the tiles' (H, W) and
        blended with weights that fall off towards a tile's border, where a network sees least around it.

        Raises :class:`ImageError` when the shape does not fit.
        """
        maps = self._checked(maps)
        if len(maps) == 1:
            return _cut(maps[0], self.content, (self.images.shape[2], self.images.shape[3]))
        canvas = _blend(maps, self.tops, self.lefts, (self.images.shape[2], self.images.shape[3]))
        top, left, bottom, right = self.content
        return np.ascontiguousarray(canvas[top:bottom, left:right])

    def _checked(self, maps: NDArray[np.floating]) -> NDArray[np.float32]:
        given = np.asarray(maps)
        count = len(self.images)
        flat = given[:, 0] if given.ndim == 4 and given.shape[1] == 1 else given
        if flat.ndim != 3 or len(flat) != count or flat.size == 0 or flat.dtype.kind not in "fiu":
            raise ImageError(
                f"anomaly maps of shape ({count}, 1, h, w) or ({count}, h, w) expected, "
                f"got {given.shape} {given.dtype}"
            )
        return flat.astype(np.float32, copy=False)


def resize_map(anomaly_map: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
    """``anomaly_map`` (h, w) at ``size`` (H, W), float32, bilinear between pixel centres.

    Enlarging equals ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``; shrinking
    averages (antialiased), so a peak smaller than the new pixel gets lower. Raises :class:`ImageError`.

    >>> resize_map(np.array([[0.0, 1.0]]), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    given = np.asarray(anomaly_map)
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "fiu":
        raise ImageError(f"an anomaly map of shape (h, w) expected, got {given.shape} {given.dtype}")
    rows, columns = _positive_size(size)
    return _resize_float(given.astype(np.float32, copy=False), (rows, columns), None)


def _resize_float(
    values: NDArray[np.float32], size: Size, box: tuple[float, float, float, float] | None
) -> NDArray[np.float32]:
    """``values`` (h, w) at ``size``; of the part inside ``box`` (top, left, bottom, right) when given."""
    if values.shape == size and box is None:
        return values
    corner = None if box is None else (box[1], box[0], box[3], box[2])  # Pillow: columns first
    image = Image.fromarray(np.ascontiguousarray(values))
    resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, corner)
    return np.array(resized, dtype=np.float32)


def _cut(values: NDArray[np.float32], content: tuple[int, int, int, int], size: Size) -> NDArray[np.float32]:
    """The part of a map (h, w) of an input of ``size`` that is ``content``; resampled if between pixels."""
    vertical, horizontal = values.shape[0] / size[0], values.shape[1] / size[1]
    box = (content[0] * vertical, content[1] * horizontal, content[2] * vertical, content[3] * horizontal)
    if all(edge == round(edge) for edge in box):
        top, left, bottom, right = (round(edge) for edge in box)
        return np.ascontiguousarray(values[top:bottom, left:right])
    rows, columns = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    return _resize_float(values, (rows, columns), box)


def _blend(
    maps: NDArray[np.float32], tops: Sequence[int], lefts: Sequence[int], size: Size
) -> NDArray[np.float32]:
    """The tiles' maps (N, h, w), row by row, as one canvas; weights sum to 1 at every pixel."""
    canvas = np.zeros((tops[-1] + size[0], lefts[-1] + size[1]), np.float32)
    vertical, horizontal = _weights(tuple(tops), size[0]), _weights(tuple(lefts), size[1])
    tiles = iter(maps)
    for top, down in zip(tops, vertical, strict=True):
        for left, across in zip(lefts, horizontal, strict=True):
            tile = _resize_float(next(tiles), size, None)
            canvas[top : top + size[0], left : left + size[1]] += tile * down[:, None] * across
    return canvas


@lru_cache(maxsize=16)
def _weights(offsets: tuple[int, ...], length: int) -> tuple[NDArray[np.float32], ...]:
    """Each tile's weights (length,) along one axis: a squared sine, divided so that they sum to 1."""
    window = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    total = np.zeros(offsets[-1] + length)
    for offset in offsets:
        total[offset : offset + length] += window
    return tuple((window / total[offset : offset + length]).astype(np.float32) for offset in offsets)


def _offsets(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Where tiles start so that they cover ``length`` evenly, neighbours sharing at least ``overlap``."""
    if length <= tile:
        return (0,)
    count = 1 + math.ceil((length - tile) / math.floor(tile * (1 - overlap)))
    return tuple(index * (length - tile) // (count - 1) for index in range(count))


def _scale(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _pad(pixels: NDArray[np.uint8], canvas: Size, content: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    if pixels.shape[:2] == canvas:
        return pixels
    top, left, bottom, right = content
    return np.pad(pixels, ((top, canvas[0] - bottom), (left, canvas[1] - right), (0, 0)), mode="edge")


def _floats(
    pixels: NDArray[np.uint8], tops: Sequence[int], lefts: Sequence[int], size: Size
) -> NDArray[np.float32]:
    """The tiles (N, 3, H, W) of ``pixels``, row by row, each value the float32 nearest to byte / 255."""
    images = np.empty((len(tops) * len(lefts), 3, *size), np.float32)
    channels = pixels.transpose(2, 0, 1)
    corners = [(top, left) for top in tops for left in lefts]
    for image, (top, left) in zip(images, corners, strict=True):
        tile = channels[:, top : top + size[0], left : left + size[1]]
        np.divide(tile, np.float32(255), out=image, dtype=np.float32)
    return images


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


def _integers(values: object) -> tuple[int, ...] | None:
    """``values`` as whole numbers; None when they are something else."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        return None
    try:
        return tuple(operator.index(cast(int, value)) for value in values if not isinstance(value, bool))
    except TypeError:
        return None


def _positive_size(size: object) -> Size:
    pair = _integers(size)
    if pair is None or len(pair) != 2 or min(pair) < 1:
        raise SettingsError(f"size must be (rows, columns), each at least 1, got {size!r}")
    return pair[0], pair[1]


def _network_size(size: object) -> Size:
    pair = _integers(size)
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
