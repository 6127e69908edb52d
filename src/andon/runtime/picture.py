"""Photographs with their heatmaps, for the report, the command line and the app."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.files import atomic_write
from andon.heatmap import colour_range, draw_regions, overlay
from andon.image import Source, decode
from andon.runtime.predictor import Predictor
from andon.types import Calibration, Verdict

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


def overlay_of(predictor: Predictor, path: Source, verdict: Verdict | None = None) -> tuple[Picture, Picture]:
    """The photograph at ``path`` (or its bytes, or pixels) and the photograph under its heatmap, both (H, W, 3) uint8.

    The colour scale depends on the artefact alone, so that pictures can be compared.
    """
    if verdict is None or verdict.anomaly_map is None:
        verdict = predictor.inspect(path)
    pixels = decode(path, white_level=predictor.preprocessing.white_level).pixels
    if verdict.anomaly_map is None:  # inspect() always keeps it
        return pixels, pixels
    low, high = _range(predictor.calibration)
    return pixels, draw_regions(overlay(pixels, verdict.anomaly_map, low, high), verdict.regions)


def _range(calibration: Calibration) -> tuple[float, float]:
    """The raw values at which the heatmap begins to show and is at its brightest."""
    return colour_range(calibration) if np.isfinite(calibration.map_threshold) else (0.0, 1.0)


def save_overlay(predictor: Predictor, path: str | Path, verdict: Verdict, target: Path) -> None:
    """Write the overlay of ``verdict`` on the photograph at ``path`` to ``target``, as PNG, atomically."""
    with atomic_write(target) as file:
        Image.fromarray(overlay_of(predictor, path, verdict)[1]).save(file, "PNG")
