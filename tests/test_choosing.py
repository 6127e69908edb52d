"""``method="auto"``: a choice from a trial, repeatable, with its reason in the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import andon
from andon.engine import Reader
from andon.errors import SettingsError
from andon.image import Preprocessing, prepare
from andon.models import DETECTORS
from andon.nuisance import Zone
from andon.pipeline import FitOptions
from andon.pipeline.choosing import CANDIDATES, LEVEL, Choice, _best, choose, with_defects
from andon.pipeline.fitting import _chosen
from andon.training import Plan
from fakes import FakeBackbone, good_parts

SIZE = (64, 96)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for n, part in enumerate(good_parts(24, SIZE, seed=1)):
        Image.fromarray((part.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(folder / f"{n:02d}.png")
    return folder


def reader() -> Reader:
    return Reader(lambda path: prepare(path, Preprocessing(size=SIZE))[1].images[0])


def test_candidates_are_closed_form_methods() -> None:
    assert all(DETECTORS[name].steps == 0 for name in CANDIDATES)


def test_each_image_gets_two_defects_and_most_of_it_stays() -> None:
    parts = good_parts(6, SIZE)
    spoiled = with_defects(parts, seed=0)
    changed = (spoiled - torch.cat([parts, parts])).abs().amax(1) > 1e-3
    shares = changed.float().mean((1, 2))
    assert spoiled.shape == (12, 3, *SIZE)
    assert (shares > 0).all()
    assert shares.median() < 0.5
    assert torch.equal(spoiled, with_defects(parts, seed=0))
    assert not torch.equal(spoiled, with_defects(parts, seed=1))


def test_a_trial_is_repeatable_and_gives_every_candidate_a_figure(good: Path) -> None:
    paths = sorted(good.iterdir())
    choice = choose(paths, reader(), {"backbone": FakeBackbone()})
    assert choice == choose(paths, reader(), {"backbone": FakeBackbone()})
    assert list(choice.aurocs) == list(CANDIDATES)
    assert all(0.5 < value <= 1 for value in choice.aurocs.values())
    assert choice.method in CANDIDATES
    assert (
        f"AUROC on 8 good images with and without invented defects: patchcore {choice.aurocs['patchcore']:.3f}"
        in choice.reason
    )


def test_the_first_of_those_that_are_level_is_taken() -> None:
    level = _best({"patchcore": 0.9, "padim": 0.9 + LEVEL / 2, "subspacead": 0.5}, 8)
    assert level.method == "patchcore"
    assert level.reason.endswith("patchcore is level with the highest (within 0.01) and preferred")
    clear = _best({"patchcore": 0.9, "padim": 0.95, "subspacead": 0.5}, 8)
    assert clear.method == "padim"
    assert clear.reason.endswith("padim is the highest")


def test_too_few_images_for_a_trial(good: Path) -> None:
    choice = choose(sorted(good.iterdir())[:7], reader(), {})
    assert (choice.method, choice.aurocs) == ("patchcore", {})
    assert choice.reason == "7 good images are too few for a trial (at least 8)"


def test_settings_of_one_method_are_refused(good: Path) -> None:
    with pytest.raises(
        SettingsError, match="--method auto tries patchcore, padim, subspacead, .* bank_limit is not one"
    ):
        choose(sorted(good.iterdir()), reader(), {"bank_limit": 5})


def test_the_trial_sees_what_the_fit_will(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zones where the part lies in each photograph, and prints drawn into others."""
    seen = {}

    def tried(paths: list[Path], reader: Reader, settings: object, *, plan: Plan, **rest: object) -> Choice:
        seen["image"], seen["plan"] = reader.load(paths[0]), plan
        return Choice("patchcore", "", {})

    class Elsewhere:
        """Finds every part in the lower half."""

        @classmethod
        def fit(cls, paths: list[Path], *, seed: int) -> Elsewhere:
            return cls()

        def places(self, pixels: np.ndarray, zones: tuple[Zone, ...]) -> list[np.ndarray]:
            return [np.arange(pixels.shape[0])[:, None] + np.zeros(pixels.shape[1]) >= 32 for _ in zones]

    monkeypatch.setattr("andon.pipeline.fitting.choose", tried)
    monkeypatch.setattr("andon.pipeline.fitting.Aligner", Elsewhere)
    zone = Zone.box("label", (0, 0, 0.5, 1))
    options = FitOptions(size=SIZE, ignore=(zone,), align=True, print_into=(zone,), copies=3)
    _chosen(good, options, {}, None)
    assert seen["image"][:, 32:].std((1, 2)).max() < 1e-6
    assert seen["image"][:, :32].std((1, 2)).min() > 0.01
    assert seen["plan"].copies == 3
    assert seen["plan"].augment.prints is not None


def test_the_reason_is_kept_with_the_detector(good: Path, tmp_path: Path) -> None:
    predictor = andon.fit(good, tmp_path / "part.andon", method="auto", size=SIZE, backbone=FakeBackbone())
    auto = predictor.manifest["fit"]["auto"]
    assert predictor.manifest["detector"]["method"] == auto["method"]
    assert auto["reason"].startswith("AUROC on 6 good images")
