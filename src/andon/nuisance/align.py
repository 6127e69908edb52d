"""Where a part lies: the place of a photograph against a reference made of good images, or why none is known.

The reference is the mean edge strength of good images, aligned to each other, at most ``SIDE`` pixels long. A photograph
is brought to that size; phase correlation guesses how far it is moved and turned (:mod:`andon.nuisance.phase`), and the
enhanced correlation coefficient makes the guess exact (Evangelidis and Psarakis 2008; OpenCV's ``findTransformECC``).
The place is believed only where the two pictures then correlate nearly as those of good images do that the reference was
not made of. How exact places are is measured at the fit: good images are moved by known amounts and located again. No
place is believed that correlates no better than the wrong ones found then.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.calibrate import check_share
from andon.calibrate.conformal import marginal_order
from andon.errors import ArtifactError, DataError, ImageError, SettingsError
from andon.image import Source, decode
from andon.nuisance.edges import edge_strength, fitted_size
from andon.nuisance.opencv import opencv
from andon.nuisance.phase import Floats, Matrix, PhaseBank, chain, inverse, sampled, scaling, turn
from andon.nuisance.search import (
    COARSE,
    LEAST_COVERED,
    SIDE,
    WHY,
    Method,
    Motion,
    Search,
    Size,
    Try,
    best_try,
    mean_distance,
    pulled,
    resized,
)
from andon.nuisance.zones import Mask, Zone

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Progress = Callable[[int, int], None]
Item = TypeVar("Item")

LEAST_ALIKE = 0.3  # correlation that foreign photographs reach by chance; no threshold is lower
LEEWAY = 0.25  # what of good parts' correlation a defective part may lack
WRONG = 0.02  # error, as a share of the longest side, from which a place counts as wrong
MOVED, MOVES = (
    0.05,
    2,
)  # share of the sides by which good images are moved to measure errors, and how often each is
SAME_SHAPE = 0.03  # relative difference of height over width up to which photographs count as of one camera
FEWEST = 6  # good images
_FORMAT = "andon-aligner"


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a photograph lies on the reference.

    matrix: (2, 3) float64, takes (x, y, 1) of the photograph (column, row, pixel centres at whole numbers) to the
    reference's frame of ``size`` (H, W), which has the size of the good photographs.
    correlation: of the edges of both where they overlap, -1 to 1.
    method: what found it: ``phase`` correlation alone, or ``ecc`` after it.
    """

    matrix: Matrix
    size: Size
    correlation: float
    method: Method

    @property
    def residual(self) -> float:
        """1 - correlation: 0 where the photograph has exactly the reference's edges."""
        return 1 - self.correlation

    @property
    def turned(self) -> float:
        """Degrees by which the photograph must be turned to lie as the reference, clockwise as seen on a screen."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    def straighten(self, pixels: Pixels) -> tuple[Pixels, Mask]:
        """The photograph (H, W, 3) as if it lay like the reference, and where it has something to show (H, W) bool."""
        source = inverse(self.matrix)
        moved = sampled(Image.fromarray(pixels), source, self.size, Image.Resampling.BILINEAR, (0, 0, 0))
        return np.asarray(moved), _pulled(np.ones(pixels.shape[:2], bool), source, self.size)

    def to_photograph(self, mask: Mask, size: Size) -> Mask:
        """A ``mask`` of the reference's frame as it lies in the photograph of ``size`` (H, W); False beyond the frame."""
        if mask.shape != self.size:
            raise ImageError(f"a mask of the reference, {self.size}, was expected, got {mask.shape}")
        return _pulled(mask, self.matrix, size)


@dataclass(frozen=True)
class Refusal:
    """Why a photograph was not placed. ``correlation``: of the best try, nan where there was none."""

    reason: str
    correlation: float = math.nan


