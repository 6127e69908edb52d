"""Printed codes in one photograph, with where they lie: QR, Data Matrix, Aztec and bar codes. No model is needed.

ZXing-C++ reads them, and what it cannot read by the code's own check is none: so a crack or a texture is never taken for a
code, and neither is a code that a scratch has destroyed. Of bar codes it says where along their height lines were read; from
there they are followed to the ends of the bars. Positions are in pixels of the photograph, rows first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import MissingExtraError, SettingsError

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Floats = NDArray[np.float64]
Kind = Literal["qr", "datamatrix", "aztec", "barcode"]
Point = tuple[float, float]  # row, column
Corners = tuple[Point, Point, Point, Point]  # upper left and right, lower right and left, as the code is read
Around = tuple[float, float, float, float]  # above, left, below, right; shares of the code's height and width

KINDS: tuple[Kind, ...] = ("qr", "datamatrix", "aztec", "barcode")
FORMATS: dict[Kind, tuple[str, ...]] = {  # names of zxingcpp.BarcodeFormat
    "qr": ("QRCode", "MicroQRCode"),
    "datamatrix": ("DataMatrix",),
    "aztec": ("Aztec",),
    "barcode": (
        "Code128",
        "Code93",
        "Code39",
        "EAN13",
        "EAN8",
        "UPCA",
    ),  # ITF and Codabar have no error check
}
ALIKE = 0.6  # correlation of a line across the bars with the line that was read, at least
TALLEST = 1.5  # widths: how far bars are followed to either side
LEANS = range(-24, 25, 2)  # degrees between the line read and the one across the bars
_TRIED = 5  # of them, the likeliest
_MISSED = 3  # lines in a row unlike the bars, after which they have ended


@dataclass(frozen=True)
class Code:
    """One printed code: its kind, and the corners of what is printed."""

    kind: Kind
    corners: Corners

    @property
    def area(self) -> float:
        """Pixels inside the corners (the shoelace formula)."""
        row, column = np.array(self.corners).T
        return float(abs(row @ np.roll(column, 1) - column @ np.roll(row, 1)) / 2)

    def outline(self, around: Around = (0, 0, 0, 0)) -> Corners:
        """The corners with what is ``around``, in the code's own directions: a label that is turned, turns that, too.

        >>> Code("qr", ((10, 10), (10, 30), (20, 30), (20, 10))).outline((0, 0, 0.5, 0.1))
        ((10.0, 10.0), (10.0, 32.0), (25.0, 32.0), (25.0, 10.0))
        """
        above, left, below, right = around
        upper_left, upper_right, lower_right, lower_left = np.array(self.corners, np.float64)

        def at(down: float, across: float) -> Point:
            upper = upper_left + across * (upper_right - upper_left)
            lower = lower_left + across * (lower_right - lower_left)
            row, column = upper + down * (lower - upper)
            return float(row), float(column)

        return at(-above, -left), at(-above, 1 + right), at(1 + below, 1 + right), at(1 + below, -left)


def find_codes(pixels: Pixels, kinds: Sequence[Kind] = KINDS) -> list[Code]:
    """The codes of these ``kinds`` that can be read in the photograph ``pixels`` (H, W, 3) uint8.

    Raises :class:`SettingsError` for unknown ``kinds``, :class:`MissingExtraError` without ZXing-C++.
    """
    if unknown := set(kinds) - set(KINDS):
        raise SettingsError(f"kinds: {', '.join(KINDS)} expected, got {', '.join(sorted(unknown))}")
    zxing = reader()
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    found: list[Code] = []
    for kind in kinds:
        formats = [getattr(zxing.BarcodeFormat, name) for name in FORMATS[kind]]
        for read in zxing.read_barcodes(grey, formats=formats):
            corners = _corners(read.position)
            found.append(Code(kind, _to_the_ends(grey, corners) if kind == "barcode" else corners))
    return found


def reader() -> Any:
    """The module ``zxingcpp``. Raises :class:`MissingExtraError`."""
    try:
        import zxingcpp
    except ModuleNotFoundError as error:
        raise MissingExtraError("zxing-cpp", extra="nuisance", purpose="reading printed codes") from error
    return zxingcpp


def _corners(position: Any) -> Corners:
    """ZXing's corners, which are pixels of the code, as the outer borders of these pixels' centres."""
    ring = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return cast(Corners, tuple((corner.y + 0.5, corner.x + 0.5) for corner in ring))


def _to_the_ends(grey: NDArray[np.uint8], corners: Corners) -> Corners:
    """The ``corners`` of a bar code moved along its bars to where these end; (H, W) ``grey``.

    ZXing reads along the rows or columns of the photograph even where the code is turned: how its bars lean is found by
    following them for each lean in turn.
    """
    upper_left, upper_right, lower_right, lower_left = np.array(corners)
    left, right = (upper_left + lower_left) / 2, (upper_right + lower_right) / 2
    leaning = [_Bars.between(left, right, math.radians(degrees)) for degrees in LEANS]
    likely = sorted(leaning, key=lambda bars: -bars.likeness(grey))[:_TRIED]
    _, best, above, below = max((bars.ends(grey) for bars in likely), key=lambda found: found[0])
    return best.corners(above, below)


@dataclass(frozen=True, eq=False)
class _Bars:
    """A bar code with its middle and two steps of a pixel's length (row, column each): across its bars and along them."""

    middle: Floats
    across: Floats
    along: Floats
    width: float  # across the bars, in pixels

    @classmethod
    def between(cls, left: Floats, right: Floats, lean: float) -> _Bars:
        """Read from ``left`` to ``right`` (row, column), along a line that leans by ``lean`` radians from across its bars."""
        length = max(float(np.linalg.norm(right - left)), 1.0)
        row, column = (right - left) / length
        turn = np.array([[math.cos(lean), math.sin(lean)], [-math.sin(lean), math.cos(lean)]])
        across = turn @ (row, column)
        return cls((left + right) / 2, across, np.array([across[1], -across[0]]), length * math.cos(lean))

    def line(self, grey: NDArray[np.uint8], offset: float) -> Floats:
        """The values (n,) across the bars ``offset`` pixels along them from the middle, with mean 0 and deviation 1."""
        steps = np.linspace(-self.width / 2, self.width / 2, max(8, 2 * round(self.width)))
        places = self.middle + offset * self.along + steps[:, None] * self.across
        return _standardised(_sampled(grey, places))

    def likeness(self, grey: NDArray[np.uint8]) -> float:
        """The correlation of those two of three lines near the middle that are most alike: a scratch may hide one."""
        away = max(2.0, 0.04 * self.width)
        one, two, three = (self.line(grey, offset) for offset in (-away, 0, away))
        return float(max(one @ two, two @ three, one @ three)) / len(one)

    def ends(self, grey: NDArray[np.uint8]) -> tuple[float, _Bars, int, int]:
        """How many pixels above and below the middle lines are still like that in the middle; first, how alike in all."""
        middle = self.line(grey, 0)
        (above, upper), (below, lower) = (self._followed(grey, middle, sign) for sign in (-1, 1))
        return upper + lower, self, above, below

    def _followed(self, grey: NDArray[np.uint8], middle: Floats, sign: int) -> tuple[int, float]:
        """The last line like ``middle``, and the sum of the correlations up to it."""
        last, total = 0, 0.0
        for number in range(1, round(TALLEST * self.width) + 1):
            alike = float(self.line(grey, sign * number) @ middle) / len(middle)
            if alike >= ALIKE:
                last, total = number, total + alike
            elif number - last >= _MISSED:
                break
        return last, total

    def corners(self, above: float, below: float) -> Corners:
        """The corners of what lies between."""
        half = self.width / 2 * self.across
        upper, lower = self.middle - above * self.along, self.middle + below * self.along
        ring = (upper - half, upper + half, lower + half, lower - half)
        return cast(Corners, tuple((float(row), float(column)) for row, column in ring))


def _sampled(grey: NDArray[np.uint8], places: Floats) -> Floats:
    """The values (n,) at ``places`` (n, 2), those at the border for what lies outside."""
    rows, columns = (
        np.clip(np.floor(places[:, axis]).astype(np.int64), 0, grey.shape[axis] - 1) for axis in (0, 1)
    )
    return grey[rows, columns].astype(np.float64)


def _standardised(values: Floats) -> Floats:
    """``values`` (n,) with mean 0 and deviation 1; 0 where they are all alike."""
    centred = values - values.mean()
    return cast(Floats, centred / max(float(centred.std()), 1e-9))
