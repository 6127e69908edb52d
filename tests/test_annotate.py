"""A folder to annotations: names, broken images, turned photographs, second runs, corrections kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import andon
from andon.calibrate import uncalibrated
from andon.cli.annotate import command
from andon.errors import AndonError, CalibrationError, DataError, SettingsError
from andon.pipeline import AnnotateOptions, annotate
from andon.runtime.annotate import FORMATS
from fakes import FakeBackbone

SIZE = (64, 96)


def draw(path: Path, seed: int, spot: bool = False) -> Path:
    """A striped part with noise; a dark spot in rows 20 to 34, columns 60 to 74 where it is defective."""
    pixels = 120 + 40 * np.sin(np.arange(SIZE[1]) / 4)[None, :, None]
    pixels = pixels + np.random.default_rng(seed).normal(0, 6, (*SIZE, 3))
    if spot:
        pixels[20:34, 60:74] = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(16):
        draw(folder / f"{number:02}.png", number)
    fitted = andon.fit(folder, backbone=FakeBackbone(), size=SIZE, bank_limit=100, buffer_limit=1000)
    return fitted.save(tmp_path_factory.mktemp("part") / "part.andon")


@pytest.fixture(scope="module")
def predictor(artifact: Path) -> andon.Predictor:
    return andon.load(artifact, threads=1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two defective images of one name in two folders, a good one, and one with a name to be escaped."""
    folder = tmp_path / "photos"
    draw(folder / "a" / "1.png", 101, spot=True)
    draw(folder / "b" / "1.png", 102, spot=True)
    draw(folder / "b" / "good.png", 3)
    draw(folder / 'ä & <b> "c".png', 104, spot=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def coco(folder: Path) -> dict[str, list[dict[str, object]]]:
    read: dict[str, list[dict[str, object]]] = json.loads((folder / "annotations.json").read_bytes())
    return read


def test_the_spot_is_annotated(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    done = annotate(predictor, photos, tmp_path / "out", progress=lambda *step: seen.append(step))
    assert seen == [("annotate", number, 4) for number in (1, 2, 3, 4)]
    assert (len(done.images), done.marked, done.failures, done.files) == (4, 3, (), ("annotations.json",))
    read = coco(tmp_path / "out")
    assert [image["file_name"] for image in read["images"]] == [
        "a/1.png",
        "b/1.png",
        "b/good.png",
        'ä & <b> "c".png',
    ]
    first = next(entry for entry in read["annotations"] if entry["image_id"] == 1)
    x, y, width, height = first["bbox"]  # type: ignore[misc]
    assert x < 67 < x + width
    assert y < 27 < y + height
    assert 0 < first["score"] <= 1  # type: ignore[operator]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_second_run_gives_the_same_bytes(
    format_: str, predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    """Into the same folder, where it writes nothing, and into another."""
    options = AnnotateOptions(format_, copy=True)
    annotate(predictor, photos, tmp_path / "one", options)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    annotate(predictor, photos, tmp_path / "one", options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == times
    annotate(predictor, photos, tmp_path / "two", options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    copies = {name: data for name, data in contents(tmp_path / "one").items() if name.startswith("images/")}
    assert copies == {f"images/{name}": data for name, data in contents(photos).items()}


def test_corrections_are_kept(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    options = AnnotateOptions("mask")
    annotate(predictor, photos, tmp_path / "out", options)
    corrected = tmp_path / "out" / "masks" / "b" / "1.png"
    Image.new("L", SIZE[::-1], 255).save(corrected)
    with pytest.raises(AndonError, match="1.png is there and says something else; was it corrected by hand"):
        annotate(predictor, photos, tmp_path / "out", options)
    annotate(predictor, photos, tmp_path / "out", replace(options, overwrite=True))
    with Image.open(corrected) as mask:
        assert mask.getextrema() == (0, 255)


def test_broken_images_and_names_are_left_out(
    predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    whole = (photos / "a" / "1.png").read_bytes()
    (photos / "broken.png").write_bytes(whole[:300])
    (photos / "line\nbreak.png").write_bytes(whole)
    done = annotate(predictor, photos, tmp_path / "out", AnnotateOptions("cvat"))
    assert len(done.images) == 4
    assert [Path(failure.path).name for failure in done.failures] == ["broken.png", "line\nbreak.png"]
    assert "its name has characters that annotations cannot hold" in done.failures[1].reason


def test_a_photograph_stored_turned_is_annotated_upright(
    predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    with Image.open(photos / "a" / "1.png") as upright:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter clockwise
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        assert turned.size == SIZE
        (tmp_path / "turned").mkdir()
        turned.save(tmp_path / "turned" / "1.png", exif=exif)
        upright.save(tmp_path / "turned" / "2.png")
    done = annotate(predictor, tmp_path / "turned", tmp_path / "out")
    assert done.turned == 1
    read = coco(tmp_path / "out")
    assert {(image["height"], image["width"]) for image in read["images"]} == {SIZE}
    first, second = (
        [entry["segmentation"] for entry in read["annotations"] if entry["image_id"] == at] for at in (1, 2)
    )
    assert first == second


def test_whose_regions(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    low = min(float(predictor.inspect(path).anomaly_map.max()) for path in photos.rglob("*.png"))  # type: ignore[union-attr]
    below = AnnotateOptions(threshold=low - 1e-3)
    assert predictor.inspect(photos / "b" / "good.png").decision == "pass"
    assert annotate(predictor, photos, tmp_path / "1", below).marked == 3
    assert annotate(predictor, photos, tmp_path / "2", replace(below, whose="all")).marked == 4
    done = annotate(predictor, photos, tmp_path / "3", AnnotateOptions(empty=False, copy=True))
    assert len(done.images) == done.marked == 3
    assert not (tmp_path / "3" / "images" / "b" / "good.png").exists()


def test_names_that_differ_in_their_ending(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "a" / "1.png", photos / "a" / "1.bmp")
    annotate(predictor, photos, tmp_path / "out", AnnotateOptions("voc"))
    assert sorted(contents(tmp_path / "out"))[:3] == [
        "Annotations/a/1.bmp.xml", "Annotations/a/1.png.xml", "Annotations/b/1.xml"
    ]  # fmt: skip
    with pytest.raises(DataError, match="a/1.bmp and a/1.png differ only in their ending or case, and YOLO"):
        annotate(predictor, photos, tmp_path / "yolo", AnnotateOptions("yolo"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (AnnotateOptions("coko"), "there is no format 'coko'; there are coco, voc.* Did you mean 'coco'"),
        (AnnotateOptions("voc", "polygon"), "Pascal VOC XML cannot hold the shape 'polygon'; it has box"),
        (AnnotateOptions(label=" "), "label: expected a name such as 'defect', got ' '"),
        (AnnotateOptions(level=0.0), "level: expected a share of the threshold's height, above 0, got 0.0"),
        (
            AnnotateOptions(threshold=float("nan")),
            "threshold: expected a finite raw value of the map, got nan",
        ),
        (AnnotateOptions(most=300), "most: expected 1 to 255 regions an image, got 300"),
    ],
)
def test_options_that_make_no_sense(
    options: AnnotateOptions, text: str, predictor: andon.Predictor, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=text):
        annotate(predictor, photos, tmp_path / "out", options)


def test_pictures_are_not_written_among_the_photographs(predictor: andon.Predictor, photos: Path) -> None:
    annotate(predictor, photos, photos)  # annotations.json beside the images is fine
    for options in (AnnotateOptions("mask"), AnnotateOptions(copy=True)):
        with pytest.raises(SettingsError, match="would be taken for photographs. Give a folder outside it"):
            annotate(predictor, photos, photos / "out", options)


def test_without_a_map_threshold(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    blank = predictor.recalibrated(uncalibrated())
    with pytest.raises(
        CalibrationError, match="no map threshold to cut regions by: calibrate it with good images"
    ):
        annotate(blank, photos, tmp_path / "out")
    given = AnnotateOptions(threshold=predictor.calibration.map_threshold)
    assert annotate(blank, photos, tmp_path / "out", given).marked >= 3


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say() -> Say:
    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
        if done.exception:
            raise done.exception
        return done.return_value, done.output

    return run


def test_the_command(say: Say, artifact: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, output = say(artifact, photos, "-o", out, "--format", "yolo", "--copy", "--threads", 1)
    assert status == 0
    assert output.startswith(f"{out / 'data.yaml'}: 4 images, 3 of them with ")
    assert (out / "labels" / "b" / "1.txt").is_file()
    assert not (tmp_path / "out.lock").exists()
    (photos / "broken.png").write_bytes(b"no image")
    status, output = say(artifact, photos, "-o", out, "--format", "yolo", "--copy", "--threads", 1)
    assert status == 2
    assert "left out" in output
    assert "broken.png" in output
