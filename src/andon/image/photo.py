"""Photographs as factories have them: any usual file, array or Pillow image becomes (H, W, 3) uint8 RGB.

What was done to get there is said in :attr:`Photo.notes`; what cannot be read is refused with an
:class:`~andon.errors.ImageError` that says why. Colours are taken for sRGB: embedded ICC profiles are not
applied, so that a camera's profile cannot move the scores.

Shapes: H rows, W columns, after the EXIF orientation.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from andon.errors import AndonError, ImageError
from andon.image.prepared import Prepared
from andon.image.preprocess import Preprocessing, require_white_level
from andon.image.quiet import QUIET
from andon.image.resample import Size
from andon.image.samples import bytes_of_array, bytes_of_deep_grey, rgb_in_bands, three_channels

Source = str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image

MAX_PIXELS = 160_000_000  # above the largest industrial cameras (151 megapixels); 0.5 GB of RGB
# Pillow's names and their endings. No others: EPS runs an interpreter, TGA cannot be told by its content.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
MAX_PAGES = 1000  # counted for the note
IMAGE_SUFFIXES = frozenset(ending for endings in FORMATS.values() for ending in endings)
KINDS = "PNG, JPEG, TIFF, BMP, WebP, GIF or PGM/PPM"

_UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # EXIF and TIFF tags
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_EXIF_ERRORS = (SyntaxError, ValueError, LookupError, TypeError, OSError, ArithmeticError, struct.error)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph as the rest of Andon takes it.

    pixels: (H, W, 3) uint8 RGB, contiguous, perhaps read-only.
    notes: what was done that changes how it looks, in words.
    mode: what it was before, in Pillow's words ("L", "I;16", "CMYK", ...), for arrays the matching one.
    bits: per sample, before.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    mode: str = "RGB"
    bits: int = 8


def decode(source: Source, *, white_level: int = 65535, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photograph in ``source`` as (H, W, 3) uint8 RGB.

    ``source``: a path; the bytes of an image file; a Pillow image; or an array (H, W), (H, W, 1), (H, W, 3)
    or (H, W, 4): uint8, uint16, bool, or float in [0, 1], channels red, green, blue. BGR cannot be told from
    RGB: turn OpenCV's arrays round with ``array[..., ::-1]``. Contiguous uint8 (H, W, 3) arrays are not copied.

    - 16 bits: 0..``white_level`` becomes 0..255, linear and the same for every photo; never stretched per
      photo, which would hide defects and a drift of the light. 12-bit cameras need ``white_level=4095``.
      Files that declare 12 bits are taken at their word. Of 16-bit colour Pillow reads the upper 8 bits.
    - Float files must lie in [0, 1]. 32-bit integers must lie in 0..65535 and count as 16 bits.
    - Transparent areas are laid on black, as where no light falls. EXIF orientation is applied.
    - Of several pages or frames the first is read.

    Raises :class:`ImageError`, and nothing else, for whatever cannot be read: the header is checked against
    ``max_pixels`` before anything is decoded, and truncated files are refused. A ``white_level`` outside
    255..65535 is a :class:`SettingsError`.

    >>> decode(np.array([[0, 65535]], np.uint16)).pixels.tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    >>> decode("no-such.png")
    Traceback (most recent call last):
        ...
    andon.errors.ImageError: cannot read 'no-such.png': no such file or directory
    """
    white_level = require_white_level(white_level)
    name = _name(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, white_level, max_pixels)
    with _refusing(name), _opened(source, name) as image:
        return _from_pillow(image, name, white_level, max_pixels)


def photo_size(source: Source, *, max_pixels: int = MAX_PIXELS) -> Size:
    """(H, W) of the photograph in ``source``, upright; from its header where the format has it there.

    Raises :class:`ImageError`.
    """
    name = _name(source)
    if isinstance(source, np.ndarray):
        return _array_size(source, max_pixels)
    with _refusing(name), _opened(source, name) as image:
        columns, rows = image.size
        _require_size((rows, columns), name, max_pixels)
        turned = image.format != "TIFF" and _orientation(image, []) >= 5  # Pillow turns a TIFF's size itself
        return (columns, rows) if turned else (rows, columns)


def prepare(source: Source, preprocessing: Preprocessing) -> tuple[Photo, Prepared]:
    """The photograph in ``source``, and what the network sees of it. Raises :class:`ImageError`."""
    photo = decode(source, white_level=preprocessing.white_level)
    return photo, preprocessing.apply(photo.pixels)


# --- files, bytes and Pillow images -----------------------------------------------------------------------


