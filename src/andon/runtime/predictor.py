"""From an ``.andon`` artefact to verdicts. No torch: ONNX Runtime (or OpenVINO), NumPy and Pillow.

Shapes: H0, W0 rows and columns of the photograph; h, w of the map on the network's own grid.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon.artifact import GOLDEN_INPUT, GOLDEN_MAP, MODEL, Artifact, read_artifact
from andon.calibrate import calibration_for, calibration_from_dict, calibration_to_dict
from andon.errors import ArtifactError, ImageError
from andon.image import Photo, Prepared, Preprocessing, Source, decode, prepare
from andon.nuisance import Judged, ZonePlan
from andon.nuisance.stored import stored_plan
from andon.runtime.answer import Answer, Found, gather
from andon.runtime.explain import MIN_AREA, find_regions, main_region
from andon.runtime.explain_compare import Comparer, Seen, Thresholds
from andon.runtime.explain_difference import NO_DIFFERENCE, UNCLEAR, Difference
from andon.runtime.explain_good import Expected, GoodPictures
from andon.runtime.providers import Graph, Port, golden_tolerance, open_graph
from andon.runtime.words import DEFAULT, retold, words_of
from andon.runtime.zoned import Ruling, map_thresholds, rule
from andon.types import Calibration, Decision, Failure, Region, Verdict


@dataclass(frozen=True)
class Measurement:
    """What the graph answered for one photograph, before any threshold."""

    photo: Photo
    image_score: float  # raw; with zones, the largest value of the map outside them
    anomaly_map: NDArray[np.float32]  # (h, w) raw, its extent the whole photograph
    inspected: float  # share of the photograph that the network saw and no zone leaves out, 0 to 1
    judged: Judged | None = field(default=None, compare=False, repr=False)  # what the zones left of the map
    seen: Seen | None = field(
        default=None, compare=False, repr=False
    )  # what a comparison with good parts needs

    @property
    def map_peak(self) -> float:
        """The largest value of the map, outside the zones."""
        return float(self.anomaly_map.max()) if self.judged is None else self.judged.peak

    @property
    def network_share(self) -> float:
        """The share of the photograph that the network sees at once: 1, or that of a tile. What is small is small of it."""
        if self.seen is None or self.seen.prepared.count == 1:
            return 1.0
        rows, columns = self.seen.prepared.size
        return min(1.0, rows * columns / self.anomaly_map.size)

    @property
    def zone_peaks(self) -> Mapping[str, float]:
        """The largest value of the map in each zone with a threshold of its own, by the zone's name."""
        return {} if self.judged is None else self.judged.zone_peaks


class Judgement(NamedTuple):
    """What a measurement comes to, before words are found for it."""

    ruling: Ruling
    map_thresholds: Thresholds  # what the map is compared with: a number, or with zones an array (h, w)
    threshold: float  # raw, of the image score
    group: str  # which group's threshold it is, in words; "" without groups


