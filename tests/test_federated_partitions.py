"""Who holds which images: drawn by seed, nothing lost or twice, stored and read back, written as folders."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from andon.cli import andon
from andon.data import anomaly_mask, read_samples
from andon.errors import DataError, SettingsError
from andon.federated.modes import find_modes, k_means
from andon.federated.partition_files import (
    placed,
    read_partition,
    write_folders,
    write_partition,
    write_share,
)
from andon.federated.partitions import LEAST, Partition, Recipe, Share, apportioned, deal, draw_partition
from andon.federated.shifts import Shift, draw_shifts
from andon.types import Sample
from plants import SIZE, draw_blocks


@pytest.fixture(scope="session")
def parts_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_blocks(tmp_path_factory.mktemp("sets") / "blocks")


def look_of(sample: Sample) -> int:
    return int(sample.path.stem) % 3


# --- drawing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["iid", "line", "size", "dirichlet"])
def test_every_image_is_at_one_site(parts_set: Path, by: str) -> None:
    found = draw_partition([parts_set], Recipe(by, sites=3, modes=3))
    samples = read_samples(parts_set)
    held = Counter(sample.path for share in found.shares for sample in (*share.train, *share.test))
    assert held == Counter(sample.path for sample in samples)
    for share in found.shares:
        assert not any(sample.is_anomalous or sample.split == "test" for sample in share.train)
        assert (share.tested(anomalous=False), share.tested(anomalous=True)) == (4, 4)


def test_same_seed_same_partition_and_another_seed_another(parts_set: Path) -> None:
    one = draw_partition([parts_set], Recipe("dirichlet", sites=3, modes=3, seed=1))
    assert one == draw_partition([parts_set], Recipe("dirichlet", sites=3, modes=3, seed=1))
    assert one.shares != draw_partition([parts_set], Recipe("dirichlet", sites=3, modes=3, seed=2)).shares


def unevenness(partition: Partition) -> float:
    """How far the sites' shares of looks lie from an even mixture; 0 to 2/3."""
    counts = np.array(
        [np.bincount([look_of(s) for s in share.train], minlength=3) for share in partition.shares]
    )
    shares = counts / counts.sum(1, keepdims=True)
    return float(np.abs(shares - 1 / 3).sum(1).mean() / 2)


def test_alpha_says_how_much_sites_differ(parts_set: Path) -> None:
    def mean(alpha: float) -> float:
        recipes = [Recipe("dirichlet", sites=3, modes=3, alpha=alpha, seed=seed) for seed in range(4)]
        return float(np.mean([unevenness(draw_partition([parts_set], recipe)) for recipe in recipes]))

    assert mean(0.05) > 0.2 > 0.1 > mean(1000)


def test_test_images_follow_the_sites_own_mixture(parts_set: Path) -> None:
    def agreement(alpha: float) -> float:
        found = draw_partition([parts_set], Recipe("dirichlet", sites=3, modes=3, alpha=alpha, seed=4))
        trained, tested = (
            np.array([np.bincount([look_of(s) for s in own], minlength=3) / len(own) for own in parts])
            for parts in ([share.train for share in found.shares], [share.test for share in found.shares])
        )
        return float(np.corrcoef(trained.ravel(), tested.ravel())[0, 1])

    assert agreement(0.02) > 0.9


