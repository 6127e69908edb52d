"""The report on a data set, as one HTML file and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from andon.data.survey import Embedder, Survey, small_pictures, survey
from andon.errors import MissingExtraError
from andon.files import atomic_write
from andon.image import Preprocessing, decode
from andon.report import check_report_extra, findings, write_survey_report

SIZE = (256, 256)  # rows and columns that the backbone sees


def report_on_data(
    root: str | os.PathLike[str],
    output: Path,
    *,
    json_path: Path | None = None,
    layout: str = "auto",
    category: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 2,
    title: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Survey:
    """The survey of the data set at ``root``, after the report on it is written to ``output``, and JSON to ``json_path``.

    The descriptor is andon-s where PyTorch is installed, else a small picture; the report says which. For ``limit``
    and ``seed`` see :func:`andon.data.survey.survey`.

    Raises :class:`MissingExtraError` without matplotlib or jinja2, before the work; :class:`DataError` for no such folder
    or no image in it.
    """
    check_report_extra()
    tell = (lambda done, total: progress("survey", done, total)) if progress else None
    found = survey(
        root, layout, category, embedder=embedder(), limit=limit, seed=seed, workers=workers, progress=tell
    )
    folder = Path(found.root)
    write_survey_report(output, found, title=title, picture=lambda path: decode(folder / path).pixels)
    if json_path is not None:
        with atomic_write(json_path, "w") as file:
            said = [{"about": f.about, "level": f.level, "text": f.text} for f in findings(found)]
            json.dump({"findings": said, **found.to_dict()}, file, indent=1, allow_nan=False)
    return found


def embedder() -> Embedder:
    """What describes a photograph: pooled features of andon-s, or a small picture where PyTorch is not installed."""
    try:
        return _backbone()
    except (ModuleNotFoundError, MissingExtraError) as error:
        return small_pictures(f'{error}. The features of the backbone need PyTorch: pip install "andon[fit]"')


def _backbone() -> Embedder:
    """Mean and deviation over the photograph of each channel of andon-s, D = 320."""
    import torch

    from andon.features.backbones import load_backbone
    from andon.features.patches import pooled

    net = load_backbone("andon-s")
    shape = Preprocessing(size=SIZE)

    def prepare(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return shape.apply(pixels).images[0]

    def embed(batch: NDArray) -> NDArray[np.float32]:
        with torch.inference_mode():
            return cast(NDArray[np.float32], pooled(net(torch.from_numpy(batch))).numpy())

    title = f"the features of andon-s at {SIZE[0]} × {SIZE[1]} pixels, their mean and deviation over the photograph"
    return Embedder(prepare, embed, title)
