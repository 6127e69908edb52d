"""Fits that the page *Teach* starts: what was asked for, a process of its own for each, and how far it is.

A fit lives in ``FOLDER/.teach/NAME/``: ``order.json`` what was asked for, ``progress.json`` how far it is, ``log.txt`` what its
process said, ``photos/`` what was uploaded, ``result.andon`` the detector until somebody saves it beside the others. Its
process (:mod:`andon.app.teach_worker`) belongs to no browser: a page that is loaded anew, or an app that is started anew,
finds it by the lock that it holds. One fit runs at a time in a folder. No Streamlit, no torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import andon
from andon.calibrate import check_share
from andon.data import list_images
from andon.errors import AndonError, BusyError, DataError, MissingExtraError, SettingsError
from andon.files import atomic_write, check_folder, single_writer
from andon.pipeline import unfinished

TEACH = ".teach"  # folder of fits, in the folder of artefacts
EXTRA = ("torch", "onnx", "onnxscript", "safetensors")  # what the extra `fit` brings
LEAST_PHOTOS = 2  # one to fit on, one for the threshold
BEGIN_SECONDS = 120.0  # that the process may take until it holds its lock
_NAME = re.compile(r"\w[\w .-]{0,62}\w|\w")

State = Literal["ordered", "running", "stopping", "stopped", "done", "failed", "ended"]


@dataclass(frozen=True)
class Method:
    """A method that the page offers; ``trains``: a budget of minutes means something to it."""

    name: str
    trains: bool


METHODS = (
    Method("patchcore", False),
    Method("padim", False),
    Method("subspacead", False),
    Method("fre", False),
    Method("efficientad", True),
    Method("supersimplenet", True),
    Method("reverse_distillation", True),
    Method("autoencoder", True),
    Method("auto", True),
)


@dataclass(frozen=True)
class Order:
    """What is to be taught. Raises :class:`SettingsError` for a name that is no file's, a method or number that will not do.

    ``source``: folder of good photographs. ``minutes``: of training; None: as long as the method takes. ``rows``, ``columns``:
    of the network's input; None: near 256x256, in the photographs' own shape.
    """

    name: str
    source: str
    method: str = "patchcore"
    minutes: float | None = None
    target_rate: float = 0.01
    rows: int | None = None
    columns: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                "expected a name of 1 to 64 letters, digits, spaces and . _ -, which begins and ends with a letter or a "
                f"digit; got {self.name!r}"
            )
        if self.method not in {method.name for method in METHODS}:
            raise SettingsError(f"the page offers {', '.join(m.name for m in METHODS)}; got {self.method!r}")
        if self.minutes is not None and not self.minutes > 0:
            raise SettingsError(f"expected minutes above 0, or none for no limit; got {self.minutes}")
        if (self.rows is None) != (self.columns is None):
            raise SettingsError("expected rows and columns of the network's input, or neither")
        check_share("target_rate", self.target_rate)


@dataclass(frozen=True)
class Progress:
    """How far a fit is. ``phase`` is one of :data:`andon.cli.common.PHASES`' names, ``loss`` the latest of training.

    ``seconds`` since the process began; ``message`` what went wrong.
    """

    state: State
    phase: str = ""
    done: int = 0
    total: int = 0
    loss: float | None = None
    seconds: float = 0.0
    message: str = ""

    @property
    def share(self) -> float:
        """Of the phase, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Fit:
    """The place of one fit."""

    folder: Path

    @property
    def name(self) -> str:
        """What the artefact is to be called."""
        return self.folder.name

    @property
    def result(self) -> Path:
        """The detector, before it is saved beside the others."""
        return self.folder / "result.andon"

    @property
    def photos(self) -> Path:
        """Where uploaded photographs are kept."""
        return self.folder / "photos"

    @property
    def lock(self) -> Path:
        """What the one process holds that may fit in this folder of artefacts."""
        return self.folder.parent / "fit"

    @property
    def stop_file(self) -> Path:
        """There when the process is asked to stop."""
        return self.folder / "stop"

    def order(self) -> Order:
        """What was asked for. Raises :class:`DataError` where it cannot be read."""
        try:
            return Order(**json.loads((self.folder / "order.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"the order in {self.folder} cannot be read ({error}): start anew") from error

    def tell(self, progress: Progress) -> None:
        """Write down how far the fit is."""
        with atomic_write(self.folder / "progress.json", "w") as file:
            json.dump(asdict(progress), file)

    def told(self) -> Progress:
        """How far the fit is by what its process told last."""
        try:
            return Progress(**json.loads((self.folder / "progress.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Progress("ordered")

    def progress(self) -> Progress:
        """How far the fit is: as its process told last, or "ended" where that is gone without having said so."""
        held = is_held(self.lock)  # before what it told: it lets go after its last word
        told = self.told()
        if told.state != "running":
            return told
        if not held:
            return replace(told, state="ended", message=self.last_words())
        return replace(told, state="stopping") if self.stop_file.exists() else told

    def last_words(self, most: int = 2000) -> str:
        """The end of what the process said."""
        with suppress(OSError):
            with open(self.folder / "log.txt", "rb") as file:
                file.seek(max(0, os.path.getsize(file.name) - most))
                return file.read().decode("utf-8", "replace").strip()
        return ""

    @property
    def can_go_on(self) -> bool:
        """Whether something is kept of a fit that was stopped."""
        return unfinished(self.result) is not None


def fit_of(artifacts: Path, name: str) -> Fit:
    """The place of the fit ``name`` in a folder of artefacts. Raises :class:`SettingsError` for a name that is no file's."""
    Order(name, "")
    return Fit(artifacts / TEACH / name)


def fits(artifacts: Path) -> list[Fit]:
    """The fits that were begun in a folder of artefacts and neither saved nor discarded, the latest first."""
    orders = (artifacts / TEACH).glob("*/order.json")
    return [Fit(order.parent) for order in sorted(orders, key=_made, reverse=True)]


def _made(path: Path) -> float:
    with suppress(OSError):  # discarded in this moment
        return path.stat().st_mtime
    return 0.0


def missing_packages() -> list[str]:
    """The packages of the extra ``fit`` that are not installed; nothing is imported."""
    return [name for name in EXTRA if importlib.util.find_spec(name) is None]


def require_extra() -> None:
    """Raise :class:`MissingExtraError` where this computer cannot fit."""
    for name in missing_packages()[:1]:
        raise MissingExtraError(name, extra="fit", purpose="teaching a detector")


def costs() -> dict[str, dict[str, float]]:
    """Of each method that was measured, ``artifact_mb`` and ``p50_ms``: :func:`andon.models.measured` without its torch."""
    text = (Path(andon.__file__).parent / "models" / "measured.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, float]] = json.loads(text)
    return found


def check_source(source: str) -> int:
    """How many photographs the folder ``source`` holds. Raises :class:`DataError` where it is none, or holds too few."""
    if not source.strip():
        raise DataError("no folder was named: give the path of a folder of good photographs on this computer")
    found = len(list_images(Path(source).expanduser()))
    if found < LEAST_PHOTOS:
        raise DataError(
            f"{source} holds {found} photograph; at least {LEAST_PHOTOS} good ones are needed, better 50"
        )
    return found


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock."""
    if not lock.parent.exists():
        return False
    try:
        with single_writer(lock):
            return False
    except BusyError:
        return True


def start(artifacts: Path, order: Order) -> Fit:
    """A fit that runs in a process of its own; what an earlier one of the same name left is replaced.

    Raises :class:`BusyError` where one runs in this folder, :class:`DataError` for the photographs,
    :class:`MissingExtraError` without the extra ``fit``, :class:`AndonError` where the process does not begin.
    """
    require_extra()
    check_source(order.source)
    fit = fit_of(artifacts, order.name)
    with _beginning(fit):
        for path in (fit.result, fit.folder / "progress.json", *fit.folder.glob("result.andon.*")):
            _remove(path)
        with atomic_write(fit.folder / "order.json", "w") as file:
            json.dump(asdict(order), file)
        _launch(fit)
    return fit


def go_on(fit: Fit) -> None:
    """Let a fit that was stopped, or whose process was lost, go on from what it kept. Raises as :func:`start`."""
    require_extra()
    check_source(fit.order().source)
    with _beginning(fit):
        _launch(fit)


def stop(fit: Fit) -> None:
    """Ask the process to stop; it keeps what it has."""
    with atomic_write(fit.stop_file):
        pass


def discard(fit: Fit) -> None:
    """Remove a fit that does not run, its uploaded photographs included. Raises :class:`BusyError` where it runs."""
    with _beginning(fit):
        shutil.rmtree(fit.folder, ignore_errors=True)


@contextmanager
def _beginning(fit: Fit) -> Iterator[None]:
    """For the block, nobody else begins a fit in this folder. Raises :class:`BusyError` where one runs."""
    check_folder(fit.folder)
    with single_writer(fit.folder.parent / "begin"):
        if is_held(fit.lock):
            raise BusyError(
                f"a detector is being taught in {fit.folder.parent.parent} now: wait for it, or stop it first"
            )
        fit.folder.mkdir(parents=True, exist_ok=True)
        fit.stop_file.unlink(missing_ok=True)
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _launch(fit: Fit) -> None:
    """Start the process, and wait until it holds its lock.

    Raises :class:`AndonError` with its last words where it does not.
    """
    fit.tell(Progress("ordered"))
    with open(fit.folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "andon.app.teach_worker", os.fspath(fit.folder.resolve())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # so that no zombie is left of it
    deadline = time.monotonic() + BEGIN_SECONDS
    while not is_held(fit.lock):
        if process.poll() is not None and fit.told().state != "ordered":
            return  # it has ended already, and said how
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AndonError(f"the process that should teach did not begin. {fit.last_words()}")
        time.sleep(0.1)
