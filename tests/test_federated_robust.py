"""Rules that stand up to wrong sites: each formula, what each rule survives, and what the server's own images find."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from andon.errors import AndonError, DataError, SettingsError
from andon.federated import (
    Contribution,
    InProcess,
    Plan,
    Privacy,
    Refused,
    Report,
    default_aggregate,
    run,
    sites_of_folders,
)
from andon.federated.attacks import flooding, noised, replaced, scaled
from andon.federated.robust import (
    checked,
    checked_rows,
    chosen_by_krum,
    coordinate_median,
    figure_on,
    good_distance,
    krum,
    robust,
    trimmed_mean,
)
from andon.federated.sites import build_detector, good_images
from andon.models import build
from andon.models.base import Detector, State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD
from fakes import FakeBackbone, good_parts, plant_defects

SIZE = (64, 64)
BAD = 2  # of seven sites
MAKERS: dict[str, Any] = {
    "position": lambda: PaDiM(FakeBackbone(), dimensions=4),
    "shared": lambda: PaDiM(FakeBackbone(), dimensions=4, covariance="shared"),
    "diagonal": lambda: PaDiM(FakeBackbone(), dimensions=4, covariance="diagonal"),
    "subspacead": lambda: SubspaceAD(FakeBackbone()),
}


@pytest.fixture(scope="module")
def shared() -> list[Tensor]:
    """Seven sites' good images."""
    return [good_parts(4, SIZE, seed=site) for site in range(7)]


@pytest.fixture(scope="module")
def own_good() -> list[Tensor]:
    """The server's."""
    return [good_parts(4, SIZE, seed=50)]


def contributions(detector: Detector, shared: list[Tensor]) -> list[Contribution]:
    out = []
    for number, images in enumerate(shared):
        detector.reset()
        detector.observe(images)
        out.append(Contribution(f"site {number}", detector.statistics(), len(images)))
    detector.reset()
    return out


def spoiled(honest: list[Contribution], change: Any) -> list[Contribution]:
    return [change(one) if number < BAD else one for number, one in enumerate(honest)]


# --- formulas -------------------------------------------------------------------------------------------------------------------


def test_rules_against_plain_ones() -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 11))
    of = torch.from_numpy(vectors)
    np.testing.assert_allclose(coordinate_median(of), np.median(vectors, axis=0))
    np.testing.assert_allclose(coordinate_median(of[:6]), np.median(vectors[:6], axis=0))
    np.testing.assert_allclose(trimmed_mean(2)(of), np.sort(vectors, axis=0)[2:5].mean(0))
    np.testing.assert_allclose(trimmed_mean(0)(of), vectors.mean(0))
    scores = []
    for own in vectors:
        squared = np.sort(((vectors - own) ** 2).sum(1))[1:]
        scores.append(squared[: 7 - 2 - 2].sum())
    assert int(chosen_by_krum(of, bad=2)) == int(np.argmin(scores))
    best = np.sort(np.argsort(scores)[:3])
    np.testing.assert_allclose(krum(2, keep=3)(of), vectors[best].mean(0))


def test_too_few_sites_are_refused() -> None:
    four = torch.zeros(4, 2)
    with pytest.raises(SettingsError, match="to leave out 2 at each end takes more than 4 sites, got 4"):
        trimmed_mean(2)(four)
    with pytest.raises(
        SettingsError,
        match=r"Krum with 1 bad sites needs at least 5 sites and keeps 1 to m - 1 of them; got m = 4",
    ):
        krum(1)(four)


# --- rules on states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_sites_that_agree_are_one(kind: str, shared: list[Tensor]) -> None:
    detector = MAKERS[kind]()
    (one,) = contributions(detector, shared[:1])
    for rule in (trimmed_mean(1), coordinate_median, krum(1)):
        state = robust(detector, rule)([one] * 5)
        for name in ("total", "second"):
            torch.testing.assert_close(state[name], 5 * one.state[name], rtol=1e-9, atol=1e-9)
        assert float(state["count"]) == 5 * float(one.state["count"])


@pytest.mark.parametrize("rule", [trimmed_mean(BAD), coordinate_median, krum(BAD, keep=3)])
@pytest.mark.parametrize("kind", MAKERS)
def test_what_bad_sites_do_to_moments(kind: str, rule: Any, shared: list[Tensor]) -> None:
    """The mean goes where they want it, the rules stay near it, and the detector still works."""
    detector = MAKERS[kind]()
    honest = contributions(detector, shared)
    wanted = default_aggregate(detector)(honest)

    def away(state: State) -> float:
        mean, truth = (of["total"] / of["count"] for of in (state, wanted))
        return float((mean - truth).norm() / truth.norm())

    far = spoiled(honest, lambda one: replace(one, state={**one.state, "total": 50 * one.state["total"]}))
    assert away(default_aggregate(detector)(far)) > 5
    state = robust(detector, rule)(far)
    assert away(state) < 0.2
    detector.load_statistics(state)
    detector.close()
    defects, _ = plant_defects(good_parts(4, SIZE, seed=8))
    scores = detector(torch.cat([good_parts(4, SIZE, seed=9), defects])).image_score
    assert scores[:4].max() < scores[4:].min()


