"""Means and covariances of patch features, kept as sums: they merge by addition, in any order and any split.

Three kinds of covariance, P positions of D dimensions each:

``position``   one full covariance a position (PaDiM, Defard et al. 2022, eq. 1)   second moments (P, T)
``shared``     one full covariance for all positions, about each position's mean   second moments (T,)
``diagonal``   a variance a position and dimension                                 second moments (P, D)

T = D (D + 1) / 2: the upper triangle, row by row. Sums are float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from andon.errors import DataError, SettingsError

Covariance = Literal["position", "shared", "diagonal"]
COVARIANCES: tuple[str, ...] = get_args(Covariance)
POSITIONS_AT_ONCE = 64  # bounds the full D x D matrices held while adding or inverting


class Moments:
    """Count, sum and second moments of feature vectors (n, P, D), for one of the kinds of covariance.

    >>> moments = Moments("diagonal", positions=1, dimensions=1)
    >>> moments.add(torch.tensor([[[1.0]], [[3.0]]]))
    >>> moments.mean().tolist(), moments.covariance().tolist()
    ([[2.0]], [[2.0]])
    """

    def __init__(self, kind: Covariance, positions: int, dimensions: int) -> None:
        triangle = dimensions * (dimensions + 1) // 2
        shapes = {
            "position": (positions, triangle),
            "shared": (triangle,),
            "diagonal": (positions, dimensions),
        }
        if kind not in shapes:
            raise SettingsError(f"covariance must be one of {list(shapes)}, got {kind!r}")
        self.kind = kind
        self.positions, self.dimensions = positions, dimensions
        self.count = torch.zeros((), dtype=torch.float64)
        self.total = torch.zeros(positions, dimensions, dtype=torch.float64)
        self.second = torch.zeros(shapes[kind], dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Count ``values`` (n, P, D) in."""
        values = values.detach().to("cpu", torch.float64)
        self.count += len(values)
        self.total += values.sum(0)
        if self.kind == "diagonal":
            self.second += values.square().sum(0)
        elif self.kind == "shared":
            flat = values.reshape(-1, self.dimensions)
            self.second += pack(flat.T @ flat)
        else:
            by_position = values.transpose(0, 1)  # (P, n, D)
            for part, second in self._parts(by_position):
                second += pack(part.transpose(1, 2) @ part)

    def _parts(self, by_position: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = POSITIONS_AT_ONCE
        return list(zip(by_position.split(size), self.second.split(size), strict=True))

    def state(self) -> dict[str, Tensor]:
        """Copies of the sums: ``count`` (), ``total`` (P, D), ``second``; they add up over sites."""
        return {"count": self.count.clone(), "total": self.total.clone(), "second": self.second.clone()}

    @classmethod
    def from_state(cls, kind: Covariance, state: Mapping[str, Tensor]) -> Moments:
        """The moments that ``state`` holds. Raises :class:`DataError` when it is of another kind or shape."""
        moments = cls(kind, *state["total"].shape)
        for name in ("count", "total", "second"):
            own, given = getattr(moments, name), state[name]
            if own.shape != given.shape:
                raise DataError(
                    f"moments of kind {kind!r} hold {name!r} as {tuple(own.shape)}, got {tuple(given.shape)}: "
                    "they were taken with other settings. Give both sites the same covariance, layers and image size."
                )
            own.copy_(given)
        return moments

    def mean(self) -> Tensor:
        """(P, D) float64."""
        return self.total / self.count

    def covariance(self, positions: slice = slice(None)) -> Tensor:
        """The sample covariance (divisor n - 1): (p, D, D), or (D, D) if shared, or variances (p, D) if diagonal.

        The shared one pools the deviations from each position's own mean (divisor P (n - 1)).
        Raises :class:`DataError` for fewer than two images.
        """
        n = float(self.count)
        if n < 2:
            raise DataError(f"a covariance needs at least 2 good images, got {n:.0f}; observe more of them")
        mean = self.mean()[positions]
        if self.kind == "diagonal":
            return ((self.second[positions] - n * mean.square()) / (n - 1)).clamp(min=0)
        if self.kind == "shared":
            return (unpack(self.second, self.dimensions) - n * mean.T @ mean) / (self.positions * (n - 1))
        outer = mean[:, :, None] * mean[:, None, :]
        return (unpack(self.second[positions], self.dimensions) - n * outer) / (n - 1)

    def whitening(self, ridge: float) -> Tensor:
        """W float32 such that |W (x - mean)| is the Mahalanobis distance under covariance + ridge I.

        (P, D, D) lower triangular, (1, D, D) if shared, (P, D) if diagonal. W = L^-1 with L L^T the covariance.
        Raises :class:`SettingsError` when that has no inverse.
        """
        if self.kind == "diagonal":
            variance = self.covariance() + ridge
            _refuse_singular(bool((variance <= 0).any()), ridge, self)
            return variance.rsqrt().float()
        if self.kind == "shared":
            return self._inverse_factor(self.covariance()[None], ridge)
        starts = range(0, self.positions, POSITIONS_AT_ONCE)
        parts = [self.covariance(slice(start, start + POSITIONS_AT_ONCE)) for start in starts]
        return torch.cat([self._inverse_factor(part, ridge) for part in parts])

    def _inverse_factor(self, covariance: Tensor, ridge: float) -> Tensor:
        unit = torch.eye(self.dimensions, dtype=torch.float64)
        factor, info = torch.linalg.cholesky_ex(covariance + ridge * unit)
        _refuse_singular(bool(info.any()), ridge, self)
        return torch.linalg.solve_triangular(factor, unit.expand_as(factor), upper=False).float()


def add_up(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The moments of all the images behind ``states``: their sums, entry by entry.

    Raises :class:`DataError` when they were taken with other settings (their shapes differ).
    """
    merged = {name: tensor.clone() for name, tensor in states[0].items()}
    for state in states[1:]:
        for name, tensor in merged.items():
            if state[name].shape != tensor.shape:
                raise DataError(
                    f"the states hold {name!r} as {tuple(tensor.shape)} and as {tuple(state[name].shape)}: "
                    "they were taken with other settings. Give every site the same settings and image size."
                )
            tensor += state[name]
    return merged


def pack(matrices: Tensor) -> Tensor:
    """The upper triangles (..., T) of ``matrices`` (..., D, D), row by row."""
    rows, columns = torch.triu_indices(matrices.shape[-2], matrices.shape[-1]).unbind(0)
    return matrices[..., rows, columns]


def unpack(triangles: Tensor, dimensions: int) -> Tensor:
    """The symmetric matrices (..., D, D) whose upper triangles are ``triangles`` (..., T)."""
    rows, columns = torch.triu_indices(dimensions, dimensions).unbind(0)
    out = triangles.new_zeros(*triangles.shape[:-1], dimensions, dimensions)
    out[..., rows, columns] = triangles
    out[..., columns, rows] = triangles
    return out


def _refuse_singular(singular: bool, ridge: float, moments: Moments) -> None:
    if singular:
        raise SettingsError(
            f"the covariance of {int(moments.count)} images in {moments.dimensions} dimensions has no inverse with "
            f"ridge={ridge}; give a larger ridge (0.01 is usual), fewer dimensions or more images"
        )
