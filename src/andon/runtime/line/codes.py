"""What is written in the printed codes of a photograph. Needs ZXing-C++, the extra ``nuisance``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.nuisance.codes import FORMATS, reader


def require_reader() -> None:
    """Raise :class:`MissingExtraError` where codes cannot be read."""
    reader()


def read_codes(pixels: NDArray[np.uint8]) -> tuple[str, ...]:
    """The texts of all QR, Data Matrix, Aztec and bar codes in a photograph (H, W, 3) uint8, each once.

    A code that its own check does not confirm is none.

    >>> read_codes(np.full((64, 64, 3), 128, np.uint8))
    ()
    """
    zxing = reader()
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    formats = [getattr(zxing.BarcodeFormat, name) for names in FORMATS.values() for name in names]
    return tuple(dict.fromkeys(read.text for read in zxing.read_barcodes(grey, formats=formats) if read.text))
