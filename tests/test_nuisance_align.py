"""Alignment: the geometry against brute force, places of drawn parts moved by known amounts, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from andon.errors import ArtifactError, DataError, ImageError, MissingExtraError, SettingsError
from andon.nuisance import Zone
from andon.nuisance.align import Aligner, Placement, Refusal, evenly
from andon.nuisance.edges import edge_strength, fitted_size
from andon.nuisance.phase import Matrix, PhaseBank, chain, inverse, sampled, scaling, turn, warp
from andon.nuisance.search import mean_distance

SIZE = (96, 128)
Pixels = NDArray[np.uint8]


def part(move: Matrix | None = None, *, defect: bool = False, noise: int = 0, enlarged: int = 1) -> Pixels:
    """A bracket with holes and a mark on a grey ground (H, W, 3), moved by ``move``, with noise of its own."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    drawn = np.full(SIZE, 60, np.float32)
    drawn[20:76, 24:100] = 170
    drawn[20:40, 80:100] = 60
    for row, column, radius in ((32, 36, 6), (64, 36, 5), (62, 86, 8)):
        drawn[np.hypot(y - row, x - column) < radius] = 30
    drawn[44:50, 52:74] = 230
    if defect:
        drawn[56:72, 44:66] = 240
    image = Image.fromarray(ndimage.gaussian_filter(drawn, 0.7).astype(np.float32))
    if move is not None:
        image = sampled(image, inverse(move), SIZE, Image.Resampling.BILINEAR, 60.0)
    large = image.resize((SIZE[1] * enlarged, SIZE[0] * enlarged), Image.Resampling.BILINEAR)
    grey = np.asarray(large) + np.random.default_rng(noise).normal(0, 3, (large.height, large.width))
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def moved(degrees: float, rows: float, columns: float) -> Matrix:
    """The turn about the middle, then the shift."""
    matrix = turn(degrees, SIZE)
    matrix[:, 2] += (columns, rows)
    return matrix


def goods(count: int, most: float = 3.0, turned: float = 3.0) -> list[Pixels]:
    """Good parts that do not lie quite alike."""
    rng = np.random.default_rng(5)
    return [
        part(moved(rng.uniform(-turned, turned), *rng.uniform(-most, most, 2)), noise=k) for k in range(count)
    ]


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner.fit(goods(12))


def error(aligner: Aligner, before: Pixels, after: Pixels, move: Matrix) -> float:
    """How far the places of the same part before and after a known move differ, in pixels."""
    first, second = aligner.locate(before), aligner.locate(after)
    assert isinstance(first, Placement)
    assert isinstance(second, Placement)
    return mean_distance(chain(move, second.matrix), first.matrix, SIZE)


# --- geometry ----------------------------------------------------------------------------------------------------


def test_matrices_undo_and_chain() -> None:
    move, point = moved(17.0, 4.0, -9.0), np.array([30.0, 50.0, 1.0])
    there = move @ point
    np.testing.assert_allclose(inverse(move) @ [*there, 1], point[:2], atol=1e-9)
    np.testing.assert_allclose(chain(move, inverse(move)), np.eye(2, 3), atol=1e-9)


def test_warp_is_bilinear_sampling() -> None:
    rng = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(rng.random((40, 50)), 2).astype(np.float32)
    move = turn(10.0, (40, 50))
    got = warp(picture, move, (40, 50))
    back = inverse(move)
    rows, columns = np.mgrid[:40, :50]
    x, y = np.tensordot(back, np.stack([columns, rows, np.ones_like(rows)]), 1)
    wanted = ndimage.map_coordinates(picture, [y, x], order=1)
    inside = (x > 1) & (x < 48) & (y > 1) & (y < 38)
    np.testing.assert_allclose(got[inside], wanted[inside], atol=2e-3)


def test_scaling_matches_resizing() -> None:
    spot = np.zeros((20, 30), np.float32)
    spot[6:8, 10:12] = 1
    large = np.asarray(Image.fromarray(spot).resize((90, 60), Image.Resampling.BILINEAR))
    row, column = ndimage.center_of_mass(large)
    np.testing.assert_allclose(scaling((20, 30), (60, 90)) @ [10.5, 6.5, 1], [column, row], atol=0.05)


