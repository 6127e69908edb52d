"""Printed codes and text in one photograph: QR codes, bar codes, and blocks of print, as boxes. No model is needed.

Codes are found by OpenCV's detectors, print by its look: strokes are strong, dense changes of brightness, on an even
ground; closed over the gaps between letters they become blocks (after the gradient morphology of Chen et al. 2004 and
others for vehicle plates). A block is print if its strokes take up neither too little nor too much of it and each of its
rows changes between dark and bright many times. Positions are in pixels of the photograph, rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from andon.errors import SettingsError
from andon.nuisance.edges import fitted_size
from andon.nuisance.opencv import opencv
from andon.nuisance.zones import Zone

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Kind = Literal["qr", "barcode", "text"]
Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two excluded
KINDS: tuple[Kind, ...] = ("qr", "barcode", "text")

SIDE = 1024  # pixels of the longest side at which print is looked for; larger photographs are reduced
REDUCED = (256, 180)  # pixels of the longest side at which bar codes are looked for besides the full size
STROKE = 40.0  # levels of brightness between a stroke and its ground, at least
GAP = 0.012  # of the longest side: gaps between strokes that are closed
SMALLEST, LARGEST = 0.012, 0.35  # of the longest side: the shorter side of a block of print
FILLED = (0.2, 0.85)  # share of a block that its strokes take up
CHANGES = 5.0  # from bright to dark or back, along a row of a block, on average
_WHY = "finding printed codes"


@dataclass(frozen=True)
class Code:
    """One printed thing: its kind, and the ``box`` around it."""

    kind: Kind
    box: Box

    @property
    def area(self) -> int:
        """Pixels in the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def find_codes(pixels: Pixels, kinds: Sequence[Kind] = KINDS) -> list[Code]:
    """What is printed in the photograph ``pixels`` (H, W, 3) uint8: QR codes first, then bar codes, then text.

    A block of text is left out that a QR code covers by more than half, or a bar code by more than 80 %: of its bars
    OpenCV often gives the middle only, and the block covers the rest.

    Raises :class:`SettingsError` for unknown ``kinds``, :class:`MissingExtraError` without OpenCV.
    """
    if unknown := set(kinds) - set(KINDS):
        raise SettingsError(f"kinds: {', '.join(KINDS)} expected, got {', '.join(sorted(unknown))}")
    cv2 = opencv(_WHY)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    found: list[Code] = []
    if "qr" in kinds:
        found += _boxes(cv2.QRCodeDetector().detectMulti(grey), "qr", grey.shape)
    if "barcode" in kinds:
        for code in _bar_codes(cv2, grey):
            if not _covered(code, found):
                found.append(code)
    if "text" in kinds:
        squares, bars = ([code for code in found if code.kind == kind] for kind in ("qr", "barcode"))
        found += [
            block
            for block in _print_blocks(cv2, grey)
            if not (_covered(block, squares) or _covered(block, bars, 0.8))
        ]
    return found


def moving_zones(pixels: Pixels, kinds: Sequence[Kind] = KINDS, margin: float = 0.01) -> tuple[Zone, ...]:
    """A zone to ignore around each thing printed in this photograph, ``margin`` (share of the longest side) wider.

    >>> moving_zones(np.full((64, 64, 3), 128, np.uint8))
    ()
    """
    size = (pixels.shape[0], pixels.shape[1])
    reach = margin * max(size)
    zones = []
    for number, code in enumerate(find_codes(pixels, kinds), 1):
        top, left, bottom, right = code.box
        wider = (
            max(0.0, top - reach),
            max(0.0, left - reach),
            min(size[0], bottom + reach),
            min(size[1], right + reach),
        )
        zones.append(Zone.box(f"{code.kind} {number}", wider, size=size))
    return tuple(zones)


