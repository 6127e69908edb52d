"""FRE: pictures of good parts lie in a low-dimensional space of features; what that cannot express is the anomaly.

I. Ndiour, N. Ahuja, U. Genc, O. Tickoo, "FRE: A Fast Method For Anomaly Detection And Segmentation", BMVC 2023
(arXiv:2211.12650).

    f        features of the whole image, pooled, as one vector;  mu, C = mean and principal components over good images
    FRE(f)   = |f - mu - C C^T (f - mu)|                the feature reconstruction error, over the whole vector
    FRE map  = the same norm over the channels of each position alone

One vector an image, not one a patch: a part that is missing, doubled or in the wrong place is a combination that the
components of good images cannot give, even where each patch of it is known.

Letters: B images, D channels of all layers together, g ``grid``, K = D g g, n images seen, r components, M rows held.

Differences from the paper: layers are joined, where the paper takes one; they are pooled to g x g cells whatever the
image's size (the paper: by 2 to 4 positions a side); the image score is the largest value of the map before the blur instead of
the error of the whole vector, so that a small defect need not stand out of the sum of all cells; the map is blurred. A mean
and rows whose outer products add up to the scatter are kept while observing; when ``buffer_limit`` rows are held they are
reduced to half as many principal ones, as in sequential Karhunen-Loeve (Levy and Lindenbaum 2000; with the mean's update of
Ross et al. 2008), so that memory stays bounded. Up to that many images the components are exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import DataError, NotFittedError
from andon.features.patches import join, joined_channels, to_map
from andon.models.base import ClosingDetector, Progress, Scores, State
from andon.models.checks import number, open_backbone, require_images, whole

NEGLIGIBLE = 1e-5  # of the largest singular value: directions below it are rounding


class FRE(ClosingDetector):
    """Scores by what the principal components of whole good images leave unexplained. Closed form, fitted in seconds.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones). ``grid``: g, cells a
    side that the features are pooled to. ``components``: r, at most; with n images there are at most n - 1.
    ``blur_sigma``: of the map, in pixels of the input; 0 for none. ``buffer_limit``: M at most (4 K bytes each).
    """

    title = "FRE"
    paper = "Ndiour et al. 2023, FRE: A Fast Method For Anomaly Detection And Segmentation"
    mean: Tensor  # mu: (K,) float32
    directions: Tensor  # C^T: (r, K) float32, orthonormal rows
    strengths: Tensor  # (r,) float32: the scatter's singular values along them

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        grid: int = 8,
        components: int = 100,
        blur_sigma: float = 4.0,
        buffer_limit: int = 400,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.grid, self.components = whole("grid", grid, 1), whole("components", components, 1)
        self.blur_sigma = number("blur_sigma", blur_sigma)
        self.buffer_limit = whole("buffer_limit", buffer_limit, 2)
        self.length = joined_channels(self.backbone, self.layers) * grid * grid
        self.register_buffer("mean", torch.zeros(self.length))
        self.register_buffer("directions", torch.empty(0, self.length))
        self.register_buffer("strengths", torch.empty(0))
        self.reset()

    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""
        self._forget()
        self.mean = torch.zeros_like(self.mean)
        self.directions, self.strengths = self.directions[:0], self.strengths[:0]
        self.mark(fitted=False)

    def _forget(self) -> None:
        self._count = 0
        self._mean = torch.zeros(self.length, dtype=torch.float64)
        self._rows: list[Tensor] = []  # (K,) float32 each: their outer products add up to the scatter

    def describe(self, images: Tensor) -> Tensor:
        """f (B, D, g, g) of ``images`` (B, 3, H, W)."""
        features = join(self.backbone(images), self.layers)
        rows, columns = (_pooling(int(side), self.grid, like=features) for side in features.shape[2:])
        return rows @ features @ columns.T

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Add ``images`` one by one, so that the result does not depend on how they were batched."""
        require_images(images)
        for f in self.describe(images).flatten(1).cpu().double():
            self._add(1, f, [])

    def _add(self, count: int, mean: Tensor, rows: Sequence[Tensor]) -> None:
        """Add ``count`` images of that ``mean`` whose scatter about it is that of ``rows`` (Ross et al. 2008, section 3.1)."""
        apart = mean - self._mean
        total = self._count + count
        if self._count:
            self._hold([*rows, ((self._count * count / total) ** 0.5 * apart).float()])
        else:
            self._hold(rows)
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def _hold(self, rows: Sequence[Tensor]) -> None:
        for row in rows:
            self._rows.append(row)
            if len(self._rows) >= self.buffer_limit:
                self._rows = list(_principal(torch.stack(self._rows), self.buffer_limit // 2))

    def statistics(self) -> State:
        """``images_seen`` () int64, ``mean`` (K,) float64 and ``rows`` (M, K) float32: the scatter is rows^T rows."""
        rows = torch.stack(self._rows) if self._rows else torch.empty(0, self.length)
        return self._state(rows)

    def kept_statistics(self) -> State:
        """As :meth:`statistics`, with the components in use for the rows."""
        self.require_fitted()
        return self._state((self.strengths[:, None] * self.directions).cpu())

    def _state(self, rows: Tensor) -> State:
        return {"images_seen": torch.tensor(self._count), "mean": self._mean.clone(), "rows": rows}

    def load_statistics(self, state: State) -> None:
        """Take over ``state``. Raises :class:`DataError` when it was taken with other settings."""
        if state["rows"].shape[1:] != (self.length,):
            raise DataError(
                f"rows must be (M, {self.length}) with this backbone, these layers and grid={self.grid}, "
                f"got {tuple(state['rows'].shape)}. Use the settings that the state was made with."
            )
        self._forget()
        self._count, self._mean = int(state["images_seen"]), state["mean"].cpu().double().clone()
        self._hold(list(state["rows"].cpu().float().clone()))

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """The mean and the scatter of all images of all states. ``weights`` play no part: states hold their own counts."""
        merged = {name: tensor.clone() for name, tensor in states[0].items()}
        for state in states[1:]:
            ours, theirs = int(merged["images_seen"]), int(state["images_seen"])
            apart, total = state["mean"] - merged["mean"], max(1, ours + theirs)
            between = [((ours * theirs / total) ** 0.5 * apart).float()[None]] if ours and theirs else []
            merged = {
                "images_seen": merged["images_seen"] + state["images_seen"],
                "mean": merged["mean"] + apart * (theirs / total),
                "rows": torch.cat([merged["rows"], state["rows"], *between]),
            }
        return merged

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Turn the scatter into its principal components. ``held_out`` is not looked at."""
        if not self._count:
            raise NotFittedError("FRE has seen no image: show it good images with observe() before close()")
        device = self.mean.device
        rows = torch.stack(self._rows) if self._rows else torch.empty(0, self.length)
        principal = _principal(rows, self.components)
        strengths = torch.linalg.vector_norm(principal, dim=1)
        self.mean, self.strengths = self._mean.float().to(device), strengths.to(device)
        self.directions = (principal / strengths[:, None]).to(device)
        self.mark(fitted=True)

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W): distances in feature space."""
        self.require_fitted()
        require_images(images)
        f = self.describe(images)
        deviation = f.flatten(1) - self.mean  # f - mu: (B, K)
        error = deviation - (deviation @ self.directions.T) @ self.directions
        cells = error.reshape(f.shape).square().sum(1, keepdim=True).sqrt()  # (B, 1, g, g)
        size = (int(images.shape[2]), int(images.shape[3]))
        return Scores(to_map(cells, size, self.blur_sigma), cells.flatten(1).amax(1))


def _pooling(source: int, cells: int, *, like: Tensor) -> Tensor:
    """The matrix (cells, source) that takes the mean over each of ``cells`` parts of ``source`` positions."""
    unit = torch.eye(source, dtype=like.dtype, device=like.device)
    return F.adaptive_avg_pool1d(unit[None], cells)[0].T


def _principal(rows: Tensor, count: int) -> Tensor:
    """At most ``count`` orthogonal rows that keep most of the scatter of ``rows`` (M, K): singular value times direction.

    From the eigenvectors of the M x M products, in float64; directions that are only rounding are left out.
    """
    if not len(rows):
        return rows
    double = rows.double()
    values, vectors = torch.linalg.eigh(double @ double.T)  # rising
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    real = values > NEGLIGIBLE**2 * values[0].clamp(min=1e-30)
    return (vectors.T[real] @ double).float()
