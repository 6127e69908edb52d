"""Pascal VOC: ``Annotations/<image>.xml``, one box a mark.

Source: the VOC 2007 development kit. Its corners are pixels, counted from 1 and both included, so that a region of
one pixel in the upper left corner is xmin = ymin = xmax = ymax = 1. There is no room for outlines or confidence.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from andon.runtime.annotate.files import Files, child, xml_bytes
from andon.runtime.annotate.marks import AnnotatedImage, Style


def each(image: AnnotatedImage, style: Style) -> Files:
    """The file of one image."""
    root = Element("annotation")
    path = PurePosixPath(image.name)
    child(root, "folder", path.parent if path.parent.name else "")
    child(root, "filename", path.name)
    child(child(root, "source"), "database", style.detector)
    size = child(root, "size")
    for tag, value in (("width", image.size[1]), ("height", image.size[0]), ("depth", 3)):
        child(size, tag, value)
    child(root, "segmented", 0)
    for mark in image.marks:
        one = child(root, "object")
        for tag, text in (("name", style.label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            child(one, tag, text)
        top, left, bottom, right = mark.box
        box = child(one, "bndbox")
        for tag, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            child(box, tag, value)
    return {f"Annotations/{image.stem}.xml": xml_bytes(root)}
