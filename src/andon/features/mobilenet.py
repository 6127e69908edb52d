"""The MobileNetV2 trunk with BatchNorm folded: Sandler et al. 2018 (arXiv:1801.04381), Table 2.

Layers are called `block0` to `block16`; a layer is a block's linear output (no activation after it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from andon.features.trunk import Backbone, LayerInfo, fold_state, upto

# Table 2 of the paper: expansion t, channels c, repeats n, stride s of the first.
TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
DEFAULT_LAYERS = ("block5", "block12")  # the last of stride 8 and of stride 16


class InvertedResidual(nn.Module):
    """(x +) project1x1(relu6(depthwise3x3(relu6(expand1x1(x)))))."""

    def __init__(self, i: int, o: int, stride: int, t: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(i, i * t, 1) if t > 1 else None
        self.depthwise = nn.Conv2d(i * t, i * t, 3, stride, 1, groups=i * t)
        self.project = nn.Conv2d(i * t, o, 1)
        self.residual = stride == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / stride, w / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


def _plan() -> list[tuple[int, int, int, int]]:
    """(channels in, channels out, stride, expansion) of the 17 blocks."""
    plan, i = [], 32
    for t, c, n, s in TABLE:
        for k in range(n):
            plan.append((i, c, s if k == 0 else 1, t))
            i = c
    return plan


def _known() -> dict[str, LayerInfo]:
    """Every block with its channels and its stride."""
    known, stride = {}, 2
    for k, (_, o, s, _) in enumerate(_plan()):
        stride *= s
        known[f"block{k}"] = LayerInfo(o, stride)
    return known


class MobileNetV2(Backbone):
    """Feature maps of MobileNetV2's blocks."""

    KNOWN: ClassVar[dict[str, LayerInfo]] = _known()

    def __init__(self, layers: Sequence[str] = DEFAULT_LAYERS) -> None:
        super().__init__("mobilenet_v2", self.KNOWN, layers)
        self.conv = nn.Conv2d(3, 32, 3, 2, 1)
        self.depth = upto(self.KNOWN, layers)
        self.blocks = nn.ModuleList(InvertedResidual(*row) for row in _plan()[: len(self.depth)])
        self.freeze()

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 32, H / 2, W / 2)."""
        return F.relu6(self.conv(x))

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """The stem, then one stage a block."""
        return self.run(self.stem(x), zip(self.depth, self.blocks, strict=True))


def mobilenet_from_state(state: Mapping[str, Tensor], layers: Sequence[str] | None = None) -> MobileNetV2:
    """A MobileNetV2 from torchvision's names (`features.1.conv.0.0`) or a list (`convs.0`, norms folded).

    Both list the convolutions in the order in which they run, so they are taken in that order.
    """
    net = MobileNetV2(layers or DEFAULT_LAYERS)
    folded = fold_state(state)
    kernels = [key for key, value in folded.items() if key.endswith(".weight") and value.ndim == 4]
    source = [key.removesuffix(".weight") for key in sorted(kernels, key=_natural)]
    target = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    pairs = list(zip(target, source, strict=False))  # what the file has beyond the deepest layer is left out
    return net.load_frozen(
        {f"{to}.{part}": folded[f"{at}.{part}"] for to, at in pairs for part in ("weight", "bias")}
    )


def _natural(key: str) -> list[int]:
    """The numbers in a name, so that `convs.10` follows `convs.9`."""
    return [int(number) for number in re.findall(r"\d+", key)]
