"""Distillation: targets that keep the teachers' distances, crops, and runs that end where they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from andon.cli import andon
from andon.errors import DataError, SettingsError
from andon.features.backbones import load_backbone
from andon.features.crop_store import CropStore
from andon.features.crops import CropSource, disturb, draw_texture, list_images
from andon.features.distill import Distillation, Recipe, distill, make_store, normalised, schedule
from andon.features.student import (
    LAYERS,
    AndonS,
    Shape,
    StudentNet,
    folded_state,
    shape_of,
    student_from_state,
)
from andon.features.targets import Targets, _Sums
from andon.features.trunk import Backbone, LayerInfo

SMALL = Shape((8, 8, 16, 16), (0, 1, 1))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight crops a shard instead of hundreds."""
    monkeypatch.setattr("andon.features.crop_store.SHARD", 8)


class Teacher(Backbone):
    """Random features with just as many channels as the student has, at its two strides."""

    def __init__(self, channels: tuple[int, int] = (64, 96), seed: int = 0) -> None:
        known = {"a": LayerInfo(channels[0], 8), "b": LayerInfo(channels[1], 16)}
        super().__init__("teacher", known, ("a", "b"))
        torch.manual_seed(seed)
        self.a = nn.Conv2d(3, channels[0], 8, 8)
        self.b = nn.Conv2d(3, channels[1], 16, 16)
        self.freeze()

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": self.a(x).relu() * 7, "b": self.b(x) + 3}