def _boxes(detected: tuple[Any, ...], kind: Kind, size: tuple[int, int]) -> list[Code]:
    """The upright boxes around the corners (n, 4, 2), x and y, that an OpenCV detector answers with."""
    corners = detected[1]
    if corners is None:
        return []
    boxes = []
    for quad in np.asarray(corners, np.float64).reshape(-1, 4, 2):
        (left, top), (right, bottom) = np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))
        box = (max(0, int(top)), max(0, int(left)), min(size[0], int(bottom)), min(size[1], int(right)))
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(Code(kind, box))
    return boxes


def _bar_codes(cv2: Any, grey: NDArray[np.uint8]) -> list[Code]:
    """Bar codes in a grey photograph (H, W), as it is and reduced; one code may be there several times.

    OpenCV's detector misses many codes that are sharp or large for its windows, and finds them in reduced copies.
    """
    detector = cv2.barcode.BarcodeDetector()
    found = _boxes(detector.detectMulti(grey), "barcode", grey.shape)
    for side in REDUCED:
        rows, columns = fitted_size(grey.shape, side)
        if (rows, columns) == grey.shape:
            continue
        small = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
        answer, corners, *rest = detector.detectMulti(small)
        if corners is not None:
            corners = np.asarray(corners) * (grey.shape[1] / columns, grey.shape[0] / rows)
        found += _boxes((answer, corners, *rest), "barcode", grey.shape)
    return found


def _print_blocks(cv2: Any, grey: NDArray[np.uint8]) -> list[Code]:
    """Blocks of print in a grey photograph (H, W), the largest first."""
    height, width = grey.shape
    rows, columns = fitted_size((height, width), SIDE)
    side = max(rows, columns)
    small = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    strokes = _strokes(cv2, small)
    _, labels, places, _ = cv2.connectedComponentsWithStats(_joined(cv2, strokes, max(3, round(GAP * side))))
    found = []
    for number, (left, top, wide, tall, _) in enumerate(places[1:].tolist(), 1):
        if not SMALLEST * side <= min(tall, wide) <= LARGEST * side:
            continue
        there = np.s_[top : top + tall, left : left + wide]
        if _is_print(small[there], strokes[there], labels[there] == number):
            box = (top * height // rows, left * width // columns, -(-(top + tall) * height // rows),
                   -(-(left + wide) * width // columns))  # fmt: skip
            found.append(Code("text", box))
    return sorted(found, key=lambda code: -code.area)


def _strokes(cv2: Any, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 (H, W) where brightness changes by more than ``STROKE`` within three pixels."""
    gradient = cv2.morphologyEx(
        grey, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    )
    return np.asarray(gradient > STROKE).astype(np.uint8)


def _joined(cv2: Any, strokes: NDArray[np.uint8], gap: int) -> NDArray[np.uint8]:
    """``strokes`` closed over gaps of up to ``gap`` rows and twice as many columns, thin lines removed."""
    closed = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((gap, 2 * gap), np.uint8))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((max(3, gap // 2),) * 2, np.uint8))
    return np.asarray(opened)


def _is_print(block: NDArray[np.uint8], strokes: NDArray[np.uint8], inside: NDArray[np.bool_]) -> bool:
    """Whether a block (h, w), whose component is ``inside``, looks like print; see the module's words."""
    if not FILLED[0] <= strokes[inside].mean() <= FILLED[1]:
        return False
    low, high = np.quantile(block[inside], (0.1, 0.9))
    if high - low < STROKE:
        return False
    dark = block < (low + high) / 2
    along, across = (
        float(np.abs(np.diff(dark.astype(np.int8), axis=axis)).sum(axis=axis).mean()) for axis in (1, 0)
    )
    return max(along, across) >= CHANGES


def _covered(code: Code, others: Sequence[Code], share: float = 0.5) -> bool:
    """Whether one of ``others`` covers more than ``share`` of ``code``."""
    return any(_common(code.box, other.box) > share * code.area for other in others)


def _common(one: Box, other: Box) -> int:
    """Pixels that two boxes share."""
    tall = min(one[2], other[2]) - max(one[0], other[0])
    wide = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, tall) * max(0, wide)