def test_a_site_that_says_it_has_more_images_counts_no_more(shared: list[Tensor]) -> None:
    detector = MAKERS["position"]()
    honest = contributions(detector, shared)
    more = spoiled(honest, scaled(1000.0))  # count and sums alike: the same means
    rule = robust(detector, coordinate_median)
    for name, tensor in rule(honest).items():
        torch.testing.assert_close(rule(more)[name], tensor)
    without = rule(spoiled(honest, scaled(-1.0)))  # of less than no image: they do not count
    torch.testing.assert_close(without["total"], rule(honest[BAD:])["total"])
    with pytest.raises(DataError, match="no site's moments are of any image"):
        rule([scaled(-1.0)(one) for one in honest])


@pytest.mark.parametrize("rule", [trimmed_mean(BAD), coordinate_median, krum(BAD, keep=3)])
def test_weights_of_bad_sites(rule: Any) -> None:
    detector = build("autoencoder", width=2, latent=4, steps=2)
    generator = torch.Generator().manual_seed(0)
    begun = detector.statistics()
    honest = [
        Contribution(f"site {n}", {name: of + 0.01 * torch.randn(of.shape, generator=generator) if of.is_floating_point() else of for name, of in begun.items()}, 3)
        for n in range(7)
    ]  # fmt: skip
    merged = robust(detector, rule)(spoiled(honest, scaled(-30.0)))
    assert (
        max(
            float((merged[name] - begun[name]).abs().max())
            for name in begun
            if begun[name].is_floating_point()
        )
        < 0.06
    )
    assert merged["images_seen"].dtype == torch.int64
    detector.load_statistics(merged)


def test_banks_are_no_vectors() -> None:
    with pytest.raises(
        SettingsError, match="statistics of PatchCore are no vectors .* there is checked_rows"
    ):
        robust(PatchCore(FakeBackbone()), coordinate_median)


# --- a look at each site --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["position", "subspacead"])
def test_each_site_by_itself(kind: str, shared: list[Tensor], own_good: list[Tensor]) -> None:
    detector = MAKERS[kind]()
    honest = contributions(detector, shared)
    told: list[Refused] = []
    rule = checked(detector, own_good, default_aggregate(detector), tell=told.append)
    for name, tensor in rule(honest).items():
        torch.testing.assert_close(tensor, default_aggregate(detector)(honest)[name])
    assert not told
    (other,) = contributions(detector, [torch.rand(4, 3, *SIZE)])
    bad = [replaced(other.state)(honest[0]), noised(3.0)(honest[1]), *honest[2:]]
    state = rule(bad)
    assert [one.site for one in told] == ["site 0", "site 1"]
    assert "on the server's good images it finds" in told[0].reason
    torch.testing.assert_close(state["total"], default_aggregate(detector)(honest[2:])["total"])


def test_a_covariance_that_was_blown_up_is_found(shared: list[Tensor], own_good: list[Tensor]) -> None:
    """Such a site would find nothing odd, on good images and on bad ones."""
    detector = MAKERS["position"]()
    honest = contributions(detector, shared)
    wide = spoiled(honest, lambda one: replace(one, state={**one.state, "second": 30 * one.state["second"]}))
    told: list[Refused] = []
    checked(detector, own_good, default_aggregate(detector), tell=told.append)(wide)
    assert [one.site for one in told] == ["site 0", "site 1"]


def test_what_cannot_be_closed_is_refused(shared: list[Tensor], own_good: list[Tensor]) -> None:
    detector = MAKERS["position"]()
    honest = contributions(detector, shared)
    broken = {**honest[0].state, "second": -honest[0].state["second"]}
    assert figure_on(detector, broken, own_good) == math.inf
    with pytest.raises(AndonError, match="no site's detector takes the server's good images for good"):
        checked(detector, own_good, default_aggregate(detector))([replace(honest[0], state=broken)])
    with pytest.raises(SettingsError, match="the check needs good images and a factor above 1"):
        checked(detector, [], default_aggregate(detector))


# --- banks ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank_sites(shared: list[Tensor]) -> list[Contribution]:
    return [
        Contribution(f"site {number}", bank_of(images), len(images)) for number, images in enumerate(shared)
    ]


def bank_of(images: Tensor) -> State:
    detector = PatchCore(FakeBackbone(), coreset_fraction=0.1)
    detector.observe(images)
    detector.close()
    return detector.kept_statistics()


def test_good_distance_is_between_images() -> None:
    patches = torch.tensor([[[0.0], [1.0]], [[3.0], [1.5]]])
    assert good_distance(patches) == pytest.approx(float(np.quantile([1.5, 0.5, 2.0, 0.5], 0.99)))
    with pytest.raises(SettingsError, match="at least 2 good images, got 1"):
        good_distance(patches[:1])


