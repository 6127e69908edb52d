"""Privacy: what noise promises, that one image moves nothing further than said, and what leaves a private site."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from andon.errors import DataError, SettingsError
from andon.federated import Contribution, Plan, Privacy
from andon.federated.privacy import (
    ClippedSum,
    PrivateBank,
    PrivateMoments,
    Spent,
    delta_of,
    epsilon_of,
    epsilon_spent,
    guarantee_of,
    merge_privately,
    noise_for,
    observe_privately,
    statistic_of,
    training_noise,
)
from andon.federated.privacy.mechanism import COUNT, normal
from andon.federated.privacy.public import Frame, public_centres, public_images, smat, svec
from andon.federated.privacy.statistic import expected_private
from andon.federated.sites import build_detector
from andon.federated.wire import expected_of, require_like
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from andon.models.subspacead import SubspaceAD
from fakes import FakeBackbone, good_parts

SIZE = (64, 64)
MANY = Privacy(1e4, public_images=2)  # hardly any noise
KINDS: dict[str, Any] = {
    "position": lambda: PaDiM(FakeBackbone(), dimensions=4),
    "shared": lambda: PaDiM(FakeBackbone(), dimensions=4, covariance="shared"),
    "diagonal": lambda: PaDiM(FakeBackbone(), dimensions=4, covariance="diagonal"),
    "pooled": lambda: SubspaceAD(FakeBackbone()),
    "rotated": lambda: SubspaceAD(FakeBackbone(), rotations=2),
    "bank": lambda: PatchCore(FakeBackbone()),
}


@pytest.fixture(scope="module")
def public() -> Tensor:
    """Images like the good ones, of another light and with more noise."""
    generator = torch.Generator().manual_seed(5)
    return 0.8 * good_parts(6, SIZE, seed=99) + 0.1 * torch.rand(6, 3, *SIZE, generator=generator)


def statistic(kind: str, public: Tensor, **more: Any) -> PrivateMoments | PrivateBank:
    detector = KINDS[kind]()
    if isinstance(detector, PatchCore):
        return PrivateBank(detector, public, 24)
    return PrivateMoments(detector, public, **more)


# --- the accountant ---------------------------------------------------------------------------------------------------------


def test_the_curve_is_that_of_two_normal_distributions() -> None:
    """delta(epsilon) is the integral of max(0, p - e^epsilon q), p and q normal at distance 1/z."""
    for z, epsilon in ((0.6, 8.0), (1.0, 1.0), (3.0, 0.5), (5.0, 0.0)):
        x = np.linspace(-40, 40, 400_001)
        p, q = np.exp(-((x - 1 / z) ** 2) / 2), np.exp(-(x**2) / 2)
        area = np.maximum(p - np.exp(epsilon) * q, 0).sum() * (x[1] - x[0]) / math.sqrt(2 * math.pi)
        assert delta_of(epsilon, z) == pytest.approx(area, rel=1e-6, abs=1e-12)


def test_noise_and_epsilon_are_each_others_inverse() -> None:
    for epsilon in (0.1, 1.0, 8.0, 60.0, 1e4):
        z = noise_for(epsilon, 1e-6)
        assert epsilon_of(z, 1e-6) == pytest.approx(epsilon, rel=1e-6)
        assert delta_of(epsilon, z) <= 1e-6
    assert epsilon_of(1e6, 1e-5) == 0
    assert epsilon_of(1e-3, 1e-5) == math.inf


def test_google_counts_the_same() -> None:
    pld = pytest.importorskip("dp_accounting.privacy_loss_distribution").PrivacyLossDistribution
    for z, times in ((0.6, 1), (3.0, 4)):
        theirs = pld.from_gaussian_mechanism(z).self_compose(times).get_epsilon_for_delta(1e-5)
        assert epsilon_spent([Spent(z, times=times)], 1e-5) == pytest.approx(theirs, rel=1e-3)


def test_promises_add_up() -> None:
    z = noise_for(4.0, 1e-5, releases=3)
    assert epsilon_spent([Spent(z)] * 3, 1e-5) == pytest.approx(4.0)
    assert epsilon_spent([Spent(z, times=3)], 1e-5) == pytest.approx(4.0)
    assert epsilon_spent([], 1e-5) == 0


def test_opacus_counts_images_that_are_drawn() -> None:
    pytest.importorskip("opacus")
    nearly_all = epsilon_spent([Spent(2.0, 0.999999, 5)], 1e-5)
    assert nearly_all == pytest.approx(epsilon_spent([Spent(2.0, times=5)], 1e-5), abs=0.02)
    z = training_noise(4.0, 1e-5, 0.1, 50)
    assert 3.8 < epsilon_spent([Spent(z, 0.1, 50)], 1e-5) <= 4.0
    assert training_noise(4.0, 1e-5, 1.0, 50) == noise_for(4.0, 1e-5, 50)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (math.inf, 1e-5), (1, 0), (1, 1)])
def test_what_promises_nothing_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(SettingsError, match="epsilon must lie above 0|delta must lie between"):
        noise_for(epsilon, delta)
    with pytest.raises(SettingsError):
        Privacy(epsilon, delta)


# --- one image moves the sums no further than said --------------------------------------------------------------------------


def worst_patches(kind: str, made: PrivateMoments | PrivateBank) -> list[Tensor]:
    """Images (P, D) as features, each the worst that the formulas know, in both directions of one dimension."""
    if isinstance(made, PrivateBank):
        far = made.centres[0] + 100 * torch.nn.functional.normalize(
            made.centres[0] - made.centres.mean(0), dim=0
        )
        return [far.expand(made.positions, -1), made.centres[3].expand(made.positions, -1)]
    direction = torch.zeros(made.dimensions, dtype=torch.float64)
    direction[0] = 1e6
    patches = made.frame.centre + direction @ made.frame.back
    return [
        patches.float().expand(made.positions, -1),
        (2 * made.frame.centre - patches).float().expand(made.positions, -1),
    ]


@pytest.mark.parametrize("worst_case", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sensitivity(kind: str, worst_case: bool, public: Tensor) -> None:
    """In units of its noise no image, however odd, moves what is released by more than 1 / z; the worst ones do."""
    made = statistic(kind, public, worst_case=worst_case)
    generator = torch.Generator().manual_seed(1)
    wild = [
        torch.randn(made.positions, made.dimensions, generator=generator) * 10.0**power
        for power in range(-3, 7)
    ]
    images = [*wild, *worst_patches(kind, made), *made.features(public)]
    deviations = made.gather().deviations(noise=1.0)

    def moved(*of: Tensor) -> dict[str, Tensor]:
        sums = made.gather()
        sums.add(made.blocks(torch.stack(of)))
        return sums.sums

    def units(difference: dict[str, Tensor]) -> float:
        return math.sqrt(
            sum(float((of / deviations[name]).square().sum()) for name, of in difference.items())
        )

    alone = [units(moved(image)) for image in images]
    assert max(alone) <= 1 + 1e-9
    if worst_case:
        assert max(alone) > 0.9999  # the bound is reached: the formula is not loose
    rest = list(made.features(public))
    without, added = moved(*rest), moved(*rest, images[3])
    assert units({name: added[name] - without[name] for name in added}) <= 1 + 1e-9
    first, second = (moved(*rest, image) for image in worst_patches(kind, made))
    assert (
        units({name: first[name] - second[name] for name in first}) <= 2 + 1e-9
    )  # one in the place of another


def test_the_bounds_are_those_of_the_formulas(public: Tensor) -> None:
    """With weights b, 1, a: Delta = sqrt(b^2 + P (C^2 + a^2 C^4)), pooled sqrt(b^2 + C^2 + a^2 C^4), bank sqrt(C^2 + a^2)."""
    b, a = 0.5, 0.3
    made = statistic("position", public, worst_case=True)
    p, c = made.positions, made.clip
    assert delta_with(made.bounds, {COUNT: b, "total": 1, "second": a}) == pytest.approx(
        math.sqrt(b**2 + p * (c**2 + a**2 * c**4))
    )
    made = statistic("pooled", public, worst_case=True)
    assert delta_with(made.bounds, {COUNT: b, "total": 1, "second": a}) == pytest.approx(
        math.sqrt(b**2 + made.clip**2 + a**2 * made.clip**4)
    )
    made = statistic("bank", public, worst_case=True)
    assert delta_with(made.bounds, {"sums": 1, "counts": a}) == pytest.approx(math.sqrt(made.clip**2 + a**2))


def delta_with(bounds: dict[str, float], weights: dict[str, float]) -> float:
    return math.sqrt(sum((weight * bounds[name]) ** 2 for name, weight in weights.items()))


def test_weights_and_shares_say_the_same() -> None:
    bounds, weights = {COUNT: 1.0, "a": 3.0, "b": 7.0}, {COUNT: 0.5, "a": 1.0, "b": 0.2}
    delta = delta_with(bounds, weights)
    shares = {name: (weights[name] * bounds[name] / delta) ** 2 for name in bounds}
    found = ClippedSum(bounds, shares).deviations(2.0)
    assert found == pytest.approx({name: 2.0 * delta / weights[name] for name in bounds})


def test_a_long_image_counts_less_as_a_whole() -> None:
    sums = ClippedSum({COUNT: 1.0, "x": 1.0})
    sums.add({"x": torch.tensor([[4.0, 0.0], [0.0, 0.5]])})
    assert float(sums.sums[COUNT]) == pytest.approx(1.25)
    assert sums.sums["x"].tolist() == pytest.approx([1.0, 0.5])
    for wrong in ({"x": 1.0}, {COUNT: 1.0, "x": 0.0}):
        with pytest.raises(SettingsError, match="a bound and a share above 0"):
            ClippedSum(wrong)
    with pytest.raises(SettingsError, match="not finite"):
        sums.add({"x": torch.tensor([[math.nan, 0.0]])})


def test_an_attack_finds_what_the_promise_allows_and_no_more() -> None:
    """10,000 releases with and without the worst image: the best test tells them apart as promised, not better."""
    from andon.federated.attacks import implied_epsilon

    made, noise = ClippedSum({COUNT: 1.0, "x": 2.0}), noise_for(2.0, 1e-3)
    made.add({"x": torch.tensor([[2.0, 0.0]])})
    rng, scale = np.random.default_rng(0), made.deviations(noise)

    def statistic_of_test(present: bool) -> np.ndarray:
        """The likelihood ratio's logarithm, up to a constant."""
        told = {
            name: present * float(of.flatten()[0]) + scale[name] * rng.standard_normal(10_000)
            for name, of in made.sums.items()
        }
        return sum(of * float(made.sums[name].flatten()[0]) / scale[name] ** 2 for name, of in told.items())

    found = implied_epsilon(statistic_of_test(True), statistic_of_test(False), 1e-3)
    assert 1.0 < found <= 2.0


