"""Annotations -> :class:`~andon.types.DefectChannel`: one boolean mask a defect, and the area at which it is found.

Sources: the saturation areas of sPRO, Bergmann et al. 2022 (MVTec LOCO AD), eq. 1, as the published evaluation code
applies them: a relative threshold is rounded down to whole pixels, an absolute one never exceeds the defect's area.

H, W: the size asked for; mask files may have any size of the same proportions.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import DataError, ImageError
from andon.image import MAX_PIXELS, photo_size
from andon.types import DefectChannel, MaskSource, Sample

Mask = NDArray[np.bool_]
BROKEN_IMAGE = (  # what Pillow raises on damaged files
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    struct.error,
    Image.DecompressionBombError,
)
_PROPORTION_TOLERANCE = 0.01  # of a side; or one pixel of it


def read_channels(sample: Sample, size: tuple[int, int]) -> list[DefectChannel]:
    """The annotated defects of one image as masks (H, W) bool of the ``size`` asked for, with their saturation areas.

    Masks are resized by taking the nearest pixel; a defect too thin to survive that keeps one pixel. An absolute
    saturation area is scaled with the mask; a relative one is the fraction of the defect's own area at ``size``.
    A sample without masks gives no channels.

    Raises :class:`ImageError` for a mask or an image that cannot be read, :class:`DataError` for a mask that marks
    nothing, has other proportions than its image, or holds a pixel value that its data set does not name. Both
    name the file.
    """
    if not sample.masks:
        return []
    photo = photo_size(sample.path)
    values = {
        path: mask_values(path) for path in dict.fromkeys(source.path for source in sample.masks) if path
    }
    for path, found in values.items():
        _require_known(path, found, [source for source in sample.masks if source.path == path])
        _require_proportions(str(path), found.shape, sample.path, photo)
    full = [(source, _full_mask(source, sample.path, photo, values)) for source in sample.masks]
    return [_channel(source, mask, size) for source, mask in full if mask is not None]


def anomaly_mask(sample: Sample, size: tuple[int, int]) -> Mask:
    """All annotated defects of one image together, (H, W) bool. Raises as :func:`read_channels`."""
    union = np.zeros(size, bool)
    for channel in read_channels(sample, size):
        union |= channel.anomaly_mask
    return union


def resize_nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """The mask at another size, each pixel taken from the source pixel under its centre.

    >>> resize_nearest(np.array([[True, False]]), (1, 4)).tolist()
    [[True, True, False, False]]
    """
    if mask.shape == tuple(size):
        return mask
    rows = _centres(size[0], mask.shape[0])
    columns = _centres(size[1], mask.shape[1])
    return mask[np.ix_(rows, columns)]


def _centres(wanted: int, present: int) -> NDArray[np.intp]:
    return np.minimum((np.arange(wanted) * 2 + 1) * present // (2 * wanted), present - 1)


def _channel(source: MaskSource, full: Mask, size: tuple[int, int]) -> DefectChannel:
    mask = resize_nearest(full, size)
    if not mask.any():
        mask = _one_pixel(full, size)
    area = float(np.count_nonzero(mask))
    if source.relative_saturation:
        saturation = max(1.0, math.floor(source.saturation * area))
    else:
        saturation = min(source.saturation * mask.size / full.size, area)
    return DefectChannel(mask, saturation, source.name)


def _one_pixel(full: Mask, size: tuple[int, int]) -> Mask:
    """A mask whose only pixel lies over the defect's pixel nearest to its middle."""
    rows, columns = np.nonzero(full)
    middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    mask = np.zeros(size, bool)
    mask[rows[middle] * size[0] // full.shape[0], columns[middle] * size[1] // full.shape[1]] = True
    return mask


def _full_mask(
    source: MaskSource, image: Path, photo: tuple[int, int], values: dict[Path, NDArray[np.integer]]
) -> Mask | None:
    """The mask at its own size; None for a pixel value that this mask file does not hold."""
    if source.kind == "image":
        if source.path is None:
            raise DataError(f"the mask of {image} is of kind 'image' and names no file.")
        found = values[source.path]
        mask = found != 0 if source.pixel_value is None else found == source.pixel_value
        return mask if mask.any() else None
    if source.size is not None:
        _require_proportions(f"the annotation of {image}", source.size, image, photo)
    mask = np.zeros(source.size or photo, bool)
    draw = {"boxes": _draw_boxes, "rle": _draw_run_lengths, "ellipse": _draw_ellipse}[source.kind]
    draw(mask, source, image)
    if not mask.any():
        raise DataError(f"the annotation {source.name!r} ({source.kind}) of {image} marks no pixel of it.")
    return mask


def _draw_boxes(mask: Mask, source: MaskSource, image: Path) -> None:
    for top, left, bottom, right in source.boxes:
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True


def _draw_run_lengths(mask: Mask, source: MaskSource, image: Path) -> None:
    columns = np.zeros(mask.size, bool)  # column by column
    for start, length in source.rle:
        if start < 1 or start + length - 1 > mask.size:
            raise DataError(
                f"the run ({start}, {length}) of {image} leaves the image of {mask.shape[0]} x {mask.shape[1]} pixels "
                "(rows x columns). Is the table of another data set?"
            )
        columns[start - 1 : start - 1 + length] = True
    mask[:] = columns.reshape(mask.shape[::-1]).T


def _draw_ellipse(mask: Mask, source: MaskSource, image: Path) -> None:
    if source.ellipse is None:
        raise DataError(f"the mask of {image} is of kind 'ellipse' and has none.")
    row, column, a, b, angle = source.ellipse
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    along = (x - column) * math.cos(angle) + (y - row) * math.sin(angle)
    across = (y - row) * math.cos(angle) - (x - column) * math.sin(angle)
    mask |= (along / a) ** 2 + (across / b) ** 2 <= 1


def mask_values(path: Path) -> NDArray[np.integer]:
    """The raw values of a mask file (H, W): palette numbers, grey levels, or the largest of red, green and blue.

    Raises :class:`ImageError` naming the file when it cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"the mask {path} has more than {MAX_PIXELS} pixels.")
            values = np.asarray(image)
    except BROKEN_IMAGE as error:
        raise ImageError(f"cannot read the mask {path}: {error or type(error).__name__}.") from error
    if values.ndim == 3:
        values = values[..., :1] if values.shape[2] == 2 else values[..., :3]  # transparency is not a mark
        values = values.max(axis=2)
    return values.astype(np.int64) if values.dtype.kind in "bf" else values


def _require_known(path: Path, found: NDArray[np.integer], sources: list[MaskSource]) -> None:
    """Refuse a mask file that marks nothing, or marks it with values that no source takes."""
    present = set(np.unique(found).tolist()) - {0}
    if not present:
        raise DataError(f"the mask {path} marks no pixel, though its image is listed as anomalous.")
    named = {source.pixel_value for source in sources}
    if None not in named and present - named:
        raise DataError(
            f"the mask {path} holds the pixel values {sorted(present - named)[:5]}; "
            f"the data set names {sorted(value for value in named if value is not None)} (defects_config.json)."
        )


def _require_proportions(what: str, shape: tuple[int, ...], image: Path, photo: tuple[int, int]) -> None:
    rows, columns = shape[0], shape[1]
    off = abs(rows * photo[1] / columns - photo[0])
    if off > max(1.0, photo[1] / columns, _PROPORTION_TOLERANCE * photo[0]):
        raise DataError(
            f"{what} is {rows} x {columns} pixels (rows x columns), its image {image} is {photo[0]} x {photo[1]}; "
            "a mask may be smaller or larger than its image, but not of other proportions."
        )
