"""Backbones by name, by file or as a module: `load_backbone("andon-s")`.

`andon-s` ships inside the package and needs no network. Published weights are fetched once, from their
publisher, when they are asked for by name; they are never replaced by anything else when that fails.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from andon.errors import DataError, MissingExtraError, SettingsError, did_you_mean
from andon.features.mobilenet import DEFAULT_LAYERS as MOBILENET_LAYERS
from andon.features.mobilenet import mobilenet_from_state
from andon.features.resnet import resnet_from_state, resnetv2_from_state
from andon.features.student import shipped_weights, student_from_state
from andon.features.trunk import Backbone, LayerInfo

__all__ = ["BACKBONES", "Backbone", "BackboneInfo", "LayerInfo", "cache_folder", "load_backbone"]

State = Mapping[str, Tensor]
SUFFIXES = (".pt", ".pth", ".safetensors")
TORCHVISION = "https://download.pytorch.org/models/"
IMAGENET_TERMS = "torchvision, BSD-3-Clause; trained on ImageNet, whose own terms speak of research use"


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """A line of the table: where a backbone's weights come from and what may be done with them.

    `sha256` is the publisher's own digest, or its first 8 digits as torchvision has them in the file's name.
    `megabytes` is the download's size; `url` is None for what ships inside the package.
    """

    name: str
    url: str | None
    sha256: str | None
    megabytes: float
    licence: str
    paper: str
    default_layers: tuple[str, ...]

    def describe(self) -> str:
        """One line: size, origin, licence and paper.

        >>> print(BACKBONES["resnet18"].describe()[:52])
        46.8 MB from https://download.pytorch.org/models/res
        """
        origin = f"from {self.url}" if self.url else "inside the package"
        return f"{self.megabytes} MB {origin}; licence: {self.licence}; {self.paper}"


_ROWS = (
    BackboneInfo(
        "andon-s", None, None, 1.0,
        "as this package; distilled from networks trained on ImageNet, see docs/model-cards/andon-s.md",
        "distilled for this project, docs/model-cards/andon-s.md", ("stride8", "stride16"),
    ),
    BackboneInfo(
        "resnet18", TORCHVISION + "resnet18-f37072fd.pth", "f37072fd", 46.8, IMAGENET_TERMS,
        "He et al. 2016, Deep Residual Learning (arXiv:1512.03385)", ("layer2", "layer3"),
    ),
    BackboneInfo(
        "resnet50", TORCHVISION + "resnet50-0676ba61.pth", "0676ba61", 102.5, IMAGENET_TERMS,
        "He et al. 2016, Deep Residual Learning (arXiv:1512.03385)", ("layer2", "layer3"),
    ),
    BackboneInfo(
        "wide_resnet50_2", TORCHVISION + "wide_resnet50_2-95faca4d.pth", "95faca4d", 138.2, IMAGENET_TERMS,
        "Zagoruyko & Komodakis 2016, Wide Residual Networks (arXiv:1605.07146)", ("layer2", "layer3"),
    ),
    BackboneInfo(
        "mobilenet_v2", TORCHVISION + "mobilenet_v2-b0353104.pth", "b0353104", 14.2, IMAGENET_TERMS,
        "Sandler et al. 2018, MobileNetV2 (arXiv:1801.04381)", MOBILENET_LAYERS,
    ),
)  # fmt: skip
BACKBONES: dict[str, BackboneInfo] = {info.name: info for info in _ROWS}


def load_backbone(
    backbone: str | os.PathLike[str] | nn.Module,
    layers: Sequence[str] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Backbone:
    """A frozen backbone that gives `layers` (its default ones when None), built no deeper than these need.

    `backbone`: a name in `BACKBONES`; `timm:<name>`; a file (.pt, .pth, .safetensors) whose architecture is
    recognised from its weights; or a module that keeps the contract, which is returned as it is. Only a
    name other than `andon-s` may download, into `cache` (`cache_folder()` when None).
    Raises SettingsError for a name, layer or architecture that is not known, DataError for a file or
    download that fails, MissingExtraError where timm is asked for and absent.

    >>> net = load_backbone("andon-s")
    >>> {layer: (info.channels, info.stride) for layer, info in net.layers.items()}
    {'stride8': (64, 8), 'stride16': (96, 16)}
    >>> {layer: tuple(f.shape) for layer, f in net(torch.zeros(1, 3, 64, 96)).items()}
    {'stride8': (1, 64, 8, 12), 'stride16': (1, 96, 4, 6)}
    """
    if isinstance(backbone, nn.Module):
        return _checked_module(backbone, layers)
    name = os.fspath(backbone)
    if name in BACKBONES:
        info = BACKBONES[name]
        path = shipped_weights() if info.url is None else _fetched(info, cache, progress)
        return _named(from_state(_read(path), layers, source=name), name)
    if name.startswith("timm:"):
        return _from_timm(name.removeprefix("timm:"), layers)
    path = Path(name).expanduser()
    if path.is_file():
        return from_state(_read(path), layers, source=str(path))
    if path.suffix in SUFFIXES or path.name != name:
        raise DataError(
            f"backbone file {name} does not exist; check the path, or choose among {list(BACKBONES)}"
        )
    raise SettingsError(_unknown(name))


def cache_folder() -> Path:
    """Where downloaded weights are kept: `andon` in the platform's folder for caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "andon"


