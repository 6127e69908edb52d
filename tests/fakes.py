"""What tests use in place of weights and photographs: a small fixed backbone, drawn parts, an ONNX run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from andon.features.trunk import LayerInfo
from andon.models.base import Detector


class FakeBackbone(nn.Module):
    """Keeps a backbone's contract with a few oriented filters and seeded random mixtures of them. No weights."""

    name = "fake"

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"fine": LayerInfo(16, 4), "coarse": LayerInfo(24, 8)}
        self.default_layers = ("fine", "coarse")
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("edges", oriented_filters())  # (12, 3, 7, 7)
        self.register_buffer("mix", torch.randn(16, 12, 3, 3, generator=generator) / 10)
        self.register_buffer("deep", torch.randn(24, 16, 3, 3, generator=generator) / 12)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{"fine": (B, 16, H/4, W/4), "coarse": (B, 24, H/8, W/8)}."""
        x = F.conv2d(images - 0.5, self.edges, stride=2, padding=3).abs()
        fine = F.relu(F.conv2d(x, self.mix, stride=2, padding=1))
        return {"fine": fine, "coarse": F.relu(F.conv2d(fine, self.deep, stride=2, padding=1))}


def oriented_filters() -> Tensor:
    """(12, 3, 7, 7): six grey gratings of different angle, each in two phases."""
    rows, columns = torch.meshgrid(torch.arange(-3.0, 4.0), torch.arange(-3.0, 4.0), indexing="ij")
    window = torch.exp(-(rows**2 + columns**2) / 8)
    filters = []
    for step in range(6):
        angle = torch.tensor(step * torch.pi / 6)
        along = rows * torch.sin(angle) + columns * torch.cos(angle)
        filters += [window * torch.cos(1.5 * along), window * torch.sin(1.5 * along)]
    return torch.stack(filters)[:, None].expand(-1, 3, -1, -1) / 3


def good_parts(count: int, size: tuple[int, int] = (64, 96), seed: int = 0) -> Tensor:
    """(count, 3, H, W) in [0, 1]: a striped texture with a bright bar, a little noise and a little light."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    stripes = 0.45 + 0.12 * torch.sin(2 * torch.pi * (rows + 2 * columns) / 16)
    bar = 0.2 * ((rows > size[0] // 2 - 6) & (rows < size[0] // 2 + 6))
    light = 1 + 0.04 * torch.randn(count, 1, 1, 1, generator=generator)
    noise = 0.02 * torch.randn(count, 3, *size, generator=generator)
    return ((stripes + bar)[None, None] * light + noise).clamp(0, 1)


def plant_defects(parts: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The parts with a checkered square of 16 pixels on each, and where: (B, 3, H, W), (B, 1, H, W) bool."""
    generator = torch.Generator().manual_seed(seed)
    spoiled, masks = parts.clone(), torch.zeros_like(parts[:, :1], dtype=torch.bool)
    checks = ((torch.arange(16)[:, None] // 2 + torch.arange(16)[None] // 2) % 2).float()
    for image, mask in zip(spoiled, masks, strict=True):
        row = int(torch.randint(8, parts.shape[2] - 24, (), generator=generator))
        column = int(torch.randint(8, parts.shape[3] - 24, (), generator=generator))
        image[:, row : row + 16, column : column + 16] = checks
        mask[:, row : row + 16, column : column + 16] = True
    return spoiled, masks


class _Graph(nn.Module):
    """A detector that answers as the exported graph does: a plain tuple."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.detector(images)
        return scores.anomaly_map, scores.image_score


def export_onnx(detector: Detector, path: Path, size: tuple[int, int]) -> None:
    """Write ``detector`` as an ONNX graph with a free batch and fixed (H, W)."""
    torch.onnx.export(
        _Graph(detector).eval(),
        (torch.rand(2, 3, *size),),
        path,
        dynamo=True,
        opset_version=20,
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
        input_names=["images"],
        output_names=["anomaly_map", "image_score"],
        verbose=False,
    )


def run_onnx(path: Path, images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(anomaly_map, image_score) as ONNX Runtime answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    anomaly_map, image_score = session.run(None, {"images": images.numpy()})
    return anomaly_map, image_score
