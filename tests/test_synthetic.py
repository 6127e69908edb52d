"""The synthetic inspection line: the same bytes, honest masks, nothing but the defect differs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from andon.data import synthetic
from andon.data.synthetic import DEFECTS, draw, write_line
from andon.data.synthetic_canvas import Canvas, Pose, box, box_blur, cut, hexagon, noise, reduce_mask
from andon.data.synthetic_label import _WIDTHS, code128
from andon.errors import DataError, SettingsError

SMALL = (192, 256)
CASTS_SHADOW = {
    "contamination",
    "missing_bolt",
    "wrong_bolt",
    "missing_clip",
    "displaced_clip",
    "unseated_hose",
    "misrouted_hose",
}


def _wider(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.filter(ImageFilter.MaxFilter(2 * by + 1))) > 0


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("line")
    return write_line(root, train=3, test_good=2, per_defect=1, size=(96, 128), seed=5)


# --- one picture


def test_a_picture_is_uint8_rgb_of_the_size_asked_for() -> None:
    scene = draw(1, size=(96, 144))
    assert scene.image.shape == (96, 144, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks == ()
    assert synthetic.SIZE == (384, 512)


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (300, 90)])
def test_any_size_draws_every_defect(size: tuple[int, int]) -> None:
    for defect in DEFECTS:
        scene = draw(3, size=size, defect=defect)
        ((name, mask),) = scene.masks
        assert (name, mask.shape, mask.dtype) == (defect, size, np.bool_)
        assert mask.any()


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    first, again, other = (draw(seed, size=SMALL, defect="rust").image for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_generator_is_advanced_and_gives_what_its_state_says() -> None:
    rng = np.random.default_rng(0)
    first, second = draw(rng, size=SMALL), draw(rng, size=SMALL)
    assert first.serial != second.serial
    assert np.array_equal(first.image, draw(np.random.default_rng(0), size=SMALL).image)


def test_labels_differ_from_part_to_part() -> None:
    serials = {draw(seed, size=(64, 64)).serial for seed in range(25)}
    assert len(serials) == 25


def test_the_label_shows_another_barcode_on_another_part() -> None:
    strips = []
    for seed in (1, 2):
        grey = draw(seed).image[262:285, 165:280].mean(2)
        assert grey.min() < 90
        assert grey.max() > 190
        strips.append(grey.mean(0) > 150)
    assert (strips[0] != strips[1]).mean() > 0.1


def test_light_drifts_dimmer_and_warmer_all_day() -> None:
    shots = [draw(2, size=SMALL, light=light).image.astype(float) for light in np.linspace(0, 1, 6)]
    brightness = [shot.mean() for shot in shots]
    warmth = [shot[..., 0].mean() / shot[..., 2].mean() for shot in shots]
    assert np.all(np.diff(brightness) < 0)
    assert np.all(np.diff(warmth) > 0)
    lean = [shot[:, :64].mean() / shot[:, -64:].mean() for shot in shots]
    assert np.all(np.diff(lean) != 0)


def test_jpeg_changes_little_but_something() -> None:
    plain, pressed = draw(2, size=SMALL).image, draw(2, size=SMALL, jpeg=85).image
    change = np.abs(plain.astype(int) - pressed)
    assert 0 < change.mean() < 6


# --- defects


@pytest.mark.parametrize("defect", DEFECTS)
def test_only_the_defect_differs_from_the_good_part_of_the_same_seed(defect: str) -> None:
    for severity in (0.0, 1.0):
        good = draw(11, size=SMALL, light=0.4)
        bad = draw(11, size=SMALL, defect=defect, severity=severity, light=0.4)
        mask = bad.masks[0][1]
        change = np.abs(good.image.astype(int) - bad.image).max(2)
        assert good.serial == bad.serial
        assert (change[mask] > 6).mean() > 0.3  # the mask lies where something changed
        outside = change[~_wider(mask, 3)]
        if defect in CASTS_SHADOW:
            assert (outside > 6).mean() < 0.08
            assert change[:8].max() == 0  # the station itself is untouched
        else:
            assert outside.max() < 16


@pytest.mark.parametrize("defect", ["missing_bolt", "missing_clip"])
def test_around_a_missing_object_only_its_shadow_is_gone(defect: str) -> None:
    good, bad = draw(6, light=0.4), draw(6, defect=defect, light=0.4)
    change = bad.image.astype(int).sum(2) - good.image.astype(int).sum(2)
    outside = change[~_wider(bad.masks[0][1], 4)]
    assert (outside < -12).sum() <= 0.05 * (outside > 12).sum()


def test_masks_are_never_empty_nor_huge() -> None:
    for defect in DEFECTS:
        for seed in range(4):
            mask = draw(seed, size=(96, 128), defect=defect, severity=seed / 3).masks[0][1]
            assert 0 < mask.mean() < 0.2, (defect, seed)


@pytest.mark.parametrize(
    "defect", ["scratch", "dent", "rust", "hose_crack", "unseated_hose", "misrouted_hose"]
)
def test_severity_makes_it_larger(defect: str) -> None:
    areas = [
        sum(draw(seed, size=SMALL, defect=defect, severity=severity).masks[0][1].sum() for seed in range(3))
        for severity in (0.0, 1.0)
    ]
    assert areas[1] > 1.5 * areas[0]


def test_the_table_of_defects_is_sound() -> None:
    assert {kind.kind for kind in DEFECTS.values()} == {"structural", "logical"}
    for name, kind in DEFECTS.items():
        assert name == name.lower()
        assert kind.description
        assert not kind.relative_saturation or 0 < kind.saturation <= 1


# --- refusals


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(
        SettingsError, match=r"no defect is called 'scratsh'\. Did you mean 'scratch'\? There are: "
    ):
        draw(0, defect="scratsh")
    with pytest.raises(SettingsError, match=r"light is a place in the day's drift, 0 to 1; got 1.5\."):
        draw(0, light=1.5)
    with pytest.raises(SettingsError, match=r"severity must be 0 .* got -1"):
        draw(0, severity=-1)
    with pytest.raises(
        SettingsError, match=r"size must be \(H, W\), at least 64 each and at most 8192; got \(32, 512\)\."
    ):
        draw(0, size=(32, 512))
    with pytest.raises(SettingsError, match="jpeg is a quality"):
        draw(0, jpeg=100)
    with pytest.raises(SettingsError, match="seed must be 0 or more; got -1"):
        draw(-1)


def test_write_line_refuses_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no defect is called"):
        write_line(tmp_path, defects=["hole"])
    with pytest.raises(SettingsError, match="are counts; got -1"):
        write_line(tmp_path, train=-1)
    with pytest.raises(SettingsError, match="category must be the name of a folder"):
        write_line(tmp_path, category="../up")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bracket_line").mkdir()
    with pytest.raises(DataError, match=r"exists already\. Delete it, or choose another"):
        write_line(tmp_path)


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_line(tmp_path / "file", train=1)


# --- a data set


def test_the_layout_is_autovis(line: Path) -> None:
    assert line.name == "bracket_line"
    assert sorted(path.name for path in (line / "train" / "good").iterdir()) == [
        "0000.png",
        "0001.png",
        "0002.png",
    ]
    assert len(list((line / "test" / "good").iterdir())) == 2
    assert {path.name for path in (line / "test").iterdir()} == {"good", *DEFECTS}
    assert {path.name for path in (line / "ground_truth").iterdir()} == set(DEFECTS)
    assert [path.name for path in line.parent.iterdir()] == ["bracket_line"]


def test_every_mask_holds_its_defects_pixel_value(line: Path) -> None:
    entries = {
        entry["defect_name"]: entry for entry in json.loads((line / "defects_config.json").read_text())
    }
    assert set(entries) == set(DEFECTS)
    assert len({entry["pixel_value"] for entry in entries.values()}) == len(DEFECTS)
    for name, entry in entries.items():
        image = Image.open(line / "test" / name / "0000.png")
        mask = np.asarray(Image.open(line / "ground_truth" / name / "0000" / "0000.png"))
        assert (image.size, image.mode) == ((128, 96), "RGB")
        assert mask.shape == (96, 128)
        assert set(np.unique(mask)) == {0, entry["pixel_value"]}
        assert isinstance(entry["relative_saturation"], bool)
        assert entry["saturation_threshold"] > 0


def test_absolute_saturation_is_scaled_to_the_images(line: Path) -> None:
    entries = {
        entry["defect_name"]: entry for entry in json.loads((line / "defects_config.json").read_text())
    }
    assert not entries["missing_bolt"]["relative_saturation"]
    assert entries["missing_bolt"]["saturation_threshold"] == round(DEFECTS["missing_bolt"].saturation / 16)


def test_same_seed_same_files(line: Path, tmp_path: Path) -> None:
    again = write_line(tmp_path, train=3, test_good=2, per_defect=1, size=(96, 128), seed=5)
    assert _digests(again) == _digests(line)


def test_a_defects_pictures_do_not_depend_on_what_else_is_drawn(line: Path, tmp_path: Path) -> None:
    few = write_line(tmp_path, train=0, test_good=0, per_defect=1, size=(96, 128), seed=5, defects=["dent"])
    assert _digests(few / "test") == {
        name: digest for name, digest in _digests(line / "test").items() if name.startswith("dent")
    }
    assert not (few / "train").exists()


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_line(
        tmp_path,
        train=1,
        test_good=1,
        per_defect=2,
        size=(64, 64),
        defects=["rust", "rust"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_line(tmp_path, train=2, size=(64, 64), progress=stop)
    assert list(tmp_path.iterdir()) == []


# --- the tools underneath


def test_code128s_table_has_the_symbologys_structure() -> None:
    assert len(set(_WIDTHS)) == 106
    for widths in _WIDTHS:
        digits = [int(digit) for digit in widths]
        assert sum(digits) == 11
        assert sum(digits[::2]) % 2 == 0
        assert min(digits) >= 1
        assert max(digits) <= 4


def test_code128_of_a_worked_example() -> None:
    # "1234": start C, 12, 34, check (105 + 12 + 2 * 34) % 103 = 82, stop
    widths = "211232" + "112232" + "131123" + "121241" + "2331112"
    expected = "".join(("1" if i % 2 == 0 else "0") * int(width) for i, width in enumerate(widths))
    assert "".join("01"[int(module)] for module in code128("1234")) == expected


def test_box_distance_against_sampling_its_outline() -> None:
    x, y = np.meshgrid(np.linspace(-9, 9, 37, dtype=np.float32), np.linspace(-7, 7, 29, dtype=np.float32))
    distance = box(x, y, (5, 3), 1)
    turn = np.linspace(0, np.pi / 2, 200)
    arc = np.stack([4 + np.cos(turn), 2 + np.sin(turn)], 1)
    edge = np.concatenate([arc, np.stack([np.full(400, 5), np.linspace(0, 2, 400)], 1)])
    edge = np.concatenate([edge, np.stack([np.linspace(0, 4, 400), np.full(400, 3)], 1)])
    points = np.stack([np.abs(x).ravel(), np.abs(y).ravel()], 1)
    nearest = np.sqrt(((points[:, None] - edge[None]) ** 2).sum(2)).min(1).reshape(x.shape)
    assert np.allclose(np.abs(distance), nearest, atol=0.02)
    assert distance[14, 18] < 0 < distance[0, 0]


def test_a_hexagon_has_six_sides_at_its_apothem() -> None:
    turns = np.radians(30 + 60 * np.arange(6))
    at = hexagon(np.cos(turns).astype(np.float32) * 4, np.sin(turns).astype(np.float32) * 4, 4.0)
    assert np.allclose(at, 0, atol=1e-5)


def test_box_blur_is_a_mean_with_repeated_edges() -> None:
    array = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    padded = np.pad(array, 2, mode="edge")
    expected = [[padded[i : i + 5, j : j + 5].mean() for j in range(9)] for i in range(6)]
    assert np.allclose(box_blur(array, 2), expected, atol=1e-6)


def test_cut_wraps_around() -> None:
    texture = noise((32, 32), 2.0, 2.0, 0.0, 0)
    piece = cut(texture, (slice(5, 75), slice(0, 40)), (30, 31))
    rows, columns = (np.arange(5, 75) + 30) % 32, (np.arange(40) + 31) % 32
    assert np.array_equal(piece, texture[rows[:, None], columns])


def test_reduce_mask_keeps_a_thin_mark() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[3, 3] = True
    assert reduce_mask(mask).sum() == 1
    mask[4:6, 4:6] = True
    assert np.argwhere(reduce_mask(mask)).tolist() == [[2, 2]]


def test_a_patch_lies_where_place_says() -> None:
    canvas = Canvas((384, 512), Pose((2.0, -1.0), 0.1))
    patch = canvas.patch(100, 120, 20, 0.3)
    i, j = np.unravel_index(np.argmin(np.hypot(patch.x, patch.y)), patch.x.shape)
    column, row = canvas.place(100, 120)
    assert abs(patch.window[0].start + i + 0.5 - row) <= 1
    assert abs(patch.window[1].start + j + 0.5 - column) <= 1
