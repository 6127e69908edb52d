"""Annotations of drawn regions, read back by other people's code and by the standard library's."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from andon.outline import fill
from andon.runs import mask_of_runs
from andon.runtime.annotate import FORMATS, AnnotatedImage, Style, confidence, find_marks, image_mask
from andon.runtime.annotate.label_studio import packed_runs

ODD = 'a & b/<ünï> "1".png'  # what XML, JSON and URLs must escape
LABEL = 'scratch & "dent"'


def drawn_map(seed: int, size: tuple[int, int] = (30, 40)) -> NDArray[np.float32]:
    """A disc, a ring with a hole, and two pixels that touch at a corner; a little noise."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    values = np.random.default_rng(seed).normal(0, 0.05, size)
    values[np.hypot(rows - 9, columns - 9) < 5] = 4
    apart = np.hypot(rows - 17, columns - 28)
    values[(apart < 8) & (apart > 3)] = 3
    values[27, 3] = values[28, 4] = 2
    return values.astype(np.float32)


def drawn(name: str, seed: int, tolerance: float = 0.0, size: tuple[int, int] = (30, 40)) -> AnnotatedImage:
    marks = find_marks(drawn_map(seed), 1.0, size, tolerance=tolerance)
    return AnnotatedImage(name, name.rsplit(".", 1)[0], size, "fail", 0.9875, marks)


@pytest.fixture
def images() -> list[AnnotatedImage]:
    return [
        drawn("plain.jpg", 0),
        drawn(ODD, 1),
        AnnotatedImage("b/good.png", "b/good", (20, 10), "pass", 0.1, ()),
    ]


def written(images: list[AnnotatedImage], format_: str, shape: str | None = None) -> dict[str, bytes]:
    entry = FORMATS[format_]
    style = Style(shape or entry.shapes[0], LABEL, "andon test", "/files/?d=")  # type: ignore[arg-type]
    files = entry.together(images, style)
    for image in images:
        files |= entry.each(image, style)
    return files


def whole(image: AnnotatedImage, number: int) -> NDArray[np.bool_]:
    """The mask (H, W) of one mark, counted from 0."""
    return image_mask(image) == number + 1


def test_marks_are_the_regions_of_the_map() -> None:
    image = drawn("x.png", 0)
    assert [mark.area for mark in image.marks] == [int((drawn_map(0) == value).sum()) for value in (4, 3, 2)]
    assert np.array_equal(image_mask(image) > 0, drawn_map(0) > 1)
    for at, mark in enumerate(image.marks):
        assert np.array_equal(fill([mark.polygon], image.size), whole(image, at))
    assert [mark.confidence for mark in image.marks] == pytest.approx([3 / 4, 2 / 3, 1 / 2], abs=0.02)


@pytest.mark.parametrize("size", [(60, 80), (90, 200), (15, 20), (7, 9)])
def test_marks_at_the_photographs_size(size: tuple[int, int]) -> None:
    """Enlarged they are smooth and as large; shrunk the peak is not averaged away."""
    spike = np.zeros((30, 40), np.float32)
    spike[12, 30] = 5
    (mark,) = find_marks(spike, 4.9, size)
    assert mark.box[0] <= (12.5 * size[0]) // 30 <= mark.box[2]
    image = drawn("x.png", 0, tolerance=1.0, size=size)
    share = (image_mask(image) > 0).mean() / (drawn_map(0) > 1).mean()
    assert 0.75 < share < 1.35
    for at, mark in enumerate(image.marks):
        found, true = fill([mark.polygon], size), whole(image, at)
        assert (found & true).sum() / (found | true).sum() > 0.5


def test_thresholds_of_their_own() -> None:
    limits = np.full((30, 40), 1.0)
    limits[:, 20:] = np.inf
    assert [mark.area for mark in find_marks(drawn_map(0), limits, (30, 40))] == [69, 2]
    assert find_marks(drawn_map(0), float("nan"), (30, 40)) == ()


