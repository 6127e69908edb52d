"""What the constructors of detectors have in common: their keywords checked, their backbone opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from andon.errors import ImageError, SettingsError
from andon.features.backbones import load_backbone
from andon.features.trunk import Backbone


def open_backbone(
    backbone: str | os.PathLike[str] | nn.Module, layers: Sequence[str] | None
) -> tuple[Backbone, tuple[str, ...]]:
    """The backbone and the layers taken from it (its default ones for None).

    One that was opened by name or file carries that name, so that ``settings()`` opens the same one again.
    """
    if isinstance(layers, str):
        raise SettingsError(
            f"layers must be a list of names, got the single string {layers!r}; write [{layers!r}]"
        )
    if not isinstance(backbone, str | os.PathLike | nn.Module):
        raise SettingsError(f"backbone must be a name, a file or a module, got {backbone!r}")
    net = load_backbone(backbone, layers)
    if not isinstance(backbone, nn.Module):
        net.name = os.fspath(backbone)
    return net, tuple(net.default_layers if layers is None else layers)


def whole(name: str, value: Any, least: int = 0) -> int:
    """``value`` as int when it is a whole number of at least ``least``; else :class:`SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def number(name: str, value: Any, least: float = 0.0) -> float:
    """``value`` as float when it is a finite number of at least ``least``; else :class:`SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise SettingsError(f"{name} must be a number of at least {least}, got {value!r}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """``value`` as float when it lies in (0, 1]; else :class:`SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise SettingsError(f"{name} must be a fraction above 0 and up to 1, got {value!r}")
    return float(value)


def share(name: str, value: Any) -> float:
    """``value`` as float when it lies in [0, 1]; else :class:`SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(f"{name} must be a share from 0 to 1, got {value!r}")
    return float(value)


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """``value`` when it is among ``known``; else :class:`SettingsError`."""
    if value not in known:
        raise SettingsError(f"{name} must be one of {list(known)}, got {value!r}")
    return value


def require_images(images: Tensor) -> None:
    """Raise :class:`ImageError` unless ``images`` is a float tensor (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ImageError(
            f"images must be float (B, 3, H, W) with values in [0, 1], got {images.dtype} {tuple(images.shape)}"
        )
