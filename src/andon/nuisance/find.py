"""Where good parts differ from each other: zones to propose to a person, never to apply unseen.

At several scales the spread of each pixel over the good images is taken, and set against the image's typical spread. What
varies many times as much as the rest of the part is proposed as a zone: a printed number, a label, a loose cable. Whether
it may be ignored is not in the pictures, and only people know it.

Spread is in levels of brightness (0 to 255), the largest of the three channels': the distance between the 10 % and the
90 % quantile over the images, divided by the 2.56 that makes it the deviation of Gaussian noise. So it takes no notice of
what fewer than one image in ten shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from andon.components import label
from andon.errors import DataError, SettingsError
from andon.heatmap import overlay
from andon.image import Source, decode, resize_map
from andon.nuisance.align import Aligner, Refusal, evenly
from andon.nuisance.edges import edge_strength, fitted_size
from andon.nuisance.overlay import draw_zones
from andon.nuisance.plan import grown
from andon.nuisance.zones import Mask, Zone
from andon.outline import simplify, trace

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Size = tuple[int, int]
Progress = Callable[[int, int], None]
Finding = Literal["some", "nothing", "everything"]

SIDE = 256  # pixels of the longest side at which images are compared
SCALES = (0.0, 2.0, 6.0)  # deviations of the Gaussians that images are smoothed by first, in those pixels
TAILS = (0.1, 0.9)
GAUSSIAN = 2.5631  # between these quantiles, in deviations
QUIETEST = 1.0  # levels; a typical spread below that counts as this much, as cameras are no better
AT_EDGE = 0.5**0.5  # spread at the edge of what varies, as a share of that inside, after smoothing
JOINED = 0.012  # of the longest side: areas closer than twice that are one
SMOOTH = 1.0  # pixels by which a zone's outline may be simplified
MOST = 0.35  # share of the image from which "everything" differs
FOLLOWS = 0.5  # correlation of spread and edges from which parts seem to lie differently
SHOWN = 0.95  # share of the aligned images that must show a place for it to be compared
FEWEST = 8  # good images
MOST_ZONES = 20


@dataclass(frozen=True)
class Variation:
    """One area where good parts differ.

    share: of the image, 0 to 1. spread: median of what stands out in it, in levels of brightness. times: that as a multiple
    of the typical one, at the scale (pixels of deviation) where it is largest.
    """

    zone: Zone
    share: float
    spread: float
    times: float
    scale: float

    @property
    def reason(self) -> str:
        """The figures in words."""
        return (f"{self.share:.1%} of the image; good parts differ there by {self.spread:.0f} levels of brightness, "
                f"{self.times:.1f} times what is typical")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Proposal:
    """What stands out among good images, largest area first, and what to show a person.

    finding: ``some`` areas, ``nothing`` stands out, or ``everything`` differs (then no area is named). stands_out: share of
    the image that differs ``times`` as much as is typical. follows_edges: correlation of the spread with the typical
    part's edges, -1 to 1, in the largest area and beside it; high where parts lie differently. times_map: (h, w), spread over typical spread. picture: (H, W, 3)
    of the first good photograph, as it was compared. left_out: images that could not be placed.
    """

    finding: Finding
    variations: tuple[Variation, ...]
    stands_out: float
    follows_edges: float
    times: float
    times_map: Floats
    picture: Pixels
    images: int
    left_out: int

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones alone."""
        return tuple(variation.zone for variation in self.variations)

    @property
    def lies_differently(self) -> bool:
        """Whether the spread follows the edges of the part, as where its place varies."""
        return self.follows_edges >= FOLLOWS

    def overlay(self) -> Pixels:
        """Two pictures side by side (H, 2 W, 3): how much good parts differ, and the zones proposed."""
        heat = overlay(self.picture, self.times_map, 1.0, max(2 * self.times, 2.0))
        return np.concatenate([heat, draw_zones(self.picture, self.zones)], axis=1)


