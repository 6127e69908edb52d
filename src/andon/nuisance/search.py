"""One search: where in a picture of edges a reference lies. Phase correlation guesses, ECC makes the guess exact.

Matrices (2, 3) take (x, y, 1) of the reference to the picture; both are (h, w), of one size. ECC is the enhanced correlation
coefficient (Evangelidis and Psarakis 2008), in OpenCV's ``findTransformECC``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.nuisance.edges import fitted_size
from andon.nuisance.opencv import opencv
from andon.nuisance.phase import Floats, Matrix, PhaseBank, chain, sampled, scaling

Size = tuple[int, int]
Motion = Literal["shift", "rigid", "affine"]
Method = Literal["phase", "ecc"]

WHY = "finding parts that are turned"
SIDE = 256  # pixels of the reference's longest side
COARSE = 64  # and of what turns are looked for in
STEP = 4.0  # degrees between the turns that are tried; ECC finds the rest
GUESSES = 5  # turns that are followed up
ROUNDS, CLOSE = 50, 1e-4  # ECC: iterations at most, and the change of the coefficient at which it ends
LEAST_COVERED = 0.5  # share of the reference that the photograph must reach


class Search:
    """A reference (h, w), ready to be looked for in pictures of its size."""

    def __init__(self, reference: Floats | NDArray[np.uint8], motion: Motion, max_turn: float) -> None:
        top = max(float(reference.max()), 1e-6)
        self.quantised = np.rint(reference * (255 / top)).astype(np.uint8)
        self.reference = self.quantised.astype(np.float32)
        self.motion, self.size = motion, cast(Size, reference.shape)
        side = 2 * COARSE if motion == "shift" else COARSE
        self.coarse = fitted_size(self.size, side)
        self.bank = PhaseBank(resized(self.reference, self.coarse), _angles(motion, max_turn))

    def guesses(self, picture: Floats) -> list[Matrix]:
        """Matrices from the reference to ``picture`` (h, w), the likeliest first."""
        up, down = scaling(self.coarse, self.size), scaling(self.size, self.coarse)
        starts = self.bank.starts(resized(picture, self.coarse), GUESSES)
        return [chain(chain(down, start.matrix), up) for start in starts]


@dataclass(frozen=True, eq=False)
class Try:
    """One place, refined, and how good it is."""

    matrix: Matrix  # from the reference to the picture, both (h, w)
    correlation: float
    covered: float
    method: Method


def best_try(search: Search, picture: Floats, enough: float = math.inf) -> Try:
    """The guess that correlates best after refinement; the first that reaches ``enough`` ends the search."""
    best: Try | None = None
    for guess in search.guesses(picture):
        found = _tried(search, picture, guess)
        if best is None or found.correlation > best.correlation:
            best = found
        if best.correlation >= enough:
            break
    return cast(Try, best)  # a bank has at least one angle


def _tried(search: Search, picture: Floats, guess: Matrix) -> Try:
    refined = None if search.motion == "shift" else _refined(search, picture, guess)
    matrix = guess if refined is None else refined
    correlation, covered = _correlation(search.reference, picture, matrix)
    return Try(matrix, correlation, covered, "phase" if refined is None else "ecc")


def _refined(search: Search, picture: Floats, guess: Matrix) -> Matrix | None:
    """``guess`` after ECC; None where that does not converge, as on pictures without a common part."""
    cv2 = opencv(WHY)
    kind = cv2.MOTION_AFFINE if search.motion == "affine" else cv2.MOTION_EUCLIDEAN
    ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ROUNDS, CLOSE)
    try:
        start = guess.astype(np.float32)
        _, matrix = cv2.findTransformECC(search.reference, picture, start, kind, ends, None, 5)
    except cv2.error:
        return None
    return cast(Matrix, matrix.astype(np.float64))


def _correlation(reference: Floats, picture: Floats, matrix: Matrix) -> tuple[float, float]:
    """Pearson's correlation of the reference and the picture where they overlap, and the share (0 to 1) that does."""
    size = cast(Size, reference.shape)
    moved = pulled(picture, matrix, size)
    inside = moved >= 0
    covered = float(inside.mean())
    if covered < LEAST_COVERED:
        return -1.0, covered
    a, b = moved[inside].astype(np.float64), reference[inside].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    length = math.sqrt(float(a @ a) * float(b @ b))
    return (float(a @ b) / length if length > 0 else 0.0), covered


def mean_distance(one: Matrix, other: Matrix, size: Size) -> float:
    """How far apart two matrices take the points of a picture of ``size`` (H, W), on average over nine of them."""
    rows, columns = (np.array([0.2, 0.5, 0.8]) * side for side in size)
    x, y = np.meshgrid(columns, rows)
    points = np.stack([x.ravel(), y.ravel(), np.ones(9)])
    return float(np.hypot(*((one - other) @ points)).mean())


def pulled(picture: Floats, matrix: Matrix, size: Size) -> Floats:
    """The picture of ``size`` whose pixel p is ``picture`` (0 or more) at ``matrix`` of p, bilinear; -1 outside it."""
    moved = sampled(Image.fromarray(picture), matrix, size, Image.Resampling.BILINEAR, -1.0)
    return np.asarray(moved, dtype=np.float32)


def resized(picture: Floats, size: Size) -> Floats:
    """``picture`` at ``size`` (h, w), averaged where that shrinks it."""
    image = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def _angles(motion: Motion, max_turn: float) -> tuple[float, ...]:
    """The turns to try, in degrees, ``STEP`` apart at most."""
    if motion == "shift" or max_turn == 0:
        return (0.0,)
    each_way = math.ceil(max_turn / STEP)
    angles = np.linspace(-max_turn, max_turn, 2 * each_way + 1)
    return tuple(float(angle) for angle in (angles[1:] if max_turn == 180 else angles))