def test_rows_that_are_no_good_patches_do_not_count(
    bank_sites: list[Contribution], own_good: list[Tensor]
) -> None:
    detector = PatchCore(FakeBackbone())
    told: list[Refused] = []
    rule = checked_rows(detector, own_good, tell=told.append)
    honest = len(rule(bank_sites)["patches"])
    assert honest > 0.9 * sum(len(one.state["patches"]) for one in bank_sites)
    told.clear()
    defects = bank_of(plant_defects(good_parts(2, SIZE, seed=8))[0])
    both = torch.cat([bank_sites[0].state["patches"], defects["patches"]])
    bad = [replace(bank_sites[0], state={**bank_sites[0].state, "patches": both}),
           flooding(500, 5.0)(bank_sites[1]), *bank_sites[2:]]  # fmt: skip
    merged = rule(bad)["patches"]
    assert {one.site for one in told} >= {"site 0", "site 1"}
    assert "rows are far from every good patch" in told[0].reason
    assert honest * 0.8 < len(merged) < honest + len(defects["patches"])
    only_bad = [replace(bank_sites[0], state={**bank_sites[0].state, "patches": both + 100})]
    with pytest.raises(AndonError, match="no site's rows lie near the server's good patches"):
        rule(only_bad)


def test_a_quota_bounds_what_a_site_says(bank_sites: list[Contribution], own_good: list[Tensor]) -> None:
    detector = PatchCore(FakeBackbone())
    merged = checked_rows(detector, own_good, quota=5, slack=100)(bank_sites)
    assert torch.equal(merged["patches"], torch.cat([one.state["patches"][:5] for one in bank_sites]))
    assert int(merged["seen"]) == 28


def test_a_flood_shows_in_the_mean_of_the_rows(bank_sites: list[Contribution]) -> None:
    flooded = flooding(10, 2.0)(bank_sites[0])
    assert len(flooded.state["patches"]) == len(bank_sites[0].state["patches"]) + 10
    assert flooded.site == "site 0"


# --- over the engine ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three plants' folders of ten images; the last one's shows something else."""
    root, out = tmp_path_factory.mktemp("plants"), []
    for number, name in enumerate(("oslo", "turku", "odd")):
        images = good_parts(10, SIZE, seed=number) if name != "odd" else torch.rand(10, 3, *SIZE)
        (root / name).mkdir()
        for place, image in enumerate(images):
            pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{place}.png")
        out.append(root / name)
    return out


@pytest.mark.parametrize("method", ["padim", "patchcore"])
def test_who_was_left_out_stands_in_the_report(
    method: str, folders: list[Path], own_good: list[Tensor]
) -> None:
    plan = Plan(method, {"backbone": FakeBackbone()}, SIZE)
    told: list[Report] = []
    outcome = run(InProcess(sites_of_folders(folders)), plan, check=own_good, on_round=told.append)
    first = outcome.reports[0]
    assert [one.site for one in first.refused] == ["odd"]
    assert first.answered == ("odd", "oslo", "turku")  # it answered, and did not count
    assert told[0] == first
    scores = outcome.detector(torch.cat([good_parts(2, SIZE, seed=9), torch.rand(2, 3, *SIZE)])).image_score
    assert scores[:2].max() < scores[2:].min()


def test_the_plans_rule_is_taken(folders: list[Path]) -> None:
    plan = Plan("subspacead", {"backbone": FakeBackbone()}, SIZE, rule="median")
    by_rule = run(InProcess(sites_of_folders(folders)), plan)
    by_hand = run(
        InProcess(sites_of_folders(folders)),
        replace(plan, rule="mean"),
        aggregate=robust(build_detector(plan), coordinate_median),
    )
    for name, tensor in by_hand.state.items():
        torch.testing.assert_close(by_rule.state[name], tensor)
    with pytest.raises(SettingsError, match="Krum with 1 bad sites needs at least 5 sites"):
        run(InProcess(sites_of_folders(folders)), replace(plan, rule="krum"))


def test_rules_that_make_no_sense_are_refused(own_good: list[Tensor]) -> None:
    with pytest.raises(
        SettingsError, match="rule must be mean, trimmed-mean, median or krum, and bad at least 0"
    ):
        Plan(rule="mode")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="would compare their noise; give privacy or a rule, not both"):
        Plan(rule="median", privacy=Privacy(1.0))
    with pytest.raises(SettingsError, match="statistics of PatchCore are no vectors"):
        run(InProcess([]), Plan("patchcore", {"backbone": FakeBackbone()}, SIZE, rule="median"))
    private = Plan("autoencoder", {"width": 2, "norm": "group", "score": "peak"}, SIZE, privacy=Privacy(1.0))
    with pytest.raises(SettingsError, match="noise hides what a check would look at"):
        run(InProcess([]), private, check=own_good)


def test_the_servers_own_images_are_all_those_of_its_folder(folders: list[Path]) -> None:
    batches = good_images(folders[0], Plan(size=SIZE))
    assert sum(len(batch) for batch in batches) == 10
    assert batches[0].shape[1:] == (3, *SIZE)
