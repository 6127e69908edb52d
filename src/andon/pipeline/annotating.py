"""A folder of photographs -> annotations that people can correct in their labelling tool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from andon.data import list_images
from andon.errors import AndonError, CalibrationError, DataError, ImageError, SettingsError, did_you_mean
from andon.files import atomic_write
from andon.runtime.annotate import (
    FORMATS,
    TOLERANCE,
    AnnotatedImage,
    Files,
    Format,
    Mark,
    Shape,
    Style,
    find_marks,
)
from andon.runtime.explain import MIN_AREA, MOST
from andon.runtime.predictor import Predictor
from andon.types import Decision, Failure

Whose = Literal["fail", "review", "all"]
IMAGES = "images"  # the folder of copies, in the output folder
WHOSE: Mapping[Whose, tuple[Decision, ...]] = {
    "fail": ("fail",),
    "review": ("fail", "review"),
    "all": ("fail", "review", "pass"),
}


@dataclass(frozen=True)
class AnnotateOptions:
    """Which regions are annotated, and how they are written. ``shape``: None takes the format's first."""

    format: str = "coco"
    shape: Shape | None = None
    label: str = "defect"
    whose: Whose = "review"  # images whose regions are annotated; the others count as without
    threshold: float | None = None  # raw, of the map; None takes the detector's own
    level: float = 1.0  # where to cut, as a share of the threshold's height above the photograph's median
    min_area: float = MIN_AREA  # of the image, 0 to 1
    most: int = MOST  # regions an image, at most 255
    tolerance: float = TOLERANCE  # pixels
    url: str = ""
    copy: bool = False  # the images, too
    empty: bool = True  # list images without a region
    overwrite: bool = False  # replace files of other content


@dataclass(frozen=True)
class Annotated:
    """What was written: the images listed, the files of all of them together (relative to the output folder), and
    the images that could not be looked at."""

    images: tuple[AnnotatedImage, ...]
    files: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def marked(self) -> int:
        """Images with a region."""
        return sum(bool(image.marks) for image in self.images)

    @property
    def marks(self) -> int:
        """Regions of all images."""
        return sum(len(image.marks) for image in self.images)

    @property
    def turned(self) -> int:
        """Images that are stored on their side or upside down."""
        return sum(image.turned for image in self.images)


