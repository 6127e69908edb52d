"""Nearest neighbours and the greedy k-centre coreset, exact.

The coreset of PatchCore (Roth et al. 2022, eq. 5) is the greedy 2-approximation of k-centre: take the point that
lies farthest from all centres so far, again and again. One centre at a time, that is N distances a centre and a
memory-bound pass over all points each time. Here many centres are settled in one pass, and they are the same ones:

1. every point keeps an upper bound of its squared distance to the nearest centre, from float32 matrix products and
   their worst rounding error (from float64 ones, once the distances left are so small that float32 is blind);
2. the points with the largest bounds are the candidates; their distances to all centres and to each other are
   computed in float64, and the greedy choice runs among them alone;
3. it stops when the best candidate no longer beats the largest bound outside: up to there no other point could have
   been chosen. Then one matrix product brings all bounds up to date with the centres just found.

The choice depends on float64 numbers only, so a GPU, other threads or another block size give the same indices.

Letters: N points of D dimensions, U of them distinct, K candidates; Q queries, M rows of a bank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import SettingsError

Progress = Callable[[float], None]

TIE = 1e-12  # squared distances closer than this share of the largest squared norm count as equal
CHUNK = 1 << 23  # entries of a distance matrix held at once (32 MB in float32)
ROWS = 4096  # points copied at once; what is made of them goes into one array, so that freed copies leave no holes
UNIT = {
    "highest": 2.0**-24,
    "high": 2.0**-11,
    "medium": 2.0**-8,
}  # rounding of a float32 product, by torch's setting


def greedy_k_centre(
    points: Tensor,
    count: int,
    *,
    seed: int = 0,
    start: int | None = None,
    block: int = 512,
    progress: Progress | None = None,
) -> Tensor:
    """Indices (count,) int64 of the greedy k-centres of ``points`` (N, D) float32, in the order chosen.

    ``start``: index of the first centre; None takes the point that lies farthest along a direction drawn from
    ``seed``, which does not depend on the order of the points. Equal distances go to the lowest index.
    ``block``: candidates looked at in one pass; changes the time, never the answer.
    ``progress`` is told the fraction done. Memory: about 100 MB besides ``points``.

    Raises :class:`SettingsError` for a ``count`` outside 1..N and for points that are not finite.

    >>> greedy_k_centre(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 3, start=0).tolist()
    [0, 3, 2]
    """
    _check(points, count, start, block)
    device = points.device
    if device.type == "mps":  # knows no float64
        points = points.cpu()
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        distinct = _first_of_equal(points, start)
        search = _Search(points, distinct.to(device=points.device))
        search.add(_first(search, seed, start))
        wanted = min(count, len(distinct))
        while len(search.chosen) < wanted:
            search.add(search.settle(wanted - len(search.chosen), block))
            if progress is not None:
                progress(len(search.chosen) / count)
    return _with_repeats(torch.tensor(search.chosen), len(points), count).to(device)


class _Search:
    """The greedy choice under way: centres so far, and for each point its bound; of equal points one is looked at.

    It begins in float32 and goes over to float64 when float32 can no longer tell the farthest points apart.
    """

    def __init__(self, points: Tensor, distinct: Tensor) -> None:
        self.points = points  # (N, D)
        self.middle = points.mean(0, dtype=torch.float64).float()  # as both precisions can subtract it
        self.chosen: list[int] = []
        self.centres = np.empty((0, points.shape[1]))  # (len(chosen), D) float64
        self.taken = torch.ones(len(points), dtype=torch.bool, device=points.device)
        self.taken[distinct] = False  # the others repeat these
        self.work_in(torch.float32, 2 * UNIT[torch.get_float32_matmul_precision()])
        self.tie = TIE * float(self.squares.max())

    def work_in(self, dtype: torch.dtype, rounding: float) -> None:
        """Take up ``dtype``, whose products round their factors by ``rounding``, and forget the distances."""
        self.dtype = dtype
        self.gamma = rounding + (self.points.shape[1] + 8) * torch.finfo(dtype).eps / 2
        self.squares = torch.empty(len(self.points), dtype=dtype, device=self.points.device)
        for part in _slices(len(self.points), ROWS):
            self.squares[part] = self.rows(part).square().sum(1)
        self.nearest = torch.full_like(self.squares, torch.inf)  # squared distance to the nearest centre

    def rows(self, part: slice) -> Tensor:
        """The centred points of ``part`` in the precision worked in."""
        return self.points[part].to(self.dtype) - self.middle

    def exact(self, indices: Tensor) -> NDArray[np.float64]:
        """The centred points at ``indices`` (K,) as (K, D) float64."""
        return (self.points[indices].double() - self.middle).cpu().numpy()

    def add(self, picks: list[int]) -> None:
        """Make ``picks`` centres."""
        index = torch.tensor(picks, device=self.points.device)
        centres = self.exact(index)
        self.chosen += picks
        self.centres = np.concatenate([self.centres, centres])
        self.taken[index] = True
        self.approach(centres)

    def approach(self, centres: NDArray[np.float64]) -> None:
        """Bring every point's distance up to date with ``centres`` (c, D)."""
        c = torch.from_numpy(centres).to(self.points.device, self.dtype)
        squares = c.square().sum(1)
        for part in _slices(len(self.points), ROWS):
            distance = torch.addmm(squares, self.rows(part), c.T, alpha=-2).amin(1) + self.squares[part]
            torch.minimum(self.nearest[part], distance, out=self.nearest[part])

    def widen(self) -> None:
        """Go over to float64: all distances once more."""
        self.work_in(torch.float64, 0.0)
        for part in _slices(len(self.centres), 512):
            self.approach(self.centres[part])

    def bounds(self) -> Tensor:
        """(N,) no less than the exact squared distance to the nearest centre; -inf for the centres themselves and repeats.

        A product's rounding error is at most gamma (|x| + |c|)^2 <= gamma (8 |x|^2 + 2 d), as |c| <= |x| + sqrt(d).
        """
        upper = (self.nearest.clamp(min=0) + 8 * self.gamma * self.squares) / (1 - 2 * self.gamma)
        return upper.masked_fill(self.taken, -torch.inf)

    def settle(self, limit: int, block: int) -> list[int]:
        """The next centres, at least one and at most ``limit``."""
        size = block
        while True:
            values, index = torch.topk(self.bounds(), min(size + 1, len(self.points)))
            outside = float(values[-1]) if size < len(self.points) else -np.inf
            index = index[:size][values[:size] > -torch.inf].sort().values  # lowest index first
            picks = self.greedy(index, outside, limit)
            if picks:
                return picks
            size *= 2
            if size > 4 * block and self.dtype == torch.float32:
                self.widen()
                size = block

    def greedy(self, index: Tensor, outside: float, limit: int) -> list[int]:
        """The greedy choice among the candidates ``index`` (K,), while they beat every point ``outside``."""
        candidates = self.exact(index)
        parts = [candidates[part] for part in _slices(len(candidates), 1024)]
        distance = np.concatenate([_squared(part, self.centres).min(1) for part in parts])
        between = _squared(candidates, candidates) if len(candidates) <= 4096 else None
        names: list[int] = index.tolist()
        picks: list[int] = []
        while len(picks) < min(limit, len(names)):
            largest = distance.max()
            if largest - self.tie <= outside:
                break
            pick = int(np.argmax(distance >= largest - self.tie))
            picks.append(names[pick])
            to_pick = (
                _squared(candidates, candidates[pick : pick + 1])[:, 0] if between is None else between[pick]
            )
            np.minimum(distance, to_pick, out=distance)
            distance[pick] = -np.inf
        return picks


