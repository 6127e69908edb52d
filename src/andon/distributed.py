"""The pass over the good images shared out over a Ray cluster; the rest of a fit goes on where it was started.

The images are cut into shards, in order. A task observes a shard; two neighbouring results are merged by a further task, and
so on up a binary tree whose shape depends on the number of shards alone. Which worker does what, when, and how often a worker
dies and its task is done again changes nothing: the same shards give the same statistics to the bit, on processors of
one kind (each task computes in one thread).

::

    shards   0   1   2   3   4        task: observe
              \\ /     \\ /    |
              0-2     2-4    |        task: merge
                \\     /      |
                  0-4       /
                     \\     /
                       0-5            back where the fit was started: closed, or trained on

What is finished and not merged yet lies in the cluster's object store and, where the fit keeps checkpoints, in files beside
the checkpoint: a resumed fit does not observe these shards again. The fit itself holds one result at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from andon.errors import AndonError, MissingExtraError, SettingsError

if TYPE_CHECKING:
    from andon.engine import FitReport, Progress, Reader
    from andon.models.base import Detector, State
    from andon.training import Machine
    from andon.training.checkpoint import Keeper

KNOCK_SECONDS = 10
RETRIES = 3  # of a task whose worker or machine went away
SHARD_IMAGES, MOST_SHARDS = (
    32,
    64,
)  # of what is cut without a number of shards: images in each at least; shards at most
QUEUED = 2  # tasks beyond one a processor that wait their turn

Span: TypeAlias = tuple[int, int]  # shards from the first up to, not including, the last


class Part(NamedTuple):
    """What was observed of some shards."""

    arrays: dict[str, NDArray[Any]]  # the statistics
    images: int  # that they hold
    skipped: list[tuple[str, str]]  # (path, reason)


@dataclass(frozen=True)
class RayObserver:
    """Observes on the Ray cluster at ``address`` ("local": one of its own, on this machine), in ``shards`` shards.

    None cuts shards of 32 images or more, 64 of them at most. The images must be at the same path on every machine of the
    cluster, and Andon installed there. Workers compute on processors, one task on each. Hand it to
    :func:`andon.engine.fit` as ``observe``. Raises :class:`SettingsError` when there is no cluster at that address,
    MissingExtraError without Ray, :class:`AndonError` when a task's worker died more than ``RETRIES`` times.
    """

    address: str = "local"
    shards: int | None = None

    def __call__(self, detector: Detector, paths: Sequence[Path], reader: Reader, keeper: Keeper, say: Progress,
                 report: FitReport, machine: Machine) -> None:  # fmt: skip
        """Let ``detector`` have observed ``paths``; ``report`` is told what could not be read."""
        from andon.engine import require_readable
        from andon.training.checkpoint import Kept

        if detector.steps:
            report.notes.append(
                "Ray shared out the first pass over the images; training ran on this machine alone"
            )
        if report.resumed_at == len(paths):
            return
        if report.resumed_at:
            raise SettingsError(
                f"the checkpoint holds the first {report.resumed_at} images, in one piece, and this fit looks at shards of "
                "them: resume it without --ray, or start over without --resume"
            )
        shares = cut(len(paths), self.shards, reader.batch_size)
        shelf = Shelf.beside(keeper)
        with cluster(self.address) as ray:
            job = ray.put((detector.to("cpu"), replace(reader, workers=0)))
            detector.to(machine.device)
            tasks = _Tasks(ray, job, [paths[share] for share in shares], shelf, say)
            report.resumed_at = tasks.done
            whole = tasks.run()
        detector.load_statistics(_tensors(whole.arrays))
        report.skipped += whole.skipped
        require_readable(report, paths)
        keeper.save(Kept(detector.statistics(), len(paths), report.skipped, {}, None))
        shelf.clear()


def cut(count: int, shards: int | None, batch_size: int) -> list[slice]:
    """``count`` images as so many slices of whole batches, as even as can be; fewer where there are fewer batches.

    >>> cut(20, 3, 4)
    [slice(0, 4, None), slice(4, 12, None), slice(12, 20, None)]
    """
    batches = -(-count // batch_size)
    if shards is None:
        shards = min(MOST_SHARDS, -(-count // SHARD_IMAGES))
    shards = max(1, min(shards, batches))
    edges = [batches * number // shards * batch_size for number in range(shards)]
    return [slice(a, b) for a, b in zip(edges, [*edges[1:], count], strict=True)]


def tree(shards: int) -> dict[Span, tuple[Span, Span]]:
    """Which two neighbours each merged result is made of, the last one of all shards; {} for one shard.

    >>> tree(3)
    {(0, 2): ((0, 1), (1, 2)), (0, 3): ((0, 2), (2, 3))}
    """
    level: list[Span] = [(number, number + 1) for number in range(shards)]
    made: dict[Span, tuple[Span, Span]] = {}
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2], strict=False))
        made |= {(left[0], right[1]): (left, right) for left, right in pairs}
        level = [(left[0], right[1]) for left, right in pairs] + level[len(pairs) * 2 :]
    return made


# --- the tasks, in whatever process they run ---------------------------------------------------------------------------


def observed(job: tuple[Detector, Reader], paths: Sequence[Path]) -> Part:
    """What the detector of ``job``, which has seen nothing yet, observes of ``paths``."""
    _one_thread()
    detector, reader = job
    skipped: list[tuple[str, str]] = []
    for batch in reader.batches(paths):
        if batch.images is not None:
            detector.observe(batch.images)
        skipped += batch.skipped
    return Part(_arrays(detector.statistics()), len(paths) - len(skipped), skipped)


def merged(job: tuple[Detector, Reader], left: Part, right: Part) -> Part:
    """Both as one, within the detector's own bound on what it keeps."""
    _one_thread()
    detector, _ = job
    skipped = [*left.skipped, *right.skipped]
    seen = [part for part in (left, right) if part.images]
    if len(seen) < 2:
        return Part((seen or [left])[0].arrays, left.images + right.images, skipped)
    state = type(detector).merge([_tensors(part.arrays) for part in seen], [part.images for part in seen])
    detector.load_statistics(state)
    return Part(_arrays(detector.statistics()), left.images + right.images, skipped)


