"""The images below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from andon.data.layouts.tree import images_under, no_images, require_folder


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files below ``folder`` at any depth, sorted; hidden and temporary files left out.

    Raises :class:`DataError` when there is no such folder or no image in it.
    """
    root = require_folder(folder)
    found = images_under(root)
    if not found:
        raise no_images(root)
    return found
