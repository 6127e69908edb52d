"""From a fitted detector to an artefact: the ONNX graph, proven against torch, and its golden input."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from andon.artifact import GOLDEN_INPUT, GOLDEN_MAP, MODEL, STATE, Artifact
from andon.errors import ArtifactError, MissingExtraError
from andon.image import Preprocessing, prepare
from andon.models import method_of
from andon.models.base import Detector
from andon.quantise import quantise

OPSET = 20
TOLERANCE = 1e-3  # of the answer's own range, between torch and ONNX Runtime


class _Graph(nn.Module):
    """A detector's ``forward`` as a tuple without what it has none of."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        scores = self.detector(images)
        return tuple(part for part in scores if part is not None)


def to_onnx(detector: Detector, size: tuple[int, int]) -> bytes:
    """The detector as an ONNX graph for images of ``size`` (H, W), any batch.

    Input ``images`` (N, 3, H, W) float32 in [0, 1]; outputs named as in :class:`Scores`: ``anomaly_map``
    (N, 1, H, W), ``image_score`` (N,) and, for methods that have them, ``reconstruction`` (N, 3, H, W) and
    ``nearest`` (N, h, w) int64. Raises NotFittedError.
    """
    detector.require_fitted()
    _require("onnx", "onnxscript")
    example = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        names = [name for name, part in detector(example)._asdict().items() if part is not None]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Graph(detector).eval(),
            (example,),
            input_names=["images"],
            output_names=names,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
            verbose=False,
        )
    if program is None:
        raise ArtifactError("the exporter of this PyTorch made no graph; versions from 2.8 on are known to.")
    graph: bytes = program.model_proto.SerializeToString()
    _check_same(detector, graph, names, size)
    return graph


def golden_picture() -> bytes:
    """The golden input as PNG: a drawn picture with edges, gradients and texture, the same everywhere."""
    from PIL import Image

    rows, columns = np.mgrid[0:120, 0:160]
    red = 40 + rows + 24 * ((rows // 12 + columns // 16) % 2)
    green = 30 + columns + 30 * ((rows - 60) ** 2 + (columns - 80) ** 2 < 900)
    blue = (rows * 7 + columns * 13) % 64 + 90
    pixels = np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def to_artifact(
    detector: Detector,
    preprocessing: Preprocessing,
    manifest: Mapping[str, Any],
    *,
    ranges_from: Iterable[Tensor] | None = None,
) -> Artifact:
    """The artefact of a fitted detector. ``manifest`` brings the calibration, the data counts and the like.

    ``ranges_from``: batches of good images (N, 3, H, W), for a graph whose convolutions are computed in 8 bits
    (:mod:`andon.quantise`); None for 32-bit floats throughout.
    """
    from safetensors.torch import save

    graph = to_onnx(detector, preprocessing.size)
    if ranges_from is not None:
        graph = quantise(graph, (images.numpy() for images in ranges_from))
    golden = golden_picture()
    members = {
        MODEL: graph,
        STATE: save({name: tensor.contiguous() for name, tensor in detector.kept_statistics().items()}),
        GOLDEN_INPUT: golden,
        GOLDEN_MAP: _npy(_golden_map(graph, golden, preprocessing)),
    }
    described = {
        "method": method_of(detector),
        "title": detector.title,
        "paper": detector.paper,
        "settings": detector.settings(),
        "backbone_sha256": _backbone_digest(detector),
        "convolutions": "float32" if ranges_from is None else "int8",
    }
    return Artifact({"preprocessing": preprocessing.to_dict(), "detector": described, **manifest}, members)


def _backbone_digest(detector: Detector) -> str:
    """SHA-256 over the frozen network's tensors: states of two detectors can be merged only where it is the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(detector.state_dict().items()):
        if "backbone." in name:  # of the detector, or of a member of a fusion
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _golden_map(graph: bytes, golden: bytes, preprocessing: Preprocessing) -> NDArray[np.float32]:
    _, prepared = prepare(golden, preprocessing)
    maps = _onnx_answer(graph, prepared.images)[0]
    return prepared.stitch(maps[:, 0]).astype(np.float32)


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _onnx_answer(graph: bytes, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float32]] = session.run(None, {"images": images})
    return answers


def _check_same(detector: Detector, graph: bytes, names: list[str], size: tuple[int, int]) -> None:
    """Raise :class:`ArtifactError` unless ONNX Runtime answers as torch, at a batch size not exported with.

    Of a detector that quantises, an image or two may differ: between two codes equally near, the last bit decides. A graph
    that is wrong is so for every image.
    """
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [part.numpy() for part in detector(images) if part is not None]
    for name, ours, theirs in zip(names, expected, _onnx_answer(graph, images.numpy()), strict=True):
        if name == "nearest":  # which of two equally near rows is nearest, the last bit decides
            continue
        if ours.shape != theirs.shape:
            raise ArtifactError(
                f"the exported graph's {name} has the shape {theirs.shape}, torch's {ours.shape}; nothing was written."
            )
        of_each = np.abs(ours - theirs).reshape(len(ours), -1).max(1) / max(float(np.abs(ours).max()), 1e-12)
        apart = float(of_each.min() if detector.quantises else of_each.max())
        if not apart <= TOLERANCE:
            raise ArtifactError(
                f"the exported graph's {name} differs from torch's by {apart:.1e} of its range "
                f"(allowed {TOLERANCE:.0e}); nothing was written."
            )


def _require(*packages: str) -> None:
    import importlib.util

    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="fit", purpose="exporting a detector")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and version warnings out of the user's sight."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            import contextlib

            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
