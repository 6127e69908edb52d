"""Patch description networks: a few convolutions that see a small patch, for students and for EfficientAD's teacher.

Batzner, Heckler, König 2024, EfficientAD (arXiv:2303.14535): PDN-S has four convolutions, PDN-M six; each output sees
33 x 33 pixels, every 4 pixels. That is 15 and 52 GMAC for 256 x 256 pixels, so :func:`strided_pdn`
halves the grid by strides in place of poolings and goes on to whatever grid a teacher has.

Letters: B images, C channels out, H and W the image, h and w the grid.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from andon.errors import DataError, SettingsError
from andon.features.trunk import Backbone, LayerInfo

VARIANTS = ("s", "m")
WIDTHS = {"s": 128, "m": 256}  # channels of the first convolution, the paper's
STRIDED_WIDTHS = {"s": 48, "m": 64}  # ours
KEYS = {
    "s": (0, 3, 6, 8),
    "m": (0, 3, 6, 8, 10, 12),
}  # the convolutions' places, as published weights name them


def pdn(variant: str, channels: int, width: int | None = None) -> nn.Sequential:
    """The paper's network, (B, 3, H, W) -> (B, C, about H / 4, about W / 4), its convolutions in the places of the
    published weights.

    ``width``: of the first convolution (None: the paper's). Padded as for its distillation, so that the grid covers
    the whole image.
    """
    w = width or WIDTHS[variant]
    first = [
        nn.Conv2d(3, w, 4, padding=3), nn.ReLU(), nn.AvgPool2d(2, 2, 1),
        nn.Conv2d(w, 2 * w, 4, padding=3), nn.ReLU(), nn.AvgPool2d(2, 2, 1),
    ]  # fmt: skip
    if variant == "s":
        last = [nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * w, channels, 4)]
    else:
        last = [
            nn.Conv2d(2 * w, 2 * w, 1), nn.ReLU(),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * w, channels, 4), nn.ReLU(), nn.Conv2d(channels, channels, 1),
        ]  # fmt: skip
    return nn.Sequential(*first, *last)


def strided_pdn(variant: str, channels: int, stride: int, width: int | None = None) -> nn.Sequential:
    """(B, 3, H, W) -> (B, C, about H / stride, about W / stride): strided 3x3 convolutions, then as PDN-S or PDN-M.

    ``width``: of the first convolution, doubled after it (None: 48 or 64).
    """
    w = width or STRIDED_WIDTHS[variant]
    parts: list[nn.Module] = []
    i = 3
    for halving in range(halvings(stride)):
        o = w if halving == 0 else 2 * w
        parts += [nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()]
        i = o
    for _ in range(1 if variant == "s" else 3):
        parts += [nn.Conv2d(i, 2 * w, 3, 1, 1), nn.ReLU()]
        i = 2 * w
    return nn.Sequential(*parts, nn.Conv2d(i, channels, 3, 1, 1))


def halvings(stride: int) -> int:
    """How many halvings come nearest to ``stride``.

    >>> [halvings(stride) for stride in (1, 4, 8, 14, 16)]
    [0, 2, 3, 4, 4]
    """
    return max(0, round(float(torch.tensor(float(stride)).log2())))


def centred(images: Tensor) -> Tensor:
    """``images`` in [0, 1] with mean about 0 and deviation about 1, as networks like them: -2 to 2."""
    return 4 * images - 2


def on_grid(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``x`` (B, C, ...) brought bilinearly to the grid (h, w), as it is where it has that already."""
    if (int(x.shape[2]), int(x.shape[3])) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class PDNTeacher(Backbone):
    """A PDN with given weights as a frozen backbone: one layer, ``pdn``."""

    def __init__(self, name: str, variant: str, channels: int, width: int) -> None:
        super().__init__(name, {"pdn": LayerInfo(channels, 4)}, ["pdn"])
        self.variant = variant
        self.net = pdn(variant, channels, width)
        self.freeze()

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """{"pdn": (B, C, h, w)}."""
        return {"pdn": self.net(x)}


def is_pdn(state: Mapping[str, Tensor]) -> bool:
    """Whether ``state`` holds the weights of a PDN as https://github.com/nelson1425/EfficientAD lays them out."""
    weights = {f"{place}.{part}" for place in KEYS["s"] for part in ("weight", "bias")}
    return weights <= set(state) and tuple(state["0.weight"].shape[1:]) == (3, 4, 4)


def pdn_from_state(state: Mapping[str, Tensor], layers: Sequence[str] | None = None) -> PDNTeacher:
    """The teacher with these weights. Raises :class:`SettingsError` for layers or weights that are not a PDN's."""
    if layers is not None and tuple(layers) != ("pdn",):
        raise SettingsError(f"a PDN has one layer, ['pdn'], got {list(layers)}")
    variant = "m" if "12.weight" in state else "s"
    channels, width = int(state[f"{KEYS[variant][-1]}.weight"].shape[0]), int(state["0.weight"].shape[0])
    teacher = PDNTeacher("pdn", variant, channels, width)
    teacher.load_frozen({f"net.{key}": value.float() for key, value in state.items()})
    return teacher


def read_pdn(path: str | os.PathLike[str]) -> dict[str, Tensor] | None:
    """The weights in the file ``path`` if they are a PDN's, else None. Nothing in the file is executed."""
    if Path(path).suffix not in (".pt", ".pth") or not Path(path).is_file():
        return None
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} cannot be read as a file of weights; get it again from its publisher ({error})"
        ) from error
    held = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    return state if held and is_pdn(state) else None
