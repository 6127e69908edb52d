"""Several detectors as one: the contract that all keep, its arithmetic, its names and settings."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.stats import combine_pvalues, expon
from torch import Tensor

import test_contract as contract
from andon.errors import DataError, SettingsError
from andon.export import to_onnx
from andon.models import DETECTORS, accepts, build, defaults, method_of
from andon.models.base import Look, Phase
from andon.models.fusion import RULES, Fusion, Tails, part
from andon.training import train
from fakes import FakeBackbone, good_parts

PAIR = "fre+gcad"  # one closed form, one that trains
OTHERWISE = (  # they ask for a method's class by one name, or for its name as a pattern
    "test_settings_survive_json_and_build",
    "test_the_defaults_build_and_survive_json",
    "test_unknown_setting_lists_the_known_ones",
    "test_takes_images_that_are_taller_than_wide",  # of a pair, it is what it is of the members
)
PROMISES = [
    check
    for name, check in vars(contract).items()
    if name.startswith("test_") and name not in OTHERWISE and "method" in inspect.signature(check).parameters
]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return contract._Fitted()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair, as if it were in the registry that the contract's tests look into."""
    gcad = {f"gcad.{key}": value for key, value in contract.SMALL["gcad"].items()}
    monkeypatch.setattr(contract, "DETECTORS", {**DETECTORS, PAIR: Fusion})
    monkeypatch.setattr(contract, "SMALL", {PAIR: {"backbone": FakeBackbone(), **gcad}})
    monkeypatch.setattr(contract, "BOUNDED", {PAIR: {"fre.buffer_limit": 6}})


@pytest.mark.parametrize("promise", PROMISES, ids=lambda check: check.__name__)
def test_keeps_the_contract(
    promise: Callable[..., None], known: None, fitted: dict[str, Any], tmp_path: Path
) -> None:
    given = {"method": PAIR, "fitted": fitted, "tmp_path": tmp_path, "value": 1.0}
    promise(**{name: given[name] for name in inspect.signature(promise).parameters})


# --- arithmetic


def test_the_tail_is_that_of_an_exponential_fitted_to_the_largest_values() -> None:
    values = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    tails = Tails(1)
    tails.fit(values)
    top = np.sort(values.double().numpy()[:, 0])[::-1]
    excess = top[:20] - top[20]  # a tenth of 200
    scale = expon.fit(excess, floc=0)[1]
    for s in (top[5], top[0], top[0] + 3):
        expected = -(math.log(20 / 200) + expon.logsf(s - top[20], scale=scale))
        assert tails(torch.tensor([[s]]).float()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (10, 9), (11, 10), (15, 10), (100, 10), (101, 10), (300, 30)])
def test_as_many_excesses_as_there_are_up_to_ten_then_a_tenth(n: int, k: int) -> None:
    tails = Tails(1)
    tails.fit(torch.arange(float(n))[:, None])
    assert tails.threshold.item() == n - 1 - k
    assert tails.level.item() == pytest.approx(math.log(n / k))


def test_p_values_hold_on_new_good_scores() -> None:
    """Of exponential scores, with 15 held out: about as many are below p = 0.05 as that says."""
    generator = torch.Generator().manual_seed(3)
    rates = []
    for _ in range(400):
        tails = Tails(1)
        tails.fit(torch.empty(15, 1).exponential_(generator=generator))
        new = torch.empty(200, 1).exponential_(generator=generator)
        rates.append(float((tails(new) > -math.log(0.05)).float().mean()))
    assert 0.04 < np.mean(rates) < 0.09


def test_beyond_the_largest_score_it_goes_on_rising_and_so_it_does_below_the_smallest() -> None:
    tails = Tails(1)
    tails.fit(torch.randn(15, 1, generator=torch.Generator().manual_seed(0)))
    values = tails(torch.linspace(-50, 50, 400)[:, None])[:, 0]
    assert (values.diff() > 0).all()


