"""Images from disk -> batches (B, 3, H, W) float32, decoded ahead by a few threads. NumPy only.

Pillow lets go of the interpreter while it decodes, so threads are enough, and nothing is copied between processes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from andon.errors import AndonError, DataError, ImageError, SettingsError
from andon.image import Tiles
from andon.types import Sample

Image = NDArray[np.float32] | Tiles  # (3, H, W), or (n, 3, H, W) or Tiles for a photograph in n tiles
Load = Callable[[Path], Image]
OnSkip = Callable[[Sample, AndonError], None]


def batches(
    samples: Iterable[Sample | Path],
    load: Load,
    batch_size: int,
    *,
    workers: int = 2,
    ahead: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    on_skip: OnSkip | None = None,
) -> Iterator[tuple[NDArray[np.float32], list[Sample]]]:
    """Batches (B, 3, H, W) float32 with their samples, in the order given; only the last may be smaller.

    ``load`` gives (3, H, W) float32 for one path, or (n, 3, H, W) for a photograph in n tiles: then a batch holds the
    tiles of ``batch_size`` photographs. :class:`Tiles` are made batch by batch, ``batch_size`` tiles of one photograph in
    each: the batch with the last ones has its sample, those before have none. All images of a batch must have one size.
    A path stands for a sample of the split ``train``. At most ``ahead`` images are decoded ahead (None:
    ``batch_size + workers``); ``workers=0`` decodes in the calling thread. With ``on_error="skip"`` a file that cannot be
    read is left out, and ``on_skip(sample, error)`` is told, in the calling thread.

    Raises :class:`ImageError` naming the file that cannot be read, :class:`DataError` naming two files of different
    sizes, :class:`SettingsError` for options that make no sense. Other exceptions of ``load`` pass through, with
    a note that names the file.
    """
    _check(batch_size, workers, on_error)
    outcomes = _outcomes(_as_samples(samples), load, ahead or batch_size + workers, workers)
    return _batches(_sound(outcomes, on_skip, on_error), batch_size)


def _check(batch_size: int, workers: int, on_error: str) -> None:
    if batch_size < 1:
        raise SettingsError(f"batch_size is the number of images in a batch, at least 1, not {batch_size}.")
    if workers < 0:
        raise SettingsError(f"workers is a number of threads, 0 or more, not {workers}.")
    if on_error not in ("raise", "skip"):
        raise SettingsError(f"on_error is 'raise' or 'skip', not {on_error!r}.")


def _as_samples(samples: Iterable[Sample | Path]) -> Iterator[Sample]:
    for sample in samples:
        yield sample if isinstance(sample, Sample) else Sample(Path(sample), "train")


def _sound(
    outcomes: Iterator[tuple[Sample, Image | AndonError]], on_skip: OnSkip | None, on_error: str
) -> Iterator[tuple[Sample, Image]]:
    """The images that could be read; the others are raised or told of."""
    for sample, outcome in outcomes:
        if not isinstance(outcome, AndonError):
            yield sample, outcome
        elif on_error == "raise":
            raise outcome
        elif on_skip is not None:
            on_skip(sample, outcome)


def _batches(
    found: Iterator[tuple[Sample, Image]], batch_size: int
) -> Iterator[tuple[NDArray[np.float32], list[Sample]]]:
    images: list[NDArray[np.float32]] = []
    chosen: list[Sample] = []
    for sample, image in found:
        if isinstance(image, Tiles):
            if images:
                yield _stack(images, chosen), chosen
                images, chosen = [], []
            yield from _tiled(sample, image, batch_size)
            continue
        images.append(image)
        chosen.append(sample)
        if len(images) == batch_size:
            yield _stack(images, chosen), chosen
            images, chosen = [], []
    if images:
        yield _stack(images, chosen), chosen


def _tiled(
    sample: Sample, tiles: Tiles, batch_size: int
) -> Iterator[tuple[NDArray[np.float32], list[Sample]]]:
    given = 0
    for images in tiles.batches(batch_size):
        given += len(images)
        yield images, [sample] if given == tiles.count else []


def _outcomes(
    samples: Iterator[Sample], load: Load, ahead: int, workers: int
) -> Iterator[tuple[Sample, Image | AndonError]]:
    """Each sample with its image, or with why there is none, in order; never more than ``ahead`` of them waiting."""
    if workers == 0:
        for sample in samples:
            yield sample, _attempt(load, sample.path)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="andon-load")
    waiting: deque[tuple[Sample, Future[Image | AndonError]]] = deque()
    try:
        for sample in itertools.islice(samples, ahead):
            waiting.append((sample, pool.submit(_attempt, load, sample.path)))
        while waiting:
            sample, future = waiting.popleft()
            outcome = future.result()
            for following in itertools.islice(samples, 1):
                waiting.append((following, pool.submit(_attempt, load, following.path)))
            yield sample, outcome
    finally:  # perhaps in the garbage collector, at work in a thread that is just starting: it must not wait for another
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(load: Load, path: Path) -> Image | AndonError:
    """The image, or the error that names its file."""
    try:
        image = load(path)
    except OSError as error:
        return ImageError(f"cannot read {path}: {error.strerror or error}.")
    except (ImageError, DataError) as error:
        return error if str(path) in str(error) else type(error)(f"{path}: {error}")
    except Exception as error:
        error.add_note(f"while reading {path}")
        raise
    if isinstance(image, Tiles):
        return image
    if not isinstance(image, np.ndarray) or image.ndim not in (3, 4) or image.dtype != np.float32:
        raise DataError(
            f"{path}: expected an array (3, H, W) or (n, 3, H, W) float32 from load, came {_shape_of(image)}."
        )
    return image


def _shape_of(image: object) -> str:
    return f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__


def _stack(images: list[NDArray[np.float32]], samples: list[Sample]) -> NDArray[np.float32]:
    for image, sample in zip(images, samples):
        if image.shape[-3:] != images[0].shape[-3:]:
            raise DataError(
                f"all images of a batch must have one size (3, H, W), but {samples[0].path} gave {images[0].shape} "
                f"and {sample.path} gave {image.shape}. Resize them to one size."
            )
    return np.concatenate([image.reshape(-1, *image.shape[-3:]) for image in images])
