"""Annotations on their way back: what ``andon annotate`` writes is read as a data set with the same masks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from andon.data import anomaly_mask, detect_layout, read_samples
from andon.errors import DataError
from andon.runtime.annotate import FORMATS, AnnotatedImage, Style, find_marks, image_mask

SIZE = (30, 40)


def drawn(name: str, spots: list[tuple[int, int]]) -> AnnotatedImage:
    values = np.zeros(SIZE, np.float32)
    for row, column in spots:
        values[row : row + 5, column : column + 7] = 3
        values[row + 2, column + 2] = 0
    marks = find_marks(values, 1.0, SIZE, tolerance=0.0)
    return AnnotatedImage(name, name.rsplit(".", 1)[0], SIZE, "fail", 0.9, marks)


@pytest.fixture
def images(tmp_path: Path) -> list[AnnotatedImage]:
    found = [drawn("a/1.png", [(3, 4), (20, 30)]), drawn("b/1.png", [(10, 10)]), drawn("b/2.png", [])]
    for image in found:
        path = tmp_path / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], "grey").save(path)
    return found


def save(images: list[AnnotatedImage], format_: str, shape: str, folder: Path) -> None:
    style = Style(shape, "dent")  # type: ignore[arg-type]
    files = FORMATS[format_].together(images, style)
    for image in images:
        files |= FORMATS[format_].each(image, style)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("format_", "shape"),
    [("coco", "polygon"), ("coco", "mask"), ("coco", "counts"), ("mask", "mask"), ("mask", "instances")],
)
def test_there_and_back(format_: str, shape: str, images: list[AnnotatedImage], tmp_path: Path) -> None:
    save(images, format_, shape, tmp_path)
    assert detect_layout(tmp_path) == {"coco": "coco", "mask": "masks"}[format_]
    samples = read_samples(tmp_path)
    assert [sample.path.relative_to(tmp_path / "images").as_posix() for sample in samples] == [
        i.name for i in images
    ]
    assert {sample.split for sample in samples} == {"test"}
    for sample, image in zip(samples, images):
        assert sample.is_anomalous == bool(image.marks)
        assert np.array_equal(anomaly_mask(sample, SIZE), image_mask(image) > 0)
    if format_ == "coco":
        assert [sample.defect_type for sample in samples] == ["dent", "dent", "good"]
        assert len(samples[0].masks) == 2


def test_boxes_alone_and_other_tools_places(images: list[AnnotatedImage], tmp_path: Path) -> None:
    """As Label Studio exports it: result.json, names that begin with images/, and boxes without outlines."""
    save(images, "coco", "polygon", tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    for entry in content["images"]:
        entry["file_name"] = f"images/{entry['file_name']}"
    for entry in content["annotations"]:
        entry["segmentation"] = []
    (tmp_path / "annotations.json").unlink()
    (tmp_path / "result.json").write_text(json.dumps(content))
    samples = read_samples(tmp_path)
    assert np.array_equal(np.nonzero(anomaly_mask(samples[1], SIZE))[0][[0, -1]], [10, 14])
    assert anomaly_mask(samples[1], SIZE).sum() == 35


def spoil(content: dict[str, Any], kind: str) -> None:
    if kind == "image":
        content["images"][0]["file_name"] = "c/9.png"
    elif kind == "outside":
        content["images"][0]["file_name"] = "../9.png"
    elif kind == "unlisted":
        content["annotations"][0]["image_id"] = 77
    elif kind == "size":
        content["annotations"][0]["segmentation"] = {"size": [9, 9], "counts": [40]}
    elif kind == "category":
        content["annotations"][0]["category_id"] = 9
    elif kind == "empty":
        content["images"], content["annotations"] = [], []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("image", "names the image c/9.png, which is neither in .*images nor in"),
        ("outside", "names the file 'images/../9.png', which is not inside"),
        ("unlisted", "annotates images that it does not list: number 77"),
        ("size", "run lengths of 40 pixels for an image of 9 x 9"),
        ("category", "is not as COCO has it: KeyError 9"),
        ("empty", "lists no images"),
    ],
)
def test_what_is_refused(kind: str, text: str, images: list[AnnotatedImage], tmp_path: Path) -> None:
    save(images, "coco", "polygon", tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    spoil(content, kind)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=text):
        read_samples(tmp_path, "coco")


def test_an_image_without_its_mask(images: list[AnnotatedImage], tmp_path: Path) -> None:
    save(images, "mask", "mask", tmp_path)
    (tmp_path / "masks" / "b" / "2.png").unlink()
    wanted = re.escape(f"expected the mask {tmp_path / 'masks' / 'b' / '2.png'} of")
    with pytest.raises(DataError, match=wanted):
        read_samples(tmp_path, "masks")
