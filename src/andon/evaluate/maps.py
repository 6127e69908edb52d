"""Anomaly maps that any other tool wrote, as a ``score`` for :func:`andon.evaluate.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.errors import DataError, SettingsError
from andon.types import Sample

MAP_SUFFIXES = (".tiff", ".tif", ".npy", ".png")
_GREY_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N", "L", "1")


def score_maps(
    samples: Sequence[Sample],
    maps_dir: str | Path,
    *,
    top_pixels: int = 1,
    resize_to: tuple[int, int] | None = None,
) -> Callable[[Sample], tuple[float, NDArray[Any]]]:
    """A ``score`` that reads ``<maps_dir>/[category/][test/]<defect_type>/<name of the image>.<suffix>``.

    Suffixes: ``.tiff``, ``.tif`` (float32), ``.npy``, ``.png`` (16 bit; 8 bit works, and ties). The image score is
    the mean of the ``top_pixels`` highest pixels; 1 takes the maximum. ``resize_to`` (H, W) first resizes the map
    in its own number format, bicubic, as the code of the AutoVI study does.

    Every file is looked for at once: raises :class:`DataError` when a map is missing or there are two for one
    image, and later for a file that is no map.
    """
    if top_pixels < 1:
        raise SettingsError(f"top_pixels must be at least 1, not {top_pixels}")
    root = Path(maps_dir)
    if not root.is_dir():
        raise DataError(f"there is no folder of anomaly maps at {root}")
    found = {sample: _candidates(sample, root) for sample in dict.fromkeys(samples)}
    _require_all(found, root)

    def score(sample: Sample) -> tuple[float, NDArray[Any]]:
        files = found.get(sample) or _candidates(sample, root)
        _require_all({sample: files}, root)
        anomaly_map = read_map(files[0], resize_to=resize_to)
        return _image_score(anomaly_map, top_pixels), anomaly_map

    return score


def read_map(path: str | Path, *, resize_to: tuple[int, int] | None = None) -> NDArray[Any]:
    """The anomaly map (H, W) in a file, in the numbers that it holds. Raises :class:`DataError`.

    ``resize_to`` (H, W): resized bicubic in its own number format, so that an 8-bit map stays one of integers.
    """
    path = Path(path)
    try:
        array = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _pixels(path)
        array = _two_dimensional(array, path)
        if resize_to is None or array.shape == tuple(resize_to):
            return array
        resized = Image.fromarray(array).resize((resize_to[1], resize_to[0]), Image.Resampling.BICUBIC)
        return np.asarray(resized)
    except (OSError, ValueError, SyntaxError, TypeError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an anomaly map: {error}") from error


def _two_dimensional(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """(1, H, W), (1, 1, H, W) and (H, W, 1) as (H, W); floats as float32."""
    whole = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 and array.shape[0] != 1 else array
    while whole.ndim > 2 and whole.shape[0] == 1:
        whole = whole[0]
    if whole.ndim != 2 or whole.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {array.shape} {array.dtype}; an anomaly map is (H, W), real numbers")
    return whole.astype(np.float32, copy=False) if whole.dtype.kind == "f" else whole


def _pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        if image.mode not in _GREY_MODES:
            raise DataError(
                f"{path} is a picture of mode {image.mode}; an anomaly map has one channel "
                "(float32 .tiff, .npy, or 16-bit .png). A coloured heatmap cannot be turned back into scores."
            )
        return np.asarray(image)


def _candidates(sample: Sample, root: Path) -> list[Path]:
    """Every file under ``root`` that may be the map of ``sample``."""
    parents = [root / sample.category, root] if sample.category else [root]
    kinds = dict.fromkeys((sample.defect_type, sample.path.parent.name))
    for parent in parents:
        for folder in (parent / test / kind for test in ("", "test") for kind in kinds):
            names = (sample.path.stem + suffix for suffix in MAP_SUFFIXES)
            if files := [folder / name for name in names if (folder / name).is_file()]:
                return files
    return []


def _require_all(found: dict[Sample, list[Path]], root: Path) -> None:
    missing = [sample for sample, files in found.items() if not files]
    if missing:
        first = missing[0]
        category = f"[{first.category}/]" if first.category else ""
        wanted = root / f"{category}[test/]{first.defect_type}/{first.path.stem}.tiff"
        raise DataError(
            f"{len(missing)} of {len(found)} images have no anomaly map in {root}; the first is {first.path}. "
            f"Expected {wanted} (or .tif, .npy, .png)"
        )
    for sample, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            raise DataError(
                f"there are two anomaly maps for {sample.path}: {names} in {files[0].parent}. Keep one"
            )


def _image_score(anomaly_map: NDArray[Any], top_pixels: int) -> float:
    flat = anomaly_map.reshape(-1).astype(np.float64)
    count = min(top_pixels, len(flat))
    return float(np.partition(flat, len(flat) - count)[-count:].mean())
