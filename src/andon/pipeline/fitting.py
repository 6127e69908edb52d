"""The main job: a folder of good photographs in, a calibrated predictor out.

Fits with torch, then answers through the exported graph only: the threshold is set on exactly what the
line computer will compute.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from andon import __version__
from andon.audit import read_left_out
from andon.calibrate import calibrate, calibration_to_dict, check_share, uncalibrated
from andon.data import read_samples, split_nominal
from andon.data.augment import Augmentation
from andon.data.split import file_digest
from andon.errors import DataError, ImageError, SettingsError
from andon.files import check_writable, single_writer
from andon.image import RESIZES, Preprocessing, decode, photo_size, prepare
from andon.nuisance import ZonePlan, fixed_places
from andon.nuisance.align import Aligner
from andon.nuisance.stored import ALIGNMENT
from andon.pipeline.choosing import AUTO, Choice, choose
from andon.pipeline.ignoring import ZoneSource, fit_plan, own_thresholds, prints_into, with_plan, zones_of
from andon.pipeline.keeping import good_members
from andon.runtime.monitor import ReferenceMaker
from andon.runtime.predictor import Measurement, Predictor
from andon.runtime.words import words_of
from andon.types import Calibration, Sample

if TYPE_CHECKING:
    from andon.engine import FitReport
    from andon.training import Plan

Progress = Callable[[str, int, int], None]  # phase, done, total
HELD_OUT = 0.1  # share of the good images for a detector that looks at held-out ones
FITTED_ON = "fitted_on"  # the manifest's list of short digests of the images that shaped the detector
SIZED_PHOTOS = 16  # photographs looked at to choose the network's input size


@dataclass(frozen=True)
class FitOptions:
    """How to fit, apart from the method's own settings."""

    size: tuple[int, int] | None = (
        None  # network input (H, W); None: near 256x256, the photos' own shape kept
    )
    resize: str = "stretch"  # "stretch", "letterbox" or "tiles"
    white_level: int = 65535  # the 16-bit value that counts as white
    layout: str = "auto"
    category: str | None = None
    calibration: float | Path = 0.25  # share of the good images, or a folder of further ones
    group_by: str | None = None  # pattern of the path, {shift}/{lot}_*.png: images of a group stay together
    latest: bool = False  # calibrate on the last images by name, not on random ones
    limit: int | None = None  # fit on so many of the good images at most, drawn by the seed; None: on all
    target_rate: float = 0.01
    confidence: float = 0.95
    int8: bool = False  # convolutions of the exported graph in 8 bits
    leave_out: Path | None = None  # a list of images not to fit or calibrate on, as `andon audit` writes it
    ignore: ZoneSource | None = None  # zones that no network is to see: a zones.json, a mask image, or zones
    align: bool = False  # zones follow the part, found in each photograph; needs the extra `nuisance`
    print_into: ZoneSource | None = None  # zones into which random prints are drawn while fitting
    seed: int = 0
    batch_size: int | None = None  # images in a batch; None: what the method asks for
    workers: int = 2
    checkpoint_seconds: float = 20.0  # how often an unfinished fit is kept
    # of training; closed-form methods heed `augment`, `copies` and `device` alone
    minutes: float | None = None  # None: as many as the method's steps take
    early_stop: int | None = None  # evaluations without a better held-out loss after which training ends
    precision: str = "float32"  # "float32", "bfloat16" or "float16"
    device: str = "auto"  # "auto", "cpu", "cuda"
    augment: str = ""  # "study", or kinds of andon.data.augment separated by commas
    copies: int = 1  # varied versions of each image that a closed-form method sees besides the image
    cache_gb: float = 4.0  # of disk, for what frozen networks make of the images; 0: none
    cache_folder: Path | None = None  # where; None: the system's folder for temporary files
    keep_patches: bool = False  # keep pictures of good parts in the artefact, to set beside odd regions
    kept_bytes: int = 1_000_000  # of these pictures, at most
    language: str | None = None  # of the verdicts, a code of andon.runtime.words; None: left to who inspects
    image_gb: float = 0.5  # of memory, for decoded images

    def __post_init__(self) -> None:
        check_share("target_rate", self.target_rate)
        check_share("confidence", self.confidence)
        for name, least in (("seed", 0), ("workers", 0)):
            _check_whole(name, getattr(self, name), least)
        if self.align and self.ignore is None:
            raise SettingsError("align lets zones follow the part; give the zones, too, by ignore")
        if self.language is not None:
            words_of(self.language)
        _check_whole("kept_bytes", self.kept_bytes, 1)
        for name in ("batch_size", "limit"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        _check_number("checkpoint_seconds", self.checkpoint_seconds)
        if not isinstance(self.calibration, str | os.PathLike):
            _check_number("calibration", self.calibration)
        if self.resize not in RESIZES:
            raise SettingsError(f"resize must be one of {', '.join(RESIZES)}, got {self.resize!r}")
        Augmentation.parse(self.augment)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SettingsError(f"{name} must be a number, got {value!r}")


class _Parts(NamedTuple):
    train: list[Path]
    held_out: list[Path]
    calibration: list[Path]
    described: dict[str, Any]


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
    return predictor


def partial_path(output: str | os.PathLike[str]) -> Path:
    """Where an interrupted fit that writes ``output`` keeps what it has."""
    return Path(f"{os.fspath(output)}.partial")


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
    parts = _parts(source, options, detector.uses_held_out or measures)
    preprocessing = choose_preprocessing(parts.train, options)
    aligner = Aligner.fit(parts.train, seed=options.seed) if options.align else None
    places = aligner.places if aligner else fixed_places
    zones = fit_plan(options.ignore, parts.train, options.white_level, places)
    plan, printed = _with_prints(plan, options, preprocessing, parts.train)
    load = _loader(preprocessing, zones)
    reader = Reader(load, options.batch_size or detector.batch_size, options.workers)
    checkpoint = None
    if output is not None:
        reading = (
            str(preprocessing.to_dict()) + (str([options.align, zones.to_list()]) if zones else "") + printed
        )
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
    )
    say("export", 0, 1)
    manifest = _manifest(parts, report, options, plan)
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
    if aligner is not None:
        kept[ALIGNMENT] = aligner.to_bytes()
    draft = replace(draft, members={**draft.members, **kept})
    predictor = Predictor(with_plan(draft, zones), check=False)
    say("export", 1, 1)
    own_peaks = ZonePeaks()
    looks = ReferenceMaker.from_fitted(parts.train, white_level=options.white_level)
    scores, peaks, skipped = raw_scores(predictor, parts.calibration, progress, watch=each(own_peaks, looks))
    manifest["data"]["skipped"] += skipped
    manifest["data"][FITTED_ON] = sorted({short_digest(path) for path in [*parts.train, *parts.held_out]})
    manifest["data"]["calibration"] = len(scores)
    calibration = calibration_of(scores, peaks, options)
    changes = {
        "calibration": calibration_to_dict(calibration),
        "data": manifest["data"],
    } | looks.manifest_entry()
    if zones:
        zones = own_thresholds(
            zones, own_peaks.found, target_rate=options.target_rate, confidence=options.confidence
        )
    return Predictor(with_plan(draft.with_manifest(**changes), zones))


