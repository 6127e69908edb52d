"""COCO: one ``annotations.json`` with images, annotations and one category.

Source: the format as the COCO API reads it (Lin et al. 2014; cocodataset.org, "Data format"). Boxes are
[x, y, width, height]; polygons flat lists x1, y1, x2, ...; run lengths column by column, of the whole image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from andon.runs import compressed, run_lengths
from andon.runtime.annotate.files import Files, number
from andon.runtime.annotate.marks import AnnotatedImage, Mark, Style

CATEGORY = 1


def together(images: Sequence[AnnotatedImage], style: Style) -> Files:
    """``annotations.json``: every image, numbered from 1 in their order, and every mark."""
    content = {
        "info": {"description": "Regions that a detector found; to be checked by a person.", "version": style.detector},
        "licenses": [],
        "categories": [{"id": CATEGORY, "name": style.label, "supercategory": ""}],
        "images": [
            {"id": at, "file_name": image.name, "height": image.size[0], "width": image.size[1],
             "verdict": image.decision, "score": image.score}
            for at, image in enumerate(images, 1)
        ],
        "annotations": [{"id": at, **entry} for at, entry in enumerate(_annotations(images, style), 1)],
    }  # fmt: skip
    return {"annotations.json": json.dumps(content, indent=1).encode()}


def _annotations(images: Sequence[AnnotatedImage], style: Style) -> Iterator[dict[str, Any]]:
    for at, image in enumerate(images, 1):
        for mark in image.marks:
            top, left, bottom, right = mark.box
            yield {
                "image_id": at, "category_id": CATEGORY, "iscrowd": 0, "area": mark.area,
                "bbox": [left, top, right - left, bottom - top], "score": mark.confidence,
                "segmentation": _segmentation(mark, image.size, style),
            }  # fmt: skip


def _segmentation(mark: Mark, size: tuple[int, int], style: Style) -> Any:
    if style.shape == "polygon":
        return [[number(value) for value in mark.polygon.ravel().tolist()]]
    whole = np.zeros(size, np.bool_)
    top, left, bottom, right = mark.box
    whole[top:bottom, left:right] = mark.mask
    counts = run_lengths(whole)
    return {"size": list(size), "counts": counts if style.shape == "counts" else compressed(counts)}