def test_equal_held_out_scores_do_not_explode() -> None:
    tails = Tails(2)
    tails.fit(torch.tensor([[2.0, 0.0]]).repeat(12, 1))
    assert torch.isfinite(tails(torch.tensor([[2.1, 1.0]]))).all()
    assert (tails(torch.tensor([[2.1, 1.0]])) > tails(torch.tensor([[2.0, 0.0]]))).all()


def test_rules_are_those_of_their_papers() -> None:
    p = np.array([[0.01, 0.4], [0.2, 0.3], [0.9, 1e-4]])
    logs = torch.from_numpy(-np.log(p))
    answers = {name: rule(logs).numpy() for name, rule in RULES.items()}
    np.testing.assert_allclose(np.exp(-answers["harmonic"]), 2 / (1 / p).sum(1))
    np.testing.assert_allclose(2 * answers["fisher"], [combine_pvalues(row, method="fisher")[0] for row in p])
    np.testing.assert_allclose(
        np.exp(-answers["smallest"]), [combine_pvalues(row, method="tippett")[0] for row in p]
    )


def test_harmonic_stays_finite_far_out() -> None:
    assert RULES["harmonic"](torch.tensor([[5000.0, -5000.0]])).item() == pytest.approx(5000 - math.log(2))


# --- members


def pair(**settings: Any) -> Fusion:
    detector = build("padim+fre", backbone=FakeBackbone(), **{"padim.dimensions": 8, **settings})
    assert isinstance(detector, Fusion)
    for images in good_parts(12, seed=1).split(4):
        detector.observe(images)
    return detector


def held_out(count: int) -> list[Tensor]:
    return list(good_parts(count, seed=2).split(4)) if count else []


def test_an_answer_is_the_members_answers_by_their_tails_combined() -> None:
    detector = pair()
    detector.close(held_out(10))
    images = good_parts(3, seed=4)
    answers = [member(images) for _, member in detector.each()]
    logs = detector.score_tails(torch.stack([a.image_score for a in answers], 1))
    maps = detector.map_tails(torch.cat([a.anomaly_map for a in answers], 1))
    torch.testing.assert_close(detector(images).image_score, torch.logsumexp(logs, 1) - math.log(2))
    torch.testing.assert_close(detector(images).anomaly_map[:, 0], torch.logsumexp(maps, 1) - math.log(2))


