"""From an ``.andon`` artefact to verdicts. No torch: ONNX Runtime, NumPy and Pillow.

Shapes: H0, W0 rows and columns of the photograph; h, w of the map on the network's own grid.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from andon.artifact import GOLDEN_INPUT, GOLDEN_MAP, MODEL, Artifact, read_artifact
from andon.calibrate import calibration_from_dict, calibration_to_dict, decide, score01
from andon.errors import ArtifactError, ImageError
from andon.image import Photo, Preprocessing, Source, prepare
from andon.runtime.explain import describe, find_regions
from andon.types import Calibration, Failure, Verdict

GOLDEN_TOLERANCE = 1e-3  # of the golden map's own range: kernels differ in the last bits, not more


@dataclass(frozen=True)
class Measurement:
    """What the graph answered for one photograph, before any threshold."""

    photo: Photo
    image_score: float  # raw
    anomaly_map: NDArray[np.float32]  # (h, w) raw, its extent the whole photograph
    inspected: float  # share of the photograph that the network saw, 0 to 1


class Predictor:
    """Inspects images with one artefact.

    ``threads``: of ONNX Runtime; None lets it take the machine's cores. ``check``: answer the golden input
    first, and raise :class:`ArtifactError` unless this machine answers as the one that fitted.
    """

    def __init__(self, artifact: Artifact, *, threads: int | None = None, check: bool = True) -> None:
        self.artifact = artifact
        self.preprocessing = Preprocessing.from_dict(artifact.manifest["preprocessing"])
        self.calibration: Calibration = calibration_from_dict(artifact.manifest["calibration"])
        self._session = _session(artifact.members[MODEL], threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        _check_graph(self._session, self.preprocessing.size)
        if check:
            self._check_golden()

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, threads: int | None = None, check: bool = True
    ) -> Predictor:
        """The predictor of the artefact in ``path``. Raises :class:`ArtifactError`."""
        return cls(read_artifact(path), threads=threads, check=check)

    @property
    def manifest(self) -> dict[str, Any]:
        """Settings, preprocessing, calibration, data counts and versions, as written at the fit."""
        return dict(self.artifact.manifest)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The path of the ``.andon`` file written, atomically."""
        return self.artifact.save(path)

    def measure(self, source: Source) -> Measurement:
        """The raw score and anomaly map of one image (a path, bytes, array or Pillow image).

        Raises :class:`ImageError` when it cannot be read or the graph answers no finite number for it.
        """
        photo, prepared = prepare(source, self.preprocessing)
        maps, scores = self._run(prepared.images)
        if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
            raise ImageError(
                f"{_name(source)}: the detector's answer is not finite. Fit it again with more images."
            )
        return Measurement(photo, float(scores.max()), prepared.stitch(maps), prepared.inspected)

    def inspect(self, source: Source) -> Verdict:
        """The verdict on one image: decision, scores, regions, a sentence, and the raw anomaly map.

        Raises :class:`ImageError` when the image cannot be read.
        """
        start = time.perf_counter()
        measured = self.measure(source)
        size = (measured.photo.pixels.shape[0], measured.photo.pixels.shape[1])
        calibration = self.calibration
        decision = decide(measured.image_score, calibration)
        regions = find_regions(measured.anomaly_map, calibration.map_threshold, size)
        return Verdict(
            path=_name(source),
            decision=decision,
            score=score01(measured.image_score, calibration),
            image_score=measured.image_score,
            threshold=calibration.threshold,
            regions=regions,
            sentence=describe(decision, regions, size, measured.image_score, calibration),
            size=size,
            not_inspected=1.0 - measured.inspected,
            milliseconds=1000 * (time.perf_counter() - start),
            notes=measured.photo.notes,
            anomaly_map=measured.anomaly_map,
        )

    def inspect_many(self, sources: Iterable[Source]) -> Iterator[Verdict | Failure]:
        """One answer per source, in order; a broken image becomes a :class:`Failure` and the rest go on."""
        for source in sources:
            try:
                yield self.inspect(source)
            except ImageError as error:
                yield Failure(_name(source), str(error))

    def recalibrated(self, calibration: Calibration) -> Predictor:
        """A predictor with another threshold; the old one is kept in the manifest's history."""
        history = [
            *self.artifact.manifest.get("history", []),
            {"calibration": self.artifact.manifest["calibration"]},
        ]
        changes = {"calibration": calibration_to_dict(calibration), "history": history}
        return Predictor(self.artifact.with_manifest(**changes), check=False)

    def _run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            found = self._session.run(None, {"images": images})
        except Exception as error:  # ONNX Runtime has a class of its own for each kind, none of them public
            raise ArtifactError(f"the artefact's graph cannot be run on this machine: {error}") from error
        answers = dict(zip(self._outputs, found, strict=True))
        maps, scores = answers["anomaly_map"], answers["image_score"]
        if maps.ndim != 4 or maps.shape[:2] != (len(images), 1) or scores.shape != (len(images),):
            raise ArtifactError(
                f"the artefact's graph answered a map {maps.shape} and a score {scores.shape} for {len(images)} "
                "images; expected (N, 1, h, w) and (N,). Fit again."
            )
        return maps[:, 0], scores

    def _check_golden(self) -> None:
        members = self.artifact.members
        if GOLDEN_INPUT not in members or GOLDEN_MAP not in members:
            raise ArtifactError(
                "the artefact has no golden input, so nothing proves that it answers as it should."
            )
        expected = _golden_map(members[GOLDEN_MAP])
        try:
            found = self.measure(members[GOLDEN_INPUT]).anomaly_map
        except ImageError as error:
            raise ArtifactError(f"the artefact's golden input cannot be inspected: {error}") from error
        allowed = GOLDEN_TOLERANCE * max(float(np.abs(expected).max()), 1e-12)
        if found.shape != expected.shape or not float(np.abs(found - expected).max()) <= allowed:
            raise ArtifactError(
                "this machine does not answer the artefact's golden input as the machine that fitted it did "
                f"(more than {GOLDEN_TOLERANCE:.0e} apart). Update onnxruntime and pillow here, or fit again here."
            )


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Predictor:
    """The predictor of the artefact in ``path``, proven by its golden input. Raises :class:`ArtifactError`."""
    return Predictor.open(path, threads=threads)


