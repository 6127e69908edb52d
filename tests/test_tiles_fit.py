"""Fitting on photographs in tiles, and inspecting them: as all tiles at once would, and small defects found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import andon
from andon.artifact import MODEL
from andon.cli import andon as program
from andon.data.augment import Augmentation
from andon.data.loader import batches
from andon.engine import Checkpoint, Reader, fit
from andon.image import Preprocessing, Tiles, decode, prepare
from andon.models import build
from andon.nuisance import ZonePlan
from andon.nuisance.plan import Treated
from andon.nuisance.zones import Zone
from andon.pipeline.evaluating import judge
from andon.pipeline.parts import lost_detail
from andon.runtime.explain import find_regions
from andon.training import Images, Pick, Plan
from fakes import FakeBackbone
from test_tiles import SIZE, SPOT, TILED, spotted, textured


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set: good plates to fit on and to test, and plates with a spot."""
    root = tmp_path_factory.mktemp("plates")
    for folder, count, make in (
        ("train/good", 8, textured),
        ("test/good", 3, textured),
        ("test/spot", 2, spotted),
    ):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(make(100 * len(folder) + number)).save(root / folder / f"{number}.png")
    mask = np.zeros(SIZE, np.uint8)
    mask[SPOT] = 255
    (root / "ground_truth" / "spot").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(mask).save(root / "ground_truth" / "spot" / f"{number}_mask.png")
    return root


@pytest.fixture(scope="module")
def predictor(photos: Path) -> andon.Predictor:
    """Fitted on the plates in tiles, with pictures of good parts kept."""
    return andon.fit(photos, photos / "plates.andon", size=(64, 96), resize="tiles",
                     bank_limit=300, buffer_limit=4000, keep_patches=True, target_rate=0.2)  # fmt: skip


# --- fitting ------------------------------------------------------------------------------------------------


def tiled(path: Path) -> Tiles:
    return prepare(path, TILED)[1].tiles


def arrays(path: Path) -> NDArray[np.float32]:
    return prepare(path, TILED)[1].images


def test_the_loader_gives_a_photograph_in_several_batches(photos: Path) -> None:
    paths = sorted((photos / "train" / "good").iterdir())[:2]
    found = list(batches(paths, tiled, 6, workers=1, ahead=1))
    assert [len(images) for images, _ in found] == [6, 6, 4] * 2
    assert [[sample.path for sample in samples] for _, samples in found] == [
        [],
        [],
        paths[:1],
        [],
        [],
        paths[1:],
    ]
    whole = np.concatenate([images for images, _ in batches(paths, arrays, 1)])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), whole)


def detector_of() -> Any:
    return build("patchcore", backbone=FakeBackbone(), bank_limit=100, buffer_limit=2000)


def test_a_fit_on_tiles_is_that_on_all_of_them(photos: Path) -> None:
    paths = sorted((photos / "train" / "good").iterdir())[:3]
    states = []
    for load in (tiled, arrays):
        detector = detector_of()
        report = fit(detector, paths, Reader(load, batch_size=6, workers=0))
        assert report.images == 3
        states.append(detector.fitted_state())
    assert torch.equal(states[0]["memory_bank"], states[1]["memory_bank"])


def test_copies_are_varied_tile_by_tile(photos: Path) -> None:
    paths = sorted((photos / "train" / "good").iterdir())[:1]
    plan = Plan(augment=Augmentation(("noise",)), copies=1)
    banks = []
    for load in (tiled, arrays):
        detector = detector_of()
        fit(detector, paths, Reader(load, workers=0), plan=plan)
        banks.append(detector.memory_bank)
    assert torch.equal(*banks)


def test_stopped_within_a_photograph_begins_again_with_it(photos: Path, tmp_path: Path) -> None:
    """What a checkpoint holds is whole photographs, never some tiles of one."""
    paths = sorted((photos / "train" / "good").iterdir())[:3]
    plain = detector_of()
    fit(plain, paths, Reader(tiled, batch_size=6, workers=0))

    def stopping(path: Path) -> Tiles:
        tiles = tiled(path)

        def make(number: int) -> NDArray[np.float32]:
            if path == paths[1] and number == 13:
                raise KeyboardInterrupt
            return tiles.make(number)

        return Tiles(tiles.count, make)

    stopped, kept = detector_of(), tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, paths, Reader(stopping, batch_size=6, workers=0), checkpoint=Checkpoint(kept, seconds=0))
    going_on = detector_of()
    report = fit(
        going_on, paths, Reader(tiled, batch_size=6, workers=0), checkpoint=Checkpoint(kept, resume=True)
    )
    assert report.resumed_at == 1
    assert torch.equal(plain.memory_bank, going_on.memory_bank)


def test_training_draws_a_few_of_many_tiles(photos: Path) -> None:
    paths = sorted((photos / "train" / "good").iterdir())[:2]
    images = Images(paths, tiled, seed=3, limit=1e9)

    def taken(pick: Pick) -> torch.Tensor:
        return next(images.batches([[pick]]))[0]

    first, again, later = taken(Pick(0, 0)), taken(Pick(0, 0)), taken(Pick(0, 1))
    assert first.shape == (4, 3, 64, 96)
    assert images.drawn  # nothing of them is to be kept between epochs
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(taken(Pick(1)), taken(Pick(1)))