def test_phase_finds_shift_to_a_fraction_and_turn() -> None:
    reference = ndimage.gaussian_filter(np.random.default_rng(1).random((64, 64)), 1.5).astype(np.float32)
    picture = ndimage.shift(reference, (3.3, -5.6), mode="wrap").astype(np.float32)
    start = PhaseBank(reference, (0.0,)).starts(picture, 1)[0]
    np.testing.assert_allclose(start.matrix[:, 2], (-5.6, 3.3), atol=0.25)
    turned = warp(reference, turn(8.0, (64, 64)), (64, 64))
    bank = PhaseBank(reference, (-8.0, 0.0, 8.0))
    np.testing.assert_allclose(bank.starts(turned, 1)[0].matrix, turn(8.0, (64, 64)), atol=0.3)


def test_edge_strength_against_scipy() -> None:
    pixels = (np.random.default_rng(0).random((20, 24, 3)) * 255).astype(np.uint8)
    pixels = ndimage.gaussian_filter(pixels, (2, 2, 0))
    smooth = ndimage.gaussian_filter(pixels.astype(float), (1, 1, 0))
    across, down = (ndimage.correlate1d(smooth, [-1, 0, 1], axis=axis) for axis in (1, 0))
    wanted = np.hypot(across, down).max(axis=2)
    np.testing.assert_allclose(
        edge_strength(pixels, (20, 24))[4:-4, 4:-4], wanted[4:-4, 4:-4], atol=4
    )  # Pillow rounds to bytes
    assert fitted_size((1000, 500), 256) == (256, 128)


# --- places ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "rows", "columns"), [(0, 4, -6), (7, -3, 5), (-11, 2.5, 3.5)])
@pytest.mark.parametrize("defect", [False, True])
def test_moves_are_found(aligner: Aligner, degrees: float, rows: float, columns: float, defect: bool) -> None:
    move = moved(degrees, rows, columns)
    assert error(aligner, part(noise=90, defect=defect), part(move, noise=91, defect=defect), move) < 0.5


def test_the_fit_says_how_exact_it_is(aligner: Aligner) -> None:
    assert 0 < aligner.errors[0] <= aligner.errors[1] < 0.5
    assert aligner.threshold < aligner.ordinary
    assert aligner.expected_refusals == pytest.approx(1 / 7)  # six judges


def test_a_larger_photograph_of_the_same_shape(aligner: Aligner) -> None:
    small, large = aligner.locate(part(noise=3)), aligner.locate(part(noise=3, enlarged=2))
    assert isinstance(small, Placement)
    assert isinstance(large, Placement)
    assert mean_distance(chain(scaling(SIZE, (192, 256)), large.matrix), small.matrix, SIZE) < 0.5


def test_shift_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    aligner = Aligner.fit(goods(12, turned=0.0), motion="shift")
    move = moved(0, 4, -5)
    assert error(aligner, part(noise=1), part(move, noise=2), move) < 1
    with pytest.raises(MissingExtraError, match=r'pip install "andon\[nuisance\]"'):
        Aligner.fit(goods(12))


def test_affine_finds_a_stretch() -> None:
    aligner = Aligner.fit(goods(12), motion="affine")
    stretch = np.array([[1.06, 0, -3.8], [0, 0.97, 1.5]])
    assert error(aligner, part(noise=1), part(stretch, noise=2), stretch) < 0.8


def test_same_images_same_bytes_and_back(aligner: Aligner) -> None:
    stored = aligner.to_bytes()
    again = Aligner.from_bytes(stored)
    assert again.to_bytes() == stored == Aligner.fit(goods(12)).to_bytes()
    one, other = aligner.locate(part(noise=7)), again.locate(part(noise=7))
    assert isinstance(one, Placement)
    assert isinstance(other, Placement)
    np.testing.assert_array_equal(one.matrix, other.matrix)
    for damaged in (b"", b"PK", stored[:200], stored[:-30]):
        with pytest.raises(ArtifactError, match="the stored alignment cannot be read"):
            Aligner.from_bytes(damaged)


def test_references_of_other_good_images_lie_nearly_alike() -> None:
    images = goods(24)
    places = [Aligner.fit(half).locate(part(noise=40)) for half in (images[:12], images[12:])]
    one, other = (place.matrix for place in places if isinstance(place, Placement))
    assert mean_distance(one, other, SIZE) < 2
    assert mean_distance(one, np.eye(2, 3), SIZE) < 2  # a part that lies as they do on average