def _one_thread() -> None:
    """Sums depend on how many threads share them, and a task is given one processor."""
    import torch

    torch.set_num_threads(1)


def _arrays(state: State) -> dict[str, NDArray[Any]]:
    """NumPy arrays, which Ray hands on without copying them."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _tensors(arrays: dict[str, NDArray[Any]]) -> State:
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}  # Ray's are read-only


# --- the order of the tasks --------------------------------------------------------------------------------------------


class _Tasks:
    """The tasks of one pass: ``shares`` of the images, observed in order and merged as soon as both neighbours are there."""

    def __init__(
        self, ray: Any, job: Any, shares: Sequence[Sequence[Path]], shelf: Shelf, say: Progress
    ) -> None:
        self.ray, self.job, self.shares, self.shelf, self.say = ray, job, shares, shelf, say
        self.total = sum(map(len, shares))
        self.merges = tree(len(shares))
        self.ready: dict[Span, Any] = {span: ray.put(part) for span, part in shelf.found().items()}
        covered = {number for span in self.ready for number in range(*span)}
        self.done = sum(len(shares[number]) for number in covered)  # images
        self.shards = iter([number for number in range(len(shares)) if number not in covered])
        self.running: dict[Any, Span] = {}
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)
        self.observe, self.merge = remote(observed), remote(merged)

    def run(self) -> Part:
        """The result of all shards."""
        whole = (0, len(self.shares))
        while whole not in self.ready:
            self._start()
            for future in self.ray.wait(list(self.running), num_returns=1)[0]:
                self._take(future)
        part: Part = self.ray.get(self.ready[whole])
        return part

    def _start(self) -> None:
        """Give the cluster as much to do as it can, merging first; it may have grown or shrunk."""
        for span, (left, right) in self.merges.items():
            if left in self.ready and right in self.ready:
                future = self.merge.remote(self.job, self.ready.pop(left), self.ready.pop(right))
                self.running[future] = span
        room = int(self.ray.cluster_resources().get("CPU", 1)) + QUEUED - len(self.running)
        for _, number in zip(range(max(0 if self.running else 1, room)), self.shards, strict=False):
            future = self.observe.remote(self.job, self.shares[number])
            self.running[future] = (number, number + 1)

    def _take(self, future: Any) -> None:
        span = self.running.pop(future)
        part = self._result(future, span)
        self.shelf.keep(span, part)
        self.ready[span] = future
        if span[1] - span[0] == 1:
            self.done += len(self.shares[span[0]])
            self.say("observe", self.done, self.total)

    def _result(self, future: Any, span: Span) -> Part:
        try:
            part: Part = self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AndonError):
                raise error.cause from error
            raise
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise AndonError(
                f"shards {span[0] + 1} to {span[1]} of {len(self.shares)} were given up after {RETRIES + 1} attempts on the "
                f"cluster: {reason} Out of memory? Give each task less: more --shards, or fewer processors on a machine."
            ) from error
        return part


# --- what is kept of an unfinished pass --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """Finished parts as files in ``folder``, for the fit with the fingerprint ``key``; nothing without a folder."""

    folder: Path | None = None
    key: str = ""
    resume: bool = field(default=False, kw_only=True)

    @classmethod
    def beside(cls, keeper: Keeper) -> Shelf:
        """That of the fit whose checkpoint ``keeper`` writes."""
        checkpoint = keeper.checkpoint
        if checkpoint is None:
            return cls()
        return cls(shelf_of(checkpoint.path), keeper.key, resume=checkpoint.resume)

    def found(self) -> dict[Span, Part]:
        """What to go on from. Raises :class:`DataError` for a damaged file, :class:`SettingsError` for another fit's."""
        from andon.training.checkpoint import read_checkpoint

        if not self.resume:
            self.clear()
        if self.folder is None or not self.folder.is_dir():
            return {}
        parts: dict[Span, Part] = {}
        for path in sorted(
            self.folder.glob("*-*.shards"), key=lambda path: (_span(path)[0], -_span(path)[1])
        ):
            state, header = read_checkpoint(path)
            if header["fingerprint"] != self.key:
                raise SettingsError(
                    f"{path} belongs to a fit with other settings or other images. "
                    "Give the same ones to resume, or start over without --resume."
                )
            first, last = _span(path)
            if not any(
                a <= first and last <= b for a, b in parts
            ):  # else merged already, and not removed any more
                skipped = [(name, reason) for name, reason in header["skipped"]]
                parts[first, last] = Part(_arrays(state), int(header["images"]), skipped)
        return parts

    def keep(self, span: Span, part: Part) -> None:
        """Write ``part``, and remove what it was merged from."""
        from andon.training.checkpoint import write_checkpoint

        if self.folder is None:
            return
        header = {"fingerprint": self.key, "images": part.images, "skipped": part.skipped}
        kept = self.folder / f"{span[0]:05}-{span[1]:05}.shards"
        write_checkpoint(kept, _tensors(part.arrays), header)
        for path in self.folder.glob("*-*.shards"):
            first, last = _span(path)
            if path != kept and span[0] <= first and last <= span[1]:
                path.unlink()

    def clear(self) -> None:
        """Remove the folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def shelf_of(checkpoint: Path) -> Path:
    """The folder of finished parts that belongs to ``checkpoint``."""
    return Path(f"{checkpoint}.shards")


def _span(path: Path) -> Span:
    first, last = path.stem.split("-")
    return int(first), int(last)


# --- the cluster -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(address: str, cpus: int | None = None) -> Iterator[Any]:
    """The module ``ray``, connected to the cluster at ``address``; "local" starts one with so many ``cpus`` (None: all here).

    A connection that this process has already is used, and left open. Raises :class:`SettingsError` when there is
    no cluster at that address, MissingExtraError without Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", extra="ray", purpose="running on a Ray cluster") from error
    own: dict[str, Any] = {"num_cpus": cpus} if address == "local" else {}
    open_before = ray.is_initialized()
    try:
        _knock(address)
        if not open_before:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, **own)
    except Exception as error:  # (Ray raises bare ones, too)
        if address == "local":
            raise AndonError(
                f"Ray did not start on this machine: {error} Try again when it is less busy."
            ) from error
        raise SettingsError(
            f"there is no Ray cluster at {address!r} ({error}); start one with: ray start --head, or give --ray local"
        ) from error
    try:
        yield ray
    finally:
        if not open_before:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at ``address``, if it is host:port; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "//" not in address:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