def test_a_member_on_another_scale_changes_nothing() -> None:
    """That is what the tails are for: padim in units of a millionth answers alike."""
    plain, scaled = pair(), pair()
    padim = dict(scaled.each())["padim"]
    forward = padim.forward
    padim.forward = lambda images: forward(images)._replace(  # type: ignore[method-assign]
        anomaly_map=1e6 * forward(images).anomaly_map, image_score=1e6 * forward(images).image_score)  # fmt: skip
    for detector in (plain, scaled):
        detector.close(held_out(10))
    images = good_parts(3, seed=4)
    torch.testing.assert_close(scaled(images).image_score, plain(images).image_score, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled(images).anomaly_map, plain(images).anomaly_map, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_held_out_images_are_refused(count: int) -> None:
    with pytest.raises(
        DataError, match=rf"at least 2, better 10 or more, and got {count}\. Give more good images"
    ):
        pair().close(held_out(count))


def test_members_of_one_backbone_share_it() -> None:
    both = build("patchcore+fre")
    assert isinstance(both, Fusion)
    patchcore, fre = (member for _, member in both.each())
    assert patchcore.backbone is fre.backbone


def test_the_graph_as_it_runs_computes_a_shared_backbone_once(tmp_path: Path) -> None:
    detector = pair()
    detector.close(held_out(4))
    assert _convolutions_run(to_onnx(detector, (64, 96)), tmp_path) == 3  # as many as a FakeBackbone has


def _convolutions_run(graph: bytes, folder: Path) -> int:
    """Of the graph as ONNX Runtime runs it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "run.onnx")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return sum(node.op_type.endswith("Conv") for node in onnx.load(folder / "run.onnx").graph.node)


def test_backbones_of_other_layers_are_not_shared() -> None:
    both = build("patchcore+fre", **{"fre.layers": ["stride16"]})
    assert isinstance(both, Fusion)
    patchcore, fre = (member for _, member in both.each())
    assert patchcore.backbone is not fre.backbone


def test_phases_are_the_members_one_after_the_other_and_read_their_own_frozen_part() -> None:
    short = {name: {**contract.SMALL[name], "steps": steps} for name, steps in (("gcad", 10), ("stfpm", 4))}
    settings = {f"{name}.{key}": value for name, own in short.items() for key, value in own.items()}
    detector = build("gcad+stfpm", backbone=FakeBackbone(), **settings)
    assert isinstance(detector, Fusion)
    members = dict(detector.each())
    detector.observe(good_parts(8, seed=1))
    assert [phase.name for phase in detector.phases()] == [
        f"{member.title}: {phase.name}" for member in members.values() for phase in member.phases()
    ]
    assert detector.steps == sum(p.steps for p in detector.phases() if isinstance(p, Phase)) == 14
    frozen = detector.frozen(good_parts(2, seed=1))
    assert {key.split(".")[0] for key in frozen} <= set(members)
    assert part(frozen, "gcad").keys() == members["gcad"].frozen(good_parts(2, seed=1)).keys()
    images = good_parts(8, seed=1)
    alone = build("gcad", backbone=FakeBackbone(), **short["gcad"])
    alone.observe(images)
    for found in (detector, alone):
        train(found, lambda numbers: images[list(numbers)], len(images), lambda phase, done, total: None)
    assert any(isinstance(phase, Look) for phase in detector.phases())
    theirs, ours = alone.statistics(), part(detector.statistics(), "gcad")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# --- names and settings


def test_settings_go_to_the_member_named_and_to_all_where_none_is() -> None:
    detector = build(
        "patchcore+padim", seed=3, blur_sigma=2.0, **{"padim.blur_sigma": 1.0, "patchcore.bank_limit": 9}
    )
    settings = detector.settings()
    assert settings["patchcore.seed"] == settings["padim.seed"] == detector.seed == 3
    assert (settings["patchcore.blur_sigma"], settings["padim.blur_sigma"]) == (2.0, 1.0)
    assert settings["patchcore.bank_limit"] == 9
    again = build(method_of(detector), **json.loads(json.dumps(settings)))
    assert again.settings() == settings
    assert (detector.title, method_of(detector)) == ("PatchCore + PaDiM", "patchcore+padim")


def test_defaults_name_the_rule_and_every_members_settings() -> None:
    own = defaults("subspacead+fre")
    assert own.keys() == {
        "rule",
        *(f"subspacead.{s}" for s in defaults("subspacead")),
        *(f"fre.{s}" for s in defaults("fre")),
    }
    settings = build("subspacead+fre").settings()
    assert {name: value for name, value in settings.items() if not name.endswith(".layers")} == {
        name: value for name, value in own.items() if not name.endswith(".layers")
    }
    assert accepts("patchcore+fre", "seed")
    assert not accepts("subspacead+fre", "seed")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("patchcore+padin", {}, r"^there is no method 'padin'\. Did you mean 'padim'\?"),
        ("patchcore+", {}, r"^there is no method ''\."),
        ("fre+fre", {}, r"^fre\+fre names fre twice; a fusion is of different methods$"),
        ("fre+padim", {"colour": 1}, r"^fre\+padim has no setting 'colour'\. Its settings and their defaults are: rule='harm"),
        ("fre+padim", {"patchcore.seed": 1}, r"^fre\+padim has no setting 'patchcore\.seed'"),
        ("fre+padim", {"rule": "mean"}, r"^rule must be one of \['harmonic', 'fisher', 'smallest'\], got 'mean'$"),
        ("fre", {"fre.grid": 1}, r"^fre has no setting 'fre\.grid'"),
    ],
)  # fmt: skip
def test_wrong_names_are_said(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(method, **settings)


def test_the_state_of_other_members_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"^the statistics are not those of padim\+fre: expected held_out and entries"
    ):
        pair().load_statistics(build("padim+patchcore", backbone=FakeBackbone()).statistics())