def test_straighten_and_zones_follow_the_part(aligner: Aligner) -> None:
    move = moved(9, 5, -4)
    photo, size = part(move, noise=4), SIZE
    placement = aligner.locate(photo)
    assert isinstance(placement, Placement)
    assert placement.residual == 1 - placement.correlation
    straight, shows = placement.straighten(photo)
    still = aligner.locate(part(noise=5))
    assert isinstance(still, Placement)
    wanted, also = still.straighten(part(noise=5))
    both = ndimage.binary_erosion(shows & also, iterations=3)
    assert np.abs(straight.astype(int) - wanted)[both].mean() < 6
    zone = Zone.box("mark", (40, 48, 54, 78), size=size)
    drawn_on = placement.to_photograph(still_to_reference(zone, still), size)
    x, y = np.flatnonzero(drawn_on.any(0)).mean(), np.flatnonzero(drawn_on.any(1)).mean()
    np.testing.assert_allclose([x, y], move @ [62.5, 46.5, 1], atol=1.5)
    (mask,) = aligner.places(photo, [zone])
    assert mask.shape == size
    assert 0.7 < mask.sum() / zone.mask(size).sum() < 1.3


def still_to_reference(zone: Zone, placement: Placement) -> NDArray[np.bool_]:
    """The zone drawn on a photograph, in the reference's frame."""
    shape = np.where(zone.mask(SIZE), np.uint8(255), np.uint8(0))
    return placement.straighten(shape[..., None].repeat(3, 2))[0][..., 0] > 127


# --- refusals ----------------------------------------------------------------------------------------------------


def foreign() -> Iterator[Pixels]:
    rng = np.random.default_rng(8)
    yield np.full((*SIZE, 3), 128, np.uint8)
    yield rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    yield (((x // 9 + y // 7) % 2) * 200).astype(np.uint8)[..., None].repeat(3, 2)
    yield np.ascontiguousarray(part()[::-1, ::-1])  # turned by more than is looked for


def test_foreign_photographs_are_refused(aligner: Aligner) -> None:
    for pixels in foreign():
        answer = aligner.locate(pixels)
        assert isinstance(answer, Refusal), answer
        assert "correlate" in answer.reason or "outside" in answer.reason
    with pytest.raises(
        ImageError, match="the part was not found, so its zones were not either: its edges correlate"
    ):
        aligner.places(next(foreign()), [Zone.box("z", (0, 0, 0.5, 0.5))])


def test_another_shape_is_refused(aligner: Aligner) -> None:
    answer = aligner.locate(part()[:, :100])
    assert isinstance(answer, Refusal)
    assert np.isnan(answer.correlation)
    assert answer.reason == "the photograph is 96 x 100 pixels, the good ones are 96 x 128: another shape"


def test_a_higher_threshold_refuses(aligner: Aligner) -> None:
    answer = replace(aligner, threshold=0.9999).locate(part(noise=2))
    assert isinstance(answer, Refusal)
    assert answer.reason.endswith("with those of good parts, which reach 1.00")


def test_what_has_no_common_place_is_refused_at_the_fit() -> None:
    rng = np.random.default_rng(2)
    blobs = ndimage.gaussian_filter(rng.random((12, *SIZE)), (0, 6, 6))
    blobs = (255 * (blobs - blobs.min()) / np.ptp(blobs)).astype(np.uint8)
    with pytest.raises(DataError, match="good images are too unlike each other to have a common place"):
        Aligner.fit([blob[..., None].repeat(3, 2) for blob in blobs])


def test_blank_images_are_refused_at_the_fit() -> None:
    with pytest.raises(DataError, match="good images have no edges in common by which to find the part"):
        Aligner.fit([np.full((*SIZE, 3), 90, np.uint8)] * 8)


def test_settings() -> None:
    with pytest.raises(DataError, match="5 good images are too few to learn where parts lie, 6 needed"):
        Aligner.fit(goods(5))
    with pytest.raises(DataError, match="image 2 is 96 x 100 pixels, the first image 96 x 128"):
        Aligner.fit([part(), part()[:, :100], *goods(5)])
    with pytest.raises(SettingsError, match="motion must be shift, rigid or affine"):
        Aligner.fit(goods(6), motion="warp")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="max_turn: degrees from 0 to 180"):
        Aligner.fit(goods(6), max_turn=200)
    assert evenly([1, 2, 3], 10) == [1, 2, 3]
