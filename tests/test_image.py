"""Decoding: every kind of image that a factory sends, and every kind of broken one."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from andon.errors import ImageError, SettingsError
from andon.image import IMAGE_SUFFIXES, Preprocessing, decode, photo_size, prepare

pytestmark = pytest.mark.filterwarnings("error")

ROWS, COLUMNS = 5, 7
GRADIENT = np.add.outer(np.arange(ROWS) * 40, np.arange(COLUMNS) * 10).astype(np.uint8)
COLOUR = np.stack([GRADIENT, 255 - GRADIENT, GRADIENT.T.reshape(ROWS, COLUMNS)], axis=2)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(samples: NDArray[Any], colour_type: int, claims: tuple[int, int] | None = None) -> bytes:
    """A PNG of 16-bit ``samples`` (H, W, channels), which Pillow does not write; ``claims`` (H, W) lies."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = claims or samples.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 16, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def tiff(samples: NDArray[Any], bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A little-endian grey TIFF of one strip with the tags given."""
    data = samples.tobytes()
    tags = [(256, samples.shape[1]), (257, samples.shape[0]), (258, bits), (259, 1), (262, photometric),
            (273, 8 + 2 + 11 * 12 + 4), (277, 1), (278, samples.shape[0]), (279, len(data)), (284, 1),
            (339, sample_format)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def refused(source: Any, text: str, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, **options)
    assert text in str(caught.value)
    return str(caught.value)


# --- what is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_files_give_their_pixels(kind: str, mode: str) -> None:
    array = GRADIENT if mode == "L" else COLOUR
    options = {"lossless": True} if kind == "WEBP" else {}
    photo = decode(encoded(Image.fromarray(array), kind, **options))
    expected = np.stack([array] * 3, axis=2) if mode == "L" else array
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous
    assert photo.bits == 8


def test_jpeg_is_read_and_grey_stays_grey() -> None:
    photo = decode(encoded(Image.fromarray(GRADIENT).resize((64, 48)), "JPEG", quality=95))
    assert photo.pixels.shape == (48, 64, 3)
    assert photo.mode == "L"
    np.testing.assert_array_equal(photo.pixels[..., 0], photo.pixels[..., 2])


def test_path_and_bytes_and_image_and_array_agree(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    path = tmp_path / "part.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), image, COLOUR):
        np.testing.assert_array_equal(decode(source).pixels, COLOUR)
        assert decode(source).notes == ()
        assert photo_size(source) == (ROWS, COLUMNS)


def test_one_bit() -> None:
    black_and_white = GRADIENT > 100
    for source in (encoded(Image.fromarray(black_and_white)), black_and_white):
        photo = decode(source)
        np.testing.assert_array_equal(photo.pixels[..., 1], np.where(black_and_white, 255, 0))
        assert photo.bits == 1


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "P", "RGBA", "LA", "PA", "La",
                                  "RGBa", "RGBX", "1", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"])  # fmt: skip
def test_every_mode_of_pillow(mode: str) -> None:
    photo = decode(Image.new(mode, (COLUMNS, ROWS)))
    assert photo.pixels.shape == (ROWS, COLUMNS, 3)
    assert photo.mode == mode


def test_palette_with_transparency_is_laid_on_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.putpixel((1, 0), 1)
    opaque = decode(encoded(image))
    assert opaque.pixels.tolist() == [[[200, 100, 50], [10, 20, 30]]]
    assert opaque.notes == ("palette converted to RGB",)
    photo = decode(encoded(image, transparency=0))
    assert photo.pixels.tolist() == [[[0, 0, 0], [10, 20, 30]]]
    assert photo.notes == ("transparent areas laid on black",)


def test_transparent_areas_are_laid_on_black() -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
    for source in (encoded(Image.fromarray(rgba)), rgba, Image.fromarray(rgba)):
        photo = decode(source)
        assert photo.pixels.tolist() == [[[200, 100, 50], [0, 0, 0], [100, 50, 25]]]
        assert photo.notes == ("transparent areas laid on black",)
    opaque = decode(np.dstack([COLOUR, np.full((ROWS, COLUMNS), 255, np.uint8)]))
    np.testing.assert_array_equal(opaque.pixels, COLOUR)
    assert opaque.notes == ()


def test_grey_with_alpha_and_colour_key() -> None:
    photo = decode(encoded(Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA")))
    assert photo.pixels[0].tolist() == [[90] * 3, [0] * 3]
    keyed = decode(encoded(Image.fromarray(COLOUR), transparency=tuple(COLOUR[0, 0].tolist())))
    assert keyed.pixels[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(keyed.pixels[1:], COLOUR[1:])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_red_is_red(kind: str) -> None:
    photo = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind))
    assert np.abs(photo.pixels.astype(int) - [255, 0, 0]).max() <= 3  # inverted ink would be cyan
    assert photo.notes == ("CMYK converted to RGB",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    blocks = np.zeros((32, 48), np.uint8)
    blocks[:16, :16], blocks[:16, 32:], blocks[16:, :16] = 255, 160, 80  # every turn looks different
    upright = {1: blocks, 2: blocks[:, ::-1], 3: blocks[::-1, ::-1], 4: blocks[::-1], 5: blocks.T,
               6: np.rot90(blocks, -1), 7: np.rot90(blocks, 2).T, 8: np.rot90(blocks)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(blocks), kind, exif=exif)
    photo = decode(data)
    assert photo.pixels.shape[:2] == upright.shape == photo_size(data)
    assert np.abs(photo.pixels[..., 0].astype(int) - upright).max() <= 12  # JPEG and WebP lose a little
    assert photo.notes == (("turned by its EXIF orientation",) if orientation > 1 else ())


def test_unknown_orientation_is_upright_and_damaged_exif_is_said() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(COLOUR), exif=exif)).pixels, COLOUR)
    photo = decode(encoded(Image.fromarray(COLOUR), exif=b"Exif\0\0XXXXXXXX"))
    np.testing.assert_array_equal(photo.pixels, COLOUR)
    assert photo.notes == ("damaged EXIF data: taken as upright",)


def test_first_of_several_pages() -> None:
    pages = [Image.new("L", (COLUMNS, ROWS), level) for level in (10, 200, 250)]
    photo = decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert photo.notes == ("multi-page TIFF: the first of 3 pages",)
    assert photo.pixels.max() == 10
    endless = bytearray(encoded(pages[0], "TIFF"))
    directory = struct.unpack_from("<I", endless, 4)[0]
    last = directory + 2 + 12 * struct.unpack_from("<H", endless, directory)[0]
    struct.pack_into("<I", endless, last, directory)  # the next page is this page
    assert decode(bytes(endless)).notes == ()
    big = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], big_tiff=True)
    assert decode(big).notes == ("multi-page TIFF: the first of 3 pages",)
    chain = bytearray(b"II*\0" + struct.pack("<I", 8))
    for _ in range(20000):
        chain += struct.pack("<HHHIII", 1, 256, 4, 1, 4, len(chain) + 18)
    began = time.process_time()
    with pytest.raises(ImageError):
        decode(bytes(chain))
    assert time.process_time() - began < 1.0
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(pages[0], kind, save_all=True, append_images=pages[1:], **options)
        assert decode(data).pixels.max() == 10
        assert f"animated {kind}: the first frame" in decode(data).notes


