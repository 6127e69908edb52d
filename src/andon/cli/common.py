"""What several commands share: progress bars, sizes, lists of images, verdict lines."""

from __future__ import annotations

import glob
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from andon.errors import DataError, SettingsError
from andon.files import check_writable
from andon.runtime.words import DEFAULT, Words, decimal, language_of, words_of
from andon.types import Calibration, Verdict

PHASES = {
    "draw": "drawing",
    "try methods": "trying methods",
    "observe": "looking at good images",
    "train": "training",
    "crops": "asking the teachers",
    "close": "building the detector",
    "export": "exporting",
    "calibrate": "calibrating",
    "inspect": "inspecting",
    "annotate": "annotating",
    "evaluate": "evaluating",
    "check": "checking",
    "survey": "looking at images",
    "audit": "comparing images",
}
COLOURS = {"pass": "green", "review": "yellow", "fail": "red"}


class Bars:
    """Progress bars, one a phase, with images a second, the time left and, in training, the loss; silent where nobody
    watches."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.phase = ""
        self.bar: Any = None
        self._loss: float | None = None  # told since the last call

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._close()

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if phase != self.phase:
            self._close()
            from tqdm import tqdm

            unit = " img" if total > 1 and self._loss is None else " step"
            self.bar = tqdm(total=total, desc=PHASES.get(phase, phase), unit=unit, disable=None, leave=True)
            self.phase = phase
        self.bar.total = total  # what a budget of minutes leaves may change
        if self._loss is not None:
            self.bar.set_postfix_str(f"loss {self._loss:.4g}", refresh=False)
            self._loss = None
        self.bar.update(done - self.bar.n)

    def paused(self) -> AbstractContextManager[object]:
        """What lines are printed in, so that they do not tear the bar."""
        return nullcontext() if self.bar is None else self.bar.external_write_mode()

    def loss(self, value: float) -> None:
        """Show ``value`` with the next step."""
        self._loss = value

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar, self.phase = None, ""


class Size(click.ParamType):
    """``256x256`` or ``256``: rows x columns."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = [int(part) for part in str(value).lower().split("x")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            self.fail(f"{value!r} is not a size; expected rows x columns, for example 256x256", param, ctx)
        return numbers[0], numbers[-1]


def images_of(arguments: Iterable[str]) -> list[Path]:
    """The images that files, folders, globs and ``-`` (a list on standard input) name, folders in sorted order.

    Raises :class:`DataError` when an argument names nothing.
    """
    found: list[Path] = []
    for argument in arguments:
        if argument == "-":
            found += [Path(line) for line in _listed()]
        elif Path(argument).is_dir():
            from andon.data import list_images

            found += list_images(Path(argument))
        elif Path(argument).exists() or not glob.has_magic(argument):
            found.append(Path(argument))
        else:
            matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))
            if not matches:
                raise DataError(f"no file matches {argument}")
            found += [match for match in matches if match.is_file()]
    if not found:
        raise DataError(
            "no image to inspect: give files, folders, globs, or - to read a list from standard input"
        )
    return found


def check_outputs(*paths: Path | None, detector: bool = False) -> None:
    """Raise before the work where an output cannot be written, or would replace a photograph or a detector.

    That is what an unquoted ``*.png`` after ``--csv`` does. ``detector``: the output is a detector itself.
    """
    from andon.image import IMAGE_SUFFIXES

    for path in paths:
        suffix = path.suffix.lower() if path is not None else ""
        if suffix in IMAGE_SUFFIXES or (suffix == ".andon" and not detector):
            raise SettingsError(
                f"{path} is to be written, but is named like a {'detector' if suffix == '.andon' else 'photograph'}. "
                "Give the name of a new file; has your shell put file names in the place of a *?"
            )
    check_writable(*paths)


def _listed() -> list[str]:
    """The paths on standard input, one a line, whatever bytes they are made of and however lines end."""
    if sys.stdin is None:
        raise DataError("there is no standard input to read the list of images from")
    lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    return [os.fsdecode(line) for line in lines if line.strip()]


def assigned(assignments: tuple[str, ...]) -> dict[str, Any]:
    """``--set`` values as TOML values; a bare word is a string. ``member.setting`` names one of a fusion's members."""
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")):
            raise SettingsError(
                f"--set takes NAME=VALUE, for example coreset_fraction=0.05; found {assignment!r}"
            )
        try:
            settings[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name] = value
    return settings


def shown(path: str) -> str:
    """A file's name as a terminal can show it in one line: what is not printable as an escape.

    >>> shown("a\\nb.png")
    'a\\\\nb.png'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in path)


def verdict_line(verdict: Verdict, words: Words | None = None) -> str:
    """One line for people: decision, score, file, sentence; the decision in English unless there are other ``words``."""
    words = words or words_of(DEFAULT)
    width = max(len(words[f"decision.{name}"]) for name in COLOURS)
    name = words[f"decision.{verdict.decision}"]
    decision = click.style(f"{name:<{width}}", fg=COLOURS[verdict.decision], bold=True)
    score = decimal(words, f"{verdict.score:5.3f}")
    return f"{decision} {score}  {shown(verdict.path)}  {verdict.sentence}"


def zone_lines(manifest: Mapping[str, Any]) -> list[str]:
    """A line on each zone of an artefact: its name, and what is done about it."""
    from andon.nuisance import ZonePlan

    plan = ZonePlan.from_manifest(manifest)
    return (
        [] if plan is None else [f"zone {entry.zone.name!r}: {entry.described()}" for entry in plan.treated]
    )


def group_lines(calibration: Calibration) -> list[str]:
    """Whether the groups differ, the threshold of each or why it has none, and what becomes of images of all others."""
    from andon.calibrate import group_differences

    groups = calibration.groups
    differences = group_differences({name: own.nominal_scores for name, own in groups.items()})
    lines = [f"Groups by {calibration.group_by}:", f"  {differences.statement}"]
    for name, own in groups.items():
        threshold = "" if own.method == "none" else f"threshold {own.threshold:.6g}; "
        lines.append(f"  {name}: {threshold}{own.statement}")
    otherwise = "decided by the threshold of all groups" if calibration.fall_back else "for review"
    return [*lines, f"  images of all other groups are {otherwise}"]


def language_here() -> str:
    """The language of this computer, by its POSIX locale, where Andon speaks it; else English."""
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return language_of(next(filter(None, names), "")) or DEFAULT


def duration(seconds: float) -> str:
    """``8.1 s`` or ``2 min 5 s``."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
