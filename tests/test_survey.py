"""The survey of a data set: each figure against a second source, and what was planted must be found."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats
from sklearn.decomposition import PCA

from andon.data.layouts import read_samples
from andon.data.survey import Embedder, Survey, reading, small_pictures, survey
from andon.data.survey import looks as looks_module
from andon.data.survey import nearest as nearest_module
from andon.data.survey.alike import Item, find_copies
from andon.data.survey.looks import header, look, sharpness, thumbnail
from andon.data.survey.nearest import TURNS, FeatureSide, Side, ThumbSide, nearest
from andon.data.survey.order import natural_key, shooting_order
from andon.data.survey.reading import sampled
from andon.data.survey.spread import distances, plane, standardise
from andon.data.survey.two_samples import MOST, ks_statistic, ks_test
from andon.errors import DataError, SettingsError
from andon.metrics.holm import holm
from andon.types import Sample

SIZE = (48, 64)


def photo(seed: int, light: float = 0.0, blur: float = 0.0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A part (H, W, 3) uint8: the same ring and ramp on all, a texture of its own, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    ring = 60.0 * (np.abs(np.hypot(y - 0.5, x - 0.5) - 0.3) < 0.05)
    own = ndimage.zoom(rng.normal(0, 22, (9, 9)), (size[0] / 9, size[1] / 9), order=1)
    grey = ndimage.gaussian_filter(90 + 50 * x + ring + own + rng.normal(0, 3, size), blur) + light
    return np.clip(np.stack([grey + 8, grey, grey - 8], 2), 0, 255).astype(np.uint8)


def save(pixels: np.ndarray, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def line(root: Path, train: int = 24, test: int = 12, bad: int = 4, **changes: float) -> Path:
    """A data set in MVTec AD's layout; ``changes`` are of the good test images."""
    for i in range(train):
        save(photo(i), root / f"train/good/{i}.png")
    for i in range(test):
        save(photo(1000 + i, **changes), root / f"test/good/{i}.png")  # type: ignore[arg-type]
    for i in range(bad):
        save(photo(2000 + i), root / f"test/dent/{i}.png")
        mask = np.zeros(SIZE, np.uint8)
        mask[4:10, 4:12] = 255
        save(mask, root / f"ground_truth/dent/{i}_mask.png")
    return root


# --- one photograph ---------------------------------------------------------------------------------------------


def test_light_sharpness_and_colour_are_what_they_say() -> None:
    pixels = photo(3)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    found = look(pixels)
    assert found.brightness == pytest.approx(luma.mean(), abs=1e-6)
    assert found.sharpness == pytest.approx(ndimage.laplace(luma)[1:-1, 1:-1].var(), rel=1e-4)
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert found.red_green == pytest.approx(red - green)
    assert found.blue_yellow == pytest.approx(blue - (red + green) / 2)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sharpness(photo(3))
    for pixels in (1, 200, 333):
        monkeypatch.setattr(looks_module, "_STRIP", pixels)
        assert sharpness(photo(3)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 2)])
def test_too_small_for_a_laplacian(shape: tuple[int, int]) -> None:
    found = look(np.zeros((*shape, 3), np.uint8))
    assert np.isnan(found.sharpness)
    assert found.thumb.shape == (32, 32)


def test_thumbnail_is_the_mean_of_its_parts() -> None:
    pixels = photo(5, size=(64, 96))
    luma = (pixels @ np.array([0.299, 0.587, 0.114])).reshape(32, 2, 32, 3).mean(axis=(1, 3))
    assert thumbnail(pixels) + 128.0 == pytest.approx(luma, abs=0.1)


def test_blur_lowers_the_sharpness() -> None:
    assert look(photo(1, blur=1.0)).sharpness < 0.3 * look(photo(1)).sharpness