def test_another_kind_than_its_name(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(encoded(Image.fromarray(COLOUR), "BMP"))
    np.testing.assert_array_equal(decode(path).pixels, COLOUR)
    assert decode(path).notes == ("named .png but is BMP",)
    assert {".png", ".jpg", ".tif", ".bmp"} <= IMAGE_SUFFIXES


# --- more than 8 bits -------------------------------------------------------------------------------------


DEEP = np.array([[0, 128, 257, 32768, 65407, 65535]], np.uint16)
DEEP_BYTES = [0, 0, 1, 128, 255, 255]  # round(255 value / 65535)


@pytest.mark.parametrize("source", [
    encoded(Image.fromarray(DEEP)), encoded(Image.fromarray(DEEP), "TIFF"), png(DEEP[..., None], 0),
    Image.fromarray(DEEP), Image.fromarray(DEEP.astype(np.int32)), DEEP,
    encoded(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
    b"P5 6 1 65535\n" + DEEP.astype(">u2").tobytes(),
], ids=["png", "tiff", "own png", "I;16", "I", "array", "32-bit tiff", "pgm"])  # fmt: skip
def test_16_bit_grey_by_the_linear_rule(source: Any) -> None:
    photo = decode(source)
    assert photo.pixels[0, :, 0].tolist() == DEEP_BYTES
    assert photo.bits == 16
    assert photo.notes == ("16-bit reduced to 8-bit",)


def test_every_16_bit_value_is_rounded_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for level in (65535, 4095, 1023):
        expected = np.minimum(np.floor(values.astype(float) * 255 / level + 0.5), 255)
        np.testing.assert_array_equal(decode(values, white_level=level).pixels[..., 0], expected)


def test_a_dark_photo_stays_dark() -> None:
    """No stretch per photo: half the light gives half the values."""
    light = np.linspace(0, 60000, 70).astype(np.uint16).reshape(7, 10)
    bright, dim = decode(light).pixels.astype(int), decode(light // 2).pixels.astype(int)
    assert np.abs(bright - 2 * dim).max() <= 2


def test_white_level_of_a_12_bit_camera() -> None:
    twelve = np.array([[0, 2048, 4095]], np.uint16)
    photo = decode(encoded(Image.fromarray(twelve)), white_level=4095)
    assert photo.pixels[0, :, 0].tolist() == [0, 128, 255]
    assert photo.notes == ("16-bit reduced to 8-bit",)
    assert "its 16-bit values reach only 4095: 12-bit cameras need white_level=4095" in decode(twelve).notes
    assert "values above white_level=4095 shown as white" in decode(DEEP, white_level=4095).notes
    with pytest.raises(SettingsError, match="white_level must be a whole number from 255 to 65535, got 0"):
        decode(twelve, white_level=0)


def test_a_file_that_declares_12_bits() -> None:
    packed = np.frombuffer(bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00]), np.uint8)  # 0, 4095, 2048, 0
    data = bytearray(tiff(packed.reshape(1, 6), bits=12))
    data[data.index(struct.pack("<HHII", 256, 4, 1, 6)) + 8] = 4  # columns
    photo = decode(bytes(data))
    assert photo.pixels[0, :, 0].tolist() == [0, 255, 128, 0]
    assert photo.bits == 12


def test_16_bit_colour_keeps_the_upper_bits_and_says_so() -> None:
    samples = np.array([[[0x1234, 0x80FF, 0xFF00]]], np.uint16)
    photo = decode(png(samples, 2))
    assert photo.pixels.tolist() == [[[0x12, 0x80, 0xFF]]]
    assert (photo.bits, photo.notes) == (16, ("16-bit reduced to 8-bit",))
    refused(png(samples, 2), "16-bit colour, too few for white_level=4095", white_level=4095)
    assert decode(samples, white_level=65535).pixels.tolist() == [[[18, 128, 254]]]  # arrays: all 16 bits


def test_16_bit_with_alpha() -> None:
    photo = decode(png(np.array([[[0x8000, 0xFFFF], [0x8000, 0]]], np.uint16), 4))
    assert photo.pixels[0].tolist() == [[128] * 3, [0] * 3]
    assert photo.notes == ("16-bit reduced to 8-bit", "transparent areas laid on black")


def test_tiff_whose_zero_is_white() -> None:
    eight = np.array([[0, 100, 255]], np.uint8)
    assert decode(tiff(eight, 8, photometric=0)).pixels[0, :, 0].tolist() == [255, 155, 0]
    sixteen = eight.astype("<u2") * 257
    assert decode(tiff(sixteen, 16, photometric=0)).pixels[0, :, 0].tolist() == [255, 155, 0]


def test_floats() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    for source in (values, values.astype(np.float64), values.astype(np.float16), Image.fromarray(values),
                   encoded(Image.fromarray(values), "TIFF")):  # fmt: skip
        photo = decode(source)
        assert photo.pixels[0, :, 0].tolist() == [0, 128, 255]
        assert photo.notes == ("float reduced to 8-bit",)
    refused(values * 255, "floats from 0 to 1 expected, it has 0 to 255. Divide by the value")
    refused(values - 0.5, "it has -0.5 to 0.5")
    for bad in (np.nan, np.inf):
        refused(np.where(values == 0.5, bad, values), "it has values that are not finite")
    refused(encoded(Image.fromarray(values * 300), "TIFF"), "floats from 0 to 1 expected, it has 0 to 300")


def test_signed_and_large_integers_are_refused() -> None:
    refused(
        tiff(np.array([[-5, 5]], "<i2"), 16, sample_format=2), "integers from 0 to 65535 expected, it has -5"
    )
    refused(tiff(np.array([[-5, 5]], np.int8), 8, sample_format=2), "its samples are signed")
    refused(
        Image.fromarray(np.array([[0, 70000]], np.int32)),
        "integers from 0 to 65535 expected, it has 0 to 70000",
    )


# --- arrays -----------------------------------------------------------------------------------------------


def test_arrays() -> None:
    assert decode(GRADIENT).pixels.shape == decode(GRADIENT[..., None]).pixels.shape == (ROWS, COLUMNS, 3)
    assert decode(COLOUR).pixels is COLOUR or np.shares_memory(decode(COLOUR).pixels, COLOUR)
    turned = decode(COLOUR[:, ::-1])
    np.testing.assert_array_equal(turned.pixels, COLOUR[:, ::-1])
    assert turned.pixels.flags.c_contiguous


def test_arrays_of_other_shapes_and_types() -> None:
    hint = "an array of rows, columns, channels (1, 3 or 4) expected, got (3, 20, 30). Use array.transpose(1, 2, 0)"
    assert refused(np.zeros((3, 20, 30), np.uint8), "rows, columns, channels") == hint
    refused(np.zeros((4, 4, 2), np.uint8), "got (4, 4, 2)")
    refused(np.zeros(9, np.uint8), "got (9,)")
    refused(np.zeros((1, 4, 4, 3), np.uint8), "got (1, 4, 4, 3)")
    refused(
        np.zeros((4, 4), np.int64),
        "an array of uint8, uint16, bool, or float from 0 to 1 expected, got int64",
    )
    refused(np.zeros((0, 4, 3), np.uint8), "it has 0 rows and 4 columns")
    refused(np.zeros((4, 4)), "more than max_pixels=15", max_pixels=15)


# --- what is refused --------------------------------------------------------------------------------------


def test_wrong_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        refused(tmp_path, "folder")
        == f"cannot read {str(tmp_path)!r}: it is a folder, one image file expected"
    )
    missing = tmp_path / "no.png"
    assert refused(missing, "no such") == f"cannot read {str(missing)!r}: no such file or directory"
    refused("a\0b.png", "cannot read 'a\\x00b.png'")
    refused("x" * 5000, "file name too long")
    empty = tmp_path / "empty.png"
    empty.touch()
    refused(empty, "it is empty. Was it still being written?")
    refused(b"", "cannot read these 0 bytes: it is empty")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(ImageError, match="permission denied"):
        decode(missing)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "it is a device or a pipe")


