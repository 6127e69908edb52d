"""`andon-s`: the small backbone that ships inside the package.

Made by distillation (features/distill.py; the model card is docs/model-cards/andon-s.md). Dense 3x3
convolutions, an early stride and ReLU, because that is what processors run fastest and what 8-bit
quantisation keeps; two short outputs, because k-NN pays for each channel. 0.26 GMAC at 256x256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from andon.features.trunk import Backbone, LayerInfo, fold_state, upto

WEIGHTS = "weights/andon-s.safetensors"
LAYERS = {"stride8": LayerInfo(64, 8), "stride16": LayerInfo(96, 16)}


class Shape(NamedTuple):
    """How wide and deep a student is."""

    widths: tuple[int, int, int, int] = (16, 24, 48, 96)  # channels at stride 2, 4, 8 and 16
    blocks: tuple[int, int, int] = (1, 2, 2)  # residual blocks at stride 4, 8 and 16


ANDON_S = Shape()


class ConvNorm(nn.Module):
    """A 3x3 convolution, followed by BatchNorm while it is trained; folded into its bias afterwards."""

    def __init__(self, i: int, o: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, stride, 1, bias=not norm)
        self.bn = nn.BatchNorm2d(o) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / stride, w / stride)."""
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


class Residual(nn.Module):
    """relu(x + conv(relu(conv(x))))."""

    def __init__(self, c: int, norm: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(c, c, 1, norm), ConvNorm(c, c, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class Stage(nn.Module):
    """Halves the grid, then runs `blocks` residual blocks."""

    def __init__(self, i: int, o: int, blocks: int, norm: bool) -> None:
        super().__init__()
        self.down = ConvNorm(i, o, 2, norm)
        self.blocks = nn.Sequential(*(Residual(o, norm) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / 2, w / 2)."""
        return self.blocks(F.relu(self.down(x)))


class StudentNet(nn.Module):
    """The network of `andon-s`, trainable. images (B, 3, H, W) normalised -> {layer: features}."""

    def __init__(self, norm: bool, layers: Sequence[str] = tuple(LAYERS), shape: Shape = ANDON_S) -> None:
        super().__init__()
        (c2, c4, c8, c16), (b4, b8, b16) = shape
        self.stem = nn.Sequential(Stage(3, c2, 0, norm), Stage(c2, c4, b4, norm))
        self.depth = upto(LAYERS, layers)
        stages = {"stride8": Stage(c4, c8, b8, norm), "stride16": Stage(c8, c16, b16, norm)}
        heads = {"stride8": nn.Conv2d(c8, 64, 1), "stride16": nn.Conv2d(c16, 96, 1)}
        self.stages = nn.ModuleDict({layer: stages[layer] for layer in self.depth})
        self.heads = nn.ModuleDict({layer: heads[layer] for layer in layers})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{layer: (B, C, h, w)}, linear: a feature may be negative."""
        x = self.stem(images)
        features = {}
        for layer in self.depth:
            x = self.stages[layer](x)
            if layer in self.heads:
                features[layer] = self.heads[layer](x)
        return features


class AndonS(Backbone):
    """`andon-s`, folded and frozen. `stride8` has 64 channels, `stride16` 96."""

    def __init__(self, layers: Sequence[str] = tuple(LAYERS), shape: Shape = ANDON_S) -> None:
        super().__init__("andon-s", LAYERS, layers)
        self.net = StudentNet(norm=False, layers=tuple(self.layers), shape=shape)
        self.freeze()

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """The student's features."""
        return self.net(x)


def student_from_state(state: Mapping[str, Tensor], layers: Sequence[str] | None = None) -> AndonS:
    """An `andon-s` from a folded state (`stem.0.down.conv.weight`, ...), 16-bit floats or 32-bit."""
    net = AndonS(layers or tuple(LAYERS), shape_of(state))
    return net.load_frozen({f"net.{key}": value.float() for key, value in state.items()})


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """The widths and depths that a student's weights have."""
    parts = ("stem.0", "stem.1", "stages.stride8", "stages.stride16")
    widths = [int(state[f"{part}.down.conv.weight"].shape[0]) for part in parts]
    blocks = [len([key for key in state if re.fullmatch(rf"{re.escape(part)}\.blocks\.\d+\.conv1\.conv\.weight", key)])
              for part in parts[1:]]  # fmt: skip
    return Shape((widths[0], widths[1], widths[2], widths[3]), (blocks[0], blocks[1], blocks[2]))


def folded_state(net: StudentNet) -> dict[str, Tensor]:
    """The state of a trained `StudentNet(norm=True)` as `StudentNet(norm=False)` reads it."""
    return fold_state(net.state_dict())


def shipped_weights() -> Path:
    """The file with the weights of `andon-s` that this installation carries."""
    return Path(str(files("andon.features"))) / WEIGHTS
