"""Layouts of public data sets, drawn small: what they read, and what they refuse and say."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from andon.data.layouts import LAYOUTS, detect_layout, read_samples
from andon.data.layouts.folders import suggests_defects
from andon.data.layouts.mvtec import read_defects_config
from andon.data.layouts.tables import read_boxes
from andon.data.masks import anomaly_mask, read_channels, resize_nearest
from andon.errors import AndonError, DataError, ImageError, SettingsError
from andon.types import MaskSource, Sample

CONFIG = [
    {"defect_name": "hole", "pixel_value": 255, "saturation_threshold": 0.5, "relative_saturation": True},
    {"defect_name": "dent", "pixel_value": 254, "saturation_threshold": 6, "relative_saturation": False},
]
XML = (
    "<annotation><size><width>8</width><height>6</height></size><object><name>patches</name><bndbox>"
    "<xmin>2</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object></annotation>"
)


def draw(path: Path, pixels: np.ndarray | None = None) -> Path:
    """An image file of 6 rows and 8 columns, each another one unless the pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        seed = int.from_bytes(str(path).encode()[-6:], "big")
        pixels = np.random.default_rng(seed).integers(0, 255, (6, 8), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def spot(value: int = 255, rows: int = 6, columns: int = 8) -> np.ndarray:
    """A mask with a block of 2 x 3 pixels."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[1:3, 2:5] = value
    return mask


def make_mvtec(root: Path, good: str = "good", defect: str = "crack", mask: str = "{}_mask.png") -> Path:
    for stem in ("000", "001", "002"):
        draw(root / "train" / good / f"{stem}.png")
    draw(root / "test" / good / "000.png")
    for stem in ("000", "001"):
        draw(root / "test" / defect / f"{stem}.png")
        draw(root / "ground_truth" / defect / mask.format(stem), spot())
    return root


def make_autovi(root: Path) -> Path:
    make_mvtec(root, mask="{}/0000.png")
    both = spot()
    both[4, 4:6] = 254
    draw(root / "ground_truth/crack/001/0000.png", np.stack([both] * 3, axis=2))
    draw(root / "ground_truth/crack/001/0001.png", spot(254))
    (root / "defects_config.json").write_text(json.dumps(CONFIG))
    return root


def make_loco(root: Path) -> Path:
    make_autovi(root)
    draw(root / "validation/good/000.png")
    for part in ("test", "ground_truth"):
        (root / part / "crack").rename(root / part / "logical_anomalies")
    return root


def make_visa(root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for category in ("candle", "pcb1"):
        for stem, split in (("0000", "train"), ("0001", "train"), ("0002", "test")):
            image = draw(root / category / "Data/Images/Normal" / f"{stem}.JPG")
            rows.append(f"{category},{split},normal,{image.relative_to(root).as_posix()},")
        image = draw(root / category / "Data/Images/Anomaly/000.JPG")
        mask = draw(root / category / "Data/Masks/Anomaly/000.png", spot(3))
        rows.append(
            f"{category},test,anomaly,{image.relative_to(root).as_posix()},{mask.relative_to(root).as_posix()}"
        )
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root


def make_kolektor(root: Path) -> Path:
    for item in range(1, 6):
        for part in range(2):
            draw(root / f"kos{item:02}" / f"Part{part}.jpg")
            mask = spot() if part == 1 else np.zeros((6, 8), np.uint8)
            draw(root / f"kos{item:02}" / f"Part{part}_label.bmp", mask)
    return root


def make_kolektor2(root: Path) -> Path:
    for folder, stem, bad in (
        ("train", "10000", 0),
        ("train", "10001", 1),
        ("test", "20000", 0),
        ("test", "20001", 1),
    ):
        draw(root / folder / f"{stem}.png")
        draw(root / folder / f"{stem}_GT.png", spot() * bad)
    draw(root / "train/10301 (copy).png")
    draw(root / "train/10301_GT (copy).png", spot())
    return root


def make_dagm(root: Path) -> Path:
    for folder in ("Class1", "Class2"):
        for part in ("Train", "Test"):
            draw(root / folder / part / "0001.PNG")
            draw(root / folder / part / "0002.PNG")
            draw(root / folder / part / "Label/0002_label.PNG", spot())
    return root


def make_severstal(root: Path) -> Path:
    for i in range(6):
        draw(root / "train_images" / f"{i}.jpg")
    (root / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n0.jpg,3,1 2 8 1\n0.jpg,1,48 1\n")
    return root


def make_neu(root: Path) -> Path:
    draw(root / "IMAGES/patches_1.jpg")
    (root / "ANNOTATIONS").mkdir()
    (root / "ANNOTATIONS/patches_1.xml").write_text(XML)
    return root


def make_good_bad(root: Path) -> Path:
    for i in range(10):
        draw(root / "ok" / f"{i}.png")
    draw(root / "ng/0.png")
    draw(root / "ng/scratch/1.png")
    return root


def make_folder(root: Path) -> Path:
    for i in range(3):
        draw(root / "monday" / f"{i}.png")
    return root


def make_coco(root: Path) -> Path:
    for stem in ("good", "bad"):
        draw(root / "images" / f"{stem}.png")
    content = {
        "categories": [{"id": 1, "name": "dent"}],
        "images": [{"id": i, "file_name": f"{stem}.png", "height": 6, "width": 8} for i, stem in enumerate(("good", "bad"))],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 1, 5, 1, 5, 3, 2, 3]]}],
    }  # fmt: skip
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def make_masks(root: Path) -> Path:
    for stem, mask in (("good", np.zeros((6, 8), np.uint8)), ("bad", spot())):
        draw(root / "images" / "a" / f"{stem}.jpg")
        draw(root / "masks" / "a" / f"{stem}.png", mask)
    return root


MAKERS = {
    "autovi": make_autovi,
    "mvtec_ad": make_mvtec,
    "mvtec_loco": make_loco,
    "visa": make_visa,
    "btad": lambda root: make_mvtec(root, "ok", "ko", "{}.png"),
    "kolektor_sdd": make_kolektor,
    "kolektor_sdd2": make_kolektor2,
    "dagm": make_dagm,
    "severstal": make_severstal,
    "neu": make_neu,
    "good_bad": make_good_bad,
    "coco": make_coco,
    "masks": make_masks,
    "folder": make_folder,
}


def counted(samples: list[Sample]) -> Counter[tuple[str, bool]]:
    return Counter((sample.split, sample.is_anomalous) for sample in samples)


def test_every_layout_is_drawn_here() -> None:
    assert MAKERS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_detected_and_read_alike(name: str, tmp_path: Path) -> None:
    root = MAKERS[name](tmp_path / "set")
    assert detect_layout(root) == name
    samples = read_samples(root)
    assert samples == read_samples(root, name) == read_samples(str(root))
    assert len({sample.path for sample in samples}) == len(samples)
    assert all(sample.path.is_file() for sample in samples)
    assert all(sample.is_anomalous == (sample.defect_type != "good") for sample in samples)


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("good_bad", "folder")])
def test_anomalous_samples_have_masks(name: str, tmp_path: Path) -> None:
    for sample in read_samples(MAKERS[name](tmp_path / "set")):
        assert bool(sample.masks) == sample.is_anomalous
        assert anomaly_mask(sample, (6, 8)).any() == sample.is_anomalous


@pytest.mark.parametrize("name", MAKERS)
def test_litter_is_ignored(name: str, tmp_path: Path) -> None:
    root = MAKERS[name](tmp_path / "set")
    before = read_samples(root)
    for folder in [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]:
        for litter in ("Thumbs.db", ".DS_Store", "x.png.tmp", ".hidden.png", "desktop.ini"):
            (folder / litter).write_bytes(b"litter")
    (root / ".git").mkdir()
    draw(root / ".git/good.png")
    assert detect_layout(root) == name
    assert read_samples(root) == before


def test_mvtec_ad_finds_each_mask(tmp_path: Path) -> None:
    samples = read_samples(make_mvtec(tmp_path / "bottle"))
    assert counted(samples) == {("train", False): 3, ("test", False): 1, ("test", True): 2}
    assert [s.masks[0].path.name for s in samples if s.masks] == ["000_mask.png", "001_mask.png"]
    assert {s.category for s in samples} == {"bottle"}


def test_several_categories_and_one_of_them(tmp_path: Path) -> None:
    for name in ("bottle", "cable"):
        make_mvtec(tmp_path / name)
    (tmp_path / "license.txt").write_text("CC")
    assert Counter(s.category for s in read_samples(tmp_path)) == {"bottle": 6, "cable": 6}
    assert read_samples(tmp_path, category="cable") == read_samples(tmp_path / "cable")
    with pytest.raises(
        DataError, match=r"no category 'botle'; there are bottle, cable. Did you mean 'bottle'\?"
    ):
        read_samples(tmp_path, category="botle")


def test_mvtec_ad_without_some_masks(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "bottle")
    (root / "ground_truth/crack/001_mask.png").unlink()
    draw(root / "test/unmarked/000.png")
    assert Counter(len(s.masks) for s in read_samples(root) if s.is_anomalous) == {1: 1, 0: 2}


def test_autovi_gives_one_channel_a_pixel_value_and_file(tmp_path: Path) -> None:
    samples = read_samples(make_autovi(tmp_path / "pipe_clip"))
    first, second = (read_channels(s, (6, 8)) for s in samples if s.is_anomalous)
    assert [(c.name, c.saturation_area, int(c.anomaly_mask.sum())) for c in first] == [("hole", 3.0, 6)]
    assert [(c.name, c.saturation_area, int(c.anomaly_mask.sum())) for c in second] == [
        ("hole", 3.0, 6),
        ("dent", 2.0, 2),  # an absolute area never exceeds the defect's own
        ("dent", 6.0, 6),
    ]


def test_autovi_refuses_a_value_that_the_config_does_not_name(tmp_path: Path) -> None:
    root = make_autovi(tmp_path / "pipe_clip")
    mask = draw(root / "ground_truth/crack/000/0000.png", spot(7))
    sample = next(s for s in read_samples(root) if s.is_anomalous)
    with pytest.raises(
        DataError, match=r"holds the pixel values \[7\]; the data set names \[254, 255\]"
    ) as caught:
        read_channels(sample, (6, 8))
    assert str(mask) in str(caught.value)


def test_loco_has_its_own_calibration_images(tmp_path: Path) -> None:
    samples = read_samples(make_loco(tmp_path / "juice_bottle"))
    assert counted(samples)["calibration", False] == 1
    assert {s.defect_type for s in samples} == {"good", "logical_anomalies"}


def test_missing_config_is_said(tmp_path: Path) -> None:
    root = make_autovi(tmp_path / "pipe_clip")
    (root / "defects_config.json").unlink()
    assert detect_layout(root) == "mvtec_ad"  # masks in folders, any non-zero pixel
    with pytest.raises(DataError, match=r"expected .*defects_config.json, which says the pixel value"):
        read_samples(root, "autovi")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pixel_value": 0}, "expected {defect_name, pixel_value 1..65535"),
        ({"pixel_value": True}, "found {'defect_name': 'hole', 'pixel_value': True"),
        ({"saturation_threshold": 1.5}, "saturation_threshold > 0"),
        ({"saturation_threshold": -1, "relative_saturation": False}, "saturation_threshold > 0"),
        ({"saturation_threshold": float("nan")}, "saturation_threshold > 0"),
        ({"relative_saturation": "yes"}, "relative_saturation"),
        ({"pixel_value": 254}, "two defects have the same pixel_value"),
    ],
)
def test_defects_config_is_checked(change: dict[str, object], text: str, tmp_path: Path) -> None:
    path = tmp_path / "defects_config.json"
    path.write_text(json.dumps([CONFIG[0] | change, CONFIG[1]]))
    with pytest.raises(DataError) as caught:
        read_defects_config(path)
    assert text in str(caught.value)


def test_train_may_hold_good_only(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "bottle")
    draw(root / "train/crack/000.png")
    with pytest.raises(DataError, match=r"train/crack holds 1 images, but only .*train/good may be trained"):
        read_samples(root)


def test_loose_and_nested_images_are_refused(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "bottle")
    draw(root / "test/loose.png")
    with pytest.raises(DataError, match=r"test holds 1 images directly \(loose.png, \.\.\.\)"):
        read_samples(root)
    (root / "test/loose.png").unlink()
    draw(root / "test/deep/er/0.png")
    with pytest.raises(DataError, match=r"test/deep holds its images in folders \(er\), not directly"):
        read_samples(root)


def test_stray_folder_beside_categories_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "bottle")
    draw(tmp_path / "results/0.png")
    with pytest.raises(DataError, match="results holds images but neither train nor test"):
        read_samples(tmp_path)
    assert read_samples(tmp_path, category="bottle")


def test_visa_reads_its_table(tmp_path: Path) -> None:
    root = make_visa(tmp_path / "VisA")
    assert counted(read_samples(root)) == {("train", False): 4, ("test", False): 2, ("test", True): 2}
    assert {s.category for s in read_samples(root, category="pcb1")} == {"pcb1"}
    with pytest.raises(DataError, match=r"no category 'pcb9'; there are candle, pcb1. Did you mean 'pcb1'\?"):
        read_samples(root, category="pcb9")


def test_visa_converted_to_folders(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "candle", defect="bad", mask="{}.png")
    samples = read_samples(root, "visa")
    assert [s.masks[0].path.name for s in samples if s.is_anomalous] == ["000.png", "001.png"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("candle,train,normal,../../etc/passwd,", "which is not inside"),
        ("candle,train,normal,/etc/passwd,", "which is not inside"),
        ("candle,train,normal,candle/none.JPG,", r"names 1 images that are not in"),
        ("candle,train,good,candle/none.JPG,", "expected label 'normal' or 'anomaly', found 'good'"),
        ("candle,val,normal,candle/none.JPG,", "expected split 'train' or 'test', found 'val'"),
        ("candle,train", "line 2: expected 5 columns, found 2"),
    ],
)
def test_visa_table_is_checked(line: str, text: str, tmp_path: Path) -> None:
    root = make_visa(tmp_path / "VisA")
    (root / "split_csv/1cls.csv").write_text(f"object,split,label,image,mask\n{line}\n")
    with pytest.raises(DataError, match=text):
        read_samples(root)


def test_visa_other_columns(tmp_path: Path) -> None:
    root = make_visa(tmp_path / "VisA")
    (root / "split_csv/1cls.csv").write_text("image,label\na,b\n")
    with pytest.raises(
        DataError, match="expected the columns object,split,label,image,mask, found image,label"
    ):
        read_samples(root)


def test_kolektor_sdd_keeps_items_apart(tmp_path: Path) -> None:
    samples = read_samples(make_kolektor(tmp_path / "set"))
    good = {
        split: {s.path.parent.name for s in samples if s.split == split and not s.is_anomalous}
        for split in ("train", "test")
    }
    assert good == {"train": {"kos01", "kos02", "kos03", "kos05"}, "test": {"kos04"}}
    assert {s.split for s in samples if s.is_anomalous} == {"test"}
    (tmp_path / "set/kos02/Part0_label.bmp").unlink()
    with pytest.raises(DataError, match=r"expected the mask Part0_label.bmp beside .*Part0.jpg"):
        read_samples(tmp_path / "set")


def test_kolektor_sdd2_keeps_the_published_split(tmp_path: Path) -> None:
    samples = read_samples(make_kolektor2(tmp_path / "set"))
    assert counted(samples) == dict.fromkeys(
        [("train", False), ("train", True), ("test", False), ("test", True)], 1
    )
    (tmp_path / "set/test/20001_GT.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ImageError, match=r"cannot read the mask .*20001_GT.png"):
        read_samples(tmp_path / "set")


def test_dagm_both_forms(tmp_path: Path) -> None:
    samples = read_samples(make_dagm(tmp_path / "new"))
    assert counted(samples) == dict.fromkeys(
        [("train", False), ("train", True), ("test", False), ("test", True)], 2
    )
    assert read_samples(tmp_path / "new", category="Class2") == read_samples(tmp_path / "new/Class2")
    draw(tmp_path / "old/Class1/1.png")
    draw(tmp_path / "old/Class1_def/1.png", spot(9, 60, 80))
    (tmp_path / "old/Class1_def/labels.txt").write_text("1\t20.0\t10.0\t0.0\t40.0\t30.0\n")
    good, bad = read_samples(tmp_path / "old")
    assert (good.split, bad.split, bad.masks[0].ellipse) == ("train", "test", (30.0, 40.0, 20.0, 10.0, 0.0))


def test_severstal_both_tables(tmp_path: Path) -> None:
    root = make_severstal(tmp_path / "set")
    samples = read_samples(root)
    assert counted(samples) == {("train", False): 4, ("test", False): 1, ("test", True): 1}
    defective = next(s for s in samples if s.is_anomalous)
    first, third = read_channels(defective, (6, 8))
    assert defective.defect_type == "class_1+class_3"
    assert np.argwhere(third.anomaly_mask).tolist() == [[0, 0], [1, 0], [1, 1]]  # column by column, from 1
    assert np.argwhere(first.anomaly_mask).tolist() == [[5, 7]]
    (root / "train.csv").write_text(
        "ImageId_ClassId,EncodedPixels\n0.jpg_1,48 1\n0.jpg_3,1 2 8 1\n1.jpg_1,\n"
    )
    assert read_samples(root) == samples


@pytest.mark.parametrize(
    ("code", "text"), [("1", "pairs"), ("0 3", "pairs"), ("a b", "whole numbers"), ("1 1e9", "whole numbers")]
)
def test_severstal_run_lengths_are_checked(code: str, text: str, tmp_path: Path) -> None:
    root = make_severstal(tmp_path / "set")
    (root / "train.csv").write_text(f"ImageId,ClassId,EncodedPixels\n0.jpg,3,{code}\n")
    with pytest.raises(DataError, match=text):
        read_samples(root)


def test_run_length_outside_the_image(tmp_path: Path) -> None:
    root = make_severstal(tmp_path / "set")
    (root / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n0.jpg,3,48 2\n")
    with pytest.raises(DataError, match=r"the run \(48, 2\) of .*0.jpg leaves the image of 6 x 8 pixels"):
        anomaly_mask(read_samples(root)[0], (6, 8))


def test_neu_has_boxes_and_no_good_images(tmp_path: Path) -> None:
    (sample,) = read_samples(make_neu(tmp_path / "set"))
    assert (sample.split, sample.is_anomalous, sample.defect_type) == ("test", True, "patches")
    assert np.argwhere(anomaly_mask(sample, (6, 8))).tolist() == [
        [r, c] for r in range(3) for c in range(1, 4)
    ]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>', "declares a document type"),
        ("</annotation>", "", "is not XML"),
        ("object>", "thing>", "at least one <object>"),
        ("<xmin>2", "<xmin>two", "expected a number in <bndbox/xmin>, found 'two'"),
        ("<xmin>2", "<xmin>inf", "expected a number in <bndbox/xmin>"),
        ("<xmin>2", "<xmin>9", "has no area inside an image of"),
    ],
)
def test_neu_annotations_are_checked(old: str, new: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(XML.replace(old, new))
    with pytest.raises(DataError, match=text):
        read_boxes(path)


def test_good_and_bad_side_by_side(tmp_path: Path) -> None:
    samples = read_samples(make_good_bad(tmp_path / "set"))
    assert counted(samples) == {("train", False): 8, ("test", False): 2, ("test", True): 2}
    assert {s.defect_type for s in samples} == {"good", "ng", "scratch"}


def test_plain_folder_of_any_depth(tmp_path: Path) -> None:
    for name in ("b.JPG", "deep/er/a.png", "c.tiff"):
        draw(tmp_path / "set" / name)
    (tmp_path / "set/notes.txt").write_text("x")
    samples = read_samples(tmp_path / "set")
    assert [s.path.name for s in samples] == ["b.JPG", "c.tiff", "a.png"]
    assert counted(samples) == {("train", False): 3}


def test_fit_folder_with_defects_in_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "line3")
    draw(tmp_path / "line3/monday/Scratch deep/0.png")
    with pytest.raises(DataError, match=r"suggest defects: monday/Scratch deep \(1 images\)"):
        read_samples(tmp_path / "line3")


def test_plain_folder_refuses_a_data_set(tmp_path: Path) -> None:
    draw(tmp_path / "a/b/test/0.png")
    draw(tmp_path / "a/c/0.png")
    with pytest.raises(DataError, match="b/test looks like part of a data set"):
        read_samples(tmp_path / "a")
    make_mvtec(tmp_path / "wrapped/inner/bottle")
    with pytest.raises(
        DataError, match=r"holds one folder, and that is a data set \(mvtec_ad\). Give .*inner instead"
    ):
        detect_layout(tmp_path / "wrapped")


@pytest.mark.parametrize(
    "name", ["NG", "bad", "Defects-2", "anomalie", "scratches", "not_ok", "no good", "KO"]
)
def test_names_that_suggest_defects(name: str) -> None:
    assert suggests_defects(name)


@pytest.mark.parametrize(
    "name", ["good", "ok", "lot-07", "no_defects", "defect free", "song", "king", "badge"]
)
def test_names_that_do_not(name: str) -> None:
    assert not suggests_defects(name)


def test_no_such_folder_names_a_near_one(tmp_path: Path) -> None:
    make_folder(tmp_path / "clips_good")
    with pytest.raises(DataError, match=r"there is no folder .*clip_good. Did you mean .*clips_good\?"):
        read_samples(tmp_path / "clip_good")
    with pytest.raises(DataError, match=r"Nor is there a folder .*nowhere; check the path from its start"):
        read_samples(tmp_path / "nowhere/else")


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    path = draw(tmp_path / "clips/0.png")
    with pytest.raises(DataError, match=rf"{path} is a file. Give the folder that holds it: {path.parent}$"):
        read_samples(path)


def test_empty_folder_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in .*: the folder is empty. Expected images \(.*png"):
        read_samples(tmp_path)
    for name in ("a.mp4", "b.MP4", "c.heic", "README"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"found 2 x \.mp4, 1 x \.heic, 1 x no extension. Convert them to PNG"
    ):
        read_samples(tmp_path)


def test_unknown_layout(tmp_path: Path) -> None:
    make_folder(tmp_path / "set")
    with pytest.raises(SettingsError, match=r"there is no layout 'mvtek_ad'; .* Did you mean 'mvtec_ad'"):
        read_samples(tmp_path / "set", "mvtek_ad")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "folder"])
def test_every_layout_refuses_a_plain_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_samples(make_folder(tmp_path / "set"), name)
    assert "set" in str(caught.value)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set")
    os.symlink(root, root / "monday/again")
    assert len(read_samples(root)) == 3


# --- masks -------------------------------------------------------------------------------------------------


def masked(tmp_path: Path, mask: np.ndarray, **settings: object) -> Sample:
    image, path = draw(tmp_path / "image.png"), draw(tmp_path / "mask.png", mask)
    return Sample(image, "test", True, masks=(MaskSource("image", path, **settings),))  # type: ignore[arg-type]


def test_resize_nearest_is_pillows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        present, wanted = rng.integers(1, 60, 2).tolist()
        mask = rng.random((present, 1)) > 0.5
        expected = Image.fromarray(mask.astype(np.uint8)).resize((1, wanted), Image.Resampling.NEAREST)
        clear = (2 * np.arange(wanted) + 1) * present % (
            2 * wanted
        ) != 0  # not on the edge between two pixels
        found = resize_nearest(mask, (wanted, 1))
        assert (found == np.asarray(expected).astype(bool))[clear].all()
        assert (resize_nearest(mask.T, (1, wanted)) == found.T).all()


def test_saturation_area_follows_the_size(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), np.uint8)
    mask[2:8, 4:12] = 255  # 48 pixels, 12 at half the size
    areas = {}
    for size in ((12, 16), (6, 8), (24, 32)):
        (absolute,) = read_channels(masked(tmp_path, mask, saturation=20, relative_saturation=False), size)
        (relative,) = read_channels(masked(tmp_path, mask, saturation=0.3), size)
        areas[size] = (absolute.saturation_area, relative.saturation_area)
    assert areas == {(12, 16): (20, 14), (6, 8): (5, 3), (24, 32): (80, 57)}


def test_small_defect_survives_resizing(tmp_path: Path) -> None:
    mask = np.zeros((600, 800), np.uint8)
    mask[301, 403] = 255
    (channel,) = read_channels(masked(tmp_path, mask), (6, 8))
    assert np.argwhere(channel.anomaly_mask).tolist() == [[3, 4]]
    assert channel.saturation_area == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(mode: str, tmp_path: Path) -> None:
    sample = masked(tmp_path, spot())
    if mode == "P":
        mask = Image.fromarray(spot(1))
        mask.putpalette([0, 0, 0, 9, 9, 9])
    elif mode == "I;16":
        mask = Image.fromarray(spot().astype(np.uint16) * 257)
    else:
        mask = Image.fromarray(spot()).convert(mode)
    assert mask.mode == mode
    mask.save(tmp_path / "mask.png")
    assert (anomaly_mask(sample, (6, 8)) == spot().astype(bool)).all()


def test_mask_that_marks_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the mask .*mask.png marks no pixel, though its image is listed"):
        read_channels(masked(tmp_path, np.zeros((6, 8), np.uint8)), (6, 8))


def test_mask_of_other_proportions(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"mask.png is 8 x 6 pixels \(rows x columns\), its image .*image.png is 6 x 8"
    ):
        read_channels(masked(tmp_path, spot().T.copy()), (6, 8))
    assert read_channels(masked(tmp_path, spot(255, 12, 16)), (6, 8))


def test_unreadable_mask_and_image(tmp_path: Path) -> None:
    sample = masked(tmp_path, spot())
    (tmp_path / "mask.png").write_bytes((tmp_path / "mask.png").read_bytes()[:40])
    with pytest.raises(ImageError, match=r"cannot read the mask .*mask.png"):
        read_channels(sample, (6, 8))
    (tmp_path / "image.png").unlink()
    with pytest.raises(ImageError, match=r"image.png"):
        read_channels(sample, (6, 8))


def test_ellipse_against_a_drawn_one(tmp_path: Path) -> None:
    image = draw(tmp_path / "image.png", np.zeros((120, 160), np.uint8))
    row, column, a, b, angle = 50.0, 90.0, 40.0, 12.0, 0.6
    sample = Sample(image, "test", True, masks=(MaskSource("ellipse", ellipse=(row, column, a, b, angle)),))
    found = anomaly_mask(sample, (120, 160))
    inside = np.zeros((120, 160), bool)
    for r in range(120):
        for c in range(160):
            point = complex(c - column, r - row) * complex(np.cos(angle), -np.sin(angle))
            inside[r, c] = (point.real / a) ** 2 + (point.imag / b) ** 2 <= 1
    assert (found == inside).all()
    assert abs(found.sum() / (np.pi * a * b) - 1) < 0.02
    assert found[50 + 15, 90 + 25]  # leans down to the right: x and y of the image grow together


# --- real sets, and mangled ones -----------------------------------------------------------------------------

REAL = {
    "mvtec_transistor": {("train", False): 213, ("test", False): 60, ("test", True): 40},
    "mvtec_loco_juice_bottle": {("train", False): 150, ("test", False): 54, ("test", True): 142},
    "magnetic_tile": {("train", False): 300, ("test", False): 100, ("test", True): 388},
    "aws_cookies": {("train", False): 31, ("test", False): 14, ("test", True): 40},
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets(name: str, shared_data: Path) -> None:
    samples = read_samples(shared_data / name)
    assert counted(samples) == REAL[name]
    masks = [s for s in samples if s.masks]
    assert len(masks) == REAL[name]["test", True] - (8 if name == "aws_cookies" else 0)
    assert all(anomaly_mask(s, (64, 64)).any() for s in masks[::10])


def test_golden_set_has_its_channels(shared_data: Path) -> None:
    samples = read_samples(shared_data / "golden/dataset")
    channels = [c for s in samples if s.category == "transistor" for c in read_channels(s, (256, 256))]
    assert Counter(c.name for c in channels) == {
        "bent_lead": 4,
        "cut_lead": 4,
        "damaged_case": 5,
        "misplaced": 4,
    }
    assert all(c.saturation_area <= c.anomaly_mask.sum() for c in channels)
    assert {c.saturation_area for c in channels if c.name == "damaged_case"} == {150.0}


def mangle(root: Path, rng: random.Random) -> None:
    """Do one bad thing to a tree of files."""
    path = rng.choice(sorted(root.rglob("*")))
    kind = rng.randrange(7)
    if kind == 0 and path.is_dir():
        shutil.rmtree(path)
    elif kind == 1 and path.is_file():
        path.write_bytes(rng.randbytes(rng.randrange(200)))
    elif kind == 2 and path.is_file():
        data = bytearray(path.read_bytes())
        for _ in range(8):
            data[rng.randrange(len(data)) if data else 0 :][:1] = b"\xff"
        cut = rng.randrange(len(data) + 1)
        path.write_bytes(bytes(data[:cut]))
    elif kind == 3:
        path.rename(
            path.with_name(
                rng.choice(["x", "train", "test.png", "good", "ko", "Class1", "kos7", "a.csv"]) + "_"
            )
        )
    elif kind == 4 and path.is_file():
        path.unlink()
        path.mkdir()
    elif kind == 5 and path.is_dir():
        shutil.rmtree(path)
        path.write_text("a file")
    elif path.suffix in (".csv", ".json", ".xml", ".txt") and path.is_file():
        text = list(path.read_text(errors="replace"))
        for _ in range(5):
            text.insert(rng.randrange(len(text) + 1), rng.choice(list('{}[]",<>/\n\0 -9eé')))
        path.write_text("".join(text), encoding=rng.choice(["utf-8", "utf-16"]))


@pytest.mark.parametrize("name", MAKERS)
def test_mangled_trees_raise_only_our_errors(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    original = MAKERS[name](tmp_path / "original")
    refused: list[str] = []
    for turn in range(40):
        root = tmp_path / f"turn{turn}"
        shutil.copytree(original, root)
        for _ in range(rng.randrange(1, 4)):
            mangle(root, rng)
        for layout in ("auto", name):
            try:
                samples = read_samples(root, layout)
            except AndonError as error:
                refused.append(str(error))
                continue
            for sample in samples:
                try:
                    read_channels(sample, (6, 8))
                except AndonError as error:
                    refused.append(str(error))
    assert refused
    assert all(len(message) > 20 for message in refused)
