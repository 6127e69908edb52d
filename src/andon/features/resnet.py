"""ResNet trunks with BatchNorm folded: He et al. 2016 (arXiv:1512.03385).

Wide ones: Zagoruyko & Komodakis 2016 (arXiv:1605.07146).

`ResNet` covers 18, 34, 50, 101 and the wide ones by their block counts; `ResNetV2` is the pre-activation
network (arXiv:1603.05027). Layer names and weight names are torchvision's (`layer1` to `layer4`).
Letters: I channels in, O channels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from andon.features.trunk import Backbone, LayerInfo, fold_state, upto

LAYERS = ("layer1", "layer2", "layer3", "layer4")
STRIDES = (4, 8, 16, 32)


class BasicBlock(nn.Module):
    """relu(x' + conv3x3(relu(conv3x3(x)))), x' projected by 1x1 where the shape changes."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1)
        self.downsample = shortcut(i, o, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / stride, w / stride)."""
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """relu(x' + conv1x1(relu(conv3x3(relu(conv1x1(x))))); the stride is in the 3x3, as in torchvision."""

    def __init__(self, i: int, mid: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, mid, 1)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1)
        self.conv3 = nn.Conv2d(mid, o, 1)
        self.downsample = shortcut(i, o, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / stride, w / stride)."""
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def shortcut(i: int, o: int, stride: int) -> nn.Sequential:
    """The identity, or a 1x1 convolution where channels or stride change."""
    return nn.Sequential() if stride == 1 and i == o else nn.Sequential(nn.Conv2d(i, o, 1, stride))


class ResNet(Backbone):
    """Feature maps of a ResNet. `counts`: blocks a layer, 0 = absent; `width`: the first layer's inner channels."""

    def __init__(
        self, name: str, counts: Sequence[int], bottleneck: bool, width: int, layers: Sequence[str]
    ) -> None:
        outs = [(256 if bottleneck else 64) * 2**k for k in range(4)]
        rows = zip(LAYERS, outs, STRIDES, counts, strict=True)
        known = {layer: LayerInfo(o, s, rectified=True) for layer, o, s, count in rows if count}
        super().__init__(name, known, layers)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.depth = upto(known, layers)
        for k, layer in enumerate(self.depth):
            blocks: list[nn.Module] = []
            for n in range(counts[k]):
                i = outs[k] if n else outs[k - 1] if k else 64
                stride = 2 if n == 0 and k else 1
                mid = width * 2**k
                blocks.append(
                    Bottleneck(i, mid, outs[k], stride) if bottleneck else BasicBlock(i, mid, stride)
                )
            self.add_module(layer, nn.Sequential(*blocks))
        self.freeze()

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """The stem, then one stage a layer."""
        return self.run(self.stem(x), ((layer, self.get_submodule(layer)) for layer in self.depth))


def resnet_from_state(state: Mapping[str, Tensor], layers: Sequence[str] | None = None) -> ResNet:
    """A ResNet, depth and width read from torchvision's names and the shapes, norms folded or not."""
    counts = [_count(state, f"{layer}.") for layer in LAYERS]
    bottleneck = "layer1.0.conv3.weight" in state
    width = int(state["layer1.0.conv1.weight"].shape[0])
    name = _resnet_name(counts, bottleneck, width)
    net = ResNet(name, counts, bottleneck, width, layers or ("layer2", "layer3"))
    return net.load_frozen(fold_state(state))


def _resnet_name(counts: Sequence[int], bottleneck: bool, width: int) -> str:
    """The usual name of the network, also when its last layer is absent."""
    if not bottleneck:
        return {(2, 2): "resnet18", (3, 4): "resnet34"}.get((counts[0], counts[1]), "resnet")
    depth = {6: "50", 23: "101", 36: "152"}.get(counts[2], "")
    return f"resnet{depth}" if width == 64 else f"wide_resnet{depth}_{width // 64}"


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children `prefix` has in `state`."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


class PreActivation(nn.Module):
    """x' + conv1x1(a(conv3x3(a(conv1x1(a(x)))))), a = relu after norm; x' is projected from a(x)."""

    def __init__(self, i: int, mid: int, o: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, mid, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(mid), nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(mid), nn.Conv2d(mid, o, 1, bias=False)
        self.down = nn.Conv2d(i, o, 1, stride, bias=False) if i != o else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, h / stride, w / stride)."""
        a = F.relu(self.bn1(x))
        y = F.relu(self.bn2(self.conv1(a)))
        y = self.conv3(F.relu(self.bn3(self.conv2(y))))
        return y + (x if self.down is None else self.down(a))


class ResNetV2(Backbone):
    """Feature maps of the pre-activation ResNet-50, sums before the next norm; `layer1` to `layer3`."""

    KNOWN: ClassVar[dict[str, LayerInfo]] = {
        "layer1": LayerInfo(256, 4),
        "layer2": LayerInfo(512, 8),
        "layer3": LayerInfo(1024, 16),
    }
    COUNTS = (3, 4, 6)

    def __init__(self, layers: Sequence[str] = ("layer2", "layer3")) -> None:
        super().__init__("resnet50v2", self.KNOWN, layers)
        self.bn0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.depth = upto(self.KNOWN, layers)
        parts = []
        i = 64
        for k, layer in enumerate(self.depth):
            mid, o = 64 * 2**k, self.KNOWN[layer].channels
            inputs = [i] + [o] * (self.COUNTS[k] - 1)
            strides = [2 if k else 1] + [1] * (self.COUNTS[k] - 1)
            parts.append([PreActivation(c, mid, o, s) for c, s in zip(inputs, strides, strict=True)])
            i = o
        self.blocks = nn.ModuleList(nn.Sequential(*blocks) for blocks in parts)
        self.freeze()

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(self.bn1(self.conv0(self.bn0(x)))), 3, 2, 1)

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """The stem, then one stage a layer."""
        return self.run(self.stem(x), zip(self.depth, self.blocks, strict=True))


def resnetv2_from_state(state: Mapping[str, Tensor], layers: Sequence[str] | None = None) -> ResNetV2:
    """A pre-activation ResNet-50 from a state whose stages are called `stages.0` to `stages.2`."""
    net = ResNetV2(layers or ("layer2", "layer3"))
    renamed = {key.replace("stages.", "blocks.", 1): value for key, value in state.items()}
    counters = {key: torch.tensor(0) for key in net.state_dict() if key.endswith("num_batches_tracked")}
    return net.load_frozen(counters | renamed)
