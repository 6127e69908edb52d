"""Figures of spread against NumPy; weights of the sites in sums, in trained weights and in memory banks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from andon.errors import SettingsError
from andon.federated.fairness import pareto, quotas, spread_of, weighted, weights_by
from andon.federated.sites import build_detector, outgoing
from andon.federated.types import Contribution, Plan
from andon.models.base import Detector
from fakes import FakeBackbone, good_parts

SIZE = (32, 64)
IMAGES = {"large": 8, "small": 2}
METHODS = {
    "padim": {"dimensions": 6},
    "subspacead": {},
    "fre": {"grid": 2},
    "patchcore": {"coreset_fraction": 0.5, "bank_limit": 60, "neighbours": 3},
}


def build(method: str) -> Detector:
    return build_detector(Plan(method, {"backbone": FakeBackbone(), **METHODS[method]}, SIZE))


def parts_of(site: str, count: int) -> torch.Tensor:
    """The large site's parts are dark, the small one's are light."""
    return good_parts(count, SIZE, seed=len(site)) * (0.6 if site == "large" else 1.0)


@pytest.fixture
def told() -> Callable[[str], list[Contribution]]:
    """What the two sites tell, of the method asked for."""

    def of(method: str) -> list[Contribution]:
        found = []
        for site, count in IMAGES.items():
            detector = build(method)
            detector.reset()
            detector.observe(parts_of(site, count))
            found.append(Contribution(site, outgoing(detector, None), count))
        return found

    return of


# --- figures --------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(min_size=1), st.floats(0.01, 1), min_size=1, max_size=8))
def test_spread_is_what_numpy_says(values: dict[str, float]) -> None:
    found, x = spread_of(values), np.array(list(values.values()))
    assert found.mean == pytest.approx(x.mean())
    assert found.variance == pytest.approx(x.var())
    assert found.worst == x.min() == values[found.worst_site]
    assert found.gap == pytest.approx(np.ptp(x))
    assert found.jain == pytest.approx(x.sum() ** 2 / (len(x) * (x**2).sum()))
    assert 1 / len(x) - 1e-12 <= (found.jain or 0) <= 1 + 1e-12


def test_the_worst_rate_of_false_alarms_is_the_highest() -> None:
    found = spread_of({"a": 0.0, "b": 0.2}, higher_is_better=False)
    assert (found.worst_site, found.worst) == ("b", 0.2)
    assert spread_of({"a": 0.0, "b": 0.0}).jain is None
    with pytest.raises(SettingsError, match="no site to compare"):
        spread_of({})


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_front_by_brute_force(points: list[tuple[int, int]]) -> None:
    for one, is_front in zip(points, pareto(points), strict=True):
        beaten = any(o[0] >= one[0] and o[1] >= one[1] and (o[0] > one[0] or o[1] > one[1]) for o in points)
        assert is_front is not beaten


# --- weights --------------------------------------------------------------------------------------------------------------


def test_rules_of_weights() -> None:
    assert weights_by("size", IMAGES) == {"large": 0.8, "small": 0.2}
    assert weights_by("equal", IMAGES) == {"large": 0.5, "small": 0.5}
    need = {"large": 1.0, "small": 2.0}
    assert weights_by("need", IMAGES, need, q=0) == pytest.approx(weights_by("size", IMAGES))
    assert weights_by("need", IMAGES, need, q=2) == pytest.approx({"large": 0.5, "small": 0.5})
    assert weights_by("need", IMAGES, need, q=500)["small"] == pytest.approx(1)  # (2^500 does not overflow)


def test_refuses_weights_without_sense() -> None:
    with pytest.raises(SettingsError, match="no rule of weights 'fair'"):
        weights_by("fair", IMAGES)
    with pytest.raises(SettingsError, match="takes a mean score above 0 of every site"):
        weights_by("need", IMAGES, {"large": 1.0})
    with pytest.raises(SettingsError, match="q must be a number of at least 0, got -1"):
        weights_by("equal", IMAGES, q=-1)
    with pytest.raises(SettingsError, match="site 'small' has no weight"):
        weighted(build("padim"), {"large": 1.0})([Contribution("small", {}, 2)])


@pytest.mark.parametrize("method", ["padim", "subspacead", "fre"])
def test_weights_by_size_are_the_usual_merge(method: str, told: Callable[[str], list[Contribution]]) -> None:
    detector, contributions = build(method), told(method)
    ours = weighted(detector, weights_by("size", IMAGES))(contributions)
    usual = type(detector).merge([one.state for one in contributions], [8, 2])
    for name in usual:
        torch.testing.assert_close(ours[name], usual[name])


@pytest.mark.parametrize("method", ["padim", "subspacead", "fre"])
def test_equal_weights_are_as_if_the_small_site_had_as_many_images(
    method: str, told: Callable[[str], list[Contribution]]
) -> None:
    state = weighted(build(method), weights_by("equal", IMAGES))(told(method))
    ours, theirs = build(method), build(method)
    ours.load_statistics(state)
    theirs.reset()
    theirs.observe(parts_of("large", 8))
    for _ in range(4):
        theirs.observe(parts_of("small", 2))  # four times its two: eight
    scale = 10 / 16  # as many images as there are in all
    if method == "fre":
        torch.testing.assert_close(state["mean"], theirs.statistics()["mean"])
        assert int(state["images_seen"]) == 10
        return
    for name in ("count", "total", "second"):
        torch.testing.assert_close(state[name], theirs.statistics()[name] * scale)


def test_equal_weights_are_a_balanced_coreset(told: Callable[[str], list[Contribution]]) -> None:
    detector, contributions = build("patchcore"), told("patchcore")
    assert [len(one.state["patches"]) for one in contributions] == [
        60,
        60,
    ]  # each as many as the bank may have
    for rule, expected in (("equal", (30, 30)), ("size", (48, 12))):
        state = weighted(detector, weights_by(rule, IMAGES))(contributions)
        rows = torch.cat(
            [one.state["patches"][:count] for one, count in zip(contributions, expected, strict=True)]
        )
        assert torch.equal(state["patches"], rows)
        detector.load_statistics(state)
        detector.close()
        kept = {tuple(row) for row in detector.kept_statistics()["patches"].tolist()}
        assert kept == {tuple(row) for row in rows.tolist()}  # closing throws none of them away


def test_trained_weights_are_averaged() -> None:
    detector = build_detector(Plan("autoencoder", {"width": 2, "latent": 4, "steps": 1}, SIZE))
    detector.reset()
    state = detector.statistics()
    name = next(name for name, of in state.items() if of.is_floating_point())
    other = {**state, name: state[name] + 1.0}
    merged = weighted(detector, {"a": 1.0, "b": 3.0})(
        [Contribution("a", state, 9), Contribution("b", other, 1)]
    )
    torch.testing.assert_close(merged[name], state[name] + 0.75)


@given(
    st.integers(0, 40), st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 12)), min_size=1, max_size=5)
)
def test_quotas_are_what_is_asked_for_or_all_there_is(count: int, sites: list[tuple[float, int]]) -> None:
    weights, held = [weight for weight, _ in sites], [rows for _, rows in sites]
    found = quotas(count, weights, held)
    assert sum(found) == min(count, sum(held))
    assert all(0 <= rows <= most for rows, most in zip(found, held, strict=True))