def _chosen(source: Path, options: FitOptions, settings: dict[str, Any], progress: Progress | None) -> Choice:
    """The method for these images; only those that the fit will be on are looked at."""
    from andon.engine import Reader

    train = _parts(source, options, uses_held_out=False).train
    zones = fit_plan(options.ignore, train, options.white_level)
    load = _loader(choose_preprocessing(train, options), zones)
    reader = Reader(load, options.batch_size or 8, options.workers)
    return choose(train, reader, settings, seed=options.seed, progress=progress)


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
    zones = zones_of(options.print_into)
    augment = plan.augment or Augmentation(())
    prints = prints_into(zones, preprocessing, paths)
    return replace(plan, augment=replace(augment, prints=prints)), str([zone.to_dict() for zone in zones])


def _loader(
    preprocessing: Preprocessing, zones: ZonePlan | None = None
) -> Callable[[Path], NDArray[np.float32]]:
    """Photograph to network input, by the one preprocessing that the line uses, too, its zones covered."""

    def load(path: Path) -> NDArray[np.float32]:
        if zones is None:
            images = prepare(path, preprocessing)[1].images
        else:
            pixels = decode(path, white_level=preprocessing.white_level).pixels
            images = preprocessing.apply(zones.cover(pixels)).images
        return images if preprocessing.resize == "tiles" else images[0]

    return load


def calibration_of(scores: Sequence[float], peaks: Sequence[float], options: FitOptions) -> Calibration:
    """The calibration from nominal raw ``scores`` and map ``peaks``; none at all gives one that asks for review."""
    if not scores:
        return uncalibrated()
    return calibrate(scores, target_rate=options.target_rate, confidence=options.confidence, map_peaks=peaks)


