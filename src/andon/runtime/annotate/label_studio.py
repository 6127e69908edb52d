"""Label Studio: ``tasks.json`` with one prediction an image, and ``label_config.xml`` for the project's settings.

Source: Label Studio's guides "Import pre-annotations" and "Task format". Coordinates are percentages of the image's
width and height. A brush's mask is packed as thi.ng's rle-pack does it: RGBA bytes in runs of bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element

import numpy as np

from andon.runs import run_lengths
from andon.runtime.annotate.files import Files, child, number, xml_bytes
from andon.runtime.annotate.marks import AnnotatedImage, Mark, Shape, Style

LOCAL_FILES = "/data/local-files/?d="  # of Label Studio's own server, before a path below its document root
KINDS: dict[Shape, str] = {"polygon": "polygonlabels", "mask": "brushlabels", "box": "rectanglelabels"}
_TAGS: dict[Shape, str] = {"polygon": "PolygonLabels", "mask": "BrushLabels", "box": "RectangleLabels"}
_RUN_BITS = (3, 4, 8, 16)  # the four lengths, in bits, that a run's length may be written in


def together(images: Sequence[AnnotatedImage], style: Style) -> Files:
    """The tasks, and the labelling interface whose names they use."""
    tasks = [_task(image, style) for image in images]
    return {"tasks.json": json.dumps(tasks, indent=1).encode(), "label_config.xml": _interface(style)}


def _task(image: AnnotatedImage, style: Style) -> dict[str, Any]:
    marks = [
        {"id": f"region{at}", "from_name": "label", "to_name": "image", "type": KINDS[style.shape],
         "original_width": image.size[1], "original_height": image.size[0], "image_rotation": 0,
         "score": mark.confidence,
         "value": {**_value(mark, image.size, style.shape), KINDS[style.shape]: [style.label]}}
        for at, mark in enumerate(image.marks, 1)
    ]  # fmt: skip
    return {
        "data": {"image": style.url + quote(image.name), "file_name": image.name, "verdict": image.decision},
        "predictions": [{"model_version": style.detector, "score": image.score, "result": marks}],
    }


def _value(mark: Mark, size: tuple[int, int], shape: Shape) -> dict[str, Any]:
    height, width = size
    top, left, bottom, right = mark.box
    if shape == "mask":
        whole = np.zeros(size, np.bool_)
        whole[top:bottom, left:right] = mark.mask
        return {"format": "rle", "rle": list(packed_runs(run_lengths(whole.T)))}
    if shape == "polygon":
        percent = mark.polygon * [100 / width, 100 / height]
        return {"points": [[number(x, 6), number(y, 6)] for x, y in percent.tolist()], "closed": True}
    return {
        "x": number(100 * left / width, 6), "y": number(100 * top / height, 6), "rotation": 0,
        "width": number(100 * (right - left) / width, 6), "height": number(100 * (bottom - top) / height, 6),
    }  # fmt: skip


def packed_runs(counts: Sequence[int]) -> bytes:
    """Run lengths, row by row and background first, of a mask as the brush has them: 0 or 255 in R, G, B and A.

    32 bits: how many bytes unpacked; 5: bits a value, less 1; four times 4: the lengths of lengths, less 1. Then for
    each run a 1, two bits for which length of length, the run's length less 1, and its value.
    """
    bits = [f"{4 * sum(counts):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for at, count in enumerate(counts):
        value = "1" * 8 if at % 2 else "0" * 8
        for length in _split(4 * count):
            which = next(i for i, size in enumerate(_RUN_BITS) if length <= 1 << size)
            bits.append(f"1{which:02b}{length - 1:0{_RUN_BITS[which]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _split(length: int) -> Iterable[int]:
    """``length`` in parts that the longest length of length can hold."""
    most = 1 << _RUN_BITS[-1]
    yield from [most] * (length // most)
    if length % most:
        yield length % most


def _interface(style: Style) -> bytes:
    view = Element("View")
    child(view, "Image", name="image", value="$image")
    labels = child(view, _TAGS[style.shape], name="label", toName="image")
    child(labels, "Label", value=style.label)
    return xml_bytes(view)