@contextlib.contextmanager
def _opened(source: Source, name: str) -> Iterator[Image.Image]:
    """``source`` as a Pillow image whose header has been read, closed at the end if opened here."""
    if isinstance(source, Image.Image):
        yield source
        return
    if isinstance(source, bytes | bytearray | memoryview):
        file: str | io.BytesIO = io.BytesIO(source)
        length = len(source)
    else:
        file = os.fsdecode(cast(str, source))  # an array never comes here
        length = _file_length(file, name)
    if length == 0:
        raise ImageError(f"cannot read {name}: it is empty. Was it still being written?")
    with Image.open(file, formats=tuple(FORMATS)) as image:
        yield image


def _file_length(path: str, name: str) -> int:
    """Bytes of the file at ``path``, which must be a plain file: reading a pipe would wait for ever."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"cannot read {name}: it is a folder, one image file expected")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"cannot read {name}: it is a device or a pipe, a plain image file expected")
    return found.st_size


def _from_pillow(image: Image.Image, name: str, white_level: int, max_pixels: int) -> Photo:
    _require_size((image.height, image.width), name, max_pixels)
    mode, bits = image.mode, _bits(image)
    notes = _file_notes(image)
    _require_known_samples(image, bits, white_level, name)
    image.load()
    upright = _turned(image, notes)
    pixels = np.ascontiguousarray(_rgb(upright, bits, notes, white_level, name))
    return Photo(pixels, tuple(notes), mode, bits)


def _bits(image: Image.Image) -> int:
    """Bits per sample of the file; an image without a file has those of its mode."""
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    arguments = [tile[3] for tile in getattr(image, "tile", [])]
    if any(";12" in str(argument) for argument in arguments):
        return 12
    deep = any(re.search(r"(?<!BGR);16", str(argument)) for argument in arguments)  # BGR;16 is 5 + 6 + 5 bits
    if image.format == "PPM":
        deep = any(isinstance(argument, tuple) and argument[-1] > 255 for argument in arguments)
    return 16 if deep or image.mode.startswith("I") else 8


def _file_notes(image: Image.Image) -> list[str]:
    """What the file itself has to say: another kind than its name, several pages, a TIFF's orientation."""
    notes = []
    kind = "JPEG" if image.format == "MPO" else image.format
    suffix = Path(getattr(image, "filename", None) or "").suffix.lower()
    if kind in FORMATS and suffix in IMAGE_SUFFIXES and suffix not in FORMATS[kind]:
        notes.append(f"named {suffix} but is {kind}")
    pages = _pages(image)
    if pages > 1:
        more = " or more" if pages == MAX_PAGES else ""
        notes.append(f"multi-page {kind}: the first of {pages} pages{more}")
    if kind in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False) and image.tell() == 0:
        notes.append(f"animated {kind}: the first frame")
    if _tiff_tag(image, _ORIENTATION) in _UPRIGHT:  # Pillow turns TIFFs itself, and them alone
        notes.append("turned by its EXIF orientation")
    return notes


def _pages(image: Image.Image) -> int:
    """How many pages the file has, counted to MAX_PAGES; 1 for an image that its owner turned to another page."""
    if image.tell() != 0:
        return 1
    if image.format == "MPO":
        return min(getattr(image, "n_frames", 1), MAX_PAGES)
    file = getattr(image, "fp", None)
    return _tiff_pages(file) if image.format == "TIFF" and file is not None else 1


def _tiff_pages(file: IO[bytes]) -> int:
    """Directories of the TIFF in ``file``; each ends with the next one's offset, or 0.

    Pillow counts them too, but takes a minute for a small file that claims 100,000.
    """
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = 43 in header[2:4]  # BigTIFF
    count, entry, offset = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    place = struct.unpack_from(offset, header, 8 if big else 4)[0]
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MAX_PAGES:
        seen.add(place)
        try:
            file.seek(place)
            entries = struct.unpack(count, file.read(struct.calcsize(count)))[0]
            file.seek(place + struct.calcsize(count) + entry * entries)
            place = struct.unpack(offset, file.read(struct.calcsize(offset)))[0]
        except (struct.error, OverflowError, ValueError, OSError):
            break  # what follows is damaged; the first page is what is read
    return len(seen)


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    tags = getattr(image, "tag_v2", None)
    return tags.get(tag) if image.format == "TIFF" and tags is not None else None