# --- the noise ----------------------------------------------------------------------------------------------------------------


def test_the_systems_noise_is_normal_and_never_the_same() -> None:
    drawn = normal((100_001,))
    assert drawn.shape == (100_001,)
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02
    assert abs(float((drawn.abs() > 1.959964).double().mean()) - 0.05) < 0.005
    assert not torch.equal(normal((5,)), normal((5,)))
    assert torch.equal(normal((5,), np.random.default_rng(1)), normal((5,), np.random.default_rng(1)))


def test_a_share_of_the_noise_each() -> None:
    sums = ClippedSum({COUNT: 1.0, "x": 3.0})
    sums.add({"x": torch.zeros(1, 50_000)})
    whole, quarter = (sums.released(2.0, adders=n)["x"].std() for n in (1, 16))
    assert float(whole) == pytest.approx(sums.deviations(2.0)["x"], rel=0.03)
    assert float(quarter) == pytest.approx(float(whole) / 4, rel=0.05)


# --- statistics ---------------------------------------------------------------------------------------------------------------


def test_triangles_are_as_long_as_their_matrices() -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    matrices = x[:, :, None] * x[:, None, :]
    assert svec(matrices).norm(dim=1).tolist() == pytest.approx(x.square().sum(1).tolist())
    torch.testing.assert_close(smat(svec(matrices), 5), matrices)