def test_sizes_differ_and_none_is_too_small(parts_set: Path) -> None:
    sizes = [
        len(share.train) for share in draw_partition([parts_set], Recipe("size", sites=4, alpha=0.2)).shares
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 60
    assert min(sizes) >= LEAST
    assert max(sizes) > 2 * min(sizes)


def test_a_category_a_site(parts_set: Path, tmp_path: Path) -> None:
    other = tmp_path / "rings"
    other.symlink_to(parts_set)
    (tmp_path / "both").mkdir()
    for name in ("blocks", "rings"):
        (tmp_path / "both" / name).symlink_to(parts_set)
    found = draw_partition([tmp_path / "both"], Recipe("category"))
    assert [share.name for share in found.shares] == ["blocks", "rings"]
    with pytest.raises(DataError, match="needs at least two categories, got blocks"):
        draw_partition([parts_set], Recipe("category"))


def test_dealing_spreads_defect_types_evenly() -> None:
    samples = [
        Sample(Path(f"{k}.png"), "test", True, "", kind) for k, kind in enumerate(["a"] * 6 + ["b"] * 3)
    ]
    hands = deal(samples, np.zeros(9, np.intp), np.ones((3, 1)), [3, 3, 3], np.random.default_rng(0))
    assert [Counter(samples[k].defect_type for k in hand) for hand in hands] == [Counter(a=2, b=1)] * 3


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"by": "shift"}, "no partition by 'shift'"),
        ({"by": "iid", "sites": 1}, "at least 2 sites, got 1"),
        ({"by": "size", "alpha": 0.0}, "alpha must be a number above 0, got 0.0"),
        ({"by": "iid", "seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_refuses_a_recipe_without_sense(recipe: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Recipe(**recipe)


def test_refuses_more_sites_than_the_images_can_fill(parts_set: Path) -> None:
    with pytest.raises(
        DataError, match="60 good training images are too few for 8 sites with at least 8 each"
    ):
        draw_partition([parts_set], Recipe("iid", sites=8))


def test_refuses_two_sets_with_a_category_of_one_name(parts_set: Path, tmp_path: Path) -> None:
    twin = tmp_path / "blocks"
    twin.mkdir()
    for part in ("train", "test", "ground_truth"):
        (twin / part).symlink_to(parts_set / part)
    with pytest.raises(DataError, match="both hold a category 'blocks'"):
        draw_partition([parts_set, twin], Recipe("iid"))


def test_whole_parts() -> None:
    assert apportioned(7, [1, 1, 1]) == [3, 2, 2]
    assert sum(apportioned(101, [0.1, 0.2, 0.3, 0.4])) == 101


# --- modes ----------------------------------------------------------------------------------------------------------------


def test_modes_are_the_looks(parts_set: Path) -> None:
    samples = read_samples(parts_set)
    train = [s for s in samples if s.split == "train"]
    test = [s for s in samples if s.split == "test"]
    found, others = find_modes([s.path for s in train], [s.path for s in test], 3, seed=0)
    for modes, own in ((found, train), (others, test)):
        assert len({(int(mode), look_of(sample)) for mode, sample in zip(modes, own, strict=True)}) == 3


def test_k_means_finds_what_scikit_learn_finds() -> None:
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(1)
    vectors = np.concatenate([rng.normal(centre, 0.3, (20 + 5 * k, 4)) for k, centre in enumerate((0, 3, 7))])
    ours = k_means(vectors.astype(np.float32), 3, np.random.default_rng(0))
    theirs = KMeans(3, n_init=5, random_state=0).fit(vectors).cluster_centers_
    np.testing.assert_allclose(sorted(ours[:, 0]), sorted(theirs[:, 0]), atol=1e-4)
    assert k_means(np.zeros((4, 2), np.float32), 3, np.random.default_rng(0)).shape == (3, 2)  # all alike


def test_refuses_more_modes_than_images(parts_set: Path) -> None:
    paths = [s.path for s in read_samples(parts_set) if s.split == "train"][:4]
    with pytest.raises(DataError, match="5 modes cannot be found among 4 good images"):
        find_modes(paths, [], 5, 0)


# --- shifts ---------------------------------------------------------------------------------------------------------------


def test_no_shift_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    assert not Shift().changes
    np.testing.assert_array_equal(Shift().photo(pixels, 0), pixels)
    assert draw_shifts(2, ("light", "camera", "print"), 0.0, 0) == [Shift(), Shift()]


def test_the_mask_moves_with_what_it_marks() -> None:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, bool)
    mask[8:16, 40:52] = True
    pixels[mask] = 255
    shift = Shift(degrees=3.0, zoom=1.08)
    seen, moved = shift.photo(pixels, 0)[..., 0] > 127, shift.mask(mask)
    assert (seen & moved).sum() / (seen | moved).sum() > 0.85
    assert (mask & moved).sum() < mask.sum()  # it did move
    back = Shift(degrees=-3.0).mask(Shift(degrees=3.0).mask(mask))
    assert (back & mask).sum() / (back | mask).sum() > 0.8  # turned about the middle, there and back


def test_a_print_never_covers_a_defect() -> None:
    pixels = np.full((*SIZE, 3), 100, np.uint8)
    everywhere = np.ones(SIZE, bool)
    shift = Shift(print_seed=3)
    assert (shift.photo(pixels, 0) != pixels).any()
    np.testing.assert_array_equal(shift.photo(pixels, 0, everywhere), pixels)


def test_a_kind_that_is_left_out_changes_no_other() -> None:
    both, light = draw_shifts(3, ("light", "camera"), 1.0, 5), draw_shifts(3, ("light",), 1.0, 5)
    assert [replace(one, degrees=0.0, zoom=1.0, blur=0.0, noise=0.0) for one in both] == light
    assert len(set(light)) == 3


def test_refuses_an_unknown_shift() -> None:
    with pytest.raises(SettingsError, match="there is no shift 'lights'. Did you mean 'light'?"):
        draw_shifts(2, ("lights",), 1.0, 0)
    with pytest.raises(SettingsError, match="between 0 and 2, got 3"):
        draw_shifts(2, ("light",), 3, 0)


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["line", "dirichlet"])
def test_a_stored_partition_is_the_same(parts_set: Path, tmp_path: Path, by: str) -> None:
    found = draw_partition([parts_set], Recipe(by, sites=3, modes=3))
    write_partition(tmp_path / "p.json", found)
    assert read_partition(tmp_path / "p.json") == found


