"""A memory bank with noise: how many patches of good images lie at each of K public centres, and where about them.

A row of PatchCore's own bank is one patch of one image, chosen because of the others: no noise on such rows is private, for
leaving out one image changes which rows are there at all (`statistic.NO_ROWS`). Here the centres c_k are public. Image i
has P patches x_p; a(p) is the nearest centre of x_p, and d_p = x_p - c_a(p) shortened to length C. With m_k = |{p: a(p) = k}|
patches at centre k it contributes

    N_k = sqrt(m_k / P)       R_k = N_k times the mean of these d_p

**Sensitivity.** sum_k N_k^2 = sum_k m_k / P = 1, so |N| = 1; |R_k| <= N_k C, so |R| <= C: with weight a of the counts, Delta =
sqrt(C^2 + a^2). The root is what makes rare patches count: with m_k / P itself the bound is the same, and an image whose
patches lie at many centres, as they do, stays far below it. The size is fixed, so that sites' sums add up, under secure
aggregation, too.

The server makes a row c_k + f R_k / N_k of each centre whose noisy N_k is no accident, f in [0, 1] the shrinkage of James
and Stein 1961 (with D numbers of deviation s: f = 1 - (D - 2) s^2 / |R_k|^2, at least 0): where the noise is larger than
what it hides, the public centre itself is the better guess. In T rounds of Lloyd's algorithm the rows are the next
round's centres, each round with noise z sqrt(T).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from andon.errors import DataError, SettingsError
from andon.features.neighbours import nearest
from andon.federated.privacy.mechanism import COUNT, ClippedSum, clip_rows
from andon.federated.privacy.public import public_centres
from andon.federated.types import Contribution
from andon.models.base import State
from andon.models.patchcore import PatchCore

REACH = 0.9  # quantile of the distances of public patches to centres of other images that their distance is held to
SHARES = {COUNT: 0.02, "counts": 0.49, "sums": 0.49}  # of the privacy
SURE = 3.0  # deviations of its noise above which a centre's count is no accident


class PrivateBank:
    """The bank of ``detector`` over a site's images, private to each image, on ``count`` public centres.

    ``public``: at least two images (n, 3, H, W) that anybody may see.
    """

    def __init__(self, detector: PatchCore, public: Tensor, count: int, *, seed: int = 0) -> None:
        if len(public) < 2:
            raise SettingsError(f"a private bank needs at least 2 public images, got {len(public)}")
        self.detector = detector
        shown = self.features(public)
        self.positions, self.dimensions = int(shown.shape[1]), int(shown.shape[2])
        self.centres = public_centres(shown.flatten(0, 1), count, seed)
        one, other = (half.flatten(0, 1) for half in shown.tensor_split(2))
        distance = nearest(other, public_centres(one, count, seed))[0]
        self.clip = float(torch.quantile(distance[:: max(1, len(distance) // 100_000)], REACH))
        self.bounds = {COUNT: 1.0, "counts": 1.0, "sums": self.clip}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(n, P, D) patches of ``images`` (n, 3, H, W)."""
        return self.detector.patches(images).float().flatten(2).mT

    def go_on_from(self, state: State) -> None:
        """Take the rows of the bank in ``state``, a merged one, for centres."""
        self.centres = state["patches"].float()

    def blocks(self, features: Tensor) -> dict[str, Tensor]:
        """N (n, K) and R (n, K, D) float64 of each image's patches (n, P, D)."""
        n, p, d = features.shape
        owner = nearest(features.flatten(0, 1), self.centres)[1].reshape(n, p)
        away = clip_rows((features - self.centres[owner]).double(), self.clip)
        share = torch.zeros(n, len(self.centres), dtype=torch.float64)
        share.scatter_add_(1, owner, torch.full((n, p), 1 / p, dtype=torch.float64))
        sums = torch.zeros(n, len(self.centres), d, dtype=torch.float64)
        sums.scatter_add_(1, owner[:, :, None].expand(n, p, d), away / p)
        return {"counts": share.sqrt(), "sums": sums / share.sqrt().clamp(min=1e-300)[:, :, None]}

    def gather(self) -> ClippedSum:
        """An empty sum of this kind."""
        return ClippedSum(self.bounds, SHARES)

    def state(self, sums: Mapping[str, Tensor]) -> State:
        """``sums``, of :class:`ClippedSum`, as they are sent: "count" (), "counts" (K,), "sums" (K, D), float64."""
        return dict(sums)

    def merged(self, contributions: Sequence[Contribution], noise: float) -> State:
        """The sites' sums as the state of a PatchCore; each has noise of multiplier ``noise``.

        Raises :class:`DataError` where no centre's count stands out of the noise.
        """
        sums = {
            name: torch.stack([one.state[name] for one in contributions]).sum(0)
            for name in (COUNT, "counts", "sums")
        }
        spread = {name: s * len(contributions) ** 0.5 for name, s in self.gather().deviations(noise).items()}
        sure = sums["counts"] > SURE * spread["counts"]
        if not bool(sure.any()):
            raise DataError(
                "the noise hides every patch: no centre's count stands out of it. Give a larger epsilon, more images, or "
                "fewer centres."
            )
        moved, counts = sums["sums"][sure], sums["counts"][sure][:, None]
        noisy = (self.dimensions - 2) * spread["sums"] ** 2
        shrunk = (1 - noisy / moved.square().sum(1, keepdim=True).clamp(min=1e-300)).clamp(min=0)
        rows = self.centres[sure] + (clip_rows(moved / counts, self.clip) * shrunk).float()
        self.centres = rows
        images = max(1, round(float(sums[COUNT])))
        return {
            "patches": rows,
            "seen": torch.tensor(images),
            "patches_seen": torch.tensor(images * self.positions),
        }
