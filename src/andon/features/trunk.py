"""The contract of a backbone: images in, named feature maps out, frozen.

Letters: B images, C channels, H and W the image, h and w the feature grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from andon.errors import SettingsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What a layer gives: its channels C, its stride (h = H / stride), and whether it ends with a ReLU (none below 0)."""

    channels: int
    stride: int
    rectified: bool = False


class Backbone(nn.Module, ABC):
    """Feature maps of a frozen network: `forward(images)` -> {layer: (B, C, h, w) float32, raw}.

    images (B, 3, H, W) float32, RGB in [0, 1]; the normalisation is inside. `layers` holds what
    `forward` returns, in order of depth; nothing deeper than its last entry is built or computed.
    Always in evaluation mode: `train()` changes nothing, and no parameter takes a gradient.
    """

    name: str
    layers: dict[str, LayerInfo]
    default_layers: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, known: Mapping[str, LayerInfo], layers: Sequence[str]) -> None:
        super().__init__()
        self.name = name
        self.layers = {layer: known[layer] for layer in ordered_layers(name, known, layers)}
        self.default_layers = tuple(self.layers)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @abstractmethod
    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """{layer: (B, C, h, w)} for every layer in `layers`, from normalised images x (B, 3, H, W)."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{layer: (B, C, h, w)} for every layer in `layers`."""
        return self.trunk((images - self.mean) / self.std)

    def run(self, x: Tensor, stages: Iterable[tuple[str, Callable[[Tensor], Tensor]]]) -> dict[str, Tensor]:
        """What the wanted layers give when `stages`, (layer, function) pairs, follow each other."""
        features = {}
        for layer, stage in stages:
            x = stage(x)
            if layer in self.layers:
                features[layer] = x
        return features

    def train(self, mode: bool = True) -> Self:
        """Itself, in evaluation mode whatever `mode` says: its statistics are frozen."""
        return super().train(False)

    def load_frozen(self, state: Mapping[str, Tensor]) -> Self:
        """Itself with the weights in `state` (entries of deeper layers are left out), frozen."""
        own = self.state_dict()
        missing = [key for key in own if key not in state]
        if missing:
            raise SettingsError(
                f"backbone {self.name!r}: layers {list(self.layers)} need {missing[0]!r} and "
                f"{len(missing) - 1} others that the file lacks; ask for shallower layers or another file"
            )
        for key, value in own.items():
            if state[key].shape != value.shape:
                raise SettingsError(
                    f"backbone {self.name!r}: expected {key!r} of shape {tuple(value.shape)}, "
                    f"got {tuple(state[key].shape)}; the file holds another architecture"
                )
        self.load_state_dict({key: state[key] for key in own})
        return self.freeze()

    def freeze(self) -> Self:
        """Itself, without gradients and in evaluation mode."""
        return self.requires_grad_(False).eval()


def ordered_layers(name: str, known: Mapping[str, LayerInfo], layers: Sequence[str]) -> list[str]:
    """`layers` in order of depth, without repetition; SettingsError when one is not in `known`."""
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers:
        raise SettingsError(
            f"backbone {name!r} has the layers {list(known)}, got {list(layers)}; choose among these"
        )
    return [layer for layer in known if layer in layers]


def upto(known: Mapping[str, LayerInfo], layers: Sequence[str]) -> list[str]:
    """The names of `known` down to the deepest of `layers`.

    >>> upto({"a": LayerInfo(8, 2), "b": LayerInfo(8, 4), "c": LayerInfo(8, 8)}, ["b", "a"])
    ['a', 'b']
    """
    names = list(known)
    return names[: 1 + max(names.index(layer) for layer in layers)]


def fold_norm(weight: Tensor, norm: Mapping[str, Tensor], eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the convolution that equals `weight` followed by BatchNorm in evaluation mode.

    weight (O, I, k, k); norm has `weight`, `bias`, `running_mean` and `running_var`, each (O,).
    """
    scale = norm["weight"].double() / torch.sqrt(norm["running_var"].double() + eps)
    bias = norm["bias"].double() - norm["running_mean"].double() * scale
    return (weight.double() * scale.view(-1, 1, 1, 1)).float(), bias.float()


def fold_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every BatchNorm folded into the convolution it follows; what has no norm stays.

    Pairs are found by name, as torchvision writes them: `conv2` with `bn2`, and `x.0` with `x.1`.
    """
    folded: dict[str, Tensor] = {}
    for key, value in state.items():
        prefix, _, leaf = key.rpartition(".")
        norm_prefix = _norm_of(prefix)
        if leaf == "weight" and value.ndim == 4 and f"{norm_prefix}.running_mean" in state:
            norm = {part: state[f"{norm_prefix}.{part}"] for part in NORM_PARTS}
            folded[key], folded[f"{prefix}.bias"] = fold_norm(value, norm)
        elif f"{prefix}.running_mean" not in state:
            folded[key] = value
    return folded


def _norm_of(conv: str) -> str:
    """The name that torchvision gives to the norm after the convolution `conv`."""
    head, _, last = conv.rpartition(".")
    norm = str(int(last) + 1) if last.isdigit() else last.replace("conv", "bn")
    return f"{head}.{norm}" if head else norm
