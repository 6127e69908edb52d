"""What training runs on: the device, and the precision of the loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from andon.errors import SettingsError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """A device, and the precision in which losses are computed on it (parameters stay float32)."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "float32") -> Machine:
        """The machine asked for; ``auto`` takes a GPU where there is one.

        Raises :class:`SettingsError` for what this machine does not have or cannot do.
        """
        chosen = _device(device)
        if precision not in PRECISIONS:
            raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if precision == "float16" and chosen.type != "cuda":
            raise SettingsError(
                "float16 trains on a GPU only; here take float32, or bfloat16 where the processor knows it"
            )
        if precision == "bfloat16" and not _knows_bfloat16(chosen):
            raise SettingsError(
                f"this {'processor has neither AMX nor AVX512-BF16' if chosen.type == 'cpu' else 'GPU has no bfloat16'}: "
                "bfloat16 would be emulated, and slower than float32. Take float32."
            )
        return cls(chosen, precision)

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which convolutions and matrix products are computed in the precision chosen."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def scaler(self) -> torch.amp.GradScaler | None:
        """What keeps small gradients of float16 from vanishing; None where none do."""
        return torch.amp.GradScaler(self.device.type) if self.precision == "float16" else None


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(
            f"device must be auto, cpu, cuda or, of several GPUs, such as cuda:1; got {name!r}"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} GPUs" if torch.cuda.device_count() else "no GPU"
        raise SettingsError(
            f"device {name!r} was asked for, but PyTorch {torch.__version__} finds {found} here. Take --device cpu, or "
            "install a PyTorch built for your GPU and its driver."
        )
    return device


def _knows_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
