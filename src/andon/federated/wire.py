"""States as bytes: named tensors in numbered chunks, each hashed, and refused where they are not what was asked for.

A parcel is one run of bytes: entry after entry, each begun at a multiple of 16 bytes, cut into chunks of equal size. Its
header, plain JSON, says what lies where. What arrives goes into a file that is mapped, not read, so that the parcels of
many sites wait on disk and not in memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from andon.errors import DataError
from andon.models.base import Detector, State

CHUNK_BYTES = 32 * 2**20
MOST_BYTES = 8 * 2**30  # of one site's parcel
MOST_ENTRIES = 100_000
ALIGNED = 16
DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")

Bytes = NDArray[np.uint8]
Expected = Mapping[
    str, tuple[torch.dtype, tuple[int | None, ...]]
]  # dtype and shape; None: any number of rows


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies in a parcel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  # byte
    size: int  # bytes
    sha256: str

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.start + self.size


@dataclass(frozen=True)
class Parcel:
    """A state about to travel. Its chunks are made one by one, so that it is never there twice."""

    entries: tuple[Entry, ...]
    arrays: tuple[Bytes, ...]
    chunk_bytes: int

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.entries[-1].end if self.entries else 0

    @property
    def count(self) -> int:
        """How many chunks."""
        return math.ceil(self.size / self.chunk_bytes)

    def header(self) -> dict[str, Any]:
        """What the receiver needs to know, as plain values."""
        return {
            "entries": [vars(entry) for entry in self.entries],
            "size": self.size,
            "chunk": self.chunk_bytes,
        }

    def chunks(self) -> Iterator[Bytes]:
        """(n,) uint8 each, in order."""
        for number in range(self.count):
            first = number * self.chunk_bytes
            chunk = np.zeros(min(self.chunk_bytes, self.size - first), np.uint8)
            for entry, array in zip(self.entries, self.arrays, strict=True):
                begin, end = max(entry.start, first), min(entry.end, first + len(chunk))
                if begin < end:
                    chunk[begin - first : end - first] = array[begin - entry.start : end - entry.start]
            yield chunk


def pack(state: State, chunk_bytes: int = CHUNK_BYTES) -> Parcel:
    """``state`` as a parcel, entries by name. Raises :class:`DataError` for a dtype that NumPy does not have.

    >>> parcel = pack({"total": torch.ones(2, 3), "count": torch.tensor(2.0)}, chunk_bytes=16)
    >>> [len(chunk) for chunk in parcel.chunks()], [entry.name for entry in parcel.entries]
    ([16, 16, 8], ['count', 'total'])
    """
    entries, arrays, at = [], [], 0
    for name in sorted(state):
        array = _array(name, state[name])
        flat = array.reshape(-1).view(np.uint8)
        entries.append(Entry(name, str(array.dtype), array.shape, at, flat.size, _hash(flat)))
        arrays.append(flat)
        at = -(-(at + flat.size) // ALIGNED) * ALIGNED
    return Parcel(tuple(entries), tuple(arrays), chunk_bytes)


class Inbox:
    """Takes the chunks of one parcel from ``site``, in any order, and gives the state back.

    ``file``: where the bytes are kept, mapped; None: in memory. Raises :class:`DataError` for a header that makes no
    sense, for chunks that are missing or of another length, and for bytes that are not those of their hash.
    """

    def __init__(self, header: Mapping[str, Any], site: str, file: Path | None = None) -> None:
        self.site = site
        self.entries, self.size, self.chunk = _read_header(header, site)
        self._missing = set(range(math.ceil(self.size / self.chunk)))
        if file is None or not self.size:
            self._bytes: Bytes = np.zeros(self.size, np.uint8)
        else:
            self._bytes = np.memmap(file, np.uint8, "w+", shape=(self.size,))

    def add(self, number: int, chunk: Bytes) -> None:
        """Take chunk ``number``, counted from 0."""
        first = number * self.chunk
        length = min(self.chunk, self.size - first)
        if number not in self._missing or chunk.shape != (length,):
            raise DataError(
                f"{self.site}: chunk {number} of {self.size} bytes came twice, or as {len(chunk)} bytes where {length} were "
                "announced. Ask the site again."
            )
        self._bytes[first : first + length] = chunk
        self._missing.discard(number)

    def state(self) -> State:
        """The tensors, on the bytes that were taken."""
        if self._missing:
            raise DataError(
                f"{self.site}: {len(self._missing)} chunks of the parcel are missing. Ask the site again."
            )
        return {entry.name: self._tensor(entry) for entry in self.entries}

    def _tensor(self, entry: Entry) -> Tensor:
        raw = self._bytes[entry.start : entry.end]
        if _hash(raw) != entry.sha256:
            raise DataError(
                f"{self.site}: {entry.name!r} was damaged on its way (its hash differs). Ask the site again."
            )
        return torch.from_numpy(np.asarray(raw).view(entry.dtype).reshape(entry.shape))


def carry(state: State, site: str, file: Path | None = None) -> tuple[State, int]:
    """``state`` as it arrives after travelling, and how many bytes that took."""
    parcel = pack(state)
    inbox = Inbox(parcel.header(), site, file)
    for number, chunk in enumerate(parcel.chunks()):
        inbox.add(number, chunk)
    return inbox.state(), parcel.size


# --- what a state must look like ----------------------------------------------------------------------------------------


@torch.no_grad()
def expected_of(detector: Detector, size: tuple[int, int]) -> Expected:
    """What any site's statistics of ``detector`` look like, for images of ``size`` (H, W). The detector is reset.

    Found by observing one blank image: rows that double when its statistics are merged with themselves may be of any
    number.
    """
    detector.reset()
    detector.observe(torch.zeros(1, 3, *size))
    one = detector.statistics()
    two = type(detector).merge([one, one], [1, 1])
    detector.reset()
    return {
        name: (
            two[name].dtype,
            tuple(a if a == b else None for a, b in zip(one[name].shape, two[name].shape, strict=True)),
        )
        for name in two
    }


def require_like(state: State, expected: Expected, site: str) -> None:
    """Raise :class:`DataError`, naming ``site``, unless ``state`` has these entries, dtypes and shapes, all finite."""
    if set(state) != set(expected):
        differing = ", ".join(sorted(set(state) ^ set(expected))[:6])
        raise DataError(
            f"{site}: the state has other entries than this method's ({differing}). Is the same version of Andon there?"
        )
    for name, (dtype, shape) in expected.items():
        tensor = state[name]
        if tensor.dtype != dtype or not _fits(tensor.shape, shape):
            raise DataError(
                f"{site}: {name!r} must be {_written(dtype, shape)}, got {_written(tensor.dtype, tensor.shape)}. Are the "
                "method's settings and the image size the same there?"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{site}: {name!r} holds values that are not finite (NaN or infinity).")


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _written(dtype: torch.dtype, shape: Sequence[int | None]) -> str:
    sides = " x ".join("any" if side is None else str(side) for side in shape)
    return f"{str(dtype).removeprefix('torch.')} of {sides or 'one number'}"


# --- bytes ----------------------------------------------------------------------------------------------------------------


def _array(name: str, tensor: Tensor) -> NDArray[Any]:
    if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
        raise DataError(
            f"{name!r} is {tensor.dtype}, which cannot be sent; expected one of {', '.join(DTYPES)}"
        )
    return tensor.detach().cpu().contiguous().numpy()


def _hash(raw: Bytes) -> str:
    return hashlib.sha256(np.ascontiguousarray(raw).data).hexdigest()


def _read_header(header: Mapping[str, Any], site: str) -> tuple[tuple[Entry, ...], int, int]:
    """Entries, bytes in all, and bytes in a chunk; what a site says is believed only where it adds up."""
    try:
        size, chunk = int(header["size"]), int(header["chunk"])
        listed = list(header["entries"])[: MOST_ENTRIES + 1]
        entries = tuple(
            Entry(**{**one, "shape": tuple(int(side) for side in one["shape"])}) for one in listed
        )
        sound = (
            0 <= size <= MOST_BYTES
            and chunk > 0
            and len(entries) <= MOST_ENTRIES
            and all(map(_sound, entries))
        )
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound or any(entry.end > size for entry in entries):
        raise DataError(f"{site}: the parcel's header makes no sense. Is the same version of Andon there?")
    return entries, size, chunk


def _sound(entry: Entry) -> bool:
    return (
        entry.dtype in DTYPES
        and entry.start >= 0
        and entry.start % ALIGNED == 0
        and all(side >= 0 for side in entry.shape)
        and entry.size == math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    )
