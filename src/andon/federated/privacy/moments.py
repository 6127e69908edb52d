"""PaDiM's and SubspaceAD's moments with noise. P patches an image, D dimensions each, y a patch in public coordinates.

Each image contributes (1, t, S), t sums or means of its y, S of their products as `svec`, |svec(y y')| = |y|^2. Patches are
first shortened to length C, so that one image moves these by at most

    per position (PaDiM)         t = (y_1..y_P), S = (y_p y_p')_p     |t| <= sqrt(P) C    |S| <= sqrt(P) C^2
    shared (PaDiM)               t = (y_1..y_P), S = mean_p y_p y_p'  |t| <= sqrt(P) C    |S| <= C^2
    diagonal (PaDiM)             t = (y_1..y_P), S = (y_p^2)_p        |t| <= sqrt(P) C    |S| <= sqrt(P) C^2
    pooled (SubspaceAD)          t = mean_p y_p, S = mean_p y_p y_p'  |t| <= C            |S| <= C^2

(means by convexity; y_p^2 entry by entry, of length at most |y_p|^2). With weights b, 1, a of the three blocks the first line
is Delta = sqrt(b^2 + P (C^2 + a^2 C^4)), the last sqrt(b^2 + C^2 + a^2 C^4). Whole images are far from these worst cases,
for patches point in many directions: ``mechanism`` holds each image's t and S to bounds found on public images, which
are a few times smaller, and so is the noise. What leaves the site is turned back into the detector's own sums: linear, so that
sites still add up; the count is noisy, too. The server puts right what noise broke (``repaired``): a covariance with negative
directions; positions' means that differ by noise. That looks at nothing but what was released, and costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from andon.features.gaussian import pack, unpack
from andon.federated.privacy.mechanism import COUNT, ClippedSum, clip_rows
from andon.federated.privacy.public import Frame, smat, svec
from andon.federated.types import Contribution
from andon.models.base import State
from andon.models.padim import PaDiM
from andon.models.subspacead import SubspaceAD, rotated

TYPICAL = (
    0.9  # quantile over public images (or patches) that bounds one image's share (or one patch's length)
)
ROOM = 1.5  # times as long as public patches those of real parts may be: they lie farther out
SHARES = {COUNT: 0.08, "total": 0.27, "second": 0.65}  # of the privacy
FEWEST = 2.0  # images that a noisy count stands for at least


class PrivateMoments:
    """The moments of ``detector`` over a site's images, private to each image.

    ``public``: images (n, 3, H, W) that anybody may see. ``worst_case``: bounds for any images, as above, instead of those
    found on public ones.
    """

    def __init__(self, detector: PaDiM | SubspaceAD, public: Tensor, *, worst_case: bool = False) -> None:
        self.detector, self.size = detector, (int(public.shape[2]), int(public.shape[3]))
        self.pooled = isinstance(detector, SubspaceAD)
        self.kind = "pooled" if isinstance(detector, SubspaceAD) else detector.covariance
        shown = self.features(public)  # (n, P, D)
        self.positions, self.dimensions = int(shown.shape[1]), int(shown.shape[2])
        self.frame = Frame.of(shown.flatten(0, 1), diagonal=self.kind == "diagonal")
        lengths = torch.linalg.vector_norm(self.frame.into(shown), dim=2)
        longest = torch.quantile(lengths.flatten()[:: max(1, lengths.numel() // 100_000)], TYPICAL)
        self.clip = ROOM * float(longest)
        self.bounds = {COUNT: 1.0, **self.worst()}
        if not worst_case:
            for name, block in self.blocks(shown).items():
                typical = float(torch.quantile(torch.linalg.vector_norm(block.flatten(1), dim=1), TYPICAL))
                self.bounds[name] = min(self.bounds[name], typical)

    def worst(self) -> dict[str, float]:
        """The longest that one image's t and S can be, whatever it shows."""
        wide = math.sqrt(self.positions)
        total = self.clip * (1 if self.pooled else wide)
        return {"total": total, "second": self.clip**2 * (1 if self.kind in ("pooled", "shared") else wide)}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(n, P, D) patches of ``images`` (n, 3, H, W); of their rotated copies, too, where the detector takes them."""
        if isinstance(self.detector, PaDiM):
            return self.detector.embed(images).float().flatten(2).mT
        found = [self.detector.patches(turned).float() for turned in rotated(images, self.detector.rotations)]
        return torch.cat([one.flatten(2).mT for one in found], dim=1)

    def blocks(self, features: Tensor) -> dict[str, Tensor]:
        """t and S (n, ...) float64 of each image's patches (n, P, D)."""
        y = clip_rows(self.frame.into(features), self.clip)
        if self.kind == "diagonal":
            second = y.square()
        elif self.kind == "position":
            second = svec(y[..., :, None] * y[..., None, :])
        else:
            second = svec(y.mT @ y / self.positions)
        return {"total": y.mean(1, keepdim=True) if self.pooled else y, "second": second}

    def gather(self) -> ClippedSum:
        """An empty sum of this kind."""
        return ClippedSum(self.bounds, SHARES)

    def state(self, sums: Mapping[str, Tensor]) -> State:
        """``sums``, of :class:`ClippedSum`, as the detector's own unclosed statistics."""
        count, total = sums[COUNT], sums["total"]
        each = float(self.positions)  # patches that a mean over an image stands for
        if self.kind == "diagonal":
            scale, centre = self.frame.back.diag(), self.frame.centre
            second = sums["second"] * scale**2 + 2 * total * scale * centre + count * centre**2
        else:
            middle = total.mean(0) if self.kind == "shared" else total[0] if self.pooled else total
            matrices = smat(sums["second"], self.dimensions)
            second = pack(self.frame.products_back(count, middle, matrices))
        back = self.frame.sums_back(count, total)
        if self.pooled:
            return {"count": count * each, "total": back * each, "second": second * each}
        state = {"count": count, "total": back, "second": second * each if self.kind == "shared" else second}
        return {**state, "image_size": torch.tensor(self.size)}

    def merged(self, contributions: Sequence[Contribution], noise: float) -> State:
        """What the sites' states come to, put right; each has noise of multiplier ``noise``."""
        state = type(self.detector).merge([one.state for one in contributions], [1.0] * len(contributions))
        return self.repaired(state, noise, len(contributions))

    def repaired(self, state: State, noise: float, sites: int = 1) -> State:
        """``state`` with covariances that are some: no direction's variance is below what ``sites`` times noise alone makes.

        The largest eigenvalue of the noise is about s sqrt(2 D) (a symmetric matrix with deviation s on the diagonal and
        s / sqrt(2) beside it). PaDiM divides by variances: smaller ones are raised to that. SubspaceAD keeps large ones:
        smaller ones are dropped.
        """
        each = float(self.positions) if self.pooled else 1.0
        count = (state["count"] / each).clamp(min=FEWEST)
        spread = self.gather().deviations(noise)["second"] * math.sqrt(sites) / float(count)
        total = self.frame.sums_into(count, state["total"] / each)  # of y
        noisy = self.gather().deviations(noise)["total"] * math.sqrt(sites) / float(count)
        mean = total / count if self.pooled else nearer(total / count, noisy)
        if self.kind == "diagonal":
            raw = state["second"] - 2 * state["total"] * self.frame.centre + count * self.frame.centre**2
            variance = raw * self.frame.forward.diag() ** 2 / count - mean.square()
            sums = {"second": count * (variance.clamp(min=2 * spread + 1e-12) + mean.square())}
        else:
            sums = {"second": self._sound(state, count, mean, spread * math.sqrt(2 * self.dimensions))}
        return self.state({COUNT: count, "total": count * mean, **sums})

    def _sound(self, state: State, count: Tensor, mean: Tensor, edge: float) -> Tensor:
        """Sums of y y' as `svec`, eigenvalues of the covariance below ``edge`` raised to it (or dropped)."""
        scale = self.positions if self.kind in ("pooled", "shared") else 1
        total_x = state["total"] / self.positions if self.pooled else state["total"]
        second_x = unpack(state["second"] / scale, self.dimensions)
        middle_x = total_x.mean(0) if self.kind == "shared" else total_x[0] if self.pooled else total_x
        second = self.frame.products_into(count, middle_x, second_x) / count
        if self.kind == "shared":
            between = mean.T @ mean / self.positions
        else:
            own = mean[0] if self.pooled else mean
            between = own[..., :, None] * own[..., None, :]
        values, vectors = torch.linalg.eigh(second - between)
        kept = torch.where(values > edge, values, 0.0) if self.pooled else values.clamp(min=max(edge, 1e-12))
        return svec(count * (vectors * kept[..., None, :] @ vectors.mT + between))


def nearer(means: Tensor, deviation: float) -> Tensor:
    """``means`` (P, D) with noise of ``deviation``, drawn to the mean of all positions by as much as is noise.

    James and Stein 1961: by the factor 1 - (P D) s^2 / |differences|^2, at least 0.
    """
    middle = means.mean(0)
    apart = means - middle
    explained = 1 - apart.numel() * deviation**2 / float(apart.square().sum().clamp(min=1e-300))
    return middle + max(explained, 0.0) * apart
