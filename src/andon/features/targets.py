"""What a small backbone is taught: the features of larger ones, compressed so that distances stay.

Each teacher's channels are standardised on the images and weighted by 1 / sqrt(C), so that every teacher has the
same say; all channels of a stride are projected together by PCA; components are scaled by their variance to the
power -`whiten` / 2 (0 keeps the teachers' distances, 1 whitens).

Letters: D the student's channels, K the teachers' channels together; B images, H and W the image, h and w the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from andon.errors import SettingsError
from andon.features.trunk import Backbone, LayerInfo

Features = dict[str, Tensor]


class Targets:
    """The teachers' features, standardised, weighted, projected: `targets(images)` -> {layer: map}."""

    def __init__(
        self, teachers: Sequence[Backbone], layers: Mapping[str, LayerInfo], whiten: float = 0.5
    ) -> None:
        self.teachers, self.layers, self.whiten = list(teachers), dict(layers), whiten
        for layer, info in self.layers.items():
            given = sum(row.channels for row in self._rows() if row.stride == info.stride)
            if given < info.channels:
                strides = sorted({row.stride for row in self._rows()})
                raise SettingsError(
                    f"{layer} needs teachers with at least {info.channels} channels of stride {info.stride} together, "
                    f"got {given}; their layers have the strides {strides}"
                )
        for teacher in teachers:
            channels_last(teacher)
        self.projections: dict[str, tuple[Tensor, Tensor]] = {}  # layer -> offset (K,), matrix (K, D)
        self.explained: dict[str, float] = {}  # layer -> share of the variance that the projection keeps

    def _rows(self) -> list[LayerInfo]:
        return [info for teacher in self.teachers for info in teacher.layers.values()]

    @torch.inference_mode()
    def raw(self, images: Tensor) -> Features:
        """{layer: (B, K, h, w)}: at each stride, the features of all teachers side by side."""
        found: dict[int, list[Tensor]] = {}
        for teacher in self.teachers:
            features = teacher(images)
            for layer, info in teacher.layers.items():
                found.setdefault(info.stride, []).append(features[layer])
        return {layer: torch.cat(found[info.stride], 1) for layer, info in self.layers.items()}

    def weights(self, layer: str) -> Tensor:
        """(K,): 1 / sqrt(C) for each channel of a teacher's map with C channels."""
        counts = [row.channels for row in self._rows() if row.stride == self.layers[layer].stride]
        return torch.cat([torch.full((c,), c**-0.5) for c in counts])

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Take mean, scale and principal components from images (B, 3, H, W)."""
        sums: dict[str, _Sums] = {}
        for images in batches:
            for layer, f in self.raw(images).items():
                sums.setdefault(layer, _Sums(f.shape[1])).add(f.movedim(1, -1).flatten(0, 2))
        for layer, found in sums.items():
            self._project(layer, *found.close())

    def _project(self, layer: str, mean: Tensor, covariance: Tensor) -> None:
        """PCA of the standardised, weighted features; the D kept components have a mean variance of 1."""
        d = self.layers[layer].channels
        scale = self.weights(layer).double() / covariance.diagonal().clamp_min(1e-12).sqrt()
        variances, vectors = torch.linalg.eigh(scale[:, None] * covariance * scale)
        kept, basis = variances[-d:].flip(0), vectors[:, -d:].flip(1)
        gain = kept.clamp_min(1e-6 * float(kept[0])) ** (-self.whiten / 2)
        gain = gain / (kept * gain**2).mean().sqrt()
        self.projections[layer] = (mean.float(), (scale[:, None] * basis * gain).float())
        self.explained[layer] = float(kept.sum() / variances.sum())

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """{layer: (B, D, h, w)}."""
        out = {}
        for layer, f in self.raw(images).items():
            offset, matrix = (part.to(f.device) for part in self.projections[layer])
            out[layer] = ((f.movedim(1, -1) - offset) @ matrix).movedim(-1, 1)
        return out

    def state(self) -> dict[str, Tensor]:
        """The projections as tensors with names, for a file."""
        named = {"offset": 0, "matrix": 1}
        kept = {
            f"{layer}.{name}": pair[i]
            for layer, pair in self.projections.items()
            for name, i in named.items()
        }
        shares = {f"{layer}.explained": torch.tensor(share) for layer, share in self.explained.items()}
        return {name: tensor.contiguous() for name, tensor in {**kept, **shares}.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self.projections = {
            layer: (state[f"{layer}.offset"], state[f"{layer}.matrix"]) for layer in self.layers
        }
        self.explained = {layer: float(state[f"{layer}.explained"]) for layer in self.layers}


class _Sums:
    """Running sums for the mean (K,) and covariance (K, K) of rows, in float64."""

    def __init__(self, k: int) -> None:
        self.count = 0
        self.total = torch.zeros(k, dtype=torch.float64)
        self.outer = torch.zeros(k, k, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """rows (N, K)."""
        self.count += len(rows)
        self.total += rows.double().sum(0).cpu()
        self.outer += (rows.T @ rows).double().cpu()

    def close(self) -> tuple[Tensor, Tensor]:
        """mean (K,), covariance (K, K)."""
        mean = self.total / self.count
        return mean, self.outer / self.count - mean.outer(mean)


def channels_last(module: nn.Module) -> None:
    """Lay the weights of the module's convolutions out channels last, which is faster on processors."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def unit(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 in [0, 1], channels last, which is faster on processors."""
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)