def _require_known_samples(image: Image.Image, bits: int, white_level: int, name: str) -> None:
    """Refuse what Pillow would read wrongly without a word."""
    if bits == 16 and not image.mode.startswith("I") and white_level != 65535:
        raise ImageError(
            f"cannot read {name}: Pillow keeps the upper 8 bits of 16-bit colour, too few for "
            f"white_level={white_level}. Save it as 16-bit grey, or pass a uint16 array."
        )
    if image.mode != "I" and 2 in np.atleast_1d(_tiff_tag(image, _SAMPLE_FORMAT) or 1):
        raise ImageError(f"cannot read {name}: its samples are signed. Save it as unsigned 8 or 16 bits.")


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """1 to 8, from the EXIF block; 1 with a note when that block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _EXIF_ERRORS:
        notes.append("damaged EXIF data: taken as upright")
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _turned(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.format == "TIFF":
        return image
    orientation = _orientation(image, notes)
    if orientation == 1:
        return image
    notes.append("turned by its EXIF orientation")
    return image.transpose(_UPRIGHT[orientation])


# --- samples ----------------------------------------------------------------------------------------------


def _rgb(image: Image.Image, bits: int, notes: list[str], white_level: int, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) of a loaded Pillow image of any mode."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = bytes_of_deep_grey(np.asarray(image), bits, notes, white_level, name)
        inverted = _tiff_tag(image, _PHOTOMETRIC) == 0  # white is zero; Pillow turns only 8 bits round
        return three_channels(255 - grey if inverted else grey)
    if bits == 16:
        notes.append("16-bit reduced to 8-bit")
    keyed = (
        "transparency" in image.info and bits <= 8
    )  # a transparent 16-bit colour is not to be found in 8 bits
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or keyed:
        return _on_black(image, notes)
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV", "P"):
        notes.append("palette converted to RGB" if image.mode == "P" else f"{image.mode} converted to RGB")
    return rgb_in_bands(image)


def _on_black(image: Image.Image, notes: list[str]) -> NDArray[np.uint8]:
    """(H, W, 3) of an image with an alpha channel or a transparent colour."""
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    layers = image.convert("RGBA")
    alpha = layers.getchannel("A")
    lowest = alpha.getextrema()[0]
    if lowest == 255:
        return np.asarray(layers.convert("RGB"))
    notes.append("transparent areas laid on black")
    black = Image.new("RGB", layers.size)
    black.paste(layers, mask=alpha)
    return np.asarray(black)


# --- arrays -----------------------------------------------------------------------------------------------


def _from_array(array: NDArray[Any], white_level: int, max_pixels: int) -> Photo:
    _array_size(array, max_pixels)
    notes: list[str] = []
    samples = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    values = bytes_of_array(samples, white_level, notes)
    bits = 1 if array.dtype.kind == "b" else 8 * array.dtype.itemsize
    if values.ndim == 2:
        return Photo(three_channels(values), tuple(notes), "L", bits)
    if values.shape[2] == 4:
        layers = Image.fromarray(np.ascontiguousarray(values))
        return Photo(np.ascontiguousarray(_on_black(layers, notes)), tuple(notes), "RGBA", bits)
    return Photo(np.ascontiguousarray(values), tuple(notes), "RGB", bits)


def _array_size(array: NDArray[Any], max_pixels: int) -> Size:
    shape = array.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        hint = ". Use array.transpose(1, 2, 0)" if len(shape) == 3 and shape[0] in (1, 3, 4) else ""
        raise ImageError(f"an array of rows, columns, channels (1, 3 or 4) expected, got {shape}{hint}")
    return _require_size((shape[0], shape[1]), "this array", max_pixels)


# --- refusing ---------------------------------------------------------------------------------------------


def _require_size(size: Size, name: str, max_pixels: int) -> Size:
    rows, columns = size
    if rows < 1 or columns < 1:
        raise ImageError(f"cannot read {name}: it has {rows} rows and {columns} columns, at least 1 expected")
    if rows * columns > max_pixels:
        raise ImageError(
            f"cannot read {name}: it has {rows} rows and {columns} columns, more than max_pixels={max_pixels}"
        )
    return size


def _name(source: object) -> str:
    """What to call ``source`` in a message. Raises :class:`ImageError` if it is of no kind that is decoded."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fsdecode(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return f"these {len(source)} bytes"
    if isinstance(source, Image.Image):
        return "this Pillow image"
    if isinstance(source, np.ndarray):
        return "this array"
    raise ImageError(f"a path, bytes, array or Pillow image expected, got {type(source).__name__}")


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Whatever Pillow raises inside becomes an :class:`ImageError` that names the source."""
    try:
        with QUIET:
            yield
    except AndonError:
        raise
    except Exception as error:
        raise ImageError(f"cannot read {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, UnidentifiedImageError):
        return f"not an image ({KINDS} expected), or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it claims to be too large ({text})"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"it is damaged or truncated ({text or type(error).__name__})"
