"""Masks: ``masks/<image>.png``, grey, of the photograph's size upright."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from andon.runtime.annotate.files import Files
from andon.runtime.annotate.marks import AnnotatedImage, Style, image_mask


def each(image: AnnotatedImage, style: Style) -> Files:
    """The file of one image: 0 and 255, or with the shape ``instances`` 0 and the marks' numbers from 1."""
    numbers = image_mask(image)
    values = numbers if style.shape == "instances" else np.where(numbers > 0, 255, 0).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return {f"masks/{image.stem}.png": file.getvalue()}
