"""What the server's tests ask about: a detector of drawn parts, fitted quickly, and photographs of such parts."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import andon
from fakes import FakeBackbone

SIZE = (64, 96)


def photo(seed: int, *, defect: bool = False) -> bytes:
    """A PNG of a striped part with noise, perhaps with a bright spot."""
    rng = np.random.default_rng(seed)
    pixels = 120 + 40 * np.sin(np.arange(SIZE[1]) / 4)[None, :, None] + rng.normal(0, 6, (*SIZE, 3))
    if defect:
        pixels[20:34, 40:54] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def fitted() -> bytes:
    """An artefact fitted on 32 good parts, once a process."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(32):
            Path(folder, f"{number:02}.png").write_bytes(photo(number))
        detector = andon.fit(folder, backbone=FakeBackbone(), size=SIZE, bank_limit=100, buffer_limit=1000)
    return detector.artifact.to_bytes()


def fit_part(folder: Path) -> Path:
    """The artefact ``part.andon`` in ``folder``."""
    path = folder / "part.andon"
    path.write_bytes(fitted())
    return path
