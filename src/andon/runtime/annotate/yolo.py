"""YOLO: ``labels/<image>.txt``, one line a mark, and ``data.yaml``.

Source: the Ultralytics documentation of its data sets. A line is the class's number and then shares of the image's
width and height, 0 to 1: the polygon's x1 y1 x2 y2 ... (segmentation), or the box's middle x, middle y, width and
height (detection). An image without a mark has an empty file. There is no room for confidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from andon.runtime.annotate.files import Files
from andon.runtime.annotate.marks import AnnotatedImage, Mark, Style


def each(image: AnnotatedImage, style: Style) -> Files:
    """The file of one image."""
    lines = [_line(_numbers(mark, style), image.size) for mark in image.marks]
    return {f"labels/{image.stem}.txt": "".join(lines).encode()}


def together(images: Sequence[AnnotatedImage], style: Style) -> Files:
    """``data.yaml``, which names the class. The images belong in ``images``, beside ``labels``."""
    names = json.dumps(style.label)  # a JSON string is one in YAML
    return {"data.yaml": f"path: .\ntrain: images\nval: images\nnc: 1\nnames: [{names}]\n".encode()}


def _numbers(mark: Mark, style: Style) -> Iterable[float]:
    """x and y in turn, in pixels."""
    if style.shape == "polygon":
        return mark.polygon.ravel().tolist()
    top, left, bottom, right = mark.box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _line(values: Iterable[float], size: tuple[int, int]) -> str:
    shares = (f"{value / size[1 - at % 2]:.6f}".rstrip("0").rstrip(".") for at, value in enumerate(values))
    return f"0 {' '.join(shares)}\n"
