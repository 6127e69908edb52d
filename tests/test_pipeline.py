"""The main job in Python: folder to predictor, saved, loaded, interrupted, damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import andon
from andon.artifact import GOLDEN_MAP, Artifact
from andon.files import single_writer
from andon.pipeline import has_known_answers, judge, recalibrate
from fakes import FakeBackbone

FAST = {"bank_limit": 200, "buffer_limit": 2000}


def draw(path: Path, seed: int, *, defect: bool = False, size: tuple[int, int] = (64, 96)) -> Path:
    """A striped part with noise, and a dark spot where it is defective."""
    rng = np.random.default_rng(seed)
    stripes = 120 + 40 * np.sin(np.arange(size[1]) / 4)[None, :, None]
    pixels = stripes + rng.normal(0, 6, (*size, 3))
    if defect:
        pixels[20:34, 40:54] = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(24):
        draw(folder / "lot" / f"{number:02}.png", number)
    return folder


@pytest.fixture(scope="module")
def predictor(good: Path) -> andon.Predictor:
    return andon.fit(good, backbone=FakeBackbone(), **FAST)


def test_fit_inspect_save_load(predictor: andon.Predictor, tmp_path: Path) -> None:
    bad = draw(tmp_path / "bad.png", 100, defect=True)
    verdict = predictor.inspect(bad)
    assert verdict.decision == "fail"
    assert verdict.size == (64, 96)
    top, left, bottom, right = verdict.regions[0].box
    assert top < 34
    assert bottom > 20
    assert left < 54
    assert right > 40
    loaded = andon.load(predictor.save(tmp_path / "part.andon"))
    again = loaded.inspect(bad)
    assert (again.image_score, again.sentence) == (verdict.image_score, verdict.sentence)
    assert loaded.inspect(np.asarray(Image.open(bad))).image_score == verdict.image_score
    assert loaded.inspect(bad.read_bytes()).image_score == verdict.image_score


def test_the_manifest_says_what_was_done(predictor: andon.Predictor) -> None:
    manifest = predictor.manifest
    assert manifest["detector"]["method"] == "patchcore"
    assert manifest["detector"]["settings"]["bank_limit"] == 200
    assert manifest["data"]["train"] + manifest["data"]["calibration"] == 24
    assert manifest["preprocessing"]["size"] == [
        224,
        320,
    ]  # the photographs' own shape, near 256 x 256 in area
    assert str(Path.home()) not in str(manifest)


def test_same_seed_same_artifact(good: Path, predictor: andon.Predictor) -> None:
    again = andon.fit(good, backbone=FakeBackbone(), **FAST)
    assert again.artifact.members == predictor.artifact.members
    assert again.manifest["calibration"] == predictor.manifest["calibration"]
    other = andon.fit(good, backbone=FakeBackbone(), seed=1, **FAST)
    assert other.artifact.members != predictor.artifact.members


@pytest.mark.parametrize("resize", ["letterbox", "tiles"])
def test_other_ways_to_bring_a_photograph_to_size(good: Path, tmp_path: Path, resize: str) -> None:
    predictor = andon.fit(good, backbone=FakeBackbone(), resize=resize, size=(64, 64), **FAST)
    verdict = predictor.inspect(draw(tmp_path / "bad.png", 100, defect=True))
    assert verdict.decision == "fail"
    assert verdict.anomaly_map is not None
    row, column = np.unravel_index(verdict.anomaly_map.argmax(), verdict.anomaly_map.shape)
    height, width = verdict.anomaly_map.shape
    assert 0.2 < row / height < 0.65
    assert 0.3 < column / width < 0.65


def test_padim_by_the_same_call(good: Path, tmp_path: Path) -> None:
    predictor = andon.fit(good, method="padim", backbone=FakeBackbone(), dimensions=12, size=(64, 96))
    assert predictor.inspect(draw(tmp_path / "bad.png", 100, defect=True)).decision == "fail"


def test_a_broken_image_among_the_good_is_left_out_and_recorded(tmp_path: Path) -> None:
    for number in range(8):
        draw(tmp_path / f"{number}.png", number)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
    predictor = andon.fit(tmp_path, backbone=FakeBackbone(), calibration=0.0, **FAST)
    assert [name for name, _ in predictor.manifest["data"]["skipped"]] == ["3.png"]
    assert predictor.manifest["data"]["train"] == 7


def test_folders_named_after_defects_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png", 1)
    draw(tmp_path / "scratch" / "2.png", 2)
    with pytest.raises(andon.DataError, match="scratch"):
        andon.fit(tmp_path, backbone=FakeBackbone())


def test_further_good_images_for_the_threshold(good: Path, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / f"{number}.png", 200 + number)
    predictor = andon.fit(good, backbone=FakeBackbone(), calibration=tmp_path, **FAST)
    assert (predictor.manifest["data"]["train"], predictor.manifest["data"]["calibration"]) == (24, 5)


def test_two_fits_of_one_file(good: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.andon"
    with (
        single_writer(output),
        pytest.raises(andon.BusyError, match="another process is writing .*part.andon"),
    ):
        andon.fit(good, output, backbone=FakeBackbone(), **FAST)
    assert not output.exists()


def test_killed_and_resumed_is_as_uninterrupted(
    good: Path, tmp_path: Path, predictor: andon.Predictor
) -> None:
    """kill -9 after some images: no artefact, a checkpoint; --resume gives the same detector to the byte."""
    output = tmp_path / "part.andon"
    code = (
        "import os, signal, andon\n"
        "from fakes import FakeBackbone\n"
        "def stop(phase, done, total):\n"
        "    if phase == 'observe' and done >= 12:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"andon.fit({str(good)!r}, {str(output)!r}, backbone=FakeBackbone(), progress=stop, batch_size=4,\n"
        f"          checkpoint_seconds=0.0, **{FAST!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    partial = Path(f"{output}.partial")
    assert partial.exists()
    resumed = andon.fit(good, output, backbone=FakeBackbone(), resume=True, batch_size=4, **FAST)
    assert resumed.manifest["fit"]["resumed_at"] > 0
    assert resumed.artifact.members == predictor.artifact.members
    assert sorted(os.listdir(tmp_path)) == ["part.andon"]


def test_another_answer_to_the_golden_input_is_noticed(predictor: andon.Predictor) -> None:
    members = dict(predictor.artifact.members)
    golden = bytearray(members[GOLDEN_MAP])
    golden[-4:] = np.float32(1e3).tobytes()
    members[GOLDEN_MAP] = bytes(golden)
    with pytest.raises(andon.ArtifactError, match="does not answer the artefact's golden input"):
        andon.Predictor(Artifact(predictor.artifact.manifest, members))


def test_a_graph_that_is_none(predictor: andon.Predictor) -> None:
    members = {**predictor.artifact.members, "model.onnx": b"nothing"}
    with pytest.raises(andon.ArtifactError, match="ONNX Runtime cannot load"):
        andon.Predictor(replace(predictor.artifact, members=members))


def test_recalibrate_and_evaluate(predictor: andon.Predictor, tmp_path: Path) -> None:
    for number in range(12):
        draw(tmp_path / "set" / "good" / f"{number}.png", 300 + number)
    for number in range(6):
        draw(tmp_path / "set" / "bad" / f"{number}.png", 400 + number, defect=True)
    done = recalibrate(predictor, tmp_path / "set" / "good", tmp_path / "set" / "bad")
    assert len(done.nominal) == 12
    assert len(done.anomalous) == 6
    assert done.predictor.calibration.method == "tpr"
    assert done.predictor.manifest["history"][0]["calibration"] == predictor.manifest["calibration"]
    assert has_known_answers(tmp_path / "set")
    assert not has_known_answers(tmp_path / "set" / "good")
    judged = judge(done.predictor, tmp_path / "set", bootstrap=20)
    found = judged.evaluation
    assert [answer.path for answer in judged.answers] == [row.path for row in found.rows]
    assert found.groups["all"]["image_auroc"].value == 1.0
    assert found.groups["all"]["fnr"].value == 0.0


def test_a_threshold_is_not_set_on_what_was_fitted(
    predictor: andon.Predictor, good: Path, tmp_path: Path
) -> None:
    fitted = predictor.manifest["data"]["train"]
    with pytest.raises(
        andon.DataError, match="the detector was fitted on all 24 images in .* would be too low"
    ):
        recalibrate(andon.fit(good, backbone=FakeBackbone(), calibration=0.0, **FAST), good)
    done = recalibrate(predictor, good)  # the images kept for the threshold are good enough for it again
    assert len(done.nominal) == 24 - fitted
    assert (done.left_out, done.skipped) == (fitted, [])
    assert done.predictor.calibration.nominal_scores == predictor.calibration.nominal_scores


def test_inspect_many_goes_on_past_broken_images(predictor: andon.Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    answers = list(predictor.inspect_many([tmp_path / "broken.png", draw(tmp_path / "x.png", 7)]))
    assert isinstance(answers[0], andon.Failure)
    assert isinstance(answers[1], andon.Verdict)
