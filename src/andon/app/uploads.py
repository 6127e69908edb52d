"""What a browser sent, taken as far as the limits allow: the rest is refused file by file, and the others go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from andon.app.settings import UploadLimits
from andon.errors import ImageError
from andon.image import photo_size
from andon.runtime.words import Words, decimal
from andon.types import Failure

ENDINGS = ("png", "jpg", "jpeg", "tif", "tiff", "bmp")


class Sent(Protocol):
    """A file as Streamlit hands it over."""

    name: str
    size: int

    def getvalue(self) -> bytes:
        """Its bytes."""


@dataclass(frozen=True)
class Upload:
    """One image file as it came."""

    name: str
    data: bytes


def accepted(sent: Iterable[Sent], limits: UploadLimits, words: Words) -> tuple[list[Upload], list[Failure]]:
    """The files that may be inspected, and why each of the others may not. Only headers are decoded."""
    taken: list[Upload] = []
    refused: list[Failure] = []
    for at, file in enumerate(sent):
        reason = _too_much(file, at, limits, words)
        data = b"" if reason else file.getvalue()
        reason = reason or _unreadable(data, limits, words)
        if reason:
            refused.append(Failure(file.name, reason))
        else:
            taken.append(Upload(file.name, data))
    return taken, refused


def _too_much(file: Sent, at: int, limits: UploadLimits, words: Words) -> str:
    """Why ``file``, the one number ``at`` of those sent together, is not even read; "" where it is."""
    if at >= limits.images:
        return words["upload.too_many"].format(most=limits.images)
    if file.size > limits.image_bytes:
        most, found = (decimal(words, f"{size / 2**20:.3g}") for size in (limits.image_bytes, file.size))
        return words["upload.too_large"].format(most=most, found=found)
    return ""


def _unreadable(data: bytes, limits: UploadLimits, words: Words) -> str:
    """Why the image in ``data`` is not decoded; "" where it is."""
    try:
        rows, columns = photo_size(data)
    except ImageError as error:
        return str(error)
    if rows * columns > limits.pixels:
        most, found = (decimal(words, f"{count / 1e6:.3g}") for count in (limits.pixels, rows * columns))
        return words["upload.too_many_pixels"].format(most=most, found=found)
    return ""


def counted_refusals(refused: Sequence[Failure], shown: int = 5) -> tuple[Sequence[Failure], int]:
    """The first refusals to show, and how many more there are."""
    return refused[:shown], max(0, len(refused) - shown)
