"""What every detector must do, whatever its method: run over each line of DETECTORS.

A new method needs no edit here, unless its defaults are too large for drawn parts of 64 x 96 pixels.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from andon.errors import ArtifactError, ImageError, NotFittedError, SettingsError
from andon.models import DETECTORS, Detector, Scores, build
from andon.models.base import State
from andon.models.patchcore import PatchCore
from andon.training import train
from fakes import FakeBackbone, export_onnx, good_parts, plant_defects, run_onnx

SIZE = (64, 96)
TRAIN = good_parts(20, SIZE, seed=1)
HELD_OUT = good_parts(6, SIZE, seed=2)
GOOD = good_parts(8, SIZE, seed=3)
BAD, MASKS = plant_defects(good_parts(6, SIZE, seed=4), seed=5)
TEST = torch.cat([GOOD, BAD])

# Settings that make a method small and quick, for those whose defaults are not.
SMALL: dict[str, dict[str, Any]] = {
    "vae": {
        "width": 6,
        "latent": 4,
        "levels": 2,
        "ssim_share": 0.2,
        "steps": 25,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 2.0,
    },
    "ganomaly": {
        "width": 6,
        "latent": 4,
        "levels": 2,
        "score": "peak",
        "steps": 20,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 2.0,
    },
    "fanogan": {
        "width": 4,
        "latent": 8,
        "critic_turns": 1,
        "kappa": 0.1,
        "score": "peak",
        "steps": 10,
        "encoder_steps": 15,
        "learning_rate": 1e-3,
        "encoder_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 2.0,
    },
    "draem": {
        "width": 2,
        "segment_width": 8,
        "levels": 1,
        "smoothing": 9,
        "steps": 40,
        "learning_rate": 3e-3,
        "batch_size": 4,
    },
    "dsr": {
        "width": 16,
        "dimensions": 8,
        "codes": 128,
        "residuals": 1,
        "segment_width": 16,
        "levels": 1,
        "smoothing": 5,
        "steps": 120,
        "learning_rate": 1e-2,
        "batch_size": 4,
    },
    "patchcore": {"bank_limit": 400, "buffer_limit": 20_000},
    "riad": {
        "sizes": [8],
        "sets": 3,
        "width": 24,
        "levels": 2,
        "fold": 4,
        "steps": 40,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "blur_sigma": 4.0,
    },
    "gcad": {
        "bottleneck": 4,
        "global_channels": 4,
        "width": 8,
        "levels": 2,
        "steps": 20,
        "batch_size": 4,
        "learning_rate": 5e-3,
        "blur_sigma": 2.0,
    },
    "padim": {"dimensions": 20},
    "csflow": {
        "layers": ["fine"],
        "blocks": 1,
        "width": 8,
        "steps": 20,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 6.0,
    },
    "fastflow": {"flow_steps": 2, "steps": 30, "learning_rate": 1e-2, "batch_size": 4, "blur_sigma": 6.0},
    "cflow": {
        "coupling_layers": 2,
        "position_channels": 8,
        "fibre": 256,
        "steps": 30,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 6.0,
    },
    "stfpm": {"width": 16, "blocks": 0, "steps": 40, "batch_size": 2, "blur_sigma": 4.0},
    "uninformed_students": {
        "layers": ["fine"],
        "students": 2,
        "width": 8,
        "steps": 20,
        "learning_rate": 3e-3,
        "blur_sigma": 6.0,
    },
    "efficientad": {
        "layers": ["fine"],
        "width": 8,
        "autoencoder_width": 4,
        "steps": 15,
        "learning_rate": 3e-3,
        "blur_sigma": 6.0,
    },
    "autoencoder": {
        "width": 8,
        "latent": 4,
        "ssim_share": 0.2,
        "steps": 30,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 2.0,
    },
    "reverse_distillation": {
        "blocks": 1,
        "steps": 40,
        "batch_size": 4,
        "learning_rate": 2e-2,
        "blur_sigma": 6.0,
    },
    "simplenet": {
        "layers": ["fine"],
        "hidden": 64,
        "noise": 0.5,
        "steps": 40,
        "learning_rate": 1e-2,
        "batch_size": 4,
    },
    "supersimplenet": {
        "layers": ["fine"],
        "hidden": 128,
        "channels": 8,
        "noise": 2.0,
        "steps": 40,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "blur_sigma": 6.0,
    },
    "dinomaly": {
        "depth": 2,
        "width": 16,
        "steps": 30,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "blur_sigma": 6.0,
    },
    "vit_inpainting": {
        "width": 32,
        "depth": 2,
        "heads": 2,
        "steps": 25,
        "batch_size": 4,
        "learning_rate": 1e-2,
    },
}
# Settings under which 8 images already reach the bound on what is kept while observing.
BOUNDED: dict[str, dict[str, Any]] = {
    "patchcore": {"bank_limit": 100, "buffer_limit": 600},
    "fre": {"buffer_limit": 6},
}

every_method = pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in DETECTORS]
)


def new(method: str, **settings: Any) -> Detector:
    takes_backbone = "backbone" in inspect.signature(DETECTORS[method].__init__).parameters
    fake = {"backbone": FakeBackbone()} if takes_backbone else {}
    return build(method, **{**fake, **SMALL.get(method, {}), **settings})


def observe(detector: Detector, images: Tensor, batch: int = 4) -> Detector:
    for part in images.split(batch):
        detector.observe(part)
    return detector


def finish(detector: Detector, images: Tensor = TRAIN) -> Detector:
    """The rest of a fit: the phases of training, then ``close``."""
    train(detector, lambda numbers: images[list(numbers)], len(images), lambda phase, done, total: None)
    detector.close(HELD_OUT.split(4))
    return detector


def fit(method: str, images: Tensor = TRAIN, **settings: Any) -> Detector:
    return finish(observe(new(method, **settings), images), images)


@torch.no_grad()
def score(detector: Detector, images: Tensor = TEST) -> Scores:
    answer = detector(images)
    assert isinstance(answer, Scores)
    return answer


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class _Fitted(dict[str, Detector]):
    """Each method fitted once, when it is first asked for."""

    def __missing__(self, method: str) -> Detector:
        self[method] = fit(method)
        return self[method]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Detector]:
    return _Fitted()


@every_method
def test_has_a_title_and_a_paper(method: str) -> None:
    assert DETECTORS[method].title
    assert DETECTORS[method].paper
    assert DETECTORS[method].__doc__


@every_method
def test_answers_with_maps_and_scores_of_the_inputs_size(method: str, fitted: dict[str, Detector]) -> None:
    answer = score(fitted[method])
    assert answer.anomaly_map.shape == (len(TEST), 1, *SIZE)
    assert answer.image_score.shape == (len(TEST),)
    assert answer.anomaly_map.dtype == answer.image_score.dtype == torch.float32
    assert torch.isfinite(answer.anomaly_map).all()
    assert torch.isfinite(answer.image_score).all()
    assert (answer.reconstruction is not None) == fitted[method].reconstructs
    if answer.reconstruction is not None:
        assert answer.reconstruction.shape == TEST.shape
        assert 0 <= float(answer.reconstruction.min()) <= float(answer.reconstruction.max()) <= 1


@every_method
def test_takes_images_that_are_taller_than_wide(method: str) -> None:
    tall = good_parts(6, (96, 64), seed=6)
    assert score(fit(method, tall), tall[:2]).anomaly_map.shape == (2, 1, 96, 64)


@every_method
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_answers_with_finite_numbers_to_an_empty_image(
    method: str, value: float, fitted: dict[str, Detector]
) -> None:
    answer = score(fitted[method], torch.full((1, 3, *SIZE), value))
    assert torch.isfinite(answer.anomaly_map).all()
    assert torch.isfinite(answer.image_score).all()


@every_method
def test_fits_on_images_that_are_all_equal(method: str) -> None:
    detector = fit(method, torch.full((4, 3, *SIZE), 0.5))
    answer = score(detector)
    assert torch.isfinite(answer.anomaly_map).all()
    assert torch.isfinite(answer.image_score).all()


@every_method
def test_planted_defects_score_above_every_good_part(method: str, fitted: dict[str, Detector]) -> None:
    scores = score(fitted[method]).image_score
    assert scores[len(GOOD) :].min() > scores[: len(GOOD)].max()


@every_method
def test_the_map_peaks_inside_the_defect(method: str, fitted: dict[str, Detector]) -> None:
    peaks = score(fitted[method], BAD).anomaly_map.flatten(1).argmax(1)
    assert MASKS.flatten(1).gather(1, peaks[:, None]).all()


@every_method
def test_an_image_alone_scores_as_in_a_batch(method: str, fitted: dict[str, Detector]) -> None:
    together = score(fitted[method])
    for i in (0, len(TEST) - 1):
        alone = score(fitted[method], TEST[i : i + 1])
        torch.testing.assert_close(alone.image_score, together.image_score[i : i + 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.anomaly_map, together.anomaly_map[i : i + 1], rtol=1e-5, atol=1e-5)


@every_method
def test_forward_changes_nothing_and_heeds_no_mode(method: str, fitted: dict[str, Detector]) -> None:
    detector = fitted[method]
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    statistics = detector.statistics()
    in_train_mode = score(detector.train())
    in_eval_mode = score(detector.eval())
    assert torch.equal(in_train_mode.anomaly_map, in_eval_mode.anomaly_map)
    assert torch.equal(in_train_mode.image_score, in_eval_mode.image_score)
    assert same(before, detector.state_dict())
    assert same(statistics, detector.statistics())


@every_method
def test_fitted_state_makes_another_detector_answer_the_same(
    method: str, fitted: dict[str, Detector]
) -> None:
    other = new(method)
    other.load_fitted_state(fitted[method].fitted_state())
    assert other.is_fitted
    assert same(other.fitted_state(), fitted[method].fitted_state())
    assert not any(name.startswith("backbone.") for name in other.fitted_state())
    assert torch.equal(score(other).anomaly_map, score(fitted[method]).anomaly_map)
    assert torch.equal(score(other).image_score, score(fitted[method]).image_score)


@every_method
def test_refuses_the_fitted_state_of_another_method(method: str) -> None:
    with pytest.raises(
        ArtifactError, match=r"^the fitted state of \w+ holds \[.*\], got \['x'\]: it comes from"
    ):
        new(method).load_fitted_state({"x": torch.zeros(1)})


@every_method
def test_same_seed_gives_the_same_state_to_the_bit(method: str, fitted: dict[str, Detector]) -> None:
    assert same(fit(method).fitted_state(), fitted[method].fitted_state())


@every_method
def test_two_sites_merged_rank_like_one(method: str, fitted: dict[str, Detector]) -> None:
    sites = [observe(new(method), part).statistics() for part in (TRAIN[:12], TRAIN[12:])]
    merged = new(method)
    merged.load_statistics(DETECTORS[method].merge(sites, [12.0, 8.0]))
    scores = score(finish(merged)).image_score
    assert spearmanr(scores, score(fitted[method]).image_score).statistic > 0.95
    assert scores[len(GOOD) :].min() > scores[: len(GOOD)].max()


@every_method
def test_the_order_of_the_images_does_not_matter(method: str, fitted: dict[str, Detector]) -> None:
    shuffled = TRAIN[torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(0))]
    scores = score(finish(observe(new(method), shuffled, batch=3))).image_score
    torch.testing.assert_close(scores, score(fitted[method]).image_score, rtol=1e-3, atol=1e-5)


@every_method
def test_killed_and_resumed_is_as_uninterrupted(
    method: str, fitted: dict[str, Detector], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    save_file(observe(new(method), TRAIN[:8]).statistics(), tmp_path / "half")
    resumed = new(method)
    resumed.load_statistics(load_file(tmp_path / "half"))
    finish(observe(resumed, TRAIN[8:]))
    assert same(resumed.fitted_state(), fitted[method].fitted_state())


@every_method
def test_reset_and_refit_replaces(method: str, fitted: dict[str, Detector]) -> None:
    detector = copy.deepcopy(fitted[method])
    observe(detector, plant_defects(TRAIN)[0])
    detector.reset()
    assert not detector.is_fitted
    finish(observe(detector, TRAIN))
    assert same(detector.fitted_state(), fitted[method].fitted_state())


@every_method
def test_observing_more_and_closing_again_is_one_fit(method: str, fitted: dict[str, Detector]) -> None:
    detector = new(method)
    if detector.steps:
        pytest.skip("its training starts from where the first fit ended")
    finish(observe(detector, TRAIN[:8]))
    finish(observe(detector, TRAIN[8:]))
    assert same(detector.fitted_state(), fitted[method].fitted_state())


@every_method
def test_what_is_kept_while_observing_is_bounded(method: str) -> None:
    detector = new(method, **BOUNDED.get(method, {}))
    kept = []
    for image in TRAIN.repeat(3, 1, 1, 1).split(1):
        detector.observe(image)
        kept.append(sum(tensor.nbytes for tensor in detector.statistics().values()))
    assert max(kept[8:]) <= 2 * max(kept[:8])  # growing with the images, it would be 7.5 times


@every_method
def test_what_an_artefact_keeps_makes_the_same_detector(method: str, fitted: dict[str, Detector]) -> None:
    """Loaded and closed again; what was kept of it is no more than twice what answering needs."""
    kept = fitted[method].kept_statistics()
    again = new(method)
    again.load_statistics(kept)
    again.close()
    assert torch.allclose(again(TEST).image_score, fitted[method](TEST).image_score, rtol=1e-4)
    assert torch.allclose(again(TEST).anomaly_map, fitted[method](TEST).anomaly_map, rtol=1e-3, atol=1e-4)
    size = sum(tensor.nbytes for tensor in fitted[method].fitted_state().values())
    assert sum(tensor.nbytes for tensor in kept.values()) <= 2 * size + 1024


@every_method
def test_unfitted_says_so(method: str) -> None:
    detector = new(method)
    name = DETECTORS[method].__name__
    expected = f"{name} has not been fitted: show it good images with observe() and call close(), or use andon.fit(folder)"
    for ask in (lambda: detector(TEST), detector.fitted_state):
        with pytest.raises(NotFittedError) as error:
            ask()
        assert str(error.value) == expected
    assert not detector.is_fitted


@every_method
def test_closing_without_images_says_so(method: str) -> None:
    with pytest.raises(NotFittedError, match="has seen no image: show it good images with observe"):
        new(method).close()


@every_method
def test_refuses_what_is_not_a_batch_of_images(method: str, fitted: dict[str, Detector]) -> None:
    for wrong in (TRAIN[0], TRAIN[:, :1], (TRAIN[:1] * 255).to(torch.uint8)):
        for ask in (new(method).observe, fitted[method]):
            with pytest.raises(ImageError, match=r"^images must be float \(B, 3, H, W\)"):
                ask(wrong)


@every_method
def test_closed_form_has_no_loss(method: str) -> None:
    detector = new(method)
    if detector.steps:
        assert detector.loss(TRAIN[:4]).shape == ()
    else:
        with pytest.raises(SettingsError, match=r"is closed form: it has no training loss \(steps = 0\)"):
            detector.loss(TRAIN[:4])


@every_method
def test_settings_survive_json_and_build(method: str) -> None:
    settings = json.loads(json.dumps(new(method).settings()))
    if "backbone" in settings:
        assert settings["backbone"] == "fake"
        settings["backbone"] = FakeBackbone()
    again = build(method, **settings)
    assert json.dumps(again.settings()) == json.dumps(new(method).settings())


@every_method
def test_the_defaults_build_and_survive_json(method: str) -> None:
    detector = build(method)
    settings = json.loads(json.dumps(detector.settings()))
    assert build(method, **settings).settings() == settings
    for name, parameter in inspect.signature(DETECTORS[method].__init__).parameters.items():
        assert name == "self" or parameter.default is not inspect.Parameter.empty


@every_method
def test_onnx_answers_as_torch(method: str, fitted: dict[str, Detector], tmp_path: Path) -> None:
    export_onnx(fitted[method], tmp_path / "model.onnx", SIZE)
    for images in (TEST[:1], TEST[-3:]):
        anomaly_map, image_score = run_onnx(tmp_path / "model.onnx", images)
        expected = score(fitted[method], images)
        scale = float(expected.anomaly_map.abs().max())
        assert np.abs(anomaly_map - expected.anomaly_map.numpy()).max() < 1e-4 * scale
        scale = max(scale, float(expected.image_score.abs().max()))  # the two may have different units
        assert np.abs(image_score - expected.image_score.numpy()).max() < 1e-4 * scale


def test_unknown_method_names_the_close_ones() -> None:
    with pytest.raises(
        SettingsError, match=r"^there is no method 'padin'\. Did you mean 'padim'\? The methods are: "
    ):
        build("padin")


@every_method
def test_unknown_setting_lists_the_known_ones(method: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"^{method} has no setting 'colour'\. Its settings and their defaults are: "
    ):
        build(method, colour="red")


def test_a_backbone_of_another_kind_is_said() -> None:
    with pytest.raises(SettingsError, match="backbone must be a name, a file or a module, got 3"):
        build("patchcore", backbone=3)


@every_method
def test_sites_that_agree_merge_to_what_they_agree_on(method: str) -> None:
    """A mean of equal weights is these weights to the bit: else chaos in training tells one site from two."""
    state = new(method).statistics()
    if DETECTORS[method].merge is PatchCore.merge or not state:
        pytest.skip("its states are collected, not averaged")
    merged = DETECTORS[method].merge([state, state, state], [1.0, 1.0, 5.0])
    assert all(torch.equal(merged[name], state[name]) for name in state if name != "images_seen")
