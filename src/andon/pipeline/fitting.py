"""The main job: a folder of good photographs in, a calibrated predictor out.

Fits with torch, then answers through the exported graph only: the threshold is set on exactly what the
line computer will compute.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from andon import __version__
from andon.artifact import Artifact
from andon.calibrate import calibration_to_dict, group_paths, require_images, uncalibrated
from andon.data.augment import Augmentation
from andon.distributed import RayObserver, shelf_of
from andon.files import check_writable, single_writer
from andon.image import Preprocessing, Tiles, decode, prepare
from andon.nuisance import ZonePlan, fixed_places
from andon.nuisance.align import Aligner
from andon.nuisance.stored import ALIGNMENT
from andon.pipeline.choosing import AUTO, Choice, choose
from andon.pipeline.ignoring import fit_plan, own_thresholds, prints_into, with_plan, zones_for
from andon.pipeline.keeping import good_members
from andon.pipeline.options import FitOptions
from andon.pipeline.parts import FITTED_ON, Parts, choose_preprocessing, lost_detail, parts_of, short_digest
from andon.pipeline.rules import Rule
from andon.pipeline.scoring import Progress, Scored, ZonePeaks, each, scored
from andon.runtime.monitor import ReferenceMaker
from andon.runtime.predictor import Predictor
from andon.types import Calibration

if TYPE_CHECKING:
    from andon.engine import FitReport
    from andon.training import Plan

Load = Callable[[Path], NDArray[np.float32] | Tiles]  # a photograph -> the network's input, or its tiles
TRIAL_TILES = 4  # of a photograph, where several methods are tried


def fit(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    method: str = "patchcore",
    resume: bool = False,
    progress: Progress | None = None,
    on_loss: Callable[[float], None] | None = None,
    options: FitOptions | None = None,
    **settings: Any,
) -> Predictor:
    """A calibrated predictor, fitted on the good photographs in ``source``.

    ``source``: a plain folder of good images (any nesting) or the root of a known data set. ``output``: where
    to save the artefact; an interrupted fit keeps ``<output>.partial`` beside it, and ``resume=True`` goes on
    from there. Keywords that are fields of :class:`FitOptions` say how to fit; all others go to the method.
    ``on_loss`` is told the mean of the latest losses after every training step, before ``progress`` is.

    Raises :class:`DataError` (folder, images), :class:`SettingsError` (options, training that diverges), BusyError
    (two fits writing one file).
    """
    options, settings = _options(options, settings)
    if output is None:
        return _fit(Path(source), None, method, resume, progress, on_loss, options, settings)
    check_writable(output)
    with single_writer(output):
        predictor = _fit(Path(source), Path(output), method, resume, progress, on_loss, options, settings)
        predictor.save(output)
        partial_path(output).unlink(missing_ok=True)
        shutil.rmtree(shelf_of(partial_path(output)), ignore_errors=True)
    return predictor


def partial_path(output: str | os.PathLike[str]) -> Path:
    """Where an interrupted fit that writes ``output`` keeps what it has."""
    return Path(f"{os.fspath(output)}.partial")


def unfinished(output: str | os.PathLike[str]) -> Path | None:
    """What an interrupted fit that wrote ``output`` left to go on from: a file, or of one on Ray a folder; None if nothing."""
    partial = partial_path(output)
    return next((path for path in (partial, shelf_of(partial)) if path.exists()), None)


def _options(options: FitOptions | None, settings: dict[str, Any]) -> tuple[FitOptions, dict[str, Any]]:
    fields = set(FitOptions.__dataclass_fields__)
    ours = {name: value for name, value in settings.items() if name in fields}
    theirs = {name: value for name, value in settings.items() if name not in fields}
    options = replace(options or FitOptions(), **ours)
    theirs.setdefault("seed", options.seed)
    return options, theirs


def _fit(source: Path, output: Path | None, method: str, resume: bool, progress: Progress | None,
         on_loss: Callable[[float], None] | None, options: FitOptions, settings: dict[str, Any]) -> Predictor:  # fmt: skip
    from andon.engine import Checkpoint, Reader
    from andon.engine import fit as run
    from andon.export import to_artifact
    from andon.models import accepts, build

    say = progress or (lambda phase, done, total: None)
    chosen = _chosen(source, options, settings, progress) if method == AUTO else None
    method = chosen.method if chosen else method
    if options.batch_size is not None and accepts(method, "batch_size"):
        settings = {**settings, "batch_size": options.batch_size}
    if not accepts(method, "seed"):
        settings = {name: value for name, value in settings.items() if name != "seed"}
    detector, plan = build(method, **settings), _plan(options)
    measures = options.early_stop is not None and detector.steps > 0
    parts = parts_of(source, options, detector.uses_held_out or measures)
    _check_thresholds(parts, options)
    preprocessing = choose_preprocessing(parts.train, options)
    aligner = Aligner.fit(parts.train, seed=options.seed) if options.align else None
    places = aligner.places if aligner else fixed_places
    zones = fit_plan(options.ignore, parts.train, options.white_level, places)
    plan, printed = _with_prints(plan, options, preprocessing, parts.train)
    load = loader(preprocessing, zones)
    reader = Reader(load, options.batch_size or detector.batch_size, options.workers, _ahead(options))
    checkpoint = None
    if output is not None:
        reading = (
            str(preprocessing.to_dict()) + (str([options.align, zones.to_list()]) if zones else "") + printed
        )
        if options.ray is not None:
            reading += f" in shards: {options.shards}"
        checkpoint = Checkpoint(partial_path(output), resume, options.checkpoint_seconds, reading)
    report = run(
        detector,
        parts.train,
        reader,
        held_out=parts.held_out,
        checkpoint=checkpoint,
        progress=progress,
        plan=plan,
        on_loss=on_loss,
        observe=RayObserver(options.ray, options.shards) if options.ray is not None else None,
    )
    say("export", 0, 1)
    if note := lost_detail(parts.train, preprocessing):
        report.notes.append(note)
    manifest = manifest_of(parts, report, options, plan)
    if chosen:
        manifest["fit"]["auto"] = chosen.as_dict()
    kept = (
        good_members(detector, parts.train, preprocessing, options.kept_bytes, zones)
        if options.keep_patches
        else {}
    )
    manifest["explain"] = {
        "language": options.language,
        "pictures": sum(name.endswith(".jpg") for name in kept),
        "bytes": sum(map(len, kept.values())),
    }
    draft = to_artifact(
        detector,
        preprocessing,
        {**manifest, "calibration": calibration_to_dict(uncalibrated())},
        ranges_from=reader.tensors(parts.train) if options.int8 else None,
    )
    alignment = {ALIGNMENT: aligner.to_bytes()} if aligner is not None else {}
    draft = replace(draft, members={**draft.members, **kept, **alignment})
    say("export", 1, 1)
    return calibrated(draft, zones, parts, options, progress)


def calibrated(draft: Artifact, zones: ZonePlan | None, parts: Parts, options: FitOptions,
                progress: Progress | None) -> Predictor:  # fmt: skip
    """The predictor of ``draft`` with thresholds from the calibration images, as it scores them itself."""
    own_peaks = ZonePeaks()
    looks = ReferenceMaker.from_fitted(parts.train, white_level=options.white_level)
    predictor = Predictor(with_plan(draft, zones), check=False)
    found = scored(predictor, parts.calibration, options.threshold_by, progress, watch=each(own_peaks, looks))
    data = draft.manifest["data"]
    data = {
        **data,
        "skipped": [*data["skipped"], *found.skipped],
        FITTED_ON: sorted({short_digest(path) for path in [*parts.train, *parts.held_out]}),
        "calibration": len(found.scores),
    }
    calibration = calibration_to_dict(_calibration(found, parts, options))
    if zones:
        zones = own_thresholds(
            zones, own_peaks.found, target_rate=options.target_rate, confidence=options.confidence
        )
    changed = draft.with_manifest(calibration=calibration, data=data, **looks.manifest_entry())
    return Predictor(with_plan(changed, zones))


def _check_thresholds(parts: Parts, options: FitOptions) -> None:
    """Raise before the work where the calibration images are too few for ``strict``, or name no group."""
    if options.strict:
        require_images(len(parts.calibration), options.target_rate, options.confidence)
    if options.threshold_by is not None:
        group_paths(options.threshold_by, [*parts.train, *parts.calibration])


def _calibration(found: Scored, parts: Parts, options: FitOptions) -> Calibration:
    """The thresholds that the scored calibration images give; without any every image is for review."""
    if not found.scores:
        return uncalibrated(target_rate=options.target_rate, confidence=options.confidence)
    rule = Rule(
        options.target_rate,
        options.confidence,
        strict=options.strict,
        group_by=options.threshold_by,
        fall_back=options.fall_back,
    )
    fitted = group_paths(options.threshold_by, parts.train) if options.threshold_by is not None else ()
    return rule.calibration(found, Scored([], [], [], {}), fitted)


def _chosen(source: Path, options: FitOptions, settings: dict[str, Any], progress: Progress | None) -> Choice:
    """The method for these images; only those that the fit will be on are looked at."""
    from andon.engine import Reader

    train = parts_of(source, options, uses_held_out=False).train
    preprocessing = choose_preprocessing(train, options)
    places = Aligner.fit(train, seed=options.seed).places if options.align else fixed_places
    load = _few_tiles(loader(preprocessing, fit_plan(options.ignore, train, options.white_level, places)))
    reader = Reader(load, options.batch_size or 8, options.workers, _ahead(options))
    plan, _ = _with_prints(_plan(options), options, preprocessing, train)
    return choose(train, reader, settings, seed=options.seed, plan=plan, progress=progress)


def _plan(options: FitOptions) -> Plan:
    from andon.training import Machine, Plan

    Machine.choose(options.device, options.precision)  # refuses, before an image is read, what is not there
    return Plan(
        minutes=options.minutes,
        early_stop=options.early_stop,
        precision=options.precision,
        device=options.device,
        augment=Augmentation.parse(options.augment),
        copies=options.copies,
        cache_gb=options.cache_gb,
        cache_folder=options.cache_folder,
        image_gb=options.image_gb,
    )


def _with_prints(
    plan: Plan, options: FitOptions, preprocessing: Preprocessing, paths: Sequence[Path]
) -> tuple[Plan, str]:
    """``plan`` with prints drawn into the zones asked for, and what of them decides the fit, as text."""
    if options.print_into is None:
        return plan, ""
    zones = zones_for(options.print_into, paths, options.white_level)
    augment = plan.augment or Augmentation(())
    prints = prints_into(zones, preprocessing, paths)
    return replace(plan, augment=replace(augment, prints=prints)), str([zone.to_dict() for zone in zones])


def _few_tiles(load: Load) -> Load:
    """``load`` with a few tiles, spread over the photograph, in place of many: enough for a trial of methods."""

    def some(path: Path) -> NDArray[np.float32] | Tiles:
        image = load(path)
        if not isinstance(image, Tiles):
            return image
        return image.chosen(sorted(set(np.linspace(0, image.count - 1, TRIAL_TILES).astype(int).tolist())))

    return some


def _ahead(options: FitOptions) -> int | None:
    """Photographs decoded ahead: large ones, if they are cut into tiles, so one for each worker."""
    return max(1, options.workers) if options.resize == "tiles" else None


def loader(preprocessing: Preprocessing, zones: ZonePlan | None = None) -> Load:
    """Photograph to network input, by the one preprocessing that the line uses, too, its zones covered."""

    def load(path: Path) -> NDArray[np.float32] | Tiles:
        if zones is None:
            prepared = prepare(path, preprocessing)[1]
        else:
            pixels = decode(path, white_level=preprocessing.white_level).pixels
            prepared = preprocessing.apply(zones.cover(pixels))
        return prepared.tiles if preprocessing.resize == "tiles" else prepared.images[0]

    return load


def manifest_of(parts: Parts, report: FitReport, options: FitOptions, plan: Plan) -> dict[str, Any]:
    import onnxruntime
    import PIL
    import torch

    return {
        "andon_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": {**parts.described, "train": report.images,
                 "skipped": [[Path(path).name, reason] for path, reason in report.skipped]},
        "fit": {"seed": options.seed, "seconds": round(report.seconds, 3), "resumed_at": report.resumed_at,
                **_how(report, plan)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "pillow": PIL.__version__, "onnxruntime": onnxruntime.__version__},
    }  # fmt: skip


def _how(report: FitReport, plan: Plan) -> dict[str, Any]:
    """How the detector was trained, where it was, and how its images were varied, where they were."""
    how: dict[str, Any] = {}
    if plan.augment is not None:
        how["augment"] = plan.augment.described() | ({} if report.phases else {"copies": plan.copies})
    if report.phases:
        how |= {"precision": plan.precision, "minutes": plan.minutes, "early_stop": plan.early_stop}
    return how | report.described()
