"""An exported graph with its convolutions in 8 bits: quicker on processors with integer instructions, and smaller.

Static quantisation, one scale a channel for the weights (int8), one a tensor for what flows between (uint8), taken
from good images: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (arXiv:1712.05877). Distances, statistics and maps stay in 32-bit floats, because thresholds hang on them, and so do
the first convolution, which sees the photograph, and those that no other convolution follows: what they give is measured.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.errors import DataError, MissingExtraError

QUANTISED = ("Conv",)  # the kinds of nodes that are computed in 8 bits
BETWEEN = {"Add", "BatchNormalization", "Clip", "Concat", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool", "Mul", "Pad", "Relu",
           "Resize", "Sigmoid"}  # what may lie between two convolutions of a network  # fmt: skip
OBSERVED_AT_MOST = 64  # images that the ranges are taken from


def quantise(graph: bytes, batches: Iterable[NDArray[np.float32]]) -> bytes:
    """``graph``, an ONNX model with one input ``images``, with its convolutions in 8 bits.

    ``batches``: good images (N, 3, H, W) float32 in [0, 1] as the network gets them; the first 64 are looked at.
    A graph without a convolution between others is given back as it is. Raises :class:`DataError` where there is no image, MissingExtraError without the package onnx.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", extra="fit", purpose="8-bit export") from error

    reader = _reader(list(_first(batches, OBSERVED_AT_MOST)))
    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, prepared, small = (
            str(Path(folder, f"{name}.onnx")) for name in ("whole", "prepared", "small")
        )
        Path(whole).write_bytes(graph)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        inner = inner_convolutions(onnx.load(prepared).graph)
        if not inner:
            return graph
        quantize_static(
            prepared, small, reader, quant_format=QuantFormat.QDQ, op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=inner,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
        return Path(small).read_bytes()


def inner_convolutions(graph: Any) -> list[str]:
    """The names of the convolutions of an ONNX graph that come after one and before another."""
    consumers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            consumers[name].append(node)
    after: set[str] = set()  # values that a convolution had a part in
    for node in graph.node:  # in topological order, as ONNX has it
        if node.op_type in QUANTISED or after.intersection(node.input):
            after.update(node.output)
    found = [node for node in graph.node if node.op_type in QUANTISED and node.input[0] in after]
    return [node.name for node in found if _reaches_one(node, consumers)]


def _reaches_one(node: Any, consumers: Mapping[str, list[Any]]) -> bool:
    """Whether another convolution follows, with nothing else than ``BETWEEN`` on the way."""
    waiting, seen = [node], {node.name}
    while waiting:
        for name in waiting.pop().output:
            for follower in consumers[name]:
                if follower.op_type in QUANTISED:
                    return True
                if follower.op_type in BETWEEN and follower.name not in seen:
                    seen.add(follower.name)
                    waiting.append(follower)
    return False


def _first(batches: Iterable[NDArray[np.float32]], count: int) -> Iterator[NDArray[np.float32]]:
    """One image at a time, (1, 3, H, W), at most ``count``."""
    for batch in batches:
        for image in batch:
            if count == 0:
                return
            count -= 1
            yield image[None]


def _reader(images: list[NDArray[np.float32]]) -> Any:
    if not images:
        raise DataError("8-bit export takes the ranges from good images, and there is none that can be read")
    from onnxruntime.quantization import CalibrationDataReader

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image}

    return Images()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice out of the user's sight."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