@dataclass(frozen=True, eq=False)
class Aligner:
    """Finds where parts lie. Make one with :meth:`fit`.

    reference: (h, w) uint8, the mean edge strength of good parts. size: (H, W) of the good photographs.
    ordinary: the correlation that nearly all good photographs reach. threshold: that below which a place is not
    believed. expected_refusals: the share of good photographs that it refuses at most, on average. errors: median and
    95 % quantile of the error in pixels of the good photographs, those refused left out.
    motion: what is looked for: ``shift`` needs NumPy alone, ``rigid`` (shift and turn) and ``affine`` need the extra
    ``nuisance``. max_turn: degrees either way.
    """

    reference: NDArray[np.uint8]
    size: Size
    ordinary: float
    threshold: float
    expected_refusals: float
    errors: tuple[float, float]
    motion: Motion = "rigid"
    max_turn: float = 12.0

    @classmethod
    def fit(
        cls,
        images: Sequence[Source],
        *,
        motion: Motion = "rigid",
        max_turn: float = 12.0,
        refused: float = 0.01,
        limit: int = 120,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Aligner:
        """The aligner of good ``images`` (paths or arrays), at most ``limit`` of them, evenly taken.

        Every other image makes the reference; the rest judge it. The threshold lies ``LEEWAY`` below the correlation that
        all of them but a share of ``refused`` reach (split conformal; of fewer than ``1 / refused`` images it is the
        lowest), and above that of every wrong place (``WRONG``) found after they were moved by known amounts, drawn
        with ``seed``.

        Raises :class:`DataError` where they are too few, of several shapes, or too unlike each other to have a common
        place; :class:`SettingsError`; :class:`MissingExtraError` without OpenCV, unless ``motion`` is ``shift``.
        """
        _check_settings(motion, max_turn, refused, limit)
        if motion != "shift":
            opencv(WHY)
        chosen = evenly(images, limit)
        if len(chosen) < FEWEST:
            raise DataError(
                f"{len(chosen)} good images are too few to learn where parts lie, {FEWEST} needed"
            )
        size, pictures = _edge_pictures(chosen, progress)
        reference = _mean_part(pictures[::2], motion, max_turn)
        trust = _judged(reference, pictures[1::2], refused, max_turn, seed)
        scale = max(size) / max(reference.size)
        errors = (trust.errors[0] * scale, trust.errors[1] * scale)
        return cls(reference.quantised, size, trust.ordinary, trust.threshold, trust.expected_refusals, errors,
                   motion, max_turn)  # fmt: skip

    def locate(self, pixels: Pixels) -> Placement | Refusal:
        """Where the photograph ``pixels`` (H, W, 3) uint8 lies, or why that is not known."""
        here = (pixels.shape[0], pixels.shape[1])
        if not _same_shape(here, self.size):
            return Refusal(f"the photograph is {here[0]} x {here[1]} pixels, the good ones are {self.size[0]} x "
                           f"{self.size[1]}: another shape")  # fmt: skip
        small = cast(Size, self.reference.shape)
        enough = max(self.ordinary, self.threshold)
        found = best_try(self._search, edge_strength(pixels, small), enough)
        if found.covered < LEAST_COVERED:
            return Refusal(f"the part seems to lie mostly outside the photograph ({found.covered:.0%} of the reference "
                           f"is covered, {LEAST_COVERED:.0%} are needed)", found.correlation)  # fmt: skip
        if found.correlation < self.threshold:
            return Refusal(f"its edges correlate by {found.correlation:.2f} with those of good parts, which reach "
                           f"{self.threshold:.2f}", found.correlation)  # fmt: skip
        to_small = chain(scaling(here, small), inverse(found.matrix))
        matrix = chain(to_small, scaling(small, self.size))
        return Placement(matrix, self.size, found.correlation, found.method)

    def places(self, pixels: Pixels, zones: Sequence[Zone]) -> list[Mask]:
        """The mask (H, W) of each zone, drawn on a good part lying as the reference, in this photograph.

        Raises :class:`ImageError` where the photograph cannot be placed: a zone in a wrong place would hide defects.
        """
        placement = self.locate(pixels)
        if isinstance(placement, Refusal):
            raise ImageError(f"the part was not found, so its zones were not either: {placement.reason}")
        here = (pixels.shape[0], pixels.shape[1])
        return [placement.to_photograph(zone.mask(self.size), here) for zone in zones]

    def to_bytes(self) -> bytes:
        """The aligner as a NumPy archive (.npz) of two arrays; the same aligner, the same bytes."""
        settings = {key: value for key, value in asdict(self).items() if key != "reference"}
        text = json.dumps({"format": _FORMAT, "schema": 1, **settings}, sort_keys=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, reference=self.reference, settings=np.frombuffer(text.encode(), np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Aligner:
        """The aligner that :meth:`to_bytes` wrote. Raises :class:`ArtifactError`."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                settings, reference = json.loads(stored["settings"].tobytes()), stored["reference"]
            if (settings.pop("format"), settings.pop("schema")) != (_FORMAT, 1):
                raise ValueError("another format")
            size = (int(settings["size"][0]), int(settings["size"][1]))
            if reference.dtype != np.uint8 or fitted_size(size, SIDE) != reference.shape:
                raise ValueError("the reference does not fit its size")
            return cls(reference, **{**settings, "size": size, "errors": tuple(settings["errors"])})
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, EOFError,
                zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
            raise ArtifactError(f"the stored alignment cannot be read ({error}). Fit it again.") from error

    @cached_property
    def _search(self) -> Search:
        return Search(self.reference, self.motion, self.max_turn)


# --- the reference -----------------------------------------------------------------------------------------------


def _edge_pictures(images: Sequence[Source], progress: Progress | None) -> tuple[Size, list[Floats]]:
    """The images' common size (the first's), and the edge strength of each at the reference's size."""
    pictures: list[Floats] = []
    size: Size | None = None
    for done, source in enumerate(images, 1):
        pixels = decode(source).pixels
        here = (pixels.shape[0], pixels.shape[1])
        size = size or here
        if not _same_shape(here, size):
            name = os.fspath(source) if isinstance(source, str | os.PathLike) else f"image {done}"
            raise DataError(f"{name} is {here[0]} x {here[1]} pixels, the first image {size[0]} x {size[1]}: a common "
                            "place needs photographs of one camera")  # fmt: skip
        pictures.append(edge_strength(pixels, fitted_size(size, SIDE)))
        if progress:
            progress(done, len(images))
    return cast(Size, size), pictures


def _mean_part(pictures: list[Floats], motion: Motion, max_turn: float) -> Search:
    """The mean of ``pictures`` aligned to the most typical of them, then once more to that mean.

    It lies as they lie on average, so that references made of other good images lie nearly alike.
    """
    search = Search(pictures[_most_typical(pictures)], motion, max_turn)
    for _ in range(2):
        tries = [best_try(search, picture) for picture in pictures]
        placed = [(p, t.matrix) for p, t in zip(pictures, tries, strict=True) if t.correlation > 0]
        if not placed:
            raise DataError("good images have no edges in common by which to find the part")
        middle = inverse(_middle([matrix for _, matrix in placed], search.size))
        total, weight = np.zeros(search.size), np.zeros(search.size)
        for picture, matrix in placed:
            values = pulled(picture, chain(middle, matrix), search.size)
            total += np.where(values >= 0, values, 0)
            weight += values >= 0
        search = Search((total / np.maximum(weight, 1)).astype(np.float32), motion, max_turn)
    return search


def _middle(matrices: list[Matrix], size: Size) -> Matrix:
    """The mean turn and the median shift of the middle that ``matrices`` do to a picture of ``size`` (h, w)."""
    linear = np.mean([matrix[:, :2] for matrix in matrices], axis=0)
    middle = turn(math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])), size)
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0])
    middle[:, 2] += np.median([matrix @ centre for matrix in matrices], axis=0) - centre[:2]
    return middle