def _slices(length: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, length, size)]


def _check(points: Tensor, count: int, start: int | None, block: int) -> None:
    if points.ndim != 2 or not len(points) or not points.is_floating_point():
        raise SettingsError(
            f"points must be float (N, D) with N >= 1, got {points.dtype} {tuple(points.shape)}"
        )
    if not 1 <= count <= len(points):
        raise SettingsError(f"count must lie in 1..{len(points)}, the number of points; got {count}")
    if start is not None and not 0 <= start < len(points):
        raise SettingsError(f"start must be an index in 0..{len(points) - 1}; got {start}")
    if block < 1:
        raise SettingsError(f"block must be at least 1; got {block}")
    if not all(bool(torch.isfinite(part).all()) for part in points.split(ROWS)):
        raise SettingsError(
            "points must be finite, but some are nan or infinite; look at the images they come from"
        )


def _first_of_equal(points: Tensor, start: int | None) -> Tensor:
    """Indices (U,), rising, of one point of each set of equal ones: the lowest, or ``start`` in its own set."""
    _, first, group = np.unique(_hashes(points), return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group] != np.arange(len(group)))  # points that seem to repeat an earlier one
    parts = [torch.from_numpy(again[part]) for part in _slices(len(again), ROWS)]
    earlier = torch.from_numpy(first[group])
    if not all(bool((points[part] == points[earlier[part]]).all()) for part in parts):  # two points, one hash
        _, first, group = np.unique(_words(points), axis=0, return_index=True, return_inverse=True)
    if start is not None:
        first[group.reshape(-1)[start]] = start
    return torch.from_numpy(np.sort(first))


def _words(points: Tensor) -> NDArray[np.uint64]:
    """The bits of ``points`` (n, D) as numbers; -0.0 as 0.0."""
    return (points.detach().float() + 0.0).cpu().contiguous().numpy().view(np.uint32).astype(np.uint64)