@pytest.mark.parametrize("source", [None, 5, ["a.png"], io.BytesIO()])
def test_wrong_types(source: Any) -> None:
    refused(source, f"a path, bytes, array or Pillow image expected, got {type(source).__name__}")


def test_text_named_png(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("These parts were good on Monday.\n" * 20)
    kinds = "PNG, JPEG, TIFF, BMP, WebP, GIF or PGM/PPM"
    message = f"cannot read {str(path)!r}: not an image ({kinds} expected), or its header is damaged"
    assert refused(path, "not an image") == message
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image")  # would run an interpreter


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_truncated(kind: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for share in (0.3, 0.5, 0.9):
        refused(data[: int(share * len(data))], "cannot read these")


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png(np.zeros((1, 1, 1), np.uint16), 0, claims=(60000, 60000))
    refused(bomb, "it claims to be too large (Image size (3600000000 pixels)")
    refused(png(np.zeros((1, 1, 1), np.uint16), 0, claims=(13000, 13000)), "more than max_pixels=160000000")
    refused(
        encoded(Image.fromarray(COLOUR)),
        "it has 5 rows and 7 columns, more than max_pixels=34",
        max_pixels=34,
    )
    with pytest.raises(ImageError, match="more than max_pixels=34"):
        photo_size(encoded(Image.fromarray(COLOUR)), max_pixels=34)


def test_zero_size_and_closed_images() -> None:
    refused(Image.new("RGB", (0, 5)), "it has 5 rows and 0 columns, at least 1 expected")
    closed = Image.open(io.BytesIO(encoded(Image.fromarray(COLOUR))))
    closed.close()
    refused(closed, "cannot read this Pillow image")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), zlib.error("bad"), struct.error("short"),
                                   OverflowError("big"), SyntaxError("odd"), KeyError(1), EOFError()])  # fmt: skip
def test_whatever_pillow_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", broken)
    refused(
        b"some bytes", "not enough memory" if isinstance(error, MemoryError) else "it is damaged or truncated"
    )


# --- extremes ---------------------------------------------------------------------------------------------


def test_one_pixel() -> None:
    photo, prepared = prepare(encoded(Image.new("RGB", (1, 1), (255, 0, 51))), Preprocessing(size=(32, 64)))
    assert photo.pixels.shape == (1, 1, 3)
    np.testing.assert_allclose(prepared.images[0, :, 9, 9], [1.0, 0.0, 0.2], rtol=1e-6)


def test_warnings_stay_inside_also_with_threads() -> None:
    """Pillow warns of a large picture; eight threads that overlap neither let it out nor lose the filters."""
    header = bytearray(encoded(Image.fromarray(COLOUR), "BMP"))
    header[18:26] = struct.pack("<ii", 10000, 10000)  # above Pillow's warning, below our limit
    before = list(warnings.filters)
    answers: list[object] = []

    def work() -> None:
        for _ in range(20):
            try:
                answers.append(photo_size(bytes(header)))
            except ImageError as error:
                answers.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(10000, 10000)] * 160
    assert list(warnings.filters) == before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        photo_size(bytes(header))
    assert caught == []