def find_variation(
    images: Sequence[Source],
    *,
    times: float = 4.0,
    least: float = 0.002,
    limit: int = 150,
    aligner: Aligner | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Where good ``images`` (paths or arrays; at most ``limit``, evenly taken) differ from each other.

    times: how many times the typical spread (the median over the image) stands out. least: share of the image that a zone
    has at least. aligner: brings parts to one place first; images that it refuses are left out.

    Raises :class:`DataError` for fewer than ``FEWEST`` images, :class:`SettingsError` for options that make no sense.
    """
    if not times > 1 or not 0 < least < 1 or limit < FEWEST:
        raise SettingsError(
            f"times > 1, 0 < least < 1 and limit >= {FEWEST} expected, got {times}, {least}, {limit}"
        )
    chosen = evenly(images, limit)
    stack, shown, picture = _compared(chosen, aligner, progress)
    size = cast(Size, stack.shape[1:3])
    spreads = [spread_of(stack, scale) for scale in SCALES]
    ratios = np.stack([spread / max(float(np.median(spread)), QUIETEST) for spread in spreads])
    ratios *= shown >= SHOWN
    standing = np.any(
        [_standing(ratio, scale, times) for ratio, scale in zip(ratios, SCALES, strict=True)], axis=0
    )
    mask = _tidied(standing, max(1, round(JOINED * max(size))))
    edges = edge_strength(np.median(stack, axis=0).astype(np.uint8), size)
    found = () if mask.mean() > MOST else _variations(mask, standing, ratios, spreads, least)
    finding: Finding = "everything" if mask.mean() > MOST else "some" if found else "nothing"
    return Proposal(finding, found, float(mask.mean()), _following(spreads[0], edges, mask), times, ratios.max(axis=0), picture,
                    len(stack), len(chosen) - len(stack))  # fmt: skip


def spread_of(stack: Pixels, scale: float) -> Floats:
    """The spread (h, w) over images (n, h, w, 3) smoothed by a Gaussian of ``scale`` pixels; see the module's words.

    Each image's mean colour is first brought to that of all, so that a change of the light is no spread.
    """
    if scale:
        stack = np.stack([_smoothed(picture, scale) for picture in stack])
    means = stack.mean(axis=(1, 2))
    lighter = np.rint(means.mean(axis=0) - means).astype(np.int16)
    level = np.clip(stack + lighter[:, None, None], 0, 255).astype(np.uint8)
    ordered = np.sort(np.moveaxis(level, 0, -1), axis=-1)  # (h, w, 3, n)
    last = len(stack) - 1
    low, high = (ordered[..., round(share * last)].astype(np.float32) for share in TAILS)
    return cast(Floats, ((high - low) / GAUSSIAN).max(axis=2))


def _compared(images: Sequence[Source], aligner: Aligner | None,
              progress: Progress | None) -> tuple[Pixels, Floats, Pixels]:  # fmt: skip
    """The images at one small size (n, h, w, 3), those left out that could not be placed; the share of them (h, w) that
    shows each place; and the first of them in full."""
    rows: list[Pixels] = []
    seen: list[Floats] = []
    first: Pixels | None = None
    for done, source in enumerate(images, 1):
        placed = _placed(decode(source).pixels, aligner)
        if progress:
            progress(done, len(images))
        if placed is None:
            continue
        first = placed[0] if first is None else first
        size = fitted_size((first.shape[0], first.shape[1]), SIDE)
        rows.append(
            np.asarray(Image.fromarray(placed[0]).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        )
        seen.append(resize_map(placed[1].astype(np.float32), size))
    if first is None or len(rows) < FEWEST:
        why = "" if len(rows) == len(images) else f" ({len(images) - len(rows)} more could not be placed)"
        raise DataError(
            f"{len(rows)} good images{why} are too few to say where good parts differ: at least {FEWEST}"
        )
    return np.stack(rows), cast(Floats, np.mean(seen, axis=0)), first


def _placed(pixels: Pixels, aligner: Aligner | None) -> tuple[Pixels, Mask] | None:
    """The photograph lying as the reference, and where it shows something (H, W); None if it was refused."""
    if aligner is None:
        return pixels, np.ones(pixels.shape[:2], bool)
    placement = aligner.locate(pixels)
    if isinstance(placement, Refusal):
        return None
    moved, shows = placement.straighten(pixels)
    middle = np.median(moved[shows], axis=0).astype(np.uint8)
    return np.where(shows[..., None], moved, middle), shows


def _standing(ratio: Floats, scale: float, times: float) -> Mask:
    """Where a ratio (h, w) is above ``times``, without what smoothing by ``scale`` has spread beyond it.

    At the edge of an area whose pixels vary independently, as print does, half of what is averaged varies: the variance is
    half that inside, the spread ``AT_EDGE`` of it. So only what has this share of the highest around it counts.
    """
    reach = round(2 * scale)
    return (ratio > times) & (ratio >= AT_EDGE * _highest_around(ratio, reach) if reach else True)


def _highest_around(values: Floats, reach: int) -> Floats:
    """The largest of ``values`` (h, w) within ``reach`` pixels, in a square window."""
    highest = values
    for axis in (0, 1):
        margin = [(reach, reach) if axis == k else (0, 0) for k in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(highest, margin), 2 * reach + 1, axis=axis)
        highest = windows.max(axis=-1)
    return highest


def _tidied(mask: Mask, reach: int) -> Mask:
    """``mask`` with gaps of up to twice ``reach`` pixels closed, specks removed, and holes filled."""
    closed = ~grown(~grown(np.pad(mask, reach), reach), reach)[reach:-reach, reach:-reach]
    opened = grown(~grown(~closed, 1), 1)
    return _filled(opened)


def _filled(mask: Mask) -> Mask:
    """``mask`` without holes: only what touches the border from outside stays out."""
    outside, _ = label(np.pad(~mask, 1, constant_values=True), connectivity=4)
    return cast(Mask, (outside != outside[0, 0])[1:-1, 1:-1])


def _variations(mask: Mask, standing: Mask, ratios: Floats, spreads: Sequence[Floats],
                least: float) -> tuple[Variation, ...]:  # fmt: skip
    """One for each area of ``mask`` (h, w) of at least a share of ``least``, largest first; ``standing``: what stands out."""
    labels, count = label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = [k for k in np.argsort(-areas, kind="stable")[:MOST_ZONES] if areas[k] >= least * mask.size]
    found: list[Variation] = []
    for k in order:
        area = labels == k + 1
        if (area & standing).any():
            found.append(_variation(len(found) + 1, area, area & standing, ratios, spreads))
    return tuple(found)


def _variation(number: int, area: Mask, core: Mask, ratios: Floats, spreads: Sequence[Floats]) -> Variation:
    """The zone around ``area`` (h, w) with the figures of its ``core``."""
    inside = [float(np.median(ratio[core])) for ratio in ratios]
    best = int(np.argmax(inside))
    ring = simplify(trace(area)[0].outer, SMOOTH)
    zone = Zone.polygon(f"varies {number}", [(y, x) for x, y in ring], size=cast(Size, area.shape))
    return Variation(
        zone, float(area.mean()), float(np.median(spreads[best][core])), inside[best], SCALES[best]
    )


def _following(spread: Floats, edges: Floats, mask: Mask) -> float:
    """The correlation of two pictures (h, w), their means in the largest area of ``mask`` and beside it taken out.

    A label whose print varies has both spread and edges, wherever in it, and does not lie differently for that.
    """
    labels, count = label(mask)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel(), minlength=count + 2)[1:])
    one, other = spread.copy(), edges.copy()
    for values in (one, other):
        for place in (largest, ~largest):
            if place.any():
                values[place] -= values[place].mean()
    return _correlation(one, other)


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation of two pictures, 0 where one of them is even."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def _smoothed(picture: Pixels, deviation: float) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(deviation)))
