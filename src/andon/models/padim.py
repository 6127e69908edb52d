"""PaDiM: one Gaussian a position of the image; the Mahalanobis distance to it is the anomaly.

T. Defard, A. Setkov, A. Loesch, R. Audigier, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection
and Localization", ICPR Workshops 2020 (LNCS 2022). Implemented: patch embeddings with randomly chosen channels
(section 3.1), the mean and covariance of each position (eq. 1), the Mahalanobis distance (eq. 2).

What we do differently:

- Moments are kept as float64 sums, so images come in any order, in any split, from any number of sites.
- The distance is |W (x - mu)| with W = L^-1, L L^T = Sigma: one matrix product a position, no inverse.
- ``covariance="shared"`` keeps one covariance for all positions and ``"diagonal"`` variances alone: coarser, but
  small (0.1 and 0.4 MB in place of 41 at 32 x 32 positions of 100 channels), and sound with few images.

As published code has it, coarser layers are brought to the finest grid by repeating their values (bilinearly costs about
a point of image AUROC, docs/LOG.md), and the image score is the largest value of the blurred map (the paper takes the maximum
of the anomaly map). Positions are fixed: every image must have the size of the first one observed.

Letters: B images, C channels chosen, h and w the grid, P = h w positions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from andon.errors import NotFittedError, SettingsError
from andon.features.gaussian import COVARIANCES, Covariance, Moments, add_up
from andon.features.patches import join, joined_channels, to_map
from andon.models.base import Detector, Progress, Scores, State
from andon.models.checks import number, open_backbone, require_images, whole


class PaDiM(Detector):
    """Scores by how far each position's features lie from what good images show there.

    ``backbone``, ``layers``: a name, file or module, and which of its layers (None: its default ones).
    ``dimensions``: channels kept, drawn at random from ``seed`` (at most all). ``ridge``: added to the covariance's
    diagonal, the paper's epsilon. ``blur_sigma``: of the map, in pixels of the input; 0 for none.
    ``covariance``: ``"position"`` (the paper), ``"shared"`` or ``"diagonal"``.
    """

    title = "PaDiM"
    paper = "Defard et al. 2022, PaDiM: a Patch Distribution Modeling Framework"
    channels: Tensor  # (C,) int64, rising
    image_size: Tensor  # (2,) int64: H, W; zeros before the first image
    mean: Tensor  # (C, h, w) float32
    whitening: Tensor  # W: (P, C, C), (1, C, C) or (P, C) float32

    def __init__(
        self,
        backbone: str | os.PathLike[str] | nn.Module = "andon-s",
        layers: Sequence[str] | None = None,
        dimensions: int = 100,
        ridge: float = 0.01,
        blur_sigma: float = 4.0,
        covariance: Covariance = "position",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = open_backbone(backbone, layers)
        self.dimensions = whole("dimensions", dimensions, 1)
        self.ridge = number("ridge", ridge)
        self.blur_sigma = number("blur_sigma", blur_sigma)
        if covariance not in COVARIANCES:
            raise SettingsError(f"covariance must be one of {list(COVARIANCES)}, got {covariance!r}")
        self.covariance = covariance
        self.seed = whole("seed", seed)
        self.register_buffer("channels", _draw(joined_channels(self.backbone, self.layers), dimensions, seed))
        self.register_buffer("image_size", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("mean", torch.empty(len(self.channels), 0, 0))
        self.register_buffer("whitening", torch.empty(0))
        self.reset()

    def reset(self) -> None:
        """Forget everything that was observed, as if just built."""
        self._moments: Moments | None = None
        self._size = self._fitted_size = (0, 0)  # of the images observed, and of those that forward takes
        self.image_size = torch.zeros_like(self.image_size)
        self.mean, self.whitening = self.mean[:, :0, :0], self.whitening.flatten()[:0]

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings (B, C, h, w) of ``images`` (B, 3, H, W): the chosen channels of all layers."""
        return join(self.backbone(images), self.layers, repeat=True).index_select(1, self.channels)

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Add ``images`` to the moments. Raises :class:`SettingsError` for another size than the first ones'."""
        require_images(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        values = self.embed(images).float().flatten(2).transpose(1, 2)  # (B, P, C)
        if self._moments is None:
            self._moments = Moments(self.covariance, values.shape[1], values.shape[2])
            self._size = size
        _require_size(size, self._size)
        self._moments.add(values)

    def statistics(self) -> State:
        """``count`` (), ``total`` (P, C) and ``second``, float64 sums; ``image_size`` (2,) int64; {} before any."""
        if self._moments is None:
            return {}
        return {**self._moments.state(), "image_size": torch.tensor(self._size)}

    def load_statistics(self, state: State) -> None:
        """Take over ``state``. Raises :class:`DataError` when it was taken with other settings."""
        self._moments = Moments.from_state(self.covariance, state) if state else None
        rows, columns = state["image_size"].tolist() if state else (0, 0)
        self._size = (rows, columns)

    @classmethod
    def merge(cls, states: Sequence[State], weights: Sequence[float]) -> State:
        """The sums of all images of all states. ``weights`` play no part: the sums hold their own counts.

        Raises :class:`SettingsError` for images of different sizes.
        """
        full = [state for state in states if state]
        if not full:
            return {}
        size = full[0]["image_size"]
        for state in full:
            _require_size(tuple(state["image_size"].tolist()), tuple(size.tolist()))
        sums = add_up([{name: state[name] for name in ("count", "total", "second")} for state in full])
        return {**sums, "image_size": size.clone()}

    @torch.no_grad()
    def close(self, held_out: Iterable[Tensor] = (), *, progress: Progress | None = None) -> None:
        """Turn the moments into means and whitening matrices. ``held_out`` is not looked at."""
        if self._moments is None:
            raise NotFittedError("PaDiM has seen no image: show it good images with observe() before close()")
        device = self.channels.device
        whitening = self._moments.whitening(self.ridge).to(device)
        features = self.embed(torch.zeros(1, 3, *self._size, device=device))
        self.mean = self._moments.mean().float().T.reshape(features.shape[1:]).to(device)
        self.whitening = whitening
        self._fitted_size = self._size
        self.image_size = torch.tensor(self._size, device=device)

    def load_fitted_state(self, state: State) -> None:
        """Take over ``state``, as :meth:`fitted_state` gave it to a detector of the same settings."""
        super().load_fitted_state(state)
        rows, columns = self.image_size.tolist()
        self._fitted_size = (rows, columns)

    @property
    def is_fitted(self) -> bool:
        """Whether there are means and whitening matrices."""
        return self.whitening.shape[0] > 0

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of ``images`` (B, 3, H, W), H and W as fitted: Mahalanobis distances."""
        self.require_fitted()
        require_images(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        _require_size(size, self._fitted_size)
        deviation = self.embed(images) - self.mean  # x - mu: (B, C, h, w)
        h, w = int(deviation.shape[2]), int(deviation.shape[3])
        distance = self._mahalanobis(deviation.flatten(2))  # (P, B)
        anomaly_map = to_map(distance.T.reshape(-1, 1, h, w), size, self.blur_sigma)
        return Scores(anomaly_map, anomaly_map.flatten(1).amax(1))

    def _mahalanobis(self, deviation: Tensor) -> Tensor:
        """M (P, B) of eq. 2: sqrt((x - mu)^T Sigma^-1 (x - mu)), from x - mu (B, C, P)."""
        by_position = deviation.permute(2, 0, 1)  # (P, B, C)
        if self.covariance == "diagonal":
            return torch.linalg.vector_norm(by_position * self.whitening[:, None], dim=2)
        if self.covariance == "shared":
            return torch.linalg.vector_norm(by_position @ self.whitening[0].T, dim=2)
        return torch.linalg.vector_norm(torch.bmm(by_position, self.whitening.transpose(1, 2)), dim=2)


def _draw(available: int, dimensions: int, seed: int) -> Tensor:
    """``dimensions`` of the ``available`` channels, drawn from ``seed``, rising; all when there are not more."""
    drawn = np.random.default_rng(seed).permutation(available)[:dimensions]
    return torch.from_numpy(np.sort(drawn))


def _require_size(size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if size != expected:
        raise SettingsError(
            f"PaDiM looks at fixed positions: it was fitted on images of {expected[0]} x {expected[1]} (rows x "
            f"columns), got {size[0]} x {size[1]}. Resize the images, or reset() and fit on the new size."
        )