def images(count: int, size: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def rows(features: Tensor) -> Tensor:
    return features.movedim(1, -1).flatten(0, 2)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for n, size in enumerate([(120, 150), (200, 110), (64, 64), (64, 64)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{n}.png")
    return tmp_path


def tiny(photographs: Path, **changes: object) -> Recipe:
    settings = {"images": (str(photographs),), "teachers": ("andon-s",), "steps": 6, "batch": 4, "crop": 64}
    return Recipe(**(settings | {"first": 8, "crops": 12, "shape": SMALL} | changes))  # type: ignore[arg-type]


def test_moments_are_those_of_all_rows_together() -> None:
    x = torch.randn(500, 7) @ torch.randn(7, 7) + 3
    moments = _Sums(7)
    for part in x.split(130):
        moments.add(part)
    mean, covariance = moments.close()
    np.testing.assert_allclose(mean, x.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(x.numpy().T, bias=True), rtol=1e-4, atol=1e-5)


def test_without_whitening_targets_keep_the_teachers_distances() -> None:
    targets = Targets([Teacher()], LAYERS, whiten=0)
    batch = images(40)
    targets.fit([batch[:25], batch[25:]])
    assert targets.explained == pytest.approx({"stride8": 1.0, "stride16": 1.0})
    raw, got = targets.raw(batch), targets(batch)
    for layer in LAYERS:
        z = rows(raw[layer])
        standard = (z - z.mean(0)) / z.std(0, correction=0)
        ratio = torch.pdist(rows(got[layer])[:50]) / torch.pdist(standard[:50])
        assert ratio.std() / ratio.mean() < 1e-3


def test_whitened_targets_have_unit_covariance() -> None:
    targets = Targets([Teacher(), Teacher((10, 8), seed=1)], LAYERS, whiten=1)
    batch = images(40)
    targets.fit([batch])
    for layer, f in targets(batch).items():
        d = LAYERS[layer].channels
        np.testing.assert_allclose(np.cov(rows(f).numpy().T, bias=True), np.eye(d), atol=2e-2)


def test_each_teacher_has_the_same_say() -> None:
    targets = Targets([Teacher(), Teacher((10, 8), seed=1)], LAYERS)
    weights = targets.weights("stride8")
    assert weights[:64].square().sum() == pytest.approx(1)
    assert weights[64:].square().sum() == pytest.approx(1)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_targets_have_a_mean_variance_of_one(whiten: float) -> None:
    targets = Targets([Teacher((80, 120))], LAYERS, whiten=whiten)
    targets.fit([images(40)])
    for f in targets(images(40)).values():
        assert rows(f).var(0, correction=0).mean() == pytest.approx(1, rel=1e-3)


def test_teachers_without_a_stride_are_refused() -> None:
    message = r"stride16 needs teachers with at least 96 channels of stride 16 together, got 0; .* the strides \[8\]"
    with pytest.raises(SettingsError, match=message):
        Targets([load_backbone("andon-s", ["stride8"])], LAYERS)


def test_projections_survive_a_file() -> None:
    targets, again = (Targets([Teacher()], LAYERS) for _ in range(2))
    targets.fit([images(40)])
    again.load(targets.state())
    assert again.explained == pytest.approx(targets.explained)
    for layer, f in targets(images(2, seed=1)).items():
        assert torch.equal(f, again(images(2, seed=1))[layer])


def numbered(numbers: range) -> dict[str, Tensor]:
    """Crops that hold their own number, and targets that hold it, too."""
    n = torch.tensor(list(numbers))
    crops = n.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return {"images": crops, **{layer: n.float().view(-1, 1, 1, 1) for layer in LAYERS}}


def test_a_store_gives_each_crop_with_its_own_targets_and_grows(tmp_path: Path) -> None:
    made: list[range] = []

    def make(numbers: range) -> dict[str, Tensor]:
        made.append(numbers)
        return numbered(numbers)

    store = CropStore(tmp_path / "crops", LAYERS, {"seed": 0})
    store.fill(10, make, lambda done: None)
    CropStore(tmp_path / "crops", LAYERS, {"seed": 0}).fill(20, make, lambda done: None)
    assert made == [range(8), range(8, 16), range(16, 24)]  # what was there was not made again
    crops, targets = store.take(np.array([17, 3, 9]))
    assert crops[:, 0, 0, 0].tolist() == [17, 3, 9]
    for layer in LAYERS:
        assert targets[layer].dtype == torch.float32
        assert targets[layer][:, 0, 0, 0].tolist() == [17, 3, 9]


def test_a_shard_cut_short_is_made_again(tmp_path: Path) -> None:
    store = CropStore(tmp_path, LAYERS, {})

    def fails(numbers: range) -> dict[str, Tensor]:
        parts = numbered(numbers)
        del parts["stride16"]
        parts["stride8"] = None  # type: ignore[assignment]
        return parts

    with pytest.raises(AttributeError):
        store.fill(8, fails, lambda done: None)
    store.fill(8, numbered, lambda done: None)
    assert store.take(np.array([5]))[1]["stride16"].item() == 5


def test_a_store_of_other_crops_is_refused(tmp_path: Path) -> None:
    CropStore(tmp_path, LAYERS, {"seed": 0})
    with pytest.raises(SettingsError, match="holds crops made in another way .* Name another folder"):
        CropStore(tmp_path, LAYERS, {"seed": 1})


def test_crops_are_repeatable_and_differ(photographs: Path) -> None:
    source = CropSource([photographs], size=64, drawn=0.3)
    first, again = (source.batch(np.random.default_rng(3), 12) for _ in range(2))
    assert first.shape == (12, 3, 64, 64)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert len({crop.tobytes() for crop in first}) == 12


def test_disturbance_keeps_shape_and_type_and_mostly_the_picture() -> None:
    rng = np.random.default_rng(0)
    picture = draw_texture(rng, 64)
    out = [disturb(rng, picture) for _ in range(50)]
    assert all(x.shape == (64, 64, 3) and x.dtype == np.uint8 for x in out)
    assert any(np.array_equal(x, picture) for x in out)  # at times nothing is done
    assert any(
        np.ptp(x.astype(int), axis=2).max() == 0 for x in out if np.ptp(picture.astype(int), axis=2).max()
    )


def test_textures_use_the_range_and_vary() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_texture(rng, 32) for _ in range(40)])
    assert drawn.shape == (40, 32, 32, 3)
    assert drawn.std() > 30
    assert len({x.tobytes() for x in drawn}) == 40


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected images \(.*\) below .*, found none; name a folder with images"
    ):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teachers": ()}, "distillation needs at least one teacher"),
        ({"steps": None}, "give either minutes or steps, got minutes=None and steps=None"),
        ({"minutes": 1.0}, "give either minutes or steps, got minutes=1.0 and steps=6"),
        ({"crop": 100}, "crop must be a multiple of 32 pixels, got 100"),
        ({"crops": 7}, r"crops must be at least batch \(4\) and first \(8\), got 7"),
    ],
)
def test_recipe_refuses_what_makes_no_sense(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        tiny(tmp_path, **settings)


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    net = StudentNet(norm=True).train()
    for n in range(4):
        net(torch.randn(4, 3, 64, 64) * (1 + n))
    folded = student_from_state(folded_state(net))
    assert isinstance(folded, AndonS)
    batch = images(2, 96)
    wanted = net.eval()(normalised(batch))
    for layer, f in folded(batch).items():
        torch.testing.assert_close(f, wanted[layer], atol=1e-4, rtol=1e-4)


def test_the_shape_is_read_from_the_weights() -> None:
    for shape in (SMALL, Shape((8, 12, 16, 24), (2, 0, 3))):
        assert shape_of(folded_state(StudentNet(norm=True, shape=shape))) == shape


def test_student_learns_its_teacher(photographs: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = tiny(photographs, steps=40, learning_rate=3e-3)
    run = Distillation(recipe, make_store(recipe, tmp_path / "crops"))
    losses = [run.step() for _ in range(40)]
    assert run.progress() == 1
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[1:6])


def test_the_rate_rises_from_above_zero_and_ends_at_zero() -> None:
    assert schedule(0) > 0
    assert schedule(1.0) == pytest.approx(0)


def test_same_seed_same_bytes_and_a_file_that_loads(photographs: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    distill(tiny(photographs), a)
    distill(tiny(photographs), b)
    distill(tiny(photographs, seed=1), c)
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()
    with safe_open(a, "pt") as file:
        text = file.metadata()["andon"]
    assert json.loads(text)["steps"] == 6
    assert str(photographs.parent) not in text  # names, not paths
    assert all(f.isfinite().all() for f in load_backbone(a)(images(1)).values())


class Stopped(Exception):
    pass


def test_a_stopped_and_resumed_run_ends_at_the_same_bytes(photographs: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, halved = tmp_path / "whole.safetensors", tmp_path / "halved.safetensors"
    distill(tiny(photographs), whole)

    def stop(phase: str, done: int, total: int) -> None:
        if phase == "train" and done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        distill(tiny(photographs), halved, save_every=0, say=stop)
    with pytest.raises(SettingsError, match="the checkpoint was made by another recipe .* without --resume"):
        distill(tiny(photographs, learning_rate=1.0), halved, resume=True)
    run = distill(tiny(photographs), halved, resume=True)
    assert run.done == 6
    assert halved.read_bytes() == whole.read_bytes()


def test_one_store_serves_students_of_several_shapes(photographs: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    distill(tiny(photographs, steps=1), tmp_path / "a.safetensors", crops=crops)
    before = sorted((path, path.stat().st_mtime_ns) for path in crops.glob("*.npy"))
    wide = Shape((8, 8, 24, 24), (1, 1, 1))
    distill(tiny(photographs, steps=1, shape=wide), tmp_path / "b.safetensors", crops=crops)
    assert sorted((path, path.stat().st_mtime_ns) for path in crops.glob("*.npy")) == before
    assert shape_of(dict(load_backbone(tmp_path / "b.safetensors").net.state_dict())) == wide  # type: ignore[union-attr, operator]


def test_command_line(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    sizes = ["--batch", "2", "--crops", "8", "--widths", "8,8,8,8", "--blocks", "0,0,1", "-q"]
    asked = [
        "backbone",
        "train",
        "--images",
        str(photographs),
        "--teacher",
        "andon-s",
        "-o",
        str(out),
        *sizes,
    ]
    done = CliRunner().invoke(andon, [*asked, "--steps", "2"])
    assert done.exit_code == 0, done.output
    assert "2 steps in" in done.output
    assert f"Next:  andon fit PHOTOS -o part.andon --backbone {out}" in done.output
    assert shape_of(load_file(out)) == Shape((8, 8, 8, 8), (0, 0, 1))
    refused = CliRunner().invoke(andon, [*asked, "--widths", "8,8,8"])
    assert refused.exit_code == 2
    assert "'8,8,8' is not 4 whole numbers between commas" in refused.output
