"""OpenCV, imported where it is used: the extra ``nuisance``."""

from __future__ import annotations

from typing import Any

from andon.errors import MissingExtraError


def opencv(purpose: str) -> Any:
    """The module ``cv2``. Raises :class:`MissingExtraError`, which says that ``purpose`` needs it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtraError("opencv-python-headless", extra="nuisance", purpose=purpose) from error
    return cv2
