"""What is in motion while training, as tensors by name and plain values that JSON can hold; and back, to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from andon.errors import DataError
from andon.models.base import State

PREFIX = "training:"  # of all names in a checkpoint that are not the detector's statistics


def pack(value: Any, name: str, tensors: State) -> Any:
    """``value`` (dicts, lists, tuples, tensors, plain values) for JSON; its tensors are put into ``tensors``.

    >>> tensors = {}
    >>> packed = pack({0: {"step": torch.tensor(3.0)}, "betas": (0.9, 0.99)}, "training:optimiser", tensors)
    >>> list(tensors)
    ['training:optimiser/0/step']
    >>> unpack(packed, tensors)
    {0: {'step': tensor(3.)}, 'betas': (0.9, 0.99)}
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, pack(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DataError(
        f"{name} is {type(value).__name__}, which a checkpoint cannot keep; tensors and plain values only"
    )


def unpack(packed: Any, tensors: State) -> Any:
    """What :func:`pack` was given."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(item, tensors) for key, item in content}
    items = [unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def copies(module: torch.nn.Module) -> State:
    """Copies of all parameters and buffers of ``module`` that are not its backbone's, on the CPU."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach().cpu().clone()
        for name, tensor in named.items()
        if not name.startswith("backbone.")
    }


@torch.no_grad()
def restore(module: torch.nn.Module, state: State) -> None:
    """Write ``state``, as :func:`copies` gave it, back in place."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in state.items():
        named[name].copy_(tensor)