def test_header_gives_the_time_and_survives_damage(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({36867: "2024:05:01 12:30:00", 37521: "25"})
    data = save(photo(0), tmp_path / "a.jpg", exif=exif).read_bytes()
    assert (header(data).format, header(data).rotated, header(data).taken) == (
        "JPEG",
        True,
        "2024-05-01T12:30:00.25",
    )
    exif = Image.Exif()
    exif[306] = "0000:00:00 00:00:00"
    assert header(save(photo(0), tmp_path / "b.jpg", exif=exif).read_bytes()).taken == ""
    assert header(b"no image").format == ""


# --- order ------------------------------------------------------------------------------------------------------


def test_natural_order() -> None:
    names = ["b2", "b10", "B1", "a", "a0", "a00", "7", "10", "x²1"]
    assert sorted(names, key=natural_key) == ["7", "10", "a", "a0", "a00", "B1", "b2", "b10", "x²1"]


def test_exif_times_only_count_when_all_have_one() -> None:
    paths, taken = ["1", "2", "3"], ["2024-01-01T10:00:02", "2024-01-01T10:00:01", "2024-01-01T10:00:01"]
    assert shooting_order(paths, taken) == ([1, 2, 0], True)
    assert shooting_order(paths, ["", *taken[1:]]) == ([0, 1, 2], False)
    assert shooting_order([], []) == ([], False)


# --- two samples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_statistic_agrees_with_scipy_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 9, 30).astype(float), rng.integers(1, 12, 17).astype(float)
    assert ks_statistic(one, other) == pytest.approx(stats.ks_2samp(one, other).statistic, abs=1e-12)


def test_p_value_agrees_with_all_relabellings() -> None:
    one, other = np.array([1.0, 2, 3, 4]), np.array([3.0, 5, 6, 7, 8])
    pooled, seen = np.concatenate([one, other]), ks_statistic(one, other)
    every = [
        ks_statistic(pooled[list(kept)], np.delete(pooled, kept)) >= seen - 1e-12
        for kept in itertools.combinations(range(9), 4)
    ]
    statistic, p_value = ks_test(one, other, np.random.default_rng(0), 19_999)
    assert statistic == seen
    assert p_value == pytest.approx(np.mean(every), abs=0.01)


def test_p_value_is_honest_and_never_zero() -> None:
    rng = np.random.default_rng(1)
    null = [ks_test(rng.normal(size=20), rng.normal(size=15), rng, 99)[1] for _ in range(200)]
    assert np.mean(np.array(null) <= 0.1) <= 0.16
    assert ks_test(np.zeros(30), np.ones(30), rng, 99) == (1.0, 0.01)
    assert ks_test(np.zeros(30), np.zeros(9), rng, 99) == (0.0, 1.0)


def test_large_samples_are_drawn_from() -> None:
    rng = np.random.default_rng(2)
    statistic, p_value = ks_test(rng.normal(size=3 * MOST), rng.normal(0.5, size=3 * MOST), rng, 19)
    assert (0.15 < statistic < 0.25, p_value) == (True, 0.05)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one value each expected, got 0 and 1"):
        ks_statistic(np.array([]), np.array([1.0]))


def test_holm_rejects_as_its_definition_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(6) ** 3
        rejected = np.zeros(6, bool)
        for rank, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (6 - rank):
                break
            rejected[index] = True
        assert (np.array(holm(p)) <= 0.05).tolist() == rejected.tolist()
    assert holm([]) == []


# --- spread -------------------------------------------------------------------------------------------------------


def test_plane_agrees_with_scikit_learn() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * [5, 3, 1, 1, 1, 1]
    points, explained = plane(vectors)
    other = PCA(2).fit(vectors)
    assert np.abs(points) == pytest.approx(np.abs(other.transform(vectors)), abs=1e-4)
    assert explained == pytest.approx(other.explained_variance_ratio_, abs=1e-6)
    assert plane(vectors[::-1])[0][::-1] == pytest.approx(points, abs=1e-9)  # no sign is left to chance


def test_plane_of_one_photograph_is_a_point() -> None:
    points, explained = plane(np.ones((1, 5), np.float32))
    assert (points.tolist(), explained) == ([[0.0, 0.0]], (0.0, 0.0))


def test_distances_agree_with_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from andon.data.survey import spread

    monkeypatch.setattr(spread, "_BLOCK", 7)
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    reference = np.arange(5, 25)
    found = distances(vectors, reference, np.random.default_rng(0))
    for i in range(30):
        away = sorted(float(np.linalg.norm(vectors[i] - vectors[j])) for j in reference if j != i)
        assert found[i] == pytest.approx(np.mean(away[:3]), abs=1e-5)
    assert np.isnan(distances(vectors, np.array([3]), np.random.default_rng(0))[3])
    assert np.isnan(distances(vectors, np.array([], np.intp), np.random.default_rng(0))).all()


def test_a_number_that_hardly_varies_is_not_blown_up() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors[:, 2] = 1e-9 * vectors[:, 2]
    vectors[0, 2] = 1.0
    assert np.abs(standardise(vectors, np.arange(1, 50))[0, 2]) < 10


# --- copies -------------------------------------------------------------------------------------------------------


def thumbs_of(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack([thumbnail(pixels) for pixels in pictures])


def brute(side: Side, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most similar by comparing everything with everything."""
    values = np.stack([side.own(rows) @ side.own(columns, turn).T for turn in side.turns])
    values[:, rows[:, None] == columns[None]] = -1
    best = values.max(axis=0)
    partner = np.where(best.max(axis=1) > side.least, columns[best.argmax(axis=1)], -1)
    return partner, best.max(axis=1)


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize("kind", ["thumbs", "features"])
def test_nearest_finds_what_brute_force_finds(kind: str, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "_ROWS", 17)
    monkeypatch.setattr(nearest_module, "_COLUMNS", 23)
    monkeypatch.setattr(nearest_module, "_PAIRS", 5)
    monkeypatch.setattr(nearest_module, "_DENSE", dense)
    rng = np.random.default_rng(0)
    members = np.arange(120)
    if kind == "thumbs":
        thumbs = rng.normal(0, 30, (120, 32, 32)).astype(np.float16)
        thumbs[60:80] = thumbs[:20] * np.float16(0.5) + rng.normal(0, 3, (20, 32, 32)).astype(np.float16)
        thumbs[80:90] = TURNS["turned by 90° to the left"](thumbs[20:30])
        side: Side = ThumbSide(thumbs, members)
    else:
        features = rng.normal(size=(120, 40)).astype(np.float32)
        features[60:80] = features[:20] + rng.normal(0, 0.3, (20, 40))
        side = FeatureSide(features, members)
    for rows, columns in ((members[:60], members[60:]), (members, members)):
        partner, similarity, _ = nearest(side, rows, columns)
        expected, best = brute(side, rows, columns)
        assert partner.tolist() == expected.tolist()
        assert (expected >= 0).sum() >= 15
        assert similarity[partner >= 0] == pytest.approx(best[partner >= 0], abs=1e-4)


def items(count: int, **splits: range) -> list[Item]:
    split = {i: name for name, members in splits.items() for i in members}
    return [Item(f"{i}.png", "", split.get(i, "train"), f"f{i}", f"p{i}") for i in range(count)]


def test_near_copies_are_found_and_other_parts_are_not(tmp_path: Path) -> None:
    pictures = [photo(i, size=(96, 128)) for i in range(60)]
    again = Image.open(save(pictures[7], tmp_path / "a.jpg", quality=40)).convert("RGB")
    half = Image.fromarray(pictures[8]).resize((64, 48))
    made = [np.asarray(again), np.asarray(half), (pictures[9] * 0.8 + 20).astype(np.uint8), pictures[10][:, ::-1],
            np.rot90(pictures[11])]  # fmt: skip
    copies = find_copies(items(65, test=range(60, 65)), thumbs_of(pictures + made))
    assert [(c.path, c.of, c.of_split, c.turn) for c in sorted(copies, key=lambda c: c.path)] == [
        ("60.png", "7.png", "train", ""),
        ("61.png", "8.png", "train", ""),
        ("62.png", "9.png", "train", ""),
        ("63.png", "10.png", "train", "mirrored"),
        ("64.png", "11.png", "train", "turned by 90° to the left"),
    ]
    assert all(c.kind == "near" and c.by == "thumbnail" and c.similarity > 0.8 for c in copies)


def test_within_a_split_the_later_one_is_the_copy_and_its_turn_is_its_own() -> None:
    pictures = [photo(i) for i in range(40)]
    (copy,) = find_copies(items(41), thumbs_of([*pictures, np.rot90(pictures[3])]))
    assert (copy.path, copy.of, copy.turn) == ("40.png", "3.png", "turned by 90° to the left")
    (copy,) = find_copies(items(41), thumbs_of([np.rot90(pictures[3]), *pictures]))
    assert (copy.path, copy.of, copy.turn) == ("4.png", "0.png", "turned by 90° to the right")


def test_blank_photographs_are_not_near_each_other() -> None:
    thumbs = np.zeros((20, 32, 32), np.float16)
    assert find_copies(items(20, test=range(10, 20)), thumbs) == ()


def test_few_photographs_of_one_part_are_not_copies() -> None:
    pictures = [photo(i) for i in range(5)]
    assert find_copies(items(5), thumbs_of(pictures)) == ()
    (copy,) = find_copies(items(6), thumbs_of([*pictures, pictures[2]]))
    assert (copy.path, copy.of) == ("5.png", "2.png")


def test_same_bytes_same_pixels_and_the_split_they_come_from() -> None:
    rows = [
        ("train", "f0", "p0"),
        ("train", "f0", "p0"),
        ("calibration", "f2", "p0"),
        ("test", "f0", "p0"),
        ("test", "f4", "p4"),
    ]
    given = [Item(f"{i}", "ab"[i % 2], *row) for i, row in enumerate(rows)]
    copies = find_copies(given, thumbs_of([photo(i) for i in range(5)]))
    assert [(c.path, c.of, c.split, c.of_split, c.kind) for c in copies] == [
        ("3", "0", "test", "train", "file"),
        ("3", "2", "test", "calibration", "pixels"),
        ("2", "0", "calibration", "train", "pixels"),
        ("1", "0", "train", "train", "file"),
    ]


def test_features_know_a_part_that_moved() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 50)).astype(np.float32)
    features[190:] = features[:10] + rng.normal(0, 0.3, (10, 50))
    thumbs = thumbs_of([photo(i) for i in range(200)])
    copies = find_copies(items(200, test=range(190, 200)), thumbs, features)
    assert [(c.path, c.of, c.by) for c in sorted(copies, key=lambda c: c.path)] == [
        (f"{190 + i}.png", f"{i}.png", "features") for i in range(10)
    ]


# --- sampling -------------------------------------------------------------------------------------------------------


def test_sampling_keeps_the_kinds_in_proportion() -> None:
    samples = [Sample(Path(f"{i:04}"), "train") for i in range(900)]
    samples += [Sample(Path(f"b{i:04}"), "test", True, "", "dent") for i in range(99)]
    samples += [Sample(Path("rare"), "test", True, "", "rust")]
    drawn = sampled(samples, 100, 3)
    assert len(drawn) == 100
    assert abs(sum(s.split == "train" for s in drawn) - 90) <= 1
    assert sum(s.defect_type == "rust" for s in drawn) == 1
    assert drawn == sorted(drawn, key=samples.index)
    assert drawn == sampled(samples, 100, 3) != sampled(samples, 100, 4)
    assert len(sampled(samples, 2, 0)) == 2
    assert sampled(samples, 10**6, 0) == samples
    with pytest.raises(SettingsError, match="at least 1, not 0"):
        sampled(samples, 0, 0)


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """A set with copies, drift, an odd image, files that cannot be read, and images of many kinds."""
    root = line(tmp_path_factory.mktemp("planted") / "clip", train=40, light=25)
    shutil.copy(root / "train/good/3.png", root / "test/good/copy.png")
    save(photo(4), root / "test/good/again.bmp")
    save((photo(5) * 0.9 + 10).astype(np.uint8), root / "test/good/saved.jpg", quality=60)
    save(255 - photo(90), root / "train/good/odd.png")
    (root / "train/good/empty.png").write_bytes(b"")
    (root / "test/good/cut.png").write_bytes((root / "test/good/0.png").read_bytes()[:400])
    save(np.zeros((9, 9), np.uint8), root / "ground_truth/dent/3_mask.png")
    return survey(root)


def test_counts_and_unreadable(planted: Survey) -> None:
    assert (planted.layout, planted.images, planted.looked_at) == ("mvtec_ad", 62, 62)
    assert {(c.split, c.defect_type): c.images for c in planted.counts} == {
        ("train", "good"): 42, ("test", "good"): 16, ("test", "dent"): 4}  # fmt: skip
    assert list(planted.unreadable) == ["test/good/cut.png", "train/good/empty.png"] or set(planted.unreadable) == {
        "test/good/cut.png", "train/good/empty.png"}  # fmt: skip
    assert "it is empty" in planted.unreadable["train/good/empty.png"]
    assert planted.unreadable_train == 1
    assert len(list(planted.seen())) == 60
    assert planted.formats == {"PNG": 58, "BMP": 1, "JPEG": 1}


def test_defect_areas_and_wrong_masks(planted: Survey) -> None:
    shares = [s.defect_share for s in planted.seen() if s.is_anomalous]
    assert shares[:3] == [pytest.approx(48 / (48 * 64))] * 3
    assert shares[3] is None
    assert list(planted.masks_wrong) == ["test/dent/3.png"]


def test_copies_across_splits(planted: Survey) -> None:
    leak = [(c.path, c.of, c.kind) for c in planted.copies if (c.split, c.of_split) == ("test", "train")]
    assert leak == [
        ("test/good/copy.png", "train/good/3.png", "file"),
        ("test/good/again.bmp", "train/good/4.png", "pixels"),
        ("test/good/saved.jpg", "train/good/5.png", "near"),
    ]
    assert [c for c in planted.copies if c.split == c.of_split] == []


def test_drift_in_light_is_found_and_nothing_else(planted: Survey) -> None:
    (part,) = planted.parts
    moved = {shift.measure for shift in part.shifts if shift.p_holm < 0.05}
    assert part.compared == "splits"
    assert "brightness" in moved
    assert not moved & {"sharpness", "red_green", "blue_yellow"}
    shift = part.shifts[0]
    assert (shift.measure, shift.images) == ("brightness", (41, 15))
    assert shift.second - shift.first == pytest.approx(25, abs=8)
    values = [np.array([s.brightness for s in part.seen if s.split == split and not s.is_anomalous])
              for split in ("train", "test")]  # fmt: skip
    assert shift.statistic == pytest.approx(stats.ks_2samp(*values).statistic)


def test_the_odd_image_comes_first(planted: Survey) -> None:
    (part,) = planted.parts
    assert part.odd[0].path == "train/good/odd.png"
    assert part.odd[0].far_out
    assert sum(odd.far_out for odd in part.odd) <= 2


def test_order_within_groups(planted: Survey) -> None:
    (part,) = planted.parts
    kinds = [(s.split, s.is_anomalous) for s in part.seen]
    assert kinds == sorted(kinds, key=lambda k: (("train", "calibration", "test").index(k[0]), k[1]))
    names = [s.path for s in part.seen if s.split == "train"]
    assert names[:11] == [f"train/good/{i}.png" for i in range(11)]
    assert not part.timed


def test_survey_is_strict_json(planted: Survey) -> None:
    again = json.loads(json.dumps(planted.to_dict(), allow_nan=False))
    (category,) = again["categories"]
    assert len(category["images"]) == 60
    assert {"path", "brightness", "x", "y", "distance", "taken"} <= set(category["images"][0])
    assert {c["kind"] for c in again["copies"]} == {"file", "pixels", "near"}
    assert again["counts"][0]["images"] == 42


def test_the_same_images_give_the_same_survey(tmp_path: Path) -> None:
    root = line(tmp_path / "clip")
    first, second = (json.dumps(survey(root, seed=1, workers=w).to_dict()) for w in (1, 3))
    assert first == second


def test_no_drift_where_there_is_none(tmp_path: Path) -> None:
    (part,) = survey(line(tmp_path / "clip", train=40, test=20)).parts
    assert [shift.measure for shift in part.shifts if shift.p_holm < 0.05] == []
    assert [o for o in part.odd if o.far_out] == []
    assert part.ranges["good"].images == 20
    assert part.ranges["good"].outside <= 5
    assert part.outliers == ()


def test_a_plain_folder_is_compared_by_halves(tmp_path: Path) -> None:
    for i in range(30):
        save(photo(i, light=i), tmp_path / f"part{i}.png")
    (part,) = survey(tmp_path).parts
    assert part.compared == "halves"
    assert {t.measure for t in part.trends if t.p_holm < 0.05} == {"brightness"}
    assert "brightness" in {s.measure for s in part.shifts if s.p_holm < 0.05}
    assert part.shifts[0].images == (15, 15)


def test_exif_time_orders_the_photographs(tmp_path: Path) -> None:
    for i in range(4):
        exif = Image.Exif()
        exif[306] = f"2024:05:01 12:0{9 - i}:00"
        save(photo(i), tmp_path / f"{i}.jpg", exif=exif)
    (part,) = survey(tmp_path).parts
    assert part.timed
    assert [s.path for s in part.seen] == ["3.jpg", "2.jpg", "1.jpg", "0.jpg"]
    save(photo(9), tmp_path / "9.png")
    (part,) = survey(tmp_path).parts
    assert (part.timed, part.with_time) == (False, 4)


def test_an_image_out_of_focus_and_one_too_dark_are_named(tmp_path: Path) -> None:
    for i in range(20):
        save(photo(i), tmp_path / f"{i}.png")
    save(photo(50, blur=3), tmp_path / "blurred.png")
    save(photo(51, light=-85), tmp_path / "dark.png")
    (part,) = survey(tmp_path).parts
    assert {(o.path, o.measure) for o in part.outliers} >= {
        ("blurred.png", "sharpness"),
        ("dark.png", "brightness"),
    }
    assert {o.path for o in part.outliers} == {"blurred.png", "dark.png"}


def test_kinds_of_image(tmp_path: Path) -> None:
    grey = photo(0)[..., 1]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    Image.fromarray(photo(1)).convert("CMYK").save(tmp_path / "print.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(photo(2), tmp_path / "turned.jpg", exif=exif)
    found = survey(tmp_path)
    assert found.modes == {"CMYK": 1, "I;16": 1, "L": 1, "RGB": 1}
    assert found.bit_depths == {"8": 3, "16": 1}
    assert found.sizes == {"48 x 64": 3, "64 x 48": 1}
    assert found.exif_rotated == 1
    assert found.unreadable == {}
    seen = {s.path: s for s in found.seen()}
    assert seen["deep.png"].brightness == pytest.approx(seen["grey.tif"].brightness, abs=0.6)


def test_one_image(tmp_path: Path) -> None:
    save(photo(0), tmp_path / "only.png")
    found = survey(tmp_path)
    (part,) = found.parts
    assert (found.images, found.copies, part.odd, part.shifts, part.trends) == (1, (), (), (), ())
    assert part.points.tolist() == [[0.0, 0.0]]
    assert np.isnan(part.distance).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found = survey(tmp_path)
    assert (found.parts, found.copies, list(found.unreadable)) == ((), (), ["a.png"])


def test_no_image_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        survey(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        survey(tmp_path / "none")


def test_a_heap_of_images_is_surveyed_all_the_same(tmp_path: Path) -> None:
    root = line(tmp_path / "clip", train=3, test=3, bad=1)
    save(photo(0), root / "train/dent/0.png")
    found = survey(root)
    assert (found.layout, found.images) == ("unknown", 9)
    assert "may be trained" in found.layout_error


def test_categories_are_apart(tmp_path: Path) -> None:
    for name, light in (("clip", 0.0), ("hose", 40.0)):
        line(tmp_path / name, light=light)
    found = survey(tmp_path)
    assert [part.category for part in found.parts] == ["clip", "hose"]
    shifted = {shift.category for part in found.parts for shift in part.shifts if shift.p_holm < 0.05}
    assert shifted == {"hose"}
    tests = [shift for part in found.parts for shift in part.shifts]
    assert holm([t.p_value for t in tests]) == [t.p_holm for t in tests]
    across = [c for c in found.copies if not c.path.startswith(c.of[:4])]  # drawn with the same seeds
    assert {c.kind for c in across} == {"file"}
    assert len(across) == len(found.copies) == 24 + 4
    assert [p.category for p in survey(tmp_path, category="hose").parts] == ["hose"]


def test_limit_looks_at_a_part_and_counts_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = survey(
        line(tmp_path / "clip"), limit=10, progress=lambda done, total: calls.append((done, total))
    )
    assert (found.images, found.looked_at, sum(c.images for c in found.counts)) == (40, 10, 40)
    assert calls == [(i, 10) for i in range(1, 11)]
    assert len(list(found.seen())) == 10


def test_memory_holds_a_few_photographs_only(tmp_path: Path) -> None:
    """However many there are, no more than a batch and a few are prepared and not yet embedded."""
    for i in range(60):
        save(photo(i), tmp_path / f"{i}.png")
    waiting, most = 0, 0

    def prepare(pixels: np.ndarray) -> np.ndarray:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return np.zeros(3, np.float32)

    def embed(batch: np.ndarray) -> np.ndarray:
        nonlocal waiting
        waiting -= len(batch)
        return batch

    survey(tmp_path, embedder=Embedder(prepare, embed, "nothing"), workers=1)
    assert waiting == 0
    assert most <= 2 * reading.BATCH + reading._AHEAD + 1


def test_small_pictures_describe() -> None:
    found = small_pictures()
    batch = np.stack([found.prepare(photo(i)) for i in range(3)])
    assert found.embed(batch).shape == (3, 768)
    assert found.fallback == ""


def test_real_tiles_photographed_twice(shared_data: Path) -> None:
    """The publisher took each tile several times; names hold the number of the shot."""
    root = shared_data / "magnetic_tile"
    samples = [s for s in read_samples(root) if not s.is_anomalous]
    found = reading.gather(root, samples, small_pictures())
    given = [Item(s.path, "", s.split, s.file_digest, s.pixel_digest) for s in found.seen]
    copies = find_copies(given, found.thumbs)
    apart = [abs(int(c.path.split("_")[-1][:-4]) - int(c.of.split("_")[-1][:-4])) for c in copies]
    assert len(copies) >= 80
    assert np.mean(np.array(apart) <= 200) >= 0.95


def test_real_cookies(shared_data: Path) -> None:
    found = survey(shared_data / "aws_cookies")
    assert not found.unreadable
    assert [(c.path, c.of) for c in found.copies] == [
        ("train/good/normal-02.png", "train/good/normal-01.png")
    ]
    (part,) = found.parts
    assert part.odd[0].path == "train/good/normal-31.png"
    assert part.ranges["anomalous"].outside > part.ranges["anomalous"].images / 2
    assert len(read_samples(shared_data / "aws_cookies")) == len(part.seen) == 85