def from_state(state: State, layers: Sequence[str] | None = None, *, source: str = "the weights") -> Backbone:
    """The backbone whose architecture these weights have; SettingsError when it is none that is known."""
    for _, fits, build in ARCHITECTURES:
        if fits(state):
            return build(state, layers)
    known = ", ".join(title for title, _, _ in ARCHITECTURES)
    raise SettingsError(
        f"{source}: expected the weights of one of: {known}; got {len(state)} entries, beginning with "
        f"{list(state)[:3]}. To use another architecture, pass the module itself."
    )


def _shape(state: State, key: str) -> tuple[int, ...]:
    """The shape of an entry, () when it is absent."""
    return tuple(state[key].shape) if key in state else ()


def _is_student(state: State) -> bool:
    return "stem.0.down.conv.weight" in state and "heads.stride8.weight" in state


def _is_resnet(state: State) -> bool:
    grouped = _shape(state, "layer1.0.conv2.weight")[1:2] != _shape(state, "layer1.0.conv2.weight")[:1]
    return _shape(state, "conv1.weight") == (64, 3, 7, 7) and "layer1.0.conv1.weight" in state and not grouped


def _is_resnetv2(state: State) -> bool:
    return "bn0.weight" in state and "conv0.weight" in state and "stages.0.0.bn1.weight" in state


def _is_mobilenet(state: State) -> bool:
    first = _shape(state, "features.0.0.weight") or _shape(state, "convs.0.weight")
    second = _shape(state, "features.1.conv.0.0.weight") or _shape(state, "convs.1.weight")
    return first == (32, 3, 3, 3) and second == (32, 1, 3, 3) and _shape(state, "convs.2.weight")[:1] != (64,)


