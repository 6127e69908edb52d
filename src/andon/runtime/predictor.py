"""From an ``.andon`` artefact to verdicts. No torch: ONNX Runtime, NumPy and Pillow.

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
from andon.image import Photo, Preprocessing, Source, decode, prepare
from andon.nuisance import Judged, ZonePlan
from andon.nuisance.stored import stored_plan
from andon.runtime.explain import find_regions, main_region
from andon.runtime.explain_compare import Comparer, Seen, Thresholds
from andon.runtime.explain_difference import NO_DIFFERENCE, UNCLEAR, Difference
from andon.runtime.explain_good import Expected, GoodPictures
from andon.runtime.words import DEFAULT, retold, words_of
from andon.runtime.zoned import Ruling, map_thresholds, rule
from andon.types import Calibration, Decision, Failure, Region, Verdict

GOLDEN_TOLERANCE = 1e-3  # of the golden map's own range: kernels differ in the last bits, not more


class Answer(NamedTuple):
    """What the graph answered for N images; the last two where the method has them."""

    maps: NDArray[np.float32]  # (N, h, w) raw
    scores: NDArray[np.float32]  # (N,) raw
    nearest: NDArray[np.integer] | None  # (N, h, w) rows of the memory bank
    reconstruction: NDArray[np.float32] | None  # (N, 3, H, W) in [0, 1]


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

    ``threads``: of ONNX Runtime; None lets it take the machine's cores. ``check``: answer the golden input
    first, and raise :class:`ArtifactError` unless this machine answers as the one that fitted. Sentences and notes are
    in the language chosen at the fit, else in English; see :meth:`speaking`.
    """

    def __init__(self, artifact: Artifact, *, threads: int | None = None, check: bool = True) -> None:
        self.artifact = artifact
        self.words = words_of(chosen_language(artifact.manifest) or DEFAULT)
        self.comparer = Comparer(artifact.members)
        self.preprocessing = Preprocessing.from_dict(artifact.manifest["preprocessing"])
        self.calibration: Calibration = calibration_from_dict(artifact.manifest["calibration"])
        self.zone_plan = stored_plan(artifact.manifest, artifact.members)
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
        return "reconstruction" in self._outputs or bool(self.good_pictures.pictures)

    def measure(self, source: Source) -> Measurement:
        """The raw score and anomaly map of one image (a path, bytes, array or Pillow image).

        Raises :class:`ImageError` when it cannot be read or the graph answers no finite number for it.
        """
        if self.zone_plan is not None:
            return self._measure_zoned(source, self.zone_plan)
        photo, prepared = prepare(source, self.preprocessing)
        answer = self._finite(source, prepared.images)
        seen = Seen(photo.pixels, prepared, answer.nearest, answer.reconstruction)
        peak = float(answer.scores.max())
        return Measurement(photo, peak, prepared.stitch(answer.maps), prepared.inspected, seen=seen)

    def _measure_zoned(self, source: Source, plan: ZonePlan) -> Measurement:
        photo = decode(source, white_level=self.preprocessing.white_level)
        placed = plan.place(photo.pixels)
        prepared = self.preprocessing.apply(placed.cover(photo.pixels))
        answer = self._finite(source, prepared.images)
        judged = placed.judge(prepared.stitch(answer.maps))
        inspected = prepared.inspected * (1.0 - judged.not_inspected)
        seen = Seen(photo.pixels, prepared, answer.nearest, answer.reconstruction)
        return Measurement(photo, judged.peak, judged.anomaly_map, inspected, judged, seen)

    def respond(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The raw map (h, w) of a photograph (H0, W0, 3) uint8 as it is, whatever zones there are."""
        prepared = self.preprocessing.apply(pixels)
        return prepared.stitch(self._finite(pixels, prepared.images).maps)

    def inspect(self, source: Source, *, watch: Callable[[Measurement], None] | None = None) -> Verdict:
        """The verdict on one image: decision, scores, regions, a sentence, and the raw anomaly map.

        ``watch`` is shown the measurement. Raises :class:`ImageError` when the image cannot be read.
        """
        start = time.perf_counter()
        measured = self.measure(source)
        if watch is not None:
            watch(measured)
        size = (measured.photo.pixels.shape[0], measured.photo.pixels.shape[1])
        ruling, thresholds, threshold, group = self.judge(measured, _path(source))
        regions = find_regions(measured.anomaly_map, thresholds, size)
        not_inspected = 1.0 - measured.inspected
        return Verdict(
            path=_name(source),
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
                retold(note, self.words) for note in (*measured.photo.notes, *ruling.notes, group) if note
            ),
            anomaly_map=measured.anomaly_map,
        )

    def judge(self, measured: Measurement, path: str | None) -> Judgement:
        """What the thresholds say of a measurement: those of the group that ``path`` names, and of the zones."""
        calibration, group = calibration_for(self.calibration, path)
        return Judgement(
            rule(measured.image_score, calibration, self.zone_plan, measured.judged),
            map_thresholds(calibration, self.zone_plan, measured.judged),
            calibration.threshold,
            group,
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
        changed = Predictor(self.artifact.with_manifest(**changes), check=False)
        return changed.speaking(self.words["language.code"])

    def _finite(self, source: Source, images: NDArray[np.float32]) -> Answer:
        answer = self._run(images)
        if not (np.isfinite(answer.scores).all() and np.isfinite(answer.maps).all()):
            raise ImageError(
                f"{_name(source)}: the detector's answer is not finite. Fit it again with more images."
            )
        return answer

    def _run(self, images: NDArray[np.float32]) -> Answer:
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
        return Answer(maps[:, 0], scores, answers.get("nearest"), answers.get("reconstruction"))

    def _check_golden(self) -> None:
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
        allowed = GOLDEN_TOLERANCE * max(float(np.abs(expected).max()), 1e-12)
        if found.shape != expected.shape or not float(np.abs(found - expected).max()) <= allowed:
            raise ArtifactError(
                "this machine does not answer the artefact's golden input as the machine that fitted it did "
                f"(more than {GOLDEN_TOLERANCE:.0e} apart). Update onnxruntime and pillow here, or fit again here."
            )


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Predictor:
    """The predictor of the artefact in ``path``, proven by its golden input. Raises :class:`ArtifactError`."""
    return Predictor.open(path, threads=threads)


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


def _path(source: object) -> str | None:
    return os.path.abspath(os.fsdecode(source)) if isinstance(source, str | os.PathLike) else None


def _name(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


__all__ = ["Measurement", "Predictor", "load"]
