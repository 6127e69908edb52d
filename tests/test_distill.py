"""Distillation: targets that keep the teachers' distances, crops, and runs that end where they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from andon.errors import DataError, SettingsError
from andon.features import distill as module
from andon.features.backbones import load_backbone
from andon.features.crops import CropSource, disturb, draw_texture, list_images
from andon.features.distill import Distillation, Moments, Recipe, Store, Targets, distill, main, normalised
from andon.features.student import LAYERS, AndonS, StudentNet, folded_state, student_from_state
from andon.features.trunk import Backbone, LayerInfo


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
    return Recipe(**(settings | {"first": 8, "kept": 12, "reuse": 2} | changes))  # type: ignore[arg-type]


def test_moments_are_those_of_all_rows_together() -> None:
    x = torch.randn(500, 7) @ torch.randn(7, 7) + 3
    moments = Moments(7)
    for part in x.split(130):
        moments.add(part)
    mean, covariance = moments.close()
    np.testing.assert_allclose(mean, x.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(x.numpy().T, bias=True), rtol=1e-4, atol=1e-5)


def test_without_whitening_targets_keep_the_teachers_distances() -> None:
    targets = Targets([Teacher()], whiten=0)
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
    targets = Targets([Teacher(), Teacher((10, 8), seed=1)], whiten=1)
    batch = images(40)
    targets.fit([batch])
    for layer, f in targets(batch).items():
        d = LAYERS[layer].channels
        np.testing.assert_allclose(np.cov(rows(f).numpy().T, bias=True), np.eye(d), atol=2e-2)


def test_each_teacher_has_the_same_say() -> None:
    targets = Targets([Teacher(), Teacher((10, 8), seed=1)])
    weights = targets.weights("stride8")
    assert weights[:64].square().sum() == pytest.approx(1)
    assert weights[64:].square().sum() == pytest.approx(1)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_targets_have_a_mean_variance_of_one(whiten: float) -> None:
    targets = Targets([Teacher((80, 120))], whiten=whiten)
    targets.fit([images(40)])
    for f in targets(images(40)).values():
        assert rows(f).var(0, correction=0).mean() == pytest.approx(1, rel=1e-3)


def test_teachers_without_a_stride_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"stride16 needs a teacher with a layer of stride 16; got \{8\}"):
        Targets([load_backbone("andon-s", ["stride8"])])


def test_store_replaces_the_oldest_first() -> None:
    store = Store(limit=3)
    for n in range(5):
        crop = torch.full((1, 3, 4, 4), n, dtype=torch.uint8)
        store.put(crop, {layer: torch.full((1, 2, 1, 1), float(n)) for layer in LAYERS})
    kept, targets = store.sample(np.random.default_rng(0), 10)
    assert sorted(kept[:, 0, 0, 0].tolist()) == [2, 3, 4]
    for layer in LAYERS:
        assert targets[layer][:, 0, 0, 0].tolist() == kept[:, 0, 0, 0].tolist()  # each with its own target


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


def test_student_learns_its_teacher(photographs: Path) -> None:
    torch.set_num_threads(1)
    run = Distillation(tiny(photographs, steps=40, learning_rate=3e-3))
    run.prepare()
    losses = [run.step() for _ in range(40)]
    assert run.progress() == 1
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[1:6])


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
    net = load_backbone(a)
    assert net.name == "andon-s"
    assert all(f.isfinite().all() for f in net(images(1)).values())


def test_resumed_run_goes_on_where_it_was(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s.safetensors"
    monkeypatch.setattr(Distillation, "progress", lambda self: 1.0 if self.done >= 3 else 0.5)
    first = distill(tiny(photographs), out)
    monkeypatch.undo()
    fitted = []
    monkeypatch.setattr(module.Targets, "fit", lambda self, batches: fitted.append(1))
    second = distill(tiny(photographs), out, resume=True)
    assert (first.done, second.done) == (3, 6)
    assert fitted == []  # the projection came with the checkpoint
    for layer in LAYERS:
        assert torch.equal(first.targets.projections[layer][1], second.targets.projections[layer][1])
    assert second.seconds > first.seconds


def test_command_line(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    options = [
        "--steps",
        "2",
        "--batch",
        "2",
        "--crop",
        "64",
        "--first",
        "4",
        "--kept",
        "4",
        "--threads",
        "1",
    ]
    main(["--images", str(photographs), "--teachers", "andon-s", "--out", str(out), *options])
    assert out.is_file()