def _golden_map(data: bytes) -> NDArray[np.float32]:
    """The answer that the fitting machine gave, (h, w) finite float32. Raises :class:`ArtifactError`."""
    try:
        answer = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"the artefact's golden map cannot be read: {error}") from error
    if not (
        isinstance(answer, np.ndarray) and answer.dtype == np.float32 and answer.ndim == 2 and answer.size
    ):
        raise ArtifactError("the artefact's golden map is not an array (h, w) of float32.")
    return answer


def _check_graph(session: Any, size: tuple[int, int]) -> None:
    """Raise :class:`ArtifactError` unless the graph takes ``images`` of ``size`` and answers map and score."""
    inputs = {entry.name: (entry.type, list(entry.shape or [])) for entry in session.get_inputs()}
    kind, shape = inputs.get("images", ("", []))
    fixed = shape[1:] if len(shape) == 4 else []
    fits = [want == is_ or not isinstance(is_, int) for want, is_ in zip((3, *size), fixed, strict=False)]
    if list(inputs) != ["images"] or kind != "tensor(float)" or len(fits) != 3 or not all(fits):
        raise ArtifactError(
            f"the artefact's graph takes {inputs}; its manifest says images (N, 3, {size[0]}, {size[1]}) of float32. "
            "The two do not belong together: fit again."
        )
    missing = {"anomaly_map", "image_score"} - {output.name for output in session.get_outputs()}
    if missing:
        raise ArtifactError(
            f"the artefact's graph does not answer {' and '.join(sorted(missing))}. Fit again."
        )


def _session(model: bytes, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = min(threads, os.cpu_count() or 1)  # more only wait for each other
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime cannot load the artefact's graph: {error}") from error


def _name(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


__all__ = ["Measurement", "Predictor", "load"]
