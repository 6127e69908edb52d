"""Photographs as factories have them: decoded, prepared for the network, and its maps brought back.

``decode`` reads any usual file, array or Pillow image; ``Preprocessing`` is the only way from its pixels to
what a network sees, for fitting and for the line alike.
"""

from andon.image.photo import IMAGE_SUFFIXES, MAX_PIXELS, Photo, Source, decode, photo_size, prepare
from andon.image.prepared import Prepared
from andon.image.preprocess import RESIZES, Preprocessing
from andon.image.resample import Size, resize_map
from andon.image.tiles import Tiles

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "RESIZES",
    "Photo",
    "Prepared",
    "Preprocessing",
    "Size",
    "Source",
    "Tiles",
    "decode",
    "photo_size",
    "prepare",
    "resize_map",
]
