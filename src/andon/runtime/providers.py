"""What runs an artefact's graph: ONNX Runtime, or OpenVINO in its place. Both are asked alike and answer alike.

ONNX Runtime comes with the bare install. OpenVINO is the extra ``openvino``; it computes in 32-bit floats here unless
``precision="bf16"`` was asked for, although by itself it would take bf16 wherever the processor has it: scores, and with
them thresholds, must not depend on the machine.

Letters: N images; H, W rows and columns of the network's input.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from andon.errors import ArtifactError, MissingExtraError, SettingsError

PROVIDERS = ("onnxruntime", "openvino")
PRECISIONS = ("f32", "bf16")

# How far, of the golden map's own largest value, an answer may lie from that of the machine that fitted.
GOLDEN_TOLERANCE = 1e-3  # 32-bit floats: kernels differ in the last bits, not more
GOLDEN_TOLERANCE_INT8 = (
    0.05  # a last bit moves a value to the next of 256 steps (0.4 %), which add up over layers
)
GOLDEN_TOLERANCE_BF16 = (
    0.05  # 8 bits of mantissa: each value is off by up to 2^-9 (0.2 %), which adds up likewise
)


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    >>> print(Port("float32", (None, 3, 64, 64)))
    (N, 3, 64, 64) of float32
    """

    kind: str  # of its numbers, as NumPy calls it
    shape: tuple[int | None, ...]  # None: any length

    def takes(self, other: Port) -> bool:
        """Whether what fits ``other`` fits here."""
        lengths = zip(self.shape, other.shape, strict=False)
        return (
            self.kind == other.kind
            and len(self.shape) == len(other.shape)
            and all(own is None or own == length for own, length in lengths)
        )

    def __str__(self) -> str:
        shape = ", ".join("N" if length is None else str(length) for length in self.shape)
        return f"({shape}) of {self.kind}"


class Graph(Protocol):
    """A graph that is ready to run."""

    @property
    def provider(self) -> str:
        """Which of :data:`PROVIDERS` runs it."""

    @property
    def inputs(self) -> Mapping[str, Port]:
        """By name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in order."""

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The outputs for ``images`` (N, 3, H, W), by name. May be called from several threads."""


def open_graph(
    model: bytes, *, provider: str = "onnxruntime", threads: int | None = None, precision: str = "f32"
) -> Graph:
    """The ONNX ``model`` in the hands of ``provider``, one of :data:`PROVIDERS`.

    ``threads``: that one answer may take; None lets the provider take the machine's cores. ``precision``: ``f32``, or
    ``bf16`` with OpenVINO on a processor that has it. Raises :class:`SettingsError`, :class:`ArtifactError`, MissingExtraError.
    """
    _check(provider, precision, threads)
    count = None if threads is None else min(threads, os.cpu_count() or 1)  # more only wait for each other
    if provider == "openvino":
        return _openvino(model, count, precision)
    return _onnxruntime(model, count)


def golden_tolerance(manifest: Mapping[str, Any], precision: str) -> float:
    """The share of the golden map's largest value that an answer may be off, by what the graph computes in.

    >>> golden_tolerance({"detector": {"convolutions": "int8"}}, "f32")
    0.05
    """
    if precision == "bf16":
        return GOLDEN_TOLERANCE_BF16
    detector = manifest.get("detector", {})
    return GOLDEN_TOLERANCE_INT8 if detector.get("convolutions") == "int8" else GOLDEN_TOLERANCE


def _check(provider: str, precision: str, threads: int | None) -> None:
    if provider not in PROVIDERS:
        raise SettingsError(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}")
    if precision not in PRECISIONS:
        raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "bf16" and provider != "openvino":
        raise SettingsError(f'precision "bf16" needs provider "openvino"; {provider} computes in f32 alone')
    if threads is not None and threads < 1:
        raise SettingsError(f"threads must be at least 1, got {threads}")


# --- ONNX Runtime ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _OnnxRuntime:
    session: Any
    inputs: Mapping[str, Port]
    outputs: tuple[str, ...]
    provider: str = "onnxruntime"

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        try:
            found = self.session.run(None, {"images": images})
        except Exception as error:  # ONNX Runtime has a class of its own for each kind, none of them public
            raise _cannot_run(error) from error
        return dict(zip(self.outputs, found, strict=True))


def _onnxruntime(model: bytes, threads: int | None) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime cannot load the artefact's graph: {error}") from error
    inputs = {
        entry.name: Port(_kind(entry.type), tuple(map(_fixed, entry.shape or ())))
        for entry in session.get_inputs()
    }
    return _OnnxRuntime(session, inputs, tuple(output.name for output in session.get_outputs()))


def _kind(type_name: str) -> str:
    """``tensor(float)`` as NumPy calls it; other types as ONNX Runtime does."""
    return "float32" if type_name == "tensor(float)" else type_name


def _fixed(length: int | str | None) -> int | None:
    """A dimension's length; None for one that has a name in place of it."""
    return length if isinstance(length, int) else None


# --- OpenVINO --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _OpenVino:
    request: Any  # one infer request: its buffers are used again, so one answer at a time
    inputs: Mapping[str, Port]
    outputs: tuple[str, ...]
    provider: str = "openvino"
    turn: threading.Lock = field(default_factory=threading.Lock)

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        with self.turn:
            try:
                self.request.infer({"images": images}, share_inputs=True)
            except (
                Exception
            ) as error:  # all of OpenVINO's are RuntimeError or TypeError, from within or from its binding
                raise _cannot_run(error) from error
            return {name: self.request.get_tensor(name).data.copy() for name in self.outputs}


def _openvino(model: bytes, threads: int | None, precision: str) -> Graph:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", extra="openvino", purpose='provider "openvino"') from error

    core = openvino.Core()
    _require_bf16(core, precision)
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    except Exception as error:
        raise ArtifactError(f"OpenVINO cannot load the artefact's graph: {error}") from error
    inputs = {
        entry.any_name: Port(entry.element_type.to_dtype().name, tuple(map(_length, entry.partial_shape)))
        for entry in compiled.inputs
    }
    outputs = tuple(output.any_name for output in compiled.outputs)
    return _OpenVino(compiled.create_infer_request(), inputs, outputs)


def _length(dimension: Any) -> int | None:
    """An OpenVINO dimension's length; None where it is dynamic."""
    return int(dimension.get_length()) if dimension.is_static else None


def _require_bf16(core: Any, precision: str) -> None:
    """Raise :class:`SettingsError` where bf16 was asked for and the processor has no units for it."""
    found = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in found:
        raise SettingsError(
            f'this processor has no units for precision "bf16" (OpenVINO finds {", ".join(found)}): it would be slower '
            'than f32. Use precision "f32", or fit with int8'
        )


def _cannot_run(error: Exception) -> ArtifactError:
    return ArtifactError(f"the artefact's graph cannot be run on this machine: {error}")


__all__ = ["PRECISIONS", "PROVIDERS", "Graph", "Port", "golden_tolerance", "open_graph"]
