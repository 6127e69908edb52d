"""SubspaceAD: good patches lie in a subspace of feature space; what sticks out of it is the anomaly.

C. Lendering, E. Akdag, E. Bondarev, "SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling",
CVPR 2026 (arXiv:2602.23013). Constants are those of the paper and of its code (github.com/CLendering/SubspaceAD).

    x     = mean over layers of the features of a patch
    mu, C = mean and principal components of all patches x of all good images and of their rotated copies;
            the r components with the largest variances, r the smallest number that explains tau of all variance
    S(x)  = |(x - mu) - C C^T (x - mu)|^2                              the residual outside the subspace
    image = mean of the largest 1 % of the map's values

Letters: D dimensions of x, C (D, r), tau ``variance``; B images, h and w the grid, N patches seen, P = I - C C^T.

Differences from the paper: any backbone (the paper: DINOv2-G, layers 22 to 28, at 672 pixels); layers that differ in
channels or stride are joined instead of averaged. Moments are kept as float64 sums, so images come in any order, in any
split, from any number of sites, and the memory does not grow with them. Rotated copies are ``rotations`` turns at equal
angles instead of 30 random ones, with mirrored corners instead of black ones; none by default, because upright parts
need none and the authors leave them out where a turn would be a defect. The map is blurred by a Gaussian of
``blur_sigma`` pixels of the input (the code: 3 x 3 pixels).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import DataError, NotFittedError, SettingsError
from andon.features.gaussian import Moments, add_up
from andon.features.patches import to_map
from andon.features.tokens import fuse, fused_channels, top_mean
from andon.models.base import ClosingDetector, Progress, Scores, State
from andon.models.checks import fraction, number, open_backbone, require_images, whole

SUMS = ("count", "total", "second")


class SubspaceAD(ClosingDetector):
    """Scores by the squared distance of each patch to the subspace of good ones. Closed form; a few images do.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones).
    ``variance``: tau, the share of the variance that the subspace explains, below 1 (paper: 0.99).
    ``rotations``: turned copies of each image that are observed with it, at equal angles (paper: 30).
    ``top_share``: of the map's values that the image score is the mean of. ``blur_sigma``: pixels; 0 for none.
    """

    title = "SubspaceAD"
    paper = (
        "Lendering et al. 2026, SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling"
    )
    mean: Tensor  # mu: (D,) float32
    residual: Tensor  # P: (D, D) float32
    rank: Tensor  # r: () int64

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        variance: float = 0.99,
        rotations: int = 0,
        top_share: float = 0.01,
        blur_sigma: float = 4.0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.variance = fraction("variance", variance)
        if self.variance == 1:
            raise SettingsError("variance must be below 1, got 1: nothing would lie outside the subspace")
        self.rotations = whole("rotations", rotations)
        self.top_share = fraction("top_share", top_share)
        self.blur_sigma = number("blur_sigma", blur_sigma)
        self.dimensions = fused_channels(self.backbone, self.layers)
        self.register_buffer("mean", torch.zeros(self.dimensions))
        self.register_buffer("residual", torch.zeros(self.dimensions, self.dimensions))
        self.register_buffer("rank", torch.zeros((), dtype=torch.int64))
        self.reset()

    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""
        self._moments = Moments("shared", 1, self.dimensions)
        self.mean, self.residual = torch.zeros_like(self.mean), torch.zeros_like(self.residual)
        self.rank = torch.zeros_like(self.rank)
        self.mark(fitted=False)

    def patches(self, images: Tensor) -> Tensor:
        """x (B, D, h, w) of ``images`` (B, 3, H, W)."""
        return fuse(self.backbone, self.backbone(images), self.layers)

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Add the patches of ``images``, and of their rotated copies, to the moments."""
        require_images(images)
        for turned in rotated(images, self.rotations):
            rows = self.patches(turned).float().permute(0, 2, 3, 1).reshape(-1, 1, self.dimensions)
            self._moments.add(rows)

    def statistics(self) -> State:
        """``count`` () of patches, ``total`` (1, D) and ``second`` (D (D + 1) / 2,): float64 sums."""
        return self._moments.state()

    def load_statistics(self, state: State) -> None:
        """Take over ``state``. Raises :class:`DataError` when it was taken with other settings."""
        moments = Moments.from_state("shared", state)
        if moments.dimensions != self.dimensions:
            raise DataError(
                f"patches have {self.dimensions} dimensions with this backbone and these layers, the state's have "
                f"{moments.dimensions}. Use the settings that the state was made with."
            )
        self._moments = moments

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """The sums of all patches of all states. ``weights`` play no part: the sums hold their own counts."""
        return add_up([{name: state[name] for name in SUMS} for state in states])

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Turn the moments into mean and subspace. ``held_out`` is not looked at."""
        if not float(self._moments.count):
            raise NotFittedError(
                "SubspaceAD has seen no image: show it good images with observe() before close()"
            )
        components = principal_components(self._moments.covariance(), self.variance)  # C
        outside = torch.eye(self.dimensions, dtype=torch.float64) - components @ components.T
        device = self.mean.device
        self.mean, self.residual = self._moments.mean()[0].float().to(device), outside.float().to(device)
        self.rank = torch.tensor(components.shape[1], device=device)
        self.mark(fitted=True)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): squared residuals in feature space."""
        self.require_fitted()
        require_images(images)
        x = self.patches(images)
        h, w = int(x.shape[2]), int(x.shape[3])
        deviation = x.permute(0, 2, 3, 1).flatten(0, 2) - self.mean  # (B h w, D)
        squared = (deviation @ self.residual).square().sum(1)  # S
        size = (int(images.shape[2]), int(images.shape[3]))
        anomaly_map = to_map(squared.reshape(-1, 1, h, w), size, self.blur_sigma)
        return Scores(anomaly_map, top_mean(anomaly_map, self.top_share))


def principal_components(covariance: Tensor, share: float) -> Tensor:
    """C (D, r): the directions of largest variance, as few as explain ``share`` of it all; none where there is none.

    >>> principal_components(torch.diag(torch.tensor([0.0, 9.0, 1.0])), 0.9).abs()
    tensor([[0.],
            [1.],
            [0.]])
    """
    variances, vectors = torch.linalg.eigh(covariance)  # rising
    explained = variances.clamp(min=0).flip(0).cumsum(0)
    total = float(explained[-1])
    if total <= 0:
        return vectors[:, :0]
    enough = int((explained < share * total).sum()) + 1
    return vectors.flip(1)[:, :enough]


def rotated(images: Tensor, copies: int) -> Iterator[Tensor]:
    """``images`` (B, 3, H, W) and ``copies`` of them turned about the centre, by equal parts of a whole turn.

    What comes in from outside the image is the image mirrored at its border.
    """
    yield images
    h, w = int(images.shape[2]), int(images.shape[3])
    for copy in range(1, copies + 1):
        angle = 2 * math.pi * copy / (copies + 1)
        cos, sin = math.cos(angle), math.sin(angle)
        theta = images.new_tensor([[cos, -sin * h / w, 0], [sin * w / h, cos, 0]]).expand(len(images), 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        yield F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