def _most_typical(pictures: list[Floats]) -> int:
    """Which picture has the highest phase correlation with the others, on average, in small copies."""
    small = [resized(picture, fitted_size(cast(Size, picture.shape), COARSE)) for picture in pictures[:24]]
    banks = [PhaseBank(picture, (0.0,)) for picture in small]
    heights = [sum(bank.starts(picture, 1)[0].height for picture in small) for bank in banks]
    return int(np.argmax(heights))


@dataclass(frozen=True)
class _Trust:
    """What good images that made no part of the reference say about it; see the fields of :class:`Aligner`."""

    ordinary: float
    threshold: float
    expected_refusals: float
    errors: tuple[float, float]


def _judged(search: Search, pictures: list[Floats], refused: float, max_turn: float, seed: int) -> _Trust:
    """What ``pictures``, as they are and moved by known amounts, say of places found with ``search``."""
    rng = np.random.default_rng(seed)
    still = [best_try(search, picture) for picture in pictures]
    again = [_moved_again(search, picture, found, max_turn, rng)
             for picture, found in zip(pictures, still, strict=True) for _ in range(MOVES)]  # fmt: skip
    reached, errors = np.array(again).T
    correlations, n = np.sort([found.correlation for found in still]), len(still)
    ordinary = float(correlations[max(0, n - marginal_order(n, refused))])
    misled = reached[errors > WRONG * max(search.size)].max(initial=LEAST_ALIKE)
    threshold = max((1 - LEEWAY) * ordinary, float(np.nextafter(misled, 1)))
    if np.median(correlations) < threshold:
        raise DataError(f"good images are too unlike each other to have a common place: their edges correlate by "
                        f"{np.median(correlations):.2f} (median) where they lie right, and by up to {misled:.2f} where "
                        "they do not. Are they photographs of one part?")  # fmt: skip
    below = max(1, int((correlations < threshold).sum()), n + 1 - marginal_order(n, refused))
    middle, most = np.quantile(errors[reached >= threshold], (0.5, 0.95))
    return _Trust(ordinary, threshold, below / (n + 1), (float(middle), float(most)))