Fits = Callable[[State], bool]
Builds = Callable[[State, Sequence[str] | None], Backbone]
ARCHITECTURES: tuple[tuple[str, Fits, Builds], ...] = (
    ("andon-s", _is_student, student_from_state),
    ("ResNet or wide ResNet as torchvision lays it out, norms folded or not", _is_resnet, resnet_from_state),
    ("ResNet-50 v2 (pre-activation)", _is_resnetv2, resnetv2_from_state),
    ("MobileNetV2 as torchvision lays it out, norms folded or not", _is_mobilenet, mobilenet_from_state),
)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file by name; DataError when it is not one of weights. Nothing in it is executed."""
    try:
        if path.suffix == ".safetensors":
            state: Any = _read_safetensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} cannot be read as a file of weights; get it again from its publisher ({error})"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(
            f"{path} holds a {type(state).__name__} that is not a state dict; save module.state_dict()"
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError("safetensors", extra="fit", purpose=f"reading {path.name}") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _fetched(info: BackboneInfo, cache: str | os.PathLike[str] | None, progress: bool) -> Path:
    """The file of published weights: from the cache or downloaded, its hash checked either way."""
    from andon.data.fetch import download

    if info.url is None or info.sha256 is None:
        raise SettingsError(f"backbone {info.name!r} has no address to download from")
    dest = Path(cache or cache_folder()) / info.url.rsplit("/", 1)[1]
    try:
        return download(info.url, dest, sha256=info.sha256, progress=progress)
    except DataError as error:
        raise DataError(
            f"backbone {info.name!r} needs its published weights ({info.megabytes:.0f} MB): {error} "
            f'Or pass the file itself, backbone="path/to/{dest.name}", or use "andon-s", which needs no download.'
        ) from error


def _named(backbone: Backbone, name: str) -> Backbone:
    backbone.name = name
    return backbone


def _unknown(name: str) -> str:
    """The message for a name that nothing answers to, with the closest ones."""
    known = f"Known: {list(BACKBONES)}, 'timm:<name>', or a file of weights."
    return f"unknown backbone {name!r}.{did_you_mean(name, BACKBONES)} {known}"


def _checked_module(module: nn.Module, layers: Sequence[str] | None) -> Backbone:
    """`module`, when it keeps the contract; else SettingsError saying what it lacks."""
    absent = [part for part in ("name", "layers", "default_layers") if getattr(module, part, None) is None]
    if absent:
        raise SettingsError(
            f"{type(module).__name__} is not a backbone: it lacks {', '.join(absent)}; expected name: str, "
            "layers: dict[str, LayerInfo], default_layers: tuple[str, ...], forward(images) -> {layer: map}"
        )
    backbone = cast(Backbone, module)
    unknown = [layer for layer in layers or backbone.default_layers if layer not in backbone.layers]
    if unknown:
        raise SettingsError(
            f"backbone {backbone.name!r} gives {list(backbone.layers)}, got {unknown}; choose among these"
        )
    return backbone


class TimmBackbone(Backbone):
    """Feature maps of a convolutional network of the package timm; layers have timm's module names."""

    def __init__(self, name: str, net: Any, layers: Sequence[str] | None) -> None:
        info = net.feature_info
        rows = zip(info.module_name(), info.channels(), info.reduction(), strict=True)
        known = {module: LayerInfo(channels, stride) for module, channels, stride in rows}
        middle = [layer for layer, row in known.items() if row.stride in (8, 16)]
        super().__init__(name, known, layers or middle)
        self.mean.copy_(torch.tensor(net.pretrained_cfg["mean"]).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(net.pretrained_cfg["std"]).view(1, 3, 1, 1))
        self.net, self.order = net, list(known)
        self.freeze()

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """The network's features."""
        features = dict(zip(self.order, self.net(x), strict=True))
        return {layer: features[layer] for layer in self.layers}


def _from_timm(name: str, layers: Sequence[str] | None) -> TimmBackbone:
    """A network of the package timm with its published weights, which timm downloads and keeps."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError("timm", extra="timm", purpose=f"the backbone 'timm:{name}'") from error
    try:
        net = timm.create_model(name, pretrained=True, features_only=True)
        backbone = TimmBackbone(f"timm:{name}", net, layers)
        deepest = max(backbone.order.index(layer) for layer in backbone.layers)
        indices = tuple(range(deepest + 1))
        net = timm.create_model(name, pretrained=True, features_only=True, out_indices=indices)
    except (OSError, RuntimeError, AttributeError) as error:
        raise DataError(
            f"the backbone 'timm:{name}' could not be made: {error}. Check its name and the network."
        ) from error
    return TimmBackbone(f"timm:{name}", net, layers or backbone.default_layers)