def test_a_lower_level_marks_more() -> None:
    """The level counts from the map's median, 0 here but for the noise."""
    calm = drawn_map(0) - np.float32(np.median(drawn_map(0)))
    cut = {level: find_marks(calm + 7, 8.0, (30, 40), level=level) for level in (0.5, 1.0, 2.5, 3.5)}
    assert [len(marks) for marks in cut.values()] == [3, 3, 2, 1]
    same = find_marks(calm + 7, 9.5, (30, 40))
    assert [mark.confidence for mark in cut[2.5]] == [mark.confidence for mark in same]


def test_confidence_ranks() -> None:
    assert confidence(1.0, 1.0, 0.0) == 0
    assert confidence(5.0, 1.0, 2.0) == 1
    assert confidence(2.0, 1.0, 0.0) == confidence(-6.0, -8.0, -10.0) == 0.5


# --- COCO ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["polygon", "mask", "counts"])
def test_coco_as_pycocotools_reads_it(images: list[AnnotatedImage], shape: str, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra dev)")
    path = tmp_path / "annotations.json"
    path.write_bytes(written(images, "coco", shape)["annotations.json"])
    read = coco.COCO(str(path))
    assert [read.imgs[at]["file_name"] for at in (1, 2, 3)] == ["plain.jpg", ODD, "b/good.png"]
    assert read.cats == {1: {"id": 1, "name": LABEL, "supercategory": ""}}
    for at, image in enumerate(images, 1):
        entries = read.loadAnns(read.getAnnIds(imgIds=at))
        assert len(entries) == len(image.marks)
        for number, (entry, mark) in enumerate(zip(entries, image.marks)):
            assert np.array_equal(read.annToMask(entry).astype(bool), whole(image, number))
            assert entry["area"] == mark.area
            x, y, width, height = entry["bbox"]
            assert (y, x, y + height, x + width) == mark.box
            assert entry["score"] == mark.confidence