def test_large_photographs_scaled_down_are_said_to_lose_detail(tmp_path: Path) -> None:
    Image.new("L", (4096, 3072)).save(tmp_path / "large.png", compress_level=1)
    paths = [tmp_path / "large.png"]
    note = lost_detail(paths, Preprocessing((224, 288)))
    assert note is not None
    assert note.startswith(
        "photographs of 3072 x 4096 pixels are scaled down to 224 x 288: a defect of 20 pixels is 1.4"
    )
    assert "covers 114 pixels of the photograph" in note
    assert "--resize tiles" in note
    assert lost_detail(paths, Preprocessing((512, 512), "tiles")) is None
    assert lost_detail(paths, Preprocessing((1024, 1344))) is None


# --- the line -----------------------------------------------------------------------------------------------


def test_the_runtime_answers_as_all_tiles_at_once_do(predictor: andon.Predictor, photos: Path) -> None:
    _, prepared = prepare(photos / "test" / "spot" / "0.png", predictor.preprocessing)
    session = onnxruntime.InferenceSession(predictor.artifact.members[MODEL])
    maps, scores = session.run(["anomaly_map", "image_score"], {"images": prepared.images})
    measured = predictor.measure(photos / "test" / "spot" / "0.png")
    expected = prepared.stitch(maps)
    assert prepared.count == 16
    assert measured.anomaly_map.shape == SIZE
    np.testing.assert_allclose(measured.anomaly_map, expected, atol=1e-6 * float(expected.max()))
    assert measured.image_score == pytest.approx(float(scores.max()), rel=1e-6)


def test_a_small_defect_is_found_where_it_is(predictor: andon.Predictor, photos: Path) -> None:
    verdict = predictor.inspect(photos / "test" / "spot" / "0.png")
    assert verdict.decision == "fail"
    top, left, bottom, right = verdict.regions[0].box
    assert (top <= SPOT[0].start, left <= SPOT[1].start) == (True, True)
    assert (bottom >= SPOT[0].stop, right >= SPOT[1].stop) == (True, True)
    assert max(bottom - top, right - left) < 120
    row, column = verdict.regions[0].peak_position
    assert max(abs(row - 124), abs(column - 234)) < 12


def test_a_region_may_be_as_small_in_a_tile_as_in_an_image() -> None:
    field = np.zeros((2000, 2000), np.float32)
    field[10:20, 10:20], field[1500:1510, 700:710] = 2, 3
    assert len(find_regions(field, 1.0, (2000, 2000))) == 1  # 100 pixels are too few of 4,000,000
    assert len(find_regions(field, 1.0, (2000, 2000), min_area=1e-4 * 256 * 256 / field.size)) == 2


def test_a_measurement_knows_what_the_network_sees_at_once(predictor: andon.Predictor, photos: Path) -> None:
    measured = predictor.measure(photos / "test" / "good" / "0.png")
    assert measured.network_share == pytest.approx(64 * 96 / (SIZE[0] * SIZE[1]))
    assert predictor.measure(np.zeros((64, 96, 3), np.uint8)).network_share == 1.0


def test_what_is_expected_at_a_place_in_a_tile(predictor: andon.Predictor, photos: Path) -> None:
    path = photos / "test" / "spot" / "1.png"
    verdict = predictor.inspect(path)
    found = predictor.expected(path, verdict.regions[0])
    assert found is not None
    assert found.kind in ("same_place", "nearest")
    assert predictor.good_pictures.sources is not None
    assert predictor.good_pictures.sources[:, 1:].min() >= 0
    assert predictor.good_pictures.sources[:, 1:].max() <= 1


def test_a_zone_lies_on_the_photograph_not_on_a_tile(predictor: andon.Predictor, photos: Path) -> None:
    label = Treated(Zone.box("label", (110, 220, 138, 248), size=SIZE), halo=16, given="later")
    blind = predictor.recalibrated(predictor.calibration, ZonePlan((label,)))
    path = photos / "test" / "spot" / "0.png"
    seen, left_out = predictor.measure(path), blind.measure(path)
    zone = np.zeros(SIZE, bool)
    zone[94:154, 204:264] = True
    np.testing.assert_array_equal(left_out.anomaly_map[~zone], seen.anomaly_map[~zone])
    assert left_out.anomaly_map[zone].max() == seen.anomaly_map[~zone].min()
    assert left_out.image_score == seen.anomaly_map[~zone].max() < seen.map_peak


def test_pixel_figures_of_large_photographs_are_of_smaller_maps(
    predictor: andon.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("andon.evaluate.run.MOST_PIXELS", 10_000)
    found = judge(predictor, photos, bootstrap=0).evaluation
    assert "pixel figures of 5 images are of maps reduced to 10,000 pixels" in found.settings["notes"]
    assert found.groups["all"]["image_auroc"].value == 1.0
    assert found.groups["all"]["pixel_auroc"].value > 0.9


def test_the_commands_take_tiles(predictor: andon.Predictor, photos: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    artifact, spots = str(photos / "plates.andon"), str(photos / "test" / "spot")
    done = run(program, ["inspect", artifact, spots, "--save-maps", str(tmp_path / "m"), "--save-raw", str(tmp_path / "r"),
                         "--explain", str(tmp_path / "e")])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.output.count("FAIL") == 2
    assert np.load(tmp_path / "r" / "0.npy").shape == SIZE
    assert decode(tmp_path / "m" / "0.png").pixels.shape[:2] == SIZE
    done = run(program, ["evaluate", artifact, str(photos), "--json", str(tmp_path / "f.json")])
    assert done.exit_code == 0, done.output
    done = run(program, ["annotate", artifact, spots, "-o", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    boxes = [
        mark["bbox"] for mark in json.loads((tmp_path / "a" / "annotations.json").read_text())["annotations"]
    ]
    assert any(x <= 230 and y <= 120 and x + w >= 238 and y + h >= 128 for x, y, w, h in boxes)
