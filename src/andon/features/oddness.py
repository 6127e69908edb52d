"""How odd each patch is among those at the same place of other images: the local outlier factor.

M. Breunig, H.-P. Kriegel, R. Ng, J. Sander, "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000, definitions
3 to 7. At each place of the grid by itself, as X. Jiang et al., "SoftPatch: Unsupervised Anomaly Detection with Noisy
Data", NeurIPS 2022, use it to find noise among good images.

Letters: N patches of D dimensions, k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from andon.features.neighbours import nearest

NEIGHBOURS = 6  # k: SoftPatch's own
_FLOOR = 1e-2  # of the mean reachability distance: k copies of a patch do not make it infinitely dense


def local_outlier_factor(points: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """LOF (N,) of ``points`` (N, D): about 1 inside a crowd, more the lonelier a point is than its neighbours.

    With N points or fewer than ``neighbours`` there are N - 1 neighbours; a single point has factor 1.

    >>> local_outlier_factor(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2).argmax().item()
    3
    """
    k = min(neighbours, len(points) - 1)
    if k < 1:
        return torch.ones(len(points), device=points.device)
    distance, index = nearest(points, points, k + 1)
    distance, index = distance[:, 1:], index[:, 1:]  # without the point itself; (N, k)
    k_distance = distance[:, -1]  # definition 3
    reach = torch.maximum(k_distance[index], distance).mean(1)  # definition 5, averaged over the neighbours
    reach = reach.clamp(min=max(_FLOOR * float(reach.mean()), 1e-12))
    density = 1 / reach  # definition 6
    return density[index].mean(1) / density  # definition 7


def oddness(rows: Tensor, places: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """LOF (N,) of each of ``rows`` (N, D) among those with the same number in ``places`` (N,)."""
    factors = torch.ones(len(rows), device=rows.device)
    order = places.argsort(stable=True)
    sizes = places[order].unique_consecutive(return_counts=True)[1].tolist()
    for members in order.split(sizes):
        factors[members] = local_outlier_factor(rows[members], neighbours)
    return factors
