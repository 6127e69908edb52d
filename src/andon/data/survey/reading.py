"""One pass over the photographs of a data set: what is kept of each, a few of them in memory at a time.

The descriptor of a photograph comes from an :class:`Embedder`. The one here needs nothing but Pillow and NumPy, a
picture of 16 x 16 pixels; :mod:`andon.pipeline.surveying` has one by the backbone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from andon.data.check import reason_of, relative_path
from andon.data.masks import anomaly_mask
from andon.data.survey.looks import THUMB, Look, header, look
from andon.errors import AndonError, ImageError, SettingsError
from andon.image import Photo, decode
from andon.types import Sample

Progress = Callable[[int, int], None]  # photographs done, photographs in all
BATCH = 16  # photographs that an embedder is given together
_AHEAD = 4  # photographs read beyond the batch


@dataclass(frozen=True)
class Embedder:
    """What turns photographs into descriptors.

    prepare: (H, W, 3) uint8 RGB -> an array, the same shape for all; called in threads. embed: a stack of these
    (B, ...) -> (B, D) float32. title: what it is, in words. fallback: why it is not the backbone; "" when it is.
    """

    prepare: Callable[[NDArray[np.uint8]], NDArray]
    embed: Callable[[NDArray], NDArray[np.float32]]
    title: str
    fallback: str = ""


@dataclass(frozen=True)
class Seen:
    """One photograph that could be read. Its path is relative to the root, with forward slashes."""

    path: str
    category: str
    split: str
    defect_type: str
    is_anomalous: bool
    size: tuple[int, int]  # (H, W), upright
    mode: str
    bits: int
    format: str
    rotated: bool  # by EXIF
    notes: tuple[str, ...]  # what decoding changed
    taken: str  # EXIF time, ISO 8601; "" without
    brightness: float  # mean luma, 0 to 255
    sharpness: float  # variance of the Laplacian of the luma; nan below 3 x 3 pixels
    red_green: float
    blue_yellow: float
    defect_share: float | None  # share of the photograph that its masks mark, 0 to 1; None without
    mask_error: str
    file_digest: str
    pixel_digest: str


@dataclass(frozen=True, eq=False)
class Gathered:
    """What was kept: for the n photographs in ``seen`` thumbs (n, 32, 32) and descriptors (n, D); and who failed."""

    seen: list[Seen]
    thumbs: NDArray[np.float16]
    descriptors: NDArray[np.float32]
    unreadable: dict[str, str]  # path -> reason


def small_pictures(fallback: str = "") -> Embedder:
    """The embedder that needs no network: the photograph reduced to 16 x 16 pixels of 3 colours, D = 768."""

    def prepare(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX))

    def embed(batch: NDArray) -> NDArray[np.float32]:
        return np.asarray(batch.reshape(len(batch), -1), np.float32)

    return Embedder(prepare, embed, "the photograph reduced to 16 × 16 pixels", fallback)


def sampled(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` of the samples, in their order: of each category, split and defect type its share.

    At least one of each, while there is room. Raises :class:`SettingsError` for a ``limit`` below 1.
    """
    if limit is not None and limit < 1:
        raise SettingsError(f"limit is a number of images to look at, at least 1, not {limit}")
    if limit is None or len(samples) <= limit:
        return list(samples)
    kinds: dict[tuple[str, str, str], list[int]] = {}
    for index, sample in enumerate(samples):
        kinds.setdefault((sample.category, sample.split, sample.defect_type), []).append(index)
    rng = np.random.default_rng(seed)
    places = []  # the k-th drawn of n stands at (k + 1/2) / n, the first of each kind before all others
    for kind, members in enumerate(kinds.values()):
        for k, index in enumerate(rng.permutation(members)):
            places.append(((k + 0.5) / len(members) if k else 0.0, kind, int(index)))
    return [samples[index] for index in sorted(index for _, _, index in sorted(places)[:limit])]


def gather(
    folder: Path,
    samples: Sequence[Sample],
    embedder: Embedder,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Gathered:
    """What is kept of each of the ``samples``; decoded by ``workers`` threads, embedded in the calling one."""
    seen: list[Seen] = []
    thumbs = np.empty((len(samples), THUMB, THUMB), np.float16)
    unreadable: dict[str, str] = {}
    descriptors: list[NDArray[np.float32]] = []
    waiting: list[NDArray] = []
    for done, (sample, one) in enumerate(_ahead(samples, folder, embedder, workers), 1):
        if isinstance(one, str):
            unreadable[relative_path(sample.path, folder)] = one
        else:
            thumbs[len(seen)] = one.thumb
            seen.append(one.seen)
            waiting.append(one.prepared)
        if waiting and (len(waiting) == BATCH or done == len(samples)):
            descriptors.append(embedder.embed(np.stack(waiting)))
            waiting.clear()
        if progress is not None:
            progress(done, len(samples))
    stacked = np.concatenate(descriptors) if descriptors else np.empty((0, 1), np.float32)
    return Gathered(seen, thumbs[: len(seen)], stacked, unreadable)


@dataclass(frozen=True, eq=False)
class _One:
    seen: Seen
    thumb: NDArray[np.float16]
    prepared: NDArray


def _ahead(
    samples: Sequence[Sample], folder: Path, embedder: Embedder, workers: int
) -> Iterator[tuple[Sample, _One | str]]:
    """Each sample with what is kept of it, or why it cannot be read, in order; decoded no more than a batch ahead."""
    rest = iter(samples)
    waiting: deque[tuple[Sample, Future[_One | str]]] = deque()
    pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="andon-survey")
    try:
        for sample in itertools.islice(rest, BATCH + _AHEAD):
            waiting.append((sample, pool.submit(_look_at, sample, folder, embedder)))
        while waiting:
            sample, future = waiting.popleft()
            yield sample, future.result()
            for following in itertools.islice(rest, 1):
                waiting.append((following, pool.submit(_look_at, following, folder, embedder)))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _look_at(sample: Sample, folder: Path, embedder: Embedder) -> _One | str:
    try:
        data = sample.path.read_bytes()
        photo = decode(data)
        numbers = look(photo.pixels)
        return _One(
            _seen(sample, folder, data, photo, numbers), numbers.thumb, embedder.prepare(photo.pixels)
        )
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return reason_of(error)


def _seen(sample: Sample, folder: Path, data: bytes, photo: Photo, numbers: Look) -> Seen:
    head = header(data)
    size = (photo.pixels.shape[0], photo.pixels.shape[1])
    share, wrong = _defect_share(sample, size)
    return Seen(
        path=relative_path(sample.path, folder),
        category=sample.category,
        split=sample.split,
        defect_type=sample.defect_type,
        is_anomalous=sample.is_anomalous,
        size=size,
        mode=photo.mode,
        bits=photo.bits,
        format=head.format,
        rotated=head.rotated,
        notes=photo.notes,
        taken=head.taken,
        brightness=numbers.brightness,
        sharpness=numbers.sharpness,
        red_green=numbers.red_green,
        blue_yellow=numbers.blue_yellow,
        defect_share=share,
        mask_error=wrong,
        file_digest=hashlib.blake2b(data, digest_size=16).hexdigest(),
        pixel_digest=numbers.digest,
    )


def _defect_share(sample: Sample, size: tuple[int, int]) -> tuple[float | None, str]:
    """The share of the photograph that its masks mark, and what is wrong with them."""
    if not sample.masks:
        return None, ""
    try:
        return float(anomaly_mask(sample, size).mean()), ""
    except AndonError as error:
        return None, str(error)
