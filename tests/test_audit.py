"""The rules of the audit: folds, distances between them, signals, kinds, the ranking, and the list of what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from andon.audit import LEAVE_OUT, LOOK, read_left_out
from andon.audit.crossfit import PatchStore, beside_of, free_distances, placed_distances, second_smallest
from andon.audit.folds import deal
from andon.audit.kinds import evidence, kind_of, whereabouts
from andon.audit.ranking import rank
from andon.audit.signals import CROWD, GAUSSIAN, Signals, deviation, signals
from andon.data.survey import Copy
from andon.data.survey.alike import leaders
from andon.errors import DataError

RNG = np.random.default_rng(0)


# --- folds ----------------------------------------------------------------------------------------------------


def test_copies_come_into_one_fold_and_the_folds_are_even() -> None:
    groups = [*"aaab", *range(36)]
    fold = deal(groups, folds=5)
    assert len(set(fold[:3].tolist())) == 1
    assert np.bincount(fold).tolist() == [8] * 5
    assert (deal(groups, folds=5) == fold).all()
    assert (deal(groups, folds=5, seed=1) != fold).any()


def test_there_are_no_more_folds_than_groups() -> None:
    assert deal(["a", "b", "b"], folds=10).max() == 1
    assert deal(["a"], folds=10).tolist() == [0]


def test_copies_of_copies_are_one_group() -> None:
    pairs = [Copy(a, "train", b, "train", "near", 0.9) for a, b in ("ba", "dc", "cb", "fe")]
    leader = leaders(pairs)
    assert len({leader[name] for name in "abcd"}) == 1
    assert leader["e"] == leader["f"] != leader["a"]


# --- distances ------------------------------------------------------------------------------------------------


def stored(patches: NDArray[np.float32]) -> PatchStore:
    """A store of images (N, h, w, D)."""
    store = PatchStore(len(patches))
    for batch in np.array_split(patches, 3):
        store.append(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
    return store


def drawn(count: int = 12, grid: tuple[int, int] = (3, 4)) -> NDArray[np.float32]:
    """Images (N, h, w, D) that have a patch of its own at each place, and a little noise."""
    places = np.random.default_rng(1).normal(size=(1, *grid, 8)) * 3
    noise = np.random.default_rng(2).normal(size=(count, *grid, 8)) * 0.1
    return (places + noise).astype(np.float32)


def test_free_distances_are_the_second_smallest_over_the_other_folds() -> None:
    patches, folds = drawn(), deal(range(12), 4)
    with_noise = patches.astype(np.float16).astype(np.float64)
    found = free_distances(stored(patches), folds)
    rows = with_noise.reshape(12, -1, 8)
    for image in range(12):
        banks = [rows[folds == fold].reshape(-1, 8) for fold in range(4) if fold != folds[image]]
        to_bank = [np.linalg.norm(rows[image][:, None] - bank[None], axis=2).min(axis=1) for bank in banks]
        np.testing.assert_allclose(found[image].ravel(), np.sort(to_bank, axis=0)[1], rtol=1e-3, atol=1e-3)


def test_a_defect_in_two_images_is_seen_in_both_and_one_in_four_hides() -> None:
    """The same odd patch in two images, in different folds, does not make it usual; in one image of each fold it does."""
    folds = np.arange(12) % 4
    for times, hidden in ((2, False), (4, True)):
        patches = drawn()
        patches[:times, 1, 2] = 20.0
        peak = free_distances(stored(patches), folds)[:, 1, 2]
        assert (peak[:times] < 1).all() == hidden
        assert (peak[times:] < 1).all()


def test_a_copy_in_the_same_fold_does_not_vouch_for_its_defect() -> None:
    patches = drawn()
    patches[:3, 1, 2] = 20.0  # three near copies of one defective part
    fold = deal(["copies"] * 3 + list(range(9)), 4)
    assert free_distances(stored(patches), fold)[:3, 1, 2].min() > 10
    assert placed_distances(stored(patches), fold)[:3, 1, 2].min() > 10


def test_a_shifted_image_is_near_everywhere_but_at_its_places() -> None:
    patches = drawn(grid=(3, 8))
    patches[0] = np.roll(patches[0], 4, axis=1)
    folds = deal(range(12), 4)
    free, placed = free_distances(stored(patches), folds), placed_distances(stored(patches), folds)
    assert free[0].max() < 1
    assert np.median(placed[0]) > 4
    assert np.median(placed[1:]) < 1


def test_a_shift_by_one_patch_is_within_reach() -> None:
    patches = drawn(grid=(3, 8))
    patches[0] = np.roll(patches[0], 1, axis=1)
    placed = placed_distances(stored(patches), deal(range(12), 4))
    assert np.median(placed[0]) < 1


def test_second_smallest_falls_back_on_the_only_one() -> None:
    table = torch.tensor([[3.0, 1.0, 2.0], [5.0, torch.inf, torch.inf]])
    assert second_smallest(table).tolist() == [2.0, 5.0]
    assert second_smallest(table[:, :1]).tolist() == [3.0, 5.0]


def test_beside_of_keeps_to_the_grid() -> None:
    assert beside_of(5, (3, 4)).tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert beside_of(11, (3, 4)).tolist() == [6, 7, 10, 11]


# --- signals --------------------------------------------------------------------------------------------------


def test_deviation_is_the_distance_to_the_kth_nearest() -> None:
    values = RNG.normal(size=40)
    alone = np.sort(np.abs(values[:, None] - values[None]), axis=1)[:, round(CROWD * 40)]
    expected = alone / (np.median(alone) / GAUSSIAN) * np.where(values < np.median(values), -1, 1)
    np.testing.assert_allclose(deviation(values), expected)


def test_deviation_of_gaussian_values_is_in_standard_deviations() -> None:
    values = np.append(RNG.normal(size=20_000), 10.0)
    assert deviation(values)[-1] == pytest.approx(10 - 1.04, rel=0.05)  # the nearest 15 % end at 1.04


def test_a_second_kind_of_good_part_is_at_home_and_a_few_odd_ones_are_not() -> None:
    values = np.concatenate([RNG.normal(0, 1, 50), RNG.normal(30, 1, 40), RNG.normal(60, 1, 6)])
    found = np.abs(deviation(values))
    assert found[:90].max() < 3
    assert found[90:].min() > 10


def test_deviation_of_equal_values_is_none() -> None:
    assert deviation(np.ones(9), 0.5).tolist() == [0.0] * 9


def made(count: int = 40, grid: int = 10) -> dict[str, NDArray]:
    """Distances, pictures and sharpness of images that vary a little, for :func:`found_in`."""
    rng = np.random.default_rng(5)
    free = np.exp(rng.normal(0, 0.1, (count, grid, grid))).astype(np.float32)
    scene = 100 + np.linspace(-60, 60, 16)[None, None, :, None] * np.ones((count, 3, 16, 16))
    return {
        "free": free,
        "placed": free * np.exp(rng.normal(0.5, 0.02, (count, 1, 1))).astype(np.float32),
        "blocks": scene + rng.normal(0, 0.5, (count, 3, 16, 16)) + rng.normal(0, 1, (count, 3, 1, 1)),
        "sharpness": 50 * np.exp(rng.normal(0, 0.1, count)),
    }


def found_in(images: dict[str, NDArray]) -> Signals:
    return signals(images["sharpness"], images["blocks"].astype(np.float32), images["free"], images["placed"])


def test_a_quiet_set_has_nothing_odd() -> None:
    found = found_in(made())
    assert max(evidence(found, i).oddness for i in range(40)) < 3.5


def test_a_spot_is_like_a_defect() -> None:
    images = made()
    images["free"][7, 2:4, 7:9] *= 6
    told = evidence(found_in(images), 7)
    assert told.kind == "defect"
    assert told.oddness > 5
    assert told.reason.startswith("4 % of the picture stands out, upper right: ")


@pytest.mark.parametrize(
    ("shift", "reason"), [(-30, "darker than usual: brightness "), (30, "brighter than usual: ")]
)
def test_light_explains_a_map_that_has_risen_everywhere(shift: int, reason: str) -> None:
    images = made()
    images["blocks"][7] += shift
    images["free"][7] *= 1e4
    images["placed"][7] *= 1e4
    told = evidence(found_in(images), 7)
    assert told.kind == "light"
    assert told.strengths["layout"] > told.strengths["light"] > 5
    assert told.reason.startswith(reason)


def test_colour_and_falling_light_are_light() -> None:
    images = made()
    images["blocks"][7, 0] += 25
    images["blocks"][8] += np.linspace(-30, 30, 16)[None, None]
    found = found_in(images)
    assert evidence(found, 7).reason.startswith("redder than usual: colour 2")
    assert evidence(found, 8).kind == "light"
    assert evidence(found, 8).reason.startswith("lit from one side: it falls off by ")
    assert found.values["shade"][8] == pytest.approx(60, rel=0.1)


def test_a_coloured_spot_is_no_other_light() -> None:
    images = made()
    images["free"][7, 2:4, 7:9] *= 6
    images["blocks"][7, 0, 3:6, 11:14] = 255
    assert evidence(found_in(images), 7).kind == "defect"


def test_what_has_moved_is_no_light_from_one_side() -> None:
    images = made()
    images["free"][7, :, :6] *= 6
    images["blocks"][7] += np.linspace(-30, 30, 16)[None, None]
    assert evidence(found_in(images), 7).kind == "layout"


def test_lost_detail_is_blur_and_added_detail_is_noise() -> None:
    images = made()
    images["sharpness"][7] *= 0.1
    images["sharpness"][8] *= 8
    found = found_in(images)
    assert (evidence(found, 7).kind, evidence(found, 8).kind) == ("blur", "blur")
    assert evidence(found, 7).reason.startswith("blurred: fine detail is ")
    assert evidence(found, 8).reason.startswith("sharper or noisier: fine detail is ")


def test_a_darker_picture_is_not_a_blurred_one() -> None:
    """At half the light, the Laplacian has a quarter of its variance: contrast is taken off."""
    images = made()
    images["blocks"][7] *= 0.5
    images["sharpness"][7] *= 0.25
    assert evidence(found_in(images), 7).kind == "light"


def test_a_picture_unlike_the_others_is_of_another_layout() -> None:
    images = made()
    images["free"][7, :, :6] *= 6
    told = evidence(found_in(images), 7)
    assert told.kind == "layout"
    assert told.reason.startswith("60 % of the picture is unlike the others: another part")


def test_known_patches_out_of_place_are_of_another_layout() -> None:
    images = made()
    images["placed"][7] *= 2
    told = evidence(found_in(images), 7)
    assert told.kind == "layout"
    assert "its pieces are known but lie elsewhere, 2." in told.reason


@pytest.mark.parametrize(
    ("strengths", "extent", "kind"),
    [
        ((9.0, 6.0, 1.0, 2.0), 0.1, "defect"),
        ((0.0, 2.0, 1.0, 9.0), 0.5, "layout"),
        ((0.0, 4.0, 5.0, 9.0), 0.5, "blur"),
        ((5.0, 4.0, 8.0, 2.0), 0.1, "blur"),
    ],
)
def test_the_rule(strengths: tuple[float, ...], extent: float, kind: str) -> None:
    named = dict(zip(("defect", "light", "blur", "layout"), strengths, strict=True))
    assert kind_of(named, extent) == kind  # type: ignore[arg-type]


def test_whereabouts_of_nothing() -> None:
    assert whereabouts(np.zeros((3, 3), bool)) == "in one place"


# --- the ranking ----------------------------------------------------------------------------------------------


def test_far_out_images_come_first_then_copies_then_the_rest() -> None:
    images = made()
    images["free"][7, 2:4, 7:9] *= 6
    paths = [f"{i:02d}.png" for i in range(40)]
    copies = [Copy("03.png", "train", "02.png", "train", "near", 0.93, "thumbnail"),
              Copy("05.png", "train", "04.png", "train", "file", 1.0)]  # fmt: skip
    ranked = rank(paths, found_in(images), copies)
    assert [one.rank for one in ranked] == list(range(1, 41))
    assert (ranked[0].path, ranked[0].kind, ranked[0].action) == ("07.png", "defect", LEAVE_OUT)
    by_path = {one.path: one for one in ranked[1:3]}
    assert by_path["03.png"].action == LOOK
    assert by_path["03.png"].reason == "nearly the same as 02.png: similarity 0.93 by thumbnail"
    assert by_path["05.png"].action == LEAVE_OUT
    assert by_path["05.png"].reason == "the same file as 04.png"
    assert {one.path for one in ranked} == set(paths)


def test_a_copy_that_is_far_out_is_listed_for_what_it_is() -> None:
    images = made()
    images["free"][7:9, 2:4, 7:9] *= 6
    copies = [Copy("08.png", "train", "07.png", "train", "near", 0.93, "thumbnail")]
    ranked = rank([f"{i:02d}.png" for i in range(40)], found_in(images), copies)
    assert {one.path: (one.kind, one.copy_of) for one in ranked[:2]} == {
        "07.png": ("defect", ""),
        "08.png": ("defect", "07.png"),
    }


# --- the list -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "good"
    (root / "late").mkdir(parents=True)
    for name in ("1.png", "2.png", "late/3.png", "=4.png"):
        (root / name).write_bytes(b"")
    return root


def test_a_csv_leaves_out_the_rows_that_say_so(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "audit.csv"
    listing.write_text(
        "rank,action,path\n1,leave out,late/3.png\n2,look,1.png\n3,Leave out ,'=4.png\n4,keep,gone.png\n"
    )
    assert read_left_out(listing, folder) == {folder / "late/3.png", folder / "=4.png"}


def test_a_text_leaves_out_every_line(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "bad.txt"
    listing.write_text(f"# scratched\n\n2.png\n{folder / '1.png'}\n")
    assert read_left_out(listing, folder) == {folder / "1.png", folder / "2.png"}


def test_a_list_for_another_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "bad.txt"
    listing.write_text("5.png\n2.png\n")
    with pytest.raises(
        DataError, match=r"names 1 of 2 images that are not below .*, the first is 5\.png\. Was the list"
    ):
        read_left_out(listing, folder)
    with pytest.raises(DataError, match="cannot read the list of images to leave out"):
        read_left_out(tmp_path / "none.csv", folder)
