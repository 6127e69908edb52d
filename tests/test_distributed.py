"""The pass over the images on a cluster: whatever its workers do, the same shards give the same statistics."""

from __future__ import annotations

import copy
import itertools
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from andon import distributed
from andon.distributed import RayObserver, cut, shelf_of, tree
from andon.engine import Checkpoint, FitReport, Reader, fit
from andon.errors import AndonError, DataError, ImageError, SettingsError
from andon.models.base import Detector, State
from andon.models.padim import PaDiM
from andon.models.patchcore import PatchCore
from fakes import FakeBackbone, good_parts

PARTS = good_parts(26, (32, 48), seed=1)
PATHS = [Path(f"{number}.png") for number in range(len(PARTS))]


class FakeRay:
    """Ray's few verbs in this process: tasks end in a drawn order, and each gets copies of what it is given."""

    exceptions = SimpleNamespace(RayError=RuntimeError, RayTaskError=type("TaskError", (RuntimeError,), {}))

    def __init__(self, seed: int = 0, cpus: int = 2, stop_after: int | None = None) -> None:
        self.draw, self.cpus, self.stop_after = random.Random(seed), cpus, stop_after
        self.log: list[str] = []

    def put(self, value: Any) -> Any:
        return SimpleNamespace(answer=lambda: value)

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=lambda *given: _Future(self, function, given))

    def wait(self, futures: Sequence[_Future], num_returns: int) -> tuple[list[_Future], list[_Future]]:
        if self.stop_after is not None and len(self.log) >= self.stop_after:
            raise KeyboardInterrupt
        chosen = self.draw.choice(list(futures))
        return [chosen], [future for future in futures if future is not chosen]

    def get(self, future: Any) -> Any:
        return copy.deepcopy(future.answer())

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}


class _Future:
    def __init__(self, ray: FakeRay, function: Callable[..., Any], given: Sequence[Any]) -> None:
        self.ray, self.function, self.given = ray, function, given
        self.kept: Any = None

    def answer(self) -> Any:
        if self.kept is None:
            given = [self.ray.get(one) if hasattr(one, "answer") else one for one in self.given]
            try:
                self.kept = self.function(*given)
            except Exception as error:
                wrapped = self.ray.exceptions.RayTaskError(str(error))
                wrapped.cause = error
                raise wrapped from error
            self.ray.log.append(self.function.__name__)
        return self.kept


def load(path: Path) -> NDArray[np.float32]:
    return PARTS[int(path.stem)].numpy()


def detector(**settings: Any) -> PatchCore:
    return PatchCore(FakeBackbone(), **{"bank_limit": 50, **settings})


@pytest.fixture
def on_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Detector, FitReport]]:
    """Fits on a fake cluster."""
    monkeypatch.setattr(distributed, "_one_thread", lambda: None)

    def fitted(
        chosen: Detector, ray: FakeRay, shards: int | None = 5, load: Any = load, **more: Any
    ) -> tuple[Detector, FitReport]:
        monkeypatch.setattr(distributed, "cluster", lambda address: _opened(ray))
        report = fit(chosen, PATHS, Reader(load, 2, 0), observe=RayObserver("fake", shards), **more)
        return chosen, report

    return fitted


class _opened:
    def __init__(self, ray: FakeRay) -> None:
        self.ray = ray

    def __enter__(self) -> FakeRay:
        return self.ray

    def __exit__(self, *error: object) -> None:
        pass