def _hashes(points: Tensor) -> NDArray[np.uint64]:
    """A number (N,) for each point, the same for equal ones."""
    odd = np.random.default_rng(0).integers(1 << 62, size=points.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    hashes = np.empty(len(points), np.uint64)
    for part in _slices(len(points), ROWS):
        hashes[part] = (_words(points[part]) * odd).sum(1, dtype=np.uint64)
    return hashes


def _first(search: _Search, seed: int, start: int | None) -> list[int]:
    if start is not None:
        return [start]
    direction = torch.from_numpy(np.random.default_rng(seed).standard_normal(search.points.shape[1]))
    along = torch.empty(len(search.points), dtype=torch.float64)
    for part in _slices(len(search.points), ROWS):
        along[part] = search.points[part].double().cpu() @ direction
    return [int(np.argmax(along.numpy()))]


def _with_repeats(chosen: Tensor, total: int, count: int) -> Tensor:
    """``chosen``, filled up to ``count`` with the lowest indices not in it: points equal to one already chosen."""
    if len(chosen) == count:
        return chosen
    left = torch.ones(total, dtype=torch.bool)
    left[chosen] = False
    return torch.cat([chosen, left.nonzero()[: count - len(chosen), 0]])


def _squared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances (K, L) between the rows of ``a`` (K, D) and ``b`` (L, D)."""
    products = a @ b.T
    products *= -2
    products += np.square(a).sum(1)[:, None]
    products += np.square(b).sum(1)[None, :]
    return products


def nearest(query: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Distances (Q, k) and indices (Q, k) of the ``k`` rows of ``bank`` (M, D) nearest to each of ``query`` (Q, D).

    The rows are chosen by ``|b|^2 / 2 - x b``, one matrix product; the distances of the chosen rows are then
    computed from the differences, so that small ones do not drown in rounding. Nearest first. Exports to ONNX.
    Long queries go in parts, so that no more than 32 MB of products and differences are held (the ONNX graph does it in one go).

    >>> distances, indices = nearest(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0], [3.0]]), k=2)
    >>> indices.tolist()
    [[1, 0]]
    """
    half, filled, groups = bank.square().sum(1) / 2, bank, 0
    if k == 1:
        groups = math.ceil(math.sqrt(int(bank.shape[0])))
        missing = -int(bank.shape[0]) % groups  # rows that are never nearest
        half, filled = F.pad(half, (0, missing), value=torch.inf), F.pad(bank, (0, 0, 0, missing))
    search = _Bank(bank, half, filled, groups)
    if torch.compiler.is_exporting() or query.shape[0] * bank.shape[0] <= CHUNK:
        return _nearest(query, search, k)
    held = bank.shape[0] + 2 * k * bank.shape[1]  # numbers, for each query
    parts = [_nearest(part, search, k) for part in query.split(max(1, CHUNK // held))]
    return torch.cat([distance for distance, _ in parts]), torch.cat([index for _, index in parts])


class _Bank(NamedTuple):
    """What a search needs of a bank: its rows, |b|^2 / 2, the rows as the product takes them, G groups of them."""

    rows: Tensor
    half: Tensor
    filled: Tensor
    groups: int


def principal_axes(rows: Tensor, count: int) -> Tensor:
    """(D, count): the orthonormal directions along which ``rows`` (M, D) vary most."""
    centred = rows.double() - rows.mean(0, dtype=torch.float64)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors  # the largest variance last
    return axes[:, -count:].to(rows.dtype).contiguous()


def _nearest(query: Tensor, bank: _Bank, k: int) -> tuple[Tensor, Tensor]:
    remoteness = torch.addmm(bank.half, query, bank.filled.T, alpha=-1)  # (Q, M)
    if k == 1:
        index = _smallest(remoteness, bank.groups)
        return torch.linalg.vector_norm(query - bank.rows[index], dim=1, keepdim=True), index[:, None]
    index = remoteness.topk(k, dim=1, largest=False).indices
    distance = torch.linalg.vector_norm(query[:, None] - bank.rows[index], dim=2)  # (Q, k)
    distance, order = distance.sort(dim=1, stable=True)
    return distance, index.gather(1, order)


def _smallest(values: Tensor, groups: int) -> Tensor:
    """Index (Q,) of each row's smallest value (Q, M), M a multiple of ``groups``.

    In two steps, because a minimum runs in vector instructions and an arg-minimum does not: the smallest value of
    each of G groups of neighbouring columns, then the place inside the best group.
    """
    size = int(values.shape[1]) // groups
    table = values.reshape(-1, groups, size)
    group = table.amin(2).argmin(1)  # (Q,)
    rows = torch.arange(values.shape[0], device=values.device) * groups + group
    return group * size + table.reshape(-1, size)[rows].argmin(1)