class ZonePeaks:
    """The largest map values in each zone with a threshold of its own, one an image that is shown to it."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def __call__(self, measured: Measurement) -> None:
        for name, peak in measured.zone_peaks.items():
            self.found.setdefault(name, []).append(peak)


def each(*watches: Callable[[Measurement], None]) -> Callable[[Measurement], None]:
    """What shows a measurement to all ``watches``."""

    def show(measured: Measurement) -> None:
        for watch in watches:
            watch(measured)

    return show


def raw_scores(
    predictor: Predictor,
    paths: Sequence[Path],
    progress: Progress | None = None,
    phase: str = "calibrate",
    *,
    watch: Callable[[Measurement], None] | None = None,
) -> tuple[list[float], list[float], list[list[str]]]:
    """Raw image scores and map peaks of ``paths``, and ``[name, reason]`` of the images that could not be read.

    ``watch`` is shown every measurement.
    """
    scores, peaks, skipped = [], [], []
    for done, path in enumerate(paths, 1):
        try:
            measured = predictor.measure(path)
            scores.append(measured.image_score)
            peaks.append(measured.map_peak)
            if watch is not None:
                watch(measured)
        except ImageError as error:
            skipped.append([path.name, str(error)])
        if progress:
            progress(phase, done, len(paths))
    return scores, peaks, skipped


def _parts(source: Path, options: FitOptions, uses_held_out: bool) -> _Parts:
    samples = read_samples(source, options.layout, category=options.category)
    categories = sorted({sample.category for sample in samples})
    if len(categories) > 1:
        raise DataError(
            f"{source} holds {len(categories)} categories ({', '.join(categories[:8])}); a detector is fitted on one. "
            f"Choose it with --category {categories[0]} (category={categories[0]!r} in Python)."
        )
    left_out = read_left_out(options.leave_out, source) if options.leave_out else frozenset()
    samples = [sample for sample in samples if sample.path.resolve() not in left_out]
    own = options.calibration if isinstance(options.calibration, str | os.PathLike) else None
    share = 0.0 if own is not None else float(options.calibration)  # type: ignore[arg-type]
    further = _further(Path(own)) if own is not None else []
    if own is not None:
        samples = [sample for sample in samples if sample.split != "calibration"] + further
    split = split_nominal(
        samples,
        held_out=HELD_OUT if uses_held_out else 0.0,
        calibration=share,
        seed=options.seed,
        group_by=options.group_by,
        latest=options.latest,
    )
    calibration = [sample.path for sample in split.calibration]
    if further and not calibration:
        raise DataError(
            f"all {len(further)} good images of {own} are among those of {source}, too, byte for byte: a threshold set "
            "on them would be too low. Give other good images for it, or a share of these, such as 0.25."
        )
    train = _drawn([sample.path for sample in split.train], options)
    if not train:
        raise DataError(f"{source} has no good images to fit on.")
    described = {"source": source.resolve().name, "category": categories[0] if categories else "",
                 "train": len(train), "held_out": len(split.held_out), "calibration": len(calibration)}  # fmt: skip
    if left_out:
        described["left_out"] = len(left_out)
    if len(further) > len(calibration):
        described["calibration_left_out"] = len(further) - len(calibration)  # they are among the others
    return _Parts(train, [sample.path for sample in split.held_out], calibration, described)


def short_digest(path: Path) -> str:
    """Enough of a hash of a file's bytes to know the file again, and nothing of the picture."""
    return file_digest(path)[:16]


def _drawn(train: list[Path], options: FitOptions) -> list[Path]:
    """``limit`` of the training images, in their order. What a lower limit draws is among what a higher one does."""
    if options.limit is None or options.limit >= len(train):
        return train
    chosen = np.random.default_rng(options.seed).permutation(len(train))[: options.limit]
    return [train[number] for number in sorted(chosen)]


def _further(folder: Path) -> list[Sample]:
    """The good images of a folder that was given for the threshold."""
    good = [sample for sample in read_samples(folder) if not sample.is_anomalous]
    return [replace(sample, split="calibration") for sample in good]


def choose_preprocessing(paths: Sequence[Path], options: FitOptions) -> Preprocessing:
    """The preprocessing for these photographs: the size asked for, or one near 256x256 of their own shape."""
    settings: dict[str, Any] = {"resize": options.resize, "white_level": options.white_level}
    if options.size is not None:
        return Preprocessing(size=options.size, **settings)
    if options.resize == "tiles":
        return Preprocessing(size=(256, 256), **settings)
    step = max(1, len(paths) // SIZED_PHOTOS)
    sizes = [size for path in paths[::step] if (size := _size(path)) is not None]
    if not sizes:
        raise DataError(f"none of the {len(paths[::step])} images looked at can be read; first: {paths[0]}")
    return replace(Preprocessing.for_photos(sizes), **settings)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return photo_size(path)
    except ImageError:
        return None


def _manifest(parts: _Parts, report: FitReport, options: FitOptions, plan: Plan) -> dict[str, Any]:
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