def test_refuses_what_is_no_partition_or_has_lost_an_image(parts_set: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(DataError, match="cannot read"):
        read_partition(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="is not a partition .* Make one with: andon federate partition"):
        read_partition(path)
    write_partition(path, draw_partition([parts_set], Recipe("iid", sites=3)))
    plain = json.loads(path.read_text())
    plain["sites"]["site-1"]["train"][0] = "0/train/good/gone.png"
    path.write_text(json.dumps(plain))
    with pytest.raises(DataError, match="'0/train/good/gone.png' is not below .* any more"):
        read_partition(path)


def test_written_sites_are_data_sets_as_their_line_shows_them(parts_set: Path, tmp_path: Path) -> None:
    found = draw_partition([parts_set], Recipe("line", sites=3, shifts=("camera",)))
    folders = write_folders(found, tmp_path / "plants")
    for share, folder in zip(found.shares, folders, strict=True):
        samples = read_samples(folder)
        assert Counter((s.split, s.defect_type) for s in samples) == Counter(
            (s.split, s.defect_type) for s in (*share.train, *share.test)
        )
        bad = next(s for s in samples if s.is_anomalous)
        pixels = np.asarray(Image.open(bad.path))
        inside = anomaly_mask(bad, SIZE)
        assert pixels[inside].mean() > pixels[~inside].mean() + 80  # the mask lies on the defect
    with pytest.raises(DataError, match="exists already"):
        write_folders(found, tmp_path / "plants")


def test_a_share_written_half_is_written_again(parts_set: Path, tmp_path: Path) -> None:
    share: Share = draw_partition([parts_set], Recipe("line", sites=3)).shares[0]
    (tmp_path / "one.partial").mkdir()
    (tmp_path / "one.partial" / "left.png").write_text("half")
    written = write_share(share, tmp_path / "one")
    assert written == placed(share, tmp_path / "one")
    assert not (tmp_path / "one.partial").exists()
    assert not (tmp_path / "one" / "left.png").exists()
    assert all(sample.path.is_file() for sample in (*written.train, *written.test))


def test_the_command_writes_partition_plot_and_folders(parts_set: Path, tmp_path: Path) -> None:
    words = [
        "federate",
        "partition",
        str(parts_set),
        "--by",
        "dirichlet",
        "--modes",
        "3",
        "--sites",
        "3",
        "-o",
    ]
    more = ["--plot", str(tmp_path / "p.html"), "--write", str(tmp_path / "plants")]
    done = CliRunner().invoke(andon, [*words, str(tmp_path / "p.json"), *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "site-1: 20 good images, tested on 4 good and 4 defective" in done.output
    assert len(read_partition(tmp_path / "p.json").shares) == 3
    page = (tmp_path / "p.html").read_text()
    assert page.count("<svg") == 1
    assert "site-3" in page
    assert sorted(path.name for path in (tmp_path / "plants").iterdir()) == ["site-1", "site-2", "site-3"]
