"""Damaged files: whatever a disk, a camera or a cable does to them, decoding works or raises ImageError."""

from __future__ import annotations

import io
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from andon.errors import ImageError
from andon.image import decode, photo_size

MUTATIONS = 300  # of each file
MAX_PIXELS = 4_000_000  # so that a header which lies costs little


def files() -> dict[str, bytes]:
    """One small file of each kind that has a decoder of its own."""
    rng = np.random.default_rng(11)
    smooth = np.add.outer(np.arange(24) * 5, np.arange(31) * 4)
    colour = np.clip(
        np.stack([smooth, smooth[::-1], smooth * 0 + 90], 2) + rng.integers(0, 9, (24, 31, 3)), 0, 255
    )
    photo = Image.fromarray(colour.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a part"
    deep = Image.fromarray((smooth * 200).astype(np.uint16))
    ways: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png": (photo, "PNG", {"exif": exif}),
        "png-16": (deep, "PNG", {}),
        "png-palette": (photo.quantize(16), "PNG", {"transparency": 3}),
        "apng": (photo, "PNG", {"save_all": True, "append_images": [photo.rotate(180)]}),
        "jpeg": (photo, "JPEG", {"exif": exif}),
        "jpeg-progressive": (photo, "JPEG", {"progressive": True}),
        "jpeg-cmyk": (photo.convert("CMYK"), "JPEG", {}),
        "tiff": (photo, "TIFF", {"exif": exif}),
        "tiff-lzw": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-deflate-16": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff-pages": (photo, "TIFF", {"save_all": True, "append_images": [photo, photo]}),
        "bmp": (photo, "BMP", {}),
        "webp": (photo, "WEBP", {"exif": exif}),
        "gif": (photo, "GIF", {"save_all": True, "append_images": [photo.rotate(180)]}),
        "pgm": (photo.convert("L"), "PPM", {}),
    }
    return {name: _encoded(*way) for name, way in ways.items()}


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """``data`` cut, flipped, with a false header, or with a piece moved, doubled, or taken from ``other``."""
    changed = bytearray(data)
    start, end = sorted(rng.integers(0, len(data), 2).tolist())
    kind = rng.integers(7)
    if kind == 0:
        del changed[end:]
    elif kind == 1:
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:  # the header: sizes, offsets, counts
        for place in rng.integers(0, min(64, len(data)), rng.integers(1, 4)):
            changed[place] = int(rng.choice([0, 1, 2, 127, 128, 254, 255]))
    elif kind == 3:  # a 32-bit number that is far too large
        place = int(rng.integers(0, max(1, len(data) - 4)))
        changed[place : place + 4] = bytes(rng.choice([0, 127, 255], 4).astype(np.uint8))
    elif kind == 4:
        changed[start:end] = rng.integers(0, 256, end - start, dtype=np.uint8).tobytes()
    elif kind == 5:
        changed[start:start] = data[start:end]
    else:
        changed[start:] = other[min(start, len(other)) :]
    return bytes(changed)


def outcome(data: bytes) -> str:
    """Whether ``data`` was read or refused; anything else that happens is a failure."""
    try:
        pixels = decode(data, max_pixels=MAX_PIXELS).pixels
    except ImageError as error:
        return "refused" if str(error).startswith(f"cannot read these {len(data)} bytes: ") else str(error)
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8
    assert photo_size(data, max_pixels=MAX_PIXELS) == pixels.shape[:2]
    return "read"


@pytest.mark.parametrize("name", list(files()))
def test_damaged_files_decode_or_are_refused(name: str) -> None:
    data = files()[name]
    others = list(files().values())
    rng = np.random.default_rng(sum(name.encode()))
    outcomes = {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).pixels.shape in ((24, 31, 3), (31, 24, 3))
        for _ in range(MUTATIONS):
            changed = mutated(data, others[rng.integers(len(others))], rng)
            began = time.process_time()
            outcomes[outcome(changed)] += 1
            assert time.process_time() - began < 5.0
    assert outcomes["refused"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from the resource module")
def test_memory_stays_bounded() -> None:
    """Hostile headers (every size field at its largest) cost less than 200 MB at their peak."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in files().values():
        for place in range(min(len(data), 80)):
            changed = data[:place] + b"\xff\xff" + data[place + 2 :]
            try:
                decode(changed, max_pixels=MAX_PIXELS)
            except ImageError:
                continue
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert grown < 200_000_000
