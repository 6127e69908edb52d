"""Regions of anomaly maps as annotations for labelling tools. ``FORMATS`` is the registry; one file a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from andon.runtime.annotate import coco, cvat, label_studio, masks, voc, yolo
from andon.runtime.annotate.files import Files
from andon.runtime.annotate.marks import (
    TOLERANCE,
    AnnotatedImage,
    Mark,
    Shape,
    Style,
    confidence,
    find_marks,
    image_mask,
)

__all__ = [
    "FORMATS",
    "TOLERANCE",
    "AnnotatedImage",
    "Files",
    "Format",
    "Mark",
    "Shape",
    "Style",
    "confidence",
    "find_marks",
    "image_mask",
]


def _none(image: AnnotatedImage, style: Style) -> Files:
    return {}


def _nothing(images: Sequence[AnnotatedImage], style: Style) -> Files:
    return {}


@dataclass(frozen=True)
class Format:
    """One tool's way to write annotations."""

    title: str
    shapes: tuple[Shape, ...]  # that it knows; the first is taken unless another is asked for
    each: Callable[[AnnotatedImage, Style], Files] = _none  # the files of one image
    together: Callable[[Sequence[AnnotatedImage], Style], Files] = _nothing  # the files of all of them
    by_stem: bool = False  # whether an image is known by its name without the ending
    pictures: bool = False  # whether pictures are written


FORMATS: dict[str, Format] = {
    "coco": Format("COCO JSON", ("polygon", "mask", "counts"), together=coco.together),
    "voc": Format("Pascal VOC XML", ("box",), each=voc.each),
    "yolo": Format("YOLO labels and data.yaml", ("polygon", "box"), yolo.each, yolo.together, by_stem=True),
    "labelstudio": Format("Label Studio tasks", ("polygon", "mask", "box"), together=label_studio.together),
    "cvat": Format("CVAT for images 1.1 XML", ("polygon", "mask", "box"), together=cvat.together),
    "mask": Format("PNG masks", ("mask", "instances"), each=masks.each, pictures=True),
}
