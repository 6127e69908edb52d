"""What leaves a private site, and stops at its promise: masks, the account, rounds, private training, the command line."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from andon.errors import DataError, SettingsError
from andon.federated import Contribution, InProcess, Plan, Privacy, Site, run
from andon.federated.privacy import (
    Budget,
    Masked,
    Spent,
    SpentError,
    agreed_seeds,
    epsilon_spent,
    key_pair,
    masked_expected,
    noise_for,
    unmasked,
)
from andon.federated.privacy.training import descend_privately, private_training
from andon.federated.sites import build_detector
from andon.federated.telling import plan_from
from andon.federated.wire import expected_of, require_like
from andon.pipeline.parts import Parts
from andon.training import Images
from fakes import FakeBackbone, good_parts

SIZE = (64, 64)
MANY = Privacy(1e4, public_images=2)  # hardly any noise


# --- secure aggregation ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds() -> dict[str, dict[str, bytes]]:
    keys = {name: key_pair() for name in ("bergen", "oslo", "turku")}
    public = {name: pair[1] for name, pair in keys.items()}
    return {name: agreed_seeds(name, pair[0], public) for name, pair in keys.items()}


def test_two_sites_agree_and_nobody_else(seeds: dict[str, dict[str, bytes]]) -> None:
    assert seeds["oslo"]["turku"] == seeds["turku"]["oslo"] != seeds["oslo"]["bergen"]
    assert set(seeds["oslo"]) == {"bergen", "turku"}


def test_a_masked_sum_is_the_sum(seeds: dict[str, dict[str, bytes]]) -> None:
    states = {
        name: {"x": torch.randn(3, 4, dtype=torch.float64) * 1e4, "n": torch.tensor([7])} for name in seeds
    }
    masked = [Masked(seeds[name], b"1")(Contribution(name, state, 5)) for name, state in states.items()]
    expected = masked_expected({"x": (torch.float64, (3, 4)), "n": (torch.int64, (1,))})
    for one in masked:
        require_like(one.state, expected, one.site)
    dtypes = {"x": torch.float64, "n": torch.int64}
    sums = unmasked(
        lambda whole: {**whole[0].state, "images": torch.tensor(whole[0].images)}, dtypes, list(seeds)
    )(masked)
    torch.testing.assert_close(sums["x"], sum(state["x"] for state in states.values()), rtol=0, atol=3e-7)
    assert (int(sums["n"]), int(sums["images"])) == (7, 15)


def test_one_masked_answer_says_nothing(seeds: dict[str, dict[str, bytes]]) -> None:
    zeros = Contribution("oslo", {"x": torch.zeros(20_000, dtype=torch.float64)}, 1)
    one, again = (Masked(seeds["oslo"], nonce)(zeros).state["x"] for nonce in (b"1", b"2"))
    shares = one.double() / 2.0**63
    assert abs(float(shares.mean())) < 0.02
    assert float(shares.std()) == pytest.approx(1 / math.sqrt(3), abs=0.01)  # uniform in [-1, 1)
    assert float((one == again).double().mean()) == 0


def test_a_missing_site_is_never_summed_over(seeds: dict[str, dict[str, bytes]]) -> None:
    one = Masked(seeds["oslo"])(Contribution("oslo", {"x": torch.zeros(2)}, 1))
    with pytest.raises(DataError, match="missing: bergen, turku. Begin again"):
        unmasked(lambda whole: {}, {"x": torch.float32}, list(seeds))([one])


def test_what_masks_cannot_hide_is_refused(seeds: dict[str, dict[str, bytes]]) -> None:
    with pytest.raises(SettingsError, match="coarser grid"):
        Masked(seeds["oslo"])(Contribution("oslo", {"x": torch.tensor([1e13])}, 1))
    with pytest.raises(SettingsError, match="a site alone"):
        Masked({})(Contribution("oslo", {}, 1))
    with pytest.raises(SettingsError, match="the rows of patches are of any number"):
        masked_expected({"patches": (torch.float32, (None, 4))})


# --- the account ----------------------------------------------------------------------------------------------------------------


def test_a_site_stops_at_its_promise(tmp_path: Path) -> None:
    budget = Budget(2.0, 1e-5, tmp_path / "told.json")
    z = noise_for(2.0, 1e-5, releases=2)
    assert budget.spend(Spent(z)) < budget.spend(Spent(z)) == pytest.approx(2.0)
    with pytest.raises(
        SpentError, match=r"another answer would bring .* to epsilon 2.5\d* at delta 1e-05, and 2 is"
    ):
        budget.spend(Spent(z))
    assert len(Budget(2.0, 1e-5, tmp_path / "told.json").spent()) == 2  # another process sees it, too
    (tmp_path / "told.json").write_text("[]")
    with pytest.raises(DataError, match="bring it back from a copy"):
        budget.spend(Spent(z))


# --- rounds ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Site]:
    """Two sites of eight good images each."""
    folder, paths = tmp_path_factory.mktemp("private"), []
    for number, part in enumerate(good_parts(20, SIZE, seed=4)):
        paths.append(folder / f"{number:02}.png")
        Image.fromarray((part.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(paths[-1])
    return [
        Site("oslo", Parts(paths[:8], [], paths[16:18], {})),
        Site("turku", Parts(paths[8:16], [], paths[18:], {})),
    ]


@pytest.mark.parametrize(
    ("method", "lloyd"), [("padim", 1), ("subspacead", 1), ("patchcore", 1), ("patchcore", 2)]
)
def test_private_rounds(method: str, lloyd: int, sites: list[Site], tmp_path: Path) -> None:
    privacy = replace(MANY, lloyd=lloyd, centres=48)  # more than good patches visit
    plan = Plan(method, {"backbone": FakeBackbone(), **({"dimensions": 6} if method == "padim" else {})}, SIZE,
                privacy=privacy)  # fmt: skip
    budgets = [replace(site, budget=Budget(1e4, 1e-5, tmp_path / site.name)) for site in sites]
    outcome = run(InProcess(budgets), plan)
    assert [report.kind for report in outcome.reports] == ["observe"] * lloyd + ["finish"]
    assert all(not report.refused for report in outcome.reports)
    assert torch.isfinite(outcome.detector(good_parts(1, SIZE)).anomaly_map).all()
    told = outcome.calibrations["oslo"]
    assert math.isnan(told.threshold)
    assert (told.calibration_images, told.statement[:35]) == (0, "the threshold stays at this site: i")
    again = run(InProcess(budgets[:1] + sites[1:]), replace(plan, min_sites=1))
    (refused,) = again.reports[0].refused
    assert "SpentError: another answer would bring what was told" in refused.reason


def test_a_site_with_a_promise_refuses_a_plan_without(sites: list[Site], tmp_path: Path) -> None:
    plan = Plan("subspacead", {"backbone": FakeBackbone()}, SIZE)
    one = replace(sites[0], budget=Budget(1.0, 1e-5, tmp_path / "told"))
    report = run(InProcess([one, sites[1]]), plan).reports[0]
    assert "this site tells nothing without noise (epsilon 1 at most)" in report.refused[0].reason


def test_a_plan_travels_with_its_privacy() -> None:
    plan = Plan(privacy=Privacy(3.0, lloyd=2))
    assert plan_from(asdict(plan)) == plan
    assert plan_from(asdict(Plan())) == Plan()


def test_masked_rounds_are_the_sum(sites: list[Site]) -> None:
    """Over the engine: the server merges what it cannot read one by one."""
    keys = {site.name: key_pair() for site in sites}
    public = {name: pair[1] for name, pair in keys.items()}
    plan = Plan("subspacead", {"backbone": FakeBackbone()}, SIZE)
    masked = [
        replace(s, release=Masked(agreed_seeds(s.name, keys[s.name][0], public), grid=2.0**-16))
        for s in sites
    ]
    detector = build_detector(plan)
    dtypes = {name: dtype for name, (dtype, _) in expected_of(detector, SIZE).items()}
    rule = unmasked(lambda whole: whole[0].state, dtypes, [s.name for s in sites], grid=2.0**-16)
    hidden = run(
        InProcess(masked), plan, aggregate=rule, expected=masked_expected(expected_of(detector, SIZE))
    )
    plain = run(InProcess(sites), plan)
    for name in plain.state:
        torch.testing.assert_close(hidden.state[name], plain.state[name], rtol=1e-6, atol=1e-4)


# --- private training -------------------------------------------------------------------------------------------------------------


TRAINED = {"width": 2, "latent": 4, "steps": 6, "batch_size": 8, "norm": "group", "score": "peak"}


def test_private_training_goes_through_its_rounds(sites: list[Site], tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    plan = Plan("autoencoder", TRAINED, SIZE, rounds=2, privacy=Privacy(8.0, 1e-3))
    budgets = [replace(site, budget=Budget(8.0, 1e-3, tmp_path / site.name)) for site in sites]
    outcome = run(InProcess(budgets), plan)
    assert [report.kind for report in outcome.reports] == ["observe", "train", "train", "finish"]
    assert all(not report.refused for report in outcome.reports)
    spent = budgets[0].budget.spent()  # type: ignore[union-attr]
    assert [(one.sampling, one.times) for one in spent] == [(1.0, 3), (1.0, 3)]  # eight images, eight a step
    assert epsilon_spent(spent, 1e-3) <= 8.0


def test_one_image_moves_a_step_by_no_more_than_its_clip(sites: list[Site]) -> None:
    """Plain descent at rate 1 and hardly any noise: the weights move by at most clip / expected images a drawn image."""
    pytest.importorskip("opacus")
    from andon.models.base import Phase, Turn

    detector = build_detector(Plan("autoencoder", TRAINED, SIZE))
    before = {name: of.detach().clone() for name, of in detector.named_parameters()}
    turn = Turn(detector.loss, list(detector.parameters()), lambda of: torch.optim.SGD(of, lr=1.0))
    paths = sites[0].parts.train[:1]
    images = Images(paths, lambda path: np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255)
    privacy = Privacy(1e4, clip=1e-3)
    descend_privately(
        detector, images, Phase("train", 1, (turn,)), turn, privacy, 1.0, 1e-9, np.random.default_rng(0)
    )
    moved = math.sqrt(
        sum(float((of.detach() - before[name]).square().sum()) for name, of in detector.named_parameters())
    )
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert not any(hasattr(of, "grad_sample") for of in detector.parameters())


def test_what_cannot_be_trained_privately_is_refused() -> None:
    with pytest.raises(SettingsError, match="give the setting norm=group"):
        run(InProcess([]), Plan("autoencoder", {**TRAINED, "norm": "batch"}, SIZE, privacy=MANY))
    with pytest.raises(SettingsError, match="would be told without noise; give the setting score=peak"):
        run(InProcess([]), Plan("autoencoder", {**TRAINED, "score": "unusual"}, SIZE, privacy=MANY))
    with pytest.raises(SettingsError, match="stfpm cannot be trained privately; autoencoder can"):
        run(InProcess([]), Plan("stfpm", {"backbone": FakeBackbone()}, SIZE, privacy=MANY))
    with pytest.raises(SettingsError, match="FedProx's term is no image's gradient"):
        run(InProcess([]), Plan("autoencoder", TRAINED, SIZE, proximal=0.1, privacy=MANY))
    with pytest.raises(SettingsError, match="the plan promises no privacy"):
        private_training(Plan())
    with pytest.raises(SettingsError, match="norm must be one of"):
        build_detector(Plan("autoencoder", {**TRAINED, "norm": "layer"}))


# --- the command line -------------------------------------------------------------------------------------------------------------


def test_simulate_with_a_promise(sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from andon.calibrate import uncalibrated
    from andon.cli.federate import command
    from andon.federated.privacy import statistic

    monkeypatch.setattr(statistic, "public_images", lambda size, count, seed: torch.rand(4, 3, *size))
    monkeypatch.setattr(Site, "_export", lambda *told: uncalibrated())
    folder = str(sites[0].parts.train[0].parent)
    asked = ["simulate", folder, "-o", str(tmp_path), "--no-ray", "--size", "64x64", "--epsilon", "1000"]
    done = CliRunner().invoke(command, [*asked, "--method", "subspacead"])
    assert done.exit_code == 0, done.output
    assert "threshold nan; the threshold stays at this site" in done.output
    refused = CliRunner().invoke(command, [*asked, "--method", "fre"])
    assert "fre has no private statistics" in str(refused.exception)


def test_a_sites_promise_is_in_its_settings(sites: list[Site], tmp_path: Path) -> None:
    pytest.importorskip("flwr")
    from andon.federated.flower_client import read_site
    from andon.federated.telling import write_settings

    folder = sites[0].parts.train[0].parent
    write_settings(tmp_path / "site.json", "oslo", folder, tmp_path / "oslo.andon", (2.0, 1e-5))
    assert read_site(tmp_path / "site.json").budget == Budget(2.0, 1e-5, folder.resolve() / "andon-told.json")
    write_settings(tmp_path / "site.json", "oslo", folder, tmp_path / "oslo.andon")
    assert read_site(tmp_path / "site.json").budget is None