def _moved_again(search: Search, picture: Floats, still: Try, max_turn: float,
                 rng: np.random.Generator) -> tuple[float, float]:  # fmt: skip
    """How far the place of the moved ``picture`` is from that of the ``still`` one, moved alike, in pixels of the reference.

    Before it the lower of the two correlations: where the places differ, that one is to be blamed.
    """
    move = turn(0.0 if search.motion == "shift" else rng.uniform(-max_turn, max_turn), search.size)
    move[:, 2] += rng.uniform(-MOVED, MOVED, 2) * search.size[::-1]
    moved = sampled(Image.fromarray(picture), inverse(move), search.size, Image.Resampling.BILINEAR)
    again = best_try(search, np.asarray(moved))
    distance = mean_distance(again.matrix, chain(still.matrix, move), search.size)
    return min(still.correlation, again.correlation), distance


# --- small things ------------------------------------------------------------------------------------------------


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most ``limit`` of ``items``, spread over them in their order.

    >>> evenly("abcdefg", 3)
    ['a', 'd', 'g']
    """
    places = np.linspace(0, len(items) - 1, min(limit, len(items)))
    return [items[int(place)] for place in places]


def _pulled(mask: Mask, source: Matrix, size: Size) -> Mask:
    """The mask of ``size`` whose pixel p is ``mask`` at ``source`` of p; False outside it."""
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(sampled(image, source, size, Image.Resampling.NEAREST)).astype(np.bool_)


def _same_shape(one: Size, other: Size) -> bool:
    return abs(math.log((one[0] / one[1]) / (other[0] / other[1]))) <= SAME_SHAPE


def _check_settings(motion: str, max_turn: float, refused: float, limit: int) -> None:
    if motion not in ("shift", "rigid", "affine"):
        raise SettingsError(f"motion must be shift, rigid or affine, got {motion!r}")
    if not 0 <= max_turn <= 180:
        raise SettingsError(f"max_turn: degrees from 0 to 180 expected, got {max_turn}")
    if limit < FEWEST:
        raise SettingsError(f"limit: at least {FEWEST} images expected, got {limit}")
    check_share("refused", refused)
