"""CVAT for images 1.1: one ``annotations.xml``, and ``labels.json`` for the task's label constructor.

Source: CVAT's documentation, "XML annotation format". Points are "x,y;x,y", in pixels. A mask is the run lengths of
its box, row by row, background first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from andon.runs import run_lengths
from andon.runtime.annotate.files import Files, child, number, xml_bytes
from andon.runtime.annotate.marks import AnnotatedImage, Mark, Style


def together(images: Sequence[AnnotatedImage], style: Style) -> Files:
    """The annotations to upload, and the label to make the task with; its confidence is kept as an attribute."""
    root = Element("annotations")
    child(root, "version", "1.1")
    task = child(child(root, "meta"), "task")
    child(task, "size", len(images))
    child(task, "mode", "annotation")
    one = child(child(task, "labels"), "label")
    child(one, "name", style.label)
    attribute = child(child(one, "attributes"), "attribute")
    for tag, text in (("name", "confidence"), ("mutable", "False"), ("input_type", "text")):
        child(attribute, tag, text)
    for at, image in enumerate(images):
        _image(root, at, image, style)
    confidence = {
        "name": "confidence",
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
    }
    labels = [{"name": style.label, "attributes": [confidence]}]
    return {"annotations.xml": xml_bytes(root), "labels.json": json.dumps(labels, indent=1).encode()}


def _image(root: Element, at: int, image: AnnotatedImage, style: Style) -> None:
    height, width = image.size
    here = child(root, "image", id=at, name=image.name, width=width, height=height)
    for mark in image.marks:
        shape = child(
            here,
            style.shape,
            label=style.label,
            source="auto",
            occluded=0,
            **_geometry(mark, style),
            z_order=0,
        )
        child(shape, "attribute", mark.confidence, name="confidence")


def _geometry(mark: Mark, style: Style) -> dict[str, object]:
    top, left, bottom, right = mark.box
    if style.shape == "polygon":
        return {"points": ";".join(f"{number(x)},{number(y)}" for x, y in mark.polygon.tolist())}
    if style.shape == "box":
        return {"xtl": left, "ytl": top, "xbr": right, "ybr": bottom}
    runs = ", ".join(map(str, run_lengths(mark.mask.T)))
    return {"rle": runs, "left": left, "top": top, "width": right - left, "height": bottom - top}