def test_frames_give_sums_back() -> None:
    x = torch.randn(40, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) + 4
    frame = Frame.of(torch.randn(60, 3) * 2 + 1)
    y, n = frame.into(x), torch.tensor(40.0).double()
    torch.testing.assert_close(frame.sums_back(n, y.sum(0)), x.sum(0))
    torch.testing.assert_close(frame.products_back(n, y.sum(0), y.T @ y), x.T @ x)
    torch.testing.assert_close(frame.sums_into(n, x.sum(0)), y.sum(0))
    torch.testing.assert_close(frame.products_into(n, x.sum(0), x.T @ x), y.T @ y)


@pytest.mark.parametrize("kind", ["position", "shared", "diagonal", "pooled", "rotated"])
def test_without_clipping_and_noise_they_are_the_detectors_own(kind: str, public: Tensor) -> None:
    made, images = statistic(kind, public), good_parts(5, SIZE)
    made.clip = 1e9
    sums = ClippedSum(dict.fromkeys(made.bounds, 1e12) | {COUNT: 1.0})
    sums.add(made.blocks(made.features(images)))
    own = KINDS[kind]()
    own.observe(images)
    found, expected = made.state(sums.sums), own.statistics()
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["position", "shared", "diagonal", "pooled"])
def test_noise_never_breaks_a_covariance(kind: str, public: Tensor) -> None:
    made, noise = statistic(kind, public), noise_for(1.0, 1e-5)
    sums = made.gather()
    sums.add(made.blocks(made.features(good_parts(3, SIZE))))
    state = made.merged([Contribution("a", made.state(sums.released(noise)), 3)], noise)
    detector = KINDS[kind]()
    require_like(state, expected_of(detector, SIZE), "a")
    detector.load_statistics(state)
    detector.close()
    assert torch.isfinite(detector(good_parts(2, SIZE)).anomaly_map).all()


