"""Batches: order, sizes, bounded reading ahead, and errors that name their file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from andon.data.loader import batches
from andon.errors import AndonError, DataError, ImageError, SettingsError
from andon.types import Sample


def number(path: Path) -> int:
    return int(path.stem)


def load(path: Path) -> NDArray[np.float32]:
    time.sleep(0.002 * (number(path) % 3))  # later ones may finish first
    return np.full((3, 2, 4), number(path), np.float32)


def paths(count: int) -> list[Path]:
    return [Path(f"{i}.png") for i in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_order_and_sizes(workers: int) -> None:
    found = list(batches(paths(10), load, 4, workers=workers))
    assert [images.shape for images, _ in found] == [(4, 3, 2, 4), (4, 3, 2, 4), (2, 3, 2, 4)]
    assert [int(image[0, 0, 0]) for images, _ in found for image in images] == list(range(10))
    assert [number(sample.path) for _, samples in found for sample in samples] == list(range(10))
    assert all(images.dtype == np.float32 and images.flags.c_contiguous for images, _ in found)


def test_samples_come_back_as_they_are() -> None:
    samples = [Sample(path, "test", True, "clip") for path in paths(3)]
    ((_, found),) = batches(samples, load, 8)
    assert found == samples
    ((_, found),) = batches(paths(1), load, 8)
    assert found == [Sample(Path("0.png"), "train")]


def test_tiles_of_one_photograph_stay_together() -> None:
    def tiles(path: Path) -> NDArray[np.float32]:
        return np.full((number(path) + 1, 3, 2, 4), number(path), np.float32)

    found = list(batches(paths(3), tiles, 2))
    assert [images[:, 0, 0, 0].tolist() for images, _ in found] == [[0, 1, 1], [2, 2, 2]]
    assert [len(samples) for _, samples in found] == [2, 1]


def test_nothing_gives_nothing() -> None:
    assert list(batches([], load, 4)) == []


def test_never_far_ahead() -> None:
    started: list[int] = []

    def watched(path: Path) -> NDArray[np.float32]:
        started.append(number(path))
        return load(path)

    reader = batches(iter(paths(100)), watched, 4, workers=2)
    for consumed in range(1, 6):
        next(reader)
        time.sleep(0.05)
        assert len(started) <= consumed * 4 + 4 + 2


def test_closing_early_ends_the_threads() -> None:
    reader = batches(paths(1000), load, 2, workers=3)
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("andon-load"):
            thread.join(10)
            assert not thread.is_alive()


def test_closing_waits_for_no_image() -> None:
    """The garbage collector may close a reader in a thread that is just starting: to wait there would be for ever."""
    held = threading.Event()

    def slow(path: Path) -> NDArray[np.float32]:
        if path.stem != "0":
            held.wait(30)
        return load(path)

    reader = batches(paths(20), slow, 1, workers=2)
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    reading = [thread for thread in threading.enumerate() if thread.name.startswith("andon-load")]
    held.set()
    assert reading


def failing(path: Path) -> NDArray[np.float32]:
    if number(path) in (2, 5):
        raise ImageError("it is truncated")
    if number(path) == 7:
        raise OSError(5, "Input/output error")
    return load(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_raise_names_the_file(workers: int) -> None:
    with pytest.raises(ImageError, match=r"^2.png: it is truncated$"):
        list(batches(paths(10), failing, 4, workers=workers))
    with pytest.raises(ImageError, match=r"^cannot read 7.png: Input/output error\.$"):
        list(batches(paths(10)[6:], failing, 4, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_fills_the_batch_and_tells(workers: int) -> None:
    told: list[tuple[int, str]] = []

    def on_skip(sample: Sample, error: AndonError) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append((number(sample.path), str(error)))

    found = list(batches(paths(10), failing, 4, workers=workers, on_error="skip", on_skip=on_skip))
    assert [len(samples) for _, samples in found] == [4, 3]
    assert [number(sample.path) for _, samples in found for sample in samples] == [0, 1, 3, 4, 6, 8, 9]
    assert [name for name, _ in told] == [2, 5, 7]
    assert len(list(batches(paths(10), failing, 4, on_error="skip"))) == 2


def test_bugs_are_not_skipped() -> None:
    def broken(path: Path) -> NDArray[np.float32]:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug") as caught:
        list(batches(paths(3), broken, 2, on_error="skip"))
    assert caught.value.__notes__ == ["while reading 0.png"]


def test_other_sizes_are_named() -> None:
    def growing(path: Path) -> NDArray[np.float32]:
        return np.zeros((3, 2, 4 + number(path)), np.float32)

    with pytest.raises(DataError, match=r"0.png gave \(3, 2, 4\) and 1.png gave \(3, 2, 5\)"):
        list(batches(paths(3), growing, 2))


def test_other_types_are_named() -> None:
    with pytest.raises(
        DataError,
        match=r"0.png: expected an array \(3, H, W\) or \(n, 3, H, W\) float32 from load, came \(3, 2, 2\) float64",
    ):
        list(batches(paths(3), lambda path: np.zeros((3, 2, 2)), 2))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"batch_size": 0}, "batch_size"), ({"workers": -1}, "workers"), ({"on_error": "ignore"}, "on_error")],
)
def test_settings_are_checked_at_once(settings: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        batches(paths(3), load, **({"batch_size": 2} | settings))  # type: ignore[arg-type]


def test_same_batches_every_time() -> None:
    first, again = (list(batches(paths(9), load, 4, workers=workers)) for workers in (0, 3))
    assert all((a[0] == b[0]).all() and a[1] == b[1] for a, b in zip(first, again, strict=True))