class Predictor:
    """Inspects images with one artefact.

    ``threads``, ``provider``, ``precision``: of what runs the graph, see :func:`andon.runtime.providers.open_graph`.
    ``check``: answer the golden input first, and raise :class:`ArtifactError` unless this machine answers as the one that
    fitted. Sentences and notes are in the language chosen at the fit, else in English; see :meth:`speaking`.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int | None = None,
        provider: str = "onnxruntime",
        precision: str = "f32",
        check: bool = True,
    ) -> None:
        self.artifact = artifact
        self.words = words_of(chosen_language(artifact.manifest) or DEFAULT)
        self.comparer = Comparer(artifact.members)
        self.preprocessing = Preprocessing.from_dict(artifact.manifest["preprocessing"])
        self.calibration: Calibration = calibration_from_dict(artifact.manifest["calibration"])
        self.zone_plan = stored_plan(artifact.manifest, artifact.members)
        self._graph = open_graph(
            artifact.members[MODEL], provider=provider, threads=threads, precision=precision
        )
        _check_graph(self._graph, self.preprocessing.size)
        if check:
            self._check_golden(golden_tolerance(artifact.manifest, precision))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        provider: str = "onnxruntime",
        precision: str = "f32",
        check: bool = True,
    ) -> Predictor:
        """The predictor of the artefact in ``path``. Raises :class:`ArtifactError`."""
        return cls(read_artifact(path), threads=threads, provider=provider, precision=precision, check=check)

    def speaking(self, language: str) -> Predictor:
        """This predictor with its sentences and notes in ``language``, a code of :data:`andon.runtime.words.LANGUAGES`.

        Raises :class:`SettingsError` for another one.
        """
        other = copy(self)
        other.words = words_of(language)
        return other

    @property
    def manifest(self) -> dict[str, Any]:
        """Settings, preprocessing, calibration, data counts and versions, as written at the fit."""
        return dict(self.artifact.manifest)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The path of the ``.andon`` file written, atomically."""
        return self.artifact.save(path)

    @property
    def good_pictures(self) -> GoodPictures:
        """The pictures of good parts that the artefact keeps; none where the fit was not asked to."""
        return self.comparer.good

    @property
    def shows_good_parts(self) -> bool:
        """Whether :meth:`expected` has anything to show: pictures, or a reconstruction."""
        return "reconstruction" in self._graph.outputs or bool(self.good_pictures.pictures)

    def measure(self, source: Source) -> Measurement:
        """The raw score and anomaly map of one image (a path, bytes, array or Pillow image).

        Raises :class:`ImageError` when it cannot be read or the graph answers no finite number for it.
        """
        if self.zone_plan is not None:
            return self._measure_zoned(source, self.zone_plan)
        photo, prepared = prepare(source, self.preprocessing)
        found = self._found(source, prepared)
        seen = Seen(photo.pixels, prepared, found.nearest, found.expected)
        return Measurement(photo, found.image_score, found.anomaly_map, prepared.inspected, seen=seen)

    def _measure_zoned(self, source: Source, plan: ZonePlan) -> Measurement:
        photo = decode(source, white_level=self.preprocessing.white_level)
        placed = plan.place(photo.pixels)
        prepared = self.preprocessing.apply(placed.cover(photo.pixels))
        found = self._found(source, prepared)
        judged = placed.judge(found.anomaly_map)
        inspected = prepared.inspected * (1.0 - judged.not_inspected)
        seen = Seen(photo.pixels, prepared, found.nearest, found.expected)
        return Measurement(photo, judged.peak, judged.anomaly_map, inspected, judged, seen)

    def respond(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The raw map (h, w) of a photograph (H0, W0, 3) uint8 as it is, whatever zones there are."""
        prepared = self.preprocessing.apply(pixels)
        return self._found(pixels, prepared).anomaly_map

    def inspect(
        self, source: Source, *, watch: Callable[[Measurement], None] | None = None, path: str | None = None,
        group: str | None = None,
    ) -> Verdict:  # fmt: skip
        """The verdict on one image: decision, scores, regions, a sentence, and the raw anomaly map.

        ``watch`` is shown the measurement. ``path``: of bytes or an array, where they come from, for the verdict and for
        groups. ``group``: its name, such as "lot=B12", where no path says it. Raises :class:`ImageError` when the image cannot be read.
        """
        start = time.perf_counter()
        measured = self.measure(source)
        if watch is not None:
            watch(measured)
        size = (measured.photo.pixels.shape[0], measured.photo.pixels.shape[1])
        named = _path(source) if path is None else path
        ruling, thresholds, threshold, deciding = self.judge(measured, named, group)
        regions = find_regions(
            measured.anomaly_map, thresholds, size, min_area=MIN_AREA * measured.network_share
        )
        not_inspected = 1.0 - measured.inspected
        return Verdict(
            path=_name(source if path is None else path),
            decision=ruling.decision,
            score=ruling.score,
            image_score=measured.image_score,
            threshold=threshold,
            regions=regions,
            sentence=ruling.sentence(
                regions,
                size,
                not_inspected,
                words=self.words,
                difference=self._difference(ruling.decision, measured, thresholds, regions),
            ),
            size=size,
            not_inspected=not_inspected,
            milliseconds=1000 * (time.perf_counter() - start),
            notes=tuple(
                retold(note, self.words)
                for note in (*measured.photo.notes, *ruling.doubts, *ruling.notes, deciding)
                if note
            ),
            anomaly_map=measured.anomaly_map,
        )

    def judge(self, measured: Measurement, path: str | None, group: str | None = None) -> Judgement:
        """What the thresholds say of a measurement: those of its ``group``, else of that which ``path`` names, and of
        the zones."""
        calibration, note = calibration_for(self.calibration, path, group)
        return Judgement(
            rule(measured.image_score, calibration, self.zone_plan, measured.judged, note),
            map_thresholds(calibration, self.zone_plan, measured.judged),
            calibration.threshold,
            note,
        )

    def expected(self, source: Source, region: Region) -> Expected | None:
        """A picture of what ``region`` of this image should look like; None where the detector cannot tell.

        From its reconstruction, or from the pictures of good parts kept at the fit. Raises :class:`ImageError`.
        """
        seen = self.measure(source).seen
        return None if seen is None else self.comparer.expected(seen, region)

    def _difference(
        self, decision: Decision, measured: Measurement, thresholds: Thresholds, regions: Sequence[Region]
    ) -> Difference:
        """In what way the region that the sentence speaks of differs from good parts; of failing images alone.

        Artefacts of before comparisons keep to the sentences that they had.
        """
        if "explain" not in self.artifact.manifest:
            return NO_DIFFERENCE
        if decision != "fail" or not regions or measured.seen is None:
            return UNCLEAR
        return self.comparer.difference(measured.seen, measured.anomaly_map, thresholds, main_region(regions))

    def inspect_many(
        self, sources: Iterable[Source], *, watch: Callable[[Measurement], None] | None = None
    ) -> Iterator[Verdict | Failure]:
        """One answer per source, in order; a broken image becomes a :class:`Failure` and the rest go on.

        ``watch`` is shown each measurement, before the answer is given.
        """
        for source in sources:
            try:
                yield self.inspect(source, watch=watch)
            except ImageError as error:
                yield Failure(_name(source), str(error))

    def recalibrated(self, calibration: Calibration, plan: ZonePlan | None = None) -> Predictor:
        """A predictor with another threshold, and other zones where given; the old ones are kept in the manifest's
        history."""
        manifest = self.artifact.manifest
        before = {name: manifest[name] for name in ("calibration", "nuisance") if name in manifest}
        changes = {
            "calibration": calibration_to_dict(calibration),
            "history": [*manifest.get("history", []), before],
        }
        if plan is not None:
            changes["nuisance"] = {**manifest.get("nuisance", {}), "zones": plan.to_list()}
        other = copy(self)  # the same graph, run by the same provider
        other.artifact = self.artifact.with_manifest(**changes)
        other.calibration = calibration_from_dict(other.artifact.manifest["calibration"])
        other.zone_plan = stored_plan(other.artifact.manifest, other.artifact.members)
        return other

    def _found(self, source: Source, prepared: Prepared) -> Found:
        """What the graph answers for a photograph, asked for a few of its tiles at a time."""
        return gather(
            prepared,
            lambda images: self._finite(source, images),
            reconstructs="reconstruction" in self._graph.outputs,
        )

    def _finite(self, source: Source, images: NDArray[np.float32]) -> Answer:
        answer = self._run(images)
        if not (np.isfinite(answer.scores).all() and np.isfinite(answer.maps).all()):
            raise ImageError(
                f"{_name(source)}: the detector's answer is not finite. Fit it again with more images."
            )
        return answer

    def _run(self, images: NDArray[np.float32]) -> Answer:
        answers = self._graph.run(images)
        maps, scores = answers["anomaly_map"], answers["image_score"]
        if maps.ndim != 4 or maps.shape[:2] != (len(images), 1) or scores.shape != (len(images),):
            raise ArtifactError(
                f"the artefact's graph answered a map {maps.shape} and a score {scores.shape} for {len(images)} "
                "images; expected (N, 1, h, w) and (N,). Fit again."
            )
        return Answer(maps[:, 0], scores, answers.get("nearest"), answers.get("reconstruction"))

    def _check_golden(self, tolerance: float) -> None:
        members = self.artifact.members
        if GOLDEN_INPUT not in members or GOLDEN_MAP not in members:
            raise ArtifactError(
                "the artefact has no golden input, so nothing proves that it answers as it should."
            )
        expected = _golden_map(members[GOLDEN_MAP])
        try:
            found = self.respond(
                decode(members[GOLDEN_INPUT], white_level=self.preprocessing.white_level).pixels
            )
        except ImageError as error:
            raise ArtifactError(f"the artefact's golden input cannot be inspected: {error}") from error
        allowed = tolerance * max(float(np.abs(expected).max()), 1e-12)
        if found.shape != expected.shape or not float(np.abs(found - expected).max()) <= allowed:
            raise ArtifactError(
                "this machine does not answer the artefact's golden input as the machine that fitted it did "
                f"(more than {tolerance:.0e} apart). Update {self._graph.provider} and pillow here, or fit again here."
            )


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    provider: str = "onnxruntime",
    precision: str = "f32",
) -> Predictor:
    """The predictor of the artefact in ``path``, proven by its golden input.

    ``provider``: what runs the graph, ``onnxruntime`` or ``openvino`` (an extra). ``precision``: ``f32``, or ``bf16`` with
    OpenVINO where the processor has it; thresholds were set in ``f32``. Raises :class:`ArtifactError`, SettingsError.
    """
    return Predictor.open(path, threads=threads, provider=provider, precision=precision)


def chosen_language(manifest: Mapping[str, Any]) -> str | None:
    """The language that the fit chose for verdicts; None where it left that to the one who inspects."""
    return manifest.get("explain", {}).get("language")


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


def _check_graph(graph: Graph, size: tuple[int, int]) -> None:
    """Raise :class:`ArtifactError` unless the graph takes ``images`` of ``size`` and answers map and score."""
    expected = Port("float32", (None, 3, *size))
    if list(graph.inputs) != ["images"] or not graph.inputs["images"].takes(expected):
        found = ", ".join(f"{name} {port}" for name, port in graph.inputs.items())
        raise ArtifactError(
            f"the artefact's graph takes {found or 'nothing'}; its manifest says images {expected}. The two do not belong "
            "together: fit again."
        )
    missing = {"anomaly_map", "image_score"} - set(graph.outputs)
    if missing:
        raise ArtifactError(
            f"the artefact's graph does not answer {' and '.join(sorted(missing))}. Fit again."
        )


def _path(source: object) -> str | None:
    return os.path.abspath(os.fsdecode(source)) if isinstance(source, str | os.PathLike) else None


def _name(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


__all__ = ["Measurement", "Predictor", "load"]