def annotate(
    predictor: Predictor,
    folder: Path,
    out: Path,
    options: AnnotateOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Annotated:
    """Inspect every image below ``folder`` and write what was found into the folder ``out``.

    The same images, detector and options give the same bytes, and a file that is there with other content, such as
    one that was corrected by hand, is never replaced unless ``overwrite``: an interrupted run is simply run again.
    Images that cannot be read, or have a name that no format can hold, become failures and the rest go on.

    Raises :class:`SettingsError` for options that make no sense, :class:`CalibrationError` without a map threshold,
    :class:`DataError` where there is no image, :class:`AndonError` where a file is in the way.
    """
    options = options or AnnotateOptions()
    chosen, style = _style(predictor, options)
    paths = list_images(folder)
    _check_apart(folder, out, chosen, options)
    stems = _stems(path.relative_to(folder).as_posix() for path in paths)
    if chosen.by_stem:
        _refuse_twins(stems, chosen)
    images: list[AnnotatedImage] = []
    failures: list[Failure] = []
    for at, (path, (name, stem)) in enumerate(zip(paths, stems.items(), strict=True), 1):
        try:
            image = _image(predictor, path, name, stem, options)
            if image.marks or options.empty:
                copies = {f"{IMAGES}/{name}": path.read_bytes()} if options.copy else {}
                _write(out, {**chosen.each(image, style), **copies}, options)
                images.append(image)
        except (ImageError, OSError) as error:
            failures.append(Failure(str(path), str(error)))
        if progress is not None:
            progress("annotate", at, len(paths))
    files = _write(out, chosen.together(images, style), options)
    return Annotated(tuple(images), tuple(files), tuple(failures))


def _style(predictor: Predictor, options: AnnotateOptions) -> tuple[Format, Style]:
    """The format and the way to write it; what the options ask for is checked before the work."""
    if options.format not in FORMATS:
        hint = did_you_mean(options.format, FORMATS)
        raise SettingsError(f"there is no format {options.format!r}; there are {', '.join(FORMATS)}.{hint}")
    chosen = FORMATS[options.format]
    shape = options.shape or chosen.shapes[0]
    if shape not in chosen.shapes:
        raise SettingsError(
            f"{chosen.title} cannot hold the shape {shape!r}; it has {' and '.join(chosen.shapes)}."
        )
    if not options.label.strip() or not _is_plain(options.label):
        raise SettingsError(f"label: expected a name such as 'defect', got {options.label!r}")
    if not 1 <= options.most <= 255:
        raise SettingsError(f"most: expected 1 to 255 regions an image, got {options.most}")
    if not 0 < options.level < math.inf:
        raise SettingsError(
            f"level: expected a share of the threshold's height, above 0, got {options.level}"
        )
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise SettingsError(f"threshold: expected a finite raw value of the map, got {options.threshold}")
    if options.threshold is None and math.isnan(predictor.calibration.map_threshold):
        raise CalibrationError(
            "the detector has no map threshold to cut regions by: calibrate it with good images, or give --threshold."
        )
    detector = f"andon {predictor.manifest['detector']['method']}"
    return chosen, Style(shape, options.label, detector, options.url)


def _is_plain(text: str) -> bool:
    """Whether XML can hold ``text``: no control characters, nothing that is not Unicode (XML 1.0, production 2)."""
    return not any(c < " " or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" for c in text)


def _image(
    predictor: Predictor, path: Path, name: str, stem: str, options: AnnotateOptions
) -> AnnotatedImage:
    """What is said of the image at ``path``.

    Raises :class:`ImageError` when it cannot be read, or has a name that formats cannot hold.
    """
    if not _is_plain(name):
        raise ImageError("its name has characters that annotations cannot hold. Rename it.")
    found = predictor.measure(path)
    ruling, own, _, _ = predictor.judge(found, str(path.absolute()))
    size = (found.photo.pixels.shape[0], found.photo.pixels.shape[1])
    marks: tuple[Mark, ...] = ()
    if ruling.decision in WHOSE[options.whose]:
        marks = find_marks(
            found.anomaly_map, own if options.threshold is None else options.threshold, size,
            min_area=options.min_area, most=options.most, tolerance=options.tolerance, level=options.level,
        )  # fmt: skip
    turned = any("EXIF" in note for note in found.photo.notes)
    return AnnotatedImage(name, stem, size, ruling.decision, round(ruling.score, 4), marks, turned)


def _stems(names: Iterable[str]) -> dict[str, str]:
    """For each image the name without its ending, or with it where two would share it (on any file system).

    >>> _stems(["a/1.png", "a/1.jpg", "b/1.png"])
    {'a/1.png': 'a/1.png', 'a/1.jpg': 'a/1.jpg', 'b/1.png': 'b/1'}
    """
    names = list(names)
    whole: set[str] = set()
    while True:
        stems = {name: name if name in whole else str(PurePosixPath(name).with_suffix("")) for name in names}
        sharing = Counter(stem.casefold() for stem in stems.values())
        more = {name for name, stem in stems.items() if sharing[stem.casefold()] > 1} - whole
        if not more:
            return stems
        whole |= more


def _refuse_twins(stems: Mapping[str, str], chosen: Format) -> None:
    twins = [name for name, stem in stems.items() if name == stem]
    if twins:
        raise DataError(
            f"{' and '.join(twins[:2])} differ only in their ending or case, and {chosen.title} know an image by the "
            "rest. Rename one of them."
        )


def _check_apart(folder: Path, out: Path, chosen: Format, options: AnnotateOptions) -> None:
    """Refuse to write pictures into the folder of images: the next run would take them for photographs."""
    inside = folder.resolve() in (out.resolve(), *out.resolve().parents)
    if inside and (options.copy or chosen.pictures):
        raise SettingsError(
            f"{out} lies in {folder}, whose images are annotated: the pictures written there would be taken for "
            "photographs. Give a folder outside it."
        )


def _write(out: Path, files: Files, options: AnnotateOptions) -> list[str]:
    """Write what is new. Raises :class:`AndonError` where a file of other content is there."""
    for name, content in files.items():
        target = out / name
        if target.is_file():
            if target.read_bytes() == content:
                continue
            if not options.overwrite:
                raise AndonError(
                    f"{target} is there and says something else; was it corrected by hand? "
                    "Give another folder, or --overwrite to replace it."
                )
        with atomic_write(target) as file:
            file.write(content)
    return list(files)
