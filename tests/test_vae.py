"""The variational autoencoder's own rules: the bound, the divergence, the mean code, the settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from andon.errors import SettingsError
from andon.features.blocks import residual
from andon.features.patches import blur_map
from andon.models.trained import learning
from andon.models.vae import VAE, divergence
from fakes import good_parts

PARTS = good_parts(4, (32, 48), seed=1)
TINY: dict[str, Any] = {"width": 4, "latent": 3, "levels": 2, "steps": 2, "batch_size": 2}


def tiny(**settings: Any) -> VAE:
    return VAE(**{**TINY, **settings})


def closed(**settings: Any) -> VAE:
    detector = tiny(**settings)
    detector.observe(PARTS)
    detector.close()
    return detector


def drawn(detector: VAE, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mu, sigma and y of one draw, as ``loss`` draws them after the same seed."""
    with torch.no_grad(), learning(detector.encoder, detector.decoder):
        mu, log_variance = detector.code(images)
        sigma = torch.exp(log_variance / 2)
        torch.manual_seed(7)
        z = mu + sigma * torch.randn_like(mu)
        return mu, sigma, detector.decode(z, (32, 48))


def loss(detector: VAE, images: Tensor) -> Tensor:
    torch.manual_seed(7)
    return detector.loss(images).detach()


def test_divergence_is_that_of_two_gaussians() -> None:
    mu, log_variance = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    expected = kl_divergence(Normal(mu, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).sum(1, keepdim=True)
    torch.testing.assert_close(divergence(mu, log_variance), expected)


def test_loss_is_the_negative_bound_with_the_best_variance() -> None:
    detector = tiny()
    mu, sigma, y = drawn(detector, PARTS)
    divergences = kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum()

    def bound(variance: Tensor) -> Tensor:
        return Normal(y, variance.sqrt()).log_prob(PARTS).sum() - divergences

    best = (PARTS - y).square().mean()
    constant = 0.5 + 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(
        loss(detector, PARTS), -bound(best) / PARTS.numel() - constant, rtol=1e-3, atol=1e-3
    )
    assert bound(best) > max(bound(0.8 * best), bound(1.25 * best))


def test_beta_weighs_the_divergence() -> None:
    detector = tiny(beta=0.0)
    mu, sigma, _ = drawn(detector, PARTS)
    free = loss(detector, PARTS)
    detector.beta = 3.0
    divergences = kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(loss(detector, PARTS) - free, 3 * divergences / PARTS.numel())


def test_scores_come_from_the_mean_code_without_chance() -> None:
    detector = closed(ssim_share=0.3)
    with torch.no_grad():
        first, second = detector(PARTS), detector(PARTS)
        mu, _ = detector.code(PARTS)
        expected = blur_map(residual(PARTS, detector.decode(mu, (32, 48)), 0.3), detector.blur_sigma)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    torch.testing.assert_close(first.anomaly_map, expected)
    assert torch.equal(first.image_score, second.image_score)


def test_the_divergence_of_a_position_can_be_added_to_the_map() -> None:
    plain, weighted = closed(blur_sigma=0.0), closed(blur_sigma=0.0, kl_weight=0.1)
    with torch.no_grad():
        added = weighted(PARTS).anomaly_map - plain(PARTS).anomaly_map
        expected = 0.1 * divergence(*plain.code(PARTS))
    assert added.min() >= 0
    torch.testing.assert_close(added.mean(), expected.mean(), rtol=1e-3, atol=1e-6)


def test_an_untold_variance_stays_finite() -> None:
    detector = tiny()
    with torch.no_grad():
        detector.encoder[-1].bias += 1000.0
    assert torch.isfinite(loss(detector, PARTS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": 0}, "latent must be a whole number of at least 1, got 0"),
        ({"levels": 0}, "levels must be a whole number of at least 1, got 0"),
        ({"beta": -1}, "beta must be a number of at least 0.0, got -1"),
        ({"ssim_share": 2}, "ssim_share must be a share from 0 to 1, got 2"),
        ({"kl_weight": "much"}, "kl_weight must be a number of at least 0.0, got 'much'"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        tiny(**settings)
    assert str(error.value) == message