@pytest.mark.parametrize("shape", ["polygon", "mask", "counts"])
def test_coco_as_supervision_reads_it(shape: str, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed (extra dev)")
    image = photograph(tmp_path / "images" / "plain.jpg")
    (tmp_path / "a.json").write_bytes(written([image], "coco", shape)["annotations.json"])
    found = supervision.DetectionDataset.from_coco(
        str(tmp_path / "images"), str(tmp_path / "a.json"), force_masks=True
    )
    (_, _, detections) = found[0]
    assert found.classes == [LABEL]
    assert [(y, x, bottom, right) for x, y, right, bottom in detections.xyxy.tolist()] == [
        m.box for m in image.marks
    ]
    for at, mask in enumerate(detections.mask):
        true = whole(image, at)
        if shape == "polygon":  # drawn by OpenCV, which takes corners for pixels and the border in
            assert not (mask & ~ndimage.binary_dilation(true, np.ones((3, 3)))).any()
            assert not (true & ~mask).any()
        else:
            assert np.array_equal(mask, true)


def photograph(path: Path, tolerance: float = 0.0) -> AnnotatedImage:
    """A grey file and its annotations."""
    image = drawn(path.name, 0, tolerance)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", image.size[::-1], "grey").save(path)
    return image


# --- Pascal VOC ---------------------------------------------------------------------------------------------


def test_voc(images: list[AnnotatedImage]) -> None:
    files = written(images, "voc")
    assert sorted(files) == [
        'Annotations/a & b/<ünï> "1".xml',
        "Annotations/b/good.xml",
        "Annotations/plain.xml",
    ]
    root = ElementTree.fromstring(files['Annotations/a & b/<ünï> "1".xml'])
    assert (root.findtext("folder"), root.findtext("filename")) == ("a & b", '<ünï> "1".png')
    assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == ["40", "30", "3"]
    boxes = [[int(o.findtext(f"bndbox/{tag}") or -1) for tag in ("xmin", "ymin", "xmax", "ymax")]
             for o in root.iter("object")]  # fmt: skip
    assert boxes == [[m.box[1] + 1, m.box[0] + 1, m.box[3], m.box[2]] for m in images[1].marks]
    assert {o.findtext("name") for o in root.iter("object")} == {LABEL}
    assert not list(ElementTree.fromstring(files["Annotations/b/good.xml"]).iter("object"))


def test_voc_as_supervision_reads_it(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed (extra dev)")
    image = photograph(tmp_path / "images" / "plain.jpg")
    save(written([image], "voc"), tmp_path)
    found = supervision.DetectionDataset.from_pascal_voc(
        str(tmp_path / "images"), str(tmp_path / "Annotations")
    )
    (_, _, detections) = found[0]
    expected = [[m.box[1], m.box[0], m.box[3], m.box[2]] for m in image.marks]
    assert np.abs(detections.xyxy - np.array(expected)).max() <= 1  # it takes one from all four corners
    assert found.classes == [LABEL]


def save(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# --- YOLO ---------------------------------------------------------------------------------------------------


def test_yolo(images: list[AnnotatedImage]) -> None:
    files = written(images, "yolo")
    assert (
        files["data.yaml"].decode()
        == 'path: .\ntrain: images\nval: images\nnc: 1\nnames: ["scratch & \\"dent\\""]\n'
    )
    assert files["labels/b/good.txt"] == b""
    for at, line in enumerate(files["labels/plain.txt"].decode().splitlines()):
        number, *values = line.split()
        ring = np.array(values, float).reshape(-1, 2) * [40, 30]
        assert number == "0"
        assert np.array_equal(fill([ring], (30, 40)), whole(images[0], at))
    boxes = written(images, "yolo", "box")["labels/plain.txt"].decode().splitlines()
    for line, mark in zip(boxes, images[0].marks):
        x, y, width, height = np.array(line.split()[1:], float) * [40, 30, 40, 30]
        assert (y - height / 2, x - width / 2, y + height / 2, x + width / 2) == pytest.approx(
            mark.box, abs=1e-3
        )


@pytest.mark.parametrize("shape", ["polygon", "box"])
def test_yolo_as_supervision_reads_it(shape: str, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed (extra dev)")
    image = photograph(tmp_path / "images" / "plain.jpg")
    save(written([image], "yolo", shape), tmp_path)
    found = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    (_, _, detections) = found[0]
    assert found.classes == [LABEL]
    expected = [[m.box[1], m.box[0], m.box[3], m.box[2]] for m in image.marks]
    assert detections.xyxy == pytest.approx(np.array(expected), abs=0.01)


# --- Label Studio -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["polygon", "mask", "box"])
def test_label_studio(images: list[AnnotatedImage], shape: str) -> None:
    files = written(images, "labelstudio", shape)
    tasks = json.loads(files["tasks.json"])
    assert [task["data"]["file_name"] for task in tasks] == ["plain.jpg", ODD, "b/good.png"]
    assert tasks[1]["data"]["image"] == "/files/?d=a%20%26%20b/%3C%C3%BCn%C3%AF%3E%20%221%22.png"
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [3, 3, 0]
    interface = ElementTree.fromstring(files["label_config.xml"])
    for at, entry in enumerate(tasks[0]["predictions"][0]["result"]):
        labels = interface.find(f"*[@name='{entry['from_name']}']")
        assert labels is not None
        assert labels.tag.lower() == entry["type"]
        assert labels[0].get("value") == entry["value"][entry["type"]][0] == LABEL
        assert interface.find("Image").get("name") == labels.get("toName") == entry["to_name"]  # type: ignore[union-attr]
        assert (entry["original_width"], entry["original_height"]) == (40, 30)
        assert np.array_equal(drawn_by(entry["value"], (30, 40)), bounded(images[0], at, shape))


def drawn_by(value: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of one result, as its documentation reads."""
    if "rle" in value:
        return unpacked(bytes(value["rle"])).reshape(*size, 4)[..., 3] > 127
    if "points" in value:
        return fill([np.array(value["points"]) / 100 * [size[1], size[0]]], size)
    x, y, width, height = (value[key] / 100 for key in ("x", "y", "width", "height"))
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    return fill([corners * [size[1], size[0]]], size)


def bounded(image: AnnotatedImage, at: int, shape: str) -> NDArray[np.bool_]:
    """The mark's own mask, or its box filled."""
    mask = whole(image, at)
    if shape == "box":
        top, left, bottom, right = image.marks[at].box
        mask[top:bottom, left:right] = True
    return mask


def unpacked(data: bytes) -> NDArray[np.uint8]:
    """The bytes in thi.ng's rle-pack, bit by bit."""
    bits, at = "".join(f"{byte:08b}" for byte in data), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, width = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated = take(1)
        count = take(lengths[take(2)]) + 1
        values += [take(width)] * count if repeated else [take(width) for _ in range(count)]
    assert len(values) == total
    assert len(bits) - at < 8
    return np.array(values, np.uint8)


@pytest.mark.parametrize("counts", [[5], [0, 5], [1, 2, 4, 1], [3, 40_000, 1], [20_000, 16_384]])
def test_brush_runs_of_any_length(counts: list[int]) -> None:
    assert unpacked(packed_runs(counts)).tolist() == np.repeat([(i % 2) * 255 for i in range(len(counts))],
                                                               np.array(counts) * 4).tolist()  # fmt: skip


# --- CVAT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["polygon", "mask", "box"])
def test_cvat(images: list[AnnotatedImage], shape: str) -> None:
    files = written(images, "cvat", shape)
    root = ElementTree.fromstring(files["annotations.xml"])
    assert root.findtext("version") == "1.1"
    assert (
        root.findtext("meta/task/labels/label/name") == json.loads(files["labels.json"])[0]["name"] == LABEL
    )
    found = root.findall("image")
    assert [entry.get("name") for entry in found] == ["plain.jpg", ODD, "b/good.png"]
    assert [(entry.get("width"), entry.get("height")) for entry in found[1:]] == [("40", "30"), ("10", "20")]
    assert [len(entry) for entry in found] == [3, 3, 0]
    for at, entry in enumerate(found[0]):
        assert (entry.tag, entry.get("label")) == (shape, LABEL)
        assert entry.findtext("attribute[@name='confidence']") == str(images[0].marks[at].confidence)
        assert np.array_equal(drawn_by_cvat(entry, (30, 40)), bounded(images[0], at, shape))


def drawn_by_cvat(entry: ElementTree.Element, size: tuple[int, int]) -> NDArray[np.bool_]:
    if entry.tag == "polygon":
        points = [pair.split(",") for pair in entry.attrib["points"].split(";")]
        return fill([np.array(points, float)], size)
    mask = np.zeros(size, bool)
    if entry.tag == "box":
        left, top, right, bottom = (int(entry.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        mask[top:bottom, left:right] = True
        return mask
    left, top, width, height = (int(entry.attrib[key]) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in entry.attrib["rle"].split(",")]
    mask[top : top + height, left : left + width] = mask_of_runs(counts, (width, height)).T
    return mask


# --- masks --------------------------------------------------------------------------------------------------


def test_masks(images: list[AnnotatedImage], tmp_path: Path) -> None:
    for shape, values in (("mask", {0, 255}), ("instances", {0, 1, 2, 3})):
        files = written(images, "mask", shape)
        save(files, tmp_path / shape)
        with Image.open(tmp_path / shape / "masks" / "plain.png") as mask:
            assert mask.mode == "L"
            read = np.asarray(mask)
        assert set(np.unique(read).tolist()) == values
        assert np.array_equal(read > 0, drawn_map(0) > 1)
        with Image.open(tmp_path / shape / "masks" / "b" / "good.png") as mask:
            assert mask.size == (10, 20)
            assert mask.getextrema() == (0, 0)