def test_a_bank_without_noise_has_a_row_where_good_patches_are(public: Tensor) -> None:
    made = statistic("bank", public)
    images = good_parts(10, SIZE)
    sums = made.gather()
    sums.add(made.blocks(made.features(images)))
    state = made.merged([Contribution("a", sums.released(1e-9), 10)], 1e-9)
    assert int(state["patches_seen"]) == int(state["seen"]) * made.positions
    patches = made.features(images).flatten(0, 1)
    centres = statistic("bank", public).centres
    visited = torch.cdist(patches, centres).argmin(1).unique()
    assert len(state["patches"]) == len(visited)
    apart = torch.cdist(patches, state["patches"]).amin(1).mean()
    assert apart < torch.cdist(patches, centres).amin(1).mean()


def test_a_bank_in_nothing_but_noise_is_refused(public: Tensor) -> None:
    made = statistic("bank", public)
    sums = made.gather()
    sums.add(made.blocks(made.features(good_parts(1, SIZE))))
    told = sums.released(1e4, rng=np.random.default_rng(0))
    told["counts"] = -told["counts"].abs()
    with pytest.raises(DataError, match="the noise hides every patch"):
        made.merged([Contribution("a", told, 1)], 1e4)


def test_public_images_and_centres() -> None:
    one = public_images(SIZE, 2)
    assert one.shape == (2, 3, *SIZE)
    assert 0 <= float(one.min()) < float(one.max()) <= 1
    rows = torch.randn(50, 3)
    assert torch.equal(public_centres(rows, 8, 0), public_centres(rows, 8, 0))
    assert len(public_centres(rows, 80, 0)) == 50
    with pytest.raises(SettingsError, match="at least 2 public images, got 1"):
        PrivateBank(PatchCore(FakeBackbone()), one[:1], 8)


def test_rows_of_a_coreset_and_what_has_no_mechanism_are_refused(public: Tensor) -> None:
    plan = Plan("patchcore", {"backbone": FakeBackbone()}, SIZE, privacy=MANY)
    for settings in (
        replace(plan, site_rows=50),
        replace(plan, settings={**plan.settings, "odd_patches": 0.1}),
    ):
        with pytest.raises(SettingsError, match="leaving out one image changes which rows there are"):
            statistic_of(build_detector(settings), settings, public)
    fre = replace(plan, method="fre")
    with pytest.raises(
        SettingsError, match="fre has no private statistics; padim, subspacead and patchcore have"
    ):
        statistic_of(build_detector(fre), fre, public)
    lloyd = replace(plan, method="padim", privacy=replace(MANY, lloyd=2))
    with pytest.raises(SettingsError, match="lloyd moves the centres of a memory bank"):
        statistic_of(build_detector(lloyd), lloyd, public)


def test_a_release_says_what_it_promises(public: Tensor) -> None:
    plan = Plan("subspacead", {"backbone": FakeBackbone()}, SIZE, privacy=Privacy(2.0, 1e-4, public_images=2))
    made = statistic_of(build_detector(plan), plan, public)
    told = observe_privately(made, [good_parts(3, SIZE)], plan.privacy)
    assert told.guarantee.noise == pytest.approx(noise_for(2.0, 1e-4))
    assert told.guarantee.replaced_epsilon == pytest.approx(epsilon_of(told.guarantee.noise / 2, 1e-4))
    assert str(told.guarantee).startswith("With or without any one image of a site, what it sends (once) is as likely up to "
                                          "a factor e^2 and a chance of 0.0001")  # fmt: skip
    require_like(told.state, expected_private(made), "a")
    with pytest.raises(DataError, match="no image"):
        observe_privately(made, [], plan.privacy)
    assert guarantee_of(MANY).epsilon == 1e4


def test_noise_at_many_sites_is_expected_by_the_server(public: Tensor) -> None:
    privacy = Privacy(8.0, adders=4)
    made = statistic("bank", public)
    noises: list[float] = []
    made.merged = lambda contributions, noise: noises.append(noise) or {}  # type: ignore[method-assign]
    merge_privately(made, privacy, [])
    assert noises == [pytest.approx(noise_for(8.0, 1e-5) / 2)]
