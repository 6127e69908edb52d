"""Attacks find what they should find, and guess where there is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from andon.errors import SettingsError
from andon.federated import Contribution
from andon.federated.attacks import (
    _rate_at_least,
    _tail,
    bank_membership,
    implied_epsilon,
    inverted,
    likeness,
    loss_membership,
    mean_membership,
    membership,
    nearest_public,
    noised,
    scaled,
    windows,
)
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, good_parts

SIZE = (64, 64)


@pytest.fixture(scope="module")
def fitted() -> PatchCore:
    detector = PatchCore(FakeBackbone(), coreset_fraction=0.2)
    detector.observe(good_parts(5, SIZE))
    detector.close()
    return detector


def features(detector: PatchCore, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return detector.patches(images).flatten(2).mT


def test_a_bank_gives_its_images_away(fitted: PatchCore) -> None:
    inside = bank_membership(fitted.memory_bank, features(fitted, good_parts(5, SIZE)))
    outside = bank_membership(fitted.memory_bank, features(fitted, good_parts(5, SIZE, seed=3)))
    found = membership(inside, outside)
    assert (found.auroc, found.found_at_5) == (1.0, 1.0)
    assert np.allclose(inside, 0, atol=1e-3)


def test_tracing_finds_members_of_a_mean_and_nobody_else() -> None:
    rng = np.random.default_rng(0)
    people = torch.from_numpy(rng.normal(size=(90, 2000)))
    inside, known, others = people[:30], people[30:60], people[60:]
    found = membership(*(mean_membership(inside.mean(0), of, known) for of in (inside, others)))
    assert found.auroc > 0.99
    hidden = inside.mean(0) + 5 * torch.from_numpy(rng.normal(size=2000))
    assert 0.2 < membership(*(mean_membership(hidden, of, known) for of in (inside, others))).auroc < 0.8


def test_the_loss_tells_what_was_learnt() -> None:
    detector = PaDiM(FakeBackbone(), dimensions=8, ridge=1e-6)
    images = good_parts(12, SIZE)
    detector.observe(images[:4])
    detector.close()
    found = membership(loss_membership(detector, images[:4]), loss_membership(detector, images[4:]))
    assert found.auroc == 1.0


def test_bounds_of_rates_are_clopper_and_pearsons() -> None:
    for hits, of in ((0, 10), (3, 10), (10, 10), (99, 100)):
        expected = stats.beta.ppf(0.01, hits, of - hits + 1) if hits else 0.0
        assert _rate_at_least(hits, of, 0.01) == pytest.approx(expected, abs=1e-6)
        assert _tail(hits, of, 0.3) == pytest.approx(stats.binom.sf(hits - 1, of, 0.3), abs=1e-12)


def test_guessing_proves_nothing_and_certainty_only_what_numbers_allow() -> None:
    rng = np.random.default_rng(1)
    assert implied_epsilon(rng.normal(size=200), rng.normal(size=200), 1e-5) == 0
    few, many = (implied_epsilon(np.ones(n), np.zeros(n), 1e-5) for n in (20, 2000))
    assert 0 < few < 3.5 < many
    randomised = rng.random(20_000) < math.e**2 / (1 + math.e**2)  # answers truly with the odds e^2
    found = implied_epsilon(randomised * 1.0, ~randomised * 1.0, 0.0)
    assert 1.8 < found <= 2.0


def test_rows_are_turned_into_pictures_again(fitted: PatchCore) -> None:
    images = good_parts(5, SIZE)
    rows = fitted.memory_bank[:3]
    found = nearest_public(fitted, rows, images, 32)
    assert found.shape == (3, 3, 32, 32)
    made = inverted(fitted, rows, 32, steps=60)
    with torch.no_grad():
        middle = fitted.patches(made)[:, :, 4, 4]
        grey = fitted.patches(torch.full((1, 3, 32, 32), 0.5))[:, :, 4, 4]
    assert float((middle - rows).norm()) < 0.5 * float((grey - rows).norm())
    with pytest.raises(SettingsError, match="multiple of 16, got 30"):
        inverted(fitted, rows, 30)


def test_windows_lie_about_their_patches() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 20:28, 36:44] = 1
    (window,) = windows(image, torch.tensor([[0, 2, 4]]), (8, 8), 32)
    bright = window[0].nonzero().double().mean(0)
    assert bright.tolist() == pytest.approx([19.5, 19.5], abs=1.0)


def test_likeness_is_a_correlation() -> None:
    one = torch.rand(2, 3, 32, 32)
    assert likeness(one, 0.5 * one + 0.1, 16).tolist() == pytest.approx([1.0, 1.0])
    assert likeness(one, 1 - one, 16).tolist() == pytest.approx([-1.0, -1.0])
    assert likeness(one, torch.zeros_like(one), 16).tolist() == [0.0, 0.0]


def test_sites_that_mean_harm_change_what_they_send_and_no_counts() -> None:
    one = Contribution("a", {"x": torch.ones(3), "n": torch.tensor(5)}, 5)
    assert scaled(-2.0)(one).state["x"].tolist() == [-2, -2, -2]
    assert int(scaled(-2.0)(one).state["n"]) == 5
    spoiled = noised(1.0, seed=1)(Contribution("a", {"x": torch.arange(1000.0)}, 5)).state["x"]
    assert float((spoiled - torch.arange(1000.0)).std()) == pytest.approx(
        float(torch.arange(1000.0).std()), rel=0.1
    )
    assert spoiled.dtype == torch.float32
