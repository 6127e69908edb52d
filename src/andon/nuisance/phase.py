"""Phase correlation: how far, and how much turned, one picture lies from another. NumPy and Pillow.

The normalised cross-power spectrum of two pictures that differ by a shift is a pure phase, whose inverse transform
is a peak at that shift (Kuglin and Hines 1975). Turns are tried one by one: the reference is turned by each angle
beforehand, so a picture costs one transform forward and one back an angle.

Affine matrices are (2, 3) float64 and act on (x, y, 1), x the column and y the row, pixel centres at whole numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]


class Start(NamedTuple):
    """One guess: ``matrix`` takes the reference's coordinates to the picture's; ``height`` is the peak's, 0 to 1."""

    matrix: Matrix
    height: float


class PhaseBank:
    """A reference (h, w) turned by every one of ``angles`` (degrees), as windowed spectra.

    >>> rng = np.random.default_rng(0)
    >>> picture = rng.random((32, 48)).astype(np.float32)
    >>> best, = PhaseBank(picture, (0.0,)).starts(np.roll(picture, (3, -5), (0, 1)), 1)
    >>> best.matrix[:, 2].round().astype(int).tolist()
    [-5, 3]
    """

    def __init__(self, reference: Floats, angles: tuple[float, ...]) -> None:
        self.shape = (reference.shape[0], reference.shape[1])
        self.angles = angles
        self._window = _hann(self.shape)
        turned = [warp(reference, turn(angle, self.shape), self.shape) for angle in angles]
        self._spectra = np.stack([np.conj(self._spectrum(picture)) for picture in turned])

    def starts(self, picture: Floats, count: int) -> list[Start]:
        """The ``count`` best guesses for ``picture`` (h, w), one an angle, highest peak first."""
        cross = self._spectra * self._spectrum(picture)
        cross /= np.abs(cross) + 1e-12
        surfaces = np.fft.irfft2(cross, s=self.shape)
        heights = surfaces.reshape(len(self.angles), -1).max(axis=1)
        return [
            Start(_moved(turn(self.angles[k], self.shape), *_peak(surfaces[k])), float(heights[k]))
            for k in np.argsort(-heights, kind="stable")[:count]
        ]

    def _spectrum(self, picture: Floats) -> NDArray[np.complex128]:
        return np.fft.rfft2((picture - picture.mean()) * self._window)


def turn(degrees: float, size: tuple[int, int]) -> Matrix:
    """The matrix that turns by ``degrees`` about the middle of a picture of ``size`` (h, w), rows running down.

    >>> turn(90, (3, 3)).round().tolist()
    [[0.0, -1.0, 2.0], [1.0, 0.0, 0.0]]
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, middle - linear @ middle])


def inverse(matrix: Matrix) -> Matrix:
    """The matrix (2, 3) that undoes ``matrix``."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def chain(first: Matrix, then: Matrix) -> Matrix:
    """The matrix (2, 3) that does ``first``, ``then`` the other."""
    return np.column_stack([then[:, :2] @ first[:, :2], then[:, :2] @ first[:, 2] + then[:, 2]])


def scaling(before: tuple[int, int], after: tuple[int, int]) -> Matrix:
    """The matrix that takes coordinates in a picture of size ``before`` (h, w) to those in it resized to ``after``.

    >>> scaling((10, 10), (20, 20)).tolist()
    [[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]]
    """
    rows, columns = after[0] / before[0], after[1] / before[1]
    return np.array([[columns, 0, (columns - 1) / 2], [0, rows, (rows - 1) / 2]])


def warp(picture: Floats, matrix: Matrix, size: tuple[int, int]) -> Floats:
    """``picture`` (h, w) float32 moved by ``matrix`` onto a canvas of ``size``, bilinear; its mean where it is not."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    moved = sampled(image, inverse(matrix), size, Image.Resampling.BILINEAR, float(picture.mean()))
    return np.asarray(moved, dtype=np.float32)


def sampled(image: Image.Image, source: Matrix, size: tuple[int, int], how: Image.Resampling,
            fill: float | tuple[int, ...] = 0) -> Image.Image:  # fmt: skip
    """A canvas of ``size`` (H, W) whose pixel p is ``image`` at ``source`` of p; ``fill`` outside the image."""
    (a, b, c), (d, e, f) = source.tolist()
    corner = (a, b, c + (1 - a - b) / 2, d, e, f + (1 - d - e) / 2)  # Pillow's pixel centres lie at halves
    return image.transform((size[1], size[0]), Image.Transform.AFFINE, corner, how, fillcolor=fill)


def _moved(matrix: Matrix, rows: float, columns: float) -> Matrix:
    moved = matrix.copy()
    moved[:, 2] += (columns, rows)
    return moved


def _hann(size: tuple[int, int]) -> Floats:
    """The window (h, w) that falls to 0 just outside the picture, so that its borders are no edges."""
    rows, columns = (np.hanning(n + 2)[1:-1] for n in size)
    return np.outer(rows, columns).astype(np.float32)


def _peak(surface: NDArray[np.float64]) -> tuple[float, float]:
    """Rows and columns from the origin to the highest point of a periodic surface, to a fraction of a pixel."""
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    height, width = surface.shape
    down = _vertex(*(surface[(row + k) % height, column] for k in (-1, 0, 1)))
    across = _vertex(*(surface[row, (column + k) % width] for k in (-1, 0, 1)))
    return _signed(int(row), height) + down, _signed(int(column), width) + across


def _vertex(before: float, at: float, after: float) -> float:
    """Where, from -0.5 to 0.5, the parabola through three neighbouring heights has its top."""
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))


def _signed(index: int, length: int) -> int:
    return index - length if index > length // 2 else index