def alone(chosen: Detector, load: Any = load) -> tuple[Detector, FitReport]:
    return chosen, fit(chosen, PATHS, Reader(load, 2, 0))


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- shards and their tree ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shards", "batch"), [(1, None, 8), (26, 5, 4), (100_000, None, 8), (9, 50, 4)]
)
def test_shards_are_whole_batches_and_cover_the_images(count: int, shards: int | None, batch: int) -> None:
    slices = cut(count, shards, batch)
    assert slices[0].start == 0
    assert slices[-1].stop == count
    assert all(a.stop == b.start for a, b in itertools.pairwise(slices))
    assert all(part.start % batch == 0 and part.stop > part.start for part in slices)
    assert len(slices) <= min(shards or 64, -(-count // batch))


@pytest.mark.parametrize("shards", [1, 2, 7, 64])
def test_the_tree_merges_neighbours_until_there_is_one(shards: int) -> None:
    merges = tree(shards)
    assert len(merges) == shards - 1
    for (first, last), (left, right) in merges.items():
        assert (first, last) == (left[0], right[1])
        assert left[1] == right[0]
    if shards > 1:
        assert list(merges)[-1] == (0, shards)


# --- the result -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [20_000, 600])
def test_the_same_shards_give_the_same_detector_whatever_the_workers_do(limit: int, on_fake: Any) -> None:
    """600: so few patches that shards, and what they are merged to, are thinned out."""
    states = [
        on_fake(detector(buffer_limit=limit), FakeRay(seed, cpus))[0].fitted_state()
        for seed, cpus in [(0, 1), (1, 2), (2, 3), (3, 16)]
    ]
    assert all(same(states[0], state) for state in states[1:])


def test_what_fits_the_buffer_is_as_in_one_process_to_the_bit(on_fake: Any) -> None:
    found, report = on_fake(detector(), FakeRay())
    assert same(found.fitted_state(), alone(detector())[0].fitted_state())
    assert report.images == len(PATHS)


def test_moments_are_as_in_one_process(on_fake: Any) -> None:
    found = on_fake(PaDiM(FakeBackbone(), dimensions=10), FakeRay())[0].fitted_state()
    for name, tensor in alone(PaDiM(FakeBackbone(), dimensions=10))[0].fitted_state().items():
        torch.testing.assert_close(found[name], tensor)


def test_progress_counts_images_up_to_all(on_fake: Any) -> None:
    told: list[tuple[int, int]] = []
    say = lambda phase, done, total: told.append((done, total)) if phase == "observe" else None  # noqa: E731
    on_fake(detector(), FakeRay(), progress=say)
    assert told == sorted(told)
    assert told[-1] == (26, 26)
    assert len(told) == 5


def test_more_is_queued_than_there_are_processors_but_not_everything(on_fake: Any) -> None:
    most: list[int] = []
    ray = FakeRay(cpus=2)
    wait = ray.wait
    ray.wait = lambda futures, num_returns: (most.append(len(futures)), wait(futures, num_returns))[1]  # type: ignore[method-assign]
    on_fake(detector(), ray, shards=13)
    assert max(most) == 2 + distributed.QUEUED


# --- what cannot be read --------------------------------------------------------------------------------------


def test_broken_images_are_reported_as_in_one_process(on_fake: Any) -> None:
    def picky(path: Path) -> NDArray[np.float32]:
        if int(path.stem) in {0, 1, 2, 3, 10, 11}:  # the first shard has no other images
            raise ImageError(f"cannot read {path}: it is broken")
        return load(path)

    found, report = on_fake(detector(), FakeRay(), load=picky)
    expected, local = alone(detector(), picky)
    assert report.skipped == local.skipped
    assert report.images == 20
    assert same(found.fitted_state(), expected.fitted_state())


def test_no_image_that_can_be_read_is_said(on_fake: Any) -> None:
    def broken(path: Path) -> NDArray[np.float32]:
        raise ImageError(f"cannot read {path}: it is broken")

    with pytest.raises(
        DataError, match=r"^none of the 26 images could be read\. cannot read 0\.png: it is broken; "
    ):
        on_fake(detector(), FakeRay(), load=broken)


def test_an_error_of_a_task_is_raised_as_itself(on_fake: Any) -> None:
    def uneven(path: Path) -> NDArray[np.float32]:
        image = load(path)
        return image[:, 1:] if path.stem == "9" else image

    with pytest.raises(DataError, match=r"^all images of a batch must have one size .* 9\.png gave"):
        on_fake(detector(), FakeRay(), load=uneven)


def test_a_shard_that_kills_its_workers_is_given_up(on_fake: Any) -> None:
    ray = FakeRay()
    ray.get = lambda future: (_ for _ in ()).throw(RuntimeError("The worker died."))  # type: ignore[method-assign]
    with pytest.raises(
        AndonError,
        match=r"^shards \d to \d of 5 were given up after 4 attempts on the cluster: The worker died\. ",
    ):
        on_fake(detector(), ray)


# --- interrupted and resumed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_resumed_pass_observes_only_what_is_missing(after: int, tmp_path: Path, on_fake: Any) -> None:
    stopped, path = FakeRay(1, stop_after=after), tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt):
        on_fake(detector(), stopped, checkpoint=Checkpoint(path))
    assert len(list(shelf_of(path).iterdir())) <= 4
    again = FakeRay(2)
    found, report = on_fake(detector(), again, checkpoint=Checkpoint(path, resume=True))
    assert len(again.log) + len(stopped.log) == 9  # five shards, four merges
    assert report.resumed_at > 0
    assert same(found.fitted_state(), on_fake(detector(), FakeRay())[0].fitted_state())
    assert [left.name for left in tmp_path.iterdir()] == ["x.partial"]


def test_without_resume_what_was_left_is_replaced(tmp_path: Path, on_fake: Any) -> None:
    path = tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt):
        on_fake(detector(), FakeRay(stop_after=3), checkpoint=Checkpoint(path))
    again = FakeRay()
    on_fake(detector(), again, checkpoint=Checkpoint(path))
    assert len(again.log) == 9


def test_what_another_fit_left_is_refused(tmp_path: Path, on_fake: Any) -> None:
    path = tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt):
        on_fake(detector(), FakeRay(stop_after=3), checkpoint=Checkpoint(path))
    with pytest.raises(
        SettingsError, match=r"\.shards belongs to a fit with other settings or other images\."
    ):
        on_fake(detector(bank_limit=40), FakeRay(), checkpoint=Checkpoint(path, resume=True))


def test_a_checkpoint_of_a_pass_in_one_piece_is_refused(tmp_path: Path, on_fake: Any) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt):
        fit(detector(), PATHS, Reader(load, 2, 0), checkpoint=Checkpoint(path), progress=stop)
    with pytest.raises(
        SettingsError, match=r"^the checkpoint holds the first 2 images, in one piece, and this fit"
    ):
        on_fake(detector(), FakeRay(), checkpoint=Checkpoint(path, resume=True))


# --- a real cluster -------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("ray")
def test_on_a_real_cluster_a_killed_worker_changes_nothing(tmp_path: Path, ray_cluster: Path) -> None:
    """``kill -9`` of the worker that reads image 5, once."""
    images, once = PARTS.numpy(), tmp_path / "killed"

    def deadly(path: Path) -> NDArray[np.float32]:
        if path.stem == "5" and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return images[int(path.stem)]

    found, expected = PatchCore(bank_limit=50), PatchCore(bank_limit=50)
    report = fit(found, PATHS, Reader(deadly, 2, 0), observe=RayObserver("local", 3))
    assert once.exists()
    assert report.images == len(PATHS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers
    try:
        fit(expected, PATHS, Reader(deadly, 2, 0))
    finally:
        torch.set_num_threads(before)
    assert same(found.fitted_state(), expected.fitted_state())
