"""Moments against NumPy's covariance, in any split; whitening against scikit-learn's Mahalanobis distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from torch import Tensor

from andon.errors import DataError, SettingsError
from andon.features.gaussian import COVARIANCES, Moments, add_up, pack, unpack

P, D = 70, 5  # more positions than are handled at once


def drawn(count: int = 30, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(P, D, D, generator=generator)
    values = torch.einsum("npd,pde->npe", torch.randn(count, P, D, generator=generator), mixture)
    return values + 5 * torch.randn(P, D, generator=generator)


def moments_of(values: Tensor, kind: str, batch: int = 7) -> Moments:
    moments = Moments(kind, P, D)  # type: ignore[arg-type]
    for part in values.split(batch):
        moments.add(part)
    return moments


def test_mean_and_covariance_are_numpys() -> None:
    values = drawn()
    mean = values.double().numpy().mean(0)
    full = np.stack([np.cov(values[:, p].double().numpy(), rowvar=False) for p in range(P)])
    moments = moments_of(values, "position")
    np.testing.assert_allclose(moments.mean().numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(moments.covariance().numpy(), full, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.covariance(slice(3, 5)).numpy(), full[3:5], rtol=1e-9, atol=1e-9)
    diagonal = moments_of(values, "diagonal").covariance().numpy()
    np.testing.assert_allclose(diagonal, full.diagonal(axis1=1, axis2=2), rtol=1e-9)
    np.testing.assert_allclose(moments_of(values, "shared").covariance().numpy(), full.mean(0), rtol=1e-9)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_any_split_over_sites_gives_the_same_sums(kind: str) -> None:
    values = drawn()
    whole = moments_of(values, kind).state()
    sites = [moments_of(part, kind).state() for part in values.split([1, 12, 17])]
    merged = add_up(sites[::-1])
    assert float(merged["count"]) == 30
    for name, tensor in whole.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_state_round_trip_is_exact_and_a_copy(kind: str) -> None:
    values = drawn()
    half = moments_of(values[:14], kind)
    resumed = Moments.from_state(kind, half.state())  # type: ignore[arg-type]
    for part in values[14:].split(7):
        resumed.add(part)
        half.add(part)
    for name, tensor in half.state().items():
        assert torch.equal(resumed.state()[name], tensor)
    half.state()["total"].zero_()
    assert half.total.abs().sum() > 0


def test_whitened_distance_is_mahalanobis() -> None:
    values = drawn(60)
    moments = moments_of(values, "position")
    whitened = torch.einsum("pde,npe->npd", moments.whitening(0.0), values - moments.mean().float())
    for p in (0, P - 1):
        x = values[:, p].double().numpy()
        reference = EmpiricalCovariance().fit(x)  # divisor n, ours n - 1
        expected = np.sqrt(reference.mahalanobis(x) * 59 / 60)
        np.testing.assert_allclose(whitened[:, p].norm(dim=1).numpy(), expected, rtol=1e-3)


def test_ridge_is_added_to_the_covariance() -> None:
    values = drawn()
    moments = moments_of(values, "position")
    inverse = np.linalg.inv(moments.covariance().numpy() + 0.5 * np.eye(D))
    w = moments.whitening(0.5).double().numpy()
    np.testing.assert_allclose(np.swapaxes(w, 1, 2) @ w, inverse, rtol=1e-4, atol=1e-6)


def test_shared_and_diagonal_whitening() -> None:
    moments = moments_of(drawn(), "shared")
    w = moments.whitening(0.1)
    assert w.shape == (1, D, D)
    inverse = torch.linalg.inv(moments.covariance() + 0.1 * torch.eye(D, dtype=torch.float64))
    torch.testing.assert_close((w[0].T @ w[0]).double(), inverse, rtol=1e-4, atol=1e-6)
    diagonal = moments_of(drawn(), "diagonal")
    torch.testing.assert_close(
        diagonal.whitening(0.1).double(), (diagonal.covariance() + 0.1).rsqrt(), rtol=1e-5, atol=0
    )


def test_fewer_images_than_dimensions_need_a_ridge() -> None:
    moments = moments_of(drawn(3), "position")
    assert torch.isfinite(moments.whitening(0.01)).all()
    few = moments_of(torch.zeros(3, P, D), "position")
    with pytest.raises(
        SettingsError, match=r"^the covariance of 3 images in 5 dimensions has no inverse with ridge=0.0; "
    ):
        few.whitening(0.0)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(
        DataError, match=r"^a covariance needs at least 2 good images, got 1; observe more of them$"
    ):
        moments_of(drawn(1), "shared").covariance()


def test_large_means_do_not_drown_the_covariance() -> None:
    values = drawn(40)
    shifted = values.double() + 1e4
    torch.testing.assert_close(
        moments_of(shifted, "position").covariance(),
        moments_of(values, "position").covariance(),
        rtol=1e-4,
        atol=1e-4,
    )


def test_pack_and_unpack() -> None:
    matrices = torch.arange(18.0).reshape(2, 3, 3)
    symmetric = matrices + matrices.transpose(1, 2)
    assert pack(symmetric).shape == (2, 6)
    assert torch.equal(unpack(pack(symmetric), 3), symmetric)


def test_refuses_states_of_other_settings() -> None:
    with pytest.raises(
        SettingsError, match=r"^covariance must be one of \['position', 'shared', 'diagonal'\], got 'full'$"
    ):
        Moments("full", P, D)  # type: ignore[arg-type]
    state = moments_of(drawn(), "position").state()
    with pytest.raises(
        DataError, match=r"^moments of kind 'diagonal' hold 'second' as \(70, 5\), got \(70, 15\): "
    ):
        Moments.from_state("diagonal", state)
    with pytest.raises(DataError, match=r"^the states hold 'second' as \(70, 15\) and as \(15,\): "):
        add_up([state, moments_of(drawn(), "shared").state()])
